"""The operator's word for an order that nobody else can tell: when it is not taken, and what it changes."""

from __future__ import annotations

from typing import Any

import pytest

from bus import messages
from bus.messages import Ack, Execute, Held, Withdraw
from bus.records import TradeIntent
from bus.vocabulary import OrderStatus, Outcome, Role, Status
from tests.kit.builders import a_peer
from tests.kit.store import StoreHarness, an_opening

PILOT = a_peer(Role.PILOT)
MONITOR = a_peer(Role.MONITOR)
AFTER_DEADLINE_S = 180.0  # the reservation's deadline is 06:02, the clock starts at 06:00


@pytest.fixture
def store() -> StoreHarness:
    return StoreHarness()


@pytest.fixture
def executor() -> messages.Peer:
    return a_peer(Role.EXECUTOR)


def ask(store: StoreHarness, intent_id: str, position_id: str | None, **changes: Any) -> Ack:
    usual = {"intent_id": intent_id, "operator": "ann", "position_id": position_id, "reason": "seen in the terminal"}
    return store.tell(PILOT, messages.Resolve(**(usual | changes)))


def unknown(store: StoreHarness, executor: messages.Peer, intent: TradeIntent, *, ambiguous: bool = True) -> None:
    body = messages.OrderUnknown(intent_id=intent.id, epoch=intent.epoch, reason="two of them", ambiguous=ambiguous)
    assert store.tell(executor, body).outcome is Outcome.APPLIED


def ambiguous(store: StoreHarness, executor: messages.Peer, **changes: Any) -> TradeIntent:
    """Return an intent that waits for the operator, past its deadline."""
    intent = store.reserved(executor, **changes)
    unknown(store, executor, intent)
    store.clock.advance(AFTER_DEADLINE_S)
    return intent


# ── not taken ───────────────────────────────────────────────────────────────


def test_order_of_no_intent_is_refused(store: StoreHarness) -> None:
    ack = ask(store, "0000000000000000", None)
    assert (ack.outcome, ack.reason) == (Outcome.REFUSED, "there is no intent 0000000000000000")


@pytest.mark.parametrize("status", ["pending", "ready", "executing"])
@pytest.mark.parametrize("position_id", ["p1", None])
def test_intent_without_an_order_is_refused(
    store: StoreHarness, executor: messages.Peer, status: str, position_id: str | None
) -> None:
    intent = store.executing(executor) if status == "executing" else getattr(store, status)()
    store.clock.advance(AFTER_DEADLINE_S)
    ack = ask(store, intent.id, position_id)
    assert ack.outcome is Outcome.REFUSED and "has no order" in ack.reason
    assert store.intent(intent.id) == intent


@pytest.mark.parametrize("position_id", ["p1", None])
@pytest.mark.parametrize("says_unknown", [False, True])
def test_order_that_may_still_be_on_its_way_is_refused(
    store: StoreHarness, executor: messages.Peer, position_id: str | None, says_unknown: bool
) -> None:
    intent = store.reserved(executor)
    if says_unknown:
        unknown(store, executor, intent, ambiguous=False)
    store.clock.advance(120)
    ack = ask(store, intent.id, position_id)
    assert ack.outcome is Outcome.REFUSED and "may still be on its way" in ack.reason
    assert store.intent(intent.id).status is Status.EXECUTING
    store.clock.advance(1)
    assert ask(store, intent.id, position_id).outcome is Outcome.APPLIED


def test_absence_is_not_taken_before_the_deadline_even_of_an_ambiguous_order(
    store: StoreHarness, executor: messages.Peer
) -> None:
    intent = store.reserved(executor)
    unknown(store, executor, intent)
    assert ask(store, intent.id, None).outcome is Outcome.REFUSED
    assert ask(store, intent.id, "p1").outcome is Outcome.APPLIED


def test_position_of_another_intent_is_refused(store: StoreHarness, executor: messages.Peer) -> None:
    store.opened(executor, "p1")
    intent = ambiguous(store, executor, symbol="GBPUSD")
    ack = ask(store, intent.id, "p1")
    assert ack.outcome is Outcome.REFUSED and "belongs to intent" in ack.reason
    assert store.order(intent.id).status is OrderStatus.UNKNOWN
    assert len(store.read.halts()) == 1


def test_order_that_ended_otherwise_is_refused_and_its_halt_stays(store: StoreHarness, executor: messages.Peer) -> None:
    intent = ambiguous(store, executor)
    assert store.tell(executor, an_opening(intent, "p1")).outcome is Outcome.APPLIED
    for position_id in ("p2", None):
        ack = ask(store, intent.id, position_id)
        assert ack.outcome is Outcome.REFUSED and "has an order that is opened" in ack.reason
    assert len(store.read.halts()) == 1


def test_nobody_but_the_operator_may_say_it() -> None:
    assert [role for role, kinds in messages.MAY_SEND.items() if messages.Resolve in kinds] == [Role.PILOT]


# ── taken ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("says_unknown", [False, True])
def test_named_position_is_the_orders_with_the_operators_name_in_the_journal(
    store: StoreHarness, executor: messages.Peer, says_unknown: bool
) -> None:
    intent = store.reserved(executor)
    if says_unknown:
        unknown(store, executor, intent)
    store.clock.advance(AFTER_DEADLINE_S)
    assert ask(store, intent.id, "p7").outcome is Outcome.APPLIED

    found, order, decision = store.intent(intent.id), store.order(intent.id), store.read.decision(intent.id)
    assert (found.status, found.position_id, found.claim_incarnation) == (Status.OPENED, "p7", None)
    assert (order.status, order.position_id, order.resolved_at) == (
        OrderStatus.OPENED,
        "p7",
        "2026-11-02T06:03:00.000Z",
    )
    assert decision is not None and decision.execution_meta == '{"resolved_by": "ann"}'
    move = store.read.transitions(intent.id)[-1]
    assert (move.event, move.actor) == ("open", "pilot.1")
    assert move.reason == "position p7, operator ann: seen in the terminal"
    assert store.read.unresolved_orders() == []


def test_absent_order_is_failed_with_the_operators_name_in_the_journal(
    store: StoreHarness, executor: messages.Peer
) -> None:
    intent = ambiguous(store, executor)
    assert ask(store, intent.id, None).outcome is Outcome.APPLIED
    found, order = store.intent(intent.id), store.order(intent.id)
    assert (found.status, order.status, order.position_id) == (Status.FAILED, OrderStatus.FAILED, None)
    assert found.execution_error == order.reason == "operator ann: seen in the terminal"
    assert store.read.transitions(intent.id)[-1].event == "fail"


def test_halt_of_this_order_is_lifted_by_name_and_no_other(store: StoreHarness, executor: messages.Peer) -> None:
    intent = ambiguous(store, executor)
    store.tell(MONITOR, messages.RaiseHalt(level="hard", reason="max_drawdown: too much"))
    other = "order of intent ffffffffffffffff is ambiguous: another"
    store.tell(MONITOR, messages.RaiseHalt(level="hard", reason=other))
    assert ask(store, intent.id, "p1").outcome is Outcome.APPLIED
    assert [halt.reason for halt in store.read.halts()] == ["max_drawdown: too much", other]
    row = store.db.execute("SELECT lifted_at, lifted_by, lift_reason FROM halts WHERE id = 1").fetchone()
    assert row == ("2026-11-02T06:03:00.000Z", "ann", "seen in the terminal")
    assert ("warning", "order_resolved") in [(level, event) for _, level, event, _ in store.read.alerts()]


def test_halt_of_the_order_stands_once_in_however_many_words_and_is_lifted_at_once(
    store: StoreHarness, executor: messages.Peer
) -> None:
    intent = store.reserved(executor)
    for reason in ("two of them", "three of them"):
        store.tell(executor, messages.OrderUnknown(
            intent_id=intent.id, epoch=intent.epoch, reason=reason, ambiguous=True
        ))  # fmt: skip
    assert len(store.read.halts()) == 1
    assert ask(store, intent.id, "p1").outcome is Outcome.APPLIED
    assert store.read.halts() == []


def test_executor_is_told_that_its_lease_is_gone_and_its_later_words_are_stale(
    store: StoreHarness, executor: messages.Peer
) -> None:
    intent = ambiguous(store, executor)
    ask(store, intent.id, None)
    assert [(one.intent_id, one.epoch) for one in store.got(executor, Withdraw)] == [(intent.id, intent.epoch)]
    assert store.tell(executor, an_opening(intent, "p1")).outcome is Outcome.STALE
    fail = messages.OrderFailed(intent_id=intent.id, epoch=intent.epoch, reason="absent")
    assert store.tell(executor, fail).outcome is Outcome.STALE
    unsure = messages.OrderUnknown(intent_id=intent.id, epoch=intent.epoch, reason="?", ambiguous=True)
    assert store.tell(executor, unsure).outcome is Outcome.STALE
    assert store.read.halts() == []


def test_executor_that_missed_it_is_told_again_with_its_next_beat(store: StoreHarness, executor: messages.Peer) -> None:
    intent = ambiguous(store, executor)
    ask(store, intent.id, None)
    got = store.beat(executor, Held(intent.id, intent.epoch))
    assert any(isinstance(one, Withdraw) and one.intent_id == intent.id for one in got)


@pytest.mark.parametrize("is_dead", [False, True])
def test_executor_goes_on_with_other_work(store: StoreHarness, executor: messages.Peer, is_dead: bool) -> None:
    intent = ambiguous(store, executor)
    other = store.ready(symbol="GBPUSD")
    if is_dead:
        store.tell(a_peer(Role.SUPERVISOR), messages.ChildExited(peer=executor, status="signal 9"))
        executor = a_peer(Role.EXECUTOR)
    assert not [one for one in store.beat(executor) if isinstance(one, Execute) and one.intent.id == other.id]
    holder = store.intent(intent.id)
    assert ask(store, intent.id, None).outcome is Outcome.APPLIED
    store.beat(executor, Held(holder.id, holder.epoch))
    got = [one for one in (*store.got(executor, Execute),) if one.intent.id == other.id]
    assert got and got[0].order is None
    assert store.tell(executor, store.reservation(store.intent(other.id))).outcome is Outcome.APPLIED


def test_saying_it_again_changes_nothing(store: StoreHarness, executor: messages.Peer) -> None:
    intent = ambiguous(store, executor)
    assert ask(store, intent.id, "p1").outcome is Outcome.APPLIED
    before = store.events(intent.id)
    assert ask(store, intent.id, "p1").outcome is Outcome.ALREADY
    assert ask(store, intent.id, None).outcome is Outcome.REFUSED
    assert store.events(intent.id) == before


@pytest.mark.parametrize("position_id", ["p1", None])
def test_order_that_the_executor_settled_meanwhile_in_the_same_way_lets_go_of_its_halt(
    store: StoreHarness, executor: messages.Peer, position_id: str | None
) -> None:
    intent = ambiguous(store, executor)
    if position_id:
        assert store.tell(executor, an_opening(intent, position_id)).outcome is Outcome.APPLIED
    else:
        fail = messages.OrderFailed(intent_id=intent.id, epoch=intent.epoch, reason="absent")
        assert store.tell(executor, fail).outcome is Outcome.APPLIED
    assert len(store.read.halts()) == 1
    assert ask(store, intent.id, position_id).outcome is Outcome.ALREADY
    assert store.read.halts() == []
