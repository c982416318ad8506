"""The baseline that needs no training: the momentum of 250 trading days, along the trend.

Runs in the scanner's child process and in `pilot scan`. Pure. A pair scores high when the move of the last year goes
where the trend rule points, and is large against its own noise. Out of sample it did no worse than the trained model;
neither promises an edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

from actors.market import features, panel, train, windows
from actors.market.bars import Bars, Floats, Times
from actors.market.errors import ScanError
from actors.market.intervals import Interval
from actors.market.ranking import Scored

BARS = windows.MOMENTUM_BARS
PAST_MIN = 60  # bars with a score before the newest, to say how clear this ranking is against them


def scored(all_bars: Sequence[Bars]) -> Scored:
    """Return the scores of the newest common bar, and how clear past rankings were.

    Raises:
        ScanError: the pairs share too few bars.
    """
    interval = all_bars[0].interval
    _, logs, trends = _side_by_side(all_bars)
    past = history(logs, trends, interval)
    complete = panel.whole(past)
    if complete.sum() <= PAST_MIN or not complete[-1]:
        raise ScanError(
            f"momentum of {interval} looks back {BARS[interval]:,} bars and compares with {PAST_MIN} earlier ones; "
            f"the pairs share {len(logs):,} bars. Bring a longer history"
        )
    noise = np.stack([features.volatility(column, features.VOLATILITY_BARS) for column in logs.T], axis=1)
    outcome = panel.outcomes(logs, features.direction(trends), noise)
    known = complete & panel.whole(outcome)
    return Scored(
        values=past[-1],
        gap_terciles=train.gap_terciles(past[complete][:-1]),
        model_id=f"momentum-{BARS[interval]}",
        rank_ic=train.measure(past[known], outcome[known]).rank_ic,
    )


def history(logs: Floats, trends: Floats, interval: Interval) -> Floats:
    """Return the score of every bar and pair, both inputs (bars, pairs); NaN where there is none yet.

    sign(trend) * (log close[t] - log close[t - n]) / (60-bar volatility * sqrt(n)), n = BARS[interval]. Of D1 it is
    the column ret_250.
    """
    n = BARS[interval]
    noise = np.stack([features.volatility(column, 60) for column in logs.T], axis=1)
    moved = np.stack([features.change(column, n) if len(column) > n else np.full(len(column), np.nan)
                      for column in logs.T], axis=1)  # fmt: skip
    sign = np.where(np.isnan(trends), np.nan, np.where(trends < 0, -1.0, 1.0))
    found: Floats = sign * moved / (np.where(noise > 0, noise, np.nan) * np.sqrt(n))
    return found


def on(days: Times, all_bars: Sequence[Bars]) -> Floats:
    """Return the scores of these bars, which all pairs must share, (days, pairs); NaN where there is none yet."""
    shared, logs, trends = _side_by_side(all_bars)
    return history(logs, trends, all_bars[0].interval)[np.searchsorted(shared, days)]


def _side_by_side(all_bars: Sequence[Bars]) -> tuple[Times, Floats, Floats]:
    """Return the bars that all pairs share, and there the logarithms of closes and the trend rule, (bars, pairs)."""
    shared: Times = reduce(np.intersect1d, [bars.time for bars in all_bars])
    logs, trends = [], []
    for bars in all_bars:
        at = np.searchsorted(bars.time, shared)
        x = np.log(bars.close)
        logs.append(x[at])
        trends.append(features.trend(x)[at])
    return shared, np.stack(logs, axis=1), np.stack(trends, axis=1)
