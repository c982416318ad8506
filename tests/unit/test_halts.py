"""Halts: what may be raised, what stands, what lifts them, and what the operator may not lift."""

from __future__ import annotations

import apsw
import pytest

from bus import messages
from bus.clock import iso
from bus.messages import Ack
from bus.vocabulary import Outcome, Role
from tests.kit.builders import a_peer
from tests.kit.store import StoreHarness

MONITOR = a_peer(Role.MONITOR)
PILOT = a_peer(Role.PILOT)
AT_SEVEN = "2026-11-02T07:00:00.000Z"
AT_EIGHT = "2026-11-02T08:00:00.000Z"


@pytest.fixture
def store() -> StoreHarness:
    return StoreHarness()


def soft(
    store: StoreHarness, reason: str = "daily_drawdown: x", until: str = AT_SEVEN, *, flatten: bool = False
) -> Ack:
    return store.tell(MONITOR, messages.RaiseHalt(level="soft", reason=reason, until=until, flatten=flatten))


def hard(store: StoreHarness, reason: str = "max_drawdown: x", *, flatten: bool = False) -> Ack:
    return store.tell(MONITOR, messages.RaiseHalt(level="hard", reason=reason, flatten=flatten))


def resume(store: StoreHarness, halt_id: int | None = None, reason: str = "looked") -> Ack:
    return store.tell(PILOT, messages.Resume(operator="ann", reason=reason, halt_id=halt_id))


def standing(store: StoreHarness) -> list[str]:
    return [halt.reason for halt in store.read.halts(iso(store.clock.now()))]


# ── refused ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("until", ["", "noon", "2026-11-02T07:00:00", "2026-11-02T06:00:00Z", "2026-11-01T07:00:00Z"])
def test_a_pause_until_no_time_or_one_that_has_passed_is_refused(store: StoreHarness, until: str) -> None:
    ack = store.tell(PILOT, messages.Pause(operator="ann", reason="lunch", until=until))
    assert ack.outcome is Outcome.REFUSED, ack
    assert soft(store, until=until).outcome is Outcome.REFUSED
    assert standing(store) == []


@pytest.mark.parametrize(
    "command",
    [
        messages.Pause(operator="ann", reason=" "),
        messages.Flatten(operator="ann", reason=""),
        messages.Resume(operator="ann", reason="\t"),
    ],
)
def test_an_operator_without_a_reason_is_refused(store: StoreHarness, command: messages.Command) -> None:
    hard(store)
    ack = store.tell(PILOT, command)
    assert ack.outcome is Outcome.REFUSED and "a reason is needed" in ack.reason
    assert standing(store) == ["max_drawdown: x"]


def test_the_halt_of_an_order_that_is_not_settled_is_not_lifted(store: StoreHarness) -> None:
    executor = a_peer(Role.EXECUTOR)
    intent = store.reserved(executor)
    store.tell(
        executor, messages.OrderUnknown(intent_id=intent.id, epoch=intent.epoch, reason="two fit", ambiguous=True)
    )
    ack = resume(store)
    assert (ack.outcome, ack.allowed) == (Outcome.REFUSED, ("resolve",))
    hard(store)
    ack = resume(store)
    assert (ack.outcome, ack.reason) == (Outcome.APPLIED, "lifted 1 of 2 halts; 1 still stands")
    assert standing(store) == [f"order of intent {intent.id} is ambiguous: two fit"]
    assert resume(store, halt_id=1).outcome is Outcome.REFUSED


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM halts",
        "UPDATE halts SET until = '2020-01-01T00:00:00.000Z'",
        "UPDATE halts SET reason = 'nothing'",
        "UPDATE halts SET kind = 'soft', until = 'x'",
        "UPDATE halts SET flatten = 1, lifted_at = 'x', lifted_by = 'y', lift_reason = 'z'",
        "UPDATE halts SET lifted_at = 'x'",
        "UPDATE halts SET lifted_at = 'x', lifted_by = 'y', lift_reason = ''",
        "INSERT OR REPLACE INTO halts (id, kind, reason, raised_by, raised_at) VALUES (1, 'hard', 'x', 'y', 'z')",
        "INSERT INTO halts (kind, reason, raised_by, raised_at, lifted_at) VALUES ('hard', 'x', 'y', 'z', 'a')",
    ],
)
def test_the_database_lets_nobody_wipe_or_change_a_halt(store: StoreHarness, statement: str) -> None:
    hard(store)
    with pytest.raises(apsw.ConstraintError, match="illegal"):
        store.db.execute(statement)
    assert standing(store) == ["max_drawdown: x"]


def test_a_halt_is_lifted_once(store: StoreHarness) -> None:
    hard(store)
    resume(store)
    with pytest.raises(apsw.ConstraintError, match="lifted once"):
        store.db.execute("UPDATE halts SET lifted_at = 'x', lifted_by = 'y', lift_reason = 'z'")


# ── once a key ──────────────────────────────────────────────────────────────


def test_the_same_key_and_kind_stands_once_in_whatever_words(store: StoreHarness) -> None:
    assert hard(store, "max_drawdown: equity 46,100.00").outcome is Outcome.APPLIED
    ack = hard(store, "max_drawdown: equity 46,050.00")
    assert (ack.outcome, ack.reason) == (Outcome.ALREADY, "halt 1 stands: max_drawdown: equity 46,100.00")
    assert hard(store, "best_day: 1,700.00").outcome is Outcome.APPLIED
    assert soft(store, "max_drawdown: x").outcome is Outcome.APPLIED, "another kind"
    assert resume(store).outcome is Outcome.APPLIED
    assert hard(store, "max_drawdown: equity 46,050.00").outcome is Outcome.APPLIED, "it was lifted"


def test_one_that_closes_everything_is_new_and_then_covers_both(store: StoreHarness) -> None:
    hard(store)
    assert hard(store, flatten=True).outcome is Outcome.APPLIED
    assert hard(store, flatten=True).outcome is Outcome.ALREADY
    assert hard(store).outcome is Outcome.ALREADY
    assert [halt.flatten for halt in store.read.halts()] == [False, True]


def test_a_soft_halt_that_lasts_longer_is_new_and_a_shorter_one_is_not(store: StoreHarness) -> None:
    soft(store, until=AT_SEVEN)
    assert soft(store, until="2026-11-02T08:30:00+02:00").outcome is Outcome.ALREADY
    assert soft(store, until=AT_EIGHT).outcome is Outcome.APPLIED
    store.clock.advance(3_600)
    assert [halt.until for halt in store.read.halts(iso(store.clock.now()))] == [AT_EIGHT]
    store.clock.advance(3_600)
    assert standing(store) == []
    assert soft(store, until="2026-11-02T09:00:00Z").outcome is Outcome.APPLIED, "the old ones have ended"


# ── the operator ────────────────────────────────────────────────────────────


def test_a_pause_is_hard_without_a_time_and_soft_with_one(store: StoreHarness) -> None:
    store.tell(PILOT, messages.Pause(operator="ann", reason="lunch", until="2026-11-02T09:00:00+02:00"))
    store.tell(PILOT, messages.Pause(operator="ann", reason="holiday"))
    found = [(halt.kind, halt.reason, halt.until, halt.flatten) for halt in store.read.halts()]
    assert found == [
        ("soft", "operator: ann: lunch", AT_SEVEN, False), ("hard", "operator: ann: holiday", None, False)
    ]  # fmt: skip


def test_flatten_is_a_hard_halt_that_closes(store: StoreHarness) -> None:
    store.tell(PILOT, messages.Pause(operator="ann", reason="holiday"))
    assert store.tell(PILOT, messages.Flatten(operator="ann", reason="news")).outcome is Outcome.APPLIED
    assert store.tell(PILOT, messages.Flatten(operator="bob", reason="news!")).outcome is Outcome.ALREADY
    halt = store.read.halts()[-1]
    assert (halt.kind, halt.reason, halt.flatten) == ("hard", "flatten: operator ann: news", True)


def test_resuming_lifts_one_or_all_and_records_who_and_why(store: StoreHarness) -> None:
    hard(store)
    soft(store)
    assert resume(store, halt_id=2).reason == "lifted 1 of 2 halts; 1 still stands"
    assert standing(store) == ["max_drawdown: x"]
    assert resume(store, reason=" it is fine ").reason == "lifted 1 of 1 halts"
    assert standing(store) == []
    halt = store.read.halt(1)
    assert halt is not None
    assert (halt.lifted_at, halt.lifted_by, halt.lift_reason) == ("2026-11-02T06:00:00.000Z", "ann", "it is fine")
    alert = store.read.alerts()[0]
    assert alert[1:] == ("warning", "resumed", "operator ann lifted halt 1 (max_drawdown: x): it is fine")


def test_resuming_what_does_not_stand_says_what_became_of_it(store: StoreHarness) -> None:
    assert resume(store).reason == "no halt stands"
    missing = resume(store, halt_id=7)
    assert (missing.outcome, missing.reason) == (Outcome.REFUSED, "there is no halt 7")
    soft(store)
    store.clock.advance(3_601)
    assert resume(store, halt_id=1).reason == f"halt 1 ended at {AT_SEVEN}"
    hard(store)
    resume(store, halt_id=2)
    ack = resume(store, halt_id=2)
    assert (ack.outcome, ack.reason) == (
        Outcome.ALREADY, "halt 2 was lifted at 2026-11-02T07:00:01.000Z by ann: looked"
    )  # fmt: skip


def test_a_restart_of_the_store_forgets_no_halt(store: StoreHarness) -> None:
    hard(store)
    soft(store)
    executor, intent = a_peer(Role.EXECUTOR), store.ready()
    store.restart()
    store.beat(executor)
    assert standing(store) == ["max_drawdown: x", "daily_drawdown: x"]
    assert store.intent(intent.id).status == "ready_for_exec", "nothing is given out"
    store.clock.jump(-86_400)
    assert len(standing(store)) == 2, "a clock that jumps back ends none"
