"""What may not become a trade, and what may."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.analysts import verdict
from actors.analysts.verdict import Refusal, Verdict
from config.settings import Llm
from tests.kit.analysis import a_signal, an_intent

LIMITS = Llm()  # stops of 0.3 to 5 volatilities, reward to risk of at least 1


def a_verdict(**changes: object) -> Verdict:
    usual: dict[str, object] = {"side": "BUY", "reason": "", "confidence": 0.6, "sl_pips": 60.0, "tp_pips": 120.0}
    return Verdict(**(usual | changes))  # type: ignore[arg-type]


def refusal_of(found: Verdict, limits: Llm = LIMITS, **signal: object) -> Refusal:
    checked = verdict.check(found, a_signal(**signal), limits)
    assert isinstance(checked, Refusal), checked
    return checked


@pytest.mark.parametrize("bad", [None, 0.0, -10.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["sl_pips", "tp_pips"])
def test_a_distance_that_is_no_finite_number_above_zero_is_refused(name: str, bad: float | None) -> None:
    found = refusal_of(a_verdict(**{name: bad}))
    assert found.rule == "numbers"
    assert name in found.reason


@pytest.mark.parametrize("bad", [-0.1, 1.1, 60.0, math.nan, math.inf])
def test_a_confidence_outside_0_to_1_is_refused(bad: float) -> None:
    assert refusal_of(a_verdict(confidence=bad)).rule == "confidence"


@pytest.mark.parametrize("side", ["buy", "", "LONG", None])
def test_a_side_of_another_name_is_refused(side: str | None) -> None:
    assert refusal_of(a_verdict(side=side)).rule == "side"


@pytest.mark.parametrize("volatility", [0.0, -1.0, math.nan, math.inf])
def test_a_stop_cannot_be_judged_without_a_volatility(volatility: float) -> None:
    assert refusal_of(a_verdict(), volatility_pips=volatility).rule == "signal"


@pytest.mark.parametrize(("sl", "tp"), [(11.9, 60.0), (200.1, 500.0), (1e-9, 60.0), (1e12, 1e13)])
def test_a_stop_outside_the_volatility_range_is_refused_and_not_clipped(sl: float, tp: float) -> None:
    found = refusal_of(a_verdict(sl_pips=sl, tp_pips=tp))
    assert found.rule == "stop_distance"
    assert "12.0..200.0" in found.reason


def test_a_target_below_the_reward_to_risk_is_refused() -> None:
    assert refusal_of(a_verdict(sl_pips=60.0, tp_pips=59.9)).rule == "reward_to_risk"
    assert refusal_of(a_verdict(sl_pips=60.0, tp_pips=119.0), Llm(reward_to_risk_min=2.0)).rule == "reward_to_risk"


def test_a_target_beyond_its_range_is_refused_and_its_limit_allowed() -> None:
    found = refusal_of(a_verdict(sl_pips=60.0, tp_pips=600.1))
    assert (found.rule, "at most 600.0" in found.reason) == ("target_distance", True)
    assert isinstance(verdict.check(a_verdict(tp_pips=600.0), a_signal(), LIMITS), Verdict)


@pytest.mark.parametrize(
    ("side", "sl", "tp", "close"),
    [("BUY", 60.0, 60.0, 0.006), ("SELL", 20.0, 60.0, 0.006), ("SELL", 20.0, 90.0, 0.006)],
)
def test_a_distance_that_leads_to_no_price_is_refused(side: str, sl: float, tp: float, close: float) -> None:
    assert refusal_of(a_verdict(side=side, sl_pips=sl, tp_pips=tp), close=close).rule == "price"
    higher = a_verdict(side=side, sl_pips=sl, tp_pips=tp)
    assert isinstance(verdict.check(higher, a_signal(close=close * 2), LIMITS), Verdict)


def test_a_metal_is_no_pair_and_has_no_pip() -> None:
    assert refusal_of(a_verdict(), symbol="XAUUSD").rule == "signal"


def test_a_pip_of_a_pair_in_yen_is_a_hundredth() -> None:
    signal = {"symbol": "USDJPY", "close": 0.6}
    assert refusal_of(a_verdict(sl_pips=60.0, tp_pips=60.0), **signal).rule == "price"
    assert isinstance(verdict.check(a_verdict(), a_signal(symbol="EURUSD", close=0.6), LIMITS), Verdict)


@pytest.mark.parametrize("close", [0.0, -1.0, math.nan, math.inf])
def test_no_distance_can_be_judged_without_a_close(close: float) -> None:
    assert refusal_of(a_verdict(), close=close).rule == "signal"


@pytest.mark.parametrize(
    ("side", "text"),
    [
        ("BUY", "Momentum fades. I recommend to sell."),
        ("BUY", "Decision: SELL, the pair is overbought."),
        ("BUY", "The trend is down, so we should short here."),
        ("BUY", "Better to hold until the picture clears."),
        ("BUY", "Do not buy at these levels."),
        ("BUY", "I would avoid going long now."),
        ("BUY", "A clear downtrend with falling averages."),
        ("BUY", "The picture is bearish."),
        ("BUY", "Readings disagree, stay out."),
        ("BUY", "No trade."),
        ("BUY", "SELL"),
        ("BUY", "HOLD, the readings disagree."),
        ("SELL", "The readings say **BUY**."),
        ("SELL", "Recommendation: **BUY**"),
        ("SELL", "I'd go long because momentum is positive, opening a long position."),
        ("SELL", "There is no reason to sell."),
        ("SELL", "A strong uptrend; all averages point upward."),
        ("SELL", "I favor a buy."),
        ("SELL", "Best to stand aside."),
    ],
)
def test_a_text_that_states_another_side_is_refused(side: str, text: str) -> None:
    assert refusal_of(a_verdict(side=side, reason=text)).rule == "contradiction"


@pytest.mark.parametrize(
    ("side", "text"),
    [
        ("BUY", ""),
        ("BUY", "BUY rather than SELL: momentum is positive."),
        ("BUY", "The long-term picture is positive; a short rest is no reason to sell or to hold back."),
        ("BUY", "Decision: BUY. Momentum and averages agree."),
        ("BUY", "The uptrend is intact although the last days were bearish."),
        ("BUY", "I would not sell into this uptrend; go long."),
        ("BUY", "All five readings are positive; the stop lies below the 20-day mean."),
        ("SELL", "We should sell: the pair is in a downtrend."),
        ("SELL", "Do not buy this dip, the trend is bearish."),
        ("SELL", "A short rally does not change the negative momentum."),
        ("SELL", "The sell signal outweighs the bullish weekly picture; the daily one is bearish."),
    ],
)
def test_a_text_that_agrees_or_only_describes_passes(side: str, text: str) -> None:
    found = a_verdict(side=side, reason=text)
    assert verdict.check(found, a_signal(), LIMITS) == found


def test_the_limits_themselves_are_allowed() -> None:
    for sl, tp in ((12.0, 12.0), (200.0, 200.0)):
        found = a_verdict(sl_pips=sl, tp_pips=tp)
        assert verdict.check(found, a_signal(), LIMITS) == found


def test_hold_passes_and_loses_its_distances() -> None:
    found = verdict.check(a_verdict(side="HOLD", sl_pips=math.nan, reason="I would sell."), a_signal(), LIMITS)
    assert isinstance(found, Verdict)
    assert (found.side, found.sl_pips, found.tp_pips) == ("HOLD", None, None)


@given(
    sl=st.none() | st.floats(),
    tp=st.none() | st.floats(),
    confidence=st.floats(),
    volatility=st.floats(),
    side=st.sampled_from(["BUY", "SELL"]),
)
def test_whatever_passes_is_within_the_limits(
    sl: float | None, tp: float | None, confidence: float, volatility: float, side: str
) -> None:
    found = a_verdict(side=side, sl_pips=sl, tp_pips=tp, confidence=confidence)
    checked = verdict.check(found, a_signal(volatility_pips=volatility), LIMITS)
    if isinstance(checked, Verdict):
        assert checked == found
        assert sl is not None and tp is not None
        assert 0.3 * volatility <= sl <= 5 * volatility < math.inf
        assert sl <= tp <= 15 * volatility < math.inf


def test_a_verdict_has_no_field_for_volume_leverage_or_limits() -> None:
    assert set(Verdict.__struct_fields__) == {
        "side", "reason", "confidence", "sl_pips", "tp_pips", "report", "state_json",
    }  # fmt: skip


@pytest.mark.parametrize("broken", ["", "{", "null", '{"symbol": "EURUSD"}', "[" * 100_000, "<html>", '{"symbol": 3}'])
def test_an_unreadable_signal_is_a_refusal(broken: str) -> None:
    found = verdict.signal_of(an_intent(signal_json=broken))
    assert isinstance(found, Refusal)
    assert found.rule == "signal"


def test_a_signal_about_another_pair_is_a_refusal() -> None:
    found = verdict.signal_of(an_intent(a_signal(symbol="GBPUSD"), symbol="EURUSD"))
    assert isinstance(found, Refusal)
    assert found.rule == "symbol"


def test_the_signal_of_an_intent_comes_back_whole() -> None:
    assert verdict.signal_of(an_intent()) == a_signal()
