"""A worker whose language model is away, over real sockets and with the real writer of the store: intents wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from actors import llm
from actors.analysts import watch
from bus.messages import Envelope
from bus.vocabulary import Role, Status
from config import load
from config.settings import Bus, Llm, Settings
from store import tokens
from tests.kit.clock import ManualClock
from tests.kit.eventually import eventually_async as eventually
from tests.kit.llm_server import LlmServer, Step, completion, decision, error_step
from tests.kit.puppet_store import PuppetStore, running
from tests.kit.store import StoreHarness

HOURS_S = 3_600.0


class WriterStore(PuppetStore):
    """A mailbox in front of the real writer, whose clock stands still between the steps of a test."""

    def __init__(self, run_folder: Path, found: Llm) -> None:
        self.harness = StoreHarness(clock=ManualClock(datetime.now(UTC)), llm=found)
        super().__init__(run_folder)

    def _take(self, envelope: Envelope) -> None:
        for peer, message in self.harness.step(envelope):
            self.tell(message, peer)

    def alerts(self) -> list[tuple[str, str]]:
        """Return the alerts about the model, oldest first, without those that each arrow of an intent leaves."""
        found = [(level, event) for _, level, event, _ in reversed(self.harness.read.alerts())]
        return [one for one in found if one[1].startswith("llm_")]

    def statuses(self) -> dict[str, tuple[Status, int]]:
        return {one.symbol: (Status(one.status), one.attempts) for one in self.harness.read.intents()}


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PILOT_LLM_API_KEY", raising=False)
    monkeypatch.setattr(load, "ROOT", tmp_path)
    monkeypatch.setattr(watch, "LOOK_S", 0.02)
    monkeypatch.setattr(tokens, "SKEW", timedelta(days=1))  # the store's clock is moved, the worker's is not


@pytest.fixture
async def server() -> AsyncIterator[LlmServer]:
    async with LlmServer() as found:
        yield found


async def test_while_the_model_is_away_intents_wait_untried_until_they_expire_and_people_are_told_once(
    server: LlmServer, tmp_path: Path
) -> None:
    found = Llm(
        analyst="openai", base_url=server.url, model="test-model", breaker_failures_max=1, breaker_wait_s=0.05,
        breaker_wait_s_max=0.05,
    )  # fmt: skip
    settings = Settings(profile="test", bus=Bus(beat_s=0.05, dead_s=1.0, resend_s=0.1), llm=found)
    server.default, server.models = error_step(402, "no credit"), error_step(503, "gone")
    store = WriterStore(tmp_path, found)
    for symbol in ("EURUSD", "GBPUSD", "AUDUSD"):
        store.harness.pending(symbol=symbol)
    async with running(llm.Analyst, Role.LLM, settings, tmp_path):
        await eventually(lambda: ("error", "llm_away") in store.alerts())
        await eventually(lambda: [one.path for one in server.requests].count("/v1/models") >= 4)
        assert store.statuses() == {
            "EURUSD": (Status.PENDING, 1), "GBPUSD": (Status.PENDING, 0), "AUDUSD": (Status.PENDING, 0),
        }  # fmt: skip
        assert len(server.asked) == 2, "the question at the start, and the one call that opened the breaker"
        store.harness.tick(5 * HOURS_S)
        assert {status for status, _ in store.statuses().values()} == {Status.CANCELLED}
        store.harness.pending(symbol="EURJPY", close=160.0)
        server.default, server.models = completion(decision()), error_step(404, "lists nothing")
        await eventually(lambda: store.statuses()["EURJPY"][0] is Status.READY_FOR_EXEC)
        await eventually(lambda: len(store.alerts()) == 2)
    assert store.alerts() == [("error", "llm_away"), ("info", "llm_back")]
    days = {(datetime.now(UTC) - timedelta(days=ago)).date().isoformat() for ago in (0, 1)}
    assert sum(store.harness.read.llm_day(day).tokens for day in days) == 340
    await store.close()


async def test_a_silent_model_is_away_too_and_leaves_nothing_reserved(server: LlmServer, tmp_path: Path) -> None:
    found = Llm(analyst="openai", base_url=server.url, model="test-model", breaker_failures_max=1, breaker_wait_s=60.0,
                deadline_s=0.3)  # fmt: skip
    settings = Settings(profile="test", bus=Bus(beat_s=0.05, dead_s=1.0, resend_s=0.1), llm=found)
    server.default = Step(body=None)
    store = WriterStore(tmp_path, found)
    for symbol in ("EURUSD", "GBPUSD", "AUDUSD"):
        store.harness.pending(symbol=symbol)
    async with running(llm.Analyst, Role.LLM, settings, tmp_path):
        await eventually(lambda: len(server.asked) == 1 and store.statuses()["EURUSD"] == (Status.PENDING, 1))
        await eventually(lambda: ("error", "llm_away") in store.alerts())
        store.harness.tick(120.0)  # EURUSD may be tried again: nobody takes it
        days = [(datetime.now(UTC) - timedelta(days=ago)).date().isoformat() for ago in (0, 1)]
        await eventually(lambda: sum(store.harness.read.llm_day(day).reserved_tokens for day in days) == 0)
        assert sum(store.harness.read.llm_day(day).tokens for day in days) > 0, "it may have cost something"
        await eventually(lambda: store.statuses() == {
            "EURUSD": (Status.PENDING, 1), "GBPUSD": (Status.PENDING, 0), "AUDUSD": (Status.PENDING, 0),
        })  # fmt: skip
    assert len(server.asked) == 1, "whom nobody hears is asked nothing more"
    await store.close()


async def test_a_spent_day_is_no_trade_for_every_intent_and_one_alert(server: LlmServer, tmp_path: Path) -> None:
    found = Llm(analyst="openai", base_url=server.url, model="test-model", day_tokens_max=100)
    settings = Settings(profile="test", bus=Bus(beat_s=0.05, dead_s=1.0, resend_s=0.1), llm=found)
    store = WriterStore(tmp_path, found)
    ids = [store.harness.pending(symbol=symbol).id for symbol in ("EURUSD", "GBPUSD", "AUDUSD")]
    async with running(llm.Analyst, Role.LLM, settings, tmp_path):
        await eventually(lambda: {one for one, _ in store.statuses().values()} == {Status.CANCELLED})
    for intent_id in ids:
        assert "budget of 100 tokens is used up" in store.harness.read.transitions(intent_id)[-1].reason
    assert store.alerts() == [("error", "llm_budget")]
    assert server.asked == []
    await store.close()
