"""A paper venue without HTTP, on a clock that a test turns: simulated days in moments.

with venue.at("2026-02-16T12:00Z", tmp_path) as (broker, clock):
    clock.advance(3_600)
    broker.tick()
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from actors.broker.paper.values import Opened, Order
from actors.broker.paper.venue import Venue
from config import settings


class TurnedClock:
    """Both clocks stand still until they are turned."""

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._monotonic = 1_000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock; the monotonic one does not care."""
        self._now += timedelta(seconds=seconds)


def moment(text: str) -> datetime:
    """Return a time in UTC: 2026-02-16T12:00."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@contextlib.contextmanager
def opened(folder: Path, clock: TurnedClock, symbols: tuple[str, ...] = ("EURUSD",), **paper: Any) -> Iterator[Venue]:
    """Open the venue in a folder, and close it at the end."""
    venue = Venue(settings.Paper(**paper), symbols, folder, clock)
    try:
        yield venue
    finally:
        venue.close()


def bought(venue: Venue, lots: str = "1", symbol: str = "EURUSD.", **order: Any) -> str:
    """Buy at the market and return the position's id."""
    decided = venue.open_position(Order(symbol=symbol, side="BUY", volume=Decimal(lots), **order))
    assert isinstance(decided, Opened), decided
    return decided.holding.id


def ohlc(path: Path, rows: list[tuple[str, str, str, str, str]], symbol: str = "EURUSD") -> Path:
    """Write a CSV of bars, adding to what is there: (time, open, high, low, close)."""
    text = path.read_text() if path.exists() else "symbol,time,open,high,low,close\n"
    path.write_text(text + "".join(f"{symbol},{','.join(row)}\n" for row in rows))
    return path
