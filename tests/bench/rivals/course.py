"""Run one rival: its real processes in a folder of its own, first at full speed, then at 20 items a second."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import Struct

from config import load
from tests.bench.rivals.lanes import PACED_PER_S, Course, Phase
from tests.kit.eventually import eventually

START_S = 30.0
WARM_S = 0.7
DRAIN_S = 20.0
STOP_S = 5.0
SETTLE_S = 0.3


class Spent(Struct, frozen=True, kw_only=True):
    """How long each part of one run lasts."""

    full_s: float = 2.5
    paced_s: float = 3.0


class Lap(Struct, frozen=True, kw_only=True):
    """What one run of one rival showed. `p50_ms` and `p99_ms` at 20 items a second; None: not measured."""

    items_per_s: float
    p50_ms: float | None = None
    p99_ms: float | None = None


@dataclass(frozen=True)
class Rival:
    """How a rival is run. `commands` gets its folder and returns the command line of each process."""

    name: str
    title: str
    survives: str  # from its source and documentation: what is left of an item whose process was killed
    commands: Callable[[Path], Sequence[Sequence[str]]] = lambda _: ()
    missing: Callable[[], str] = lambda: ""  # why it cannot be run here
    beside: Callable[[Path], contextlib.AbstractContextManager[object]] = field(
        default=lambda _: contextlib.nullcontext()
    )


def role(module: str, folder: Path, *words: str) -> list[str]:
    """Return the command line of one of our own modules."""
    return [sys.executable, "-m", f"tests.bench.rivals.{module}", str(folder), *words]


def run(rival: Rival, spent: Spent) -> Lap:
    """Start the rival's processes, measure, and leave neither a process nor a file."""
    folder = Path(tempfile.mkdtemp(prefix=f"ppr-{rival.name}-", dir="/tmp"))
    try:
        course = Course(folder)
        with rival.beside(folder), _processes(rival, folder):
            return _laps(course, spent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _laps(course: Course, spent: Spent) -> Lap:
    course.become(Phase.FULL)
    try:
        eventually(lambda: course.finished() > 0, START_S)
        time.sleep(WARM_S)
        count, began_s = course.finished(), time.monotonic()
        time.sleep(spent.full_s)
        per_s = (course.finished() - count) / (time.monotonic() - began_s)
        course.become(Phase.WAIT)
        for _ in range(2):  # an item that was on its way in when the phase changed comes after the first look
            eventually(lambda: course.finished() >= course.produced(), DRAIN_S)
            time.sleep(SETTLE_S)
        marks = course.marks()
        course.become(Phase.PACED)
        time.sleep(spent.paced_s)
        course.become(Phase.WAIT)
        found = course.latencies_ms(marks)
        wanted = 0.7 * PACED_PER_S * spent.paced_s
        if len(found) < wanted:
            return Lap(items_per_s=per_s)
        return Lap(items_per_s=per_s, p50_ms=statistics.median(found), p99_ms=statistics.quantiles(found, n=100)[98])
    finally:
        course.become(Phase.STOP)


@contextlib.contextmanager
def _processes(rival: Rival, folder: Path) -> Iterator[None]:
    environment = os.environ | {"RIVAL_FOLDER": str(folder)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    started: list[subprocess.Popen[bytes]] = []
    log = (folder / "log.txt").open("wb")
    try:
        for command in rival.commands(folder):
            started.append(
                subprocess.Popen(
                    list(command), cwd=load.ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
                )
            )  # fmt: skip
        yield
    except BaseException:
        log.flush()
        sys.stderr.write((folder / "log.txt").read_text(errors="replace")[-2_000:])
        raise
    finally:
        for process in reversed(started):
            _end(process)
        log.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started: each has a session of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
