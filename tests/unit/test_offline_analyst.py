"""The fixed rules: when they do not trade, when they do, and that they say what they are."""

from __future__ import annotations

import math
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.analysts import offline, verdict
from actors.analysts.offline import OfflineAnalyst
from actors.analysts.verdict import Verdict
from bus.records import Signal
from config.settings import Llm
from tests.kit.analysis import TREND_UP, a_signal, an_intent, turned


@pytest.mark.parametrize("name", offline.NEEDED)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_reading_that_is_not_finite_is_no_trade(name: str, value: float) -> None:
    found = offline.judge(a_signal(features={name: value}))
    assert found.side == "HOLD"
    assert name in found.reason


@pytest.mark.parametrize("name", offline.NEEDED)
def test_a_missing_reading_is_no_trade(name: str) -> None:
    features = {key: value for key, value in TREND_UP.items() if key != name}
    assert offline.judge(msgspec.structs.replace(a_signal(), features=features)).side == "HOLD"


@pytest.mark.parametrize("volatility", [0.0, -1.0, math.nan, math.inf])
def test_no_volatility_is_no_trade(volatility: float) -> None:
    assert offline.judge(a_signal(volatility_pips=volatility)).side == "HOLD"
    if volatility <= 0:
        assert offline.judge(a_signal(features={"vol_20": volatility})).side == "HOLD"


def test_three_of_five_readings_against_the_scanners_side_is_no_trade() -> None:
    against = {"ret_20": -0.02, "sma_20_dist": -0.01, "sma_60_dist": -0.01}
    found = offline.judge(a_signal(features=against))
    assert found.side == "HOLD"
    assert "contradict" in found.reason
    assert offline.judge(a_signal(features=against | {"ret_20": 0.02})).side == "BUY"


def test_no_reading_for_the_scanners_side_is_no_trade() -> None:
    flat = dict.fromkeys(offline.TREND_BARS, 0.0)
    found = offline.judge(a_signal(features=flat))
    assert found.side == "HOLD"
    assert "supports" in found.reason


def test_without_a_side_of_the_scanner_only_a_clear_majority_gives_one() -> None:
    assert offline.judge(a_signal(side_hint="HOLD", features={"ret_20": -0.01})).side == "BUY"
    found = offline.judge(a_signal(side_hint="HOLD", features={"ret_20": -0.01, "sma_20_dist": 0.0}))
    assert found.side == "HOLD"
    assert "no direction" in found.reason


def test_turmoil_is_no_trade() -> None:
    assert offline.judge(a_signal(features={"vol_ratio_20_120": 2.01})).side == "HOLD"
    assert offline.judge(a_signal(features={"vol_ratio_20_120": 2.0})).side == "BUY"


def test_a_stretched_move_is_no_trade_in_its_own_direction_only() -> None:
    assert offline.judge(a_signal(features={"z_20": 3.1})).side == "HOLD"
    assert offline.judge(a_signal(features={"z_20": -3.1})).side == "BUY"
    assert offline.judge(turned(a_signal(features={"z_20": 3.1}))).side == "HOLD"


def test_a_clear_trend_is_traded_with_stop_and_target_from_volatility() -> None:
    found = offline.judge(a_signal(volatility_pips=34.27))
    assert (found.side, found.sl_pips, found.tp_pips, found.confidence) == ("BUY", 51.4, 102.8, 1.0)


def test_the_report_says_what_wrote_it_and_why() -> None:
    for found in (offline.judge(a_signal()), offline.judge(a_signal(features={"vol_ratio_20_120": 5.0}))):
        assert "offline rules, not an LLM" in found.report
        assert found.reason in found.report
        assert all(name in found.report for name in offline.TREND_BARS)
        assert msgspec.json.decode(found.state_json)["analyst"] == "offline rules, not an LLM"


def test_what_it_says_of_shorter_bars_speaks_of_no_day() -> None:
    for changes in ({}, {"features": {"z_20": 3.1}}, {"features": {"vol_ratio_20_120": 5.0}}, {"volatility_pips": 0.0}):
        found = offline.judge(a_signal(timeframe="H1", **changes))
        assert not re.search(r"\b(daily|days?)\b|-day\b", found.reason + found.report)
    assert "1.5 x the volatility of a 1-hour bar, 40.0 pips" in offline.judge(a_signal(timeframe="H1")).report


async def test_an_unreadable_signal_is_no_trade() -> None:
    found = await OfflineAnalyst().analyse(an_intent(signal_json="nonsense"), 1.0)
    assert found.side == "HOLD"
    assert "unreadable" in found.reason


async def test_the_same_intent_gives_the_same_verdict() -> None:
    analyst = OfflineAnalyst()
    await analyst.start()
    assert await analyst.analyse(an_intent(), 1.0) == await analyst.analyse(an_intent(), 1.0)
    await analyst.close()


readings = st.floats(-0.2, 0.2)
signals = st.builds(
    lambda trend, vol, ratio, stretch, hint, pips: a_signal(
        features=dict(zip(offline.TREND_BARS, trend, strict=True))
        | {"vol_20": vol, "vol_ratio_20_120": ratio, "z_20": stretch},
        side_hint=hint,
        volatility_pips=pips,
    ),
    st.lists(readings, min_size=5, max_size=5),
    st.floats(0.0001, 0.05),
    st.floats(0.1, 5),
    st.floats(-5, 5),
    st.sampled_from(["BUY", "SELL", "HOLD"]),
    st.floats(0.5, 500),
)


@given(signals)
def test_the_mirror_image_of_a_signal_gets_the_mirror_image_of_the_verdict(signal: Signal) -> None:
    one, other = offline.judge(signal), offline.judge(turned(signal))
    opposite = {"BUY": "SELL", "SELL": "BUY", "HOLD": "HOLD"}
    assert (other.side, other.sl_pips, other.tp_pips) == (opposite[one.side], one.sl_pips, one.tp_pips)


@given(signals)
def test_every_verdict_of_the_rules_passes_the_checks(signal: Signal) -> None:
    found = offline.judge(signal)
    assert isinstance(verdict.check(found, signal, Llm()), Verdict)
    if found.side != "HOLD" and signal.side_hint != "HOLD":
        assert found.side == signal.side_hint
