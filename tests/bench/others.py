"""The same deaths under other process managers: honcho, supervisord, circus. Part of `python -m tests.bench.recovery`.

The process is a stand-in that imports what ours import (zmq, msgspec, loguru, httpx) and notes the time. supervisord
and circus are installed into a virtual environment under a temporary folder; without a package index they are left out.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config import load
from tests.kit.eventually import eventually

INSTALL_S = 90
STAND_IN = """\
import os, signal, socket, sys, time
import zmq, msgspec, loguru, httpx
if len(sys.argv) > 2:  # one of our children: beats
    fd = int(os.environ["PILOT_LIFELINE_FD"])
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
with open(sys.argv[1], "a") as file:
    file.write(f"{os.getpid()} {time.time()}\\n")
while True:
    time.sleep(0.2)
    if len(sys.argv) > 2:
        try:
            notify.sendto(b"WATCHDOG=1", os.environ["NOTIFY_SOCKET"])
        except OSError:
            sys.exit(0)
"""
OURS = """\
import sys
from supervisor import cli
sys.exit(cli.main(["run", "llm"], commands=lambda role: [sys.executable, sys.argv[1], sys.argv[2], "ours"]))
"""
Row = tuple[str, list[float] | str]


class StandIn:
    """The lives of one stand-in, as it notes them itself."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "lives"
        self.script = folder / "stand_in.py"
        self.script.write_text(STAND_IN)
        self.command = f"{sys.executable} {self.script} {self.notes}"

    def lives(self) -> list[tuple[int, float]]:
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return [(int(line.split()[0]), float(line.split()[1])) for line in lines if " " in line]

    def kill(self, count: int) -> list[float]:
        """Kill it `count` times; return milliseconds to the next life, imports done."""
        found = []
        eventually(self.lives, 20)
        for _ in range(count):
            time.sleep(1.3)  # supervisord counts a life of less than a second as a failed start
            pid = self.lives()[-1][0]
            killed_at = time.time()
            os.kill(pid, signal.SIGKILL)
            eventually(lambda gone=pid: self.lives()[-1][0] != gone, 20)  # type: ignore[misc]
            found.append((self.lives()[-1][1] - killed_at) * 1_000)
        return found


def rows(count: int) -> list[Row]:
    """Return each manager with its times, or with the reason why it has none."""
    with tempfile.TemporaryDirectory(prefix="ppb-", dir="/tmp") as name:
        folder = Path(name)
        found: list[Row] = [_ours(folder / "ours", count), _honcho(folder / "honcho")]
        installed = _install(folder / "venv")
        for title, start in (
            ("supervisord", _supervisord),
            ("circus", _circus),
            ("circus, check_delay 0.2", _circus_fast),
        ):
            if installed:
                found.append((title, installed))
                continue
            place = folder / title.replace(" ", "-")
            place.mkdir()
            toy = StandIn(place)
            with _running(start(folder / "venv" / "bin", place, toy), place):
                found.append((title, toy.kill(count)))
        return found


def _ours(folder: Path, count: int) -> Row:
    folder.mkdir()
    toy = StandIn(folder)
    profile = folder / "bench.toml"
    profile.write_text("[supervisor]\nstable_s = 0.01\nrestarts_max = 100\n")
    environment = {"PILOT_DATA": str(folder / "data"), "PILOT_RUN": str(folder), "PILOT_PROFILE": str(profile)}
    command = [sys.executable, "-c", OURS, str(toy.script), str(toy.notes)]
    with _running(command, folder, **environment):
        return "ours, without spares", toy.kill(count)


def _honcho(folder: Path) -> Row:
    folder.mkdir()
    toy = StandIn(folder)
    (folder / "Procfile").write_text(f"toy: exec {toy.command}\n")
    with _running([str(Path(sys.executable).with_name("honcho")), "start", "-d", str(folder)], folder) as process:
        pid = eventually(toy.lives, 20)[0][0]
        os.kill(pid, signal.SIGKILL)
        code = process.wait(20)
    return "honcho", f"does not restart: it ended all with code {code}"


def _install(folder: Path) -> str:
    """Install the other managers; return why that is not possible, or nothing."""
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True, timeout=INSTALL_S)
        subprocess.run(
            [str(folder / "bin" / "pip"), "install", "-q", "supervisor", "circus"],
            check=True, capture_output=True, timeout=INSTALL_S,
        )  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return "left out: it could not be installed here"
    return ""


def _supervisord(bin_folder: Path, folder: Path, toy: StandIn) -> list[str]:
    path = folder / "supervisord.conf"
    path.write_text(
        f"[supervisord]\nnodaemon=true\nlogfile={folder}/log\npidfile={folder}/pid\n"
        f"[program:toy]\ncommand={toy.command}\nautorestart=true\n"
    )
    return [str(bin_folder / "supervisord"), "-c", str(path)]


def _circus(bin_folder: Path, folder: Path, toy: StandIn, check_delay: str = "") -> list[str]:
    path = folder / "circus.ini"
    path.write_text(
        f"[circus]\n{check_delay}endpoint=ipc://{folder}/e\npubsub_endpoint=ipc://{folder}/p\n"
        f"[watcher:toy]\ncmd={toy.command}\n"
    )
    return [str(bin_folder / "circusd"), str(path)]


def _circus_fast(bin_folder: Path, folder: Path, toy: StandIn) -> list[str]:
    return _circus(bin_folder, folder, toy, "check_delay=0.2\n")


@contextmanager
def _running(command: list[str], folder: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=load.ROOT, env={**os.environ, **environment}, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
