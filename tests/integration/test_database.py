"""The decision store as a file: what is refused is left as it was; backups are proven; readers cannot write."""

from __future__ import annotations

import itertools
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from bus import messages
from bus.vocabulary import Role
from config.settings import Bus, Store
from store import backup, connection, queries, states, verify
from store.connection import DatabaseRefused, NoDatabase
from store.writer import Writer
from tests.kit.builders import a_peer, a_propose, an_envelope
from tests.kit.clock import ManualClock
from tests.kit.gate import a_gate
from tests.kit.store import StoreHarness

ROOT = Path(connection.__file__).parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a database with one opened intent, closed in order."""
    found = tmp_path / "decisions.db"
    db = connection.open_writer(found)
    StoreHarness(db).opened(a_peer(Role.EXECUTOR))
    db.close()
    return found


def refused(path: Path) -> str:
    """Return why the writer refuses the file, after proving that it left the file as it was."""
    before = path.read_bytes()
    with pytest.raises(DatabaseRefused) as error:
        connection.open_writer(path)
    assert path.read_bytes() == before
    assert sorted(one.name for one in path.parent.iterdir() if one.name.endswith((".new", "-journal"))) == []
    return str(error.value)


def patched(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


# ── refused ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("content", [b"hello, this is a diary", b"\x00" * 4_096, b"SQLite format 3\x00"])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "decisions.db"
    path.write_bytes(content)
    assert "not a SQLite database; move it away or set store.db_path" in refused(path)


def test_an_empty_file_is_refused_because_we_never_leave_one(tmp_path: Path) -> None:
    path = tmp_path / "decisions.db"
    path.touch()
    assert "empty" in refused(path)


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "decisions.db"
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE diary (day)")
    db.close()
    assert "belongs to another program (application id 0x00000000; ours is 0x50494c54)" in refused(path)


def test_a_database_of_a_newer_version_is_refused(path: Path) -> None:
    db = apsw.Connection(str(path))
    db.pragma("user_version", 99)
    db.pragma("journal_mode", "delete")
    db.close()
    assert f"newer version (schema 99, allowed up to {connection.version()})" in refused(path)


@pytest.mark.parametrize("kept", [0.9, 0.5, 0.1])
def test_a_truncated_database_is_refused(path: Path, kept: float) -> None:
    os.truncate(path, int(path.stat().st_size * kept))
    assert "damaged" in refused(path)


def test_a_damaged_page_is_refused(path: Path) -> None:
    size = path.stat().st_size
    for page in range(1, size // 4_096):
        patched(path, page * 4_096, b"\xff" * 64)
    assert "restore a backup" in refused(path)


def test_a_damaged_header_with_our_id_is_refused(path: Path) -> None:
    patched(path, 16, b"\x00\x03")  # a page size of 3 bytes
    assert "damaged" in refused(path)


def test_a_folder_in_the_files_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatabaseRefused, match="cannot be read: Is a directory"):
        connection.open_writer(tmp_path)


def test_a_place_where_nothing_can_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseRefused, match="cannot be made"):
        connection.open_writer(tmp_path / "file" / "decisions.db")


def test_a_new_database_never_begins_beside_the_log_of_a_lost_one(path: Path) -> None:
    db = connection.open_writer(path)
    StoreHarness(db).pending(symbol="GBPUSD")
    moved = path.with_name("elsewhere.db")
    path.rename(moved)
    with pytest.raises(DatabaseRefused, match=r"missing, but its log decisions\.db-wal is there"):
        connection.open_writer(path)
    assert not path.exists()
    db.close()


def test_an_older_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SQLITE_MIN", (99, 0, 0))
    with pytest.raises(DatabaseRefused, match=r"is too old; needed 99\.0\.0"):
        connection.open_writer(tmp_path / "decisions.db")
    assert list(tmp_path.iterdir()) == []


# ── made and opened ─────────────────────────────────────────────────────────


def test_what_a_kill_left_half_made_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "decisions.db"
    (tmp_path / "decisions.db.new").write_bytes(b"half")
    for left in ("-journal", "-wal", "-shm"):
        (tmp_path / f"decisions.db.new{left}").write_bytes(b"half")
    connection.open_writer(path).close()
    assert [one.name for one in tmp_path.iterdir()] == ["decisions.db"]


def test_a_backup_whose_opening_was_cut_off_by_a_kill_is_rolled_back_and_opened(path: Path, tmp_path: Path) -> None:
    restored = backup.backup(path, tmp_path / "backups", 3, ManualClock())
    cut = tmp_path / "cut"
    cut.mkdir()
    db = apsw.Connection(str(restored))
    db.pragma("cache_size", 1)
    db.execute("BEGIN; UPDATE decisions SET status = 'half'; CREATE TABLE half (a)")
    for n in range(400):  # until half of it is in the file itself
        db.execute("INSERT INTO half VALUES (?)", (str(n) * 1_000,))
    for name in (restored.name, restored.name + "-journal"):
        (cut / name.replace(restored.name, "decisions.db")).write_bytes((restored.parent / name).read_bytes())
    db.execute("ROLLBACK")
    db.close()
    assert (cut / "decisions.db").stat().st_size > restored.stat().st_size
    again = connection.open_writer(cut / "decisions.db")
    reader = queries.Reader.over(again)
    assert (reader.status_counts(), again.pragma("journal_mode")) == ({"opened": 1}, "wal")
    assert verify.verify_chain(reader) == []
    again.close()


def test_a_new_database_uses_its_log_before_it_stands_in_its_place(tmp_path: Path) -> None:
    connection.open_writer(tmp_path / "decisions.db").close()
    assert (tmp_path / "decisions.db").read_bytes()[18:20] == b"\x02\x02"
    assert [one.name for one in tmp_path.iterdir()] == ["decisions.db"]


def test_a_new_database_is_private_ours_durable_and_in_wal(tmp_path: Path) -> None:
    path = tmp_path / "decisions.db"
    db = connection.open_writer(path)
    assert path.stat().st_mode & 0o777 == 0o600
    pragmas = {name: db.pragma(name) for name in ("application_id", "user_version", "journal_mode", "synchronous")}
    assert pragmas == {
        "application_id": 0x50494C54,
        "user_version": connection.version(),
        "journal_mode": "wal",
        "synchronous": 2,
    }
    assert db.pragma("foreign_keys") == 1
    db.close()


def test_opening_again_changes_no_byte(path: Path) -> None:
    before = path.read_bytes()
    connection.open_writer(path).close()
    assert path.read_bytes() == before


def test_what_was_committed_is_there_after_the_writer_was_cut_off(path: Path, tmp_path: Path) -> None:
    db = connection.open_writer(path)
    intent = StoreHarness(db).pending(symbol="GBPUSD")
    cut = tmp_path / "cut"
    cut.mkdir()
    for name in ("decisions.db", "decisions.db-wal"):  # as after a kill: no checkpoint, the log beside it
        (cut / name).write_bytes((tmp_path / name).read_bytes())
    db.close()
    again = connection.open_writer(cut / "decisions.db")
    assert queries.Reader.over(again).intent(intent.id) == intent
    again.close()


def test_migrations_and_schema_agree(tmp_path: Path) -> None:
    def schema(db: apsw.Connection) -> dict[str, str]:
        rows = db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'intents_%'")
        return {str(name): re.sub(r"--[^\n]*|\s+", " ", str(sql)).replace(chr(34), "") for name, sql in rows}

    migrated = connection.open_writer(tmp_path / "decisions.db")
    written = apsw.Connection(":memory:")
    written.execute((ROOT / "schema.sql").read_text())
    assert schema(migrated) == schema(written)
    assert connection.version() == len(list((ROOT / "migrations").glob("*.sql")))
    migrated.close()


def test_a_database_of_the_first_version_keeps_its_days_and_halts(tmp_path: Path) -> None:
    path = tmp_path / "decisions.db"
    old = apsw.Connection(str(path))
    old.execute((ROOT / "migrations" / "0001_initial.sql").read_text())
    old.pragma("application_id", 0x50494C54)
    old.pragma("user_version", 1)
    old.execute("INSERT INTO account_days VALUES ('A1', '2026-11-02', '2026-11-01T22:00:00.000Z', "
                "'2026-11-02T22:00:00.000Z', 4900000, 5000000, 'x')")  # fmt: skip
    old.execute("INSERT INTO halts (kind, reason, raised_by, raised_at) VALUES ('hard', 'max_drawdown: x', 'm', 'y')")
    old.close()
    db = connection.open_writer(path)
    reader = queries.Reader.over(db)
    day = reader.account_day("2026-11-02", "A1", "00:00 Europe/Athens")
    assert day is not None and (day.start_balance_cents, day.reference_cents) == (4_900_000, 4_900_000)
    assert [(halt.reason, halt.flatten) for halt in reader.halts()] == [("max_drawdown: x", False)]
    assert reader.account_version() == 1
    db.close()


def test_a_status_changed_through_another_connection_is_refused(path: Path) -> None:
    other = apsw.Connection(str(path))
    with pytest.raises(apsw.ConstraintError, match="illegal transition"):
        other.execute("UPDATE intents SET status = 'pending'")
    with pytest.raises(apsw.ConstraintError, match="append-only"):
        other.execute("DELETE FROM transitions")
    other.close()


def test_every_table_is_strict_and_every_trigger_is_in_the_file(path: Path) -> None:
    db = apsw.Connection(str(path))
    tables = {str(row[1]): row[5] for row in db.execute("PRAGMA table_list") if not str(row[1]).startswith("sqlite_")}
    assert set(tables.values()) == {1}, tables
    names = {str(row[0]) for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")}
    assert set(states.triggers()) < names
    db.close()


# ── readers ─────────────────────────────────────────────────────────────────


def test_a_reader_of_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoDatabase, match="no database yet; start the pipeline first"):
        queries.Reader(tmp_path / "decisions.db")


def test_a_reader_of_something_else_says_so(tmp_path: Path) -> None:
    (tmp_path / "diary").write_bytes(b"x" * 200)
    with pytest.raises(DatabaseRefused, match="not a SQLite database"):
        queries.Reader(tmp_path / "diary")


def test_a_reader_cannot_write_and_sees_every_commit(path: Path) -> None:
    reader = queries.Reader(path)
    with pytest.raises(apsw.ReadOnlyError):
        reader._db.execute("DELETE FROM alerts")
    db = connection.open_writer(path)
    intent = StoreHarness(db).pending(symbol="GBPUSD")
    assert reader.intent(intent.id) == intent
    reader.close()
    db.close()


def test_queries_filter_count_and_find(path: Path) -> None:
    db = connection.open_writer(path)
    store = StoreHarness(db)
    young = store.pending(symbol="GBPUSD", trade_date="2026-11-03")
    reader = queries.Reader(path)
    assert [one.symbol for one in reader.intents()] == ["GBPUSD", "EURUSD"]
    assert [one.id for one in reader.intents(date="2026-11-03", status="pending", symbol="GBPUSD")] == [young.id]
    assert reader.intents(symbol="EURUSD", status="pending") == []
    assert [one.id for one in reader.pending_intents()] == [young.id]
    assert (reader.ready_intents(), len(reader.active_positions())) == ([], 1)
    assert [one.id for one in reader.live_intents()] == [young.id]
    assert [one.id for one in reader.intents_by_date("2026-11-03")] == [young.id]
    assert reader.intent_exists("GBPUSD", "2026-11-03", "scanner")
    assert not reader.intent_exists("GBPUSD", "2026-11-03", "manual")
    assert reader.intent_ids(young.id[:6]) == [young.id]
    assert reader.status_counts() == {"opened": 1, "pending": 1}
    assert (reader.intent("x"), reader.order("x"), reader.decision("x"), reader.last_equity()) == (None,) * 4
    assert [order.position_id for order in reader.orders()] == ["p1"]
    assert reader.store_epoch() == 2
    reader.close()
    db.close()


# ── the journal ─────────────────────────────────────────────────────────────


def test_a_whole_journal_has_no_findings(path: Path) -> None:
    assert verify.verify_chain(queries.Reader(path)) == []


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ("UPDATE transitions SET reason = 'nothing' WHERE seq = 2", "seq 2 was changed"),
        ("UPDATE transitions SET to_status = 'closed' WHERE seq = 6", "is opened, but its journal ends with closed"),
        ("DELETE FROM transitions WHERE seq = 3", "seq 3 is missing: 4 follows 2"),
        ("DELETE FROM transitions WHERE seq = 6", "is opened, but its journal ends with executing"),
        ("DELETE FROM transitions", "is opened, but its journal ends with None"),
        ("UPDATE intents SET status = 'closed'", "is closed, but its journal ends with opened"),
        ("UPDATE transitions SET hash = 'x' WHERE seq = 2", "seq 3 does not follow the hash of 2"),
        ("UPDATE transitions SET event = 'open' WHERE seq = 2", "seq 2 is no arrow"),
    ],
)
def test_what_somebody_changed_behind_our_back_is_found(path: Path, change: str, finding: str) -> None:
    db = apsw.Connection(str(path))
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f'DROP TRIGGER "{name}"')
    db.execute(change)
    db.close()
    findings = verify.verify_chain(queries.Reader(path))
    assert any(finding in one for one in findings), findings


# ── backups ─────────────────────────────────────────────────────────────────


def test_a_backup_taken_while_the_store_writes_is_whole_and_can_be_opened(path: Path, tmp_path: Path) -> None:
    db = connection.open_writer(path)
    StoreHarness(db).pending(symbol="GBPUSD")
    copy = backup.backup(path, tmp_path / "backups", 3, ManualClock())
    assert copy.name == "decisions-20261102T060000Z.db"
    assert (copy.stat().st_mode & 0o777, backup.integrity(copy)) == (0o600, "ok")
    restored = connection.open_writer(copy)
    assert queries.Reader.over(restored).status_counts() == {"opened": 1, "pending": 1}
    assert verify.verify_chain(queries.Reader.over(restored)) == []
    restored.close()
    db.close()


def test_only_the_newest_backups_are_kept_and_what_a_kill_left_is_removed(path: Path, tmp_path: Path) -> None:
    clock, folder = ManualClock(), tmp_path / "backups"
    folder.mkdir()
    (folder / "decisions-20200101T000000Z.db.part").touch()
    (folder / "mine.txt").touch()
    for _ in range(4):
        clock.advance(60)
        backup.backup(path, folder, 2, clock)
    names = sorted(one.name for one in folder.iterdir())
    assert names == ["decisions-20261102T060300Z.db", "decisions-20261102T060400Z.db", "mine.txt"]


def test_a_backup_into_a_place_that_is_no_folder_fails_with_a_message(path: Path, tmp_path: Path) -> None:
    (tmp_path / "backups").touch()
    with pytest.raises(backup.BackupFailed, match=r"backup of decisions.db into .*backups"):
        backup.backup(path, tmp_path / "backups", 3, ManualClock())


def test_a_backup_without_room_fails_and_the_older_ones_stay(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    older = backup.backup(path, folder, 1, ManualClock())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    clock = ManualClock()
    clock.advance(60)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_192, limits[1]))
    try:
        with pytest.raises(backup.BackupFailed):
            backup.backup(path, folder, 1, clock)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(folder.iterdir()) == [older]


def test_a_backup_of_a_damaged_database_fails_and_replaces_nothing(path: Path, tmp_path: Path) -> None:
    older = backup.backup(path, tmp_path / "backups", 1, ManualClock())
    for page in range(2, path.stat().st_size // 4_096):
        patched(path, page * 4_096, b"\xff" * 64)
    clock = ManualClock()
    clock.advance(60)
    with pytest.raises(backup.BackupFailed, match=r"damaged|malformed"):
        backup.backup(path, tmp_path / "backups", 1, clock)
    assert list((tmp_path / "backups").iterdir()) == [older]
    assert backup.integrity(path) != "ok"


# ── room and company ────────────────────────────────────────────────────────


def test_nothing_is_answered_while_the_disk_is_full_and_everything_once_there_is_room(path: Path) -> None:
    db = connection.open_writer(path)
    clock = ManualClock()
    writer = Writer(db, Store(), Bus(), a_gate(), now=clock.now(), now_s=clock.monotonic())
    db.pragma("max_page_count", int(str(db.pragma("page_count"))))
    scanner = a_peer(Role.SCANNER)
    numbers = itertools.count()

    def batch() -> list[messages.Envelope]:
        return [
            an_envelope(scanner, a_propose(bar_time=f"bar {next(numbers)}", model_id="x" * 5_000)) for _ in range(20)
        ]

    first = batch()
    with pytest.raises(apsw.FullError):
        writer.step(first, clock.now(), clock.monotonic())
    assert writer.read.status_counts() == {"opened": 1}
    db.pragma("max_page_count", 1_000_000)
    answers = writer.step(first, clock.now(), clock.monotonic())
    assert [str(ack.outcome) for _, ack in answers if isinstance(ack, messages.Ack)] == ["applied"] * 20
    assert verify.verify_chain(writer.read) == []
    db.close()


def test_another_program_that_writes_makes_the_store_wait_not_answer(path: Path) -> None:
    db = connection.open_writer(path)
    db.set_busy_timeout(10)
    store = StoreHarness(db)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    envelope = an_envelope(a_peer(Role.SCANNER), a_propose(symbol="GBPUSD"))
    with pytest.raises(apsw.BusyError):
        store.step(envelope)
    other.execute("ROLLBACK")
    assert store.step(envelope)[0][1].outcome == "applied"  # type: ignore[union-attr]
    other.close()
    db.close()


TAKING_BACK = """
import os, sys
from pathlib import Path
from store import connection

connection.configure_sqlite()
db = connection.open_writer(Path(sys.argv[1]))
db.execute("BEGIN IMMEDIATE")
for number in range(200):
    db.execute("SAVEPOINT command")
    db.execute("INSERT INTO meta VALUES (?, ?)", (f"large {number}", "x" * 10_000))
    db.execute("UPDATE meta SET value = value || 'x' WHERE key LIKE 'large%'")
    db.execute("RELEASE command")
print(*(os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.exists()), sep="\\n")
"""


def test_what_commands_could_take_back_is_written_to_no_file(path: Path) -> None:
    command = [sys.executable, "-c", TAKING_BACK, str(path)]
    held = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    assert [name for name in held if name.startswith("/") and not name.startswith("/dev/")] == [
        str(path), f"{path}-wal", f"{path}-shm",
    ]  # fmt: skip
