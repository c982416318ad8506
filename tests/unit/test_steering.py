"""The operator's close of one position and his own trade, as the store takes them: refusals first."""

from __future__ import annotations

import apsw
import pytest

from bus import codec, messages
from bus.errors import NotUnderstood
from bus.messages import Ack
from bus.vocabulary import Outcome, Role, Status
from store.verify import verify_chain
from tests.kit.builders import a_peer, a_propose, a_reservation, a_result, an_envelope
from tests.kit.store import StoreHarness, an_opening

PILOT = a_peer(Role.PILOT)
EXECUTOR = a_peer(Role.EXECUTOR)
KEY = "01985c3e-7f5a-7000-8000-000000000002"


@pytest.fixture
def store() -> StoreHarness:
    return StoreHarness()


def close(store: StoreHarness, intent_id: str, reason: str = "news") -> Ack:
    return store.tell(PILOT, messages.Close(intent_id=intent_id, operator="ann", reason=reason))


def a_submit(**changes: object) -> messages.Submit:
    usual = {"key": KEY, "operator": "ann", "reason": "my view", "symbol": "EURUSD", "side": "BUY"}
    return messages.Submit(**(usual | {"sl_pips": 40.0, "tp_pips": 80.0} | changes))  # type: ignore[arg-type]


def opened(store: StoreHarness) -> str:
    intent = store.reserved(EXECUTOR)
    store.tell(EXECUTOR, an_opening(intent, "p1"))
    return intent.id


# ── close ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", ["pending", "claimed", "ready", "executing", "reserved"])
def test_close_of_what_has_no_open_position_is_refused(store: StoreHarness, status: str) -> None:
    holder = {"claimed": a_peer(Role.LLM), "executing": EXECUTOR, "reserved": EXECUTOR}.get(status)
    intent = getattr(store, status)(*([holder] if holder else []))
    ack = close(store, intent.id)
    assert (ack.outcome, "has no open position" in ack.reason) == (Outcome.REFUSED, True)
    assert store.read.closings() == [] and store.intent(intent.id) == intent


def test_close_without_a_reason_or_of_no_intent_is_refused(store: StoreHarness) -> None:
    intent_id = opened(store)
    assert "a reason is needed" in close(store, intent_id, " ").reason
    assert close(store, "0000000000000000").reason == "there is no intent 0000000000000000"
    assert store.read.closings() == []


def test_close_is_kept_with_name_and_reason_told_and_asked_once(store: StoreHarness) -> None:
    intent_id = opened(store)
    assert close(store, intent_id).outcome is Outcome.APPLIED
    (kept,) = store.read.closings()
    assert (kept.intent_id, kept.operator, kept.reason) == (intent_id, "ann", "news")
    again = close(store, intent_id, "other")
    assert again.outcome is Outcome.ALREADY and "ann ordered it" in again.reason
    assert store.read.closings() == [kept]
    assert [event for _, _, event, _ in store.read.alerts()].count("close_ordered") == 1
    assert store.intent(intent_id).status is Status.OPENED  # the monitor says when it is closed
    body = messages.PositionClosed(intent_id=intent_id, position_id="p1", result=a_result())
    store.tell(a_peer(Role.MONITOR), body)
    assert store.read.closings() == [] and store.read.closing(intent_id) == kept
    assert close(store, intent_id).reason == "position p1 is closed"


def test_an_order_to_close_stands_whoever_writes(store: StoreHarness) -> None:
    intent_id, pending = opened(store), store.pending(symbol="GBPUSD")
    close(store, intent_id)
    for statement in (
        "UPDATE closings SET operator = 'eve'",
        "DELETE FROM closings",
        f"INSERT OR REPLACE INTO closings VALUES ('{intent_id}', 'eve', 'x', 'y')",  # noqa: S608
        f"INSERT INTO closings VALUES ('{pending.id}', 'eve', 'x', 'y')",  # noqa: S608
    ):
        with pytest.raises(apsw.ConstraintError):
            store.db.execute(statement)


# ── a trade of the operator's ───────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"symbol": "XAUUSD"}, "traded here: EURUSD, GBPUSD"), ({"reason": " "}, "a reason is needed")],
)
def test_a_trade_that_is_not_taken_leaves_nothing(store: StoreHarness, changes: dict[str, str], why: str) -> None:
    ack = store.tell(PILOT, a_submit(**changes))
    assert (ack.outcome, why in ack.reason) == (Outcome.REFUSED, True)
    assert store.db.execute("SELECT count(*) FROM intents").get == 0
    assert verify_chain(store.read) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"side": "HOLD"}, {"sl_pips": 0.0}, {"tp_pips": -1.0}, {"sl_pips": 10_001.0}, {"ttl_minutes": 0},
        {"ttl_minutes": 1_441}, {"symbol": "eurusd"}, {"key": "short"}, {"operator": ""},
    ],
)  # fmt: skip
def test_what_is_no_trade_is_not_understood(changes: dict[str, object]) -> None:
    with pytest.raises(NotUnderstood):
        codec.decode_to_store(codec.encode(an_envelope(PILOT, a_submit(**changes))))


@pytest.mark.parametrize("role", [Role.SCANNER, Role.LLM, Role.EXECUTOR, Role.MONITOR, Role.DASHBOARD])
def test_nobody_but_the_operator_submits(role: Role) -> None:
    with pytest.raises(NotUnderstood, match="sent Submit"):
        codec.decode_to_store(codec.encode(an_envelope(a_peer(role), a_submit())))


def test_a_trade_takes_three_arrows_in_one_commit_and_waits_for_the_executor(store: StoreHarness) -> None:
    ack = store.tell(PILOT, a_submit())
    assert ack.outcome is Outcome.APPLIED and ack.intent_id is not None
    intent = store.intent(ack.intent_id)
    assert (intent.source, intent.status, intent.suggested_side) == ("manual", Status.READY_FOR_EXEC, "BUY")
    assert (intent.suggested_sl_pips, intent.suggested_tp_pips) == (40.0, 80.0)
    moves = store.read.transitions(intent.id)
    assert [move.event for move in moves] == ["propose", "claim", "decide_trade"]
    assert {move.actor for move in moves} == {PILOT.name} and "operator ann: my view" in moves[2].reason
    assert verify_chain(store.read) == []
    assert store.writer.registry.leases == {}
    assert list(store.read.analysed("")) == []  # no analyst's


def test_the_same_key_again_changes_nothing(store: StoreHarness) -> None:
    first = store.tell(PILOT, a_submit())
    again = store.tell(a_peer(Role.PILOT), a_submit(reason="twice"))
    assert (again.outcome, again.intent_id) == (Outcome.ALREADY, first.intent_id)
    other = store.tell(PILOT, a_submit(key=KEY[:-1] + "3"))
    assert other.outcome is Outcome.APPLIED and other.intent_id != first.intent_id


def test_no_analyst_gets_a_trade_of_the_operators(store: StoreHarness) -> None:
    store.tell(PILOT, a_submit())
    analyst = a_peer(Role.LLM)
    store.tell(a_peer(Role.SCANNER), a_propose(symbol="GBPUSD"))
    store.beat(analyst, capacity=2)
    assert [one.intent.symbol for one in store.got(analyst, messages.Analyse)] == ["GBPUSD"]


def test_a_halt_keeps_it_waiting_and_its_time_ends_it(store: StoreHarness) -> None:
    store.tell(PILOT, messages.Pause(operator="ann", reason="holiday"))
    ack = store.tell(PILOT, a_submit(ttl_minutes=30))
    assert ack.outcome is Outcome.APPLIED and "a halt stands" in ack.reason
    store.beat(EXECUTOR)
    assert store.intent(str(ack.intent_id)).status is Status.READY_FOR_EXEC
    store.tick(1_801)
    assert store.intent(str(ack.intent_id)).status is Status.CANCELLED


def test_the_gate_wants_the_same_certificate_of_it(store: StoreHarness) -> None:
    ack = store.tell(PILOT, a_submit())
    store.beat(EXECUTOR)
    intent = store.intent(str(ack.intent_id))
    assert intent.status is Status.EXECUTING
    bare = store.tell(EXECUTOR, a_reservation(intent, certificate=None))
    assert (bare.outcome, "no certificate" in bare.reason) == (Outcome.REFUSED, True)
    assert store.read.orders() == []
