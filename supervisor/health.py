"""Receive what children say of themselves: sd_notify datagrams (READY=1, WATCHDOG=1, STOPPING=1).

Used by every supervisor. Knows a child by the process id that the kernel attaches, never by what the text claims.
Judges nothing: `plan` does.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from pathlib import Path

from msgspec import Struct

from bus import standby

BYTES_MAX = 4_096
NOTICES_MAX = 1_000  # in one go, so that a child that shouts cannot stop the loop
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class Notice(Struct, frozen=True):
    """One datagram. `pid` is the sender's, from the kernel."""

    pid: int
    ready: bool
    alive: bool
    stands_by: bool = False


class Notices:
    """The datagram socket whose path the children find in NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(str(path))

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> list[Notice]:
        """Return all that has arrived, without waiting."""
        found: list[Notice] = []
        while len(found) < NOTICES_MAX:
            try:
                text, ancillary, _, _ = self._socket.recvmsg(BYTES_MAX, socket.CMSG_SPACE(CREDENTIALS.size))
            except BlockingIOError:
                break
            pid = _sender(ancillary)
            if pid is not None:
                found.append(parse(text, pid))
        return found

    def close(self) -> None:
        self._socket.close()
        self.path.unlink(missing_ok=True)


def parse(text: bytes, pid: int) -> Notice:
    """Return what a datagram says. Lines that are not ours, and bytes that are no text, say nothing."""
    lines = text.split(b"\n")
    ready = b"READY=1" in lines
    alive = ready or b"WATCHDOG=1" in lines
    return Notice(pid, ready=ready, alive=alive, stands_by=standby.STANDS_BY.encode() in lines)


def _sender(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    sender: int | None = None
    for level, kind, data in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS and len(data) >= CREDENTIALS.size:
            sender = CREDENTIALS.unpack_from(data)[0]
        elif kind == socket.SCM_RIGHTS:  # descriptors that nobody asked for must not pile up
            descriptors = array.array("i", data[: len(data) - len(data) % 4])
            for descriptor in descriptors:
                os.close(descriptor)
    return sender
