"""How old a permission or the figures behind it are, by both clocks, also for the next life of the executor.

Library of the executor; no I/O. The monotonic clock stands still while a machine sleeps and means nothing after a
boot; the wall clock can be set back. The age is what the worse of the two says.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from bus.clock import Clock, iso, parse


class Licence(Struct, frozen=True):
    """When a reservation was asked for, or figures were read, on both clocks."""

    asked_s: float
    asked_at: datetime

    def age_s(self, clock: Clock) -> float:
        """Return the age by the clock that says more."""
        return max(clock.monotonic() - self.asked_s, (clock.now() - self.asked_at).total_seconds())


def mark(figures: Licence, boot: str) -> str:
    """Return `figures` as text that a later life on the same boot can read. `boot` names the boot."""
    return f"{iso(figures.asked_at)} {figures.asked_s!r} {boot}"


def of_mark(text: str | None, boot: str) -> Licence | None:
    """Return what `mark` wrote; None for nothing, for another boot, and for what cannot be read: nobody knows then."""
    at, _, rest = (text or "").partition(" ")
    seconds, _, written_on = rest.partition(" ")
    if not boot or written_on != boot:
        return None
    try:
        return Licence(float(seconds), parse(at))
    except ValueError:
        return None
