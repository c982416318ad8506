"""What ended long ago leaves the store once and whole, kill or no kill, and the chain can still be followed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest

from bus import messages
from bus.alerting import AlertsDelivered
from bus.vocabulary import Role, Status
from config import load
from store import archive, archived, backup, connection, restore, verify
from store.archive import ArchiveRefused, Archivist
from store.owner import Owner
from store.queries import Reader
from tests.kit import failpoints
from tests.kit.builders import a_peer
from tests.kit.clock import ManualClock
from tests.kit.real_store import pilot
from tests.kit.store import StoreHarness

DAYS = 400
OURS = Owner("paper", "PAPER-1")
TABLES = ("transitions", "intents", "decisions", "orders", "alerts")
STEP = """
import sys
from datetime import datetime
from pathlib import Path
from store import connection
from store.archive import Archivist
path = Path(sys.argv[1])
db = connection.open_writer(path)
archivist = Archivist(db, path, 400)
while archivist.step(datetime.fromisoformat(sys.argv[2])):
    pass
"""
CUT_OFF = """
import os, sys, apsw
db = apsw.Connection(sys.argv[1])
db.pragma("cache_size", 1)
db.execute("BEGIN")
db.execute("UPDATE transitions SET reason = reason || 'x'")
for number in range(40):
    db.execute("INSERT INTO intents (id, signal_json) VALUES (?, ?)", (f"x{number}", "y" * 100_000))
os._exit(9)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "decisions.db"


@pytest.fixture
def here(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make `pilot` use the database of the test."""
    with tempfile.TemporaryDirectory(prefix="pa") as run:  # short: socket paths end at 107 bytes
        for name, value in (("DATA", str(path.parent)), ("RUN", run), ("PROFILE", "paper")):
            monkeypatch.setenv(f"PILOT_{name}", value)
        yield


@pytest.fixture
def store(path: Path) -> StoreHarness:
    """Return a store with a year's past: three traded and closed, one cancelled, then 401 days, then a young one."""
    found = StoreHarness(connection.open_writer(path))
    executor = a_peer(Role.EXECUTOR)
    for number, symbol in enumerate(("EURUSD", "GBPUSD", "USDJPY")):
        found.closed(executor, f"p{number}", symbol=symbol)
    cancelled(found, "USDCAD")
    tell_all(found)
    found.clock.advance((DAYS + 1) * 86_400)
    found.closed(executor, "young", symbol="USDCHF")
    return found


def cancelled(store: StoreHarness, symbol: str) -> None:
    """Let an intent be proposed, and cancelled at once."""
    gone = store.pending(symbol=symbol)
    store.tell(a_peer(Role.PILOT), messages.Cancel(intent_id=gone.id, operator="me", reason="no"))


def tell_all(store: StoreHarness) -> None:
    """Say that every alert was delivered."""
    through = store.db.execute("SELECT max(seq) FROM alerts").get
    everything = ("info", "warning", "error")
    store.tell(a_peer(Role.ALERTS), AlertsDelivered(through_seq=through, channel="none", levels=everything))


def counts(db: apsw.Connection) -> dict[str, int]:
    return {table: int(str(db.execute(f"SELECT count(*) FROM {table}").get)) for table in TABLES}  # noqa: S608


def archives(path: Path) -> list[Path]:
    return sorted(path.parent.glob("decisions-archive-*.db"))


def there(path: Path) -> dict[str, int]:
    """Return how many rows of each table all archives hold."""
    found = dict.fromkeys(TABLES, 0)
    for one in archives(path):
        db = archived.open_archive(one)
        found = {table: found[table] + many for table, many in counts(db).items()}
        db.close()
    return found


def move_all(store: StoreHarness, path: Path) -> None:
    archivist = Archivist(store.db, path, DAYS)
    while archivist.step(store.clock.now()):
        pass


def proof(path: Path) -> list[str]:
    reader = Reader(path)
    try:
        return verify.verify_chain(reader) + verify.verify_orders(reader)
    finally:
        reader.close()


# ── what must not go ────────────────────────────────────────────────────────


def test_nothing_young_and_nothing_at_all_when_it_is_off(store: StoreHarness, path: Path) -> None:
    before = counts(store.db)
    Archivist(store.db, path, 0).rest(store.clock.now(), 1e9)
    assert Archivist(store.db, path, DAYS).step(store.clock.now() - timedelta(days=2)) == 0
    assert counts(store.db) == before
    assert archives(path) == []


def test_an_open_position_and_all_after_it_stay_however_old(path: Path) -> None:
    store = StoreHarness(connection.open_writer(path))
    executor = a_peer(Role.EXECUTOR)
    store.closed(executor, "p1", symbol="EURUSD")
    kept = store.opened(executor, "p2", symbol="GBPUSD")
    store.closed(executor, "p3", symbol="USDJPY")
    store.clock.advance(1_000 * 86_400)
    store.pending(symbol="USDCHF")
    move_all(store, path)
    assert store.intent(kept.id).status is Status.OPENED
    assert store.read.order(kept.id) is not None
    assert len(store.read.transitions(kept.id)) == 6
    assert there(path)["intents"] == 1
    assert proof(path) == []


def test_an_alert_that_nobody_was_told_stays(path: Path) -> None:
    store = StoreHarness(connection.open_writer(path))
    store.closed(a_peer(Role.EXECUTOR))
    store.clock.advance(1_000 * 86_400)
    store.pending(symbol="USDCHF")
    before = counts(store.db)["alerts"]
    move_all(store, path)
    assert (counts(store.db)["alerts"], there(path)["alerts"]) == (before, 0)
    assert there(path)["intents"] == 1


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM transitions WHERE seq > (SELECT max(through_seq) FROM archive_anchors)", "append-only"),
        ("DELETE FROM orders", "orders are never deleted"),
        ("DELETE FROM alerts", "alerts are never deleted"),
        ("DELETE FROM intents WHERE status = 'closed'", "whose journal was archived|FOREIGN KEY"),
        ("UPDATE archive_anchors SET through_seq = (SELECT max(seq) FROM transitions)", "moves forward only"),
        ("UPDATE archive_anchors SET through_seq = through_seq + 1", "moves forward only"),
        ("DELETE FROM archive_anchors", "never deleted"),
        (
            "INSERT OR REPLACE INTO archive_anchors SELECT file, at, through_seq, '', 0, 0, 0, 0, '' "
            "FROM archive_anchors",
            "not its last one",
        ),
    ],
)
def test_whoever_else_deletes_is_refused(store: StoreHarness, path: Path, statement: str, message: str) -> None:
    move_all(store, path)
    with pytest.raises(apsw.ConstraintError, match=message):
        store.db.execute(statement)


def test_an_archive_that_holds_other_rows_takes_nothing(store: StoreHarness, path: Path) -> None:
    Archivist(store.db, path, DAYS)._copy(path.with_name("decisions-archive-2026.db"), {})
    db = apsw.Connection(str(path.with_name("decisions-archive-2026.db")))
    kinds = [row[0] for row in store.db.execute("SELECT name FROM pragma_table_info('transitions') ORDER BY cid")]
    db.execute(f"CREATE TABLE transitions ({', '.join(kinds)}, PRIMARY KEY (seq))")
    db.execute(f"INSERT INTO transitions VALUES (1, {', '.join(['?'] * 12)})", ["x"] * 12)  # noqa: S608
    db.close()
    before = counts(store.db)
    with pytest.raises(ArchiveRefused, match="holds another row of transitions for 1"):
        move_all(store, path)
    assert counts(store.db) == before
    foreign = path.with_name("decisions-archive-2026.db")
    foreign.unlink()
    other = apsw.Connection(str(foreign))
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    with pytest.raises(ArchiveRefused, match="is no archive of ours"):
        move_all(store, path)
    assert counts(store.db) == before


def test_rows_that_were_not_copied_never_leave(
    store: StoreHarness, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archivist, before = Archivist(store.db, path, DAYS), counts(store.db)
    whole = archivist._arrows(store.clock.now().isoformat())
    monkeypatch.setattr(archivist, "_arrows", lambda _: whole[:1] + whole[2:])
    with pytest.raises(ArchiveRefused, match=r"transitions: 22 rows were copied and 23 would leave the store"):
        archivist.step(store.clock.now())
    assert counts(store.db) == before
    assert archived.anchors(store.read) == []
    assert proof(path) == []


def test_trouble_with_the_archive_is_told_and_stops_nothing(store: StoreHarness, path: Path) -> None:
    path.with_name("decisions-archive-2026.db").mkdir()
    archivist, before = Archivist(store.db, path, DAYS), counts(store.db)
    archivist.rest(store.clock.now(), 0.0)
    assert counts(store.db) == before
    path.with_name("decisions-archive-2026.db").rmdir()
    archivist.rest(store.clock.now(), archive.TROUBLE_S - 1)
    assert counts(store.db) == before, "not yet tried again"
    archivist.rest(store.clock.now(), archive.TROUBLE_S)
    assert there(path)["intents"] == 4


def test_a_time_in_which_it_may_be_needed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text("[store]\narchive_after_days = 89\n")
    with pytest.raises(
        load.ConfigError, match=r"archive_after_days was 89; allowed: 0 .nothing is moved., or at least 90"
    ):
        load.settings(str(tmp_path / "p.toml"))


# ── what goes, goes once ────────────────────────────────────────────────────


def test_what_ended_long_ago_is_in_the_archive_and_the_chain_holds_across(store: StoreHarness, path: Path) -> None:
    before = counts(store.db)
    move_all(store, path)
    after, moved = counts(store.db), there(path)
    assert {table: after[table] + moved[table] for table in TABLES} == before
    assert (after["intents"], moved["intents"], moved["orders"]) == (1, 4, 3)
    assert [one.name for one in archives(path)] == ["decisions-archive-2026.db"]
    assert proof(path) == []
    reader = Reader(path)
    anchor = archived.anchors(reader)[0]
    assert (anchor.through_seq, anchor.arrows, anchor.intents) == (moved["transitions"], moved["transitions"], 4)
    reader.close()


@pytest.mark.parametrize(("starts_at", "wrong_h"), [((2026, 12, 31, 20), 5), ((2027, 1, 1, 2), -5)])
def test_a_clock_that_was_wrong_over_new_year_loses_nothing(
    path: Path, starts_at: tuple[int, int, int, int], wrong_h: int
) -> None:
    store = StoreHarness(connection.open_writer(path), ManualClock(datetime(*starts_at, tzinfo=UTC)))
    cancelled(store, "EURUSD")
    store.clock.jump(wrong_h * 3_600)
    cancelled(store, "GBPUSD")
    store.clock.jump(-wrong_h * 3_600)
    cancelled(store, "USDJPY")
    tell_all(store)
    store.clock.advance((DAYS + 2) * 86_400)
    store.pending(symbol="USDCHF")
    years = [row[0] for row in store.db.execute("SELECT substr(at, 1, 4) FROM transitions WHERE seq < 7")]
    assert years != sorted(years), "the journal is not in the order of its times"
    before = counts(store.db)
    move_all(store, path)
    after, moved = counts(store.db), there(path)
    assert {table: after[table] + moved[table] for table in TABLES} == before
    assert (moved["transitions"], moved["intents"], after["transitions"]) == (6, 3, 1)
    assert proof(path) == []


def test_alerts_that_are_told_after_the_next_year_moved_follow(path: Path) -> None:
    store = StoreHarness(connection.open_writer(path), ManualClock(datetime(2026, 12, 20, tzinfo=UTC)))
    cancelled(store, "EURUSD")
    store.clock.advance(20 * 86_400)
    cancelled(store, "GBPUSD")
    store.clock.advance((DAYS + 2) * 86_400)
    store.pending(symbol="USDCHF")
    before = counts(store.db)
    move_all(store, path)
    assert (len(archives(path)), there(path)["alerts"]) == (2, 0), "nobody was told yet"
    tell_all(store)
    move_all(store, path)
    after, moved = counts(store.db), there(path)
    assert {table: after[table] + moved[table] for table in TABLES} == before
    assert (after["alerts"], after["transitions"]) == (1, 1), "what is young, and nothing else"
    assert proof(path) == []


@pytest.mark.usefixtures("here")
def test_pilot_says_where_an_archived_intent_is(store: StoreHarness, path: Path) -> None:
    ids = [one.id for one in store.read.intents(status="cancelled")]
    move_all(store, path)
    store.db.close()
    shown = pilot("show", ids[0][:10])
    assert shown.returncode == 1
    assert f"intent {ids[0]} ended as cancelled and was archived in decisions-archive-2026.db" in shown.stderr
    said = pilot("verify")
    assert said.returncode == 0, said
    assert "decisions-archive-2026.db: 23 arrows" in said.stdout
    assert "gone through" in said.stdout
    archives(path)[0].rename(path.with_name("elsewhere"))
    assert "not here: checked from its anchor on" in pilot("verify").stdout


def test_a_known_bar_is_proposed_no_second_time(store: StoreHarness, path: Path) -> None:
    move_all(store, path)
    from tests.kit.builders import a_propose

    ack = store.tell(a_peer(Role.SCANNER), a_propose(symbol="EURUSD"))
    assert ack.outcome == "already"


def test_the_figures_of_the_account_do_not_notice(store: StoreHarness, path: Path) -> None:
    executor = a_peer(Role.EXECUTOR)
    now = store.clock.now()
    lines = store.gate.lines(store.read, now, 5_000_000, 5_000_000)
    version, days = store.read.account_version(), store.read.account_days("PAPER-1")
    assert days
    move_all(store, path)
    assert store.gate.lines(store.read, now, 5_000_000, 5_000_000) == lines
    assert (store.read.account_version(), store.read.account_days("PAPER-1")) == (version, days)
    store.closed(executor, "after", symbol="AUDUSD")
    assert proof(path) == []


def test_steps_are_bounded_and_an_intent_across_two_is_whole_again(
    store: StoreHarness, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "ARROWS_MAX", 3)
    monkeypatch.setattr(archive, "ALERTS_MAX", 1)
    archivist, before = Archivist(store.db, path, DAYS), counts(store.db)
    while moved := archivist.step(store.clock.now()):
        assert moved <= 3 + 1 + 3 * 3
        assert proof(path) == [], "after every step"
    assert there(path)["intents"] == 4
    assert {table: counts(store.db)[table] + there(path)[table] for table in TABLES} == before


def test_without_its_archive_the_journal_is_followed_from_the_anchor(store: StoreHarness, path: Path) -> None:
    move_all(store, path)
    aside = archives(path)[0].rename(path.with_name("elsewhere"))
    assert proof(path) == []
    reader = Reader(path)
    assert archived.missing(reader) == ["decisions-archive-2026.db"]
    reader.close()
    aside.rename(path.with_name("decisions-archive-2026.db"))
    db = apsw.Connection(str(archives(path)[0]))
    db.execute("UPDATE transitions SET reason = 'x' WHERE seq = 2")
    db.close()
    assert "seq 2 was changed: its hash does not hold" in proof(path)


def test_a_changed_anchor_and_a_cut_off_archive_are_found(store: StoreHarness, path: Path) -> None:
    move_all(store, path)
    store.db.execute("UPDATE archive_anchors SET intents = intents + 1")
    assert proof(path) == ["the anchor of decisions-archive-2026.db was changed: its digest does not hold"]
    db = apsw.Connection(str(archives(path)[0]))
    db.execute("DELETE FROM transitions WHERE seq = (SELECT max(seq) FROM transitions)")
    db.close()
    assert any("is missing" in one for one in proof(path))


def empty(archive: Path) -> None:
    archive.write_bytes(b"")


def page_zeroed(archive: Path) -> None:
    with archive.open("r+b") as file:
        file.seek(3 * 4_096)
        file.write(b"\0" * 4_096)


def first_page_zeroed(archive: Path) -> None:
    with archive.open("r+b") as file:
        file.write(b"\0" * 4_096)


def without_its_arrows(archive: Path) -> None:
    db = apsw.Connection(str(archive))
    db.execute("DROP TABLE transitions")
    db.close()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("spoil", [empty, page_zeroed, first_page_zeroed, without_its_arrows])
def test_a_spoiled_archive_is_found_and_keeps_no_backup_from_being_restored(
    store: StoreHarness, path: Path, spoil: Callable[[Path], None]
) -> None:
    move_all(store, path)
    made = backup.backup(path, path.parent / "backups", 1, store.clock)
    store.db.close()
    spoil(archives(path)[0])
    said = pilot("verify")
    assert said.returncode == 1, said
    assert "WRONG: decisions-archive-2026.db: " in said.stdout
    assert "cannot be read: checked from its anchor on" in said.stdout
    assert pilot("show", "0000-none").returncode == 1
    ended = pilot("restore", str(made), "--reason", "disk failed", "--yes")
    assert ended.returncode == 0, ended
    assert "decisions-archive-2026.db: " in ended.stderr and "checked from its anchor on" in ended.stderr
    archives(path)[0].rename(path.with_name("elsewhere"))
    assert proof(path) == []
    assert "decisions-archive-2026.db: not here" in pilot("restore", str(made), "--reason", "x", "--yes").stderr


def test_an_archive_that_a_kill_left_half_written_is_rolled_back_and_gone_through(
    store: StoreHarness, path: Path
) -> None:
    move_all(store, path)
    made = backup.backup(path, path.parent / "backups", 1, store.clock)
    archive = archives(path)[0]
    whole = archive.read_bytes()
    subprocess.run([sys.executable, "-c", CUT_OFF, str(archive)], check=False)
    assert archive.with_name(archive.name + "-journal").exists() and archive.read_bytes() != whole
    before = {one.name: one.read_bytes() for one in path.parent.glob("*archive*")}
    assert proof(path) == []
    for name, content in before.items():
        path.with_name(name).write_bytes(content)
    prepared = restore.prepare(made, path, OURS)
    restore.discard(prepared.copy)
    assert (prepared.archives, there(path)["transitions"]) == ((), 23)


def test_a_backup_is_judged_by_its_own_journal_not_by_what_an_archive_says(store: StoreHarness, path: Path) -> None:
    move_all(store, path)
    made = backup.backup(path, path.parent / "backups", 1, store.clock)
    db = apsw.Connection(str(archives(path)[0]))
    db.execute("UPDATE transitions SET reason = 'x' WHERE seq = 2")
    db.close()
    prepared = restore.prepare(made, path, OURS)
    restore.discard(prepared.copy)
    assert prepared.archives == ("seq 2 was changed: its hash does not hold",)
    changed = path.with_name("changed.db")
    shutil.copy(made, changed)
    db = apsw.Connection(str(changed))
    db.execute("DROP TRIGGER transitions_append_only_update; UPDATE transitions SET reason = 'x' WHERE seq = 25")
    db.close()
    with pytest.raises(restore.RestoreRefused, match="seq 25 was changed: its hash does not hold"):
        restore.prepare(changed, path, OURS)


def test_pages_that_were_freed_are_used_again(store: StoreHarness, path: Path) -> None:
    move_all(store, path)
    pages, free = store.db.pragma("page_count"), store.db.pragma("freelist_count")
    assert int(str(free)) > 0
    executor = a_peer(Role.EXECUTOR)
    for number in range(2):
        store.closed(executor, f"again{number}", symbol=("NZDUSD", "AUDUSD")[number])
    assert store.db.pragma("page_count") == pages


@pytest.mark.parametrize("point", ["before_archive", "after_archive", "before_archived", "after_archived"])
def test_a_kill_in_the_middle_leaves_everything_once(store: StoreHarness, path: Path, point: str) -> None:
    before, now = counts(store.db), store.clock.now()
    store.db.close()
    points = path.parent / "points"
    points.mkdir()
    failpoints.arm(points, f"store.{point}", "kill")

    def go() -> int:
        import os

        return subprocess.run(
            [sys.executable, "-c", STEP, str(path), now.isoformat()], cwd=load.ROOT, check=False,
            env=os.environ | {"PILOT_FAILPOINTS": str(points)}, stderr=subprocess.DEVNULL,
        ).returncode  # fmt: skip

    assert go() == -signal.SIGKILL
    assert proof(path) == [], "cut off, and still whole"
    assert go() == 0
    db = connection.open_writer(path)
    after, moved = counts(db), there(path)
    db.close()
    assert {table: after[table] + moved[table] for table in TABLES} == before
    assert moved["intents"] == 4
    assert proof(path) == []
