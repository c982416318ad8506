"""When the scanner looks for bars of each timeframe. Pure.

Used by the scanner only. A bar is looked for when it has closed and a moment has passed, in which its source puts it
right. Looks cost nothing while nothing can be new: see `actors.market.inputs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from actors.market import intervals
from actors.market.intervals import Interval

HOUR = timedelta(hours=1)


class Schedule:
    """The next look of each timeframe. All are due at the start; of several at once the shortest goes first."""

    def __init__(self, timeframes: Sequence[Interval], *, settle_s: float, longest_s: float) -> None:
        self._settle_s = settle_s
        self._longest_s = longest_s
        begin = datetime.min.replace(tzinfo=UTC)
        self._next = dict.fromkeys(sorted(timeframes, key=intervals.LENGTH.__getitem__), begin)
        self._slept_to = begin

    def due(self, now: datetime) -> list[Interval]:
        """Return what is to be looked at: what the last sleep was for, and what the clock says."""
        return [one for one, at in self._next.items() if at <= max(now, self._slept_to)]

    def looked(self, timeframe: Interval, now: datetime, *, again_s: float | None = None) -> timedelta:
        """Note a look, and return how long it is until the next one: `again_s`, or as the cadence has it."""
        if again_s is None:
            at = next_look(timeframe, now, settle_s=self._settle_s, longest_s=self._longest_s)
        else:
            at = now + timedelta(seconds=again_s)
        self._next[timeframe] = at
        return at - now

    def sleep_s(self, now: datetime, longest_s: float) -> float:
        """Return how long to sleep until the next look, in seconds; at most `longest_s`, and then ask again."""
        next_at = min(self._next.values())
        wait_s = max(0.0, (next_at - now).total_seconds())
        if wait_s <= longest_s:
            self._slept_to = next_at
        return min(wait_s, longest_s)


def next_look(interval: Interval, now: datetime, *, settle_s: float, longest_s: float) -> datetime:
    """Return when to look next: at each close of a bar and, for D1, at the latest after `longest_s`.

    Closes of H1 and H4 are full hours in UTC. A broker may begin its H4 bars at any of them, and at another one after
    a change of its clocks, so that both are looked for every hour; D1 of such a broker is found by `longest_s`.
    """
    settle = timedelta(seconds=settle_s)
    step = intervals.LENGTH["D1"] if interval == "D1" else HOUR
    close = _floor(now - settle, step) + step
    found = close + settle
    return min(found, now + timedelta(seconds=longest_s)) if interval == "D1" else found


def minutes_left(interval: Interval, opened: datetime, now: datetime, *, ttl_minutes: int) -> int:
    """Return for how many whole minutes an intent on the bar that opened at `opened` may wait; 0 or less: too late.

    D1 has its setting. H4 and H1 have no longer than until the next bar closes: then a newer ranking competes.
    """
    if interval == "D1":
        return ttl_minutes
    left = opened + 2 * intervals.LENGTH[interval] - now
    return min(ttl_minutes, int(left.total_seconds() // 60))


def _floor(moment: datetime, step: timedelta) -> datetime:
    begin = datetime(1970, 1, 1, tzinfo=UTC)
    return begin + (moment - begin) // step * step
