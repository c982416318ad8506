"""What processes measured of themselves, kept for whoever draws it, and how often each process ended.

Part of the store process; called by the writer inside its transaction. A row per process name and tally, so that it
never grows beyond slots times names. A total never falls: what earlier incarnations had counted is kept beside what the
present one says. What a process counted after its last beat is lost with it: too little, never too much.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from operator import add

import apsw
import msgspec

from bus import tallies
from bus.messages import Peer
from bus.tallies import Tally

SUM_MAX = 2**62  # beyond it SQLite has no integers; nobody waits 146,000 years
CLEAN = re.compile(r"ended with code 0\b")  # as the supervisor says it


def keep(db: apsw.Connection, process: str, incarnation: str, told: Iterable[Tally]) -> None:
    """Write what changed. A name or shape that this version does not know is passed over."""
    for tally in told:
        if tallies.is_known(tally):
            _keep(db, process, incarnation, tally)


def count_exit(db: apsw.Connection, peer: Peer, status: str, at: str) -> None:
    """Count the end of one incarnation, once, however often it is told."""
    is_clean = was_wanted(status)
    db.execute(
        "INSERT INTO exits VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (process) DO UPDATE SET incarnation = ?2, at = ?3, "
        "clean = clean + ?4, failed = failed + ?5 WHERE incarnation <> ?2",
        (peer.name, peer.incarnation, at, int(is_clean), int(not is_clean)),
    )


def was_wanted(status: str) -> bool:
    """Return whether a process ended in order, by what its supervisor says of the end."""
    return CLEAN.match(status) is not None


def counts_in(written: object) -> list[int]:
    """Return the counts of a row; none for what is no list of counts: a measurement must never stop the store."""
    try:
        return msgspec.json.decode(str(written), type=list[int])
    except msgspec.DecodeError:
        return []


def _keep(db: apsw.Connection, process: str, incarnation: str, tally: Tally) -> None:
    row = db.execute(
        "SELECT incarnation, counts, sum_us, earlier_counts, earlier_sum_us FROM tallies "
        "WHERE process = ? AND name = ?",
        (process, tally.name),
    ).fetchone()
    earlier, earlier_us = [0] * len(tally.counts), 0
    if row is not None:
        known, before = counts_in(row[1]), counts_in(row[3])
        if not len(known) == len(before) == len(tally.counts):
            pass  # other buckets than those of the version that wrote it: counted anew
        elif row[0] != incarnation:
            earlier = [min(SUM_MAX, total) for total in map(add, before, known)]
            earlier_us = min(SUM_MAX, int(str(row[4])) + int(str(row[2])))
        elif sum(tally.counts) <= sum(known):
            return
        else:
            earlier, earlier_us = before, int(str(row[4]))
    db.execute(
        "INSERT OR REPLACE INTO tallies VALUES (?, ?, ?, ?, ?, ?, ?)",
        (process, tally.name, incarnation, _text(tally.counts), tally.sum_us, _text(earlier), earlier_us),
    )


def _text(counts: Iterable[int]) -> str:
    return msgspec.json.encode(list(counts)).decode()
