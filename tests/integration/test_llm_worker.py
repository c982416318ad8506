"""The analyst worker on real sockets: what it holds, what it tells, what it drops. The store is played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from actors import llm
from actors.analysts import registry
from actors.analysts.analyst import AnalysisError, Unavailable
from actors.analysts.verdict import Verdict
from bus import failpoints
from bus.failpoints import FailpointError
from bus.messages import Ack, Analyse, AnalysisFailed, Decide, Envelope, Held, Release, Withdraw
from bus.records import TradeIntent
from bus.vocabulary import Outcome, Role, State
from config.load import ConfigError
from config.settings import Bus, Llm, Settings, Supervisor
from tests.kit.analysis import a_signal, an_intent
from tests.kit.eventually import eventually_async as eventually
from tests.kit.puppet_store import PuppetStore, running


class Scripted:
    """An analyst that does what the test says; waits at `gate`."""

    name = "scripted"

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.began: list[str] = []
        self.cancelled: list[str] = []
        self.closed = False
        self.available = True
        self.start_error: Exception | None = None
        self.verdict: Callable[[TradeIntent], Verdict] = lambda intent: Verdict(
            side="BUY", reason="up", confidence=0.5, sl_pips=60.0, tp_pips=120.0, report="# BUY", state_json="{}"
        )

    async def start(self) -> None:
        if self.start_error is not None:
            raise self.start_error

    def is_available(self) -> bool:
        return self.available

    async def close(self) -> None:
        self.closed = True

    async def analyse(self, intent: TradeIntent, deadline_s: float) -> Verdict:
        self.began.append(intent.id)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(intent.id)
            raise
        return self.verdict(intent)


@pytest.fixture
def analyst(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    found = Scripted()
    monkeypatch.setattr(registry, "build", lambda *_: found)
    return found


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[PuppetStore]:
    found = PuppetStore(tmp_path)
    yield found
    await found.close()


def settings(slots: int = 2, *, stop_s: float = 4.0, **changes: object) -> Settings:
    bus = Bus(beat_s=0.05, dead_s=1.0, resend_s=0.1)
    llm_settings = Llm(slots=slots, **changes)  # type: ignore[arg-type]
    return Settings(profile="test", bus=bus, llm=llm_settings, supervisor=Supervisor(stop_s=stop_s))


def work(name: str = "a", epoch: int = 1, lease_s: float = 60.0, **changes: object) -> Analyse:
    return Analyse(intent=an_intent(id=name, epoch=epoch, **changes), epoch=epoch, lease_s=lease_s)


def is_ready(store: PuppetStore) -> bool:
    return bool(store.beats) and store.beats[-1].state is State.READY


def worker(store: PuppetStore, found: Settings, tmp_path: Path):  # type: ignore[no-untyped-def]
    return running(llm.Analyst, Role.LLM, found, tmp_path)


# ── verdicts that must not become trades ────────────────────────────────────


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"sl_pips": 5.0}, "stop_distance"),
        ({"sl_pips": None}, "numbers"),
        ({"tp_pips": 10.0}, "reward_to_risk"),
        ({"reason": "We should sell."}, "contradiction"),
    ],
)
async def test_a_refused_verdict_is_told_as_hold_with_the_reason(
    store: PuppetStore, analyst: Scripted, tmp_path: Path, bad: dict[str, object], word: str
) -> None:
    usual = {"side": "BUY", "reason": "up", "confidence": 0.5, "sl_pips": 60.0, "tp_pips": 120.0, "report": "# BUY"}
    analyst.verdict = lambda intent: Verdict(**(usual | bad))  # type: ignore[arg-type]
    async with worker(store, settings(), tmp_path):
        await eventually(lambda: is_ready(store))
        store.tell(work())
        await eventually(lambda: store.of(Decide))
    told = store.of(Decide)[0]
    assert (told.side, told.sl_pips, told.tp_pips) == ("HOLD", None, None)
    assert f"BUY refused ({word})" in told.risk_report
    assert told.risk_report.startswith("# BUY")


async def test_an_unreadable_signal_is_told_as_hold_without_asking_the_analyst(
    store: PuppetStore, analyst: Scripted, tmp_path: Path
) -> None:
    async with worker(store, settings(), tmp_path):
        await eventually(lambda: is_ready(store))
        store.tell(work(signal_json="<html>"))
        await eventually(lambda: store.of(Decide))
    assert store.of(Decide)[0].side == "HOLD"
    assert "unreadable" in store.of(Decide)[0].risk_report
    assert analyst.began == []


@pytest.mark.parametrize("error", [AnalysisError("endpoint away\x1b[2J"), KeyError("side"), RuntimeError("defect")])
async def test_a_failing_analysis_is_told_and_the_worker_goes_on(
    store: PuppetStore, analyst: Scripted, tmp_path: Path, error: Exception
) -> None:
    def fail(intent: TradeIntent) -> Verdict:
        raise error

    good, analyst.verdict = analyst.verdict, fail
    async with worker(store, settings(), tmp_path) as found:
        await eventually(lambda: is_ready(store))
        store.tell(work(epoch=7))
        await eventually(lambda: store.of(AnalysisFailed) and not found.beat().holding)
        analyst.verdict = good
        store.tell(work("b"))
        await eventually(lambda: store.of(Decide))
    failed = store.of(AnalysisFailed)[0]
    assert (failed.intent_id, failed.epoch) == ("a", 7)
    assert type(error).__name__ in failed.error
    assert "\x1b" not in failed.error


@pytest.mark.parametrize(("deadline_s", "lease_s"), [(0.05, 60.0), (60.0, 0.05), (60.0, 0.0), (60.0, -1.0)])
async def test_an_analysis_ends_at_its_deadline_or_with_its_lease(
    store: PuppetStore, analyst: Scripted, tmp_path: Path, deadline_s: float, lease_s: float
) -> None:
    analyst.gate.clear()
    async with worker(store, settings(deadline_s=deadline_s), tmp_path):
        await eventually(lambda: is_ready(store))
        store.tell(work(lease_s=lease_s))
        await eventually(lambda: store.of(AnalysisFailed))
    assert "no verdict within 0 s" in store.of(AnalysisFailed)[0].error


# ── leases ──────────────────────────────────────────────────────────────────


async def test_capacity_is_all_slots_while_ready_and_none_before(
    store: PuppetStore, analyst: Scripted, tmp_path: Path
) -> None:
    starting = asyncio.Event()
    analyst.start = starting.wait  # type: ignore[method-assign,assignment]
    async with worker(store, settings(slots=3), tmp_path):
        await eventually(lambda: store.beats)
        assert (store.beats[-1].state, store.beats[-1].capacity) == (State.STARTING, 0)
        starting.set()
        await eventually(lambda: is_ready(store))
        assert store.beats[-1].capacity == 3
        analyst.gate.clear()
        store.tell(work())
        await eventually(lambda: store.beats[-1].holding)
        assert store.beats[-1].capacity == 3
        analyst.gate.set()


async def test_the_same_work_sent_again_is_done_once(store: PuppetStore, analyst: Scripted, tmp_path: Path) -> None:
    analyst.gate.clear()
    async with worker(store, settings(), tmp_path) as found:
        await eventually(lambda: is_ready(store))
        for _ in range(3):
            store.tell(work(epoch=2))
        store.tell(work(epoch=1))
        await eventually(lambda: store.beats[-1].holding)
        analyst.gate.set()
        await eventually(lambda: store.of(Decide) and not found.beat().holding)
    assert analyst.began == ["a"]
    assert [told.epoch for told in store.of(Decide)] == [2]


async def test_a_lease_stays_in_the_beats_until_its_verdict_is_acked(
    store: PuppetStore, analyst: Scripted, tmp_path: Path
) -> None:
    store.answer = lambda envelope: None if len(store.commands) < 3 else Outcome.APPLIED
    async with worker(store, settings(), tmp_path):
        await eventually(lambda: is_ready(store))
        store.tell(work())
        await eventually(lambda: len(store.commands) == 2)
        assert store.beats[-1].holding == (Held("a", 1),)
        await eventually(lambda: not store.beats[-1].holding and store.beats[-1].progress == 1)
    assert len({envelope.id for envelope in store.commands}) == 1, "a resend must carry the same id"


async def test_a_withdrawn_analysis_is_cancelled_and_tells_nothing(
    store: PuppetStore, analyst: Scripted, tmp_path: Path
) -> None:
    analyst.gate.clear()
    async with worker(store, settings(), tmp_path) as found:
        await eventually(lambda: is_ready(store))
        store.tell(work(epoch=3))
        await eventually(lambda: analyst.began)
        store.tell(Withdraw(intent_id="a", epoch=2, reason="an older lease"))
        store.tell(Withdraw(intent_id="other", epoch=9, reason="not ours"))
        store.tell(work("b"))
        await eventually(lambda: len(analyst.began) == 2)
        assert analyst.cancelled == []
        store.tell(Withdraw(intent_id="a", epoch=3, reason="cancelled"))
        await eventually(lambda: analyst.cancelled == ["a"])
        assert found.beat().holding == (Held("b", 1),)
        analyst.gate.set()
        await eventually(lambda: store.of(Decide))
    assert [told.intent_id for told in store.of(Decide)] == ["b"]


async def test_a_withdrawal_that_crosses_the_verdict_waits_for_its_ack(
    store: PuppetStore, analyst: Scripted, tmp_path: Path
) -> None:
    store.answer = lambda envelope: Outcome.APPLIED if len(store.commands) > 1 else None
    async with worker(store, settings(), tmp_path):
        await eventually(lambda: is_ready(store))
        store.tell(work())
        await eventually(lambda: store.commands)
        store.tell(Withdraw(intent_id="a", epoch=1, reason="not your lease"))
        await eventually(lambda: store.beats[-1].progress == 1)
    assert len(store.commands) == 2


async def test_a_new_epoch_replaces_the_old_work(store: PuppetStore, analyst: Scripted, tmp_path: Path) -> None:
    analyst.gate.clear()
    async with worker(store, settings(slots=1), tmp_path) as found:
        await eventually(lambda: is_ready(store))
        store.tell(work(epoch=1))
        await eventually(lambda: analyst.began)
        store.tell(work(epoch=2))
        await eventually(lambda: analyst.cancelled == ["a"] and len(analyst.began) == 2)
        assert found.beat().holding == (Held("a", 2),)
        analyst.gate.set()
        await eventually(lambda: store.of(Decide))
    assert [told.epoch for told in store.of(Decide)] == [2]


async def test_work_beyond_the_slots_is_given_back(store: PuppetStore, analyst: Scripted, tmp_path: Path) -> None:
    analyst.gate.clear()
    async with worker(store, settings(slots=1), tmp_path) as found:
        await eventually(lambda: is_ready(store))
        store.tell(work("a"))
        store.tell(work("b"))
        await eventually(lambda: store.of(Release) and found.beat().holding == (Held("a", 1),))
        analyst.gate.set()
    assert [(told.intent_id, told.reason) for told in store.of(Release)] == [("b", "no free slot")]
    assert analyst.began == ["a"]


async def test_while_the_analyst_cannot_judge_there_is_no_capacity_and_nothing_is_tried(
    store: PuppetStore, analyst: Scripted, tmp_path: Path
) -> None:
    analyst.available = False
    async with worker(store, settings(), tmp_path) as found:
        await eventually(lambda: is_ready(store))
        assert store.beats[-1].capacity == 0
        store.tell(work("a"))
        await eventually(lambda: store.of(Release) and not found.beat().holding)
        analyst.available = True
        await eventually(lambda: store.beats[-1].capacity == 2)
        store.tell(work("b"))
        await eventually(lambda: store.of(Decide))
    assert [(told.intent_id, told.reason) for told in store.of(Release)] == [("a", "the analyst cannot judge now")]
    assert (analyst.began, store.of(AnalysisFailed)) == (["b"], [])


async def test_an_analysis_that_could_ask_nobody_is_given_back_and_costs_no_attempt(
    store: PuppetStore, analyst: Scripted, tmp_path: Path
) -> None:
    def away(intent: TradeIntent) -> Verdict:
        raise Unavailable("host is known to be away\x1b[2J")

    analyst.verdict = away
    async with worker(store, settings(), tmp_path) as found:
        await eventually(lambda: is_ready(store))
        store.tell(work(epoch=3))
        await eventually(lambda: store.of(Release) and not found.beat().holding)
    assert [(told.epoch, told.reason) for told in store.of(Release)] == [(3, "host is known to be away[2J")]
    assert store.of(AnalysisFailed) == []


async def test_the_next_work_may_come_together_with_the_ack(
    store: PuppetStore, analyst: Scripted, tmp_path: Path
) -> None:
    def ack_and_next(envelope: Envelope) -> None:
        store.tell(Ack(id=envelope.id, outcome=Outcome.APPLIED), envelope.sender)
        if len(store.commands) == 1:
            store.tell(work("b"))

    store.answer = ack_and_next
    async with worker(store, settings(slots=1), tmp_path) as found:
        await eventually(lambda: is_ready(store))
        store.tell(work("a"))
        await eventually(lambda: len(store.of(Decide)) == 2 and not found.beat().holding)
    assert store.of(Release) == []
    assert analyst.began == ["a", "b"]


@pytest.mark.parametrize("outcome", [Outcome.STALE, Outcome.REFUSED])
async def test_a_verdict_that_the_store_does_not_take_is_dropped(
    store: PuppetStore, analyst: Scripted, tmp_path: Path, outcome: Outcome
) -> None:
    store.answer = lambda envelope: outcome
    async with worker(store, settings(), tmp_path) as found:
        await eventually(lambda: is_ready(store))
        store.tell(work())
        await eventually(lambda: store.commands and not found.beat().holding)
        store.tell(work(epoch=2))
        await eventually(lambda: len(store.of(Decide)) == 2)


@pytest.mark.parametrize("point", ["before_analyse", "after_analyse", "before_decide", "after_decide"])
async def test_a_defect_anywhere_lets_go_of_the_lease(
    store: PuppetStore, analyst: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    armed = [f"llm.{point}"]

    def reach(name: str) -> None:
        if name in armed:
            armed.remove(name)
            raise FailpointError(name)

    monkeypatch.setattr(failpoints, "reach", reach)
    async with worker(store, settings(slots=1), tmp_path) as found:
        await eventually(lambda: is_ready(store))
        store.tell(work())
        await eventually(lambda: not armed and not found.beat().holding)
        store.tell(work(epoch=2))
        await eventually(lambda: any(told.epoch == 2 for told in store.of(Decide)))


# ── start and stop ──────────────────────────────────────────────────────────


async def test_an_analyst_that_cannot_work_ends_the_process_with_a_configuration_error(
    store: PuppetStore, analyst: Scripted, tmp_path: Path
) -> None:
    analyst.start_error = ConfigError("llm.model is wrong")
    with pytest.raises(ConfigError, match=r"llm\.model"):
        async with worker(store, settings(), tmp_path):
            await eventually(lambda: analyst.closed)
    assert not any(beat.capacity for beat in store.beats)


async def test_a_stop_lets_an_almost_finished_analysis_finish(
    store: PuppetStore, analyst: Scripted, tmp_path: Path
) -> None:
    analyst.gate.clear()
    async with worker(store, settings(), tmp_path) as found:
        await eventually(lambda: is_ready(store))
        store.tell(work())
        await eventually(lambda: analyst.began)
        found.link.stop()
        await eventually(lambda: store.beats[-1].state is State.DRAINING)
        assert store.beats[-1].capacity == 0
        store.tell(work("late"))
        await eventually(lambda: store.of(Release))
        analyst.gate.set()
    assert [told.intent_id for told in store.of(Release)] == ["late"]
    assert [told.intent_id for told in store.of(Decide)] == ["a"]
    assert analyst.closed


@pytest.mark.parametrize("is_store_there", [True, False])
async def test_a_stop_gives_back_what_cannot_be_finished(
    store: PuppetStore, analyst: Scripted, tmp_path: Path, is_store_there: bool
) -> None:
    analyst.gate.clear()
    async with worker(store, settings(stop_s=1.0), tmp_path):
        await eventually(lambda: is_ready(store))
        store.tell(work("a", epoch=4))
        store.tell(work("b", epoch=5))
        await eventually(lambda: len(store.beats[-1].holding) == 2)
        if not is_store_there:
            store.answer = lambda envelope: None
    assert {(told.intent_id, told.epoch) for told in store.of(Release)} == {("a", 4), ("b", 5)}
    assert sorted(analyst.cancelled) == ["a", "b"]
    assert store.of(Decide) == []


async def test_more_time_for_a_stop_is_time_for_analyses_to_finish(
    store: PuppetStore, analyst: Scripted, tmp_path: Path
) -> None:
    analyst.gate.clear()
    async with worker(store, settings(stop_s=6.0), tmp_path) as found:
        await eventually(lambda: is_ready(store))
        store.tell(work())
        await eventually(lambda: analyst.began)
        found.link.stop()
        asyncio.get_running_loop().call_later(2.0, analyst.gate.set)  # later than the usual stop waits
    assert [told.intent_id for told in store.of(Decide)] == ["a"]
    assert store.of(Release) == []


async def test_the_offline_analyst_trades_a_clear_trend(store: PuppetStore, tmp_path: Path) -> None:
    async with worker(store, settings(), tmp_path):
        await eventually(lambda: is_ready(store))
        store.tell(work())
        store.tell(Analyse(intent=an_intent(a_signal(symbol="GBPUSD"), id="b"), epoch=1, lease_s=60.0))
        await eventually(lambda: len(store.of(Decide)) == 2)
    for told in store.of(Decide):
        assert (told.side, told.sl_pips, told.tp_pips) == ("BUY", 60.0, 120.0)
        assert "not an LLM" in told.risk_report
