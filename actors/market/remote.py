"""Bars of sources that are asked over the network: only what is new, checked, and kept in the append-only cache.

Runs in the scanner's child process, which holds the caches' lock. A source that rewrites what it said before is
refused for that symbol until the operator removes the file; nothing is ever overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from actors.market import quality, spans
from actors.market.cache import Cache, Owner, Row
from actors.market.errors import BadBars
from actors.market.intervals import Interval
from actors.market.sessions import Holidays

if TYPE_CHECKING:
    from actors.market.bars import Bars

PRICES = Row._fields[1:]


WriteDown = Callable[[str, Sequence[tuple[str, str]]], None]


class Fetcher(Protocol):
    """Asks one source for one symbol's bars."""

    name: str
    origin: str  # its address: another one is another history
    piece_bars: int  # how many bars one request may span

    async def fetch(self, symbol: str, interval: Interval, since: datetime, until: datetime) -> Sequence[Row]:
        """Return what the source has of a span, in one request, unchecked, maybe with an unfinished bar.

        Raises:
            BadBars: the source has no such symbol.
            SourceAway: it cannot be asked for any symbol now.
        """
        ...


class Remote:
    """One source with its caches."""

    def __init__(
        self, fetcher: Fetcher, folder: Path, *, window: int, now: datetime, write_down: WriteDown,
        tell: Callable[[str], None], holidays: Holidays = (),
    ) -> None:  # fmt: skip
        """`write_down` gets a symbol, and what was refused of it with why, before the bars around that are kept;
        `tell` hears of a cache that was put right.
        """
        self._tell = tell
        self.fetcher = fetcher
        self._write_down = write_down
        self._folder = folder
        self._window = window
        self._now = now
        self._holidays = holidays

    async def bars(self, symbol: str, interval: Interval) -> Bars:
        """Return the finished bars of a symbol up to now, after asking for those that can be new.

        Raises:
            BadBars: the source has no such symbol, or contradicts what it said before.
            SourceAway: it cannot be asked now.
            ScanError: the cache cannot be read or written.
        """
        cache = Cache(self._folder, self._owner(symbol, interval), self._tell)
        for since, until in spans.pieces(
            _last(cache), interval, self._now, window=self._window,
            piece_bars=self.fetcher.piece_bars, holidays=self._holidays,
        ):  # fmt: skip
            rows = await self.fetcher.fetch(symbol, interval, since, until)
            # What lies before was not asked for: it would leave a hole, or be older than the cache can say.
            asked = [row for row in rows if row.time >= since.timestamp()]
            self._take(cache, symbol, interval, since, asked)
        cache.keep(self._window)
        return as_bars(symbol, self.fetcher.name, interval, cache.records(self._window))

    def _owner(self, symbol: str, interval: Interval) -> Owner:
        return Owner(source=self.fetcher.name, origin=self.fetcher.origin, symbol=symbol, interval=interval)

    def _take(self, cache: Cache, symbol: str, interval: Interval, since: datetime, rows: Sequence[Row]) -> None:
        asked_again = [row for row in cache.tail(spans.OVERLAP_BARS) if row.opened >= since]
        if reason := quality.rewritten(asked_again, rows):
            self._write_down(symbol, [("history", f"rewrites history: {reason}")])
            raise BadBars(
                symbol, f"{self.fetcher.name} rewrites history: {reason}; to take the new one, remove {cache.path}"
            )
        good, bad = quality.sort_out(rows, _last(cache), interval, self._now)
        # First: once the bars behind it are kept, a bad one is not asked for again.
        self._write_down(symbol, [(_named(one.row), one.reason) for one in bad])
        cache.append(good)


def _last(cache: Cache) -> Row | None:
    return next(iter(cache.tail(1)), None)


def _named(row: Row) -> str:
    prices = " ".join(f"{name} {value}" for name, value in zip(PRICES, row[1:], strict=True))
    return f"{row.opened:%Y-%m-%dT%H:%MZ} {prices}"


def as_bars(symbol: str, source: str, interval: Interval, records: bytes) -> Bars:
    """Return records of a cache as bars. A D1 bar is named after the date most of it lies in; weekends have none."""
    import numpy as np

    from actors.market import days
    from actors.market.bars import Bars

    table = np.frombuffer(records, dtype=[("time", "<i8"), *((name, "<f8") for name in PRICES), ("chain", "<u4")])
    seconds = table["time"]
    if interval == "D1":
        names, kept = days.named(seconds)
        table, seconds = table[kept], names[kept]
    opened, high, low, close = (table[name].astype(np.float64) for name in PRICES)
    return Bars(symbol, source, interval, seconds.astype("datetime64[s]"), opened, high, low, close, closes_only=False)
