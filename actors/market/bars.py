"""Bars as columns, and the checks that decide whether a symbol may be ranked at all.

Runs in the scanner's child process. Never repairs: what is wrong is refused with the bar's date and the limit.
Floats are allowed here: these are prices to compute with, never money.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from actors.market.errors import BadBars
from actors.market.pips import pip as pip

GAP_DAYS_MAX = 7  # weekends and holidays of a fixing are shorter; anything longer is a hole
JUMP_RATIO_MAX = 0.25  # close to close in one bar; the franc's worst day of 2015 was below 20%
STUCK_BARS = 20  # a feed that repeats one close for so long no longer works

Floats = NDArray[np.float64]
Dates = NDArray[np.datetime64]


@dataclass(frozen=True)
class Bars:
    """The daily bars of one symbol, oldest first, all columns of one length.

    With `closes_only` the source knows one price a bar, and open, high and low repeat the close.
    """

    symbol: str
    source: str
    interval: Literal["D1"]
    time: Dates  # datetime64[D], the day of the bar
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    closes_only: bool

    @classmethod
    def of_closes(cls, symbol: str, source: str, time: Dates, close: Floats) -> Bars:
        """Return bars of a source that knows only closes."""
        return cls(symbol, source, "D1", time, close, close, close, close, closes_only=True)

    def __len__(self) -> int:
        return len(self.close)

    @property
    def newest(self) -> date:
        """The day of the newest bar. There must be one."""
        return to_date(self.time[-1])

    def tail(self, count: int) -> Bars:
        """Return the newest `count` bars."""
        return self._cut(slice(max(0, len(self) - count), None))

    def head(self, count: int) -> Bars:
        """Return the oldest `count` bars."""
        return self._cut(slice(0, count))

    def until(self, day: date) -> Bars:
        """Return the bars up to and including `day`."""
        return self._cut(slice(None, int(np.searchsorted(self.time, np.datetime64(day), side="right"))))

    def _cut(self, part: slice) -> Bars:
        columns = (self.time[part], self.open[part], self.high[part], self.low[part], self.close[part])
        return Bars(self.symbol, self.source, self.interval, *columns, closes_only=self.closes_only)


def to_date(moment: np.datetime64) -> date:
    """Return a datetime64[D] as a date."""
    return date.fromisoformat(str(moment.astype("datetime64[D]")))


def without_unfinished(bars: Bars, today: date) -> tuple[Bars, bool]:
    """Return the bars without today's when that one may still be forming, and whether one was cut.

    A close-only source publishes a bar when it is finished; a source with open, high and low may still change it.
    """
    if bars.closes_only or not len(bars) or bars.newest != today:
        return bars, False
    return bars.head(len(bars) - 1), True


def check(bars: Bars, *, today: date, age_days_max: int, bars_min: int) -> None:
    """Refuse bars that cannot be trusted; the first reason found is the one given.

    Raises:
        BadBars: too short, NaN, not positive, wrong order, duplicates, a hole of more than 7 days, a jump of more
            than 25%, high and low that do not enclose open and close, a stuck feed, too old, or from the future.
    """
    if len(bars) < bars_min:
        raise BadBars(bars.symbol, f"has {len(bars)} bars; at least {bars_min} are needed")
    pip(bars.symbol)
    _check_values(bars)
    _check_order(bars)
    _check_shape(bars)
    _check_moves(bars)
    age_days = (today - bars.newest).days
    if age_days < 0:
        raise BadBars(bars.symbol, f"newest bar {bars.newest} lies in the future; today is {today}")
    if age_days > age_days_max:
        raise BadBars(
            bars.symbol,
            f"newest bar {bars.newest} is {age_days} days old; allowed {age_days_max} (scanner.bar_age_days_max)",
        )


def _check_values(bars: Bars) -> None:
    if np.isnat(bars.time).any():
        raise BadBars(bars.symbol, "a bar has no date")
    for name in ("open", "high", "low", "close"):
        column: Floats = getattr(bars, name)
        if (at := _first(~np.isfinite(column))) is not None:
            raise BadBars(bars.symbol, f"{name} of {bars.time[at]} is {column[at]}, not a finite number")
        if (at := _first(column <= 0)) is not None:
            raise BadBars(bars.symbol, f"{name} of {bars.time[at]} is {column[at]}; prices are above 0")


def _check_order(bars: Bars) -> None:
    steps = np.diff(bars.time).astype(np.int64)
    if (at := _first(steps == 0)) is not None:
        raise BadBars(bars.symbol, f"two bars of {bars.time[at]}")
    if (at := _first(steps < 0)) is not None:
        raise BadBars(
            bars.symbol, f"wrong order: {bars.time[at + 1]} comes after {bars.time[at]}; oldest first is needed"
        )
    if (at := _first(steps > GAP_DAYS_MAX)) is not None:
        raise BadBars(
            bars.symbol,
            f"a hole of {steps[at]} days between {bars.time[at]} and {bars.time[at + 1]}; allowed {GAP_DAYS_MAX}",
        )


def _check_shape(bars: Bars) -> None:
    outside = (bars.high < np.maximum(bars.open, bars.close)) | (bars.low > np.minimum(bars.open, bars.close))
    if (at := _first(outside)) is not None:
        raise BadBars(bars.symbol, f"bar of {bars.time[at]}: high and low do not enclose open and close")


def _check_moves(bars: Bars) -> None:
    moves = np.abs(bars.close[1:] / bars.close[:-1] - 1)
    if (at := _first(moves > JUMP_RATIO_MAX)) is not None:
        raise BadBars(
            bars.symbol,
            f"close jumps by {moves[at]:.0%} on {bars.time[at + 1]} (from {bars.close[at]} to {bars.close[at + 1]}); "
            f"allowed {JUMP_RATIO_MAX:.0%}",
        )
    if len(bars) >= STUCK_BARS and not np.ptp(bars.close[-STUCK_BARS:]):
        raise BadBars(bars.symbol, f"the last {STUCK_BARS} closes are all {bars.close[-1]}: the feed is stuck")


def _first(wrong: NDArray[np.bool_]) -> int | None:
    """Return the first place where `wrong` holds, or None."""
    return int(np.argmax(wrong)) if wrong.any() else None


def on_one_day(found: Sequence[Bars]) -> tuple[list[Bars], list[BadBars]]:
    """Split into those whose newest bar is of the newest day of all, and those that lag behind."""
    if not found:
        return [], []
    newest = max(bars.newest for bars in found)
    current = [bars for bars in found if bars.newest == newest]
    late = [
        BadBars(bars.symbol, f"newest bar is of {bars.newest}; the others have {newest} already")
        for bars in found
        if bars.newest != newest
    ]
    return current, late
