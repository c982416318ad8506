"""What the bars of a signal are called in a text, and what their volatility is over a day.

Used by the llm process. Pure. A signal's volatility is that of one of its own bars: only on D1 is that a day's.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import cast

from actors.market import intervals
from bus.records import Signal

BARS = {"D1": "day", "H4": "4-hour bar", "H1": "1-hour bar"}


def bar(timeframe: str) -> str:
    """Return one bar in words that stand behind "a": day, 1-hour bar."""
    return BARS.get(timeframe, f"{timeframe} bar")


def volatility(timeframe: str) -> str:
    """Return a signal's volatility in words that stand behind "the": daily volatility, volatility of a 1-hour bar."""
    return "daily volatility" if timeframe == "D1" else f"volatility of a {bar(timeframe)}"


def daily_pips(signal: Signal) -> float | None:
    """Return a signal's volatility over 24 hours, in pips; None for bars of unknown length.

    That of one bar times the square root of the bars in 24 hours, through which FX trades: steps that know nothing of
    each other add up by their squares.
    """
    length = intervals.LENGTH.get(cast(intervals.Interval, signal.timeframe))
    return None if length is None else signal.volatility_pips * math.sqrt(timedelta(days=1) / length)
