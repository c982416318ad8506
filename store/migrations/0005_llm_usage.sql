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
