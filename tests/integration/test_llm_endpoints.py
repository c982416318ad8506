"""An endpoint that is away, over real HTTP: nothing is asked of it, one probe at a time, people are told once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from actors.analysts import answer, endpoints, openai, watch
from actors.analysts.analyst import Unavailable
from actors.analysts.breaker import State
from actors.analysts.chat import CallFailed
from actors.analysts.service import Service
from actors.analysts.watch import Watch
from bus import messages
from bus.clock import SystemClock
from bus.vocabulary import Outcome
from config import load
from config.settings import Llm
from tests.kit.eventually import eventually_async as eventually
from tests.kit.llm_server import LlmServer, Step, completion, decision, error_step

ASKED = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(load, "ROOT", tmp_path)
    monkeypatch.setattr(watch, "LOOK_S", 0.01)


@pytest.fixture
async def server() -> AsyncIterator[LlmServer]:
    async with LlmServer() as found:
        yield found


@asynccontextmanager
async def endpoint(server: LlmServer, **changes: object) -> AsyncIterator[Service]:
    usual: dict[str, object] = {"base_url": server.url, "model": "test-model", "breaker_wait_s": 60.0}
    settings = Llm(analyst="openai", **(usual | changes))  # type: ignore[arg-type]
    found = endpoints.service("llm", settings, settings, SystemClock(), backoff_s=0.001)
    try:
        yield found
    finally:
        await found.close()


async def ask(found: Service, deadline_s: float = 5.0) -> str:
    return (await found.complete(ASKED, openai.DECISION, deadline_s)).content  # type: ignore[arg-type]


async def break_it(found: Service, server: LlmServer) -> None:
    server.default = error_step(401, "no key")
    for _ in range(3):
        with pytest.raises(CallFailed):
            await ask(found)
    assert found.breaker.state is State.OPEN


# ── while it is away ────────────────────────────────────────────────────────


async def test_nothing_is_sent_to_an_endpoint_that_is_known_to_be_away(server: LlmServer) -> None:
    async with endpoint(server) as found:
        await break_it(found, server)
        server.default = completion(decision())
        with pytest.raises(Unavailable, match="HTTP 401"):
            await ask(found)
        await found.probe()
    assert len(server.requests) == 3, "a call or an early probe went out"


async def test_probes_at_the_same_time_are_one_request_and_bring_it_back(server: LlmServer) -> None:
    async with endpoint(server, breaker_wait_s=0.01) as found:
        await break_it(found, server)
        server.models.wait = asyncio.Event()
        await asyncio.sleep(0.02)
        probes = [asyncio.create_task(found.probe()) for _ in range(5)]
        await eventually(lambda: len(server.requests) == 4)
        assert found.breaker.state is State.HALF_OPEN
        with pytest.raises(Unavailable):
            await ask(found)
        server.models.wait.set()
        await asyncio.gather(*probes)
        assert found.is_available()
        server.default = completion("back")
        assert await ask(found) == "back"
    assert [request.path for request in server.requests].count("/v1/models") == 1


@pytest.mark.parametrize(
    ("models", "is_back"),
    [
        (error_step(404, "no such path"), True),
        (error_step(401, "no key"), False),
        (error_step(429, "slow down"), False),
        (error_step(503, "loading"), False),
        (Step(body=b"x", cut_after=0), False),
        (Step(body=None), False),
    ],
)
async def test_a_probe_passes_only_when_the_endpoint_answers_as_one_that_works(
    server: LlmServer, models: Step, is_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.analysts.service.PROBE_S", 0.1)
    async with endpoint(server, breaker_wait_s=0.01) as found:
        await break_it(found, server)
        server.models = models
        await asyncio.sleep(0.02)
        await found.probe()
        assert found.is_available() is is_back


async def test_an_endpoint_that_is_away_at_the_start_is_not_asked_before_a_probe() -> None:
    settings = Llm(analyst="openai", base_url="http://127.0.0.1:1/v1", model="m")
    found = endpoints.service("llm", settings, settings, SystemClock())
    await found.start()
    assert not found.is_available()
    await found.close()


async def test_an_answer_that_is_nonsense_is_no_failure_of_the_endpoint(server: LlmServer) -> None:
    server.default = completion("nonsense")
    async with endpoint(server) as found:
        for _ in range(5):
            await ask(found)
        assert found.is_available()


# ── people are told ─────────────────────────────────────────────────────────


async def test_people_are_told_once_when_it_goes_away_and_once_when_it_is_back(server: LlmServer) -> None:
    told: list[messages.Report] = []

    async def tell(command: messages.Command) -> messages.Ack:
        assert isinstance(command, messages.Report)
        told.append(command)
        return messages.Ack(id="x", outcome=Outcome.APPLIED)

    async with endpoint(server, breaker_wait_s=0.05) as found:
        looking = Watch({"llm": found}, tell)
        looking.start()
        server.models = error_step(503, "loading")
        await break_it(found, server)
        await eventually(lambda: told)
        await eventually(lambda: [one.path for one in server.requests].count("/v1/models") >= 2)
        assert not looking.is_available()
        server.models = completion("")
        await eventually(lambda: len(told) == 2)
        assert looking.is_available()
        await looking.close()
    assert [(one.level, one.event) for one in told] == [("error", "llm_away"), ("info", "llm_back")]
    assert "wait until they expire" in told[0].text


async def test_a_store_that_is_away_does_not_stop_the_probes(server: LlmServer) -> None:
    async def never(command: messages.Command) -> messages.Ack:
        await asyncio.Event().wait()
        raise AssertionError

    async with endpoint(server, breaker_wait_s=0.01) as found:
        looking = Watch({"llm": found}, never)
        looking.start()
        await break_it(found, server)
        await eventually(looking.is_available)
        await looking.close()


# ── a bounded number of calls ───────────────────────────────────────────────


async def test_no_more_calls_go_out_at_a_time_than_allowed_and_waiting_is_no_failure(server: LlmServer) -> None:
    server.default.wait = asyncio.Event()
    async with endpoint(server, connections_max=2) as found:
        calls = [asyncio.create_task(ask(found)) for _ in range(4)]
        await eventually(lambda: len(server.asked) == 2)
        for _ in range(4):
            with pytest.raises(CallFailed, match="no connection was free"):
                await ask(found, 0.01)
        assert len(server.asked) == 2 and found.is_available()
        server.default.wait.set()
        assert len(await asyncio.gather(*calls)) == 4


async def test_calls_that_hang_leave_every_other_slot_a_connection(server: LlmServer) -> None:
    server.default.wait = asyncio.Event()
    async with endpoint(server, slots=6) as found:  # more than any fixed number that a default might be
        calls = [asyncio.create_task(ask(found)) for _ in range(12)]
        await eventually(lambda: len(server.asked) == 12)
        server.default.wait.set()
        assert len(await asyncio.gather(*calls)) == 12


async def test_a_reply_carries_its_latency_and_the_requests_that_nobody_counted(server: LlmServer) -> None:
    server.script.extend([error_step(429, "slow"), error_step(502, "gateway"), completion(decision())])
    async with endpoint(server) as found:
        reply = await found.complete(ASKED, openai.DECISION, 5.0)  # type: ignore[arg-type]
        assert (reply.requests, reply.unmetered) == (3, 1)
        assert 0 < reply.latency_ms < 5_000
        server.default = Step(body=None)
        with pytest.raises(CallFailed) as failed:
            await ask(found, 0.05)
    assert failed.value.unmetered == 1, "the request under way may have cost something"


async def test_the_schema_goes_out_under_its_own_name(server: LlmServer) -> None:
    async with endpoint(server) as found:
        await found.complete(ASKED, answer.Schema("opinion", {"type": "object"}), 5.0)  # type: ignore[arg-type]
    named = server.asked[0].body["response_format"]["json_schema"]
    assert (named["name"], named["schema"]) == ("opinion", {"type": "object"})
