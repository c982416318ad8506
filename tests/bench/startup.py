"""CPU of each process from exec to ready, by a notify socket of its own: `python -m tests.bench.startup`.

The light processes (store, llm, executor, monitor) must stay under half a second: it bounds recovery.
"""

from __future__ import annotations

import resource
import signal
import socket
import statistics
import subprocess
import sys
import time

from config import load
from tests.bench import processes
from tests.kit import pipeline

ROUNDS = 5
ROLES = ("store", "llm", "executor", "monitor", "scanner", "paper")
LIGHT_CPU_S_MAX = 0.5


def one_start(role: str, run: pipeline.Pipeline) -> tuple[float, float]:
    """Start a role alone, wait for its READY=1, stop it; return wall and CPU seconds from exec to ready."""
    path = run.folder / "notify"
    path.unlink(missing_ok=True)
    module = role if role == "store" else f"actors.{role}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.settimeout(20)
        begun_s = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=load.ROOT, env=run.env | {"NOTIFY_SOCKET": str(path)}, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            while b"READY=1" not in notify.recv(4_096):
                pass
            wall_s = time.monotonic() - begun_s
            cpu_s = processes.cpu_s(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
    return wall_s, cpu_s


def main() -> int:
    too_slow = []
    sys.stdout.write(f"{'process':<10}{'wall s':>10}{'CPU s':>10}   (median of {ROUNDS}, exec to ready)\n")
    with pipeline.running() as run:
        for role in ROLES:
            found = [one_start(role, run) for _ in range(ROUNDS)]
            wall_s, cpu_s = (statistics.median(column) for column in zip(*found, strict=True))
            sys.stdout.write(f"{role:<10}{wall_s:>10.2f}{cpu_s:>10.2f}\n")
            if role in ROLES[:4] and cpu_s >= LIGHT_CPU_S_MAX:
                too_slow.append(role)
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1_024
    sys.stdout.write(f"largest resident size of one process: {peak_mb:.0f} MB\n")
    if too_slow:
        sys.stdout.write(f"over {LIGHT_CPU_S_MAX} s of CPU: {', '.join(too_slow)}\n")
    return 1 if too_slow else 0


if __name__ == "__main__":
    sys.exit(main())
