"""The journal of transitions: one row an arrow, append-only, each hashed together with the hash before it.

Part of the store process; written inside the transaction of the change that it records. Never changes a row.
An arrow that people are told of leaves its alert in the same place.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import apsw
import msgspec

from bus import clock
from bus.messages import Peer
from bus.records import TradeIntent, Transition
from bus.vocabulary import Status
from store import alerts

GENESIS = "0" * 64
_encode = msgspec.json.Encoder().encode
_in_order = msgspec.json.Encoder(order="sorted").encode
_NAMES = Transition.__struct_fields__
_INSERT = f"INSERT INTO transitions VALUES ({', '.join('?' * len(_NAMES))})"


class Journal:
    """The writing end. `moves` are the arrows of the transaction under way, for the log."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db.cursor()  # one for all: a new one each time costs a tenth of a statement
        self.moves: list[Transition] = []
        self.reload()

    def reload(self) -> None:
        """Read the head of the journal again: after a rollback."""
        rows = self._db.execute("SELECT seq, hash FROM transitions ORDER BY seq DESC LIMIT 1").fetchall()
        self._seq, self._hash = (int(str(rows[0][0])), str(rows[0][1])) if rows else (0, GENESIS)
        self.moves = [move for move in self.moves if move.seq <= self._seq]

    def append(
        self,
        intent: TradeIntent,
        event: str,
        before: Status | None,
        after: Status,
        by: Peer,
        epoch: int,
        reason: str,
        payload: dict[str, Any] | None,
        now: datetime,
    ) -> None:
        """Write one arrow of `intent`, which is given as it was before it."""
        details = _in_order(payload).decode() if payload else "{}"
        row = (
            self._seq + 1, intent.id, clock.iso(now), event, before and str(before), str(after), by.name,
            by.incarnation, epoch, reason, details, self._hash,
        )  # fmt: skip
        digest = chain_hash(row)
        self._db.execute(_INSERT, (*row, digest))
        self._seq, self._hash = self._seq + 1, digest
        move = Transition(
            seq=self._seq, intent_id=intent.id, at=row[2], event=event, from_status=row[4], to_status=row[5],
            actor=row[6], incarnation=row[7], epoch=epoch, reason=reason, payload=details, prev_hash=row[11],
            hash=digest,
        )  # fmt: skip
        self.moves.append(move)
        if event in alerts.TOLD:
            alerts.of_move(self._db, move, intent, payload or {})


def chain_hash(row: tuple[Any, ...]) -> str:
    """Return the hash of a journal row (all columns but `hash`, `prev_hash` last): SHA-256 of its JSON.

    Without spaces and with every character as itself, as `json` writes it, too: text, integers and null only.
    """
    return hashlib.sha256(_encode(row)).hexdigest()
