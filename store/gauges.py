"""What is read for metrics and readiness: counts, ages and sums, each bounded however long the pipeline has run.

Used by whoever serves metrics. Every reading is short and read-only; no snapshot stays open. What is text in a row and
not one of our own words is left out here, so that nobody above can make a series of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from operator import add
from pathlib import Path

import apsw
import msgspec
from msgspec import Struct

from bus.tallies import BOUNDS_S
from bus.vocabulary import Role
from store import states, tallies
from store.connection import DatabaseRefused, open_reader
from store.queries import Reader

PAGE_ROWS = 5_000
ROLES = frozenset(str(role) for role in Role)
EVENTS = tuple(sorted({event for event, _, _ in states.ARROWS}))
LEVELS = ("info", "warning", "error")
STEPS = frozenset((str(before), str(after)) for _, before, after in states.ARROWS if before not in (None, after))
_OLDEST = {
    # Each is found by the index of the status; few intents wait at a time, and one is executing.
    "pending": "SELECT min(created_at) FROM intents WHERE status = 'pending'",
    "claimed": "SELECT min(claim_ts) FROM intents WHERE status = 'claimed'",
    "ready_for_exec": "SELECT min(coalesce(d.decided_at, i.created_at)) FROM intents i "
    "LEFT JOIN decisions d ON d.intent_id = i.id WHERE i.status = 'ready_for_exec'",
    "executing": "SELECT min(claim_ts) FROM intents WHERE status = 'executing'",
}


class Arrow(Struct, frozen=True, array_like=True):
    """One row of the journal, and when its intent entered the status that it left (None: it left none)."""

    seq: int
    event: str
    before: str | None
    after: str
    at: str
    hash: str
    entered_at: str | None


class Total(Struct, frozen=True):
    """What all processes of a role measured under one name, over all their incarnations."""

    role: str
    name: str
    counts: tuple[int, ...]
    sum_us: int


class Gauges:
    """The readings. `read` are the queries that others have, too."""

    def __init__(self, path: Path) -> None:
        self._db = open_reader(path)
        self.read = Reader.over(self._db)

    def close(self) -> None:
        self._db.close()

    def oldest(self) -> dict[str, str]:
        """Return since when the oldest intent of a status waits in it (ISO); nothing for a status without one."""
        found = {status: self._db.execute(query).get for status, query in _OLDEST.items()}
        return {status: str(at) for status, at in found.items() if at is not None}

    def hash_of(self, seq: int) -> str:
        """Return the hash of one row of the journal; empty when there is no such row."""
        return str(self._db.execute("SELECT hash FROM transitions WHERE seq = ?", (seq,)).get or "")

    def arrows(self, after_seq: int) -> list[Arrow]:
        """Return the next rows of the journal, oldest first, at most `PAGE_ROWS`."""
        rows = self._db.execute(
            "SELECT t.seq, t.event, t.from_status, t.to_status, t.at, t.hash, (SELECT p.at FROM transitions p "
            "WHERE p.intent_id = t.intent_id AND p.seq < t.seq AND p.to_status = t.from_status "
            "AND p.from_status IS NOT p.to_status ORDER BY p.seq DESC LIMIT 1) "
            "FROM transitions t WHERE t.seq > ? ORDER BY t.seq LIMIT ?",
            (after_seq, PAGE_ROWS),
        ).fetchall()
        return [msgspec.convert(row, Arrow) for row in rows]

    def totals(self) -> list[Total]:
        """Return what processes measured of themselves, summed over the slots of each role."""
        found: dict[tuple[str, str], tuple[list[int], int]] = {}
        rows = self._db.execute("SELECT process, name, counts, sum_us, earlier_counts, earlier_sum_us FROM tallies")
        for process, name, counts, sum_us, earlier, earlier_us in rows:
            role = str(process).partition(".")[0]
            if role not in ROLES or name not in BOUNDS_S:
                continue
            before, before_us = found.get((role, str(name)), ([0] * (len(BOUNDS_S[str(name)]) + 1), 0))
            present, past = tallies.counts_in(counts), tallies.counts_in(earlier)
            if len(present) == len(past) == len(before):
                mine = list(map(add, present, past))
                us = before_us + int(str(sum_us)) + int(str(earlier_us))
                found[role, str(name)] = (list(map(add, before, mine)), us)
        return [Total(role, name, tuple(counts), us) for (role, name), (counts, us) in sorted(found.items())]

    def exits(self) -> dict[str, tuple[int, int]]:
        """Return how often processes of each role ended as they were asked to, and otherwise."""
        found: dict[str, tuple[int, int]] = {}
        for process, clean, failed in self._db.execute("SELECT process, clean, failed FROM exits"):
            role = str(process).partition(".")[0]
            if role in ROLES:
                before = found.get(role, (0, 0))
                found[role] = (before[0] + int(str(clean)), before[1] + int(str(failed)))
        return found

    def alert_counts(self) -> dict[str, int]:
        """Return how many alerts there are by level."""
        # Most are `info`, and their numbers have no gaps: so only the others are counted, from an index of their own.
        kept = self._db.execute(  # each of the two by itself is one step; together SQLite reads them all
            "SELECT coalesce((SELECT max(seq) FROM alerts) - (SELECT min(seq) FROM alerts) + 1, 0)"
        ).get
        rows = self._db.execute("SELECT level, count(*) FROM alerts WHERE level <> 'info' GROUP BY level").fetchall()
        found = {str(level): int(str(count)) for level, count in rows}
        return {"info": int(str(kept)) - sum(found.values()), **found}

    def store_wrote_at(self) -> str | None:
        """Return when the store wrote last, as it does every second (ISO)."""
        return self._meta("wall_clock")

    def store_started_at(self) -> str | None:
        """Return when the present life of the store began (ISO)."""
        return self._meta("store_started_at")

    def _meta(self, key: str) -> str | None:
        found = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).get
        return None if found is None else str(found)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Gauges]:
    """Open the database, read-only, for a few readings.

    Raises:
        DatabaseRefused: it is not there (NoDatabase), cannot be read, or cannot be read now.
    """
    try:
        found = Gauges(path)
        try:
            yield found
        finally:
            found.close()
    except apsw.Error as error:
        raise DatabaseRefused(f"{path}: cannot be read: {error}") from error
