-- The outbox is delivered: what an alert is made of stands beside its text, and what a channel took is recorded.

ALTER TABLE alerts ADD COLUMN data TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(data));

-- An alert is written once and delivered once; nothing else of it changes.
CREATE TRIGGER alerts_once BEFORE INSERT ON alerts
WHEN NEW.delivered_at IS NOT NULL OR EXISTS (SELECT 1 FROM alerts WHERE seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'illegal: an alert is written once, and not yet delivered'); END;
CREATE TRIGGER alerts_delivered_once BEFORE UPDATE ON alerts
WHEN OLD.delivered_at IS NOT NULL OR NEW.delivered_at IS NULL OR NEW.seq <> OLD.seq OR NEW.at <> OLD.at
  OR NEW.level <> OLD.level OR NEW.event <> OLD.event OR NEW.actor <> OLD.actor
  OR NEW.intent_id IS NOT OLD.intent_id OR NEW.text <> OLD.text OR NEW.data <> OLD.data
BEGIN SELECT RAISE(ABORT, 'illegal: an alert is delivered once, and nothing else of it changes'); END;
CREATE TRIGGER alerts_keep BEFORE DELETE ON alerts
BEGIN SELECT RAISE(ABORT, 'illegal: alerts are never deleted'); END;

-- Up to where the outbox was taken, by which channel, and how many of these alerts were told. Append-only.
CREATE TABLE alert_deliveries (
    through_seq INTEGER PRIMARY KEY CHECK (through_seq >= 0),
    at          TEXT NOT NULL,
    channel     TEXT NOT NULL,
    told        INTEGER NOT NULL CHECK (told >= 0),
    actor       TEXT NOT NULL
) STRICT;

CREATE TRIGGER alert_deliveries_grow BEFORE INSERT ON alert_deliveries
WHEN NEW.through_seq <= (SELECT max(through_seq) FROM alert_deliveries)
  OR NEW.through_seq > (SELECT coalesce(max(seq), 0) FROM alerts)
BEGIN SELECT RAISE(ABORT, 'illegal: deliveries grow, up to the newest alert'); END;
CREATE TRIGGER alert_deliveries_stand BEFORE UPDATE ON alert_deliveries
BEGIN SELECT RAISE(ABORT, 'illegal: deliveries are append-only'); END;
CREATE TRIGGER alert_deliveries_keep BEFORE DELETE ON alert_deliveries
BEGIN SELECT RAISE(ABORT, 'illegal: deliveries are append-only'); END;

-- What was written before anybody delivered is not told all at once now.
INSERT INTO alert_deliveries (through_seq, at, channel, told, actor)
SELECT max(seq), max(at), 'none', 0, 'store.1' FROM alerts HAVING max(seq) IS NOT NULL;
