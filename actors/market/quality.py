"""Whether bars can be what the market did: bar by bar before they are cached, and as a whole before they are ranked.

Runs in the scanner's child process. Judges only: what is bad is named with its reason and never repaired. Trading time,
with its weekends and holidays, is the measure of holes and of age.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple

import numpy as np

from actors.market import intervals, sessions
from actors.market.bars import JUMP_RATIO_MAX, Bars, to_datetime
from actors.market.cache import Row
from actors.market.errors import BadBar, BadBars
from actors.market.intervals import Interval
from actors.market.sessions import Holidays

RANGE_RATIO_MAX = 0.25  # high over low in one bar; beyond it is a broken tick, or a day on which nobody should trade
REWRITE_RATIO_MAX = 0.0005  # 5 pips of EURUSD: late ticks move a finished bar by less
# Trading time that may be missing between two bars: Easter's two bank holidays of some brokers, a pause of an evening.
HOLE_S_MAX: dict[Interval, float] = {"D1": 48 * 3_600.0, "H4": 8 * 3_600.0, "H1": 4 * 3_600.0}


class Refused(NamedTuple):
    """A bar that is not used, and why."""

    row: Row
    reason: str


def sort_out(
    rows: Sequence[Row], last: Row | None, interval: Interval, now: datetime
) -> tuple[list[Row], list[Refused]]:
    """Split fetched bars into those to keep behind `last`, oldest first, and those that are wrong.

    Bars that are not finished, and those at or before `last`, are in neither.
    """
    length_s, now_s = intervals.LENGTH[interval].total_seconds(), now.timestamp()  # numbers: any time can be added to
    good: list[Row] = []
    bad: list[Refused] = []
    at_once = _by_time(rows)
    for time in sorted(at_once):
        versions = at_once[time]
        row, before = versions[0], good[-1] if good else last
        if last is not None and time <= last.time:
            continue
        if time > now_s + length_s:  # two clocks differ by less
            bad.extend(Refused(one, "opens in the future") for one in versions)
        elif time + length_s > now_s:
            continue
        elif len(versions) > 1:
            bad.extend(Refused(one, f"{len(versions)} different bars of one time") for one in versions)
        elif reason := _wrong(row, before):
            bad.append(Refused(row, reason))
        else:
            good.append(row)
    return good, bad


def _by_time(rows: Sequence[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for row in dict.fromkeys(rows):
        found.setdefault(row.time, []).append(row)
    return found


def _wrong(row: Row, before: Row | None) -> str:
    """Return what is wrong with a bar, or nothing."""
    prices = row[1:]
    if not all(math.isfinite(price) for price in prices):
        return "a price is not a finite number"
    if min(prices) <= 0:
        return "a price is not above 0"
    if row.high < max(prices) or row.low > min(prices):
        return "high and low do not enclose open and close"
    if row.high == row.low:
        return "open, high, low and close are one price: the market was closed, or the source filled a hole"
    if row.high / row.low - 1 > RANGE_RATIO_MAX:
        return f"a range of {row.high / row.low - 1:.0%}; allowed {RANGE_RATIO_MAX:.0%}"
    if before is not None and (jump := abs(row.close / before.close - 1)) > JUMP_RATIO_MAX:
        return f"close jumps by {jump:.0%} from {before.close}; allowed {JUMP_RATIO_MAX:.0%}"
    return ""


def rewritten(kept: Sequence[Row], fetched: Sequence[Row]) -> str:
    """Return how a source contradicts what it said before, or nothing. `kept` are the bars that were asked for again.

    A finished bar does not change. One that moved by more than `REWRITE_RATIO_MAX`, or is gone, means another history:
    columns computed from half of each would describe no market.
    """
    said = {row.time: row for row in fetched}
    for row in kept:
        now = said.get(row.time)
        if now is None:
            return f"the bar of {row.opened:%Y-%m-%dT%H:%MZ} is gone from the source"
        for name, old, new in zip(Row._fields[1:], row[1:], now[1:], strict=True):
            if not abs(new / old - 1) <= REWRITE_RATIO_MAX:  # NaN is not within it
                return (
                    f"{name} of {row.opened:%Y-%m-%dT%H:%MZ} was {old} and is {new} now; "
                    f"allowed {REWRITE_RATIO_MAX:.2%} of difference"
                )
    return ""


def check(bars: Bars, *, now: datetime, lacking_max: int, holidays: Holidays = ()) -> None:
    """Refuse bars with a hole in trading time, or whose newest lacks too many that should be there by now.

    Close-only D1 fixings keep holidays of their own: they are judged by calendar days, in `bars.check`.

    Raises:
        BadBars: with the place and the limit.
    """
    if bars.interval == "D1":
        if not bars.closes_only:
            _check_days(bars, now.date(), lacking_max, holidays)
        return
    closes = bars.close_time
    for at in np.flatnonzero(bars.time[1:] != closes[:-1]).tolist():
        begin, end = to_datetime(closes[at]), to_datetime(bars.time[at + 1])
        if end < begin:
            # A broker's bars are shorter where its clocks changed; two of one time are refused elsewhere.
            continue
        missing_s = sessions.open_s(begin, end, holidays)
        if missing_s > HOLE_S_MAX[bars.interval]:
            raise BadBar(bars.symbol, _hole(bars, at, timedelta(seconds=missing_s)))
    length = intervals.LENGTH[bars.interval]
    lacking = int(sessions.open_s(to_datetime(closes[-1]), now, holidays) // length.total_seconds())
    if lacking > lacking_max:
        raise BadBars(bars.symbol, _stale(bars, lacking, lacking_max))


def _check_days(bars: Bars, today: date, lacking_max: int, holidays: Holidays) -> None:
    steps = np.diff(bars.time).astype(np.int64) // 86_400
    for at in np.flatnonzero(steps > 1).tolist():
        first, last = to_datetime(bars.time[at]).date(), to_datetime(bars.time[at + 1]).date()
        missing = timedelta(days=sessions.trading_days_between(first, last, holidays))
        if missing.total_seconds() > HOLE_S_MAX["D1"]:
            raise BadBar(bars.symbol, _hole(bars, at, missing))
    lacking = sessions.trading_days_between(bars.newest.date(), today, holidays)
    if lacking > lacking_max:
        raise BadBars(bars.symbol, _stale(bars, lacking, lacking_max))


def _hole(bars: Bars, at: int, missing: timedelta) -> str:
    hours = missing.total_seconds() / 3_600
    return (
        f"a hole of {hours:g} hours of trading between {bars.label(at)} and {bars.label(at + 1)}; "
        f"allowed {HOLE_S_MAX[bars.interval] / 3_600:g}"
    )


def _stale(bars: Bars, lacking: int, lacking_max: int) -> str:
    return (
        f"newest bar {bars.bar_time}; {lacking} {bars.interval} bars of trading time came after it; allowed "
        f"{lacking_max} (scanner.bar_age_bars_max)"
    )
