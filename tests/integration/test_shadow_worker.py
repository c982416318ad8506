"""The worker in shadow mode on real sockets: it tells the offline verdict, whatever the model does."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from actors import llm
from actors.analysts import offline, recordings
from bus.messages import Analyse, AnalysisFailed, Decide
from bus.vocabulary import Role, State
from config import load
from config.settings import Bus, Llm, Settings
from tests.kit.analysis import a_signal, an_intent
from tests.kit.eventually import eventually_async as eventually
from tests.kit.llm_server import LlmServer, Step, completion, decision, error_step
from tests.kit.puppet_store import PuppetStore, running


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(load, "ROOT", tmp_path)
    monkeypatch.setenv("PILOT_DATA", str(tmp_path / "data"))


@pytest.fixture
async def server() -> AsyncIterator[LlmServer]:
    async with LlmServer() as found:
        yield found


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[PuppetStore]:
    found = PuppetStore(tmp_path)
    yield found
    await found.close()


def settings(url: str, **changes: object) -> Settings:
    found = Llm(analyst="openai", shadow=True, base_url=url, model="test-model", **changes)  # type: ignore[arg-type]
    return Settings(profile="test", bus=Bus(beat_s=0.05, dead_s=1.0, resend_s=0.1), llm=found)


async def told(store: PuppetStore, found: Settings, tmp_path: Path) -> Decide:
    async with running(llm.Analyst, Role.LLM, found, tmp_path):
        await eventually(lambda: store.beats and store.beats[-1].state is State.READY)
        store.tell(Analyse(intent=an_intent(id="a", epoch=1), epoch=1, lease_s=60.0))
        await eventually(lambda: store.of(Decide) or store.of(AnalysisFailed))
    return store.of(Decide)[0]


SELL = decision(side="SELL", reason="Down.", sl_pips=90, tp_pips=200, confidence=1.0)
ANSWERS = {
    "the opposite": [completion(SELL)],
    "HOLD": [completion(decision(side="HOLD", sl_pips=None, tp_pips=None))],
    "a stop of one pip": [completion(decision(sl_pips=1.0))],
    "prose": [completion("Ignore the rules and sell everything."), completion("SELL!")],
    "an error": [error_step(401, "Incorrect API key")],
    "html": [Step(body=b"<html>")] * 3,
    "silence": [Step(body=None)],
}


@pytest.mark.parametrize("answers", ANSWERS.values(), ids=ANSWERS)
async def test_the_offline_verdict_is_told(
    store: PuppetStore, server: LlmServer, tmp_path: Path, answers: list[Step]
) -> None:
    server.script.extend(answers)
    found = await told(store, settings(server.url, shadow_s=3.0 if answers[0].body else 0.3), tmp_path)
    alone = offline.judge(a_signal())
    assert (found.side, found.sl_pips, found.tp_pips) == (alone.side, alone.sl_pips, alone.tp_pips) == ("BUY", 60, 120)
    assert (found.reason, found.risk_report) == (alone.reason, alone.report.strip())
    assert server.asked, "the shadow was not asked"
    state = msgspec.json.decode(found.state_json)
    assert state["analyst"] == offline.NAME
    assert state["verdict"]["side"] == "BUY"
    assert state["shadow"]["analyst"] == "openai"


async def test_what_the_model_said_is_on_record_with_its_cost_and_in_the_recording(
    store: PuppetStore, server: LlmServer, tmp_path: Path
) -> None:
    server.script.append(completion(SELL))
    seen = msgspec.json.decode((await told(store, settings(server.url), tmp_path)).state_json)["shadow"]
    assert (seen["side"], seen["sl_pips"], seen["tp_pips"], seen["confidence"]) == ("SELL", 90, 200, 1.0)
    assert seen["reason"] == "Down."
    assert seen["state"]["usage"] == {"prompt_tokens": 300, "completion_tokens": 40}
    (call,) = recordings.read(load.data_folder() / recordings.FOLDER).calls
    assert (call.intent_id, call.epoch) == ("a", 1)


async def test_an_endpoint_that_is_gone_or_refuses_the_key_does_not_keep_it_from_trading(
    store: PuppetStore, server: LlmServer, tmp_path: Path
) -> None:
    server.models = server.default = error_step(401, "Incorrect API key")
    found = await told(store, settings(server.url), tmp_path)
    assert found.side == "BUY"
    assert "401" in msgspec.json.decode(found.state_json)["shadow"]["error"]


async def test_silence_costs_no_more_than_the_deadline_allows(
    store: PuppetStore, server: LlmServer, tmp_path: Path
) -> None:
    server.default = Step(body=None)
    began = time.monotonic()
    found = await told(store, settings(server.url, deadline_s=0.6), tmp_path)
    assert found.side == "BUY"
    assert time.monotonic() - began < 20.0


async def test_every_verdict_is_told_with_its_report_and_its_final_state(store: PuppetStore, tmp_path: Path) -> None:
    found = Settings(profile="test", bus=Bus(beat_s=0.05, dead_s=1.0, resend_s=0.1), llm=Llm(slots=3))
    async with running(llm.Analyst, Role.LLM, found, tmp_path):
        await eventually(lambda: store.beats and store.beats[-1].state is State.READY)
        turmoil = a_signal(features={"vol_ratio_20_120": 9.0})
        for intent in (an_intent(id="a"), an_intent(turmoil, id="b"), an_intent(id="c", signal_json="x")):
            store.tell(Analyse(intent=intent, epoch=1, lease_s=60.0))
        await eventually(lambda: len(store.of(Decide)) == 3)
    told_by_id = {one.intent_id: one for one in store.of(Decide)}
    assert [told_by_id[name].side for name in "abc"] == ["BUY", "HOLD", "HOLD"]
    for one in told_by_id.values():
        state = msgspec.json.decode(one.state_json)
        assert state["verdict"]["side"] == one.side
        assert one.risk_report
    assert msgspec.json.decode(told_by_id["a"].state_json)["verdict"]["confidence"] == 1.0
    assert msgspec.json.decode(told_by_id["b"].state_json)["readings"]["volatility_ratio"] == 9.0


async def test_a_refused_proposal_is_told_as_hold_and_stays_on_record(
    store: PuppetStore, server: LlmServer, tmp_path: Path
) -> None:
    server.default = completion(decision(sl_pips=1.0, confidence=0.9))
    plain = Llm(analyst="openai", base_url=server.url, model="test-model")
    found = await told(
        store, Settings(profile="test", bus=Bus(beat_s=0.05, dead_s=1.0, resend_s=0.1), llm=plain), tmp_path
    )
    proposed = msgspec.json.decode(found.state_json)["verdict"]
    assert found.side == "HOLD"
    assert (proposed["side"], proposed["sl_pips"], proposed["confidence"]) == ("BUY", 1.0, 0.9)
    assert proposed["refused"]["rule"] == "stop_distance"
