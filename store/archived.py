"""What was moved out of the decision store: its anchors, and the databases beside it that hold the rest. Read-only.

Used by `verify`, pilot and, for the names, by the mover (`store.archive`). An archive that lies elsewhere is no fault:
the journal is then followed from its anchor on, and whoever asks is told so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import apsw

from bus.records import Record, Transition
from store.queries import ROWS_MAX, DatabaseRefused, Reader
from store.rows import columns, record_of

APPLICATION_ID = 0x50494C41  # "PILA": never taken for the decision store
FOUND_MAX = 20


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
        DatabaseRefused: an archive cannot be read, or is none.
    """
    folder, seq = folder_of(reader), 0
    for anchor in anchors(reader):
        assert folder is not None, "archives lie beside a file"
        db = open_archive(folder / anchor.file)
        try:
            tail = f"transitions WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT {ROWS_MAX}"
            while rows := db.execute(
                f"SELECT {columns(Transition)} FROM {tail}", (seq, anchor.through_seq)
            ).fetchall():  # fmt: skip
                for row in rows:
                    yield record_of(Transition, row)
                seq = int(str(rows[-1][0]))
        finally:
            db.close()


def find(reader: Reader, beginning: str) -> list[Kept]:
    """Return the moved intents whose id begins so, at most 20, from the archives that are there."""
    found: list[Kept] = []
    folder = folder_of(reader)
    for anchor in reversed(anchors(reader)):
        if folder is None or not beginning or not (folder / anchor.file).exists():
            continue
        db = open_archive(folder / anchor.file)
        try:
            rows = db.execute(
                "SELECT id, status, created_at FROM intents WHERE id >= ?1 AND id < ?1 || char(1114111) LIMIT ?2",
                (beginning, FOUND_MAX - len(found)),
            ).fetchall()
        finally:
            db.close()
        found += [record_of(Kept, (*row, anchor.file)) for row in rows]
    return found


def open_archive(path: Path) -> apsw.Connection:
    """Open an archive read-only. Raises DatabaseRefused when it cannot be read or is none of ours."""
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        found = db.pragma("application_id")
    except apsw.Error as error:
        raise DatabaseRefused(f"{path}: cannot be read: {error}") from error
    if found != APPLICATION_ID:
        db.close()
        raise DatabaseRefused(f"{path}: is no archive of a decision store (application id {found:#010x})")
    return db
