"""Record over real HTTP, replay without any: the same verdicts to the byte, alone and in the whole pipeline."""

from __future__ import annotations

import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.analysts import calling, chat, recordings, registry
from actors.analysts.analyst import AnalysisError, Ask, no_store
from actors.analysts.verdict import Verdict
from bus.clock import SystemClock
from bus.records import TradeIntent
from config import load
from config.settings import Llm
from tests.chaos.workloads import Model
from tests.kit import panel as cast_kit
from tests.kit import pipeline
from tests.kit.analysis import a_signal, an_intent, granted, turned
from tests.kit.llm_server import LlmServer, Step, completion, decision, error_step
from tests.kit.panel import Cast, opinion

KEY = "sk-a-key-that-nobody-may-read-0123456789"
SCRIPTS: dict[str, list[Step]] = {
    "good": [completion(decision())],
    "fenced": [completion(f"<think>hm</think>\n```json\n{decision(side='HOLD', sl_pips=None, tp_pips=None)}\n```")],
    "repaired": [completion("I would buy."), completion(decision(reason="Up \u00fc \u2028 \x7f."))],
    "never valid": [completion("{}"), completion("")],
    "cut off": [completion(decision(), finish_reason="length")],
    "refused": [completion(None, refusal="I cannot.")],
    "after a retry": [error_step(503, "loading"), completion(decision())],
    "simpler dialect": [error_step(400, "response_format is not supported"), completion(decision())],
    "failed": [error_step(401, f"Incorrect API key {KEY}")],
    "hung up": [Step(body=b"x", cut_after=0)] * 3,
}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(load, "ROOT", tmp_path)
    monkeypatch.setattr(chat, "BACKOFF_S", 0.01)
    monkeypatch.setenv("PILOT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PILOT_LLM_API_KEY", KEY)


@pytest.fixture
async def server() -> AsyncIterator[LlmServer]:
    async with LlmServer() as found:
        yield found


def the_intents(prefix: str) -> list[TradeIntent]:
    """Return one intent for each script: the same signals in every run, under other ids."""
    signals = [
        (turned if number % 2 else msgspec.structs.replace)(a_signal(bar_time=f"2026-10-{number + 1:02d}"))
        for number in range(len(SCRIPTS))
    ]
    return [
        an_intent(one, id=f"{prefix}-{one.bar_time}", idempotency_key=f"EURUSD:D1:{one.bar_time}:scanner")
        for one in signals
    ]


async def told(settings: Llm, intents: list[TradeIntent], server: LlmServer | None = None) -> list[Verdict | str]:
    """Return each verdict, or why there was none."""
    # A replay must do without a store, too.
    analyst = registry.build(settings, SystemClock(), no_store if settings.analyst == "replay" else granted)
    found: list[Verdict | str] = []
    for intent, script in zip(intents, SCRIPTS.values(), strict=True):
        if server is not None:
            server.script.extend(script)
        try:
            with calling.about(intent):
                found.append(await analyst.analyse(intent, 5.0))
        except AnalysisError as error:
            found.append(str(error))
    await analyst.close()
    return found


async def told_of(settings: Llm, intent: TradeIntent, ask: Ask) -> Verdict | str:
    """Return the verdict on one intent, or why there was none."""
    analyst = registry.build(settings, SystemClock(), ask)
    try:
        with calling.about(intent):
            return await analyst.analyse(intent, 5.0)
    except AnalysisError as error:
        return str(error)
    finally:
        await analyst.close()


class NoSocket:
    def __init__(self, *given: object, **named: object) -> None:
        raise AssertionError("a replay opened a socket")


async def test_a_replay_says_the_same_to_the_byte_and_opens_no_socket(
    server: LlmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = Llm(analyst="openai", base_url=server.url, model="test-model")
    first = await told(live, the_intents("one"), server)
    assert not server.script, "not every scripted answer was asked for"
    assert len({str(one) for one in first}) == len(SCRIPTS)
    asked = len(server.requests)

    monkeypatch.setattr(socket, "socket", NoSocket)
    monkeypatch.setattr(socket, "create_connection", NoSocket)
    monkeypatch.setattr(socket, "getaddrinfo", NoSocket)
    second = await told(Llm(analyst="replay"), the_intents("two"))
    assert second == first
    assert len(server.requests) == asked


async def test_a_panel_is_replayed_with_all_its_voices_and_its_budget(
    server: LlmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cast = Cast()
    cast.says["bear"] = ["I would rather not say.", opinion(argument="Down.", stance=-0.2)]
    server.respond = cast.respond
    live = cast_kit.settings(server, rounds=2, decision_tokens_max=60_000)
    first = await told_of(live, an_intent(), granted)
    assert isinstance(first, Verdict) and first.side == "BUY"
    tight = msgspec.structs.replace(live, decision_tokens_max=10_000)
    held = await told_of(tight, an_intent(), granted)
    assert isinstance(held, Verdict) and "budget of 10000 tokens" in held.reason

    monkeypatch.setattr(socket, "socket", NoSocket)
    for played, wanted in ((live, first), (tight, held)):
        replay = msgspec.structs.replace(played, analyst="replay", replay_analyst="panel")
        assert await told_of(replay, an_intent(id="another"), no_store) == wanted


async def test_every_call_stands_in_the_recording_and_no_key_does(server: LlmServer) -> None:
    await told(Llm(analyst="openai", base_url=server.url, model="test-model"), the_intents("one"), server)
    path = load.data_folder() / recordings.FOLDER / "llm.1.jsonl"
    lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    assert len(lines) == len(SCRIPTS) + 2, "two were asked to repair their answer"
    assert KEY not in path.read_text()
    assert sum("error" in line for line in lines) == 2
    good = lines[0]
    assert (good["intent_id"], good["subject"]) == ("one-2026-10-01", "EURUSD:D1:2026-10-01:scanner")
    assert (good["role"], good["model"], good["reply"]["model"]) == ("analyst", "test-model", "test-model-2026")
    assert good["reply"]["usage"] == {"prompt_tokens": 300, "completion_tokens": 40}
    assert good["reply"]["parameters"] == {
        "max_tokens": 1_024, "model": "test-model", "seed": chat.SEED, "temperature": 0,
    }  # fmt: skip
    assert good["reply"]["content"] == decision()
    assert good["prompt"] == server.asked[0].body["messages"]
    # The recording itself can be checked: the hash names the prompt.
    from actors.analysts import prompts

    assert all(prompts.digest(line["prompt"]) == line["prompt_sha256"] for line in lines)


async def test_a_key_that_looks_like_none_is_masked_when_the_model_says_it(
    server: LlmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLED_OTHERWISE", "swordfish-of-the-desk")
    live = Llm(analyst="openai", base_url=server.url, model="test-model", api_key_env="CALLED_OTHERWISE")
    server.default = completion(decision(reason="The key is swordfish-of-the-desk."))
    analyst = registry.build(live, SystemClock(), granted)
    await analyst.analyse(an_intent(), 5.0)
    await analyst.close()
    assert server.asked[0].headers["authorization"] == "Bearer swordfish-of-the-desk"
    said = (load.data_folder() / recordings.FOLDER / "llm.1.jsonl").read_text()
    assert "The key is ***." in said
    assert "swordfish" not in said


async def test_another_prompt_than_the_recorded_one_is_no_verdict(server: LlmServer) -> None:
    live = Llm(analyst="openai", base_url=server.url, model="test-model")
    await told(live, the_intents("one"), server)
    other = await told(Llm(analyst="replay", reward_to_risk_min=1.5), the_intents("two"))
    assert all(isinstance(one, str) and one.startswith("not in the recording") for one in other)


async def test_recording_can_be_switched_off(server: LlmServer) -> None:
    live = Llm(analyst="openai", base_url=server.url, model="test-model", record=False)
    await told(live, the_intents("one"), server)
    assert not (load.data_folder() / recordings.FOLDER).exists()


# ── the whole pipeline ──────────────────────────────────────────────────────


def decisions(run: pipeline.Pipeline) -> dict[str, tuple[Any, ...]]:
    """Return what was decided, and why, by the intents' keys."""
    return {
        intent.idempotency_key: (
            intent.suggested_side, intent.suggested_sl_pips, intent.suggested_tp_pips, intent.agent_risk_report,
            intent.agent_state_json,
        )
        for intent in run.intents()
    }  # fmt: skip


def events(run: pipeline.Pipeline, event: str) -> int:
    """Return how often this arrow stands in the journal."""
    with run.reader() as reader:
        return sum(move.event == event for move in reader.journal())


def is_decided(run: pipeline.Pipeline) -> bool:
    """Return whether the first scan's three intents have their verdicts; what is traded then is another matter."""
    return run.counts().keys() != set() and sum(one[0] is not None for one in decisions(run).values()) == 3


def test_a_replayed_pipeline_decides_as_the_recorded_one_to_the_byte(tmp_path: Path) -> None:
    """In the recorded run one attempt fails, and one worker is killed with a reply that it never told."""
    with Model() as model:
        model.server.script.extend([
            *[error_step(503, "loading")] * 3,  # one attempt is lost
            completion("I would rather sell."), completion(decision(side="SELL", reason="Down.")),
            completion(decision(side="SELL", reason="Down again.")), completion(decision(sl_pips=1.0)),
        ])  # fmt: skip
        llm = {"analyst": "openai", "base_url": model.server.url, "model": "test-model", "slots": 1}
        with pipeline.running(llm=llm) as run:
            run.arm("llm.before_decide", at_pass=2)
            run.start()
            run.eventually(lambda: is_decided(run), 60)
            first = decisions(run)
            assert run.fired("llm.before_decide")
            assert (events(run, "retry"), events(run, "lose_lease")) == (1, 1)
            shutil.copytree(run.data / "recordings", tmp_path / "kept")
            models = shutil.copytree(run.data / "models", tmp_path / "models")
        asked = len(model.server.requests)
    assert len(first) == 3
    assert len({one[0] for one in first.values()}) > 1, "the script was meant to bring about different verdicts"

    replay = {"analyst": "replay", "replay_path": str(tmp_path / "kept"), "slots": 2}
    with pipeline.running(llm=replay) as run:
        run.data.mkdir(mode=0o700)
        shutil.copytree(models, run.data / "models", ignore=shutil.ignore_patterns("last_scan.json"))
        run.start("--scale", "llm=2")
        run.eventually(lambda: is_decided(run), 60)
        assert decisions(run) == first
        assert (events(run, "retry"), events(run, "lose_lease")) == (1, 0), "what failed fails again; nobody was killed"
        assert not (run.data / "recordings").exists(), "a replay is not recorded"
    assert len(model.server.requests) == asked
