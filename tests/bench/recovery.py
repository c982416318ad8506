"""Time from `kill -9` of each process to its replacement being ready. Run: `python -m tests.bench.recovery [KILLS]`.

Killed on a running pipeline under `supervisor`; the times are read from the supervisor's own lines. Kills of one process
are spread so that the restart backoff, which begins at the second death within a minute, does not enter: each round is
a new pipeline.
"""

from __future__ import annotations

import os
import re
import signal
import statistics
import sys
import time
from datetime import UTC, datetime

from tests.kit import pipeline

ROLES = ("store", "scanner", "llm", "executor", "monitor", "paper")


def one_round() -> dict[str, float]:
    """Kill every process of a fresh pipeline once; return milliseconds to ready by role."""
    found = {}
    with pipeline.running() as run:
        run.start()
        run.eventually(run.all_settled, 60)
        for role in ROLES:
            pid = run.pid(role)
            seen = run.console().count(f"{role}.1 is ready")
            killed_at = datetime.now(UTC)
            os.kill(pid, signal.SIGKILL)
            run.eventually(lambda role=role, seen=seen: run.console().count(f"{role}.1 is ready") > seen, 20)
            found[role] = (_ready_at(run.console(), role) - _since_midnight_s(killed_at)) * 1_000
            time.sleep(0.2)  # let the machine come to rest between two measurements
        run.stop()
    return found


def _ready_at(console: str, role: str) -> float:
    """Return seconds since midnight of the last line that says this role is ready."""
    found = re.findall(rf"(\d\d):(\d\d):(\d\d\.\d+) INFO +supervisor +{role}\.1 is ready", console)
    hours, minutes, seconds = found[-1]
    return int(hours) * 3_600 + int(minutes) * 60 + float(seconds)


def _since_midnight_s(moment: datetime) -> float:
    local = moment.astimezone()
    return local.hour * 3_600 + local.minute * 60 + local.second + local.microsecond / 1e6


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    found = [one_round() for _ in range(rounds)]
    sys.stdout.write(f"{'process':<10}{'median ms':>12}{'worst ms':>12}   ({rounds} kills each)\n")
    for role in ROLES:
        times = [one[role] for one in found]
        sys.stdout.write(f"{role:<10}{statistics.median(times):>12.0f}{max(times):>12.0f}\n")


if __name__ == "__main__":
    main()
