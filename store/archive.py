"""Move what ended long ago into a database of its year beside the store's: in small steps, when there is nothing to do.

Part of the store process. First a step is on disk in the archive, then its rows leave the store in one commit with the
anchor that the journal's chain goes on from: a kill in between leaves rows in both, and the next step ends it. Never
moves an intent that is not ended, an order without an outcome, an alert that nobody was told of, days, marks, halts or
attestations, and stops in front of whatever it must not move: what is left is always the journal's end.
Rows leave in the order in which they were written. A clock that was wrong may have dated them otherwise, so that a file
may hold rows of an earlier year than its own.
"""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import msgspec
from loguru import logger

from bus import clock
from bus.failpoints import reach
from store import archived, states
from store.archived import Anchor
from store.queries import Reader

ARROWS_MAX = 400  # moved in one step, some tens of milliseconds
ALERTS_MAX = 400
LOOK_S = 60.0  # between two looks that found nothing
TROUBLE_S = 600.0
# With what the rows are found, and their key in the archive. Children first: so they may be deleted, too.
OF_INTENTS = {"closings": "intent_id", "orders": "intent_id", "decisions": "intent_id", "intents": "id"}
KEYS = OF_INTENTS | {"transitions": "seq", "alerts": "seq"}
Rows = list[tuple[Any, ...]]


class ArchiveRefused(Exception):
    """The archive cannot take what it should. Nothing left the store."""


class Archivist:
    """Moves what is older than `days` of the database behind `db`, which lies at `path`. 0 days: nothing is moved."""

    def __init__(self, db: apsw.Connection, path: Path, days: int) -> None:
        self._db = db
        self._path = path
        self._days = days
        self._due_s = 0.0

    def rest(self, now: datetime, now_s: float) -> None:
        """Use an idle moment: move one step, if it is time. Trouble is told, and tried again much later."""
        if not self._days or now_s < self._due_s:
            return
        try:
            moved = self.step(now)
        except (apsw.Error, OSError, ArchiveRefused) as error:
            logger.error("Nothing is archived for now, and nothing was lost: {}", error)
            self._due_s = now_s + TROUBLE_S
            return
        if not moved:
            self._due_s = now_s + LOOK_S

    def step(self, now: datetime) -> int:
        """Move one step and return how many rows left the store.

        Raises:
            ArchiveRefused: the file is none of ours, or holds other rows under the same keys, or others than were
                copied would leave the store.
        """
        limit = clock.iso(now - timedelta(days=self._days))
        arrows, alerts = self._arrows(limit), self._alerts(limit)
        first = min((str(rows[0][at]) for rows, at in ((arrows, 2), (alerts, 1)) if rows), default="")
        if not first:
            return 0
        year = self._year(first)
        arrows = list(itertools.takewhile(lambda row: str(row[2])[:4] <= year, arrows))
        alerts = list(itertools.takewhile(lambda row: str(row[1])[:4] <= year, alerts))
        whole = self._whole(arrows)
        moved: dict[str, Rows] = {"transitions": arrows, "alerts": alerts}
        for table, key in OF_INTENTS.items():
            moved[table] = self._of(table, key, whole)
        file = f"{self._path.stem}-archive-{year}.db"
        self._copy(self._path.with_name(file), moved)
        reach("store.before_archived")  # the commit with which it leaves the store
        with self._db:
            self._anchor(file, moved, now)
            self._remove(moved, whole, now)
        reach("store.after_archived")
        count = sum(map(len, moved.values()))
        logger.info("Archived {} rows of {} intents that ended before {} in {}", count, len(whole), limit, file)
        return count

    # ── what may go ─────────────────────────────────────────────────────────

    def _year(self, first: str) -> str:
        """Return the year of the file for the oldest row: its own, or the newest file's, so that years never go back.

        The files follow each other in the journal's order, which is not that of its times when a clock was wrong; and
        alerts may be told only after the next year's arrows moved.
        """
        return max([first[:4], *(one.year for one in archived.anchors(Reader.over(self._db)))])

    def _arrows(self, limit: str) -> Rows:
        """Return the oldest arrows, up to the first one that is young, the last of all, or of an unended intent."""
        rows: Rows = self._db.execute(
            "SELECT * FROM transitions WHERE seq < (SELECT max(seq) FROM transitions) ORDER BY seq LIMIT ?",
            (ARROWS_MAX,),
        ).fetchall()
        found: Rows = []
        for row in rows:
            if str(row[2]) >= limit or not self._is_ended(str(row[1])):
                break
            found.append(row)
        return found

    def _is_ended(self, intent_id: str) -> bool:
        """Return whether nothing of an intent can change any more, or its row has been cleaned up."""
        row = self._db.execute(
            "SELECT i.status, o.status FROM intents i LEFT JOIN orders o ON o.intent_id = i.id WHERE i.id = ?",
            (intent_id,),
        ).fetchone()
        return row is None or (row[0] in states.FINAL and row[1] not in ("reserved", "unknown"))

    def _alerts(self, limit: str) -> Rows:
        """Return the oldest alerts that were told, never the newest of all."""
        rows: Rows = self._db.execute(
            "SELECT * FROM alerts WHERE seq < (SELECT max(seq) FROM alerts) "
            "AND seq <= (SELECT max(through_seq) FROM alert_deliveries) ORDER BY seq LIMIT ?",
            (ALERTS_MAX,),
        ).fetchall()
        found: Rows = []
        for row in rows:
            if str(row[1]) >= limit:
                break
            found.append(row)
        return found

    def _whole(self, arrows: Rows) -> list[str]:
        """Return the intents whose last arrow is among these: they go with it."""
        if not arrows:
            return []
        through, wanted = arrows[-1][0], dict.fromkeys(str(row[1]) for row in arrows)
        return [
            intent_id
            for intent_id in wanted
            if self._db.execute("SELECT max(seq) FROM transitions WHERE intent_id = ?", (intent_id,)).get <= through
        ]

    def _of(self, table: str, key: str, ids: list[str]) -> Rows:
        marks = ", ".join("?" * len(ids))
        return self._db.execute(f"SELECT * FROM {table} WHERE {key} IN ({marks})", ids).fetchall() if ids else []

    # ── into the archive ────────────────────────────────────────────────────

    def _copy(self, path: Path, moved: dict[str, Rows]) -> None:
        db = apsw.Connection(str(path))
        try:
            db.pragma("synchronous", 2)
            found = int(str(db.pragma("application_id")))
            if found not in (0, archived.APPLICATION_ID) or (
                not found and db.execute("SELECT 1 FROM sqlite_master").get
            ):
                raise ArchiveRefused(f"{path}: is no archive of ours; move it away (application id {found:#010x})")
            reach("store.before_archive")  # one step of what ended long ago is on disk in the archive
            with db:
                db.pragma("application_id", archived.APPLICATION_ID)
                for table, rows in moved.items():
                    self._take(db, path, table, rows)
            reach("store.after_archive")
        finally:
            db.close()

    def _take(self, db: apsw.Connection, path: Path, table: str, rows: Rows) -> None:
        """Insert rows into a table like the store's, and see that the archive has exactly these."""
        own = self._db.execute(f"SELECT name, type FROM pragma_table_info('{table}') ORDER BY cid").fetchall()
        there = {row[0] for row in db.execute(f"SELECT name FROM pragma_table_info('{table}')")}
        key = KEYS[table]
        if not there:
            kinds = ", ".join(f"{name} {kind}{' PRIMARY KEY' if name == key else ''}" for name, kind in own)
            db.execute(f"CREATE TABLE {table} ({kinds}) STRICT")
            if table == "transitions":
                db.execute("CREATE INDEX idx_transitions_intent ON transitions (intent_id, seq)")
        for name, kind in own:
            if there and name not in there:  # of a migration that came later
                db.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")
        names = [str(name) for name, _ in own]
        at, listed = names.index(key), ", ".join(names)
        for row in rows:
            db.execute(f"INSERT OR IGNORE INTO {table} ({listed}) VALUES ({', '.join('?' * len(row))})", row)
            kept = db.execute(f"SELECT {listed} FROM {table} WHERE {key} = ?", (row[at],)).fetchone()
            if kept != row:
                raise ArchiveRefused(f"{path}: holds another row of {table} for {row[at]}; move the file away")

    # ── out of the store ────────────────────────────────────────────────────

    def _anchor(self, file: str, moved: dict[str, Rows], now: datetime) -> None:
        known = archived.anchors(Reader.over(self._db))
        before = next((one for one in known if one.file == file), None)
        last = known[-1] if known else None
        arrows, alerts = moved["transitions"], moved["alerts"]
        anchor = Anchor(
            file=file,
            at=clock.iso(now),
            through_seq=arrows[-1][0] if arrows else last.through_seq if last else 0,
            through_hash=arrows[-1][-1] if arrows else last.through_hash if last else "",
            arrows=len(arrows) + (before.arrows if before else 0),
            intents=len(moved["intents"]) + (before.intents if before else 0),
            alerts=len(alerts) + (before.alerts if before else 0),
            alerts_through_seq=alerts[-1][0] if alerts else max((one.alerts_through_seq for one in known), default=0),
            digest="",
        )
        anchor = msgspec.structs.replace(anchor, digest=archived.digest_of(anchor))
        names = Anchor.__struct_fields__
        if before is None:
            verb = f"INSERT INTO archive_anchors VALUES ({', '.join(f'?{at + 1}' for at in range(len(names)))})"
        else:
            news = ", ".join(f"{name} = ?{at}" for at, name in enumerate(names, start=1) if name != "file")
            verb = f"UPDATE archive_anchors SET {news} WHERE file = ?1"
        self._db.execute(verb, msgspec.structs.astuple(anchor))

    def _remove(self, moved: dict[str, Rows], whole: list[str], now: datetime) -> None:
        """Delete what was copied. Keys of intents stay: an old bar that is ranked again must not make them anew.

        Raises:
            ArchiveRefused: as many rows would not go as were copied.
        """
        gone = dict.fromkeys(moved, 0)
        for table in ("transitions", "alerts"):
            if rows := moved[table]:
                self._db.execute(f"DELETE FROM {table} WHERE seq >= ? AND seq <= ?", (rows[0][0], rows[-1][0]))
                gone[table] = self._db.changes()
        at = clock.iso(now)
        for intent_id in whole:
            self._db.execute(
                "INSERT OR IGNORE INTO retired_keys SELECT idempotency_key, id, status, ? FROM intents WHERE id = ?",
                (at, intent_id),
            )
            for table, key in OF_INTENTS.items():
                self._db.execute(f"DELETE FROM {table} WHERE {key} = ?", (intent_id,))
                gone[table] += self._db.changes()
        for table, count in gone.items():
            if count != len(moved[table]):
                raise ArchiveRefused(f"{table}: {len(moved[table])} rows were copied and {count} would leave the store")
