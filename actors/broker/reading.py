"""What the clients of both APIs share: values out of answers, rows that count once, spans in pieces, known instruments.

Used by `broker.client` and `broker.trader`; does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal, ParamSpec, TypeVar

import msgspec
from loguru import logger

from actors.broker import instruments
from actors.broker.errors import Refused, Unreadable
from actors.broker.wire import Candle, Instrument, OpenRequest, PendingOrder, PendingRequest, Position
from bus.clock import Clock

Interval = Literal["M1", "M5", "M15", "M30", "H1", "H4", "D1", "W1"]
INTERVALS: dict[Interval, timedelta] = {
    "M1": timedelta(minutes=1), "M5": timedelta(minutes=5), "M15": timedelta(minutes=15), "M30": timedelta(minutes=30),
    "H1": timedelta(hours=1), "H4": timedelta(hours=4), "D1": timedelta(days=1), "W1": timedelta(days=7),
}  # fmt: skip
INSTRUMENTS_AGE_S_MAX = 300.0  # sessions open and close; contracts hardly change
HISTORY_PIECE = timedelta(days=31)  # the longest span of the history that is asked for at once
HISTORY_PIECES_MAX = 24  # requests for one history: a longer span, as by a wrong clock, comes in longer pieces

P = ParamSpec("P")
T = TypeVar("T")
Row = TypeVar("Row", Position, PendingOrder)


class Listing:
    """The broker's instruments as last read, by our symbol, and our names of its symbols."""

    def __init__(self, clock: Clock) -> None:
        self.by_symbol: dict[str, Instrument] = {}
        self._clock = clock
        self._our_names: dict[str, str] = {}
        self._left_out: tuple[str, ...] = ()
        self._listed_at = float("-inf")  # monotonic

    def is_older_than(self, seconds: float) -> bool:
        """Return whether the list is that old, or was never read."""
        return self._clock.monotonic() - self._listed_at >= seconds

    def take(self, rows: Iterable[msgspec.Raw]) -> None:
        """Keep what the broker lists now. What is left out is told when it changes."""
        found, left_out = instruments.by_our_symbol(rows)
        if left_out != self._left_out:
            logger.warning("Left out {} of the broker's instruments: {}", len(left_out), "; ".join(left_out)[:500])
        self.by_symbol, self._left_out = found, left_out
        self._our_names = {one.broker_symbol: one.symbol for one in found.values()}
        self._listed_at = self._clock.monotonic()

    def find(self, symbol: str) -> Instrument:
        """Return the instrument. Raises Refused when the broker does not list the symbol."""
        if symbol not in self.by_symbol:
            left_out = "".join(f"; left out {why}" for why in self._left_out if symbol in why)
            known = ", ".join(sorted(self.by_symbol))[:200]
            raise Refused(f"symbol {symbol} is none of the broker's: {known}{left_out[:200]}")
        return self.by_symbol[symbol]

    def our_name(self, broker_symbol: str) -> str:
        """Return our name of a symbol, also of one that is not listed."""
        return self._our_names.get(broker_symbol) or instruments.without_suffix(broker_symbol)


def made(where: str, make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `make` makes of the broker's answer. Raises Unreadable when a value makes no sense."""
    try:
        return make(*args, **kwargs)
    except ValueError as error:
        raise Unreadable(f"{where}: {error}") from error


def each_once(where: str, rows: list[Row]) -> tuple[Row, ...]:
    """Return the rows without those that the broker repeats. Raises Unreadable when two of one id differ."""
    found = tuple(dict.fromkeys(rows))
    ids = [row.id for row in found]
    if twice := sorted({one for one in ids if ids.count(one) > 1}):
        raise Unreadable(f"{where}: listed twice and not alike: {', '.join(twice)}")
    return found


def pieces(since: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
    """Return a span in pieces that share their edges, oldest first; at least one."""
    length = max(HISTORY_PIECE, (until - since) / HISTORY_PIECES_MAX)
    edges = [since]
    while edges[-1] + length < until and len(edges) < HISTORY_PIECES_MAX:
        edges.append(edges[-1] + length)
    return list(zip(edges, [*edges[1:], until], strict=True))


def finished(bars: Sequence[Candle], interval: Interval, now: datetime) -> tuple[Candle, ...]:
    """Return the bars that have ended, oldest first."""
    return tuple(bar for bar in sorted(bars, key=lambda bar: bar.at) if bar.at + INTERVALS[interval] <= now)


def is_price(value: Decimal) -> bool:
    """Return whether this can be the price of an order."""
    return value.is_finite() and value > 0


def is_level(value: Decimal) -> bool:
    """Return whether this can be a stop or a target: a price, or 0 for none."""
    return value.is_finite() and value >= 0


def is_sendable(order: OpenRequest | PendingRequest) -> bool:
    """Return whether volume, stop and target are numbers that an order can have."""
    return is_price(order.volume) and is_level(order.sl_price) and is_level(order.tp_price)
