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

-- For the journal of a day and for statistics: the journal forgets nothing, so it must not be read as a whole.
CREATE INDEX idx_transitions_at ON transitions (at, event);
