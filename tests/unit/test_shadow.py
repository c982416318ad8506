"""Shadow mode: whatever the shadow says or does, what is traded is the offline verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.analysts import offline
from actors.analysts.analyst import AnalysisError
from actors.analysts.offline import OfflineAnalyst
from actors.analysts.shadow import ShadowAnalyst
from actors.analysts.verdict import Verdict
from bus.clock import SystemClock
from bus.records import TradeIntent
from config.load import ConfigError
from config.settings import Llm
from tests.kit.analysis import a_signal, an_intent, turned

SAYS = Callable[[TradeIntent, float], Awaitable[Verdict]]


class Other:
    """The analyst in the shadow: does what the test says."""

    name = "other"

    def __init__(self, says: SAYS, start_error: Exception | None = None) -> None:
        self.says = says
        self.start_error = start_error
        self.closed = False

    async def start(self) -> None:
        if self.start_error is not None:
            raise self.start_error

    async def analyse(self, intent: TradeIntent, deadline_s: float) -> Verdict:
        return await self.says(intent, deadline_s)

    async def close(self) -> None:
        self.closed = True


def saying(verdict: Verdict | BaseException) -> SAYS:
    async def says(intent: TradeIntent, deadline_s: float) -> Verdict:
        if isinstance(verdict, BaseException):
            raise verdict
        return verdict

    return says


async def silence(intent: TradeIntent, deadline_s: float) -> Verdict:
    await asyncio.Event().wait()
    raise AssertionError


def shadow(says: SAYS, **changes: Any) -> ShadowAnalyst:
    return ShadowAnalyst(OfflineAnalyst(), Other(says), Llm(**changes), SystemClock())


def a_verdict(**changes: Any) -> Verdict:
    usual: dict[str, Any] = {
        "side": "SELL", "reason": "down", "confidence": 0.9, "sl_pips": 60.0, "tp_pips": 150.0,
        "state_json": '{"analyst":"openai","model":"m-1","usage":{"prompt_tokens":7}}',
    }  # fmt: skip
    return Verdict(**(usual | changes))


def traded(found: Verdict) -> tuple[Any, ...]:
    return found.side, found.sl_pips, found.tp_pips, found.confidence, found.reason, found.report


def recorded(found: Verdict) -> dict[str, Any]:
    seen: dict[str, Any] = msgspec.json.decode(found.state_json)["shadow"]
    return seen


FAILURES = [
    AnalysisError("the endpoint was away"),
    ValueError("a defect"),
    TimeoutError("of its own"),
    RecursionError("too deep"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("signal", [a_signal(), turned(a_signal()), a_signal(features={"vol_ratio_20_120": 9.0})])
async def test_a_shadow_that_fails_changes_nothing_and_is_recorded(signal: Any, failure: Exception) -> None:
    found = await shadow(saying(failure)).analyse(an_intent(signal), 5.0)
    assert traded(found) == traded(offline.judge(signal))
    seen = recorded(found)
    assert seen["side"] is None
    assert seen["error"]


async def test_a_silent_shadow_is_waited_for_within_its_limit_and_within_the_deadline() -> None:
    for limit, deadline_s in ((0.05, 60.0), (60.0, 0.2)):
        began = time.monotonic()
        found = await shadow(silence, shadow_s=limit).analyse(an_intent(), deadline_s)
        assert time.monotonic() - began < deadline_s
        assert time.monotonic() - began < 5.0
        assert traded(found) == traded(offline.judge(a_signal()))
        assert "no verdict within" in recorded(found)["error"]


async def test_the_shadow_is_told_how_long_it_has() -> None:
    told: list[float] = []

    async def says(intent: TradeIntent, deadline_s: float) -> Verdict:
        told.append(deadline_s)
        return a_verdict()

    await shadow(says).analyse(an_intent(), 600.0)
    await shadow(says).analyse(an_intent(), 50.0)
    assert told[0] == 119.0
    assert 43.0 < told[1] <= 44.0


async def test_a_shadow_that_ends_its_own_wait_says_itself_who_was_silent() -> None:
    async def says(intent: TradeIntent, deadline_s: float) -> Verdict:
        await asyncio.sleep(deadline_s)
        raise AnalysisError("the endpoint gave no answer")

    found = await shadow(says, shadow_s=0.3).analyse(an_intent(), 60.0)
    assert "the endpoint gave no answer" in recorded(found)["error"]


async def test_a_cancelled_analysis_cancels_the_shadow_and_is_no_verdict() -> None:
    task = asyncio.create_task(shadow(silence).analyse(an_intent(), 60.0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_shadow_whose_settings_are_refused_does_not_keep_the_worker_from_starting() -> None:
    other = Other(saying(a_verdict()), ConfigError("HTTP 401"))
    found = ShadowAnalyst(OfflineAnalyst(), other, Llm(), SystemClock())
    await found.start()
    await found.close()
    assert other.closed


@settings(max_examples=200, deadline=None)
@given(
    side=st.sampled_from(["BUY", "SELL", "HOLD"]),
    sl_pips=st.none() | st.floats(),
    tp_pips=st.none() | st.floats(),
    confidence=st.floats(),
    reason=st.text(max_size=200),
    state_json=st.sampled_from(["", "x", "[]", "null", '{"verdict":1}', '{"shadow":{"side":"BUY"}}', "[" * 5_000]),
    is_turned=st.booleans(),
)
def test_whatever_it_says_the_traded_verdict_is_the_offline_one(
    side: Any,
    sl_pips: float | None,
    tp_pips: float | None,
    confidence: float,
    reason: str,
    state_json: str,
    is_turned: bool,
) -> None:
    said = Verdict(
        side=side, sl_pips=sl_pips, tp_pips=tp_pips, confidence=confidence, reason=reason, state_json=state_json
    )
    signal = turned(a_signal()) if is_turned else a_signal()
    found = asyncio.run(shadow(saying(said)).analyse(an_intent(signal), 5.0))
    alone = offline.judge(signal)
    assert traded(found) == traded(alone)
    state = msgspec.json.decode(found.state_json)
    assert state.pop("shadow")["side"] == side
    assert state == msgspec.json.decode(alone.state_json)


async def test_what_it_said_is_recorded_with_the_check_that_it_did_not_pass() -> None:
    good = recorded(await shadow(saying(a_verdict())).analyse(an_intent(), 5.0))
    assert (good["side"], good["sl_pips"], good["tp_pips"], good["confidence"]) == ("SELL", 60.0, 150.0, 0.9)
    assert (good["analyst"], good["reason"], good["refused"], good["error"]) == ("other", "down", None, "")
    assert good["state"] == {"analyst": "openai", "model": "m-1", "usage": {"prompt_tokens": 7}}
    bad = recorded(await shadow(saying(a_verdict(sl_pips=1.0))).analyse(an_intent(), 5.0))
    assert bad["refused"]["rule"] == "stop_distance"
    assert bad["sl_pips"] == 1.0


async def test_an_account_of_itself_that_is_too_long_is_left_out_by_name() -> None:
    long = msgspec.json.encode({"analyst": "openai", "argument": "x" * 100_000}).decode()
    seen = recorded(await shadow(saying(a_verdict(state_json=long))).analyse(an_intent(), 5.0))
    assert seen["state"] == {"analyst": "openai", "left_out": ["argument"]}


async def test_an_unreadable_signal_asks_nobody() -> None:
    found = await shadow(saying(AssertionError("asked"))).analyse(an_intent(signal_json="x"), 5.0)
    assert found.side == "HOLD"
    assert "unreadable" in recorded(found)["error"]
