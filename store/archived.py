"""What was moved out of the decision store: its anchors, and the databases beside it that hold the rest. Read-only.

Used by `verify`, pilot and, for the names, by the mover (`store.archive`). An archive that lies elsewhere is no fault:
the journal is then followed from its anchor on, and whoever asks is told so. So it is without one that cannot be read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import apsw

from bus.records import Record, Transition
from store.connection import READER_BUSY_MS, DatabaseRefused
from store.queries import ROWS_MAX, UNREADABLE, Reader
from store.rows import columns, record_of

APPLICATION_ID = 0x50494C41  # "PILA": never taken for the decision store
FOUND_MAX = 20


class Unreadable(DatabaseRefused):
    """An archive cannot be read, or is none. The message begins with its name. The store itself is as good as ever."""


class Anchor(Record, frozen=True, kw_only=True):
    """How far one file took over: the last arrow with its hash, how much of what, and a digest over all of it."""

    file: str
    at: str
    through_seq: int
    through_hash: str
    arrows: int
    intents: int
    alerts: int
    alerts_through_seq: int
    digest: str

    @property
    def year(self) -> str:
        """Return the year that the file is named after; rows that a wrong clock dated earlier may be in it."""
        return self.file.removesuffix(".db")[-4:]


class Kept(Record, frozen=True, kw_only=True):
    """An intent that was moved, and where it is."""

    intent_id: str
    status: str
    created_at: str
    file: str


def digest_of(anchor: Anchor) -> str:
    """Return the SHA-256 over all fields of an anchor but the digest itself."""
    fields = [getattr(anchor, name) for name in Anchor.__struct_fields__ if name != "digest"]
    return hashlib.sha256(json.dumps(fields, separators=(",", ":")).encode()).hexdigest()


def anchors(reader: Reader) -> list[Anchor]:
    """Return the anchors, oldest first; none of a database from before there were archives."""
    if not reader._db.table_exists("main", "archive_anchors"):
        return []
    return reader.select(Anchor, "archive_anchors ORDER BY through_seq, file")


def folder_of(reader: Reader) -> Path | None:
    """Return the folder of a reader's database; None for one in memory."""
    name = str(reader._db.filename)
    return Path(name).parent if name else None


def missing(reader: Reader) -> list[str]:
    """Return the archives that hold a part of the journal and do not lie beside the database."""
    folder = folder_of(reader)
    return [one.file for one in anchors(reader) if folder is None or not (folder / one.file).exists()]


def faults(reader: Reader) -> list[str]:
    """Return what is wrong with the anchors themselves."""
    return [
        f"the anchor of {one.file} was changed: its digest does not hold"
        for one in anchors(reader)
        if digest_of(one) != one.digest
    ]


def journal(reader: Reader) -> Iterator[Transition]:
    """Yield the archived arrows, oldest first, up to the last anchor. All archives must be there.

    Raises:
        Unreadable: an archive cannot be read, is damaged, or is none.
    """
    folder, seq = folder_of(reader), 0
    for anchor in anchors(reader):
        assert folder is not None, "archives lie beside a file"
        with _reading(folder / anchor.file) as db:
            if (verdict := db.execute("PRAGMA quick_check(1)").get) != "ok":
                raise Unreadable(f"{anchor.file}: cannot be read: {verdict}")
            tail = f"transitions WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT {ROWS_MAX}"
            while rows := db.execute(
                f"SELECT {columns(Transition)} FROM {tail}", (seq, anchor.through_seq)
            ).fetchall():  # fmt: skip
                for row in rows:
                    yield record_of(Transition, row)
                seq = int(str(rows[-1][0]))


def find(reader: Reader, beginning: str) -> list[Kept]:
    """Return the moved intents whose id begins so, at most 20, from the archives that are there.

    Raises:
        Unreadable: an archive cannot be read, so that an intent may be in it.
    """
    found: list[Kept] = []
    folder = folder_of(reader)
    for anchor in reversed(anchors(reader)):
        if folder is None or not beginning or not (folder / anchor.file).exists():
            continue
        with _reading(folder / anchor.file) as db:
            rows = db.execute(
                "SELECT id, status, created_at FROM intents WHERE id >= ?1 AND id < ?1 || char(1114111) LIMIT ?2",
                (beginning, FOUND_MAX - len(found)),
            ).fetchall()
            found += [record_of(Kept, (*row, anchor.file)) for row in rows]
    return found


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[apsw.Connection]:
    """Open an archive for a `with`. Whatever is wrong with it there is raised as Unreadable."""
    db = open_archive(path)
    try:
        yield db
    except UNREADABLE as error:
        raise Unreadable(f"{path.name}: cannot be read: {error}") from error
    finally:
        db.close()


def open_archive(path: Path) -> apsw.Connection:
    """Open an archive to be read. SQLite rolls back what a kill cut off half-way, and only a writer can.

    Raises:
        Unreadable: it cannot be read, or is none of ours.
    """
    is_cut_off = path.with_name(path.name + "-journal").exists()
    try:
        flags = apsw.SQLITE_OPEN_READWRITE if is_cut_off else apsw.SQLITE_OPEN_READONLY
        db = apsw.Connection(str(path), flags=flags)
        db.set_busy_timeout(READER_BUSY_MS)  # the store may be about to end a step
        db.pragma("query_only", True)
        found = db.pragma("application_id")
    except apsw.Error as error:
        raise Unreadable(f"{path.name}: cannot be read: {error}") from error
    if found != APPLICATION_ID:
        db.close()
        raise Unreadable(f"{path.name}: is no archive of a decision store (application id {found:#010x})")
    return db
