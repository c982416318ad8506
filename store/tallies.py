"""What processes measured of themselves, kept for whoever draws it, and how often each process ended.

Part of the store process; called by the writer inside its transaction. A row per process name and tally, so that it
never grows beyond slots times names. A total never falls: what earlier incarnations had counted is kept beside what the
present one says. What a process counted after its last beat is lost with it: too little, never too much.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from operator import add

import apsw

from bus import tallies
from bus.messages import Peer
from bus.tallies import Tally

CLEAN = re.compile(r"ended with code 0\b")  # as the supervisor says it


def keep(db: apsw.Connection, process: str, incarnation: str, told: Iterable[Tally]) -> None:
    """Write what changed. A name or shape that this version does not know is passed over."""
    for tally in told:
        if tallies.is_known(tally):
            _keep(db, process, incarnation, tally)


def count_exit(db: apsw.Connection, peer: Peer, status: str, at: str) -> None:
    """Count the end of one incarnation, once, however often it is told."""
    is_clean = CLEAN.match(status) is not None
    db.execute(
        "INSERT INTO exits VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (process) DO UPDATE SET incarnation = ?2, at = ?3, "
        "clean = clean + ?4, failed = failed + ?5 WHERE incarnation <> ?2",
        (peer.name, peer.incarnation, at, int(is_clean), int(not is_clean)),
    )


def _keep(db: apsw.Connection, process: str, incarnation: str, tally: Tally) -> None:
    row = db.execute(
        "SELECT incarnation, counts, sum_us, earlier_counts, earlier_sum_us FROM tallies "
        "WHERE process = ? AND name = ?",
        (process, tally.name),
    ).fetchone()
    earlier, earlier_us = [0] * len(tally.counts), 0
    if row is not None:
        known, known_us = json.loads(str(row[1])), int(str(row[2]))
        earlier, earlier_us = json.loads(str(row[3])), int(str(row[4]))
        if len(known) != len(tally.counts):  # other buckets than those of the version that wrote it: counted anew
            earlier, earlier_us = [0] * len(tally.counts), 0
        elif row[0] != incarnation:
            earlier, earlier_us = list(map(add, earlier, known)), earlier_us + known_us
        elif sum(tally.counts) <= sum(known):
            return
    db.execute(
        "INSERT OR REPLACE INTO tallies VALUES (?, ?, ?, ?, ?, ?, ?)",
        (process, tally.name, incarnation, json.dumps(tally.counts), tally.sum_us, json.dumps(earlier), earlier_us),
    )
