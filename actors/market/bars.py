"""Bars as columns, and the checks that decide whether a symbol may be ranked at all.

Runs in the scanner's child process. Never repairs: what is wrong is refused with the bar's date and the limit.
Floats are allowed here: these are prices to compute with, never money.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from actors.market.errors import BadBar, BadBars
from actors.market.intervals import LENGTH, Interval, bar_time
from actors.market.pips import pip as pip

GAP_DAYS_MAX = 7  # weekends and holidays of a fixing are shorter; anything longer is a hole
JUMP_RATIO_MAX = 0.25  # close to close in one bar; the franc's worst day of 2015 was below 20%
TIME_MIN, TIME_END = np.datetime64("1900-01-01T00:00:00"), np.datetime64("3000-01-01T00:00:00")
STUCK_BARS = 20  # a feed that repeats one close for so long no longer works

Floats = NDArray[np.float64]
Times = NDArray[np.datetime64]
Dates = Times


@dataclass(frozen=True)
class Bars:
    """The bars of one symbol and interval, oldest first, all columns of one length.

    `time` is the opening of each bar in UTC, datetime64[s]; of a D1 bar it is 00:00 of its trade date. With
    `closes_only` the source knows one price a bar, and open, high and low repeat the close.
    """

    symbol: str
    source: str
    interval: Interval
    time: Times
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    closes_only: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "time", self.time.astype("datetime64[s]"))

    @classmethod
    def of_closes(cls, symbol: str, source: str, time: Times, close: Floats, interval: Interval = "D1") -> Bars:
        """Return bars of a source that knows only closes."""
        return cls(symbol, source, interval, time, close, close, close, close, closes_only=True)

    def __len__(self) -> int:
        return len(self.close)

    @property
    def newest(self) -> datetime:
        """The opening of the newest bar, in UTC. There must be one."""
        return to_datetime(self.time[-1])

    @property
    def close_time(self) -> Times:
        """When each bar ends: `time` and the length of the interval, datetime64[s]."""
        return self.time + np.timedelta64(int(LENGTH[self.interval].total_seconds()), "s")

    def label(self, at: int) -> str:
        """Return the text of a bar's time, as signals carry it: `2026-02-16` of D1, else `2026-02-16T08:00Z`."""
        moment = self.time[at]
        return "NaT" if np.isnat(moment) else bar_time(self.interval, to_datetime(moment))

    @property
    def bar_time(self) -> str:
        """The text of the newest bar's time. There must be one."""
        return self.label(-1)

    def tail(self, count: int) -> Bars:
        """Return the newest `count` bars."""
        return self._cut(slice(max(0, len(self) - count), None))

    def head(self, count: int) -> Bars:
        """Return the oldest `count` bars."""
        return self._cut(slice(0, count))

    def until(self, moment: date | datetime) -> Bars:
        """Return the bars that open at or before `moment`; a date includes all bars that open on it, in UTC."""
        if isinstance(moment, datetime):
            last = moment.astimezone(UTC).replace(tzinfo=None)
        else:
            last = datetime(moment.year, moment.month, moment.day) + timedelta(days=1, seconds=-1)  # noqa: DTZ001 - UTC
        return self._cut(slice(None, int(np.searchsorted(self.time, np.datetime64(last, "s"), side="right"))))

    def _cut(self, part: slice) -> Bars:
        columns = (self.time[part], self.open[part], self.high[part], self.low[part], self.close[part])
        return Bars(self.symbol, self.source, self.interval, *columns, closes_only=self.closes_only)


def to_date(moment: np.datetime64) -> date:
    """Return the day of a datetime64, in UTC."""
    return date.fromisoformat(str(moment.astype("datetime64[D]")))


def to_datetime(moment: np.datetime64) -> datetime:
    """Return a datetime64 as a datetime in UTC, to the second."""
    return datetime.fromisoformat(str(moment.astype("datetime64[s]"))).replace(tzinfo=UTC)


def check_times(symbol: str, times: Times) -> None:
    """Refuse times that are none, or with which nothing can be computed. Raises BadBar."""
    if np.isnat(times).any():
        raise BadBar(symbol, "a bar has no date")
    if (at := _first((times < TIME_MIN) | (times >= TIME_END))) is not None:
        raise BadBar(symbol, f"a bar of {times[at]}; allowed are the years 1900 to 2999")


def without_unfinished(bars: Bars, today: date, now: datetime | None = None) -> tuple[Bars, str]:
    """Return the bars without those at the end that may still be forming, and the name of the newest one cut.

    A close-only source publishes a D1 bar when it is finished; a source with open, high and low may still change it.
    H4 and H1 bars are finished when their time is over at `now`.
    """
    left = len(bars)
    if not left:
        return bars, ""
    if bars.interval == "D1":
        if not bars.closes_only and bars.newest.date() == today:
            left -= 1
    elif now is not None:
        closes = bars.close_time
        while left and to_datetime(closes[left - 1]) > now:
            left -= 1
    return (bars.head(left), bars.label(-1)) if left < len(bars) else (bars, "")


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
    newest = bars.newest.date()
    age_days = (today - newest).days
    if age_days < 0:
        raise BadBars(bars.symbol, f"newest bar {newest} lies in the future; today is {today}")
    if age_days > age_days_max:
        raise BadBars(
            bars.symbol,
            f"newest bar {newest} is {age_days} days old; allowed {age_days_max} (scanner.bar_age_days_max)",
        )


def _check_values(bars: Bars) -> None:
    check_times(bars.symbol, bars.time)
    for name in ("open", "high", "low", "close"):
        column: Floats = getattr(bars, name)
        if (at := _first(~np.isfinite(column))) is not None:
            raise BadBar(bars.symbol, f"{name} of {bars.label(at)} is {column[at]}, not a finite number")
        if (at := _first(column <= 0)) is not None:
            raise BadBar(bars.symbol, f"{name} of {bars.label(at)} is {column[at]}; prices are above 0")


def _check_order(bars: Bars) -> None:
    steps = np.diff(bars.time).astype(np.int64) / 86_400
    if (at := _first(steps == 0)) is not None:
        raise BadBar(bars.symbol, f"two bars of {bars.label(at)}")
    if (at := _first(steps < 0)) is not None:
        raise BadBar(
            bars.symbol, f"wrong order: {bars.label(at + 1)} comes after {bars.label(at)}; oldest first is needed"
        )
    if (at := _first(steps > GAP_DAYS_MAX)) is not None:
        raise BadBar(
            bars.symbol,
            f"a hole of {steps[at]:g} days between {bars.label(at)} and {bars.label(at + 1)}; allowed {GAP_DAYS_MAX}",
        )


def _check_shape(bars: Bars) -> None:
    outside = (bars.high < np.maximum(bars.open, bars.close)) | (bars.low > np.minimum(bars.open, bars.close))
    if (at := _first(outside)) is not None:
        raise BadBar(bars.symbol, f"bar of {bars.label(at)}: high and low do not enclose open and close")


def _check_moves(bars: Bars) -> None:
    moves = np.abs(bars.close[1:] / bars.close[:-1] - 1)
    if (at := _first(moves > JUMP_RATIO_MAX)) is not None:
        raise BadBar(
            bars.symbol,
            f"close jumps by {moves[at]:.0%} on {bars.label(at + 1)} (from {bars.close[at]} to {bars.close[at + 1]}); "
            f"allowed {JUMP_RATIO_MAX:.0%}",
        )
    if len(bars) >= STUCK_BARS and not np.ptp(bars.close[-STUCK_BARS:]):
        raise BadBar(bars.symbol, f"the last {STUCK_BARS} closes are all {bars.close[-1]}: the feed is stuck")


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
        BadBars(
            bars.symbol, f"newest bar is of {bars.bar_time}; the others have {bar_time(bars.interval, newest)} already"
        )
        for bars in found
        if bars.newest != newest
    ]
    return current, late
