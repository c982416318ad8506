"""Which spans of time a source over a network is asked for, so that it is asked only for what is new. Pure.

Used by the scanner, which has requests granted for them, and by its child process, which makes them: both count alike.
"""

from __future__ import annotations

from datetime import datetime

from actors.market import intervals, sessions
from actors.market.cache import Row
from actors.market.intervals import Interval
from actors.market.sessions import Holidays

OVERLAP_BARS = 3  # finished bars that are asked for again, to see that the source still says the same
SPAN_OF_BARS = 1.5  # calendar time for so many bars: weekends and holidays


def pieces(
    last: Row | None, interval: Interval, now: datetime, *, window: int, piece_bars: int, holidays: Holidays = ()
) -> list[tuple[datetime, datetime]]:
    """Return the spans to ask for, oldest first, one a request; none when no bar after `last` can have closed.

    The first one reaches back over `OVERLAP_BARS` bars of trading time at least.
    """
    length = intervals.LENGTH[interval]
    if last is None:
        since = now - SPAN_OF_BARS * window * length
    elif sessions.next_close(interval, last.opened, holidays) > now:
        return []
    else:
        since = max(last.opened - OVERLAP_BARS * length, now - SPAN_OF_BARS * window * length)
    since = since.replace(microsecond=0)
    found: list[tuple[datetime, datetime]] = []
    while since < now:
        until = min(now, since + piece_bars * length)
        found.append((since, until))
        since = until
    return found
