"""What a verdict would have brought on the daily bars after it: stop or target first, in multiples of the risk.

Used by `pilot analysts report` for verdicts that were not traded, and for the traded ones beside them, so that both are
measured alike. Pure. Knows no spread, commission or swap, and on closes alone neither the high nor the low of a day.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from bus.vocabulary import Side


class Bar(Struct, frozen=True, kw_only=True):
    """One finished day, later than the verdict's. With closes only all four are the close."""

    open: float
    high: float
    low: float
    close: float


class Outcome(Struct, frozen=True, kw_only=True):
    """How it ended: R is -1 at the stop, target over stop at the target; None while neither was hit."""

    end: Literal["stop", "target", "open"]
    r: float | None = None
    days: int = 0  # bars until the end


def outcome(
    side: Side, entry: float, bars: Iterable[Bar], *, sl: float, tp: float, closes_only: bool = False
) -> Outcome:
    """Return what came of a position at `entry` with stop and target `sl` and `tp` away, all as prices.

    A day that touches both counts as stopped. A day that opens beyond the stop fills there, which is worse than -1; a
    target never fills better than asked. Of closes nobody knows when the stop was passed: it fills at its price.
    """
    sign = 1 if side == "BUY" else -1
    stop, target = entry - sign * sl, entry + sign * tp
    days = 0
    for bar in bars:
        days += 1
        worst, best = (bar.low, bar.high) if side == "BUY" else (bar.high, bar.low)
        if sign * (worst - stop) <= 0:
            is_gap = not closes_only and sign * (bar.open - stop) < 0
            return Outcome(end="stop", r=sign * (bar.open - entry) / sl if is_gap else -1.0, days=days)
        if sign * (best - target) >= 0:
            return Outcome(end="target", r=tp / sl, days=days)
    return Outcome(end="open", days=days)
