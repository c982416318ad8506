"""What calls of models may cost: over real HTTP and against the real writer of the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from actors.analysts import answer, budget, chat, endpoints, openai
from actors.analysts.analyst import AnalysisError, Unavailable, no_store
from actors.analysts.budget import Amount, Budget, BudgetSpent, Purse
from actors.analysts.chat import CallFailed, Reply, Rung, Usage
from actors.analysts.openai import OpenAiAnalyst
from actors.analysts.service import Service
from bus import messages
from bus.clock import SystemClock
from bus.vocabulary import Outcome, Role
from config import load
from config.load import ConfigError
from config.settings import Llm, LlmEndpoint
from tests.kit.analysis import an_intent
from tests.kit.builders import a_peer
from tests.kit.clock import ManualClock
from tests.kit.eventually import eventually_async as eventually
from tests.kit.llm_server import LlmServer, Step, completion, decision, error_step
from tests.kit.store import StoreHarness

LLM = a_peer(Role.LLM)
ASKED: list[chat.ChatMessage] = [{"role": "user", "content": "hello"}]
TODAY = "2026-11-02"


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(load, "ROOT", tmp_path)


@pytest.fixture
async def server() -> AsyncIterator[LlmServer]:
    async with LlmServer() as found:
        yield found


class Rig:
    """An analyst or a purse over one endpoint, and the store that counts."""

    def __init__(self, server: LlmServer, **changes: object) -> None:
        usual: dict[str, object] = {
            "analyst": "openai", "base_url": server.url, "model": "test-model", "price_in": "1", "price_out": "2",
        }  # fmt: skip
        self.settings = Llm(**(usual | changes))  # type: ignore[arg-type]
        self.clock = ManualClock()
        self.store = StoreHarness(llm=self.settings)
        self.silent = False
        self.asked: list[messages.Command] = []
        self.endpoint: Service = endpoints.service("llm", self.settings, self.settings, SystemClock(), backoff_s=0.001)
        self.budget = Budget(self.settings, {"llm": self.settings}, self.clock, self.ask)

    async def ask(self, command: messages.Command) -> messages.Ack:
        self.asked.append(command)
        if self.silent:
            await asyncio.Event().wait()
        return self.store.tell(LLM, command)

    async def call(self, purse: Purse | None = None, deadline_s: float = 5.0) -> Reply:
        return await (purse or self.budget.open()).complete("llm", self.endpoint, ASKED, openai.DECISION, deadline_s)

    async def day(self) -> tuple[int, int, int, int]:
        await eventually(lambda: not self.budget._settling)
        found = self.store.read.llm_day(TODAY)
        return found.tokens, found.cost_micros, found.reserved_tokens, found.reserved_micros

    @property
    def most(self) -> Amount:
        return budget.most_of(self.settings, ASKED, openai.DECISION)


# ── refusals ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "limits",
    [{"day_tokens_max": 0}, {"day_cost_max": "0"}, {"decision_tokens_max": 0}, {"decision_cost_max": "0"}],
)
async def test_a_budget_of_zero_is_no_trade_and_no_request(server: LlmServer, limits: dict[str, object]) -> None:
    rig = Rig(server, **limits)
    analyst = OpenAiAnalyst(rig.settings, rig.clock, {"llm": rig.endpoint}, rig.ask)
    found = await analyst.analyse(an_intent(), 5.0)
    await analyst.close()
    assert found.side == "HOLD" and "budget" in found.reason and "used up" in found.reason
    assert server.requests == []


@pytest.mark.parametrize("limit", ["decision_tokens_max", "decision_cost_max"])
async def test_a_decisions_budget_ends_its_calls_and_not_those_of_another(server: LlmServer, limit: str) -> None:
    probe = Rig(server)
    held = probe.most.times(3)
    # One call as it did cost, and the most that a second one may cost, is one too many.
    value: object = held.tokens + 339 if limit == "decision_tokens_max" else f"0.{held.micros + 379:06d}"
    rig = Rig(server, **{limit: value})
    purse = rig.budget.open()
    await rig.call(purse)
    with pytest.raises(BudgetSpent, match="decision's budget"):
        await rig.call(purse)
    assert (await rig.call()).content
    assert len(server.asked) == 2
    value = held.tokens + 340 if limit == "decision_tokens_max" else f"0.{held.micros + 380:06d}"
    rig = Rig(server, **{limit: value})
    purse = rig.budget.open()
    await rig.call(purse)
    await rig.call(purse)


async def test_calls_at_the_same_time_share_the_decisions_budget(server: LlmServer) -> None:
    rig = Rig(server, decision_tokens_max=Rig(server).most.times(3).tokens)
    purse = rig.budget.open()
    found = await asyncio.gather(rig.call(purse), rig.call(purse), return_exceptions=True)
    assert [type(one) for one in found] == [Reply, BudgetSpent]


async def test_no_repair_is_asked_for_beyond_the_budget_and_the_audit_stays(server: LlmServer) -> None:
    rig = Rig(server, decision_tokens_max=7_000, max_tokens=1_024)
    server.default = completion("prose" * 2_000)
    analyst = OpenAiAnalyst(rig.settings, rig.clock, {"llm": rig.endpoint}, rig.ask)
    found = await analyst.analyse(an_intent(), 5.0)
    await analyst.close()
    assert found.side == "HOLD" and "decision's budget" in found.reason
    assert msgspec.json.decode(found.state_json)["requests"] == 1
    assert len(server.asked) == 1


async def test_without_the_stores_answer_nothing_is_asked(server: LlmServer) -> None:
    rig = Rig(server)
    rig.silent = True
    with pytest.raises(AnalysisError, match="no answer"):
        await rig.call(deadline_s=0.05)
    rig.budget._ask = no_store
    with pytest.raises(AnalysisError, match="no answer"):
        await rig.call()
    assert server.requests == []


@pytest.mark.parametrize("days", [-1, 1])
async def test_what_a_call_costs_counts_for_the_day_of_the_store_however_wrong_the_clock_is(
    server: LlmServer, days: int
) -> None:
    rig = Rig(server)
    rig.clock.jump(days * 86_400)
    await rig.call()
    assert (await rig.day())[2:] == (0, 0), "reserved and settled for the same day"
    assert (await rig.day())[0] > 0


async def test_a_store_whose_day_changes_at_each_question_is_a_failed_attempt_and_no_verdict(server: LlmServer) -> None:
    rig = Rig(server)

    async def ask(command: messages.Command) -> messages.Ack:
        return messages.Ack(id="x", outcome=Outcome.REFUSED, reason="not the day in UTC", allowed=("2026-01-01",))

    rig.budget._ask = ask
    with pytest.raises(AnalysisError, match="not the day in UTC"):
        await rig.call()
    assert server.requests == []


@pytest.mark.parametrize("limit", ["day_cost_max", "decision_cost_max"])
@pytest.mark.parametrize("price", ["price_in", "price_out"])
def test_a_limit_in_money_needs_prices(limit: str, price: str) -> None:
    spec = {"base_url": "http://127.0.0.1:1/v1", "model": "m", "price_in": "1", "price_out": "1"}
    settings = Llm(analyst="openai", **(spec | {limit: "1", price: None}))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="price_in and price_out"):
        Budget(settings, {"llm": settings}, ManualClock(), no_store)


async def test_nothing_is_reserved_for_an_endpoint_that_is_known_to_be_away(server: LlmServer) -> None:
    rig = Rig(server)
    rig.endpoint.breaker.trip("gone")
    with pytest.raises(Unavailable):
        await rig.call()
    assert rig.asked == [] and server.requests == []


# ── what is counted ─────────────────────────────────────────────────────────


async def test_the_most_a_call_may_cost_is_reserved_before_it_and_the_real_cost_settled_after(
    server: LlmServer,
) -> None:
    rig = Rig(server)
    server.default.wait = asyncio.Event()
    call = asyncio.create_task(rig.call())
    await eventually(lambda: server.asked)
    held = rig.most.times(3)
    assert await rig.day() == (0, 0, held.tokens, held.micros)
    server.default.wait.set()
    await call
    assert await rig.day() == (340, 300 + 2 * 40, 0, 0)
    assert rig.most.tokens > 1_024 + len("hello")


async def test_a_withdrawn_call_stays_counted_with_the_most(server: LlmServer) -> None:
    rig = Rig(server)
    server.default = Step(body=None)
    call = asyncio.create_task(rig.call())
    await eventually(lambda: server.asked)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert (await rig.day())[2] == 3 * rig.most.tokens


@pytest.mark.parametrize(
    ("step", "requests_counted"),
    [
        (error_step(401, "no key"), 0),
        (error_step(429, "slow"), 0),
        (error_step(502, "gateway"), 3),
        (Step(body=b"x", cut_after=0), 3),
        (Step(body=b"<html>"), 3),
    ],
)
async def test_a_failed_call_counts_the_requests_that_may_have_cost_something(
    server: LlmServer, step: Step, requests_counted: int
) -> None:
    rig = Rig(server)
    server.default = step
    with pytest.raises(CallFailed):
        await rig.call()
    assert await rig.day() == (
        requests_counted * rig.most.tokens, requests_counted * rig.most.micros, 0, 0,
    )  # fmt: skip


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": -5, "completion_tokens": 1}, {"prompt_tokens": 10**30,
    "completion_tokens": 1}, {"prompt_tokens": 7}])  # fmt: skip
async def test_an_endpoint_that_counts_no_tokens_or_nonsense_is_counted_with_the_most(
    server: LlmServer, usage: object
) -> None:
    rig = Rig(server)
    body = msgspec.json.decode(completion(decision()).body or b"") | {"usage": usage}
    server.default = Step(body=msgspec.json.encode(body))
    await rig.call()
    assert (await rig.day())[0] == rig.most.tokens


def test_a_retry_that_nobody_counted_is_counted_with_the_most() -> None:
    spec = LlmEndpoint(price_in="1", price_out="1")
    reply = Reply(
        content="", finish_reason="", refusal="", model="m", rung=Rung.SCHEMA, requests=3, unmetered=2,
        usage=Usage(prompt_tokens=10, completion_tokens=5),
    )  # fmt: skip
    assert budget.cost_of(spec, reply, Amount(100, 100)) == Amount(215, 215)


def test_the_estimate_grows_with_the_prompt_and_with_the_schema() -> None:
    spec = LlmEndpoint(max_tokens=100)
    small = budget.most_of(spec, ASKED, answer.Schema("x", {}))
    large = budget.most_of(spec, [{"role": "user", "content": "x" * 10_000}], answer.Schema("x", {}))
    assert large.tokens - small.tokens == (10_000 - 5) // 2 + 1 or large.tokens - small.tokens == (10_000 - 5) // 2
    assert budget.most_of(spec, ASKED, openai.DECISION).tokens > small.tokens


async def test_a_store_that_is_away_does_not_hold_up_a_verdict_that_is_there(server: LlmServer) -> None:
    rig = Rig(server)
    server.default.wait = asyncio.Event()
    call = asyncio.create_task(rig.call())
    await eventually(lambda: server.asked)
    rig.silent = True
    server.default.wait.set()
    assert (await call).content
    await rig.budget.close()
    assert [type(one) for one in rig.asked] == [messages.ReserveTokens, messages.SettleTokens]
