-- What every arrow costs: SQLite builds a table in memory at each check against more than two values, so they are spelt
-- out; and the journal's hashes need no index of their own, for its rows grow at the end and each names the one before.

PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(replace(replace(replace(sql,
    'scanner_confidence IN (''high'', ''medium'', ''low'')',
    'scanner_confidence = ''high'' OR scanner_confidence = ''medium'' OR scanner_confidence = ''low'''),
    'suggested_side IN (''BUY'', ''SELL'', ''HOLD'')',
    'suggested_side = ''BUY'' OR suggested_side = ''SELL'' OR suggested_side = ''HOLD'''),
    'status IN (''pending'', ''claimed'', ''ready_for_exec'',' || char(10) || '                          '
    || '''executing'', ''opened'', ''rejected'', ''failed'', ''cancelled'', ''timed_out'', ''closed'')',
    'status = ''pending'' OR status = ''claimed'' OR status = ''ready_for_exec''' || char(10)
    || '                          OR status = ''executing'' OR status = ''opened'' OR status = ''rejected'' OR status = '
    || '''failed''' || char(10) || '                          OR status = ''cancelled'' OR status = ''timed_out'' OR '
    || 'status = ''closed'''),
    'status NOT IN (''ready_for_exec'', ''executing'', ''opened'', ''closed'') OR (',
    'status <> ''ready_for_exec'' AND status <> ''executing'' AND status <> ''opened'' AND status <> ''closed'' OR (')
WHERE type = 'table' AND name = 'intents';
UPDATE sqlite_schema SET sql = replace(sql, 'status IN (''reserved'', ''unknown'', ''opened'', ''failed'')',
    'status = ''reserved'' OR status = ''unknown'' OR status = ''opened'' OR status = ''failed''')
WHERE type = 'table' AND name = 'orders';
UPDATE sqlite_schema SET sql = replace(sql, 'outcome IN (''applied'', ''already'', ''stale'', ''refused'')',
    'outcome = ''applied'' OR outcome = ''already'' OR outcome = ''stale'' OR outcome = ''refused''')
WHERE type = 'table' AND name = 'commands';
UPDATE sqlite_schema SET sql = replace(sql, 'level IN (''info'', ''warning'', ''error'')',
    'level = ''info'' OR level = ''warning'' OR level = ''error''')
WHERE type = 'table' AND name = 'alerts';
PRAGMA writable_schema = RESET;

-- Alerts that are counted by level: most are `info`, and they are what is left.
CREATE INDEX idx_alerts_grave ON alerts (level) WHERE level <> 'info';

CREATE TABLE transitions_anew (
    seq         INTEGER PRIMARY KEY,
    intent_id   TEXT NOT NULL,
    at          TEXT NOT NULL,
    event       TEXT NOT NULL,
    from_status TEXT,
    to_status   TEXT NOT NULL,
    actor       TEXT NOT NULL,
    incarnation TEXT NOT NULL,
    epoch       INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    payload     TEXT NOT NULL,
    prev_hash   TEXT NOT NULL,
    hash        TEXT NOT NULL
) STRICT;
INSERT INTO transitions_anew SELECT * FROM transitions ORDER BY seq;
PRAGMA legacy_alter_table = ON; -- else the name would be changed in the triggers of other tables, too
DROP TABLE transitions;
ALTER TABLE transitions_anew RENAME TO transitions;
PRAGMA legacy_alter_table = OFF;

CREATE INDEX idx_transitions_intent ON transitions (intent_id, seq);
CREATE INDEX idx_transitions_at ON transitions (at, event);
CREATE TRIGGER transitions_grow_at_the_end BEFORE INSERT ON transitions
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM transitions)
  OR NEW.prev_hash <> coalesce((SELECT hash FROM transitions WHERE seq = NEW.seq - 1), printf('%064d', 0))
BEGIN SELECT RAISE(ABORT, 'illegal: the journal grows at its end only'); END;
CREATE TRIGGER transitions_append_only_update BEFORE UPDATE ON transitions
BEGIN SELECT RAISE(ABORT, 'illegal: the journal is append-only'); END;
CREATE TRIGGER transitions_append_only_delete BEFORE DELETE ON transitions
WHEN OLD.seq > coalesce((SELECT max(through_seq) FROM archive_anchors), 0)
BEGIN SELECT RAISE(ABORT, 'illegal: the journal is append-only'); END;
