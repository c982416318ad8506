"""From scores to signals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from actors.market import correlation, features, ranking
from actors.market.bars import Bars
from actors.market.errors import ScanError
from bus.records import Signal
from tests.kit import market

TERCILES = ((0.1, 0.2),) * 4


def five_bars() -> list[Bars]:
    return [market.some_bars(symbol, seed=seed) for seed, symbol in enumerate(market.FIVE, start=1)]


def scored(scores: list[float], gap_terciles: Any = TERCILES) -> ranking.Scored:
    return ranking.Scored(np.array(scores), gap_terciles, "lgbm-test", 0.01)


def top(scores: list[float], top_k: int = 3, *, gap_terciles: Any = TERCILES) -> tuple[Signal, ...]:
    picks = ranking.top(five_bars(), scored(scores, gap_terciles), top_k=top_k, correlation_max=1.0)
    assert picks.same_bets == ()
    return picks.signals


def test_too_few_pairs_to_leave_one_out_are_refused() -> None:
    with pytest.raises(ScanError, match="only 5 pairs to rank; top 5 needs at least 6"):
        top([1.0, 2.0, 3.0, 4.0, 5.0], top_k=5)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_refused(wrong: float) -> None:
    with pytest.raises(ScanError, match="no number"):
        top([1.0, 2.0, wrong, 4.0, 5.0])


def test_a_score_too_few_is_refused() -> None:
    with pytest.raises(ScanError, match="not one a pair"):
        top([1.0, 2.0, 3.0, 4.0])


def test_fields_of_the_best_pairs_by_hand() -> None:
    first, second, third = top([0.0, 1.0, 0.7, -0.8, 0.1])  # mean 0.2
    assert [s.symbol for s in (first, second, third)] == ["GBPUSD", "USDJPY", "USDCHF"]
    assert [s.score for s in (first, second, third)] == pytest.approx([0.8, 0.5, -0.1])
    assert [s.score_gap for s in (first, second, third)] == pytest.approx([0.3, 0.6, 0.1])
    assert [s.drop_distance for s in (first, second, third)] == pytest.approx([1.0, 0.7, 0.1])
    assert [s.topk_spread for s in (first, second, third)] == pytest.approx([0.9] * 3)


def test_scores_are_centred_so_that_a_common_shift_changes_nothing() -> None:
    plain, shifted = top([0.0, 1.0, 0.5, -0.5, 0.25]), top([8.0, 9.0, 8.5, 7.5, 8.25])
    assert plain == shifted


def test_equal_scores_are_ordered_by_symbol() -> None:
    assert [s.symbol for s in top([1.0, 1.0, 0.0, 1.0, 0.5])] == ["AUDUSD", "EURUSD", "GBPUSD"]


def test_a_model_that_cannot_tell_the_pairs_apart_is_refused() -> None:
    with pytest.raises(ScanError, match="same score"):
        top([0.3] * 5)


def test_the_order_of_the_symbols_changes_no_signal() -> None:
    scores = [0.3, 0.1, 0.5, -0.2, 0.0]
    turned = ranking.top(five_bars()[::-1], scored(scores[::-1]), top_k=3, correlation_max=1.0).signals
    assert [s.symbol for s in turned] == [s.symbol for s in top(scores)]


@pytest.mark.parametrize(
    ("gap", "word"), [(0.05, "low"), (0.1, "medium"), (0.15, "medium"), (0.2, "high"), (1.0, "high")]
)
def test_confidence_is_the_third_of_past_gaps(gap: float, word: str) -> None:
    assert ranking.confidence(gap, (0.1, 0.2)) == word


def test_each_rank_is_compared_with_past_gaps_of_its_own_rank() -> None:
    terciles = ((5.0, 6.0), (0.1, 5.0), (0.1, 0.2), (0.1, 0.2))
    assert [s.confidence for s in top([4.0, 3.0, 2.0, 1.0, 0.0], gap_terciles=terciles)] == ["low", "medium", "high"]


def test_a_signal_says_where_it_comes_from() -> None:
    signal = top([1.0, 0.0, 0.0, 0.0, 0.0])[0]
    bars = five_bars()[0]
    assert (signal.symbol, signal.timeframe, signal.bar_time) == ("EURUSD", "D1", "2026-02-13")
    assert (signal.source, signal.model_id, signal.close) == ("test", "lgbm-test", bars.close[-1])
    assert signal.volatility_pips == features.volatility_pips(bars)
    assert signal.side_hint == features.side(features.trend(np.log(bars.close))[-1])
    assert set(signal.features) >= {
        "ret_5", "ret_20", "ret_60", "sma_20_dist", "sma_60_dist", "rsi_14", "vol_20", "vol_ratio_20_120", "z_20",
        "momentum_250",
    }  # fmt: skip


def test_the_side_follows_the_pairs_own_trend_not_its_score() -> None:
    rising = market.some_bars("EURUSD", drift=0.003)
    falling = market.some_bars("GBPUSD", drift=-0.003)
    other = market.some_bars("USDJPY")
    found = ranking.top([rising, falling, other], scored([1.0, 2.0, 0.0]), top_k=2, correlation_max=1.0).signals
    assert [(s.symbol, s.side_hint) for s in found] == [("GBPUSD", "SELL"), ("EURUSD", "BUY")]


def test_net_dollars_count_base_and_quote_and_ignore_holds_and_crosses() -> None:
    def signal(symbol: str, side: str) -> Signal:
        return replace(top([1.0, 0.0, 0.0, 0.0, 0.5])[0], symbol=symbol, side_hint=side)

    assert ranking.net_usd([signal("EURUSD", "BUY"), signal("AUDUSD", "BUY")]) == -2
    assert ranking.net_usd([signal("USDJPY", "BUY"), signal("EURUSD", "SELL")]) == 2
    assert ranking.net_usd([signal("USDJPY", "HOLD"), signal("EURGBP", "BUY")]) == 0


def test_every_signal_carries_the_net_dollars_of_the_whole_scan() -> None:
    signals = top([1.0, 0.9, 0.8, 0.0, -1.0])
    assert {s.net_usd for s in signals} == {ranking.net_usd(signals)}


# ── the same bet twice ──────────────────────────────────────────────────────


def alike(symbol: str, of: Bars, *, turned: bool = False, seed: int = 1) -> Bars:
    """Return bars that follow others' closes, or go against them, with a little noise of their own."""
    noise = np.random.default_rng(seed).normal(0, 0.0005, len(of))
    logs = np.log(of.close) * (-1 if turned else 1) + noise
    return Bars.of_closes(symbol, of.source, of.time, np.exp(logs))


def limited(all_bars: list[Bars], scores: list[float], top_k: int = 2, correlation_max: float = 0.8) -> ranking.Picks:
    return ranking.top(all_bars, scored(scores), top_k=top_k, correlation_max=correlation_max)


def rising(symbol: str = "EURUSD") -> Bars:
    return market.some_bars(symbol, drift=0.003)


def test_a_pair_that_is_the_same_bet_is_passed_over_for_the_next_and_named_with_the_reason() -> None:
    first, other, last = rising(), market.some_bars("USDJPY", seed=3), market.some_bars("USDCHF", seed=4)
    picks = limited([first, alike("GBPUSD", first), other, last], [3.0, 2.0, 1.0, 0.0])
    assert [s.symbol for s in picks.signals] == ["EURUSD", "USDJPY"]
    ((symbol, reason),) = [(out.symbol, out.reason) for out in picks.same_bets]
    assert symbol == "GBPUSD"
    assert reason.startswith("BUY is the same bet as BUY EURUSD: 0.99 over 60 bars; allowed 0.8 ")
    # What was passed over is no rank that stayed out for its score: the distance is to the first one below the picks.
    assert picks.signals[0].drop_distance == pytest.approx(3.0)
    assert picks.signals[0].score_gap == pytest.approx(1.0)
    assert picks.signals[0].topk_spread == pytest.approx(2.0)


def test_selling_what_moves_against_it_is_the_same_bet_and_buying_it_is_not() -> None:
    first = rising()
    against, rest = alike("USDCHF", first, turned=True), market.some_bars("USDJPY", seed=3)
    picks = limited([first, against, rest], [3.0, 2.0, 1.0], top_k=2)
    assert (ranking.side_of(first), ranking.side_of(against)) == ("BUY", "SELL")
    assert [out.symbol for out in picks.same_bets] == ["USDCHF"]
    signs = correlation.of_bets([first, against], ["BUY", "BUY"])
    assert signs[0, 1] == pytest.approx(-0.99, abs=0.02)


def test_a_pair_without_a_side_may_become_either_bet() -> None:
    first = rising()
    for turned in (False, True):
        found = correlation.of_bets([first, alike("USDCHF", first, turned=turned)], ["BUY", "HOLD"])
        assert found[0, 1] > 0.9


def test_correlation_by_hand_of_the_last_60_bars_only() -> None:
    one, other = market.some_bars("EURUSD"), market.some_bars("USDJPY", seed=2)
    steps = [np.diff(np.log(bars.close))[-60:] for bars in (one, other)]
    by_hand = np.corrcoef(steps[0], steps[1])[0, 1]
    assert correlation.of_bets([one, other], ["BUY", "SELL"])[0, 1] == pytest.approx(-by_hand)
    earlier = one.close.copy()
    earlier[: len(one) - 61] *= 1.5
    changed = Bars.of_closes("EURUSD", "test", one.time, earlier)
    assert correlation.of_bets([changed, other], ["BUY", "SELL"])[0, 1] == pytest.approx(-by_hand)


def test_with_a_limit_of_1_nothing_is_passed_over() -> None:
    first = rising()
    picks = limited([first, alike("GBPUSD", first), market.some_bars("USDJPY")], [3.0, 2.0, 1.0], correlation_max=1.0)
    assert [s.symbol for s in picks.signals] == ["EURUSD", "GBPUSD"]


def test_one_bet_remains_when_all_pairs_are_the_same_and_the_last_is_never_picked() -> None:
    first = rising()
    same = [alike(symbol, first, seed=seed) for seed, symbol in enumerate(("GBPUSD", "AUDUSD", "NZDUSD"), start=1)]
    picks = limited([first, *same], [4.0, 3.0, 2.0, 1.0], top_k=3)
    assert [s.symbol for s in picks.signals] == ["EURUSD"]
    assert [out.symbol for out in picks.same_bets] == ["GBPUSD", "AUDUSD"]


def test_too_few_common_bars_to_compare_are_refused() -> None:
    with pytest.raises(ScanError, match="share 60 bars; 61 are needed"):
        correlation.of_bets([market.some_bars("EURUSD", 60), market.some_bars("USDJPY", 60)], ["BUY", "BUY"])
