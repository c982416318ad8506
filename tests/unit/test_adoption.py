"""Adopting a position that nobody owns: refusals first, then what stands in the rows, and what the database refuses."""

# ruff: noqa: S608 - the statements are made of the test's own words

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import apsw
import msgspec
import pytest

from bus import messages
from bus.vocabulary import OrderStatus, Outcome, Role, Status
from store import connection, queries
from store.verify import verify_chain
from tests.kit.builders import a_peer, a_plan, a_result
from tests.kit.store import StoreHarness, an_opening, memory_db

MONITOR = a_peer(Role.MONITOR)
EXECUTOR = a_peer(Role.EXECUTOR)


def an_adoption(position_id: str = "f1", **plan: object) -> messages.Adopt:
    return messages.Adopt(
        position_id=position_id, plan=a_plan(**plan), opened_at="2026-11-01T23:30:00.000Z", reason="nobody owns it"
    )


def nothing_was_written(store: StoreHarness) -> bool:
    rows = [store.db.execute(f"SELECT count(*) FROM {table}").get for table in ("intents", "orders", "transitions")]
    return rows == [0, 0, 0]


# ── refusals ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_told_unknown", [False, True])
def test_nothing_is_adopted_while_an_order_is_unresolved(is_told_unknown: bool) -> None:
    store = StoreHarness()
    intent = store.reserved(EXECUTOR)
    if is_told_unknown:
        store.tell(EXECUTOR, messages.OrderUnknown(intent_id=intent.id, epoch=intent.epoch, reason="timeout"))
    ack = store.tell(MONITOR, an_adoption())
    assert (ack.outcome, "is unresolved" in ack.reason) == (Outcome.REFUSED, True)
    assert "f1" not in store.read.owned_position_ids()
    store.tell(EXECUTOR, messages.OrderFailed(intent_id=intent.id, epoch=intent.epoch, reason="absent"))
    assert store.tell(MONITOR, an_adoption()).outcome is Outcome.APPLIED


def test_a_position_that_became_an_orders_in_the_meantime_stays_its() -> None:
    store = StoreHarness()
    intent = store.reserved(EXECUTOR)
    store.tell(EXECUTOR, an_opening(intent, "f1"))
    ack = store.tell(MONITOR, an_adoption("f1"))
    assert (ack.outcome, ack.intent_id) == (Outcome.ALREADY, intent.id)
    assert len(store.read.orders()) == 1


@pytest.mark.parametrize("plan", [{"sl_price": Decimal(0)}, {"sl_price": Decimal(-1)}, {"volume": Decimal(0)}])
def test_a_position_without_a_stop_is_not_adopted(plan: dict[str, Decimal]) -> None:
    store = StoreHarness()
    ack = store.tell(MONITOR, an_adoption(**plan))
    assert (ack.outcome, "allowed: above 0" in ack.reason) == (Outcome.REFUSED, True)
    assert nothing_was_written(store)


def test_a_time_that_is_none_is_refused() -> None:
    store = StoreHarness()
    ack = store.tell(MONITOR, msgspec.structs.replace(an_adoption(), opened_at="yesterday"))
    assert ack.outcome is Outcome.REFUSED
    assert nothing_was_written(store)


def test_a_second_adoption_is_answered_already_also_after_the_close() -> None:
    store = StoreHarness()
    first = store.tell(MONITOR, an_adoption())
    again = store.tell(MONITOR, an_adoption())
    assert (again.outcome, again.intent_id) == (Outcome.ALREADY, first.intent_id)
    body = messages.PositionClosed(intent_id=str(first.intent_id), position_id="f1", result=a_result())
    assert store.tell(MONITOR, body).outcome is Outcome.APPLIED
    assert store.tell(MONITOR, an_adoption()).outcome is Outcome.ALREADY
    assert store.events(str(first.intent_id)) == ["adopt", "close"]


def test_nobody_but_the_monitor_may_adopt() -> None:
    assert [role for role, kinds in messages.MAY_SEND.items() if messages.Adopt in kinds] == [Role.MONITOR]


# ── what stands then ────────────────────────────────────────────────────────


def test_an_adopted_position_has_intent_order_decision_arrow_and_alert_in_one_commit() -> None:
    store = StoreHarness()
    version = store.read.account_version()
    ack = store.tell(MONITOR, an_adoption(tp_price=Decimal(0)))
    assert ack.intent_id is not None
    intent, order, decision = (
        store.intent(ack.intent_id),
        store.order(ack.intent_id),
        store.read.decision(ack.intent_id),
    )
    assert (intent.status, intent.source, intent.position_id) == (Status.OPENED, "manual", "f1")
    assert (intent.trade_date, intent.suggested_side, intent.suggested_sl_pips) == ("2026-11-01", "BUY", None)
    assert (order.status, order.position_id, order.order_id) == (OrderStatus.OPENED, "f1", None)
    assert order.plan == an_adoption(tp_price=Decimal(0)).plan
    assert decision is not None
    assert (decision.status, decision.position_id, json.loads(decision.execution_meta)["adopted"]) == (
        "opened", "f1", True,
    )  # fmt: skip
    assert store.events(intent.id) == ["adopt"]
    assert [event for _, _, event, _ in store.read.alerts()] == ["orphan_adopted"]
    assert store.read.account_version() > version  # figures that were read before count as overtaken
    assert verify_chain(store.read) == []


def test_an_adopted_position_is_tracked_to_its_close_with_its_profit() -> None:
    store = StoreHarness()
    ack = store.tell(MONITOR, an_adoption())
    body = messages.PositionClosed(intent_id=str(ack.intent_id), position_id="f1", result=a_result())
    assert store.tell(MONITOR, body).outcome is Outcome.APPLIED
    decision = store.read.decision(str(ack.intent_id))
    assert decision is not None
    assert (decision.status, decision.net_profit_cents) == ("closed", 9_350)
    assert store.read.active_positions() == []


def test_adopted_positions_are_kept_for_good() -> None:
    store = StoreHarness()
    ack = store.tell(MONITOR, an_adoption())
    store.clock.advance(400 * 86_400.0)
    store.tell(MONITOR, messages.Sweep())
    assert store.intent(str(ack.intent_id)).status is Status.OPENED


# ── what the database refuses, whoever writes ───────────────────────────────

INTENT = (
    "INSERT INTO intents (id, created_at, trade_date, symbol, suggested_side, source, status, idempotency_key, "
    "position_id) VALUES ('12345678', 'x', '2026-11-02', 'EURUSD', 'BUY', ?, ?, ?, ?)"
)
ORDER = (
    "INSERT INTO orders (intent_id, status, plan, baseline, reserved_at, deadline_at, order_id, position_id) "
    "VALUES ('12345678', 'opened', '{}', '[]', 'x', 'x', ?, ?)"
)


@pytest.mark.parametrize(
    "given",
    [
        ("scanner", "opened", "adopted:f1", "f1"),
        ("manual", "opened", "EURUSD:D1:x:manual", "f1"),
        ("manual", "opened", "adopted:f2", "f1"),
        ("manual", "opened", "adopted:f1", None),
        ("manual", "closed", "adopted:f1", "f1"),
        ("manual", "executing", "adopted:f1", "f1"),
    ],
)
def test_only_an_adopted_position_is_born_opened(given: tuple[str, str, str, str | None]) -> None:
    with pytest.raises(apsw.ConstraintError, match="begins as pending, or as opened"):
        memory_db().execute(INTENT, given)


@pytest.mark.parametrize(("order_id", "position_id"), [("o1", "f1"), (None, "f2"), (None, None)])
def test_only_the_order_of_its_own_position_is_born_opened(order_id: str | None, position_id: str | None) -> None:
    db = memory_db()
    db.execute(INTENT, ("manual", "opened", "adopted:f1", "f1"))
    with pytest.raises(apsw.ConstraintError, match=r"one order per intent|CHECK"):
        db.execute(ORDER, (order_id, position_id))
    db.execute(ORDER, (None, "f1"))


def test_an_order_that_was_reserved_never_takes_an_adopted_position_from_its_owner() -> None:
    store = StoreHarness()
    store.tell(MONITOR, an_adoption("f1"))
    intent = store.reserved(EXECUTOR)
    ack = store.tell(EXECUTOR, an_opening(intent, "f1"))
    assert (ack.outcome, "belongs to intent" in ack.reason) == (Outcome.REFUSED, True)


def test_whoever_was_not_adopted_still_needs_stop_and_target() -> None:
    store = StoreHarness()
    intent = store.claimed(a_peer(Role.LLM))
    with pytest.raises(apsw.ConstraintError, match="CHECK"):
        store.db.execute(
            "UPDATE intents SET status = 'ready_for_exec', suggested_side = 'BUY' WHERE id = ?", (intent.id,)
        )


def test_a_database_of_the_second_version_learns_to_adopt_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "decisions.db"
    old = apsw.Connection(str(path))
    for name in ("0001_initial.sql", "0002_compliance.sql"):
        old.execute((connection.MIGRATIONS / name).read_text())
    old.pragma("application_id", connection.APPLICATION_ID)
    old.pragma("user_version", 2)
    old.execute(INTENT.replace("'BUY'", "NULL"), ("manual", "pending", "EURUSD:D1:x:manual", None))
    old.execute("INSERT INTO transitions VALUES (1, '12345678', 'x', 'propose', NULL, 'pending', 'scanner.1', 'x', 0, "
                "'', '{}', printf('%064d', 0), 'h')")  # fmt: skip
    old.close()
    db = connection.open_writer(path)
    store = StoreHarness(db)
    assert store.intent("12345678").status is Status.PENDING
    assert store.tell(MONITOR, an_adoption()).outcome is Outcome.APPLIED
    assert db.execute("PRAGMA integrity_check").get == "ok"
    assert db.execute("PRAGMA writable_schema").get in (0, "0")
    db.close()
    reader = queries.Reader(path)
    assert len(reader.active_positions()) == 1
    reader.close()
