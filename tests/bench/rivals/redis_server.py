"""A redis-server of our own on a free loopback port, which syncs to disk before it answers a write."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

START_S = 10.0


def missing() -> str:
    """Return why Redis cannot be measured here, or nothing."""
    return (
        "" if shutil.which("redis-server") else "redis-server is not installed (Debian: apt-get install redis-server)"
    )


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[int]:
    """Serve while the context lasts; yields the port and writes it to `folder`/port."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    data = folder / "redis"
    data.mkdir()
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(data), "--save", "",
                "--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no",
            ],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        _wait(port)
        (folder / "port").write_text(str(port))
        yield port
    finally:
        process.terminate()
        try:
            process.wait(START_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def port_of(folder: Path) -> int:
    return int((folder / "port").read_text())


def _wait(port: int) -> None:
    end_s = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > end_s:
                raise
            time.sleep(0.02)
