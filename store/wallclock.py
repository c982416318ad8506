"""Notices a wall clock that was set back, and moves the waiting times that it had written. Part of the store process.

`not_before` and `expires_at` are wall times, for they must outlive the process. Written while the clock was hours ahead
they would keep an intent waiting, or alive, for as many hours too long once the clock is right again. A clock set
forward needs nothing: a retry comes early, an intent expires early. Touches neither arrows nor the journal.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import apsw

from bus import clock
from store import states

BACK_S_MIN = 5.0  # less is a clock being trimmed
LIVE = ", ".join(repr(str(status)) for status in sorted(states.LIVE))


class WallClock:
    """What the wall clock showed last, beside the monotonic clock; kept in `meta` for the next life of the store."""

    def __init__(self, db: apsw.Connection, *, now_s: float) -> None:
        self._db = db
        row = db.execute("SELECT value FROM meta WHERE key = 'wall_clock'").fetchone()
        self._seen_at = clock.parse(str(row[0])) if row else None
        self._seen_s = now_s

    def turned_back(self, now: datetime, now_s: float) -> timedelta:
        """Return by how much the clock was set back since `keep`; zero for less than `BACK_S_MIN`.

        Across a restart of the store it is at least that much: how long nobody looked is not known.
        """
        if self._seen_at is None:
            return timedelta()
        back = self._seen_at + timedelta(seconds=now_s - self._seen_s) - now
        return back if back.total_seconds() >= BACK_S_MIN else timedelta()

    def move(self, back: timedelta) -> int:
        """Set the waiting times of all live intents back. Returns how many intents that were."""
        rows = self._db.execute(
            f"SELECT id, not_before, expires_at FROM intents WHERE status IN ({LIVE}) "
            "AND (not_before IS NOT NULL OR expires_at IS NOT NULL)"
        ).fetchall()
        for intent_id, not_before, expires_at in rows:
            self._db.execute(
                "UPDATE intents SET not_before = ?, expires_at = ? WHERE id = ?",
                (_earlier(not_before, back), _earlier(expires_at, back), intent_id),
            )
        return len(rows)

    def write(self, now: datetime) -> None:
        """Put down what the clock shows, in the transaction that is open."""
        self._db.execute(
            "INSERT INTO meta VALUES ('wall_clock', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1", (clock.iso(now),)
        )

    def keep(self, now: datetime, now_s: float) -> None:
        """Remember what was seen. Call once it is committed: a clock that was set back is dealt with once."""
        self._seen_at, self._seen_s = now, now_s


def _earlier(time: object, back: timedelta) -> str | None:
    return clock.iso(clock.parse(str(time)) - back) if time is not None else None
