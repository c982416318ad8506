"""All pairs side by side: days x pairs x columns, and the result that the model learns to rank.

Runs in the scanner's child process. Uses only days that every pair has; never fills a hole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from actors.market import features
from actors.market.bars import Bars, Floats, Times, to_datetime
from actors.market.errors import ScanError
from actors.market.intervals import Interval, bar_time

HORIZON_BARS = 5  # the result is measured so many bars ahead: of D1 one trading week


Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Panel:
    """Columns of all pairs on common days, oldest first; every number is finite."""

    symbols: tuple[str, ...]
    interval: Interval
    days: Times  # (days,): the openings of the bars, whatever their length
    columns: Floats  # (days, pairs, len(features.COLUMNS))
    direction: Floats  # (days, pairs): +1, -1 or 0, the side of the trend rule
    outcome: Floats  # (days, pairs): see `outcomes`; the newest HORIZON_BARS days are NaN, not known yet

    @property
    def known(self) -> int:
        """How many days, from the oldest, have an outcome."""
        return max(0, len(self.days) - HORIZON_BARS)

    def label(self, at: int) -> str:
        """Return the text of a bar's time, as signals carry it."""
        return bar_time(self.interval, to_datetime(self.days[at]))


def build(all_bars: Sequence[Bars]) -> Panel:
    """Return the panel of checked bars, from the first day on which every column exists.

    Raises:
        ScanError: the pairs share too few days to compute anything.
    """
    days: Times = reduce(np.intersect1d, [bars.time for bars in all_bars])
    rows = [np.searchsorted(bars.time, days) for bars in all_bars]
    own = np.stack([features.own_columns(bars)[at] for bars, at in zip(all_bars, rows, strict=True)], axis=1)
    columns = np.concatenate([own, features.across(own)], axis=2)
    logs = np.stack([np.log(bars.close)[at] for bars, at in zip(all_bars, rows, strict=True)], axis=1)
    complete = np.isfinite(columns).all(axis=(1, 2))
    if not complete.any() or not complete[-1]:
        raise ScanError(f"{len(all_bars)} pairs share {len(days)} days; not enough to compute the newest day's columns")
    trend = np.stack([features.trend(np.log(bars.close))[at] for bars, at in zip(all_bars, rows, strict=True)], axis=1)
    direction = features.direction(trend)
    result = outcomes(logs, direction, own[:, :, features.OWN.index("vol_20")])
    symbols = tuple(bars.symbol for bars in all_bars)
    return Panel(
        symbols, all_bars[0].interval, days[complete], columns[complete], direction[complete], result[complete]
    )


def whole(values: Floats) -> Flags:
    """Return which rows of (days, pairs) hold numbers only."""
    return np.asarray(np.isfinite(values).all(axis=1), dtype=np.bool_)


def outcomes(log_close: Floats, direction: Floats, volatility: Floats) -> Floats:
    """Return what the trade of the trend rule would have made after HORIZON_BARS days, in standard deviations.

    direction * (log close[t + 5] - log close[t]) / (20-bar volatility * sqrt(5)); costs are not in it. All arrays are
    (days, pairs). The newest 5 days are NaN.
    """
    found = np.full_like(log_close, np.nan)
    ahead = log_close[HORIZON_BARS:] - log_close[:-HORIZON_BARS]
    spread = np.where(volatility > 0, volatility, np.nan)[:-HORIZON_BARS] * np.sqrt(HORIZON_BARS)
    found[:-HORIZON_BARS] = direction[:-HORIZON_BARS] * ahead / spread
    return found
