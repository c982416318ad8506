"""On what a bench ran: processor, cores, kernel, Python, SQLite, file system. For the last line of JSON."""

from __future__ import annotations

import os
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from store import queries


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What figures depend on. `load_1min` before the bench began: above 1, something else ran, too."""

    at: str
    cpu: str
    cores: int
    kernel: str
    python: str
    sqlite: str
    file_system: str
    load_1min: float

    def said(self) -> str:
        """Return it as one sentence."""
        return (
            f"{self.at[:10]}: {self.cpu}, {self.cores} cores, Linux {self.kernel}, Python {self.python}, "
            f"SQLite {self.sqlite}, {self.file_system}; load before it began {self.load_1min:.1f}"
        )


def here() -> Machine:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return Machine(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        cpu=cpu,
        cores=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        python=platform.python_version(),
        sqlite=queries.sqlite_versions()[0],
        file_system=_file_system(Path(tempfile.gettempdir())),
        load_1min=os.getloadavg()[0],
    )


def _file_system(path: Path) -> str:
    """Return the kind of file system that a path is on. Source: proc(5), mounts."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    inside = [(len(at), kind) for _, at, kind, *_ in mounts if path.is_relative_to(at)]
    return max(inside)[1] if inside else "unknown"
