"""The daily bars that came after a signal, from the scanner's own feed.

Used by `pilot analysts report`. Reads files only, as the feed does. numpy is imported when bars are asked for, so that
the other commands start without it.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

from msgspec import Struct

from actors.console.simulated import Bar
from actors.market.errors import BadBars, ScanError
from config.load import ConfigError
from config.settings import Scanner

DAYS_MAX = 20_000


class LaterBars(Struct, frozen=True, kw_only=True):
    """Finished days by symbol, oldest first. `note` says what kind of prices they are, or why there are none."""

    days: dict[str, list[tuple[str, Bar]]]
    pips: dict[str, float]  # the size of a pip as a price
    closes_only: frozenset[str]
    note: str

    def after(self, symbol: str, bar_time: str) -> list[Bar] | None:
        """Return the bars later than `bar_time`; None when the symbol has none at all."""
        found = self.days.get(symbol)
        return None if found is None else [bar for day, bar in found if day > bar_time]


def read(wanted: Scanner, symbols: Collection[str], today: date) -> LaterBars:
    """Return the bars of these symbols. A symbol whose bars cannot be read is named in the note."""
    from actors.market import bars, feeds

    days: dict[str, list[tuple[str, Bar]]] = {}
    pips: dict[str, float] = {}
    missing: list[str] = []
    closes_only: set[str] = set()
    try:
        feed = feeds.build(wanted, DAYS_MAX)
    except (ConfigError, ScanError) as error:
        return LaterBars(days={}, pips={}, closes_only=frozenset(), note=f"no bars: {error}")
    for symbol in sorted(symbols):
        try:
            pips[symbol] = bars.pip(symbol)
            found, _ = bars.without_unfinished(feed.bars(symbol), today)
        except BadBars as error:
            missing.append(str(error))
            continue
        closes_only |= {symbol} if found.closes_only else set()
        columns = (found.open, found.high, found.low, found.close)
        days[symbol] = [
            (found.label(at), Bar(open=opened, high=high, low=low, close=close))
            for at, (opened, high, low, close) in enumerate(zip(*(column.tolist() for column in columns), strict=True))
        ]
    kind = "closes only: what a day touched in between is not known" if closes_only else "open, high, low and close"
    note = f"daily bars of '{feed.source}', {kind}; no spread, commission or swap"
    return LaterBars(days=days, pips=pips, closes_only=frozenset(closes_only), note="; ".join([note, *missing]))
