-- Orders that may be repeated: the key they carry at the broker, and when the figures were read that they were passed
-- with. Written with the reservation, before anything is sent. NULL: sent without a key, and never repeated.

ALTER TABLE orders ADD COLUMN idempotency_key TEXT;
ALTER TABLE orders ADD COLUMN figures_mark TEXT;
CREATE UNIQUE INDEX idx_orders_key ON orders (idempotency_key);

DROP TRIGGER orders_begin_reserved;
CREATE TRIGGER orders_begin_reserved BEFORE INSERT ON orders
WHEN EXISTS (SELECT 1 FROM orders WHERE intent_id = NEW.intent_id OR position_id = NEW.position_id OR rowid = NEW.rowid
    OR idempotency_key = NEW.idempotency_key)
  OR NOT (NEW.status = 'reserved' AND EXISTS (SELECT 1 FROM intents WHERE id = NEW.intent_id AND status = 'executing')
    OR NEW.status = 'opened' AND NEW.order_id IS NULL AND NEW.idempotency_key IS NULL
      AND EXISTS (SELECT 1 FROM intents WHERE id = NEW.intent_id
      AND status = 'opened' AND position_id = NEW.position_id AND idempotency_key = 'adopted:' || NEW.position_id))
BEGIN SELECT RAISE(ABORT, 'illegal: one order per intent, reserved while it is executing, or of an adopted position'); END;

DROP TRIGGER orders_plan_stands;
CREATE TRIGGER orders_plan_stands BEFORE UPDATE ON orders
WHEN NEW.plan <> OLD.plan OR NEW.baseline <> OLD.baseline OR NEW.reserved_at <> OLD.reserved_at
  OR NEW.deadline_at <> OLD.deadline_at OR NEW.intent_id <> OLD.intent_id OR NEW.rowid <> OLD.rowid
  OR NEW.idempotency_key IS NOT OLD.idempotency_key OR NEW.figures_mark IS NOT OLD.figures_mark
BEGIN SELECT RAISE(ABORT, 'illegal: what was reserved never changes'); END;
