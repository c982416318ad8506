"""What is read of the outbox of alerts, and what the answers to an operator's commands are made of. Read-only.

Used by the alerts process. Every call is its own short read, as in `store.queries`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from bus.alerting import Data, Severity
from bus.records import Record
from store import results
from store.connection import open_reader
from store.results import Result

TEXT_CHARS_MAX = 1_000  # of one alert; the whole text stands in the database


class Alert(Record, frozen=True, kw_only=True):
    """One row of the outbox."""

    seq: int
    at: str
    level: Severity
    event: str
    actor: str
    text: str
    intent_id: str | None = None
    data: Data = msgspec.field(default_factory=dict)


class Outbox:
    """Read-only queries. Raises NoDatabase or DatabaseRefused when it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._db = open_reader(path)

    def close(self) -> None:
        self._db.close()

    def cursor(self) -> int:
        """Return the alert up to which the outbox was taken; 0: none yet."""
        return int(str(self._db.execute("SELECT coalesce(max(through_seq), 0) FROM alert_deliveries").get))

    def pending(self, limit: int) -> list[Alert]:
        """Return the oldest alerts that no channel has taken, oldest first."""
        rows = self._db.execute(
            "SELECT seq, at, level, event, actor, substr(text, 1, ?), intent_id, data FROM alerts "
            "WHERE seq > (SELECT coalesce(max(through_seq), 0) FROM alert_deliveries) ORDER BY seq LIMIT ?",
            (TEXT_CHARS_MAX, limit),
        ).fetchall()
        return [
            msgspec.convert(
                dict(zip(Alert.__struct_fields__, (*row[:-1], msgspec.json.decode(str(row[-1]))), strict=True)), Alert
            )
            for row in rows
        ]

    def result_between(self, starts_at: str, ends_at: str) -> Result:
        """Return what closed from `starts_at` on and before `ends_at`."""
        return results.between(self._db, starts_at, ends_at)

    def beats(self) -> dict[str, str]:
        """Return when each role was heard last: the newest beat of its processes, as the store wrote it."""
        rows = self._db.execute("SELECT role, max(last_beat_at) FROM workers GROUP BY role").fetchall()
        return {str(role): str(at) for role, at in rows}
