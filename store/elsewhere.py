"""What the store remembers of analysts on other hosts, and when it forgets them: their names come and go without end.

Part of the store process; called by the janitor's round. Forgets no lease: a silent holder lost it long before.
"""

from __future__ import annotations

from datetime import timedelta
from operator import add
from typing import TYPE_CHECKING

import msgspec

from bus import clock
from store import tallies

if TYPE_CHECKING:
    from store.writer import Writer

FORGET = timedelta(hours=1)  # of silence; whoever speaks again later is new here
GONE = "gone"


def forget(writer: Writer) -> int:
    """Drop silent processes of other hosts from memory, lists and health; what they measured stays in the sums."""
    limit = clock.iso(writer.now - FORGET)
    for name, seen in list(writer.registry.peers.items()):
        if seen.peer.host and seen.last_beat_at < limit:
            del writer.registry.peers[name]
    rows = writer.db.execute(
        "DELETE FROM workers WHERE name LIKE '%@%' AND last_beat_at < ? RETURNING name, role", (limit,)
    ).fetchall()
    for process, role in rows:
        _fold(writer, str(process), f"{role}.{GONE}")
    return len(rows)


def _fold(writer: Writer, process: str, into: str) -> None:
    """Add the totals of a process to those of all that are gone, so that no sum ever falls."""
    rows = writer.db.execute(
        "DELETE FROM tallies WHERE process = ? RETURNING name, counts, sum_us, earlier_counts, earlier_sum_us",
        (process,),
    ).fetchall()
    for name, counts, sum_us, earlier, earlier_us in rows:
        mine, us = tallies.counts_in(counts), int(str(sum_us)) + int(str(earlier_us))
        mine = list(map(add, mine, tallies.counts_in(earlier)))
        row = writer.db.execute(
            "SELECT earlier_counts, earlier_sum_us FROM tallies WHERE process = ? AND name = ?", (into, name)
        ).fetchone()
        if row is not None and len(before := tallies.counts_in(row[0])) == len(mine):
            mine, us = list(map(add, mine, before)), us + int(str(row[1]))
        none = msgspec.json.encode([0] * len(mine)).decode()
        writer.db.execute(
            "INSERT OR REPLACE INTO tallies VALUES (?, ?, '', ?, 0, ?, ?)",
            (into, name, none, msgspec.json.encode(mine).decode(), min(us, tallies.SUM_MAX)),
        )
