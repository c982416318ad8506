-- Positions that nobody owned get an intent and an order of their own when they are adopted: born opened, with what the
-- position shows instead of an analyst's pips, which nobody gave.

DROP TRIGGER orders_begin_reserved;
CREATE TRIGGER orders_begin_reserved BEFORE INSERT ON orders
WHEN EXISTS (SELECT 1 FROM orders WHERE intent_id = NEW.intent_id OR position_id = NEW.position_id OR rowid = NEW.rowid)
  OR NOT (NEW.status = 'reserved' AND EXISTS (SELECT 1 FROM intents WHERE id = NEW.intent_id AND status = 'executing')
    OR NEW.status = 'opened' AND NEW.order_id IS NULL AND EXISTS (SELECT 1 FROM intents WHERE id = NEW.intent_id
      AND status = 'opened' AND position_id = NEW.position_id AND idempotency_key = 'adopted:' || NEW.position_id))
BEGIN SELECT RAISE(ABORT, 'illegal: one order per intent, reserved while it is executing, or of an adopted position'); END;

-- SQLite changes no CHECK but in the text of its schema. This one only allows more, so no row can break it.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, 'suggested_tp_pips IS NOT NULL)),',
    'suggested_tp_pips IS NOT NULL)' || char(10) || '           OR idempotency_key IS ''adopted:'' || position_id),')
WHERE type = 'table' AND name = 'intents';
PRAGMA writable_schema = RESET;
