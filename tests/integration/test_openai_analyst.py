"""The analyst behind an OpenAI-compatible endpoint, over real HTTP: refusals, faults, dialects, and one good answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import format_datetime

import msgspec
import pytest
from loguru import logger

from actors.analysts import chat, endpoints, registry, service, verdict
from actors.analysts.analyst import AnalysisError
from actors.analysts.chat import Dialect, Rung
from actors.analysts.openai import OpenAiAnalyst
from bus.clock import SystemClock
from config import load
from config.load import ConfigError
from config.settings import Llm
from tests.kit.analysis import a_signal, an_intent, granted
from tests.kit.eventually import eventually_async
from tests.kit.llm_server import LlmServer, Step, completion, decision, error_step, json_step

KEY = "sk-secret-0123456789"


@pytest.fixture
async def server() -> AsyncIterator[LlmServer]:
    async with LlmServer() as found:
        yield found


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.delenv("PILOT_LLM_API_KEY", raising=False)
    monkeypatch.setattr(load, "ROOT", tmp_path)


@pytest.fixture
def lines() -> Iterator[list[str]]:
    found: list[str] = []
    sink = logger.add(found.append, level="DEBUG", format="{message} {extra}")
    yield found
    logger.remove(sink)


def settings(url: str, **changes: object) -> Llm:
    usual: dict[str, object] = {"analyst": "openai", "base_url": url, "model": "test-model"}
    return Llm(**(usual | changes))  # type: ignore[arg-type]


def an_analyst(found: Llm) -> OpenAiAnalyst:
    clock = SystemClock()
    served = {endpoints.ONLY: endpoints.service(endpoints.ONLY, found, found, clock, backoff_s=0.01)}
    return OpenAiAnalyst(found, clock, served, granted)


@asynccontextmanager
async def analyst(server: LlmServer, **changes: object) -> AsyncIterator[OpenAiAnalyst]:
    found = an_analyst(settings(server.url, **changes))
    try:
        yield found
    finally:
        await found.close()


async def judge(server: LlmServer, *steps: Step, deadline_s: float = 5.0) -> verdict.Verdict:
    server.script.extend(steps)
    async with analyst(server) as found:
        return await found.analyse(an_intent(), deadline_s)


# ── settings that cannot work ───────────────────────────────────────────────


@pytest.mark.parametrize(
    "url",
    [
        "", "api.example.com/v1", "ftp://127.0.0.1/v1", "http://", "http://127.0.0.1:99999/v1", "file:///etc/passwd",
        "http://127.0.0.1/v1?key=1", "http://127.0.0.1/v1#x", "http://[::1/v1", "https://user:pass@127.0.0.1/v1",
        "http://api.example.com/v1", "http://127.0.0.1.example.com/v1", "http://10.0.0.1:8000/v1",
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_right_or_safe_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match=r"llm\.base_url") as found:
        registry.build(settings(url), SystemClock())
    assert "pass@" not in str(found.value)


@pytest.mark.parametrize("model", ["", "  ", "set-me"])
def test_a_missing_model_is_a_configuration_error(model: str) -> None:
    with pytest.raises(ConfigError, match=r"llm\.model"):
        registry.build(settings("http://127.0.0.1:1/v1", model=model), SystemClock())


def test_a_missing_key_is_a_configuration_error_for_another_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="PILOT_LLM_API_KEY"):
        registry.build(settings("https://api.example.com/v1"), SystemClock())
    assert registry.build(settings("http://localhost:1/v1"), SystemClock()).name == "openai"
    assert registry.build(settings("http://[::1]:1/v1"), SystemClock()).name == "openai"
    monkeypatch.setenv("PILOT_LLM_API_KEY", "two\nlines")
    with pytest.raises(ConfigError, match="HTTP header") as found:
        registry.build(settings("https://api.example.com/v1"), SystemClock())
    assert "two" not in str(found.value)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_at_start_is_a_configuration_error(server: LlmServer, status: int) -> None:
    server.models = error_step(status, "Incorrect API key")
    async with analyst(server) as found:
        with pytest.raises(ConfigError, match="PILOT_LLM_API_KEY"):
            await found.start()


@pytest.mark.parametrize(
    ("models", "probe", "advice"),
    [
        (error_step(404, "not found"), error_step(404, "not found"), "llm.base_url"),
        (error_step(404, "not found"), error_step(401, "no key"), "PILOT_LLM_API_KEY"),
        (json_step({"data": [{"id": "other"}]}), error_step(404, "model does not exist"), "llm.model"),
        (json_step({"data": []}), error_step(400, "test-model is not a valid model ID"), "llm.model"),
        (Step(body=b"<html>"), Step(body=b"<html>welcome</html>"), "no JSON"),
        (Step(status=301, headers={"Location": "/x"}), Step(status=308, headers={"Location": "/x"}), "llm.base_url"),
    ],
)
async def test_a_wrong_path_or_model_at_start_is_a_configuration_error(
    server: LlmServer, models: Step, probe: Step, advice: str
) -> None:
    server.models, server.default = models, probe
    async with analyst(server) as found:
        with pytest.raises(ConfigError, match=advice):
            await found.start()


@pytest.mark.parametrize("probe", [error_step(503, "loading"), error_step(429, "slow down"), completion("ok")])
async def test_an_endpoint_that_lists_no_models_or_is_busy_is_no_error(server: LlmServer, probe: Step) -> None:
    server.models, server.default = error_step(404, "not found"), probe
    async with analyst(server) as found:
        await found.start()


async def test_an_endpoint_that_is_away_at_start_is_no_error_of_the_settings(lines: list[str]) -> None:
    found = an_analyst(settings("http://127.0.0.1:1/v1"))
    await found.start()
    await found.close()
    assert "cannot be reached yet" in "".join(lines)


async def test_a_silent_endpoint_does_not_hold_up_the_start(server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "START_S", 0.1)
    server.models = Step(body=None)
    async with analyst(server) as found:
        await found.start()


async def test_a_listed_model_costs_no_request_for_an_answer(server: LlmServer) -> None:
    async with analyst(server) as found:
        await found.start()
    assert [request.path for request in server.requests] == ["/v1/models"]


# ── answers that are no decision ────────────────────────────────────────────


@pytest.mark.parametrize("bad", ["I would buy here.", "", "{}", decision(side="buy"), decision()[:-1]])
async def test_prose_is_repaired_once_and_then_no_trade(server: LlmServer, bad: str) -> None:
    found = await judge(server, completion(bad), completion(bad), completion(decision()))
    assert found.side == "HOLD"
    assert found.reason.startswith("No valid decision")
    assert len(server.asked) == 2
    assert "no valid answer" in server.asked[1].body["messages"][-1]["content"]
    assert all(message["content"] for message in server.asked[1].body["messages"])


async def test_a_repaired_answer_counts_and_says_so(server: LlmServer) -> None:
    found = await judge(server, completion("BUY!"), completion(decision()))
    assert found.side == "BUY"
    assert "after one repair" in found.report
    state = msgspec.json.decode(found.state_json)
    assert (state["repaired"], state["requests"], state["usage"]["prompt_tokens"]) == (True, 2, 600)


@pytest.mark.parametrize(
    "step",
    [
        completion(decision(), finish_reason="length"),
        completion(decision(), finish_reason="content_filter"),
        completion(decision(), refusal="I cannot give financial advice."),
        completion(None, refusal="I cannot give financial advice."),
    ],
)
async def test_a_cut_filtered_or_refused_answer_is_no_trade_at_once(server: LlmServer, step: Step) -> None:
    found = await judge(server, step)
    assert (found.side, found.sl_pips) == ("HOLD", None)
    assert len(server.asked) == 1


async def test_an_empty_answer_is_repaired(server: LlmServer) -> None:
    assert (await judge(server, completion(None), completion(decision()))).side == "BUY"


async def test_an_unreadable_signal_is_no_trade_and_no_request(server: LlmServer) -> None:
    async with analyst(server) as found:
        assert (await found.analyse(an_intent(signal_json="x"), 5.0)).side == "HOLD"
    assert server.requests == []


# ── faults of the endpoint ──────────────────────────────────────────────────

FAULTS = {
    "408": error_step(408, "timeout"),
    "409": error_step(409, "conflict"),
    "429": error_step(429, "slow down"),
    "500": error_step(500, "oops"),
    "502 html": Step(status=502, body=b"<html>Bad Gateway</html>"),
    "503": error_step(503, "loading model"),
    "hung up before the answer": Step(body=b"x", cut_after=0),
    "hung up inside the answer": Step(body=completion(decision()).body, cut_after=50),
    "html instead of JSON": Step(body=b"<html>please sign in</html>"),
    "empty": Step(body=b""),
    "half of the JSON": Step(body=(completion(decision()).body or b"")[:60]),
    "bytes": Step(body=b"\xff\xfe\x00"),
    "no choices": json_step({"choices": []}),
    "another shape": json_step({"choices": "none"}),
    "nested too deeply": Step(body=b'{"choices":' + b"[" * 100_000),
    "error inside 200": json_step({"error": {"message": "Provider returned error", "code": 502}}),
    "error text inside 200": json_step({"error": "overloaded"}),
    "said to be gzip": Step(body=b"no gzip", headers={"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_what_may_pass_is_tried_again_at_most_twice(server: LlmServer, fault: Step) -> None:
    assert (await judge(server, fault, fault, completion(decision()))).side == "BUY"
    with pytest.raises(AnalysisError):
        await judge(server, fault, fault, fault, completion(decision()))
    assert len(server.script) == 1, "a fourth request was made"


@pytest.mark.parametrize(
    "fault",
    [
        error_step(400, "bad request"),
        error_step(401, f"Incorrect API key {KEY}"),
        error_step(402, "no credit"),
        error_step(403, "forbidden"),
        error_step(404, "no such model"),
        error_step(422, "unprocessable"),
        Step(status=307, headers={"Location": "/v1/elsewhere"}),
        json_step({"error": {"message": "Insufficient credits", "code": 402}}),
        json_step({"error": {"message": "Key limit", "code": "403"}}),
    ],
)
async def test_a_final_error_is_not_tried_again(
    server: LlmServer, fault: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOT_LLM_API_KEY", KEY)
    with pytest.raises(AnalysisError) as found:
        await judge(server, fault)
    assert len(server.requests) == 1
    assert KEY not in str(found.value)


async def test_an_endpoint_that_is_away_is_an_analysis_error() -> None:
    found = an_analyst(settings("http://127.0.0.1:1/v1"))
    with pytest.raises(AnalysisError, match="3 requests"):
        await found.analyse(an_intent(), 5.0)
    await found.close()


async def test_a_silent_endpoint_ends_at_the_deadline_of_the_whole_decision(server: LlmServer) -> None:
    began = time.monotonic()
    with pytest.raises(AnalysisError, match="no answer within"):
        await judge(server, completion("prose"), Step(body=None), deadline_s=0.3)
    assert time.monotonic() - began < 2.0
    assert len(server.asked) == 2


async def test_an_answer_without_end_is_not_read_to_the_end(server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "RESPONSE_BYTES_MAX", 10_000)
    endless = Step(body=b" " * 50_000)
    with pytest.raises(AnalysisError, match="exceeded 10000 bytes"):
        await judge(server, endless, endless, endless)


@pytest.mark.parametrize("wait", ["1", "soon", "-5", ""])
async def test_a_retry_after_is_honoured_and_nonsense_ignored(server: LlmServer, wait: str) -> None:
    began = time.monotonic()
    assert (await judge(server, error_step(429, "slow", Retry_After=wait), completion(decision()))).side == "BUY"
    assert (time.monotonic() - began >= 1.0) == (wait == "1")


@pytest.mark.parametrize("wait", ["3600", format_datetime(datetime(2099, 1, 1, tzinfo=UTC), usegmt=True), "9" * 400])
async def test_a_retry_after_beyond_the_deadline_ends_the_attempt_at_once(server: LlmServer, wait: str) -> None:
    began = time.monotonic()
    with pytest.raises(AnalysisError, match="would pass the deadline"):
        await judge(server, error_step(429, "slow", Retry_After=wait))
    assert time.monotonic() - began < 2.0


async def test_a_cancelled_analysis_closes_its_connection(server: LlmServer) -> None:
    server.script.append(Step(body=None))
    async with analyst(server) as found:
        task = asyncio.create_task(found.analyse(an_intent(), 60.0))
        await eventually_async(lambda: server.asked)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await found.analyse(an_intent(), 5.0)).side == "BUY"


# ── dialects ────────────────────────────────────────────────────────────────


async def test_the_ladder_is_climbed_down_and_remembered(server: LlmServer) -> None:
    async with analyst(server) as found:
        server.script.extend(
            [
                error_step(400, "response_format.type json_schema is not supported"),
                error_step(422, "unknown field response_format"),
            ]
        )
        first = await found.analyse(an_intent(), 5.0)
        second = await found.analyse(an_intent(), 5.0)
    assert (first.side, second.side) == ("BUY", "BUY")
    kinds = [request.body.get("response_format", {}).get("type") for request in server.asked]
    assert kinds == ["json_schema", "json_object", None, None]
    shown = ["additionalProperties" in request.body["messages"][0]["content"] for request in server.asked]
    assert shown == [False, True, True, True]
    assert msgspec.json.decode(first.state_json)["rung"] == "prompt"


async def test_an_endpoint_that_refuses_every_dialect_is_left_alone(server: LlmServer) -> None:
    server.default = error_step(400, "response_format temperature max_completion_tokens")
    with pytest.raises(AnalysisError, match="5 requests"):
        await judge(server)


async def test_newer_models_get_the_parameters_they_know(server: LlmServer) -> None:
    await judge(
        server,
        error_step(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
        error_step(400, "Unsupported value: 'temperature' does not support 0 with this model."),
    )
    last = server.asked[-1].body
    assert "max_tokens" not in last and "temperature" not in last and "seed" not in last
    assert last["max_completion_tokens"] == 1_024


@pytest.mark.parametrize("status", [401, 402, 403, 429, 503])
def test_only_an_error_about_the_request_changes_the_dialect(status: int) -> None:
    assert chat.simpler(Dialect(), status, "response_format is not supported") is None


def test_the_dialect_only_gets_simpler() -> None:
    found: Dialect | None = Dialect()
    steps = -1
    while found is not None:
        steps += 1
        last, found = found, chat.simpler(found, 400, "response_format max_completion_tokens seed")
    assert (steps, last.rung, last.sampling) == (4, Rung.PROMPT, False)


# ── one good answer ─────────────────────────────────────────────────────────


async def test_a_good_answer_becomes_a_verdict_with_its_audit(
    server: LlmServer, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    monkeypatch.setenv("PILOT_LLM_API_KEY", KEY)
    said = decision(reason="Up\x1b[2J.")
    found = await judge(server, completion(f"<think>hm</think>```json\n{said}\n```"))
    assert (found.side, found.sl_pips, found.tp_pips, found.confidence) == ("BUY", 60.0, 120.0, 0.7)
    assert found.reason == "Up[2J."
    assert isinstance(verdict.check(found, a_signal(), Llm()), verdict.Verdict)
    assert "Written by the language model test-model-2026 at 127.0.0.1" in found.report
    state = msgspec.json.decode(found.state_json)
    assert state["analyst"] == "openai" and state["model"] == "test-model-2026" and state["rung"] == "json_schema"
    assert len(state["prompt_sha256"]) == 64 and state["requests"] == 1 and state["latency_ms"] >= 0
    sent = server.asked[0]
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert (sent.body["temperature"], sent.body["seed"], sent.body["max_tokens"]) == (0, chat.SEED, 1_024)
    assert sent.body["response_format"]["json_schema"]["strict"] is True
    kept = "".join([found.report, found.state_json, *lines])
    assert KEY not in kept
    assert sent.body["messages"][0]["content"][:60] not in kept
