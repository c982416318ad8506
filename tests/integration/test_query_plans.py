"""No statement of the store, whether it works, ticks, sweeps, archives or starts, reads all of a table that grows.

What reads all of anything must stand in a list here, whatever the statement calls its table.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw

from bus import messages
from bus.vocabulary import Role
from store import connection
from store.archive import Archivist
from store.board import Board
from tests.kit.builders import a_peer, a_sample
from tests.kit.store import StoreHarness, an_opening

WRITES_AND_READS = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
# The only steps of a plan that may go through all there is, and with what the statement then ends; "": with anything.
SCANS = {
    ("SCAN CONSTANT ROW", ""),  # one row, of no table
    ("SCAN pragma_table_info VIRTUAL TABLE", ""),  # the columns of a table
    ("SCAN (subquery-", ""),  # what it reads is a step of its own
    ("SCAN archive_anchors", ""),  # one row a year
    ("SCAN halts", ""),  # some a month at most
    ("SCAN workers", ""),  # one row a process
    ("SCAN json_each VIRTUAL TABLE", ""),  # the values that were given
    ("SCAN equity_samples", "ORDER BY at DESC LIMIT 1"),  # SQLite calls it a scan, and reads the last row only
    ("SCAN equity_samples", "ORDER BY at LIMIT 1"),  # and the first row here
    ("SCAN transitions", "ORDER BY seq DESC LIMIT 1"),  # so it does here
    ("SCAN account_days", "ORDER BY created_at DESC LIMIT 1"),  # one row a day, until the owner is written
}


def test_no_statement_of_the_store_reads_a_growing_table_as_a_whole(tmp_path: Path) -> None:
    db = connection.open_writer(tmp_path / "decisions.db")
    made: dict[str, Any] = {}

    def trace(_: apsw.Cursor, sql: str, values: Any) -> bool:
        if sql.startswith(WRITES_AND_READS):
            made.setdefault(sql, values)
        return True

    db.exec_trace = trace
    a_working_life(StoreHarness(db), tmp_path)
    db.exec_trace = None
    assert len(made) > 50, "the trace saw the work"
    assert {sql: found for sql, values in made.items() if (found := scans(db, sql, values))} == {}


def test_no_question_that_is_asked_at_each_poll_or_page_reads_one_either(tmp_path: Path) -> None:
    connection.open_writer(tmp_path / "decisions.db").close()
    reader = Board(tmp_path / "decisions.db")
    made: dict[str, Any] = {}

    def trace(_: apsw.Cursor, sql: str, values: Any) -> bool:
        made.setdefault(sql, values)
        return True

    reader._db.exec_trace = trace
    for ask in (
        reader.pending_intents, reader.ready_intents, reader.active_positions, reader.live_intents, reader.closings,
        reader.unresolved_orders, reader.halts, reader.workers, reader.last_equity, reader.account_version,
        reader.last_transition_at,
    ):  # fmt: skip
        ask()
    reader.intent_ids("abc")
    reader.owned_position_ids(["p1"])
    reader.closed_among(["p1"])
    reader.requests("2026-11-02")
    a_sample_at = datetime(2026, 11, 2, tzinfo=UTC)
    reader.curve(a_sample_at, a_sample_at + timedelta(days=30), 160)
    reader.first_sample_at()
    reader._db.exec_trace = None
    assert {sql: found for sql, values in made.items() if (found := scans(reader._db, sql, values))} == {}
    reader.close()


def scans(db: apsw.Connection, sql: str, values: Any) -> list[str]:
    """Return the steps of a statement's plan that go through something from one end to the other, unless they may."""
    plan = [str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    found = [step for step in plan if "SCAN" in step]
    return [step for step in found if not any(step.startswith(may) and sql.endswith(end) for may, end in SCANS)]


def a_working_life(store: StoreHarness, folder: Path) -> None:
    """Let the store do all that it does: each end of an intent, a sweep, samples, a tick, a new start, a move."""
    executor, monitor = a_peer(Role.EXECUTOR), a_peer(Role.MONITOR)
    store.closed(executor, "p1", symbol="EURUSD")
    unknown = store.reserved(executor, symbol="GBPUSD")
    store.tell(executor, messages.OrderUnknown(intent_id=unknown.id, epoch=unknown.epoch, reason="x"))
    store.restart()
    store.beat(executor)
    held = store.intent(unknown.id)
    store.tell(executor, an_opening(held, "p2"))
    store.tell(monitor, messages.SampleEquity(sample=a_sample()))
    gone = store.pending(symbol="USDJPY")
    store.tell(a_peer(Role.PILOT), messages.Cancel(intent_id=gone.id, operator="me", reason="no"))
    llm = a_peer(Role.LLM)
    failing = store.claimed(llm, symbol="USDCAD")
    store.tell(llm, messages.AnalysisFailed(intent_id=failing.id, epoch=failing.epoch, error="x"))
    store.tell(monitor, messages.Report(level="warning", event="note", text="x"))
    store.clock.advance(500 * 86_400)
    store.tick()
    store.tell(monitor, messages.Sweep())
    store.pending(symbol="USDCHF")
    Archivist(store.db, folder / "decisions.db", 400).step(store.clock.now())
