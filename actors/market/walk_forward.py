"""Scores of bars that no model had seen: refitted each year on what was known then, never on what came later.

Runs in `pilot scan --evaluate`. Between the last bar that is learned from and the first that is scored lies an embargo
of HORIZON_BARS: an outcome must have been known on the evening before. Saves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from actors.market import train
from actors.market.bars import Floats, Times
from actors.market.panel import HORIZON_BARS

TRAIN_BARS_MIN = 500

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Fold:
    """A model of the rows `learn_first` to `learn_last` scores the rows `first` to `last`; the last ones excluded."""

    year: int
    learn_first: int
    learn_last: int
    first: int
    last: int


@dataclass(frozen=True)
class Effort:
    """How much is learned from and how often; `progress` is told what is being done."""

    train_bars_max: int
    seeds: int
    progress: Progress


def folds(days: Times, train_bars_max: int) -> Iterator[Fold]:
    """Yield one fold a calendar year, from the first year that has TRAIN_BARS_MIN known bars before it."""
    years = days.astype("datetime64[Y]").astype(int) + 1970
    for year in np.unique(years).tolist():
        first, last = np.searchsorted(years, [year, year + 1]).tolist()
        learn_last = first - HORIZON_BARS
        if learn_last >= TRAIN_BARS_MIN:
            yield Fold(year, max(0, learn_last - train_bars_max), learn_last, first, last)


def scores(days: Times, columns: Floats, outcome: Floats, effort: Effort, *, name: str) -> Floats:
    """Return a score a bar and pair, (days, pairs); NaN before the first fold. Learns from `outcome` (days, pairs)."""
    found = np.full(outcome.shape, np.nan)
    planned = list(folds(days, effort.train_bars_max))
    for at, fold in enumerate(planned, start=1):
        effort.progress(f"{name}: {fold.year}, {at} of {len(planned)}")
        learned = slice(fold.learn_first, fold.learn_last)
        boosters = train.fit(columns[learned], outcome[learned], effort.seeds)
        found[fold.first : fold.last] = train.score_days(boosters, columns[fold.first : fold.last])
    return found
