"""Each check of the chaos run catches its violation: a checker that cannot fail proves nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from bus.records import DecisionRecord, Halt, Order, TradeIntent, Transition, Worker
from bus.vocabulary import OrderStatus, Status
from tests.chaos import checker
from tests.chaos.figures import Tally, last_line, percentile
from tests.chaos.histories import Command, Histories, Placed
from tests.kit.builders import a_plan

ID = "0123456789abcdef"
LLM, EXECUTOR, MONITOR, SCANNER = "a" * 12, "b" * 12, "c" * 12, "d" * 12
LIFE: tuple[tuple[str, str | None, str, str, str, int], ...] = (
    ("propose", None, "pending", "scanner.1", SCANNER, 0),
    ("claim", "pending", "claimed", "llm.1", LLM, 1),
    ("decide_trade", "claimed", "ready_for_exec", "llm.1", LLM, 1),
    ("take", "ready_for_exec", "executing", "executor.1", EXECUTOR, 2),
    ("reserve", "executing", "executing", "executor.1", EXECUTOR, 2),
    ("open", "executing", "opened", "executor.1", EXECUTOR, 2),
    ("close", "opened", "closed", "monitor.1", MONITOR, 2),
)
COMMANDS = ("Propose", "Decide", "ReserveOrder", "OrderOpened", "PositionClosed")
PLAN = a_plan()
SENT = (PLAN.broker_symbol, str(PLAN.side), PLAN.volume, PLAN.sl_price, PLAN.tp_price)


def a_move(seq: int, event: str, before: str | None, after: str, actor: str, life: str, epoch: int) -> Transition:
    return Transition(
        seq=seq, intent_id=ID, at="", event=event, from_status=before, to_status=after, actor=actor, incarnation=life,
        epoch=epoch, reason="", payload="{}", prev_hash="", hash=str(seq),
    )  # fmt: skip


def an_ack(number: int, kind: str, **changes: Any) -> dict[str, Any]:
    usual = {"id": f"c{number}", "kind": kind, "outcome": "applied", "intent_id": ID, "sender": "x.1", "at": ""}
    return usual | changes


def good() -> Histories:
    """Return the histories of one trade from proposal to close, everything acked."""
    return Histories(
        intents=(
            TradeIntent(
                id=ID, created_at="", trade_date="2026-11-02", symbol="EURUSD", status=Status.CLOSED, position_id="p1"
            ),
        ),
        decisions=(DecisionRecord(intent_id=ID, created_at="", position_id="p1", net_profit_cents=-120),),
        orders=(
            Order(
                intent_id=ID, status=OrderStatus.OPENED, plan=PLAN, baseline=(), reserved_at="", deadline_at="",
                order_id="p1", position_id="p1", idempotency_key="k1",
            ),
        ),
        journal=tuple(a_move(seq, *step) for seq, step in enumerate(LIFE, start=1)),
        commands=tuple(Command(f"c{number}", "x.1", kind, "applied", ID) for number, kind in enumerate(COMMANDS)),
        workers=(
            Worker(
                name="llm.1", role="llm", incarnation=LLM, pid=1, state="ready", capacity=1, holding=0, progress=0,
                started_at="", last_beat_at="",
            ),
        ),
        writes_counted=1,
        writes_received=1,
        received=(SENT,),
        keyed=(("k1", SENT), ("k1", SENT)),
        placed_keys=("k1",),
        asked={"p1": SENT},
        placed=(Placed("p1", Decimal("1.0801"), is_open=False, net_profit_cents=-120),),
        placements=({"position_id": "p1"},),
        acks=tuple(an_ack(number, kind) for number, kind in enumerate(COMMANDS)),
    )  # fmt: skip


def live(status: Status, holder: str | None = None) -> TradeIntent:
    return replace(good().intents[0], status=status, claim_incarnation=holder, position_id=None)


def a_halt() -> Halt:
    return Halt(id=1, kind="hard", reason="ambiguous", raised_by="executor.1", raised_at="")


def moved(number: int, **changes: Any) -> tuple[Transition, ...]:
    """Return the good journal with one arrow changed."""
    journal = list(good().journal)
    journal[number] = replace(journal[number], **changes)
    return tuple(journal)


FAILED: dict[str, Any] = {
    "orders": (replace(good().orders[0], status=OrderStatus.FAILED, position_id=None),),
    "asked": {"p1": SENT},
}
PLANTED: list[tuple[str, dict[str, Any]]] = [
    ("acked is recorded", {"commands": good().commands[:-1]}),
    ("acked is recorded", {"acks": (*good().acks, an_ack(99, ""))}),
    ("acked is recorded", {"acks": (an_ack(0, "Propose", outcome="refused"),)}),
    ("acked has its effect", {"journal": good().journal[:-1]}),
    ("acked has its effect", {"acks": (*good().acks, an_ack(7, "RaiseHalt", intent_id=None))}),
    ("a command is applied once", {"journal": (*good().journal, replace(good().journal[2], seq=8))}),
    ("a command is applied once", {"commands": good().commands[:2]}),
    ("an intent has one order", {"orders": good().orders * 2}),
    ("an intent has one order", {"journal": (*good().journal[:5], replace(good().journal[4], seq=6))}),
    ("an order was reserved, and sent once", {"received": (SENT, SENT)}),
    ("an order was reserved, and sent once", {"orders": ()}),
    ("a key is one order", {"keyed": (("k2", SENT),)}),
    ("a key is one order", {"keyed": (("k1", (*SENT[:2], Decimal(9), *SENT[3:])),)}),
    ("a key is one order", {"placed_keys": ("k1", "k1")}),
    ("a position has one owner", {"orders": (*good().orders, replace(good().orders[0], intent_id="other"))}),
    ("a position has one owner", {"placements": ({"position_id": "p1"}, {"position_id": "p1"})}),
    ("an owned position exists", {"placed": ()}),
    ("a position is known", {"placements": ({"position_id": "p1"}, {"position_id": "p2"})}),
    ("a position is known", {"placements": ({"position_id": "p2"},), "alerts": ("halt",)}),
    ("a failed order never existed", FAILED),
    ("a failed order never existed", FAILED | {"halts": (a_halt(),), "alerts": ("halt",)}),
    ("a position has its stop", {"placed": (Placed("p1", Decimal(0), is_open=True, net_profit_cents=0),)}),
    ("an intent ends or lives", {"intents": (live(Status.CLAIMED, "dead"),)}),
    ("an intent ends or lives", {"intents": (live(Status.EXECUTING, "dead"),)}),
    ("an intent ends or lives", {"intents": (live(Status.READY_FOR_EXEC),)}),
    ("closed at the broker is closed here", {"intents": (replace(good().intents[0], status=Status.OPENED),)}),
    ("profits equal the broker's", {"decisions": (replace(good().decisions[0], net_profit_cents=-119),)}),
    ("requests are counted", {"writes_counted": 0}),
    ("transitions are legal", {"journal": moved(2, to_status="executing")}),
    ("transitions are legal", {"journal": moved(2, event="reject")}),
    ("transitions are legal", {"intents": (replace(good().intents[0], status=Status.FAILED),)}),
    ("fencing numbers grow", {"journal": moved(3, epoch=1)}),
    ("fencing numbers grow", {"journal": moved(5, epoch=3)}),
    ("only the holder acts", {"journal": moved(2, incarnation=EXECUTOR)}),
    ("only the holder acts", {"journal": moved(5, incarnation="e" * 12)}),
    ("the hash chain is whole", {"chain": ("seq 3 was changed: its hash does not hold",)}),
]


def test_everything_holds_for_a_trade_that_went_well() -> None:
    assert checker.check(good(), at_rest=True) == []


@pytest.mark.parametrize(("name", "changes"), PLANTED, ids=[f"{n}-{name}" for n, (name, _) in enumerate(PLANTED)])
def test_planted_violation_is_caught_by_its_check(name: str, changes: dict[str, Any]) -> None:
    found = {finding.check for finding in checker.check(replace(good(), **changes), at_rest=True)}
    assert name in found


def test_every_check_has_a_planted_violation() -> None:
    assert {name for name, _ in PLANTED} == set(checker.CHECKS)


def test_unowned_position_is_allowed_while_the_account_is_halted_and_says_so() -> None:
    halted = replace(good(), asked={}, placements=({"position_id": "p2"},), halts=(a_halt(),), alerts=("halt",))
    assert checker.check(halted, at_rest=True) == []


def test_intent_may_wait_while_a_halt_stands() -> None:
    waiting = replace(good(), intents=(live(Status.READY_FOR_EXEC),), halts=(a_halt(),))
    assert "an intent ends or lives" not in {one.check for one in checker.check(waiting, at_rest=True)}


def test_work_under_way_is_no_violation_before_the_rest() -> None:
    found = replace(good(), intents=(live(Status.CLAIMED, "dead"),), journal=good().journal[:2], acks=good().acks[:1])
    found = replace(found, commands=good().commands[:1], decisions=(), orders=(), received=(), placements=(), placed=())
    found = replace(found, keyed=(), placed_keys=())
    assert checker.check(found, at_rest=False) == []


def test_last_line_counts_by_category() -> None:
    tally = Tally(kills=3, faults=2, recovery_ms=[10.0, 30.0, 20.0])
    tally.findings.append(checker.Finding("a position is known", "lost", "p2"))
    line = last_line(tally, 7)
    assert line == (
        '{"kills": 3, "faults": 2, "lost": 1, "doubled": 0, "illegal": 0, "unknown_left": 0, '
        '"recovery_ms_p50": 20, "recovery_ms_p99": 30, "seed": 7}'
    )
    assert percentile([], 50) is None
