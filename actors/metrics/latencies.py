"""How long intents stay in each status before the next one: a histogram over the whole journal, followed row by row.

Library of the dashboard process. Holds a fixed number of counters and no intent. The journal forgets nothing, so that
what is counted from its beginning is the same after every restart of whoever counts.
"""

from __future__ import annotations

from bisect import bisect_left

from bus import clock
from store import gauges
from store.gauges import Arrow, Gauges

BOUNDS_S = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0, 604_800.0)
ROWS_A_LOOK_MAX = 100_000


class Latencies:
    """The counters. `seconds` by (status, next status), `arrows` by event."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.seconds = {step: [0] * (len(BOUNDS_S) + 1) for step in sorted(gauges.STEPS)}
        self.sums_s = dict.fromkeys(self.seconds, 0.0)
        self.arrows = dict.fromkeys(gauges.EVENTS, 0)
        self._seen = (0, "")  # number and hash of the newest row that was counted

    def follow(self, found: Gauges) -> bool:
        """Count what was written since the last call; return False while there is more than one look may take.

        A journal that is another one (a restored backup) is counted anew.
        """
        if self._seen[0] and found.hash_of(self._seen[0]) != self._seen[1]:
            self._begin()
        rows = 0
        while rows < ROWS_A_LOOK_MAX:
            page = found.arrows(self._seen[0])
            for arrow in page:
                self._count(arrow)
            if page:
                self._seen = (page[-1].seq, page[-1].hash)
            rows += len(page)
            if len(page) < gauges.PAGE_ROWS:
                return True
        return False

    def _count(self, arrow: Arrow) -> None:
        if arrow.event in self.arrows:
            self.arrows[arrow.event] += 1
        step = (arrow.before or "", arrow.after)
        if step not in self.seconds or arrow.entered_at is None:
            return
        # A wall clock that was set back would make it negative.
        stayed_s = max(0.0, (clock.parse(arrow.at) - clock.parse(arrow.entered_at)).total_seconds())
        self.seconds[step][bisect_left(BOUNDS_S, stayed_s)] += 1
        self.sums_s[step] += stayed_s
