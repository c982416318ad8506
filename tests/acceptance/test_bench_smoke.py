"""The benches still run, and ours keeps a sane ratio to bare SQL in the same run. No absolute time fails anything."""

from __future__ import annotations

import re
import shutil
import statistics
from pathlib import Path

import apsw
import msgspec
import pytest
from loguru import logger

from bus import messages
from bus.clock import SystemClock
from bus.vocabulary import Role
from store import connection, decisions, verify
from store.queries import Reader
from tests.bench import alone, filled, growth, idle, life, life_raw, report, spread, standings
from tests.bench.machine import Machine
from tests.kit.builders import a_peer, a_result
from tests.kit.store import StoreHarness, a_verdict, an_opening

# Quiet, the writer needs about twice the processor time of its statements alone: here only what is far off fails.
CPU_RATIO_MAX = 8.0
GROWTH_RATIO_MAX = 3.0
LATENCY_RATIO_MAX = 15.0  # quiet and busy 1 to 5: six processes take turns where the writer alone has no hop
TRIES = 3
MACHINE = Machine(
    at="2026-11-02T06:00:00+00:00", cpu="c", cores=2, kernel="k", python="p", sqlite="s", file_system="ext4",
    load_1min=0.0,
)  # fmt: skip


def test_the_writer_costs_no_multiple_of_its_sql(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "ORDERS_AT_ONCE", decisions.ORDERS_AT_ONCE)  # the bench lifts it
    found = life_raw.run(128, 64, SystemClock())
    assert found.cpu_ms_each < CPU_RATIO_MAX * found.sql_cpu_ms_each, found


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database with 100 finished intents, which nobody may change."""
    folder = tmp_path_factory.mktemp("past")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decisions, "ORDERS_AT_ONCE", decisions.ORDERS_AT_ONCE)
        patch.setattr(filled.tempfile, "gettempdir", lambda: str(folder))
        filled.copy(100, folder / "past.db")
    return folder / "past.db"


def test_a_long_past_is_whole_and_costs_the_next_intent_little(
    past: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "ORDERS_AT_ONCE", decisions.ORDERS_AT_ONCE)
    monkeypatch.setattr(alone, "BLOCKS", 1)
    monkeypatch.setattr(alone, "SINGLES", 2)
    reader = Reader(past)
    assert verify.verify_chain(reader) + verify.verify_orders(reader) == []
    assert reader.status_counts() == {"closed": 100}
    analysed = list(reader._db.execute("SELECT name FROM sqlite_master WHERE name LIKE 'sqlite_stat%'"))
    assert analysed == [], "the product runs no ANALYZE: its plans are others"
    reader.close()
    assert life.verify_lives(past, 0, 100) == 0
    shutil.copy(past, tmp_path / "past.db")
    with_past, without = alone.measure(tmp_path / "past.db"), alone.measure(tmp_path / "none.db")
    assert with_past.cpu_ms_each < GROWTH_RATIO_MAX * without.cpu_ms_each, (with_past, without)


def damage(past: Path, path: Path, harm: str) -> None:
    """Put a copy of a database at `path` to which another program did something."""
    shutil.copy(past, path)
    db = apsw.Connection(str(path))
    for (name,) in list(db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")):
        db.execute(f'DROP TRIGGER "{name}"')
    db.execute(harm)
    db.close()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("UPDATE transitions SET reason = 'x' WHERE seq = 500", "its hash does not hold"),
        ("DELETE FROM transitions WHERE seq = 500", "seq 500 is missing"),
        ("UPDATE orders SET position_id = 'x' WHERE rowid = 7", "its order x"),
        ("UPDATE transitions SET event = 'propose' WHERE seq = 2", "propose: (101, 100)"),
    ],
)  # fmt: skip
def test_a_bench_whose_intents_do_not_hold_fails(past: Path, tmp_path: Path, harm: str, said: str) -> None:
    path = tmp_path / "past.db"
    damage(past, path, harm)
    with pytest.raises(SystemExit, match=re.escape(said)):
        life.verify_lives(path, 0, 100)
    assert filled.sampled(path)


@pytest.mark.parametrize("seq", [1, 700])
def test_a_sample_of_a_past_holds_its_beginning_and_its_end(
    past: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seq: int
) -> None:
    monkeypatch.setattr(filled, "SAMPLE", 20)
    damage(past, tmp_path / "past.db", f"UPDATE transitions SET reason = 'x' WHERE seq = {seq}")  # noqa: S608
    found = filled.sampled(tmp_path / "past.db")
    assert found == [f"seq {seq} was changed: its hash does not hold"]


def test_a_lost_intent_fails_and_a_lease_that_was_lost_is_told(past: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=re.escape("close: (100, 100)")):
        life.verify_lives(past, 0, 101)
    path = tmp_path / "lost.db"
    store = StoreHarness(connection.open_writer(path), retry_backoff_s=0.0)
    dead, other, executor = (a_peer(slot=1), a_peer(slot=2), a_peer(Role.EXECUTOR))
    intent = store.claimed(dead)
    store.beat(other)
    store.tell(a_peer(Role.SUPERVISOR), messages.ChildExited(peer=dead, status="signal 9"))
    intent = store.intent(intent.id)
    store.tell(other, a_verdict(intent))
    store.beat(executor)
    store.tell(executor, store.reservation(store.intent(intent.id)))
    store.tell(executor, an_opening(store.intent(intent.id)))
    monitor = a_peer(Role.MONITOR)
    store.tell(monitor, messages.PositionClosed(intent_id=intent.id, position_id="p1", result=a_result()))
    store.db.close()
    assert life.verify_lives(path, 0, 1) == 1


def test_a_disk_without_room_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filled.tempfile, "gettempdir", lambda: str(tmp_path))
    free = shutil.disk_usage(tmp_path)._replace(free=filled.FREE_BYTES_MIN + 10)
    monkeypatch.setattr(filled.shutil, "disk_usage", lambda _: free)
    with pytest.raises(filled.NoRoom, match="1,000 finished intents need"):
        filled.database(1_000)
    assert list(tmp_path.iterdir()) == []


def test_an_order_leaves_within_a_few_times_what_its_commits_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many orders at once, so that a slow disk makes larger batches and no queue; the best of a few tries counts."""
    monkeypatch.setattr(decisions, "ORDERS_AT_ONCE", decisions.ORDERS_AT_ONCE)
    logger.remove()
    seen = []
    for number in range(TRIES):
        before = alone.singles_ms(tmp_path / f"before-{number}.db", 20)
        found = life.run(30, rate=20.0, wide=True, is_counting=False)
        after = alone.singles_ms(tmp_path / f"after-{number}.db", 20)
        seen.append(found.p50_ms / max(statistics.median(before), statistics.median(after)))
        if seen[-1] < LATENCY_RATIO_MAX:
            return
    pytest.fail(f"from signal to order in {seen} times the writer's own life of an intent")


def test_the_page_is_renewed_between_its_markers_only(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("before\n<!-- bench:standings -->\nold\n<!-- /bench:standings -->\nafter\n")
    row = standings.Row(name="x", title="a chain", survives="all", items_per_s=spread.Spread(median=2, low=1, high=3))
    found = standings.Standings(laps=1, rows=(row,), ratios={"life/taskiq": 1.5})
    report.write(tmp_path, MACHINE, {"standings": msgspec.to_builtins(found)})
    text = page.read_text()
    assert text.startswith("before\n<!-- bench:standings -->\n2026-11-02: c, 2 cores")
    assert "| a chain | 2 (1-3) |" in text
    assert "old" not in text
    assert text.endswith("<!-- /bench:standings -->\nafter\n")
    with pytest.raises(ValueError, match="no markers"):
        report.between(text, "growth", "x")


def test_the_table_of_growth_says_what_a_past_costs() -> None:
    def a_size(finished: int, per_s: float) -> growth.Size:
        one = spread.Spread(median=per_s, low=per_s, high=per_s)
        lives = growth.Lives(
            per_s=one, cpu_ms_each=None, p50_ms=None, p90_ms=None, p99_ms=None, bytes_each=one, retried=1
        )  # fmt: skip
        writer = alone.Alone(per_s=1, cpu_ms_each=0.5, p50_ms=1, p99_ms=2, open_ms=3, reads_ms={"board": 4})
        process = idle.Process(name="store", cpu_percent=0.5, wakes_per_s=9, resident_mb=40, proportional_mb=20)
        held = idle.Idle(seconds=1, processes=(process,), with_paper_percent=0.5, without_paper_percent=0.5)
        return growth.Size(
            finished=finished, bytes_each=6_000, alone=writer, lives=dict.fromkeys(growth.FULL, lives), idle=held
        )  # fmt: skip

    found = growth.Growth(
        laps=1, sizes=(a_size(0, 1_000), a_size(1_000_000, 800)), analysts={}, batches={}, failed=("lap 1: why",)
    )
    assert found.ratios() == {
        "CPU of an intent, writer alone": 1.0,
        "time of an intent, wide": 1.25,
        "time of an intent, one at a time": 1.25,
    }  # fmt: skip
    said = report.tables({"growth": msgspec.to_builtins(found)})["growth"]
    for line in (
        "| finished intents before | 0 | 1,000,000 |",
        "| wide: whole lives/s | 1,000 (1,000-1,000) | 800 (800-800) |",
        "| wide: p50 ms at 20/s | failed | failed |",
        "| idle pipeline: store, MB (CPU %) | 20 (0.50) | 20 (0.50) |",
        "Leases that were lost and taken again: 4.",
        "Failed: lap 1: why",
    ):
        assert line in said, said
