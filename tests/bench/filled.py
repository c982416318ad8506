"""A store with a long past: one life through the store's own writer, and as many copies of its rows as wanted.

Every copy has its own ids and times, and the journal's chain goes through all of them: `store.verify` passes. Made once
and kept in the temporary folder, by size and schema.
"""

# ruff: noqa: S608 - every part of the statements stands in this file
from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw

from bus import clock
from bus.clock import SystemClock
from store import connection
from store.journal import GENESIS, chain_hash
from store.queries import Reader
from tests.bench.life_raw import Raw

BLOCK = 5_000
APART_S = 20
YOUNGEST_DAYS = 2  # the newest copy ended so long ago
TABLES = {"intents": "id", "decisions": "intent_id", "orders": "intent_id"}


def database(finished: int) -> Path:
    """Return a database with so many finished intents that nobody may write to; `copy` gives one that may be used."""
    path = Path(tempfile.gettempdir()) / f"pilot-bench-past-{os.getuid()}-{_schema()}-{finished}.db"
    if not path.exists():
        part = path.with_name(path.name + f".{os.getpid()}.part")
        try:
            _fill(part, finished)
            part.rename(path)
        finally:
            for ending in ("", "-wal", "-shm"):
                part.with_name(part.name + ending).unlink(missing_ok=True)
    return path


def copy(finished: int, to: Path) -> None:
    """Put a database with so many finished intents at `to`."""
    shutil.copyfile(database(finished), to)
    to.chmod(0o600)


def _schema() -> str:
    """Return what a kept database depends on, as a short name."""
    parts = [path.read_bytes() for path in sorted(connection.MIGRATIONS.glob("*.sql"))] + [Path(__file__).read_bytes()]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:12]


def _fill(path: Path, finished: int) -> None:
    raw = Raw(path, SystemClock(), 1)
    raw.block(0)
    raw.db.close()
    db = connection.open_writer(path)
    try:
        for pragma, value in (("synchronous", 0), ("foreign_keys", False), ("cache_size", -200_000)):
            db.pragma(pragma, value)
        made = list(db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))
        with db:
            for name, _ in made:
                db.execute(f'DROP TRIGGER "{name}"')
        _copies(db, finished)
        with db:
            for _, sql in made:
                db.execute(sql)
        db.execute("ANALYZE")
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        db.pragma("journal_mode", "delete")
    finally:
        db.close()


def _copies(db: apsw.Connection, finished: int) -> None:
    """Replace the one life by its copies."""
    life = {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}
    names = {table: [str(row[1]) for row in db.execute(f"PRAGMA table_info({table})")] for table in TABLES}
    arrows = db.execute("SELECT * FROM transitions ORDER BY seq").fetchall()
    assert [len(rows) for rows in life.values()] == [1, 1, 1], life
    (position,) = Reader.over(db).owned_position_ids()
    with db:
        for table in ("orders", "decisions", "transitions", "alerts", "commands", "intents"):
            db.execute(f"DELETE FROM {table}")
    begin = datetime.now(UTC) - timedelta(days=YOUNGEST_DAYS, seconds=APART_S * finished)
    seq, head = 0, GENESIS
    for first in range(0, finished, BLOCK):
        numbers = range(first, min(first + BLOCK, finished))
        rows: list[tuple[Any, ...]] = []
        with db:
            for number in numbers:
                at, own = clock.iso(begin + timedelta(seconds=APART_S * number)), f"{number:016x}"
                for arrow in arrows:
                    row = (seq + 1, own, at, *arrow[3:11], head)
                    seq, head = seq + 1, chain_hash(row)
                    rows.append((*row, head))
            db.executemany(f"INSERT INTO transitions VALUES ({', '.join('?' * 13)})", rows)
            for table, (row,) in life.items():
                new = {
                    "id": "{0:016x}", "intent_id": "{0:016x}", "idempotency_key": "bench-{0}",
                    "position_id": position + "-{0}", "order_id": "o-{0}",
                }  # fmt: skip
                listed = names[table]
                timed = {name for name in listed if name.endswith("_at") or name in ("created_at", "claim_ts")}
                db.executemany(
                    f"INSERT INTO {table} VALUES ({', '.join('?' * len(listed))})",
                    _rows(numbers, begin, listed, row, new, timed),
                )


def _rows(
    numbers: range, begin: datetime, listed: list[str], row: tuple[Any, ...], new: dict[str, str], timed: set[str]
) -> Iterator[tuple[Any, ...]]:  # fmt: skip
    for number in numbers:
        at = clock.iso(begin + timedelta(seconds=APART_S * number))
        yield tuple(
            value if value is None else new[name].format(number) if name in new else at if name in timed else value
            for name, value in zip(listed, row, strict=True)
        )
