"""A process's own record of the answers it was given: one JSON line an ack, for the checker of the chaos run.

Used by `bus.link` in every asyncio process. Off unless `PILOT_ACK_LOG` names a folder. Never read by the pipeline.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from bus.messages import Ack, Peer

ENV = "PILOT_ACK_LOG"


class AckLog:
    """The file of one incarnation. A line is handed to the kernel in one call, so that `kill -9` leaves it whole."""

    def __init__(self, folder: Path, peer: Peer) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{peer.name}.{peer.incarnation}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._sender = peer.name

    def write(self, ack: Ack, kind: str, at: str) -> None:
        """Append an ack. `kind` is the command's class, empty when nobody waited for the answer any more."""
        line = {
            "id": ack.id,
            "kind": kind,
            "outcome": ack.outcome,
            "intent_id": ack.intent_id,
            "sender": self._sender,
            "at": at,
        }
        os.write(self._file, msgspec.json.encode(line) + b"\n")

    def close(self) -> None:
        os.close(self._file)


def open_log(peer: Peer) -> AckLog | None:
    """Return the log of this incarnation, or None where no test wants one."""
    folder = os.environ.get(ENV, "")
    return AckLog(Path(folder), peer) if folder else None
