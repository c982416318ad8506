"""What statistics and the journal of a day are made of: intents with their decisions, orders and results, by time.

Used by `pilot`. Reads only. Goes by the table `transitions`, which forgets nothing, and finds a day in it by its index;
rows are handed on one by one, so that a long past needs no memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from bus.records import Closing, EquitySample, Halt, OrderPlan, Record, Transition
from store.queries import Reader
from store.rows import columns, record_of

LIVES = """
SELECT t.intent_id, t.at, coalesce(i.symbol, t.payload ->> '$.symbol', ''),
    coalesce(i.status, (SELECT l.to_status FROM transitions l WHERE l.intent_id = t.intent_id
                        ORDER BY l.seq DESC LIMIT 1)),
    o.status, o.plan ->> '$.loss_cents', d.net_profit_cents, d.executed_at, d.closed_at
FROM transitions t
LEFT JOIN intents i ON i.id = t.intent_id
LEFT JOIN orders o ON o.intent_id = t.intent_id
LEFT JOIN decisions d ON d.intent_id = t.intent_id
WHERE t.at >= ? AND t.at < ? AND t.event IN ('propose', 'adopt') ORDER BY t.at, t.seq
"""
SEEN = "SELECT intent_id FROM transitions WHERE at >= ? AND at < ? GROUP BY intent_id ORDER BY min(seq)"
CALLS = """
SELECT day, substr(actor, 1, instr(actor || ' ', ' ') - 1), sum(reads), sum(writes) FROM api_usage
WHERE day >= ? AND day <= ? AND length(day) = 10 GROUP BY 1, 2 ORDER BY 1, 2
"""
TOKENS = """
SELECT day, endpoint, sum(calls), sum(refusals), sum(tokens), sum(cost_micros) FROM llm_usage
WHERE day >= ? AND day <= ? GROUP BY 1, 2 ORDER BY 1, 2
"""


class Life(Struct, frozen=True, array_like=True):
    """One intent: when it began, how far it came, what it risked and earned. Money in cents."""

    intent_id: str
    at: str
    symbol: str
    status: str
    order_status: str | None
    loss_cents: int | None  # the order's worst loss at its stop
    net_profit_cents: int | None  # None until its position is closed
    opened_at: str | None
    closed_at: str | None


class Calls(Record, frozen=True):
    """Requests to the broker on one firm's day, by process."""

    day: str
    actor: str
    reads: int
    writes: int


class Tokens(Record, frozen=True):
    """Calls of language models on one UTC day, by endpoint."""

    day: str
    endpoint: str
    calls: int
    refusals: int
    tokens: int
    cost_micros: int


class Entry(Struct, frozen=True, kw_only=True):
    """One intent in the journal of a day: what it is now, and its arrows of that day."""

    intent_id: str
    symbol: str
    side: str | None
    sl_pips: float | None
    tp_pips: float | None
    status: str
    begun_at: str
    plan: OrderPlan | None
    position_id: str | None
    opened_at: str | None
    closed_at: str | None
    net_profit_cents: int | None
    close_reason: str
    failure_reason: str
    closing: Closing | None  # the operator's order to close it
    arrows: tuple[Transition, ...]


def lives(reader: Reader, since: str, until: str) -> Iterator[Life]:
    """Yield the intents that began in [since, until) (ISO), oldest first."""
    for row in reader._db.execute(LIVES, (since, until)):
        yield msgspec.convert(row, Life)


def calls(reader: Reader, first: str, last: str) -> list[Calls]:
    """Return the requests counted for the firm's days first to last, by the usual reading of the reset."""
    return [record_of(Calls, row) for row in reader._db.execute(CALLS, (first, last))]


def tokens(reader: Reader, first: str, last: str) -> list[Tokens]:
    """Return what language models cost on the UTC days first to last."""
    return [record_of(Tokens, row) for row in reader._db.execute(TOKENS, (first, last))]


def entries(reader: Reader, since: str, until: str) -> Iterator[Entry]:
    """Yield every intent of which something is recorded in [since, until) (ISO), in the order of its first arrow."""
    for (intent_id,) in reader._db.execute(SEEN, (since, until)).fetchall():
        arrows = reader.transitions(str(intent_id))
        yield _entry(reader, arrows, tuple(arrow for arrow in arrows if since <= arrow.at < until))


def equity_between(reader: Reader, since: str, until: str) -> tuple[EquitySample, int] | None:
    """Return the newest reading of the account in [since, until) and the lowest equity in it, or None."""
    where = "equity_samples WHERE at >= ? AND at < ?"
    row = reader._db.execute(
        f"SELECT {columns(EquitySample)} FROM {where} ORDER BY at DESC LIMIT 1", (since, until)
    ).fetchone()
    low = reader._db.execute(f"SELECT min(equity_cents) FROM {where}", (since, until)).get
    return None if row is None else (record_of(EquitySample, row), int(str(low)))


def halts_between(reader: Reader, since: str, until: str) -> list[Halt]:
    """Return the halts that were raised in [since, until)."""
    rows = reader._db.execute(
        f"SELECT {columns(Halt)} FROM halts WHERE raised_at >= ? AND raised_at < ? ORDER BY id", (since, until)
    )
    return [record_of(Halt, row) for row in rows]


def _entry(reader: Reader, arrows: list[Transition], shown: tuple[Transition, ...]) -> Entry:
    """Join what is known of one intent. One that never traded is deleted after its time: then its arrows must do."""
    intent_id = arrows[0].intent_id
    intent, decision, order = reader.intent(intent_id), reader.decision(intent_id), reader.order(intent_id)
    return Entry(
        intent_id=intent_id,
        symbol=intent.symbol if intent else _symbol(arrows),
        side=intent.suggested_side if intent else None,
        sl_pips=intent.suggested_sl_pips if intent else None,
        tp_pips=intent.suggested_tp_pips if intent else None,
        status=arrows[-1].to_status,
        begun_at=arrows[0].at,
        plan=order.plan if order else None,
        position_id=order.position_id if order else None,
        opened_at=decision.executed_at if decision else None,
        closed_at=decision.closed_at if decision else None,
        net_profit_cents=decision.net_profit_cents if decision else None,
        close_reason=decision.close_reason if decision else "",
        failure_reason=decision.failure_reason if decision else arrows[-1].reason,
        closing=reader.closing(intent_id),
        arrows=shown,
    )


class _Payload(Struct):
    symbol: str = ""


def _symbol(arrows: list[Transition]) -> str:
    try:
        return msgspec.json.decode(arrows[0].payload, type=_Payload).symbol
    except msgspec.DecodeError:
        return ""
