"""What of the outbox a channel has taken: one row a message, and the cursor that only moves forward.

Part of the store process; called by the writer inside a savepoint. Sends nothing to anybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import apsw

from bus import clock
from bus.alerting import AlertsDelivered
from bus.messages import Peer
from bus.vocabulary import Outcome
from store.decisions import Refused
from store.halts import Answer

if TYPE_CHECKING:
    from store.writer import Writer


def delivered(writer: Writer, sender: Peer, body: AlertsDelivered) -> Answer:
    """Record what a channel took: the cursor moves forward only, never past the newest alert.

    Raises:
        Refused: there is no such alert.
    """
    newest, cursor = _seqs(writer.db)
    if body.through_seq > newest:
        raise Refused(f"alert {body.through_seq} was delivered; the newest is {newest}")
    if body.through_seq <= cursor:
        return Outcome.ALREADY, f"delivered through alert {cursor}", None
    at, levels = clock.iso(writer.now), ", ".join("?" * len(body.levels))
    writer.db.execute(
        f"UPDATE alerts SET delivered_at = ? WHERE seq > ? AND seq <= ? AND level IN ({levels})",
        (at, cursor, body.through_seq, *body.levels),
    )
    told = writer.db.changes()
    writer.db.execute(
        "INSERT INTO alert_deliveries VALUES (?, ?, ?, ?, ?)", (body.through_seq, at, body.channel, told, sender.name)
    )
    return Outcome.APPLIED, f"{told} alerts told", None


def _seqs(db: apsw.Connection) -> tuple[int, int]:
    """Return the newest alert and the one up to which the outbox was taken; 0 where there is none."""
    row = db.execute(
        "SELECT (SELECT coalesce(max(seq), 0) FROM alerts), "
        "(SELECT coalesce(max(through_seq), 0) FROM alert_deliveries)"
    ).fetchone()
    return (int(str(row[0])), int(str(row[1]))) if row else (0, 0)
