-- What has ended long ago moves to databases beside this one. The journal's chain goes on from the anchor that is left.

-- Up to where the journal and the alerts were moved, by file. Only what stands here as moved may be deleted.
CREATE TABLE archive_anchors (
    file               TEXT PRIMARY KEY,
    at                 TEXT NOT NULL,
    through_seq        INTEGER NOT NULL CHECK (through_seq >= 0),
    through_hash       TEXT NOT NULL,
    arrows             INTEGER NOT NULL CHECK (arrows >= 0),
    intents            INTEGER NOT NULL CHECK (intents >= 0),
    alerts             INTEGER NOT NULL CHECK (alerts >= 0),
    alerts_through_seq INTEGER NOT NULL CHECK (alerts_through_seq >= 0),
    digest             TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER archive_anchors_hold BEFORE INSERT ON archive_anchors
WHEN EXISTS (SELECT 1 FROM archive_anchors WHERE file = NEW.file OR through_seq > NEW.through_seq)
  OR NEW.through_seq > 0 AND NOT EXISTS (SELECT 1 FROM archive_anchors WHERE through_seq = NEW.through_seq)
    AND (NOT EXISTS (SELECT 1 FROM transitions WHERE seq = NEW.through_seq AND hash = NEW.through_hash)
      OR NEW.through_seq >= (SELECT max(seq) FROM transitions))
BEGIN SELECT RAISE(ABORT, 'illegal: an anchor is an arrow of the journal, and not its last one'); END;
CREATE TRIGGER archive_anchors_grow BEFORE UPDATE ON archive_anchors
WHEN NEW.file <> OLD.file OR NEW.through_seq < OLD.through_seq OR NEW.alerts_through_seq < OLD.alerts_through_seq
  OR EXISTS (SELECT 1 FROM archive_anchors WHERE file <> NEW.file AND through_seq > NEW.through_seq)
  OR NEW.through_seq > OLD.through_seq
    AND (NOT EXISTS (SELECT 1 FROM transitions WHERE seq = NEW.through_seq AND hash = NEW.through_hash)
      OR NEW.through_seq >= (SELECT max(seq) FROM transitions))
  OR NEW.through_seq = OLD.through_seq AND NEW.through_hash <> OLD.through_hash
BEGIN SELECT RAISE(ABORT, 'illegal: an anchor moves forward only, and never to the last arrow'); END;
CREATE TRIGGER archive_anchors_keep BEFORE DELETE ON archive_anchors
BEGIN SELECT RAISE(ABORT, 'illegal: anchors are never deleted'); END;

DROP TRIGGER transitions_append_only_delete;
CREATE TRIGGER transitions_append_only_delete BEFORE DELETE ON transitions
WHEN OLD.seq > coalesce((SELECT max(through_seq) FROM archive_anchors), 0)
BEGIN SELECT RAISE(ABORT, 'illegal: the journal is append-only'); END;

-- What belongs to an intent follows the last of its arrows.
DROP TRIGGER orders_keep;
CREATE TRIGGER orders_keep BEFORE DELETE ON orders
WHEN OLD.status NOT IN ('opened', 'failed') OR EXISTS (SELECT 1 FROM transitions WHERE intent_id = OLD.intent_id)
BEGIN SELECT RAISE(ABORT, 'illegal: orders are never deleted'); END;
DROP TRIGGER closings_keep;
CREATE TRIGGER closings_keep BEFORE DELETE ON closings
WHEN EXISTS (SELECT 1 FROM transitions WHERE intent_id = OLD.intent_id)
BEGIN SELECT RAISE(ABORT, 'illegal: closings are append-only'); END;
DROP TRIGGER alerts_keep;
CREATE TRIGGER alerts_keep BEFORE DELETE ON alerts
WHEN OLD.seq > coalesce((SELECT max(alerts_through_seq) FROM archive_anchors), 0)
  OR OLD.seq > coalesce((SELECT max(through_seq) FROM alert_deliveries), 0)
BEGIN SELECT RAISE(ABORT, 'illegal: alerts are never deleted'); END;
