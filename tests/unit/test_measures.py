"""Intervals and scores against figures from the literature or worked out by hand."""

from __future__ import annotations

import math
import statistics

import pytest

from actors.console import measures, simulated
from actors.console.simulated import Bar, Outcome

# ── shares ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        # Newcombe (1998), Statistics in Medicine 17, table I, method 3 (Wilson's score without continuity correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_of_a_share_is_wilsons(hits: int, n: int, low: float, high: float) -> None:
    found = measures.share(hits, n)
    assert found.value == hits / n
    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)


def test_a_share_of_nothing_has_no_value_and_one_of_all_ends_at_one() -> None:
    assert measures.share(0, 0) == measures.Share(hits=0, n=0, value=None, low=None, high=None)
    assert measures.share(20, 20).high == 1.0
    assert measures.share(20, 20).low == pytest.approx(1 - 0.1611, abs=5e-5)


# ── means ───────────────────────────────────────────────────────────────────


def test_the_interval_of_a_mean_is_students() -> None:
    # By hand: mean 0.5, s = sqrt(((-1.5)^2 + 1.5^2 + (-1.5)^2 + 1.5^2) / 3) = sqrt(3), half = 3.1824 * sqrt(3) / 2.
    found = measures.mean([-1.0, 2.0, -1.0, 2.0])
    assert (found.n, found.value) == (4, 0.5)
    assert found.high == pytest.approx(0.5 + 3.1824 * math.sqrt(3) / 2, abs=1e-9)
    assert found.low == pytest.approx(0.5 - 3.1824 * math.sqrt(3) / 2, abs=1e-9)


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    assert measures.mean([2.0]) == measures.Mean(n=1, value=2.0, low=None, high=None)
    assert measures.mean([]) == measures.Mean(n=0, value=None, low=None, high=None)


@pytest.mark.parametrize(
    ("degrees", "expected"), [(1, 12.7062), (10, 2.2281), (30, 2.0423), (31, 2.0395), (60, 2.0003), (120, 1.9799)]
)
def test_the_points_of_students_t_are_those_of_the_tables(degrees: int, expected: float) -> None:
    assert measures.t95(degrees) == pytest.approx(expected, abs=6e-5)


def test_the_normal_point_is_the_standard_librarys() -> None:
    assert pytest.approx(statistics.NormalDist().inv_cdf(0.975), abs=1e-12) == measures.Z95


# ── confidences ─────────────────────────────────────────────────────────────


def test_the_score_is_briers_and_its_base_that_of_the_hit_rate() -> None:
    # By hand: (0.04 + 0.04 + 0.64 + 0.36) / 4 = 0.27; always saying 0.5: 0.25.
    found = measures.calibration([(0.8, True), (0.2, False), (0.8, False), (0.4, True)])
    assert (found.n, found.brier, found.brier_base) == (4, pytest.approx(0.27), 0.25)


def test_bins_hold_their_lower_edge_and_the_last_one_holds_one() -> None:
    found = measures.calibration([(0.0, True), (0.2, True), (0.39, False), (1.0, True)])
    assert [one.right.n for one in found.bins] == [1, 2, 0, 0, 1]
    assert (found.bins[1].confidence, found.bins[1].right.hits) == (pytest.approx(0.295), 1)
    assert found.bins[2].confidence is None
    assert [(one.from_, one.to) for one in found.bins] == [(0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.0)]


def test_without_a_confidence_there_is_no_score() -> None:
    found = measures.calibration([])
    assert (found.n, found.brier, found.brier_base) == (0, None, None)


# ── what would have come ────────────────────────────────────────────────────


def closes(*values: float) -> list[Bar]:
    return [Bar(open=value, high=value, low=value, close=value) for value in values]


def a_day(opened: float, high: float, low: float, close: float) -> Bar:
    return Bar(open=opened, high=high, low=low, close=close)


def buy(bars: list[Bar], *, closes_only: bool = True) -> Outcome:
    return simulated.outcome("BUY", 1.1000, bars, sl=0.0050, tp=0.0100, closes_only=closes_only)


def sell(bars: list[Bar], *, closes_only: bool = True) -> Outcome:
    return simulated.outcome("SELL", 1.1000, bars, sl=0.0050, tp=0.0100, closes_only=closes_only)


def test_no_later_bar_is_an_open_position() -> None:
    assert buy([]) == Outcome(end="open")
    assert buy(closes(1.1049, 1.0951)) == Outcome(end="open", days=2)


def test_the_first_limit_that_is_touched_counts() -> None:
    assert buy(closes(1.1050, 1.0940, 1.1200)) == Outcome(end="stop", r=-1.0, days=2)
    assert buy(closes(1.1050, 1.1120, 1.0900)) == Outcome(end="target", r=2.0, days=2)
    assert sell(closes(1.0950, 1.1060, 1.0800)) == Outcome(end="stop", r=-1.0, days=2)
    assert sell(closes(1.0950, 1.0880, 1.1200)) == Outcome(end="target", r=2.0, days=2)


def test_touching_is_enough() -> None:
    bars = [a_day(1.0, 1.0, 0.75, 0.75)]
    assert simulated.outcome("BUY", 1.0, bars, sl=0.25, tp=0.5).end == "stop"
    bars = [a_day(1.0, 1.5, 1.0, 1.5)]
    assert simulated.outcome("BUY", 1.0, bars, sl=0.25, tp=0.5).end == "target"


def test_a_day_that_touches_both_counts_as_stopped() -> None:
    wild = [a_day(1.1000, 1.1200, 1.0800, 1.1100)]
    assert buy(wild, closes_only=False) == Outcome(end="stop", r=-1.0, days=1)
    assert sell(wild, closes_only=False) == Outcome(end="stop", r=-1.0, days=1)


def test_a_stop_that_was_jumped_over_fills_at_the_open_and_a_target_never_better_than_asked() -> None:
    assert buy([a_day(1.0900, 1.0950, 1.0890, 1.0950)], closes_only=False).r == pytest.approx(-2.0)
    assert sell([a_day(1.1100, 1.1150, 1.1090, 1.1150)], closes_only=False).r == pytest.approx(-2.0)
    assert buy([a_day(1.1300, 1.1300, 1.1290, 1.1290)], closes_only=False).r == pytest.approx(2.0)


def test_of_closes_the_stop_fills_at_its_price_however_far_beyond_it_the_day_ended() -> None:
    assert buy(closes(1.0500)) == Outcome(end="stop", r=-1.0, days=1)
