"""How many bars a scan reads. Used by the scanner and its child process. Pure; imports nothing heavy."""

from __future__ import annotations

from actors.market.intervals import Interval
from config.settings import Scanner

LOOKBACK_BARS = 270  # for the first complete row of columns: 250 volatilities of 20 returns each
HISTORY_BARS_MAX = 20_000  # when a day of the past or an evaluation is asked for

# The same stretch of the calendar, not the same number of bars: what is known of momentum is known of about a year.
MOMENTUM_BARS: dict[Interval, int] = {"D1": 250, "H4": 1_500, "H1": 6_000}
MOMENTUM_PAST_BARS = 500  # earlier scores, to say how clear a ranking is against them


def bars(wanted: Scanner, interval: Interval) -> int:
    """Return how many of the newest bars are needed to score the newest one, and to train when that is due."""
    if wanted.model == "momentum":
        return MOMENTUM_BARS[interval] + MOMENTUM_PAST_BARS + 1
    return wanted.train_bars_max + LOOKBACK_BARS
