"""A store with a long past: one life through the store's own writer, and as many copies of its rows as wanted.

Every copy has its own ids and times, and the journal's chain goes through all of them: `sampled` looks at a part of it
as `store.verify` does, which looks at all. What the writer keeps of an ended intent is copied from whatever tables and
columns the schema has; recorded answers, which are kept for some days only, are not. No index is left out and made
later: the rows lie as if they had come one by one. Made once and kept in the temporary folder, by size and schema.
"""

# ruff: noqa: S608 - every part of the statements is a name out of the schema
from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
from msgspec import structs

from bus import clock
from bus.clock import SystemClock
from bus.records import Transition
from store import connection, verify
from store.journal import GENESIS, chain_hash
from store.queries import OrderVerdict, Reader, record_of
from tests.bench.life_raw import Raw

BLOCK = 5_000
APART_S = 20
YOUNGEST_DAYS = 2  # the newest copy ended so long ago
BYTES_EACH = 7_500  # of a finished intent, with room to spare: for the question whether the disk has room
FREE_BYTES_MIN = 2_000_000_000  # that stay free on the disk whatever happens
CACHE_KB = 1_000_000  # else the index over random hashes is read again and again
FICLONE = 0x40049409  # share the blocks until somebody writes to them; source: ioctl_ficlone(2)
COPY_BYTES = 8_000_000
SHORT_OF = frozenset({"commands", "transitions"})  # kept for some days only; written with its chain
SAMPLE = 2_000  # rows of each sample
SAMPLES = 8


class NoRoom(Exception):
    """The disk has no room for such a past. The message says how much is needed and how much there is."""


def database(finished: int, say: Callable[[str], object] = sys.stderr.write) -> Path:
    """Return a database with so many finished intents that nobody may write to; `copy` gives one that may be used.

    Raises:
        NoRoom: nothing was left behind.
        SystemExit: a sample of what was made does not hold.
    """
    path = place_of(finished)
    if not path.exists():
        room_for(finished, path.parent)
        part, began_s = path.with_name(path.name + f".{os.getpid()}.part"), time.monotonic()
        try:
            _fill(part, finished, say)
            if faults := sampled(part):
                raise SystemExit(f"the past that was made does not hold: {faults[:5]}")
            part.rename(path)
        finally:
            remove(part)
        made = f"made {finished:,} finished intents, {path.stat().st_size / 1e6:,.0f} MB"
        say(f"{made}, in {time.monotonic() - began_s:.0f} s; kept as {path}\n")
    return path


def place_of(finished: int) -> Path:
    """Return where such a database is kept, once it was made."""
    return Path(tempfile.gettempdir()) / f"pilot-bench-past-{os.getuid()}-{_schema()}-{finished}.db"


def copy(finished: int, to: Path) -> None:
    """Put a database with so many finished intents at `to`, durably: its writing must not be measured later.

    Raises NoRoom, SystemExit.
    """
    source = database(finished)
    room_for(0, to.parent, more=source.stat().st_size)
    with source.open("rb") as old, to.open("wb") as new:
        try:
            fcntl.ioctl(new, FICLONE, old.fileno())
        except OSError:  # no such file system: the bytes themselves
            shutil.copyfileobj(old, new, COPY_BYTES)
            new.flush()
        os.fsync(new.fileno())
    to.chmod(0o600)


def remove(path: Path) -> None:
    """Remove a database and what SQLite has beside it."""
    for ending in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def room_for(finished: int, folder: Path, *, more: int = 0) -> None:
    """Raise NoRoom unless so much fits on the disk of `folder`, with FREE_BYTES_MIN to spare."""
    need, free = finished * BYTES_EACH + more, shutil.disk_usage(folder).free
    if free < need + FREE_BYTES_MIN:
        kept = sorted(folder.glob(f"pilot-bench-past-{os.getuid()}-*.db"))
        held = f"; kept of earlier benches: {', '.join(map(str, kept))}" if kept else ""
        raise NoRoom(
            f"{folder} has {free / 1e9:.1f} GB free; {finished:,} finished intents need {need / 1e9:.1f} GB, and "
            f"{FREE_BYTES_MIN / 1e9:.0f} GB stay free. Choose fewer with --finished, or another TMPDIR{held}"
        )


def sampled(path: Path) -> list[str]:
    """Return what is wrong with a sample of the journal and of the orders; empty when all of it holds.

    The beginning and the end of the journal and parts between them, each arrow as `store.verify` looks at it, and the
    orders of the intents met there.
    """
    reader = Reader(path)
    try:
        last = int(str(next(reader._db.execute("SELECT coalesce(max(seq), 0) FROM transitions"))[0]))
        newest = max(1, last - SAMPLE + 1)
        firsts = sorted({newest, *range(1, newest, max(1, newest // SAMPLES))})
        found = [fault for first in firsts for fault in since(reader, first, SAMPLE)]
        return found[: verify.FINDINGS_MAX]
    finally:
        reader.close()


def since(reader: Reader, first: int, rows: int) -> list[str]:
    """Return what is wrong with so many rows of the journal from `first` on, and with the orders of their intents."""
    seq, head, last, found = first - 1, "", dict[str, str](), list[str]()
    before = reader.select(Transition, "transitions WHERE seq = ?", seq)
    head = before[0].hash if before else GENESIS
    for move in reader.select(Transition, "transitions WHERE seq >= ? ORDER BY seq LIMIT ?", first, rows):
        status = last.get(move.intent_id)
        if status is None and move.from_status is not None and move.intent_id not in last:
            status = move.from_status  # its life began before the sample
        found += verify._faults(move, seq, head, status)
        seq, head, last[move.intent_id] = move.seq, move.hash, move.to_status
    for intent_id in last:
        row = reader._db.execute(
            "SELECT i.id, i.status, i.position_id, o.status, o.position_id, d.status FROM intents i LEFT JOIN orders o "
            "ON o.intent_id = i.id LEFT JOIN decisions d ON d.intent_id = i.id WHERE i.id = ?",
            (intent_id,),
        ).fetchone()
        found += list(verify._order_faults(record_of(OrderVerdict, row))) if row else [f"{intent_id} has no row"]
    return found


def _schema() -> str:
    """Return what a kept database depends on, as a short name."""
    parts = [path.read_bytes() for path in sorted(connection.MIGRATIONS.glob("*.sql"))] + [Path(__file__).read_bytes()]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:12]


# ── making one ──────────────────────────────────────────────────────────────


def _fill(path: Path, finished: int, say: Callable[[str], object]) -> None:
    raw = Raw(path, SystemClock(), 1)
    raw.block(0)
    raw.db.close()
    db = connection.open_writer(path)
    try:
        db.pragma("journal_mode", "off")  # a file that is cut off is thrown away
        for pragma, value in (("synchronous", 0), ("foreign_keys", False), ("cache_size", -CACHE_KB)):
            db.pragma(pragma, value)
        made = list(db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))
        with db:
            for name, _ in made:
                db.execute(f'DROP TRIGGER "{name}"')
        _Copies(db, finished).write(path, say)
        with db:
            for _, sql in made:
                db.execute(sql)
        # No ANALYZE: the product runs none, and plans that come of it are plans that it never has.
        db.pragma("journal_mode", "delete")
    finally:
        db.close()


class _Copies:
    """The one life in a database, and how each table's copy is made of it."""

    def __init__(self, db: apsw.Connection, finished: int) -> None:
        self._db = db
        self._finished = finished
        self._begin = datetime.now(UTC) - timedelta(days=YOUNGEST_DAYS, seconds=APART_S * finished)
        names = [str(name) for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {name: [str(row[1]) for row in db.execute(f'PRAGMA table_info("{name}")')] for name in names}
        self._tables = {
            name: listed
            for name, listed in columns.items()
            if name not in SHORT_OF and (name == "intents" or "intent_id" in listed) and self._has_rows(name)
        }
        self._arrows = list(Reader.over(db).journal())
        self._columns = columns["transitions"]

    def _has_rows(self, table: str) -> bool:
        return self._db.execute(f'SELECT 1 FROM "{table}" LIMIT 1').fetchone() is not None

    def write(self, path: Path, say: Callable[[str], object]) -> None:
        """Replace the one life by its copies."""
        assert {"intents", "decisions", "orders"} <= self._tables.keys(), self._tables.keys()
        with self._db:
            for table in self._tables:
                self._db.execute(f'CREATE TEMP TABLE "one_{table}" AS SELECT * FROM main."{table}"')
            for table in (*self._tables, "transitions", "commands"):
                self._db.execute(f'DELETE FROM main."{table}"')
        statements = [self._statement(table, listed) for table, listed in self._tables.items()]
        known = [name for name in Transition.__struct_fields__ if name in self._columns]
        places = f"({', '.join(known)}) VALUES ({', '.join('?' * len(known))})"
        rows, told_s = self._rows(known), time.monotonic()
        for first in range(0, self._finished, BLOCK):
            count = min(BLOCK, self._finished - first)
            with self._db:
                for statement in statements:
                    begin_s = self._begin.timestamp() + APART_S * first
                    self._db.execute(statement, {"first": first, "count": count, "begin_s": begin_s})
                self._db.executemany(f"INSERT INTO transitions {places}", _first(rows, count * len(self._arrows)))
            if time.monotonic() - told_s > 10:
                room_for(0, path.parent)
                say(f"  {first + count:,} of {self._finished:,}\n")
                told_s = time.monotonic()
        with self._db:
            self._db.execute(
                "INSERT INTO alert_deliveries (through_seq, at, channel, told, actor) "
                "SELECT max(seq), max(at), 'none', 0, 'store.1' FROM alerts HAVING max(seq) IS NOT NULL"
            )

    def _statement(self, table: str, columns: list[str]) -> str:
        """Return what copies the rows of one table: `first`, `count` and `begin_s` are bound."""
        key = next((str(row[1]) for row in self._db.execute(f'PRAGMA table_info("{table}")') if row[5]), "")
        made = []
        for name in columns:
            if name in ("id", "intent_id"):
                made.append("printf('%016x', n.i)")
            elif name == key == "seq":
                made.append("NULL")  # SQLite numbers them
            elif name in ("idempotency_key", "position_id", "order_id"):
                made.append(f"t.{name} || '-' || n.i")
            elif name == "trade_date":
                made.append("date(:begin_s + (n.i - :first) * 20, 'unixepoch')")
            elif name == "at" or name.endswith("_at") or name == "claim_ts":
                moment = "strftime('%Y-%m-%dT%H:%M:%fZ', :begin_s + (n.i - :first) * 20, 'unixepoch')"
                made.append(f"CASE WHEN t.{name} IS NULL THEN NULL ELSE {moment} END")
            else:
                made.append(f"t.{name}")
        numbers = "WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i < :first + :count - 1) "
        return (
            f'INSERT INTO main."{table}" ({", ".join(columns)}) {numbers}'
            f'SELECT {", ".join(made)} FROM n CROSS JOIN temp."one_{table}" t'.replace("* 20", f"* {APART_S}")
        )

    def _rows(self, known: list[str]) -> Iterator[tuple[Any, ...]]:
        """Yield the journal of all copies, each row chained to the one before it."""
        hashed = [name for name in Transition.__struct_fields__ if name != "hash"]
        chosen = [(*hashed, "hash").index(name) for name in known]
        plain = [tuple(structs.asdict(move)[name] for name in hashed) for move in self._arrows]
        places = [hashed.index(name) for name in ("seq", "intent_id", "at", "prev_hash")]
        assert places == [0, 1, 2, len(hashed) - 1], hashed
        seq, head = 0, GENESIS
        for number in range(self._finished):
            at, own = clock.iso(self._begin + timedelta(seconds=APART_S * number)), f"{number:016x}"
            for arrow in plain:
                seq += 1
                row = (seq, own, at, *arrow[3:-1], head)
                head = chain_hash(row)
                whole = (*row, head)
                yield tuple(whole[one] for one in chosen)


def _first(rows: Iterator[tuple[Any, ...]], count: int) -> Iterator[tuple[Any, ...]]:
    for _ in range(count):
        yield next(rows)
