-- The operator's orders to close one position. Carried out by the monitor; done once the intent is closed.
CREATE TABLE closings (
    intent_id TEXT PRIMARY KEY REFERENCES intents (id),
    operator  TEXT NOT NULL CHECK (operator <> ''),
    reason    TEXT NOT NULL CHECK (reason <> ''),
    asked_at  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER closings_of_open_positions BEFORE INSERT ON closings
WHEN EXISTS (SELECT 1 FROM closings WHERE intent_id = NEW.intent_id)
  OR NOT EXISTS (SELECT 1 FROM intents WHERE id = NEW.intent_id AND status = 'opened')
BEGIN SELECT RAISE(ABORT, 'illegal: one order to close an intent, while its position is open'); END;
CREATE TRIGGER closings_stand BEFORE UPDATE ON closings
BEGIN SELECT RAISE(ABORT, 'illegal: closings are append-only'); END;
CREATE TRIGGER closings_keep BEFORE DELETE ON closings
BEGIN SELECT RAISE(ABORT, 'illegal: closings are append-only'); END;
