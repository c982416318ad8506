"""The training finds what is planted, finds nothing in noise, and gives the same model for the same data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from actors.market import features, panel, train
from actors.market.bars import Bars, Floats
from actors.market.errors import ScanError
from tests.kit import market

DAYS, PAIRS, WIDTH, SEED = 900, 10, 12, 20_260_216


def noise_columns() -> Floats:
    return np.random.default_rng(SEED).normal(size=(DAYS, PAIRS, WIDTH))


def trial_ic(columns: Floats, outcome: Floats) -> float:
    boosters = train.fit(columns[:600], outcome[:600], seeds=2)
    return train.measure(train.score_days(boosters, columns[600:]), outcome[600:]).rank_ic


def test_a_planted_signal_is_found_and_a_stronger_one_more() -> None:
    columns = noise_columns()
    noise = np.random.default_rng(SEED + 1).normal(size=(DAYS, PAIRS))
    weak, strong = (trial_ic(columns, size * columns[:, :, 4] + noise) for size in (0.2, 1.0))
    assert weak > 0.08, f"seed {SEED}: rank IC {weak}"
    assert strong > 0.5, f"seed {SEED}: rank IC {strong}"


def test_nothing_is_found_when_the_outcomes_are_shuffled() -> None:
    columns = noise_columns()
    outcome = columns[:, :, 4] + np.random.default_rng(SEED + 1).normal(size=(DAYS, PAIRS))
    shuffled = np.random.default_rng(SEED + 2).permuted(outcome, axis=1)
    # 300 trial days of 10 pairs: the deviation of a mean rank correlation is 1 / sqrt(300 * 9) = 0.019.
    assert abs(trial_ic(columns, shuffled)) < 3 * 0.0193, f"seed {SEED}"


def test_the_same_data_gives_the_same_boosters_and_seeds_differ() -> None:
    columns, outcome = noise_columns()[:300], np.random.default_rng(SEED).normal(size=(300, PAIRS))
    one, again = (train.fit(columns, outcome, seeds=2) for _ in range(2))
    assert [b.model_to_string() for b in one] == [b.model_to_string() for b in again]
    assert one[0].model_to_string() != one[1].model_to_string()


def test_grades_run_from_worst_to_best_and_equal_outcomes_get_equal_grades() -> None:
    outcome = np.array([[5.0, 1.0, 3.0, 2.0, 4.0], [0.0, 0.0, 0.0, 0.0, 1.0]])
    assert train.grades(outcome).tolist() == [[4, 0, 2, 1, 3], [1, 1, 1, 1, 4]]


def test_rank_correlation_is_one_minus_one_and_zero_for_equal_scores() -> None:
    a = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 1.0, 1.0]])
    b = np.array([[1.0, 4.0, 9.0], [3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    assert train.rank_correlation(a, b).tolist() == pytest.approx([1.0, -1.0, 0.0])


def test_terciles_are_of_the_gaps_at_each_rank() -> None:
    scores = np.array([[3.0, 1.0, 0.0], [0.0, 1.0, 5.0], [2.0, 1.0, 0.0], [1.0, 0.0, 0.5]])
    (first_low, first_high), second = train.gap_terciles(scores)
    assert (first_low, first_high) == pytest.approx(tuple(np.quantile([2.0, 4.0, 1.0, 0.5], [1 / 3, 2 / 3])))
    assert len(second) == 2


def five_pairs(count: int = 700) -> list[Bars]:
    return [market.some_bars(symbol, count, seed=seed) for seed, symbol in enumerate(market.FIVE, start=1)]


def test_a_card_names_the_data_cut_and_the_last_day_training_saw() -> None:
    found = panel.build(five_pairs())
    card, boosters = train.train(found, source="test", fingerprint="f" * 64, seeds=1)
    days = market.business_days(700)
    assert card.last_day == "2026-02-13"
    assert card.last_known_day == str(days[-1 - panel.HORIZON_BARS])
    assert (card.columns, card.symbols, len(boosters)) == (features.COLUMNS, market.FIVE, 1)
    assert len(card.gap_terciles) == len(market.FIVE) - 1
    assert card.metrics.days == found.known - int(found.known * 0.8)


def test_too_few_known_days_are_refused() -> None:
    with pytest.raises(ScanError, match="days with an outcome"):
        train.train(panel.build(five_pairs(290)), source="test", fingerprint="f", seeds=1)


def test_the_trial_is_not_told_by_outcomes_that_reach_into_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    fit = train.fit

    def spy(columns: Floats, outcome: Floats, seeds: int) -> Any:
        seen.append(len(columns))
        assert np.isfinite(outcome).all()
        return fit(columns, outcome, seeds)

    monkeypatch.setattr(train, "fit", spy)
    found = panel.build(five_pairs())
    train.train(found, source="test", fingerprint="f", seeds=1)
    assert seen == [int(found.known * 0.8) - panel.HORIZON_BARS, found.known]


def test_outcomes_are_along_the_trend_in_deviations_and_unknown_for_the_newest_days() -> None:
    log_close = np.log(np.array([[1.0, 1.0]] * 5 + [[1.02, 1.02]] * 2))
    direction = np.array([[1.0, -1.0]] * 7)
    found = panel.outcomes(log_close, direction, np.full((7, 2), 0.01))
    by_hand = np.log(1.02) / (0.01 * np.sqrt(5))
    assert found[0].tolist() == pytest.approx([by_hand, -by_hand])
    assert np.isnan(found[2:]).all()
    assert np.isfinite(found[:2]).all()


def test_no_row_of_the_panel_changes_when_the_future_is_cut_off() -> None:
    whole = panel.build(five_pairs())
    cut = panel.build([bars.head(640) for bars in five_pairs()])
    assert np.array_equal(whole.columns[: len(cut.days)], cut.columns)
    assert np.array_equal(whole.outcome[: cut.known], cut.outcome[: cut.known])


def test_a_panel_uses_only_days_that_every_pair_has() -> None:
    pairs = five_pairs()
    keep = np.arange(700) != 600
    pairs[1] = Bars.of_closes("GBPUSD", "test", pairs[1].time[keep], pairs[1].close[keep])
    found = panel.build(pairs)
    assert market.business_days(700)[600] not in found.days
    assert np.isfinite(found.columns).all()


def test_pairs_that_share_too_few_days_are_refused() -> None:
    with pytest.raises(ScanError, match="share 200 days"):
        panel.build([market.some_bars("EURUSD", 700).tail(200), market.some_bars("GBPUSD", 700, seed=2)])
