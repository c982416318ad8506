"""The summary of each firm's day, written into the outbox once the day is over. Part of the store process; at its tick.

From the database only, right to the cent. A few minutes are left to what is told late, and the account must have been
looked at since: a position that closed while nobody looked belongs to its day. Decides nothing about trading.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from loguru import logger

from bus import clock
from bus.alerting import Data
from bus.records import AccountDay, EquitySample
from config import dollars
from store import halts, results
from store.decisions import STORE
from store.rows import columns, record_of

if TYPE_CHECKING:
    from store.writer import Writer

EVENT = "daily_summary"
LOOK = timedelta(seconds=30)  # by the wall clock, which goes on while a machine sleeps
SETTLE = timedelta(minutes=5)  # a row of the broker's history may come two minutes late
LOOKED_MIN = 2  # what one look found closed is told after its sample, and before the next one's
UNSEEN = timedelta(hours=6)  # then a day is told although nobody looked at the account
OLDEST = timedelta(days=7)  # of what is still worth telling


class Summaries:
    """Remembers when it looked last; which days were told stands in the outbox."""

    def __init__(self) -> None:
        self._looked_at: datetime | None = None

    def tick(self, writer: Writer) -> None:
        """Write the summary of every day that ended and was not told, oldest first."""
        if self._looked_at is not None and timedelta() <= writer.now - self._looked_at < LOOK:
            return
        self._looked_at = writer.now
        for day in _due(writer):
            data = figures(writer, day)
            halts.alert(writer, STORE, "info", EVENT, _text(day, data), data=data)
            logger.info("{}", _text(day, data))


def _due(writer: Writer) -> list[AccountDay]:
    """Return the ended days of the usual reading without a summary.

    `idx_alerts_summaries` finds those, if the event is spelt out and `+` frees the day of its column's type.
    """
    first = writer.gate.rules.readings[0]
    found = writer.db.execute(
        f"SELECT {columns(AccountDay)} FROM account_days d WHERE account_id = ?1 AND reset = ?2 "
        f"AND ends_at <= ?3 AND ends_at > ?4 AND NOT EXISTS (SELECT 1 FROM alerts a WHERE a.event = '{EVENT}' "
        "AND a.data ->> '$.day' = +d.day) AND (ends_at <= ?5 OR (SELECT count(*) FROM (SELECT 1 FROM equity_samples s "
        "WHERE s.at >= strftime('%Y-%m-%dT%H:%M:%fZ', d.ends_at, ?6) LIMIT ?7)) >= ?7) ORDER BY starts_at",
        (
            writer.gate.account_id, first.label, clock.iso(writer.now - SETTLE), clock.iso(writer.now - OLDEST),
            clock.iso(writer.now - UNSEEN), f"+{SETTLE.total_seconds():.0f} seconds", LOOKED_MIN,
        ),
    ).fetchall()  # fmt: skip
    return [record_of(AccountDay, row) for row in found]


def figures(writer: Writer, day: AccountDay) -> Data:
    """Return what the day came to: money in cents, costs of language models by the UTC date of the same name."""
    result = results.between(writer.db, day.starts_at, day.ends_at)
    reads, writes = writer.read.requests(day.day)
    cost = writer.read.llm_day(day.day)
    found: Data = {
        "day": day.day, "reset": day.reset, "start_balance_cents": day.start_balance_cents,
        "opened": results.opened_between(writer.db, day.starts_at, day.ends_at), "trades": result.trades,
        "wins": result.wins, "net_profit_cents": result.net_profit_cents,
        "largest_loss_cents": result.largest_loss_cents, "requests": reads + writes, "writes": writes,
        "llm_calls": cost.calls, "llm_cost_micros": cost.cost_micros + cost.reserved_micros,
    }  # fmt: skip
    sample = _last_sample(writer, day)
    if sample is not None:
        found |= {"balance_cents": sample.balance_cents, "equity_cents": sample.equity_cents, "sampled_at": sample.at}
        found |= _rooms(writer, sample)
    return found


def _last_sample(writer: Writer, day: AccountDay) -> EquitySample | None:
    row = writer.db.execute(
        f"SELECT {columns(EquitySample)} FROM equity_samples WHERE at >= ? AND at < ? ORDER BY at DESC LIMIT 1",
        (day.starts_at, day.ends_at),
    ).fetchone()
    return record_of(EquitySample, row) if row else None


def _rooms(writer: Writer, sample: EquitySample) -> Data:
    """Return how far the last reading was above the floor of each kind of limit, the nearest one of its kind."""
    at: datetime = clock.parse(sample.at)
    lines = writer.gate.lines(writer.read, at, sample.balance_cents, sample.equity_cents)
    if isinstance(lines, str):
        return {}
    rooms: dict[str, int] = {}
    for line in lines:
        is_lower = line.measured_on == "lower_of_balance_and_equity"
        value_cents = min(sample.balance_cents, sample.equity_cents) if is_lower else sample.equity_cents
        kind = line.name.partition(" ")[0]
        if kind in ("daily", "maximum"):
            room_cents = int(value_cents - line.reference_cents + line.amount_cents)  # towards zero: never too much
            rooms[kind] = min(room_cents, rooms.get(kind, room_cents))
    return {f"{kind}_room_cents": cents for kind, cents in rooms.items()}


def _text(day: AccountDay, data: Data) -> str:
    net_cents, cost = int(str(data["net_profit_cents"])), int(str(data["llm_cost_micros"]))
    return (
        f"Day {day.day} ({day.reset}): net {net_cents / 100:+.2f}, {data['trades']} closed, {data['wins']} won, "
        f"{data['requests']} requests, language models ${dollars.text(cost)}"
    )
