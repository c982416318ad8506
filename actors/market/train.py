"""Train the ranking and try it on days it has not seen.

Runs in the scanner's child process. Expect little: walk-forward tests of such models on daily FX find a rank
correlation of about +0.01 before costs and none after. The ranking orders candidates; it promises no edge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from actors.market import features, model
from actors.market.bars import Floats
from actors.market.card import Card, Metrics, model_id
from actors.market.errors import ScanError
from actors.market.panel import HORIZON_BARS, Panel

if TYPE_CHECKING:
    import lightgbm

GRADES = 5  # the day's pairs from worst outcome (0) to best (4)
TRIAL_SHARE = 0.2  # the newest fifth of the known days is the trial
TRIAL_DAYS_MIN = 5


def train(found: Panel, *, source: str, fingerprint: str, seeds: int) -> tuple[Card, list[lightgbm.Booster]]:
    """Return card and boosters of a model of all known days; trial models of the older days give metrics and terciles.

    Raises:
        ScanError: too few days with an outcome.
    """
    import lightgbm

    known, cut = found.known, int(found.known * (1 - TRIAL_SHARE))
    if known - cut < TRIAL_DAYS_MIN or cut <= HORIZON_BARS:
        raise ScanError(f"only {known} days with an outcome; raise scanner.train_bars_max or bring a longer history")
    columns, outcome = found.columns[:known], found.outcome[:known]
    # Embargo: outcomes of the last days before the cut reach into the trial.
    trial = fit(columns[: cut - HORIZON_BARS], outcome[: cut - HORIZON_BARS], seeds)
    scores = score_days(trial, columns[cut:])
    card = Card(
        format=model.FORMAT,
        model_id=model_id(fingerprint),
        fingerprint=fingerprint,
        timeframe=found.interval,
        source=source,
        symbols=found.symbols,
        columns=features.COLUMNS,
        first_day=found.label(0),
        last_day=found.label(-1),
        last_known_day=found.label(known - 1),
        horizon_bars=HORIZON_BARS,
        parameters=model.PARAMETERS,
        rounds=model.ROUNDS,
        seeds=seeds,
        lightgbm=lightgbm.__version__,
        gap_terciles=gap_terciles(scores),
        metrics=measure(scores, outcome[cut:]),
        files={},
    )
    return card, fit(columns, outcome, seeds)


def fit(columns: Floats, outcome: Floats, seeds: int) -> list[lightgbm.Booster]:
    """Return one booster a seed, fitted to rank each day's pairs by outcome. Same input, same boosters.

    `columns` is (days, pairs, columns), `outcome` (days, pairs).
    """
    import lightgbm

    days, pairs, width = columns.shape
    data = lightgbm.Dataset(
        columns.reshape(days * pairs, width),
        label=grades(outcome).reshape(-1),
        group=np.full(days, pairs),
        params={name: model.PARAMETERS[name] for name in ("max_bin", "min_data_in_leaf", "num_threads", "verbosity")},
    )
    fixed = {**model.PARAMETERS, "label_gain": list(range(GRADES))}
    # The bins are shared; only the draws of rows and columns differ from seed to seed.
    return [
        lightgbm.train(
            {**fixed, "bagging_seed": seed + 1, "feature_fraction_seed": seed + 1}, data, num_boost_round=model.ROUNDS
        )
        for seed in range(seeds)
    ]


def grades(outcome: Floats) -> NDArray[np.int64]:
    """Return the grade 0..GRADES-1 of each pair within its day; equal outcomes get equal grades."""
    found: NDArray[np.int64] = (ranks(outcome) * GRADES / outcome.shape[1]).astype(np.int64)
    return found


def ranks(values: Floats) -> Floats:
    """Return the rank 0..pairs-1 of each value in its row (days, pairs), smallest first; equal ones share the mean."""
    one, other = values[:, :, None], values[:, None, :]
    found: Floats = (one > other).sum(axis=2) + ((one == other).sum(axis=2) - 1) / 2
    return found


def score_days(boosters: list[lightgbm.Booster], columns: Floats) -> Floats:
    """Return raw scores (days, pairs) of columns (days, pairs, columns)."""
    days, pairs, width = columns.shape
    return model.mean_score(boosters, columns.reshape(days * pairs, width)).reshape(days, pairs)


def gap_terciles(scores: Floats) -> tuple[tuple[float, float], ...]:
    """Return, for each rank but the last, the terciles of its past gaps to the next rank. `scores` is (days, pairs)."""
    ordered = -np.sort(-scores, axis=1)
    gaps = ordered[:, :-1] - ordered[:, 1:]
    low, high = np.quantile(gaps, [1 / 3, 2 / 3], axis=0)
    return tuple((float(a), float(b)) for a, b in zip(low, high, strict=True))


def measure(scores: Floats, outcome: Floats) -> Metrics:
    """Return how well scores ranked outcomes, both (days, pairs): mean daily rank correlation and its naive t value."""
    daily = rank_correlation(scores, outcome)
    spread = float(daily.std(ddof=1))
    t = float(daily.mean() / spread * np.sqrt(len(daily))) if spread > 0 else 0.0
    return Metrics(days=len(daily), rank_ic=float(daily.mean()), rank_ic_t=t)


def rank_correlation(a: Floats, b: Floats) -> Floats:
    """Return Spearman's rank correlation of each row of (days, pairs), shape (days,); 0 where a row is all equal."""
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    size = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    return np.where(size == 0, 0.0, (x * y).sum(axis=1) / np.where(size == 0, 1.0, size))
