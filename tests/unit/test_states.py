"""The state machine's table, and the SQL triggers generated from it: whoever writes, only arrows pass."""

# ruff: noqa: S608 - the statements are made of the test's own words

from __future__ import annotations

import itertools

import apsw
import pytest

from bus.vocabulary import Role, Status
from store import connection, states
from tests.kit.builders import a_peer
from tests.kit.store import StoreHarness, a_verdict

PAIRS = list(itertools.permutations(Status, 2))
MOVES = {(before, after) for _, before, after in states.ARROWS if before is not None and before != after}
# Refused although the arrow exists: they need an order in the right state, which these rows do not have.
NEEDS_ORDER = {(Status.EXECUTING, Status.OPENED)}
FILLED = "claim_incarnation = 'x', suggested_side = 'BUY', suggested_sl_pips = 1, suggested_tp_pips = 1"


def an_intent_in(status: Status) -> tuple[StoreHarness, str]:
    """Return a store with one intent that came to `status` by its own arrows."""
    store = StoreHarness()
    executor = a_peer(Role.EXECUTOR)
    llm = a_peer(Role.LLM)
    if status is Status.CANCELLED:
        intent = store.claimed(llm)
        store.tell(llm, a_verdict(intent, side="HOLD"))
    elif status is Status.TIMED_OUT:  # passed through in one step: stopped half-way here
        intent = store.claimed(llm)
        store.db.execute("UPDATE intents SET status = 'timed_out', claim_incarnation = NULL")
    elif status is Status.REJECTED:
        intent = store.executing(executor)
        store.writer.decisions.mark_rejected(intent, "no", "{}", executor, store.clock.now())
    elif status is Status.FAILED:
        intent = store.reserved(executor)
        store.writer.decisions.mark_failed(intent, "absent", executor, store.clock.now())
    elif status is Status.PENDING:
        intent = store.pending()
    elif status is Status.READY_FOR_EXEC:
        intent = store.ready()
    elif status is Status.CLAIMED:
        intent = store.claimed(llm)
    else:
        way = {Status.EXECUTING: store.executing, Status.OPENED: store.opened, Status.CLOSED: store.closed}
        intent = way[status](executor)
    assert store.intent(intent.id).status == status
    return store, intent.id


@pytest.mark.parametrize(("before", "after"), [pair for pair in PAIRS if pair not in MOVES])
def test_a_raw_update_that_is_no_arrow_is_refused_by_the_database(before: Status, after: Status) -> None:
    store, intent_id = an_intent_in(before)
    with pytest.raises(apsw.ConstraintError, match="illegal transition"):
        store.db.execute(f"UPDATE intents SET status = '{after}', {FILLED} WHERE id = ?", (intent_id,))
    assert store.intent(intent_id).status == before


@pytest.mark.parametrize(("before", "after"), sorted(MOVES - NEEDS_ORDER))
def test_every_arrow_of_the_table_passes_the_triggers(before: Status, after: Status) -> None:
    store, intent_id = an_intent_in(before)
    store.db.execute(f"UPDATE intents SET status = '{after}', {FILLED} WHERE id = ?", (intent_id,))
    assert store.intent(intent_id).status == after


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.PENDING])
def test_an_intent_born_in_any_other_status_than_pending_is_refused(status: Status) -> None:
    store = StoreHarness()
    with pytest.raises(apsw.ConstraintError, match="begins as pending"):
        store.db.execute(
            "INSERT INTO intents (id, created_at, trade_date, symbol, idempotency_key, claim_incarnation, status) "
            f"VALUES ('12345678', 'x', '2026-11-02', 'EURUSD', 'k', 'x', '{status}')"
        )


@pytest.mark.parametrize("after", [Status.READY_FOR_EXEC, Status.FAILED, Status.REJECTED, Status.OPENED])
def test_an_intent_with_an_unresolved_order_cannot_leave_executing(after: Status) -> None:
    store = StoreHarness()
    intent = store.reserved(a_peer(Role.EXECUTOR))
    with pytest.raises(apsw.ConstraintError, match="illegal transition"):
        store.db.execute(f"UPDATE intents SET status = '{after}', position_id = 'p9' WHERE id = ?", (intent.id,))


@pytest.mark.parametrize("after", [Status.READY_FOR_EXEC, Status.REJECTED])
def test_an_intent_that_had_its_one_order_is_never_given_back(after: Status) -> None:
    store = StoreHarness()
    intent = store.reserved(a_peer(Role.EXECUTOR))
    store.db.execute("UPDATE orders SET status = 'failed'")
    with pytest.raises(apsw.ConstraintError, match="has had its one order"):
        store.db.execute(f"UPDATE intents SET status = '{after}' WHERE id = ?", (intent.id,))


def test_opened_needs_an_order_with_the_same_position() -> None:
    store = StoreHarness()
    intent = store.reserved(a_peer(Role.EXECUTOR))
    store.db.execute("UPDATE orders SET status = 'opened', position_id = 'p1'")
    with pytest.raises(apsw.ConstraintError, match="opened needs an opened order"):
        store.db.execute("UPDATE intents SET status = 'opened', position_id = 'p2' WHERE id = ?", (intent.id,))
    store.db.execute("UPDATE intents SET status = 'opened', position_id = 'p1' WHERE id = ?", (intent.id,))


MOVE = "intent_id, at, event, from_status, to_status, actor, incarnation, epoch"
ROW = "(id, created_at, trade_date, symbol, idempotency_key)"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE intents SET epoch = epoch - 1",
        "UPDATE intents SET symbol = 'GBPUSD'",
        "UPDATE intents SET idempotency_key = 'other'",
        "UPDATE intents SET position_id = 'p2'",
        "UPDATE intents SET rowid = rowid + 1",
        "DELETE FROM intents",
        # OR REPLACE deletes the old row without a delete trigger
        f"INSERT OR REPLACE INTO intents {ROW} SELECT id, created_at, trade_date, symbol, 'new' FROM intents",
        f"INSERT OR REPLACE INTO intents {ROW} SELECT 'otherother', created_at, trade_date, symbol, idempotency_key "
        "FROM intents",
        "INSERT OR REPLACE INTO intents (rowid, id, created_at, trade_date, symbol, idempotency_key) "
        "SELECT rowid, 'otherother', created_at, trade_date, symbol, 'new' FROM intents",
        "DELETE FROM orders",
        "UPDATE orders SET plan = '{}'",
        "UPDATE orders SET baseline = '[]'",
        "UPDATE orders SET deadline_at = 'later'",
        "UPDATE orders SET intent_id = 'otherother'",
        "UPDATE orders SET idempotency_key = 'another'",
        "UPDATE orders SET idempotency_key = NULL, figures_mark = NULL",
        "UPDATE orders SET figures_mark = 'younger'",
        "UPDATE orders SET rowid = rowid + 1",
        "UPDATE orders SET status = 'reserved', position_id = NULL",
        "UPDATE orders SET status = 'failed', position_id = NULL",
        "INSERT OR REPLACE INTO orders (intent_id, plan, baseline, reserved_at, deadline_at) "
        "SELECT intent_id, '{}', '[]', reserved_at, deadline_at FROM orders",
        "DELETE FROM transitions",
        "UPDATE transitions SET reason = 'other'",
        f"INSERT INTO transitions SELECT seq + 2, {MOVE}, 'other', payload, prev_hash, 'new' FROM transitions",
        f"INSERT OR REPLACE INTO transitions SELECT seq, {MOVE}, 'other', payload, prev_hash, hash FROM transitions",
        f"INSERT OR REPLACE INTO transitions SELECT seq + 1, {MOVE}, 'other', payload, prev_hash, 'new' "
        "FROM transitions WHERE seq = (SELECT max(seq) FROM transitions)",
    ],
)
def test_what_was_written_of_a_trade_stands_whoever_writes(statement: str) -> None:
    store = StoreHarness()
    store.opened(a_peer(Role.EXECUTOR))
    store.db.pragma("foreign_keys", False)  # as in most other programs
    before = _everything(store)
    with pytest.raises(apsw.ConstraintError, match="illegal"):
        store.db.execute(statement)
    assert _everything(store) == before


def _everything(store: StoreHarness) -> list[list[tuple[object, ...]]]:
    return [
        store.db.execute(f"SELECT rowid, * FROM {table}").fetchall() for table in ("intents", "orders", "transitions")
    ]


def test_an_order_for_an_intent_that_is_not_executing_is_refused() -> None:
    store = StoreHarness()
    intent = store.ready()
    with pytest.raises(apsw.ConstraintError, match="reserved while it is executing"):
        store.db.execute(
            "INSERT INTO orders (intent_id, plan, baseline, reserved_at, deadline_at) VALUES (?, '{}', '[]', 'x', 'x')",
            (intent.id,),
        )


def test_a_position_never_belongs_to_two_intents() -> None:
    store = StoreHarness()
    executor = a_peer(Role.EXECUTOR)
    first = store.opened(executor, "p1")
    second = store.reserved(executor, symbol="GBPUSD")
    with pytest.raises(apsw.ConstraintError, match="belongs to one order"):
        store.db.execute(
            "UPDATE OR REPLACE orders SET status = 'opened', position_id = 'p1' WHERE intent_id = ?", (second.id,)
        )
    assert store.order(first.id).position_id == "p1"


def test_only_what_never_traded_may_be_deleted() -> None:
    store, intent_id = an_intent_in(Status.CANCELLED)
    store.db.execute("DELETE FROM decisions WHERE intent_id = ?", (intent_id,))
    store.db.execute("DELETE FROM intents WHERE id = ?", (intent_id,))
    assert store.read.intent(intent_id) is None


def test_the_table_names_what_is_allowed_in_its_own_order() -> None:
    assert states.allowed(Status.OPENED) == ("close",)
    assert states.allowed(None) == ("propose", "adopt")
    assert all(states.allowed(status) == () for status in states.FINAL)
    assert states.target("claim", Status.OPENED) is None


def test_no_event_leads_to_two_statuses_from_one() -> None:
    begun = [(event, before) for event, before, _ in states.ARROWS]
    assert len(begun) == len(set(begun))


def test_every_status_can_be_reached_and_every_live_one_can_end() -> None:
    targets = {after for _, _, after in states.ARROWS}
    assert targets == set(Status)
    ends = set(states.FINAL)
    for _ in Status:
        ends |= {before for _, before, after in states.ARROWS if before and after in ends}
    assert ends == set(Status)


def test_triggers_of_an_older_program_are_renewed_when_the_file_is_opened() -> None:
    store = StoreHarness()
    store.db.execute("DROP TRIGGER intents_arrows")
    store.db.execute("CREATE TRIGGER intents_old BEFORE UPDATE ON intents BEGIN SELECT 1; END")
    connection._migrate(store.db)
    names = {
        str(row[0])
        for row in store.db.execute("SELECT name FROM sqlite_master WHERE tbl_name = 'intents' AND type = 'trigger'")
    }
    assert names == set(states.triggers())
