-- Compliance: two readings of the firm's day, marks that trail the account, halts that flatten, attestations, and a
-- version that tells whether the account's figures are still those that the guard has seen.

ALTER TABLE account_days RENAME TO account_days_1;
CREATE TABLE account_days (
    account_id            TEXT NOT NULL,
    day                   TEXT NOT NULL,
    reset                 TEXT NOT NULL,
    starts_at             TEXT NOT NULL,
    ends_at               TEXT NOT NULL,
    start_balance_cents   INTEGER NOT NULL CHECK (start_balance_cents > 0),
    reference_cents       INTEGER NOT NULL CHECK (reference_cents >= start_balance_cents),
    initial_balance_cents INTEGER NOT NULL CHECK (initial_balance_cents > 0),
    created_at            TEXT NOT NULL,
    note                  TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (account_id, day, reset),
    CHECK (ends_at > starts_at)
) STRICT, WITHOUT ROWID;
INSERT INTO account_days SELECT account_id, day, '00:00 Europe/Athens', starts_at, ends_at, start_balance_cents,
    start_balance_cents, initial_balance_cents, created_at, '' FROM account_days_1;
DROP TABLE account_days_1;

CREATE TRIGGER account_days_stand BEFORE UPDATE ON account_days
BEGIN SELECT RAISE(ABORT, 'illegal: the start of a day stands'); END;
CREATE TRIGGER account_days_once BEFORE INSERT ON account_days
WHEN EXISTS (SELECT 1 FROM account_days WHERE account_id = NEW.account_id AND day = NEW.day AND reset = NEW.reset)
BEGIN SELECT RAISE(ABORT, 'illegal: the start of a day stands'); END;
CREATE TRIGGER account_days_keep BEFORE DELETE ON account_days
BEGIN SELECT RAISE(ABORT, 'illegal: days are never deleted'); END;

-- The highest value of the account, by what a maximum loss limit may trail. Never falls.
CREATE TABLE account_marks (
    account_id  TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('day_end_balance', 'closed_balance', 'equity')),
    value_cents INTEGER NOT NULL CHECK (value_cents > 0),
    at          TEXT NOT NULL,
    known_until TEXT NOT NULL,
    PRIMARY KEY (account_id, kind)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER account_marks_once BEFORE INSERT ON account_marks
WHEN EXISTS (SELECT 1 FROM account_marks WHERE account_id = NEW.account_id AND kind = NEW.kind)
BEGIN SELECT RAISE(ABORT, 'illegal: a mark is raised, not replaced'); END;
CREATE TRIGGER account_marks_never_fall BEFORE UPDATE ON account_marks
WHEN NEW.value_cents < OLD.value_cents OR NEW.known_until < OLD.known_until
  OR NEW.account_id <> OLD.account_id OR NEW.kind <> OLD.kind
BEGIN SELECT RAISE(ABORT, 'illegal: a mark never falls'); END;
CREATE TRIGGER account_marks_keep BEFORE DELETE ON account_marks
BEGIN SELECT RAISE(ABORT, 'illegal: marks are never deleted'); END;

ALTER TABLE halts ADD COLUMN flatten INTEGER NOT NULL DEFAULT 0 CHECK (flatten IN (0, 1));

-- A halt stands until its time or until it is lifted with a reason, once; nothing else of it changes.
CREATE TRIGGER halts_once BEFORE INSERT ON halts
WHEN NEW.lifted_at IS NOT NULL OR EXISTS (SELECT 1 FROM halts WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'illegal: a halt is lifted, not replaced'); END;
CREATE TRIGGER halts_lifted_once BEFORE UPDATE ON halts
WHEN OLD.lifted_at IS NOT NULL OR NEW.lifted_at IS NULL OR coalesce(NEW.lifted_by, '') = ''
  OR coalesce(NEW.lift_reason, '') = '' OR NEW.id <> OLD.id OR NEW.kind <> OLD.kind OR NEW.reason <> OLD.reason
  OR NEW.until IS NOT OLD.until OR NEW.flatten <> OLD.flatten OR NEW.raised_by <> OLD.raised_by
  OR NEW.raised_at <> OLD.raised_at
BEGIN SELECT RAISE(ABORT, 'illegal: a halt is lifted once, by somebody and with a reason'); END;
CREATE TRIGGER halts_keep BEFORE DELETE ON halts
BEGIN SELECT RAISE(ABORT, 'illegal: halts are never deleted'); END;

CREATE TABLE attestations (
    id         INTEGER PRIMARY KEY,
    account_id TEXT NOT NULL,
    rules      TEXT NOT NULL,
    rules_hash TEXT NOT NULL,
    operator   TEXT NOT NULL,
    at         TEXT NOT NULL,
    text       TEXT NOT NULL
) STRICT;

CREATE INDEX idx_attestations ON attestations (account_id, rules_hash);
CREATE TRIGGER attestations_stand BEFORE UPDATE ON attestations
BEGIN SELECT RAISE(ABORT, 'illegal: attestations are append-only'); END;
CREATE TRIGGER attestations_keep BEFORE DELETE ON attestations
BEGIN SELECT RAISE(ABORT, 'illegal: attestations are append-only'); END;

-- Counts whatever the guard's figures rest on: a halt, a reservation, a fill, a close, the start of a day, a mark.
INSERT INTO meta VALUES ('account_version', '1');
CREATE TRIGGER account_version_halt_raised AFTER INSERT ON halts
BEGIN UPDATE meta SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) WHERE key = 'account_version'; END;
CREATE TRIGGER account_version_halt_changed AFTER UPDATE ON halts
BEGIN UPDATE meta SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) WHERE key = 'account_version'; END;
CREATE TRIGGER account_version_order_reserved AFTER INSERT ON orders
BEGIN UPDATE meta SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) WHERE key = 'account_version'; END;
CREATE TRIGGER account_version_order_changed AFTER UPDATE ON orders
BEGIN UPDATE meta SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) WHERE key = 'account_version'; END;
CREATE TRIGGER account_version_closed AFTER UPDATE OF net_profit_cents ON decisions
BEGIN UPDATE meta SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) WHERE key = 'account_version'; END;
CREATE TRIGGER account_version_day AFTER INSERT ON account_days
BEGIN UPDATE meta SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) WHERE key = 'account_version'; END;
CREATE TRIGGER account_version_mark AFTER INSERT ON account_marks
BEGIN UPDATE meta SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) WHERE key = 'account_version'; END;
CREATE TRIGGER account_version_mark_raised AFTER UPDATE OF value_cents ON account_marks
WHEN NEW.value_cents > OLD.value_cents
BEGIN UPDATE meta SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) WHERE key = 'account_version'; END;
