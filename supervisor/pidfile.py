"""Pid files: which process we started, proven by its start time, so that a later supervisor ends only what is ours.

Used by every supervisor at start and after each start of a child. A number alone proves nothing: it is given again.
The file also carries the incarnation: a process that is certainly gone frees its leases, even when the supervisor
that started it is gone, too.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import time
from pathlib import Path

import msgspec
from loguru import logger
from msgspec import Struct

from bus import failpoints
from bus.messages import Peer
from supervisor.process import start_time

BYTES_MAX = 1_000
KILL_WAIT_S = 2.0
NAME = re.compile(r"([a-z]+)\.([1-9][0-9]?)\.pid")


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """What stands in a pid file. `peer` is None for a supervisor and for a spare."""

    pid: int
    started: str
    peer: Peer | None = None

    @property
    def lives(self) -> bool:
        """Whether this very process, not another one with its number, still runs."""
        return start_time(self.pid) == self.started


def write(path: Path, pid: int, peer: Peer | None = None) -> None:
    """Write down who runs. Whole or not at all, by a rename."""
    started = start_time(pid)
    if started is None:
        return  # gone already: there is nothing to prove
    failpoints.reach("supervisor.before_pidfile")  # writing down who runs
    draft = path.with_suffix(".new")
    draft.write_bytes(msgspec.json.encode(Entry(pid, started, peer)))
    draft.rename(path)
    failpoints.reach("supervisor.after_pidfile")


def read(path: Path) -> Entry | None:
    """Return what stands in a pid file; None when there is none or it is not one of ours."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(BYTES_MAX), type=Entry)
    except (OSError, msgspec.DecodeError):
        return None


def remove(path: Path, incarnation: str) -> None:
    """Remove the pid file of this incarnation; the one of its successor stays."""
    found = read(path)
    if found is not None and found.peer is not None and found.peer.incarnation == incarnation:
        failpoints.reach("supervisor.before_forget")  # removing the pid file of a child whose death the store knows
        path.unlink(missing_ok=True)
        failpoints.reach("supervisor.after_forget")


def path_of(run_folder: Path, peer: Peer) -> Path:
    """Return the path of a child's pid file."""
    return run_folder / f"{peer.name}.pid"


def children(run_folder: Path) -> list[Entry]:
    """Return the children that pid files tell of, living or not."""
    paths = sorted(path for path in run_folder.glob("*.pid") if NAME.fullmatch(path.name))
    return [entry for path in paths if (entry := read(path)) is not None and entry.peer is not None]


def spare_path(run_folder: Path, scope: str, role: str) -> Path:
    """Return the path of a spare's pid file. `scope`: its supervisor's."""
    return run_folder / f"spare.{scope}.{role}.pid"


def spares(run_folder: Path, scope: str) -> list[Entry]:
    """Return the spares that an earlier supervisor of this scope started, living or not, and remove their files."""
    found = []
    for path in sorted(run_folder.glob(f"spare.{scope}.*.pid")):
        if (entry := read(path)) is not None:
            found.append(entry)
        path.unlink(missing_ok=True)
    return found


def end_leftovers(entries: list[Entry], grace_s: float) -> None:
    """End those of these processes that still run: in order at first, after `grace_s` by SIGKILL. Waits for them.

    Only for a supervisor that holds the lock of their names: then nobody else looks after them.
    """
    living: dict[int, Entry] = {}
    for entry in entries:
        descriptor = _open(entry)
        if descriptor is not None:
            name = entry.peer.name if entry.peer else "A spare"
            logger.warning("{} (pid {}) is left over from an earlier supervisor; ending it", name, entry.pid)
            living[descriptor] = entry
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_WAIT_S)):
        for descriptor, entry in living.items():
            failpoints.reach("supervisor.before_end_leftover")  # one signal to a child of an earlier supervisor
            with contextlib.suppress(ProcessLookupError):
                if number is signal.SIGKILL:
                    os.killpg(entry.pid, number)  # it leads its group: we started it so
                signal.pidfd_send_signal(descriptor, number)
            failpoints.reach("supervisor.after_end_leftover")
        _wait(living, wait_s)
    for descriptor, entry in living.items():
        logger.error("pid {} does not even end by SIGKILL", entry.pid)
        os.close(descriptor)


def _open(entry: Entry) -> int | None:
    """Return a pidfd of this very process. The proof is repeated after opening: the number may change hands between."""
    try:
        descriptor = os.pidfd_open(entry.pid)
    except OSError:
        return None
    if entry.lives:
        return descriptor
    os.close(descriptor)
    return None


def _wait(living: dict[int, Entry], wait_s: float) -> None:
    """Wait until all have ended, at most `wait_s`; drop those that have."""
    deadline = time.monotonic() + wait_s
    while living and (left_s := deadline - time.monotonic()) > 0:
        ended, _, _ = select.select(list(living), [], [], left_s)
        for descriptor in ended:
            del living[descriptor]
            os.close(descriptor)


def supervisor_path(run_folder: Path, scope: str) -> Path:
    """Return the path of a supervisor's own pid file. `scope`: `all`, or the one name it looks after."""
    return run_folder / f"supervisor.{scope}.pid"


def supervisors(run_folder: Path) -> dict[str, int]:
    """Return the supervisors that run for this data folder: scope to pid."""
    found: dict[str, int] = {}
    for path in sorted(run_folder.glob("supervisor.*.pid")):
        entry = read(path)
        if entry is not None and entry.lives:
            found[path.name.removeprefix("supervisor.").removesuffix(".pid")] = entry.pid
    return found
