"""Memory, descriptors, threads and files of a pipeline over time, and whether they grow. Used by the soak run.

A process is known by its role and its age, so that replacements count: the memory of each new one is compared with
that of those before it, and that of one that lives on with itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median_low

from msgspec import Struct

MB = 1_048_576
PAGE = os.sysconf("SC_PAGE_SIZE")


class Sample(Struct, frozen=True):
    """One look at one process. `at_s` counts from the begin of the run, `age_s` from when it was first seen."""

    role: str
    pid: int
    at_s: float
    age_s: float
    rss: int
    fds: int
    threads: int


class Footprint:
    """Collects the samples of a run."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self._born: dict[int, float] = {}

    def look(self, pids: dict[str, int], at_s: float) -> None:
        """Take one sample of each process that lives."""
        for name, pid in pids.items():
            born = self._born.setdefault(pid, at_s)
            try:
                status = Path(f"/proc/{pid}/status").read_text()
                fds = len(os.listdir(f"/proc/{pid}/fd"))
            except OSError:
                continue  # it ended while we looked
            fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            if "VmRSS" in fields:
                rss, threads = int(fields["VmRSS"].split()[0]) * 1_024, int(fields["Threads"])
                self.samples.append(Sample(name.partition(".")[0], pid, at_s, at_s - born, rss, fds, threads))


def growth_mb(samples: Iterable[Sample], *, warm_s: float) -> dict[str, float]:
    """Return by role how much memory the run's processes of that age took more at its end than at its begin, in MB.

    The slope of a regression over the time of the run, times its length: one life or many.
    """
    return _grown([one for one in samples if one.age_s >= warm_s])


def life_growth_mb(samples: Iterable[Sample], *, warm_s: float) -> dict[str, float]:
    """Return by role how much its longest life grew after it was warm, in MB: a leak that a kill would hide."""
    found = [one for one in samples if one.age_s >= warm_s]
    longest: dict[str, tuple[float, int]] = {}
    for one in found:
        longest[one.role] = max(longest.get(one.role, (0.0, 0)), (one.age_s, one.pid))
    return _grown([one for one in found if longest[one.role][1] == one.pid])


def held(samples: Iterable[Sample], name: str, *, warm_s: float) -> dict[str, tuple[int, int]]:
    """Return by role the median of `fds` or `threads` in the first and in the second half of the run.

    Not the most: a child that is being started or a connection that is being made holds some for an instant.
    """
    found: dict[str, tuple[list[int], list[int]]] = {}
    kept = [one for one in samples if one.age_s >= warm_s]
    middle = max((one.at_s for one in kept), default=0.0) / 2
    for one in kept:
        halves = found.setdefault(one.role, ([], []))
        halves[one.at_s >= middle].append(getattr(one, name))
    return {
        role: (median_low(first) if first else 0, median_low(second) if second else 0)
        for role, (first, second) in found.items()
    }


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the least squares line; 0 where there is none."""
    if len(points) < 2:
        return 0.0
    mean_x, mean_y = (sum(column) / len(points) for column in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def _grown(samples: list[Sample]) -> dict[str, float]:
    roles: dict[str, list[tuple[float, float]]] = {}
    for one in samples:
        roles.setdefault(one.role, []).append((one.at_s, float(one.rss)))
    return {
        role: round(slope(points) * (points[-1][0] - points[0][0]) / MB, 2) for role, points in sorted(roles.items())
    }


def files(data: Path, run: Path, points: Path) -> dict[str, int]:
    """Return how many bytes each kind of file takes; of folders whose files are many, how many those are."""
    return {
        "database": _bytes(data, "decisions.db"),
        "log": _bytes(data, "decisions.db-wal"),
        "backups": _bytes(data, "backups/*"),
        "logs": _bytes(data, "logs/**/*"),
        "ledger": _bytes(data, "paper/ledger*.jsonl"),
        "account": _bytes(data, "paper/account*.jsonl"),
        "recordings": _bytes(data, "recordings/**/*"),
        "models": _bytes(data, "models/**/*"),
        "bars": _bytes(data, "bars/**/*"),
        "all": _bytes(data, "**/*"),
        "run_files": len(list(run.rglob("*"))),
        "points": len(list(points.iterdir())),
    }


def _bytes(folder: Path, pattern: str) -> int:
    total = 0
    for path in folder.glob(pattern):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue  # it was put aside while we looked
    return total
