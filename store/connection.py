"""Open the decision store: one writer with every pragma set, readers that cannot write.

Used by the store process (writer) and by whoever reads. A file that is not ours, newer than us or damaged is refused
before anything in it is changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import apsw

from bus.failpoints import reach
from store import states

APPLICATION_ID = 0x50494C54  # "PILT"
SQLITE_MIN = (3, 51, 3)  # older ones can corrupt a WAL that is reset while being read
READER_BUSY_MS = 5_000
WRITER_BUSY_MS = 1_000  # well below the watchdog: nobody else should write at all
CHECKED_BYTES_MAX = 32_000_000  # a larger file is checked by the janitor, not at every start
ROOM_BYTES_MIN = 1_000_000  # with less, an error of reading or writing is the full disk's
HEADER = b"SQLite format 3\x00"
# Prepared ones. apsw gives a place to each execution in turn, so it is no count of different ones, and searches them
# one by one. Below 100 an intent's own statements push each other out, which doubles its cost.
STATEMENTS_KEPT = 128
# Of one command: the pages as they were before it. More goes to a file of the system's temporary folder, as all of it
# does above 64 kB unless this is said. Taken as one piece and used as far as it is needed.
TAKEN_BACK_BYTES_MAX = 8_000_000
MIGRATIONS = Path(__file__).parent / "migrations"


class DatabaseRefused(Exception):
    """The file cannot be used as decision store. The message says what was found and what to do."""


class NoRoom(DatabaseRefused):
    """The disk is full: the same file opens once there is room. Nothing is wrong with it."""


class NoDatabase(DatabaseRefused):
    """There is no database yet, or none of this version: the store makes it when it starts."""


def configure_sqlite() -> None:
    """Set what holds for all connections of this process: no count of memory, and commands taken back from memory.

    Nobody reads the count, for which SQLite locks at each allocation. Call before the first connection.
    """
    apsw.shutdown()
    apsw.config(apsw.SQLITE_CONFIG_MEMSTATUS, False)
    apsw.config(apsw.SQLITE_CONFIG_STMTJRNL_SPILL, TAKEN_BACK_BYTES_MAX)
    apsw.initialize()


def open_writer(path: Path, before_upgrade: Callable[[int], None] | None = None) -> apsw.Connection:
    """Open or create the database for the one writer, migrate it and renew the triggers of the state machine.

    To be used by the thread that opened it, and by no other.
    `before_upgrade` is called with the version found before anything of an older database is changed.

    Raises:
        DatabaseRefused: not SQLite, empty, of another program, of a newer version, damaged, without its place on
            disk, or SQLite itself is too old.
    """
    _require_sqlite()
    if mark_of(path).exists():
        raise DatabaseRefused(f"{path}: a restore was cut off half-way; run `pilot restore`, which ends it")
    reach("store.before_open")  # opening, checking and migrating the database, or making it
    if path.exists():
        found = inspect(path)
        if found < version() and before_upgrade is not None:
            before_upgrade(found)
    else:
        _refuse_orphaned_log(path)
        _create(path)
    # One thread uses it: SQLite need not lock it at each call.
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOMUTEX
    db = apsw.Connection(str(path), flags=flags, statementcachesize=STATEMENTS_KEPT)
    try:
        db.set_busy_timeout(WRITER_BUSY_MS)
        db.pragma("foreign_keys", True)
        db.pragma("trusted_schema", False)
        _use_log(db, path)
        db.pragma("synchronous", 2)  # FULL: acked means on disk
        db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)  # else SQLite prepares anew for each value it is given
        _migrate(db)
        db.pragma("journal_size_limit", 16_000_000)
    except apsw.Error as error:
        db.close()
        raise _refusal(path, error) from error
    reach("store.after_open")
    return db


def open_reader(path: Path, *, older: bool = False) -> apsw.Connection:
    """Open the database read-only; with `older`, one that was not upgraded yet, too.

    Raises:
        NoDatabase, DatabaseRefused: the message says why.
    """
    if not path.exists() or path.stat().st_size == 0:
        raise NoDatabase(f"{path}: there is no database yet; start the pipeline first")
    _check_header(path)
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        db.set_busy_timeout(READER_BUSY_MS)
        db.pragma("query_only", True)
        found = version_of(db)
    except apsw.Error as error:
        raise DatabaseRefused(f"{path}: cannot be read: {error}") from error
    if found > version() or (found < version() and not older):
        db.close()
        _refuse_newer(path, found)
        raise NoDatabase(f"{path}: schema {found}, here {version()}: start the pipeline, whose store upgrades it")
    return db


def mark_of(path: Path) -> Path:
    """Return the file that stands beside a database while a backup is put in its place."""
    return path.with_name(path.name + ".restoring")


def warm_up() -> None:
    """Load what opening loads, on a database in memory that is dropped at once. The store's own is not touched."""
    _require_sqlite()
    db = apsw.Connection(":memory:")
    try:
        _migrate(db)
    finally:
        db.close()


def version() -> int:
    """Return the schema version of this program."""
    return len(_migrations())


def version_of(db: apsw.Connection) -> int:
    """Return the schema version of an open database."""
    return int(str(db.pragma("user_version")))


def inspect(path: Path) -> int:
    """Return the schema version of a file, or raise DatabaseRefused unless it is a healthy store of ours, not newer.

    Changes nothing, except that SQLite rolls back what a kill cut off half-way.
    """
    _check_header(path)
    try:
        # A kill while a restored backup was made ours leaves a journal, and only a writer can roll that back.
        is_cut_off = path.with_name(path.name + "-journal").exists()
        flags = apsw.SQLITE_OPEN_READWRITE if is_cut_off else apsw.SQLITE_OPEN_READONLY
        db = apsw.Connection(str(path), flags=flags)
        try:
            # After a kill, a reader that came first holds the file while it recovers the log.
            db.set_busy_timeout(READER_BUSY_MS)
            found = version_of(db)
            _refuse_newer(path, found)
            if path.stat().st_size <= CHECKED_BYTES_MAX:
                verdict = db.execute("PRAGMA quick_check(1)").get
                if verdict != "ok":
                    raise DatabaseRefused(f"{path}: damaged: {verdict}; restore a backup (docs/operations.md)")
        finally:
            db.close()
    except apsw.Error as error:
        raise _refusal(path, error) from error
    return found


def _refusal(path: Path, error: apsw.Error) -> DatabaseRefused:
    """Return why the database cannot be opened. Only what SQLite calls malformed is damaged: a full disk passes."""
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return DatabaseRefused(f"{path}: damaged: {error}; restore a backup (docs/operations.md)")
    place = os.statvfs(path.parent)
    free_bytes = place.f_bavail * place.f_frsize
    if isinstance(error, apsw.FullError) or free_bytes < ROOM_BYTES_MIN:
        return NoRoom(f"{path}: {error}; {free_bytes:,} bytes are free on that disk")
    return DatabaseRefused(f"{path}: cannot be opened: {error}; look at the disk (docs/operations.md)")


def _refuse_newer(path: Path, found: int) -> None:
    if found > version():
        raise DatabaseRefused(
            f"{path}: written by a newer version (schema {found}, allowed up to {version()}): run the version that "
            "wrote it; going back is in docs/upgrade.md"
        )


def _check_header(path: Path) -> None:
    """Look at the first 100 bytes only, so that a file of another program is not even opened by SQLite."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError as error:
        raise DatabaseRefused(f"{path}: cannot be read: {error.strerror}") from error
    if not head:
        raise DatabaseRefused(f"{path}: empty, and we never leave it so: restore a backup, or remove it to start anew")
    if len(head) < 100 or not head.startswith(HEADER):
        raise DatabaseRefused(f"{path}: not a SQLite database; move it away or set store.db_path")
    found = int.from_bytes(head[68:72], "big")
    if found != APPLICATION_ID:
        raise DatabaseRefused(
            f"{path}: belongs to another program (application id {found:#010x}; ours is {APPLICATION_ID:#010x})"
        )


def _require_sqlite() -> None:
    found = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if found < SQLITE_MIN:
        raise DatabaseRefused(f"SQLite {apsw.sqlite_lib_version()} is too old; needed {'.'.join(map(str, SQLITE_MIN))}")


def _refuse_orphaned_log(path: Path) -> None:
    """Refuse to begin anew beside the log of a lost database: SQLite would play its pages into the new file."""
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        raise DatabaseRefused(f"{path}: missing, but its log {log.name} is there: put the file back or remove the log")


def _create(path: Path) -> None:
    """Make the file with all tables beside its place, then move it there: a kill leaves either nothing or all of it."""
    fresh = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        for left in ("-journal", "-wal", "-shm"):
            fresh.with_name(fresh.name + left).unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        db = apsw.Connection(str(fresh))
        try:
            _use_log(db, fresh)  # from the first moment on: a kill in the old journal mode leaves a file to roll back
            _migrate(db)
        finally:
            db.close()
        reach("store.before_create")  # renaming the new database into place
        fresh.rename(path)
        sync_folder(path.parent)
        reach("store.after_create")
    except (OSError, apsw.Error) as error:
        raise DatabaseRefused(f"{path}: cannot be made: {error}") from error


def _use_log(db: apsw.Connection, path: Path) -> None:
    mode = db.pragma("journal_mode", "wal")
    if mode != "wal":
        raise DatabaseRefused(f"{path}: journal mode is {mode}; the file system must allow WAL")


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _migrations() -> list[Path]:
    return sorted(MIGRATIONS.glob("[0-9]*.sql"))


def _migrate(db: apsw.Connection) -> None:
    """Bring the schema to this program's version in one commit, then the triggers to this program's table in another.

    One commit for all migrations: killed anywhere, the file is still the old version's, or the new one whole.
    """
    found = version_of(db)
    if found < version():
        reach("store.before_migrate")  # all missing migrations in one commit
        with db:
            for script in _migrations()[found:]:
                db.execute(script.read_text(encoding="utf-8"))
            db.pragma("application_id", APPLICATION_ID)
            db.pragma("user_version", version())
        reach("store.after_migrate")
    _renew_triggers(db)


def _renew_triggers(db: apsw.Connection) -> None:
    wanted = {name: f"CREATE TRIGGER {name} {body}" for name, body in states.triggers().items()}
    found = dict(db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'intents'"))
    if found == wanted:
        return
    reach("store.before_triggers")  # renewing the triggers of the state machine in one commit
    with db:
        for name in found:
            db.execute(f'DROP TRIGGER "{name}"')
        for statement in wanted.values():
            db.execute(statement)
    reach("store.after_triggers")
