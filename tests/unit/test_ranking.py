"""From scores to signals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from actors.market import features, ranking
from actors.market.bars import Bars
from actors.market.errors import ScanError
from bus.records import Signal
from tests.kit import market

TERCILES = ((0.1, 0.2),) * 4


def five_bars() -> list[Bars]:
    return [market.some_bars(symbol, seed=seed) for seed, symbol in enumerate(market.FIVE, start=1)]


def top(scores: list[float], top_k: int = 3, **changes: Any) -> tuple[Signal, ...]:
    given: dict[str, Any] = {"top_k": top_k, "gap_terciles": TERCILES, "model_id": "lgbm-test"} | changes
    return ranking.top(five_bars(), np.array(scores), **given)


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
    scores = np.array([0.3, 0.1, 0.5, -0.2, 0.0])
    given: dict[str, Any] = {"top_k": 3, "gap_terciles": TERCILES, "model_id": "m"}
    turned = ranking.top(five_bars()[::-1], scores[::-1], **given)
    assert [s.symbol for s in turned] == [s.symbol for s in ranking.top(five_bars(), scores, **given)]


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
    found = ranking.top(
        [rising, falling, other], np.array([1.0, 2.0, 0.0]), top_k=2, gap_terciles=TERCILES, model_id="m"
    )
    assert [(s.symbol, s.side_hint) for s in found] == [("GBPUSD", "SELL"), ("EURUSD", "BUY")]


def test_net_dollars_count_base_and_quote_and_ignore_holds_and_crosses() -> None:
    def signal(symbol: str, side: str) -> Signal:
        return replace(top([1.0, 0.0, 0.0, 0.0, 0.5])[0], symbol=symbol, side_hint=side)

    assert ranking.net_usd([signal("EURUSD", "BUY"), signal("AUDUSD", "BUY")]) == -2
    assert ranking.net_usd([signal("USDJPY", "BUY"), signal("EURUSD", "SELL")]) == 2
    assert ranking.net_usd([signal("USDJPY", "HOLD"), signal("EURGBP", "BUY")]) == 0
