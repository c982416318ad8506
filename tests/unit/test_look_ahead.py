"""No signal knows what came later: the data is cut at every bar, and each cut gives what the full run gave there."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from actors.market import momentum, panel, ranking, rating, train, walk_forward
from actors.market.bars import Bars, Floats
from actors.market.model import Model
from bus.records import Signal
from tests.kit import market

COUNT, FIRST, TOP_K = 420, 330, 2  # momentum looks back 250 bars and compares with 60


@functools.cache
def pairs() -> list[Bars]:
    return [market.some_bars(symbol, COUNT, seed=seed) for seed, symbol in enumerate(market.FIVE, start=1)]


@pytest.fixture(scope="module")
def found() -> panel.Panel:
    return panel.build(pairs())


@pytest.fixture(scope="module")
def ranker() -> Model:
    """A model that learned from the bars before the first cut."""
    early = panel.build([bars.head(FIRST) for bars in pairs()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(train.model.PARAMETERS, "min_data_in_leaf", 5)  # so few bars, and still trees with splits
        return Model(*train.train(early, source="test", fingerprint="0" * 64, seeds=1))


def as_said(signals: tuple[Signal, ...]) -> list[tuple[str, str, str, str, list[float]]]:
    """Return what a signal says, its figures rounded: they come from sums over windows of another beginning."""
    return [
        (one.symbol, one.bar_time, one.side_hint, one.confidence,
         [round(x, 9) for x in (one.score, one.score_gap, one.drop_distance, one.topk_spread, one.close)])
        for one in signals
    ]  # fmt: skip


def full_run(found: panel.Panel, scores: Floats, row: int, terciles: list[tuple[float, float]]) -> object:
    """Return what a run over the whole history says of one bar, read off its arrays."""
    closes = {bars.symbol: float(bars.close[COUNT - len(found.days) + row]) for bars in pairs()}
    centred = scores[row] - scores[row].mean()
    order = sorted(range(len(found.symbols)), key=lambda at: (-centred[at], found.symbols[at]))
    side = {1.0: "BUY", -1.0: "SELL", 0.0: "HOLD"}
    said = []
    for rank in range(TOP_K):
        at, after = order[rank], order[rank + 1]
        gap = centred[at] - centred[after]
        figures = (
            centred[at], gap, centred[at] - centred[order[TOP_K]], centred[order[0]] - centred[order[TOP_K - 1]],
            closes[found.symbols[at]],
        )  # fmt: skip
        said.append(
            (found.symbols[at], found.label(row), side[float(found.direction[row, at])],
             ranking.confidence(gap, terciles[rank]), [round(float(x), 9) for x in figures])
        )  # fmt: skip
    return said


def test_the_model_ranks_every_bar_as_if_no_later_one_existed(found: panel.Panel, ranker: Model) -> None:
    scores = np.array([ranker.scores(row) for row in found.columns])
    terciles = list(ranker.card.gap_terciles)
    changes = set()
    for length in range(FIRST, COUNT + 1):
        cut = [bars.head(length) for bars in pairs()]
        picks = ranking.top(cut, rating.by_model(ranker, cut), top_k=TOP_K, correlation_max=1.0)
        row = len(found.days) - (COUNT - length) - 1
        assert as_said(picks.signals) == full_run(found, scores, row, terciles), f"cut after {length} bars"
        changes.add(tuple(one.symbol for one in picks.signals))
    assert len(changes) > 5  # or it would say nothing


def test_momentum_ranks_every_bar_as_if_no_later_one_existed(found: panel.Panel) -> None:
    scores = momentum.on(found.days, pairs())
    for length in range(FIRST, COUNT + 1):
        cut = [bars.head(length) for bars in pairs()]
        scored = momentum.scored(cut)
        picks = ranking.top(cut, scored, top_k=TOP_K, correlation_max=1.0)
        row = len(found.days) - (COUNT - length) - 1
        # The newest bar's own gaps are not among those that it is compared with.
        earlier = momentum.on(pairs()[0].time[250 : length - 1], pairs())
        np.testing.assert_allclose(scored.gap_terciles, train.gap_terciles(earlier), rtol=1e-9)
        assert as_said(picks.signals) == full_run(found, scores, row, list(train.gap_terciles(earlier)))


def test_every_cut_of_a_walk_forward_has_learned_what_the_full_one_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk_forward, "TRAIN_BARS_MIN", 30)
    monkeypatch.setattr("actors.market.model.ROUNDS", 3)
    monkeypatch.setitem(train.model.PARAMETERS, "min_data_in_leaf", 5)
    count, seed = 120, 20_260_216
    dice = np.random.default_rng(seed)
    columns, outcome = dice.normal(size=(count, 5, 6)), dice.normal(size=(count, 5))
    days = np.array([f"{2000 + at // 40}-01-01" for at in range(count)], dtype="datetime64[s]")
    days += np.arange(count) * np.timedelta64(1, "D") % np.timedelta64(40, "D")
    effort = walk_forward.Effort(60, 1, lambda what: None)
    outcome[-panel.HORIZON_BARS :] = np.nan
    full = walk_forward.scores(days, columns, outcome, effort, name="full")
    assert np.isfinite(full[40:]).all()
    assert np.isnan(full[:40]).all()
    for length in range(1, count + 1):
        known = outcome[:length].copy()
        known[-panel.HORIZON_BARS :] = np.nan  # as on that day
        cut = walk_forward.scores(days[:length], columns[:length], known, effort, name="cut")
        assert np.array_equal(cut, full[:length], equal_nan=True), f"seed {seed}: cut after {length} bars"


def test_an_outcome_reaches_into_the_embargo_and_not_into_the_scored_bars() -> None:
    days = market.business_days(1_400).astype("datetime64[s]")
    planned = list(walk_forward.folds(days, 600))
    assert [fold.year for fold in planned] == [2023, 2024, 2025, 2026]
    for fold in planned:
        assert days[fold.first].astype("datetime64[Y]").astype(int) + 1970 == fold.year
        assert fold.learn_last - 1 + panel.HORIZON_BARS < fold.first
        assert fold.learn_last - fold.learn_first <= 600
