"""Columns against numbers worked out by hand; no look into the future; the other way round is the same trade."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from actors.market import features
from actors.market.bars import Bars
from tests.kit import market

# Wilder's RSI with 14 bars, the worked example of the usual textbooks: 33 closes and the published values.
TEXTBOOK = [
    44.3389, 44.0902, 44.1497, 43.6124, 44.3278, 44.8264, 45.0955, 45.4245, 45.8433, 46.0826, 45.8931, 46.0328,
    45.6140, 46.2820, 46.2820, 46.0028, 46.0328, 46.4116, 46.2222, 45.6439, 46.2122, 46.2521, 45.7137, 46.4515,
    45.7835, 45.3548, 44.0288, 44.1783, 44.2181, 44.5672, 43.4205, 42.6628, 43.1314,
]  # fmt: skip
TEXTBOOK_RSI = [
    70.53, 66.32, 66.55, 69.41, 66.36, 57.97, 62.93, 63.26, 56.06, 62.38, 54.71, 50.42, 39.99, 41.46, 41.87, 45.46,
    37.30, 33.08, 37.77,
]  # fmt: skip


def test_rsi_gives_the_published_values() -> None:
    found = features.rsi(np.array(TEXTBOOK), 14)
    assert np.isnan(found[:14]).all()
    assert found[14:] == pytest.approx(TEXTBOOK_RSI, abs=0.02)


def test_rsi_is_100_when_all_rise_0_when_all_fall_and_50_when_nothing_moves() -> None:
    assert features.rsi(np.arange(1.0, 30.0), 14)[-1] == 100.0
    assert features.rsi(np.arange(30.0, 1.0, -1.0), 14)[-1] == 0.0
    assert features.rsi(np.ones(30), 14)[-1] == 50.0


def test_means_and_deviations_are_of_the_last_n_values() -> None:
    x = np.array([1.0, 2.0, 4.0, 8.0])
    assert features.mean(x, 3)[2:].tolist() == pytest.approx([7 / 3, 14 / 3])
    assert features.deviation(x, 3)[3] == pytest.approx(math.sqrt(28 / 3))  # 2, 4, 8 around 14/3
    assert np.isnan(features.mean(x, 3)[:2]).all()
    assert features.change(x, 2)[2:].tolist() == [3.0, 6.0]


def test_slope_and_r2_of_a_line_and_of_a_zigzag() -> None:
    slope, r2 = features.slope_and_r2(3.0 + 0.5 * np.arange(12.0), 10)
    assert slope[9:].tolist() == pytest.approx([0.5] * 3)
    assert r2[9:].tolist() == pytest.approx([1.0] * 3)
    slope, r2 = features.slope_and_r2(np.array([0.0, 1.0, 0.0, 1.0]), 4)
    assert slope[3] == pytest.approx(0.2)  # sum(xy) = 1 over sum(xx) = 5
    assert r2[3] == pytest.approx(0.2)  # 0.2 * 0.2 * 5 over 1
    assert features.slope_and_r2(np.ones(4), 4)[1][3] == 0.0


def test_range_position_runs_from_the_low_to_the_high() -> None:
    x = np.array([2.0, 1.0, 3.0, 2.5])
    assert features.range_position(x, x, x, 4)[3] == pytest.approx(0.75)
    assert features.range_position(np.ones(4), np.ones(4), np.ones(4), 4)[3] == 0.5


def test_zscore_by_hand_and_zero_when_nothing_moves() -> None:
    assert features.zscore(np.array([1.0, 2.0, 3.0]), 3)[2] == pytest.approx(1.0)
    assert features.zscore(np.ones(3), 3)[2] == 0.0
    assert np.isnan(features.zscore(np.ones(3), 3)[:2]).all()


def test_volatility_is_the_deviation_of_one_bar_log_returns() -> None:
    log_close = np.array([0.0, 0.01, 0.0, 0.01])
    assert features.volatility(log_close, 3)[3] == pytest.approx(np.std([0.01, -0.01, 0.01], ddof=1))
    assert np.isnan(features.volatility(log_close, 3)[:3]).all()


def test_volatility_in_pips_is_the_fraction_times_the_price_over_the_pip() -> None:
    bars = market.some_bars("USDJPY", first=150.0)
    returns = np.diff(np.log(bars.close))[-20:]
    assert features.volatility_pips(bars) == pytest.approx(returns.std(ddof=1) * bars.close[-1] / 0.01)


def test_the_trend_rule_by_hand() -> None:
    x = np.log(market.closes())
    noise = np.diff(x)[-60:].std(ddof=1)
    by_hand = ((x[-1] - x[-61]) / (noise * math.sqrt(60)) + (x[-1] - x[-251]) / (noise * math.sqrt(250))) / 2
    assert features.trend(x)[-1] == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("trend", "side"), [(0.5, "BUY"), (-0.5, "SELL"), (0.1, "BUY"), (0.099, "HOLD"), (-0.099, "HOLD"), (0.0, "HOLD")]
)
def test_the_side_is_the_sign_of_the_trend_and_hold_when_it_is_flat(trend: float, side: str) -> None:
    assert features.side(trend) == side
    expected = {"BUY": 1.0, "SELL": -1.0, "HOLD": 0.0}[side]
    assert features.direction(np.array([trend]))[0] == expected


@pytest.mark.parametrize("bars", [market.some_bars(), market.ohlc_bars()], ids=["closes", "ohlc"])
def test_no_row_changes_when_the_future_is_cut_off(bars: Bars) -> None:
    whole = features.own_columns(bars)
    for length in (251, 300, 437, 699):
        cut = features.own_columns(bars.head(length))
        assert np.array_equal(whole[:length], cut, equal_nan=True), f"rows differ when cut at {length}"


def test_an_absurd_future_changes_no_earlier_row() -> None:
    bars = market.some_bars()
    close = bars.close.copy()
    close[500:] *= 1_000
    other = Bars.of_closes("EURUSD", "test", bars.time, close)
    assert np.array_equal(features.own_columns(bars)[:500], features.own_columns(other)[:500], equal_nan=True)


def test_every_column_exists_once_the_lookback_is_full_and_not_before() -> None:
    found = features.own_columns(market.some_bars())
    assert found.shape == (700, len(features.OWN))
    finite = np.all(np.isfinite(found), axis=1)
    first = int(np.argmax(finite))
    assert bool(np.all(finite[first:]))
    assert first == features.LOOKBACK - 1


@pytest.mark.parametrize("bars", [market.some_bars(), market.ohlc_bars(seed=8)], ids=["closes", "ohlc"])
def test_quoting_a_pair_the_other_way_round_turns_the_side_and_no_column(bars: Bars) -> None:
    turned = replace(bars, open=1 / bars.open, high=1 / bars.low, low=1 / bars.high, close=1 / bars.close)
    # Where the trend is exactly zero there is no side to turn; a random walk has no such day.
    np.testing.assert_allclose(features.own_columns(turned), features.own_columns(bars), rtol=1e-7, atol=1e-9)
    here, there = features.trend(np.log(bars.close))[-1], features.trend(np.log(turned.close))[-1]
    assert here == pytest.approx(-there)


def test_z_scores_across_pairs_have_mean_zero_and_deviation_one_each_day() -> None:
    own = np.random.default_rng(3).normal(size=(4, 6, len(features.OWN)))
    found = features.across(own)
    assert found.shape == (4, 6, len(features.ACROSS))
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(found.std(axis=1), 1)


def test_equal_pairs_have_z_scores_of_zero_not_nan() -> None:
    assert not features.across(np.ones((2, 3, len(features.OWN)))).any()


def test_column_names_are_unique_and_as_many_as_columns() -> None:
    assert len(set(features.COLUMNS)) == len(features.COLUMNS) == len(features.OWN) + len(features.ACROSS)


def test_analysts_get_plain_numbers_worked_out_by_hand() -> None:
    bars = market.some_bars()
    close = bars.close
    seen = features.for_analysts(bars)
    assert seen["ret_5"] == pytest.approx(close[-1] / close[-6] - 1)
    assert seen["ret_20"] == pytest.approx(close[-1] / close[-21] - 1)
    assert seen["ret_60"] == pytest.approx(close[-1] / close[-61] - 1)
    assert seen["momentum_250"] == pytest.approx(close[-1] / close[-251] - 1)
    assert seen["sma_20_dist"] == pytest.approx(close[-1] / close[-20:].mean() - 1)
    assert seen["sma_60_dist"] == pytest.approx(close[-1] / close[-60:].mean() - 1)
    returns = np.diff(np.log(close))
    assert seen["vol_20"] == pytest.approx(returns[-20:].std(ddof=1))
    assert seen["vol_ratio_20_120"] == pytest.approx(returns[-20:].std(ddof=1) / returns[-120:].std(ddof=1))
    assert seen["z_20"] == pytest.approx((close[-1] - close[-20:].mean()) / close[-20:].std(ddof=1))
    assert all(type(value) is float and math.isfinite(value) for value in seen.values())


def test_what_analysts_see_of_a_day_does_not_know_the_next_one() -> None:
    bars = market.some_bars()
    day = date(2026, 1, 20)
    cut = bars.until(day)
    longer = Bars.of_closes("EURUSD", "test", bars.time, np.where(bars.time > np.datetime64(day), 9.9, bars.close))
    assert features.for_analysts(cut) == features.for_analysts(longer.until(day))


def test_the_page_has_a_formula_for_every_column_in_order() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "scanner.md").read_text()
    table = page.partition("<!-- columns: begin -->")[2].partition("<!-- columns: end -->")[0]
    named: list[str] = []
    directed: list[str] = []
    for line in table.splitlines()[3:]:
        # A bar inside a formula is written \|.
        _, name, lengths, along, formula, _ = re.split(r"(?<!\\)\|", line)
        assert formula.strip()
        stem = name.strip().strip("`")
        found = [re.sub(r"_n$", f"_{one.strip()}", stem) for one in lengths.split(",")]
        named += found
        directed += found if along.strip() == "yes" else []
    assert tuple(named) == features.COLUMNS
    assert tuple(directed) == features.DIRECTED
