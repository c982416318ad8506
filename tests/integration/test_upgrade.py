"""A new version on an old database: copied and proven first, then changed in one commit; a newer one is refused."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import resource
import shutil
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from bus import messages
from bus.vocabulary import ExitCode, Role, Status
from store import backup, connection, upgrade, verify
from store.connection import DatabaseRefused, NoDatabase
from store.owner import Owner
from store.queries import Reader
from tests.kit import older
from tests.kit.builders import a_peer
from tests.kit.clock import ManualClock
from tests.kit.gate import keep_days
from tests.kit.store import StoreHarness
from tests.kit.store_process import store_process

PAPER = Owner("paper", "PAPER-1")
OLD = range(1, connection.version())
COPY_BYTES_MAX = 65_536  # of a full disk: the index of the log fits, a copy does not
STATEMENTS_MIN = 60  # of all migrations: fewer means that the kills below hit nothing


def fill(db: apsw.Connection) -> None:
    """Leave an intent in every status, an order without an outcome, halts, and alerts that nobody took."""
    store = StoreHarness(db)
    executor, days = a_peer(Role.EXECUTOR), iter(range(1, 28))

    def key() -> dict[str, object]:
        return {"bar_time": f"2026-09-{next(days):02d}"}

    store.closed(executor, "p-closed", **key())
    store.opened(executor, "p-open", **key())
    rejected = store.executing(executor, **key())
    body: messages.Command = messages.Reject(
        intent_id=rejected.id, epoch=rejected.epoch, reason="x", compliance_snapshot="{}"
    )
    store.tell(executor, body)
    failed = store.reserved(executor, **key())
    store.tell(executor, messages.OrderFailed(intent_id=failed.id, epoch=failed.epoch, reason="refused"))
    cancelled = store.pending(**key())
    store.tell(a_peer(Role.PILOT), messages.Cancel(intent_id=cancelled.id, operator="ann", reason="x"))
    store.reserved(executor, **key())
    store.beat(executor, capacity=0)
    store.ready(**key())
    store.claimed(a_peer(Role.LLM), **key())
    store.pending(**key())
    for kind, until in (("hard", None), ("soft", "2026-12-01T00:00:00.000Z")):
        body = messages.RaiseHalt(level=kind, reason=f"{kind}: for the test", until=until)
        assert store.tell(a_peer(Role.MONITOR), body).outcome == "applied"


@pytest.fixture(scope="module")
def today(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a filled database of this version."""
    path = tmp_path_factory.mktemp("today") / "decisions.db"
    db = connection.open_writer(path)
    fill(db)
    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    db.close()
    return path


@pytest.fixture
def aged(today: Path, tmp_path: Path) -> Callable[[int], Path]:
    """Return a function that makes the same database of an older version."""

    def make(schema: int) -> Path:
        path = tmp_path / "data" / "decisions.db"
        path.parent.mkdir(mode=0o700)
        shutil.copy(today, path)
        older.rewrite(path, schema)
        return path

    return make


def backups(path: Path) -> Path:
    return path.parent / "backups"


def seen(path: Path) -> dict[str, object]:
    """Return what must be the same on both sides of an upgrade."""
    reader = Reader(path, older=True)
    try:
        return {
            "statuses": dict(reader.statuses()),
            "journal": [move.hash for move in reader.journal()],
            "positions": reader._db.execute("SELECT intent_id, position_id, status FROM orders ORDER BY 1").fetchall(),
            "halts": reader._db.execute("SELECT kind, reason, until, lifted_at FROM halts ORDER BY id").fetchall(),
            "alerts": reader._db.execute("SELECT seq, event, text FROM alerts ORDER BY seq").fetchall(),
            "commands": reader._db.execute("SELECT * FROM commands ORDER BY 1").fetchall(),
        }
    finally:
        reader.close()


def schema_of(path: Path) -> int:
    db = connection.open_reader(path, older=True)
    try:
        return connection.version_of(db)
    finally:
        db.close()


def open_upgraded(path: Path) -> None:
    upgrade.open_writer(path, backups(path), ManualClock(), PAPER).close()


# ── refused ─────────────────────────────────────────────────────────────────


def test_older_database_of_another_account_is_neither_copied_nor_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "decisions.db"
    store = StoreHarness(connection.open_writer(path))
    keep_days(store.db, store.gate, store.clock.now())
    store.db.close()
    older.rewrite(path, 1)
    before = path.read_bytes()
    with pytest.raises(DatabaseRefused, match=r"belongs to account PAPER-1; broker\.account_id is ACC-2"):
        upgrade.open_writer(path, backups(path), ManualClock(), Owner("firm", "ACC-2"))
    assert (path.read_bytes(), backups(path).exists(), schema_of(path)) == (before, False, 1)


def test_newer_database_is_refused_with_what_was_found_and_allowed_and_never_restarted() -> None:
    with store_process() as store:
        store.data.mkdir(mode=0o700)
        connection.open_writer(store.db).close()
        db = apsw.Connection(str(store.db))
        db.pragma("user_version", connection.version() + 1)
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        db.close()
        before = store.db.read_bytes()
        assert store.start().wait(10) == ExitCode.CONFIG
        assert store.said(f"written by a newer version (schema {connection.version() + 1}, allowed up to")
        assert store.said("docs/upgrade.md")
        assert store.db.read_bytes() == before
        with pytest.raises(DatabaseRefused, match="newer version"):
            Reader(store.db)
        with pytest.raises(DatabaseRefused, match="newer version"):
            backup.integrity(store.db)


def test_reader_of_an_older_database_is_told_to_wait_for_the_store(aged: Callable[[int], Path]) -> None:
    with pytest.raises(NoDatabase, match=rf"schema 3, here {connection.version()}: start the pipeline"):
        Reader(aged(3))


@pytest.mark.parametrize("how", ["full", "no folder", "journal"])
def test_older_database_that_cannot_be_copied_and_proven_is_refused_and_untouched(
    aged: Callable[[int], Path], how: str
) -> None:
    path = aged(1)
    if how == "journal":
        db = apsw.Connection(str(path))
        rows = db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'transitions'")
        for (name,) in rows.fetchall():
            db.execute(f'DROP TRIGGER "{name}"')
        db.execute("UPDATE transitions SET reason = 'forged' WHERE seq = 2")
        db.close()
    elif how == "no folder":
        backups(path).write_text("a file stands where the folder should be")
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        if how == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (COPY_BYTES_MAX, limits[1]))
        with pytest.raises(DatabaseRefused, match=r"It was not changed$") as error:
            open_upgraded(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old_handler)
    said = {"full": "disk|full|large", "no folder": "exists", "journal": "findings in all"}[how]
    assert re.search(said, str(error.value), re.IGNORECASE), error.value
    assert (path.read_bytes(), schema_of(path)) == (before, 1)
    assert how == "no folder" or list(backups(path).iterdir()) == []


def test_store_of_the_old_version_that_still_runs_keeps_the_new_one_out(aged: Callable[[int], Path]) -> None:
    with store_process() as store:
        path = aged(2)
        path.parent.rename(store.data)
        held = os.open(store.db.with_name("decisions.db.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        with contextlib.closing(os.fdopen(held, "r+")) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = store.db.read_bytes()
            assert store.start().wait(10) == ExitCode.LOCKED
        assert store.db.read_bytes() == before
        assert not (store.data / "backups").exists()


# ── upgraded ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("schema", OLD)
def test_database_of_each_older_version_is_copied_proven_and_upgraded_whole(
    aged: Callable[[int], Path], schema: int
) -> None:
    path = aged(schema)
    before = seen(path)
    assert set(before["statuses"].values()) == set(Status) - {Status.TIMED_OUT}  # type: ignore[attr-defined]
    open_upgraded(path)
    assert seen(path) == before
    assert schema_of(path) == connection.version()
    reader = Reader(path)
    assert [*verify.verify_chain(reader), *verify.verify_orders(reader)] == []
    assert [one.position_id for one in reader.active_positions()] == ["p-open"]
    assert len(reader.unresolved_orders()) == 1
    reader.close()
    (copy,) = backups(path).iterdir()
    assert copy.name.startswith(f"before-{connection.version():04d}-schema-{schema:04d}-")
    assert (stat.S_IMODE(copy.stat().st_mode), backup.integrity(copy), seen(copy)) == (0o600, "ok", before)
    assert schema_of(copy) == schema
    open_upgraded(path)
    assert list(backups(path).iterdir()) == [copy], "a database of this version is not copied"


def test_upgraded_database_has_the_schema_of_a_new_one(aged: Callable[[int], Path], tmp_path: Path) -> None:
    def schema(path: Path) -> list[tuple[str, str]]:
        db = connection.open_reader(path)
        try:
            return db.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
        finally:
            db.close()

    path, new = aged(1), tmp_path / "new.db"
    open_upgraded(path)
    connection.open_writer(new).close()
    assert schema(path) == schema(new)


def test_copies_of_many_upgrades_are_kept_up_to_a_limit(aged: Callable[[int], Path]) -> None:
    path, clock = aged(7), ManualClock()
    aside = path.read_bytes()
    for _ in range(upgrade.KEPT + 2):
        path.write_bytes(aside)
        for left in ("-wal", "-shm"):
            path.with_name(path.name + left).unlink(missing_ok=True)
        upgrade.open_writer(path, backups(path), clock, PAPER).close()
        clock.advance(5.0)
    assert len(list(backups(path).iterdir())) == upgrade.KEPT


# ── killed ──────────────────────────────────────────────────────────────────


def test_upgrade_cut_off_before_any_statement_leaves_the_old_version_or_the_new_one_whole(
    aged: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a kill would leave is what the files hold at that moment: the log is written by then, or it is not."""
    path = aged(1)
    before = seen(path)
    cut = tmp_path / "cut" / "decisions.db"
    cut.parent.mkdir(mode=0o700)
    found: list[tuple[bytes, bytes]] = []
    statements = 0

    def trace(_cursor: object, _sql: str, _bindings: object) -> bool:
        nonlocal statements
        statements += 1
        log = path.with_name("decisions.db-wal")
        state = (path.read_bytes(), log.read_bytes() if log.exists() else b"")
        if not found or found[-1] != state:
            found.append(state)
        return True

    monkeypatch.setattr(apsw, "connection_hooks", [lambda db: setattr(db, "exec_trace", trace)])
    open_upgraded(path)
    monkeypatch.setattr(apsw, "connection_hooks", [])
    schemas = []
    for file, log in found:
        for left in cut.parent.iterdir():
            left.unlink()
        cut.write_bytes(file)
        cut.with_name("decisions.db-wal").write_bytes(log)
        schemas.append(schema_of(cut))
        assert seen(cut) == before
        connection.open_writer(cut).close()
        assert (schema_of(cut), seen(cut)) == (connection.version(), before)
    assert set(schemas) == {1, connection.version()} and schemas == sorted(schemas)
    assert statements > STATEMENTS_MIN


def test_store_killed_on_each_side_of_copy_and_upgrade_is_followed_by_one_that_serves(
    aged: Callable[[int], Path],
) -> None:
    with store_process() as store:
        aged(1).parent.rename(store.data)
        before = seen(store.db)
        for step in ("keep_former", "migrate"):
            for side in ("before", "after"):
                store.arm(f"store.{side}_{step}")
                assert store.start().wait(10) == -signal.SIGKILL
                assert schema_of(store.db) == (connection.version() if (side, step) == ("after", "migrate") else 1)
                assert seen(store.db) == before
        store.start()
        store.serving(2)
        journal = before["journal"]
        assert isinstance(journal, list) and seen(store.db)["journal"][: len(journal)] == journal  # type: ignore[index]
        kept = list((store.data / "backups").iterdir())
        assert kept and all(backup.integrity(one) == "ok" and schema_of(one) == 1 for one in kept)
        assert store.end() == ExitCode.OK
