"""How soon the parts of the watch wish for another look. Library of the monitor.

A wish holds until the next round begins, whatever comes of that one: who still wishes says so again. A round that fails
half-way leaves what was wished until then, and beside it the failed poll's own wish.
"""

from __future__ import annotations

AGAIN_S_MIN = 0.2  # what is due already must not make the poll spin


class Wishes:
    """The wishes of one round; the soonest counts, and of one part the last."""

    def __init__(self) -> None:
        self._within_s: dict[str, float] = {}

    def forget(self) -> None:
        """Begin a round: it is what was wished for."""
        self._within_s.clear()

    def look_within(self, seconds: float, *, who: str) -> None:
        """Wish for a look within so many seconds, AGAIN_S_MIN at least."""
        self._within_s[who] = max(AGAIN_S_MIN, seconds)

    def look_at_once(self, *, who: str) -> None:
        """Wish for a look without any wait. Only for what happens once in a process: nothing bounds it here."""
        self._within_s[who] = 0.0

    def withdraw(self, *, who: str) -> None:
        """Wish for nothing any more."""
        self._within_s.pop(who, None)

    def soonest_s(self, cadence_s: float) -> float:
        """Return how long to wait: until the cadence's look, or until one that is wished for sooner."""
        return min((max(AGAIN_S_MIN, cadence_s), *self._within_s.values()))
