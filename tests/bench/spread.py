"""What several laps showed of one figure. For every bench that runs more than once."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """The middle one of the laps, the lowest and the highest."""

    median: float
    low: float
    high: float

    def said(self, digits: int = 0) -> str:
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f}-{self.high:,.{digits}f})"


def of(values: Sequence[float | None]) -> Spread | None:
    """Return the spread of what is known, None when nothing is."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(median=round(statistics.median(known), 2), low=round(min(known), 2), high=round(max(known), 2))
