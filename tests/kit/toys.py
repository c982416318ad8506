"""Run the real supervisor, in a process of its own, over toy children: `python -m tests.kit.toys ARGS...`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bus.vocabulary import Role
from tests.kit import asked
from tests.kit.eventually import eventually

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 10.0
PROFILE = """
[bus]
beat_s = 0.1
resend_s = 0.2
[supervisor]
watchdog_s = {watchdog_s}
start_s = {start_s}
stop_s = {stop_s}
backoff_s = 0.01
backoff_s_max = 0.02
"""


def alive(pid: int) -> bool:
    """Return whether this process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Toys:
    """One data folder with its supervisors and toys."""

    def __init__(self, folder: Path, *, watchdog_s: float = 1.0, start_s: float = 5.0, stop_s: float = 1.0) -> None:
        self.folder = folder
        self.toys = folder / "toys"
        self.toys.mkdir()
        self.base = Path(tempfile.mkdtemp(prefix="pt", dir="/tmp"))  # short: socket paths are
        self.profile = folder / "toys.toml"
        self.profile.write_text(PROFILE.format(watchdog_s=watchdog_s, start_s=start_s, stop_s=stop_s))
        self.environment = {
            **os.environ,
            "PILOT_DATA": str(folder / "data"),
            "PILOT_RUN": str(self.base),
            "PILOT_PROFILE": str(self.profile),
            "PILOT_TOYS": str(self.toys),
        }
        self.started: list[subprocess.Popen[str]] = []

    @property
    def run_folder(self) -> Path:
        """Return the run folder, once the first supervisor has made it."""
        return eventually(lambda: next(self.base.glob("pilot-*"), None))

    def behave(self, name: str, word: str) -> None:
        """Make future lives of `name` (`llm`, or `llm.2`) behave so."""
        (self.toys / name).write_text(word)

    def start(self, *arguments: str, under: Sequence[str] = (), **environment: str) -> subprocess.Popen[str]:
        """Start `supervisor ARGUMENTS` in the background, its output in a file. `under`: a command that runs it."""
        with (self.folder / f"out.{len(self.started)}").open("w") as output:
            process = subprocess.Popen(
                [*under, sys.executable, "-m", "tests.kit.toys", *arguments],
                cwd=ROOT,
                env={**self.environment, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.started.append(process)
        return process

    def call(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `supervisor ARGUMENTS` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "tests.kit.toys", *arguments],
            cwd=ROOT,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def output(self, index: int = 0) -> str:
        return (self.folder / f"out.{index}").read_text()

    def status(self) -> dict[str, dict[str, Any]]:
        """Return what `status` tells, by name; empty when nothing runs."""
        return asked.status(self.base)

    def ready(self, *names: str) -> dict[str, dict[str, Any]]:
        """Wait until these are ready (no names: all); return the status."""

        def all_ready() -> dict[str, dict[str, Any]]:
            found = self.status()
            wanted = names or tuple(found)
            return found if found and all(found.get(name, {}).get("state") == "ready" for name in wanted) else {}

        return eventually(all_ready)

    def lives(self, start: str = "") -> list[str]:
        """Return the lines that toys wrote, those that begin with `start`."""
        path = self.toys / "lives"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.startswith(start)]

    def pids(self) -> list[int]:
        """Return the process ids of all lives so far."""
        return [int(line.split()[2]) for line in self.lives() if " started " in line or " grandchild " in line]

    def wait_gone(self, pids: Sequence[int] | None = None) -> None:
        """Wait until these (None: all that ever lived) have ended; say what is left when they do not."""
        deadline = time.monotonic() + DEADLINE_S
        while left := [pid for pid in (pids or self.pids()) if alive(pid)]:
            if time.monotonic() > deadline:
                state = Path(f"/proc/{left[0]}/status").read_text().splitlines()[2]
                raise AssertionError(f"still there: {left}, the first is in {state}; lives: {self.lives()}")
            time.sleep(0.02)

    def end(self) -> None:
        """Leave no process behind."""
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        shutil.rmtree(self.base, ignore_errors=True)


@contextmanager
def toys(folder: Path, **limits: float) -> Iterator[Toys]:
    """Give a data folder with toys and end all of its processes afterwards."""
    found = Toys(folder, **limits)
    try:
        yield found
    finally:
        found.end()


def command_of(role: Role) -> list[str]:
    """Return the command line of the toy that plays `role`."""
    toy = Path(__file__).with_name("toy_actor.py")
    return [sys.executable, "-I", "-S", str(toy), os.environ["PILOT_TOYS"], str(role)]


if __name__ == "__main__":
    from supervisor import cli

    sys.exit(cli.main(commands=command_of))
