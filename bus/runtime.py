"""What a process needs of its operating system: locks, the lifeline, sd_notify, title, incarnation.

Used by every process at start. Never starts or kills another process.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import secrets
import signal
import socket
import time
from pathlib import Path

from bus.errors import LockHeld
from bus.messages import Peer
from bus.vocabulary import Role

SLOTS_MAX = 99
PR_SET_PDEATHSIG = 1
LOCK_LOOK_S = 0.002
HOLDER_CHARS = 79  # of a lock's file, which says who has it


class Lock:
    """An flock held until `release` or the end of the process. A stopped holder keeps it; a killed one frees it."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self.path = path

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def acquire_lock(path: Path, owner: str, *, shared: bool = False, wait_s: float = 0.0) -> Lock:
    """Take the lock at `path` for `owner`, waiting for it at most `wait_s`.

    Raises:
        LockHeld: another process has it; the message says which.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            break
        except OSError as error:
            if time.monotonic() < deadline:
                time.sleep(LOCK_LOOK_S)
                continue
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "unknown process"
            os.close(descriptor)
            raise LockHeld(f"{owner}: {path.name} is held by {holder}") from error
    # Over what stands there, as long as any: a file that gets shorter may wait for what others are syncing.
    written = os.pwrite(descriptor, f"{owner} (pid {os.getpid()})".ljust(HOLDER_CHARS).encode() + b"\n", 0)
    if os.fstat(descriptor).st_size > written:
        os.ftruncate(descriptor, written)
    return Lock(descriptor, path)


def lowest_free_lock(folder: Path, prefix: str, owner: str) -> tuple[int, Lock]:
    """Take the first free lock of `prefix.1.lock`, `prefix.2.lock`, ... Raises LockHeld when all are taken."""
    for slot in range(1, SLOTS_MAX + 1):
        try:
            return slot, acquire_lock(folder / f"{prefix}.{slot}.lock", owner)
        except LockHeld:
            continue
    raise LockHeld(f"{owner}: all {SLOTS_MAX} slots of {prefix} are taken")


def new_incarnation() -> str:
    """Return 12 random hexadecimal digits: one life of one process."""
    return secrets.token_hex(6)


def own_peer(role: Role) -> Peer:
    """Return who this process is: as its supervisor set it, else slot 1 and a new incarnation."""
    slot = os.environ.get("PILOT_SLOT", "1")
    return Peer(role, int(slot) if slot.isdigit() else 1, os.environ.get("PILOT_INCARNATION") or new_incarnation())


def die_with_parent() -> int | None:
    """Ask the kernel for SIGTERM when the parent dies, and return the lifeline to watch: end of file = parent gone.

    Neither is enough alone: the signal belongs to the parent's thread and is racy, the pipe needs a running loop.
    """
    given = os.environ.pop("PILOT_LIFELINE_FD", "")
    if not given.isdigit():
        return None
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    os.set_inheritable(int(given), False)
    os.set_blocking(int(given), False)
    return int(given)


def notify(text: str) -> bool:
    """Send an sd_notify datagram (`READY=1`, `WATCHDOG=1`, ...) to whoever started us; nothing when nobody asked.

    Return False when it could not be delivered now. A path that begins with @ is a name in the abstract namespace.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return True
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagram:
        datagram.setblocking(False)
        try:
            datagram.sendto(text.encode(), address)
        except OSError:
            return False  # the supervisor is gone or busy: the lifeline and the next beat tell the rest
    return True
