"""What a live process has used so far, read from /proc: processor time, wake-ups, memory. For every bench."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Megabytes of 1,000,000 bytes: all that is resident, and with shared pages divided among those who share them."""

    resident_mb: float
    proportional_mb: float


def cpu_s(pid: int) -> float:
    """Return user and system seconds of a live process, without its children's. Source: proc(5), stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def wakes(pid: int) -> int:
    """Return how often the threads of a process gave the processor away to wait. Source: proc(5), status."""
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that ended meanwhile
            status = (task / "status").read_text()
            found += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return found


def memory(pid: int) -> Memory:
    """Return what a process holds now. Source: proc(5), smaps_rollup."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    found = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return Memory(resident_mb=found["Rss"] * 1_024 / 1e6, proportional_mb=found["Pss"] * 1_024 / 1e6)


def children(pid: int) -> list[int]:
    """Return the processes that a process started and that live. Source: proc(5), children."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has ended since
            found += (int(one) for one in (task / "children").read_text().split())
    return found
