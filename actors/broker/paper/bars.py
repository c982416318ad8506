"""Bars of the paper broker: one-minute bars from its own ticks, and the ECB's daily fixings as D1 history.

Run by the paper broker through `venue`. Kept in memory only, and bounded: a restart begins new minutes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal

from msgspec import Struct, structs

from actors.broker.paper.prices import Fixing
from actors.broker.paper.values import Price, Terms

MINUTE_MS = 60_000
DAY_MS = 86_400_000
WEEK_SHIFT_MS = 4 * DAY_MS  # 1970-01-01 was a Thursday; weeks begin on Sunday
MINUTES_KEPT = 1_500
INTERVALS_MS = {
    "M1": MINUTE_MS, "M5": 5 * MINUTE_MS, "M15": 15 * MINUTE_MS, "M30": 30 * MINUTE_MS, "H1": 60 * MINUTE_MS,
    "H4": 240 * MINUTE_MS, "D1": DAY_MS, "W1": 7 * DAY_MS,
}  # fmt: skip


class Bar(Struct, frozen=True):
    """Bid prices of one interval. `time` is its begin in epoch milliseconds, `volume` its number of ticks."""

    time: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: int


class Bars:
    """The bars of all symbols. `fixings` is called when daily bars are asked for, once: reading them takes a while."""

    def __init__(self, terms: Sequence[Terms], fixings: Callable[[], Sequence[Fixing]]) -> None:
        self._terms = {one.symbol: one for one in terms}
        self._minutes: dict[str, deque[Bar]] = {symbol: deque(maxlen=MINUTES_KEPT) for symbol in self._terms}
        self._days: dict[str, tuple[Bar, ...]] = {}
        self._today: dict[str, Bar] = {}
        self._fixings = fixings

    def add(self, at_ms: int, prices: Mapping[str, Price]) -> None:
        """Take one tick of every symbol."""
        for symbol, price in prices.items():
            tick = Bar(at_ms - at_ms % MINUTE_MS, price.bid, price.bid, price.bid, price.bid, 1)
            kept = self._minutes[symbol]
            if kept and kept[-1].time == tick.time:
                kept[-1] = _joined(kept[-1], tick)
            else:
                kept.append(tick)
            day = structs.replace(tick, time=at_ms - at_ms % DAY_MS)
            today = self._today.get(symbol)
            self._today[symbol] = _joined(today, day) if today is not None and today.time == day.time else day

    def today(self, symbol: str) -> Bar:
        """Return the running day's bar, from the first tick of this process on. Raises KeyError before one."""
        return self._today[symbol]

    def between(self, symbol: str, interval: str, from_ms: int, to_ms: int) -> tuple[Bar, ...]:
        """Return the bars that begin in a span of time, the last one maybe unfinished.

        Raises:
            KeyError: unknown symbol or interval.
        """
        length = INTERVALS_MS[interval]
        source: Iterable[Bar] = self._minutes[symbol]
        if length >= DAY_MS:
            source = (*self._history(symbol), *source)
        return tuple(bar for bar in _resampled(source, length) if from_ms <= bar.time <= to_ms)

    def _history(self, symbol: str) -> tuple[Bar, ...]:
        if not self._days:
            fixings = self._fixings()
            self._days = {name: _daily(terms, fixings) for name, terms in self._terms.items()}
        return self._days[symbol]


def _daily(terms: Terms, fixings: Sequence[Fixing]) -> tuple[Bar, ...]:
    """Return the fixings as D1 bars, oldest first. A fixing is one price a day: the open is the day before's."""
    bars: list[Bar] = []
    for fixing in reversed(fixings):
        if terms.base_currency not in fixing.per_euro or terms.quote_currency not in fixing.per_euro:
            continue
        close = fixing.per_euro[terms.quote_currency] / fixing.per_euro[terms.base_currency]
        close = close.quantize(terms.point, ROUND_HALF_EVEN)
        opened = bars[-1].close if bars else close
        time = int(datetime.fromisoformat(fixing.day).replace(tzinfo=UTC).timestamp()) * 1_000
        bars.append(Bar(time, opened, max(opened, close), min(opened, close), close, 1))
    return tuple(bars)


def _resampled(bars: Iterable[Bar], length_ms: int) -> list[Bar]:
    shift = WEEK_SHIFT_MS if length_ms > DAY_MS else 0
    made: list[Bar] = []
    for bar in bars:
        time = bar.time - (bar.time + shift) % length_ms
        moved = Bar(time, bar.open, bar.high, bar.low, bar.close, bar.volume)
        if made and made[-1].time == time:
            made[-1] = _joined(made[-1], moved)
        else:
            made.append(moved)
    return made


def _joined(first: Bar, second: Bar) -> Bar:
    return Bar(
        first.time, first.open, max(first.high, second.high), min(first.low, second.low), second.close,
        first.volume + second.volume,
    )  # fmt: skip
