"""Which recorded call answers which question, whatever died in either run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.analysts import calling, completers, prompts, recordings, registry, replay
from actors.analysts.analyst import AnalysisError
from actors.analysts.answer import Answer, schema_of
from actors.analysts.prompts import ChatMessage
from actors.analysts.recordings import Call, Recording
from actors.analysts.replay import ReplayCompleter
from bus.clock import SystemClock
from config.load import ConfigError
from config.settings import Llm
from tests.kit.analysis import an_intent
from tests.unit.test_recordings import a_call, a_reply

ASKED: list[ChatMessage] = [{"role": "user", "content": "EURUSD?"}]
SHA = prompts.digest(ASKED)
SCHEMA = schema_of("decision", Answer)


def a_line(content: str, **changes: Any) -> Call:
    usual: dict[str, Any] = {"prompt": None, "prompt_sha256": SHA, "reply": a_reply(content)}
    return a_call(**(usual | changes))


SUBJECT = "EURUSD:D1:2026-10-30:scanner"


async def chosen(calls: list[Call], number: int = 1, *, subject: str = SUBJECT, attempt: int = 1) -> str:
    """Return what answers the n-th call of another run's analysis: text, or the error's."""
    found = completer(*calls)
    with calling.about(an_intent(id="other", idempotency_key=subject, attempts=attempt, epoch=9)):
        said = "nothing was asked"
        for _ in range(number):
            try:
                said = (await found.complete(ASKED, SCHEMA, 5.0)).content
            except AnalysisError as error:
                said = str(error).partition(":")[0]
    return said


MISSING = "not in the recording"


async def test_nothing_recorded_is_no_answer() -> None:
    assert await chosen([]) == MISSING
    assert await chosen([a_line("a")], number=2) == MISSING


async def test_an_analysis_is_answered_by_the_same_subject_of_another_run() -> None:
    manual = "EURUSD:D1:2026-10-30:manual"
    calls = [a_line("ours"), a_line("other", subject=manual, intent_id="i2")]
    assert await chosen(calls) == "ours"
    assert await chosen(calls, subject=manual) == "other"
    assert await chosen(calls[1:]) == "other", "the prompt is the same, whoever asked"


async def test_of_several_recorded_runs_the_newest_answers() -> None:
    first = [
        a_line("", intent_id="i1", reply=None, error="HTTP 503"),
        a_line("old", intent_id="i1", attempt=2, epoch=2),
    ]
    calls = [*first, a_line("new", intent_id="i2")]
    assert [await chosen(calls, attempt=attempt) for attempt in (1, 2)] == ["new", "new"]


async def test_calls_of_one_prompt_are_answered_in_their_order() -> None:
    calls = [a_line("first", call=1), a_line("second", call=2)]
    assert [await chosen(calls, number) for number in (1, 2, 3)] == ["first", "second", MISSING]


async def test_a_failed_attempt_fails_again_and_the_next_one_succeeds() -> None:
    calls = [a_line("", attempt=1, reply=None, error="HTTP 503"), a_line("good", attempt=2, epoch=2)]
    assert await chosen(calls, attempt=1) == "HTTP 503"
    assert await chosen(calls, attempt=2) == "good"
    assert await chosen(calls, attempt=3) == "good", "a kill in this run made one attempt more"


async def test_an_attempt_that_a_kill_left_unrecorded_is_answered_by_the_next() -> None:
    assert await chosen([a_line("good", attempt=2, epoch=2)], attempt=1) == "good"


@pytest.mark.parametrize("attempt", [1, 2])
async def test_a_reply_that_died_with_its_worker_is_not_replayed_but_the_one_that_was_told(attempt: int) -> None:
    """Killed between reply and verdict: the lost lease counts as an attempt. Stopped there: it does not."""
    calls = [a_line("lost", epoch=1), a_line("told", epoch=2, attempt=attempt)]
    assert await chosen(calls, attempt=1) == "told"
    assert await chosen(calls, attempt=2) == "told"


async def test_an_attempt_that_was_given_back_after_an_error_is_answered_as_it_ended() -> None:
    calls = [a_line("", reply=None, error="HTTP 503"), a_line("told", epoch=2)]
    assert await chosen(calls, attempt=1) == "told"


async def test_no_answer_is_mixed_from_two_analyses() -> None:
    calls = [a_line("lost 1", epoch=1), a_line("lost 2", epoch=1, call=2), a_line("told", epoch=2)]
    assert await chosen(calls, number=2) == MISSING


def completer(*calls: Call, speed: float = 0.0) -> ReplayCompleter:
    return ReplayCompleter("llm", Recording(list(calls), 0), speed=speed)


async def test_what_was_not_recorded_says_which_prompt_is_missing() -> None:
    with pytest.raises(AnalysisError, match=f"not in the recording: call 1 of the role 'analyst' .*{SHA}"):
        await completer(a_line("x", prompt_sha256="0" * 64)).complete(ASKED, SCHEMA, 5.0)
    with calling.as_role("bull"), pytest.raises(AnalysisError, match="role 'bull'"):
        await completer(a_line("x")).complete(ASKED, SCHEMA, 5.0)


async def test_a_cancelled_call_is_no_answer() -> None:
    with pytest.raises(AnalysisError, match="not in the recording"):
        await completer(a_line("", reply=None, error="cancelled", is_cancelled=True)).complete(ASKED, SCHEMA, 5.0)


async def test_a_reply_comes_back_as_it_was_and_an_error_in_its_own_words() -> None:
    line = a_line("hm")
    assert await completer(line).complete(ASKED, SCHEMA, 5.0) == line.reply
    with pytest.raises(AnalysisError, match=r"^HTTP 503 at the end$"):
        await completer(a_line("", reply=None, error="HTTP 503 at the end")).complete(ASKED, SCHEMA, 5.0)


async def test_calls_are_counted_for_each_analysis_and_role_alone() -> None:
    found = completer(
        a_line("bull 1", role="bull"), a_line("bull 2", role="bull", call=2), a_line("bear 1", role="bear")
    )

    async def ask(role: str) -> str:
        with calling.as_role(role):
            return (await found.complete(ASKED, SCHEMA, 5.0)).content

    async def analyse(name: str) -> list[str]:
        with calling.about(an_intent(id=name)):
            both = await asyncio.gather(ask("bull"), ask("bear"))
            return [*both, await ask("bull")]

    first, second = await asyncio.gather(analyse("a"), analyse("b"))
    assert first == second == ["bull 1", "bear 1", "bull 2"]


async def test_time_passes_as_it_did_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.extend([seconds] if seconds else [])

    monkeypatch.setattr(replay.asyncio, "sleep", sleep)  # type: ignore[attr-defined]
    line = a_line("x", latency_ms=2_000)
    await completer(line).complete(ASKED, SCHEMA, 5.0)
    assert slept == []
    await completer(line, speed=10.0).complete(ASKED, SCHEMA, 5.0)
    assert slept == [0.2]
    with pytest.raises(AnalysisError, match="no answer within 1 s"):
        await completer(line, speed=1.0).complete(ASKED, SCHEMA, 1.0)
    assert slept == [0.2, 1.0]


# ── choosing it ─────────────────────────────────────────────────────────────


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PILOT_DATA", str(tmp_path))
    return tmp_path


def test_without_a_recording_it_does_not_start(data: Path) -> None:
    with pytest.raises(ConfigError, match=r"llm\.replay_path"):
        registry.build(Llm(analyst="replay"), SystemClock())
    (data / "mine.jsonl").write_text("{}\nhalf")
    with pytest.raises(ConfigError, match="holds no recorded call, and 2 lines that are none"):
        registry.build(Llm(analyst="replay", replay_path="mine.jsonl"), SystemClock())


def test_it_needs_neither_address_nor_key_and_bears_the_name_of_what_it_replays(data: Path) -> None:
    (data / recordings.FOLDER).mkdir()
    (data / recordings.FOLDER / "llm.1.jsonl").write_bytes(msgspec.json.encode(a_line("x", host="far.example")) + b"\n")
    assert registry.build(Llm(analyst="replay"), SystemClock()).name == "openai"
    assert completers.build(Llm(analyst="replay"), SystemClock())["llm"].host == "far.example"


def test_a_shadow_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"llm\.shadow"):
        registry.build(Llm(shadow=True), SystemClock())
