"""What `pilot stats` counts: intents by status, results by symbol, requests and tokens by day. Prints nothing.

Used by pilot. Pure of time: the days are given. Intents belong to the firm's day on which they began, and their trades
with them, whenever they end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec import Struct

from actors.compliance import day as firm_day
from actors.compliance.day import FirmDay
from actors.compliance.rulebook import RuleSet
from actors.console import measures
from actors.console.measures import Mean, Share
from bus.clock import iso, parse
from bus.vocabulary import Status
from store import statistics
from store.queries import Reader
from store.statistics import Calls, Life, Tokens

SETTLED = {Status.OPENED, Status.CLOSED, Status.REJECTED, Status.FAILED, Status.CANCELLED}


class Count(Struct, frozen=True, kw_only=True):
    """The intents that began in some days. `succeeded`: of those that are settled, how many became a position."""

    first: str
    last: str
    intents: int
    by_status: dict[str, int]
    succeeded: Share


class SymbolLine(Struct, frozen=True, kw_only=True):
    """One symbol. Win rate, profit, R and holding time are of trades that are closed; R is profit over worst loss."""

    symbol: str
    intents: int
    trades: int
    closed: int
    won: Share
    net_profit_cents: int
    r: Mean
    held_s: float | None


class Statistics(Struct, frozen=True, kw_only=True):
    """The whole answer. `today` and `period` count by the firm's day, models by the UTC day."""

    reset: str
    today: Count
    period: Count
    symbols: list[SymbolLine]
    total: SymbolLine
    requests: list[Calls]
    models: list[Tokens]


class _Sums(Struct):
    intents: int = 0
    trades: int = 0
    won: int = 0
    net_profit_cents: int = 0
    r: list[float] = []
    held_s: list[float] = []
    closed: int = 0


def days_back(rules: RuleSet, now: datetime, count: int) -> list[FirmDay]:
    """Return the last `count` days of the firm by the usual reading, oldest first; the last one holds `now`."""
    reading = firm_day.readings(rules)[0]
    found = [firm_day.day_of(reading, now)]
    while len(found) < count:
        found.append(firm_day.day_of(reading, found[-1].starts_at - timedelta(microseconds=1)))
    return found[::-1]


def of(reader: Reader, days: list[FirmDay], symbol: str | None) -> Statistics:
    """Return the statistics of these days, of one symbol or of all."""
    first, today = days[0], days[-1]
    all_statuses: Counter[str] = Counter()
    todays: Counter[str] = Counter()
    sums: dict[str, _Sums] = {}
    total = _Sums()
    for life in statistics.lives(reader, iso(first.starts_at), iso(today.ends_at)):
        if symbol is not None and life.symbol != symbol:
            continue
        all_statuses[life.status] += 1
        todays[life.status] += life.at >= iso(today.starts_at)
        for one in (sums.setdefault(life.symbol, _Sums()), total):
            _add(one, life)
    utc_days = first.starts_at.date().isoformat(), today.ends_at.date().isoformat()
    return Statistics(
        reset=today.reset,
        today=_count(today, today, todays),
        period=_count(first, today, all_statuses),
        symbols=[_line(name, sums[name]) for name in sorted(sums)],
        total=_line("all", total),
        requests=statistics.calls(reader, first.day, today.day),
        models=statistics.tokens(reader, *utc_days),
    )


def _add(sums: _Sums, life: Life) -> None:
    sums.intents += 1
    sums.trades += life.order_status == "opened"
    if life.net_profit_cents is None:
        return
    sums.closed += 1
    sums.won += life.net_profit_cents > 0
    sums.net_profit_cents += life.net_profit_cents
    if life.loss_cents is not None and life.loss_cents > 0:
        sums.r.append(life.net_profit_cents / life.loss_cents)
    if life.opened_at and life.closed_at:
        sums.held_s.append((parse(life.closed_at) - parse(life.opened_at)).total_seconds())


def _line(symbol: str, sums: _Sums) -> SymbolLine:
    return SymbolLine(
        symbol=symbol,
        intents=sums.intents,
        trades=sums.trades,
        closed=sums.closed,
        won=measures.share(sums.won, sums.closed),
        net_profit_cents=sums.net_profit_cents,
        r=measures.mean(sums.r),
        held_s=_mean(sums.held_s),
    )


def _count(first: FirmDay, last: FirmDay, by_status: Counter[str]) -> Count:
    found = {status: count for status, count in sorted(by_status.items()) if count}
    settled = sum(count for status, count in found.items() if status in SETTLED)
    traded = found.get(Status.OPENED, 0) + found.get(Status.CLOSED, 0)
    return Count(
        first=first.day,
        last=last.day,
        intents=sum(found.values()),
        by_status=found,
        succeeded=measures.share(traded, settled),
    )


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None
