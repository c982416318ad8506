"""One-time codes behind the buttons that confirm a change. Pure but for the clock and the chance it is given.

Library of the alerts process. Kept in memory only: a code of an earlier life confirms nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from bus.clock import Clock

OPEN_MAX = 20

Change = Literal["pause", "resume", "flatten"]


class Asked(Struct, frozen=True, kw_only=True):
    """A change that somebody asked for and has not confirmed yet. `halt_ids`: what `resume` lifts, no more."""

    change: Change
    chat: int
    user: int
    reason: str
    halt_ids: tuple[int, ...] = ()


class Codes:
    """The codes that were given out. Each confirms one change, once, by whoever asked, where it was asked."""

    def __init__(self, clock: Clock, *, lifetime_s: float, make: Callable[[], str]) -> None:
        self._clock = clock
        self._lifetime_s = lifetime_s
        self._make = make
        self._open: OrderedDict[str, tuple[Asked, float]] = OrderedDict()

    def issue(self, asked: Asked) -> str:
        """Return a new code for a change."""
        code = self._make()
        self._open[code] = (asked, self._clock.monotonic() + self._lifetime_s)
        if len(self._open) > OPEN_MAX:
            self._open.popitem(last=False)
        return code

    def redeem(self, code: str, *, chat: int, user: int) -> Asked | None:
        """Return the change that a code confirms, and forget the code; None: it confirms nothing here and now.

        Somebody else's press leaves the code as it is.
        """
        asked, until_s = self._open.get(code, (None, 0.0))
        if asked is None or (asked.chat, asked.user) != (chat, user):
            return None
        del self._open[code]
        return asked if self._clock.monotonic() <= until_s else None
