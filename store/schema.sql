-- The decision store as it stands after all migrations. Written by the store process only.
-- Columns of intents and decisions: blueprint section 5.1. Times are ISO 8601 UTC, money is integer cents,
-- prices and volumes are decimal text. The triggers of the state machine are generated from store/states.py.
-- What is checked at each arrow is compared value by value: for an IN of more than two SQLite builds a table each time.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE intents (
    id                    TEXT PRIMARY KEY CHECK (length(id) BETWEEN 8 AND 64),
    created_at            TEXT NOT NULL,
    trade_date            TEXT NOT NULL CHECK (trade_date GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]'),
    symbol                TEXT NOT NULL,
    timeframe             TEXT NOT NULL DEFAULT 'D1',
    -- scanner
    scanner_score         REAL NOT NULL DEFAULT 0,
    scanner_confidence    TEXT NOT NULL DEFAULT 'medium' CHECK (scanner_confidence = 'high' OR scanner_confidence = 'medium' OR scanner_confidence = 'low'),
    scanner_score_gap     REAL NOT NULL DEFAULT 0,
    scanner_drop_distance REAL NOT NULL DEFAULT 0,
    scanner_topk_spread   REAL NOT NULL DEFAULT 0,
    signal_json           TEXT NOT NULL DEFAULT '',
    -- analyst
    suggested_side        TEXT CHECK (suggested_side = 'BUY' OR suggested_side = 'SELL' OR suggested_side = 'HOLD'),
    suggested_sl_pips     REAL CHECK (suggested_sl_pips > 0),
    suggested_tp_pips     REAL CHECK (suggested_tp_pips > 0),
    agent_risk_report     TEXT NOT NULL DEFAULT '',
    agent_state_json      TEXT NOT NULL DEFAULT '',
    -- life
    source                TEXT NOT NULL DEFAULT 'scanner' CHECK (source IN ('scanner', 'manual')),
    status                TEXT NOT NULL DEFAULT 'pending' CHECK (status = 'pending' OR status = 'claimed' OR status = 'ready_for_exec'
                          OR status = 'executing' OR status = 'opened' OR status = 'rejected' OR status = 'failed'
                          OR status = 'cancelled' OR status = 'timed_out' OR status = 'closed'),
    claim_worker_id       TEXT,
    claim_incarnation     TEXT,
    claim_ts              TEXT,
    claim_ttl_minutes     INTEGER NOT NULL DEFAULT 30 CHECK (claim_ttl_minutes > 0),
    epoch                 INTEGER NOT NULL DEFAULT 0 CHECK (epoch >= 0),
    attempts              INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    not_before            TEXT,
    expires_at            TEXT,
    idempotency_key       TEXT NOT NULL UNIQUE,
    -- execution
    position_id           TEXT UNIQUE,
    executed_at           TEXT,
    execution_error       TEXT,
    compliance_snapshot   TEXT NOT NULL DEFAULT '',
    CHECK (status NOT IN ('claimed', 'executing') OR claim_incarnation IS NOT NULL),
    CHECK (status <> 'ready_for_exec' AND status <> 'executing' AND status <> 'opened' AND status <> 'closed' OR (suggested_side IN ('BUY', 'SELL')
           AND suggested_sl_pips IS NOT NULL AND suggested_tp_pips IS NOT NULL)
           OR idempotency_key IS 'adopted:' || position_id),
    CHECK (status NOT IN ('opened', 'closed') OR position_id IS NOT NULL)
) STRICT;

CREATE INDEX idx_intents_status ON intents (status, created_at);
CREATE INDEX idx_intents_trade_date ON intents (trade_date);
CREATE INDEX idx_intents_symbol_date ON intents (symbol, trade_date);
CREATE INDEX idx_intents_expiry ON intents (expires_at) WHERE status IN ('pending', 'ready_for_exec');

CREATE TABLE decisions (
    intent_id           TEXT PRIMARY KEY REFERENCES intents (id),
    created_at          TEXT NOT NULL,
    claimed_at          TEXT,
    decided_at          TEXT,
    executed_at         TEXT,
    closed_at           TEXT,
    status              TEXT NOT NULL DEFAULT '',
    order_id            TEXT,
    position_id         TEXT,
    failure_reason      TEXT NOT NULL DEFAULT '',
    compliance_snapshot TEXT NOT NULL DEFAULT '',
    execution_meta      TEXT NOT NULL DEFAULT '',
    net_profit_cents    INTEGER,
    close_reason        TEXT NOT NULL DEFAULT ''
) STRICT;

-- One order per intent, by schema. Written before the request: after a crash we must know that an order may exist.
CREATE TABLE orders (
    intent_id   TEXT PRIMARY KEY REFERENCES intents (id),
    status      TEXT NOT NULL DEFAULT 'reserved' CHECK (status = 'reserved' OR status = 'unknown' OR status = 'opened' OR status = 'failed'),
    plan        TEXT NOT NULL,
    baseline    TEXT NOT NULL,
    reserved_at TEXT NOT NULL,
    deadline_at TEXT NOT NULL,
    order_id    TEXT,
    position_id TEXT UNIQUE,
    resolved_at TEXT,
    reason      TEXT NOT NULL DEFAULT '', idempotency_key TEXT, figures_mark TEXT,
    CHECK ((status = 'opened') = (position_id IS NOT NULL))
) STRICT;

CREATE INDEX idx_orders_unresolved ON orders (status) WHERE status IN ('reserved', 'unknown');
-- The key of an order at the broker; NULL: it was sent without one, and is never repeated.
CREATE UNIQUE INDEX idx_orders_key ON orders (idempotency_key);

-- OR REPLACE deletes without firing delete triggers: hence the triggers that look for what it would replace.
CREATE TRIGGER orders_begin_reserved BEFORE INSERT ON orders
WHEN EXISTS (SELECT 1 FROM orders WHERE intent_id = NEW.intent_id OR position_id = NEW.position_id OR rowid = NEW.rowid
    OR idempotency_key = NEW.idempotency_key)
  OR NOT (NEW.status = 'reserved' AND EXISTS (SELECT 1 FROM intents WHERE id = NEW.intent_id AND status = 'executing')
    OR NEW.status = 'opened' AND NEW.order_id IS NULL AND NEW.idempotency_key IS NULL
      AND EXISTS (SELECT 1 FROM intents WHERE id = NEW.intent_id
      AND status = 'opened' AND position_id = NEW.position_id AND idempotency_key = 'adopted:' || NEW.position_id))
BEGIN SELECT RAISE(ABORT, 'illegal: one order per intent, reserved while it is executing, or of an adopted position'); END;
CREATE TRIGGER orders_keep BEFORE DELETE ON orders
WHEN OLD.status NOT IN ('opened', 'failed') OR EXISTS (SELECT 1 FROM transitions WHERE intent_id = OLD.intent_id)
BEGIN SELECT RAISE(ABORT, 'illegal: orders are never deleted'); END;
CREATE TRIGGER orders_plan_stands BEFORE UPDATE ON orders
WHEN NEW.plan <> OLD.plan OR NEW.baseline <> OLD.baseline OR NEW.reserved_at <> OLD.reserved_at
  OR NEW.deadline_at <> OLD.deadline_at OR NEW.intent_id <> OLD.intent_id OR NEW.rowid <> OLD.rowid
  OR NEW.idempotency_key IS NOT OLD.idempotency_key OR NEW.figures_mark IS NOT OLD.figures_mark
BEGIN SELECT RAISE(ABORT, 'illegal: what was reserved never changes'); END;
CREATE TRIGGER orders_position_once BEFORE UPDATE OF position_id ON orders
WHEN EXISTS (SELECT 1 FROM orders WHERE position_id = NEW.position_id AND intent_id <> NEW.intent_id)
BEGIN SELECT RAISE(ABORT, 'illegal: a position belongs to one order'); END;
CREATE TRIGGER orders_resolved_once BEFORE UPDATE ON orders
WHEN OLD.status IN ('opened', 'failed') OR (OLD.status = 'unknown' AND NEW.status = 'reserved')
BEGIN SELECT RAISE(ABORT, 'illegal: an order is resolved once'); END;

-- The journal: every arrow of every intent, append-only, hash-chained.
CREATE TABLE transitions (
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

CREATE INDEX idx_transitions_intent ON transitions (intent_id, seq);
-- For the journal of a day and for statistics: the journal forgets nothing, so it must not be read as a whole.
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

-- Applied commands and their answers: a resend gets the recorded answer and changes nothing.
CREATE TABLE commands (
    id        TEXT PRIMARY KEY,
    at        TEXT NOT NULL,
    sender    TEXT NOT NULL,
    kind      TEXT NOT NULL,
    outcome   TEXT NOT NULL CHECK (outcome = 'applied' OR outcome = 'already' OR outcome = 'stale' OR outcome = 'refused'),
    reason    TEXT NOT NULL DEFAULT '',
    allowed   TEXT NOT NULL DEFAULT '[]',
    intent_id TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX idx_commands_at ON commands (at);

-- Keys of deleted intents: a rescan of an old bar must not make them again.
CREATE TABLE retired_keys (
    idempotency_key TEXT PRIMARY KEY,
    intent_id       TEXT NOT NULL,
    status          TEXT NOT NULL,
    retired_at      TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE halts (
    id          INTEGER PRIMARY KEY,
    kind        TEXT NOT NULL CHECK (kind IN ('soft', 'hard')),
    reason      TEXT NOT NULL,
    raised_by   TEXT NOT NULL,
    raised_at   TEXT NOT NULL,
    until       TEXT,
    lifted_at   TEXT,
    lifted_by   TEXT,
    lift_reason TEXT, flatten INTEGER NOT NULL DEFAULT 0 CHECK (flatten IN (0, 1)),
    CHECK (kind = 'hard' OR until IS NOT NULL)
) STRICT;

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

CREATE TABLE equity_samples (
    at               TEXT PRIMARY KEY,
    day              TEXT NOT NULL,
    balance_cents    INTEGER NOT NULL,
    equity_cents     INTEGER NOT NULL,
    margin_cents     INTEGER NOT NULL,
    positions        INTEGER NOT NULL,
    daily_loss_cents INTEGER NOT NULL,
    max_loss_cents   INTEGER NOT NULL,
    level            TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE api_usage (
    day    TEXT NOT NULL,
    actor  TEXT NOT NULL,
    reads  INTEGER NOT NULL DEFAULT 0,
    writes INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (day, actor)
) STRICT, WITHOUT ROWID;

-- Tokens and money of the analysts' calls by UTC day, endpoint and incarnation. What was reserved counts until it is
-- settled, so that a call whose process died counts for ever. Money is millionths of a US dollar.
CREATE TABLE llm_usage (
    day             TEXT NOT NULL,
    endpoint        TEXT NOT NULL,
    actor           TEXT NOT NULL,
    calls           INTEGER NOT NULL DEFAULT 0 CHECK (calls >= 0),
    refusals        INTEGER NOT NULL DEFAULT 0 CHECK (refusals >= 0),
    tokens          INTEGER NOT NULL DEFAULT 0 CHECK (tokens >= 0),
    cost_micros     INTEGER NOT NULL DEFAULT 0 CHECK (cost_micros >= 0),
    reserved_tokens INTEGER NOT NULL DEFAULT 0 CHECK (reserved_tokens >= 0),
    reserved_micros INTEGER NOT NULL DEFAULT 0 CHECK (reserved_micros >= 0),
    PRIMARY KEY (day, endpoint, actor)
) STRICT, WITHOUT ROWID;

-- The outbox of alerts: written in the transaction of the event.
CREATE TABLE alerts (
    seq          INTEGER PRIMARY KEY,
    at           TEXT NOT NULL,
    level        TEXT NOT NULL CHECK (level = 'info' OR level = 'warning' OR level = 'error'),
    event        TEXT NOT NULL,
    actor        TEXT NOT NULL,
    intent_id    TEXT,
    text         TEXT NOT NULL,
    delivered_at TEXT
    , data TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(data))) STRICT;

-- Alerts that are counted by level: most are `info`, and they are what is left.
CREATE INDEX idx_alerts_grave ON alerts (level) WHERE level <> 'info';

-- The days that were summed up: asked for every half minute, inside the write transaction, and alerts are many.
CREATE INDEX idx_alerts_summaries ON alerts (data ->> '$.day') WHERE event = 'daily_summary';

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
WHEN OLD.seq > coalesce((SELECT max(alerts_through_seq) FROM archive_anchors), 0)
  OR OLD.seq > coalesce((SELECT max(through_seq) FROM alert_deliveries), 0)
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

CREATE TABLE workers (
    name         TEXT PRIMARY KEY,
    role         TEXT NOT NULL,
    incarnation  TEXT NOT NULL,
    pid          INTEGER NOT NULL,
    state        TEXT NOT NULL,
    capacity     INTEGER NOT NULL,
    holding      INTEGER NOT NULL,
    progress     INTEGER NOT NULL,
    started_at   TEXT NOT NULL,
    last_beat_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What each process measured of itself: the present incarnation's totals as its beats say them, and those of all before.
CREATE TABLE tallies (
    process        TEXT NOT NULL,
    name           TEXT NOT NULL,
    incarnation    TEXT NOT NULL,
    counts         TEXT NOT NULL,
    sum_us         INTEGER NOT NULL,
    earlier_counts TEXT NOT NULL,
    earlier_sum_us INTEGER NOT NULL,
    PRIMARY KEY (process, name)
) STRICT, WITHOUT ROWID;

-- How often each process ended, and whose end was counted last, so that one that is told twice counts once.
CREATE TABLE exits (
    process     TEXT PRIMARY KEY,
    incarnation TEXT NOT NULL,
    at          TEXT NOT NULL,
    clean       INTEGER NOT NULL CHECK (clean >= 0),
    failed      INTEGER NOT NULL CHECK (failed >= 0)
) STRICT, WITHOUT ROWID;

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
WHEN EXISTS (SELECT 1 FROM transitions WHERE intent_id = OLD.intent_id)
BEGIN SELECT RAISE(ABORT, 'illegal: closings are append-only'); END;

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
