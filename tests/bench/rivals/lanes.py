"""What the processes of one course share, in memory-mapped files: its phase, and what has come to its end.

Run by every process of a rival. The same for all of them, so that counting costs each the same and waits for nobody.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Sequence
from enum import IntEnum
from pathlib import Path

SAMPLES_MAX = 8_192
BYTES = 8 + 8 * SAMPLES_MAX
UNDER_WAY_MAX = 1_024  # so that what is counted is the chain, and not a producer that ran ahead
PACED_PER_S = 20
_I64, _F64 = struct.Struct("<q"), struct.Struct("<d")


class Phase(IntEnum):
    """What the producer does now."""

    WAIT = 0
    FULL = 1
    PACED = 2
    STOP = 3


def _mapped(path: Path) -> mmap.mmap:
    if not path.exists() or path.stat().st_size < BYTES:
        with path.open("ab") as file:
            file.truncate(BYTES)
    descriptor = os.open(path, os.O_RDWR)
    try:
        return mmap.mmap(descriptor, BYTES)
    finally:
        os.close(descriptor)


class Course:
    """The phase of a course, and the sums over all lanes. Written by whoever measures."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._memory = _mapped(folder / "course")
        self._lanes: dict[Path, mmap.mmap] = {}

    @property
    def phase(self) -> Phase:
        return Phase(self._memory[0])

    def become(self, phase: Phase) -> None:
        self._memory[0] = phase

    def finished(self) -> int:
        """Return how many items have come to their end."""
        return sum(_I64.unpack_from(lane)[0] for lane in self._all("lane-*"))

    def produced(self) -> int:
        return sum(_I64.unpack_from(lane)[0] for lane in self._all("produced-*"))

    def marks(self) -> dict[Path, int]:
        """Return how far each lane has come, for `latencies_ms`."""
        self._all("lane-*")
        return {path: _I64.unpack_from(lane)[0] for path, lane in self._lanes.items() if path.name.startswith("lane")}

    def latencies_ms(self, since: dict[Path, int]) -> list[float]:
        """Return how long each item took that ended since those marks, at most the newest of each lane."""
        found: list[float] = []
        for path, upto in self.marks().items():
            begin = max(since.get(path, 0), upto - SAMPLES_MAX)
            lane = self._lanes[path]
            found += [_F64.unpack_from(lane, 8 + 8 * (at % SAMPLES_MAX))[0] for at in range(begin, upto)]
        return found

    def _all(self, pattern: str) -> list[mmap.mmap]:
        paths = list(self._folder.glob(pattern))
        for path in paths:
            if path not in self._lanes and path.stat().st_size >= BYTES:
                self._lanes[path] = _mapped(path)
        return [self._lanes[path] for path in paths if path in self._lanes]


class Lane:
    """Where one process counts what it has produced, or ended."""

    def __init__(self, folder: Path, kind: str = "lane") -> None:
        self._memory = _mapped(folder / f"{kind}-{os.getpid()}")
        self._count = 0
        self._lock = threading.Lock()

    def add(self, count: int = 1) -> None:
        with self._lock:
            self._count += count
            _I64.pack_into(self._memory, 0, self._count)

    def end(self, begun_ns: int) -> None:
        """Count an item that has come to its end, and how long that took."""
        with self._lock:
            took_ms = (time.monotonic_ns() - begun_ns) / 1e6
            _F64.pack_into(self._memory, 8 + 8 * (self._count % SAMPLES_MAX), took_ms)
            self._count += 1
            _I64.pack_into(self._memory, 0, self._count)


def produce(folder: Path, put: Callable[[Sequence[int]], object], *, batch: int) -> None:
    """Put new items, each its time of birth (monotonic ns), as the phase says, until it says stop."""
    course, lane, produced = Course(folder), Lane(folder, "produced"), 0
    due_s = 0.0
    while (phase := course.phase) is not Phase.STOP:
        if phase is Phase.FULL and produced - course.finished() <= UNDER_WAY_MAX - batch:
            put([time.monotonic_ns()] * batch)
            produced += batch
            lane.add(batch)
        elif phase is Phase.PACED:
            due_s = max(due_s + 1 / PACED_PER_S, time.monotonic() - 1 / PACED_PER_S)
            time.sleep(max(0.0, due_s - time.monotonic()))
            put([time.monotonic_ns()])
            produced += 1
            lane.add()
        else:
            time.sleep(0.001)
