"""All that `make bench` measures, one part after the other, with one line of JSON at the end that holds every figure.

python -m tests.bench [PART ...] [--write] [--laps N] [--finished 0,100000]

Each part is a command of its own and stays one. `--write` renews the tables and pictures of docs/performance.md, and
goes up to a million finished intents unless `--finished` says otherwise.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from config import load
from tests.bench import machine, report

END_S = 60.0  # from a part's last line to its end
LAPS = frozenset({"standings", "growth"})  # what runs in laps
FINISHED = "0,100000"
FINISHED_WRITTEN = "0,100000,1000000"
# Name, what it tells, and its command line. The first ones end with a line of JSON, which is collected.
PARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "standings": ("durable chains side by side", ("tests.bench.standings",)),
    "growth": ("what grows with the work that is done", ("tests.bench.growth",)),
    "idle": ("what the idle pipeline costs", ("tests.bench.idle",)),
    "startup": ("start of each process", ("tests.bench.startup",)),
    "recovery": ("recovery after a kill", ("tests.bench.recovery", "3", "--ours")),
    "guard": ("the gate", ("tests.bench.guard",)),
    "roundtrip": ("an order's round trip", ("tests.bench.roundtrip",)),
    "measuring": ("what measuring costs", ("tests.bench.measuring",)),
    "scans": ("scans", ("tests.bench.scans",)),
    "requests": ("a day's requests", ("tests.kit.budget_week",)),
    "analysts": ("the pool of analysts", ("tests.bench.analysts",)),
    "warm_scan": ("a warm scan", ("tests.bench.warm_scan",)),
}


def run(name: str, *more: str) -> tuple[int, dict[str, Any]]:
    """Run one part, show what it says as it says it, and return its exit code and its figures, if it has any."""
    _, command = PARTS[name]
    process = subprocess.Popen(
        [sys.executable, "-m", *command, *more], cwd=load.ROOT, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert process.stdout is not None
    figures: dict[str, Any] = {}
    for line in process.stdout:
        if line.startswith("{"):
            figures = msgspec.json.decode(line)
        else:
            sys.stdout.write(line)
            sys.stdout.flush()
    return process.wait(END_S), figures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=f"of {', '.join(PARTS)}; without: all")
    parser.add_argument("--write", action="store_true", help="renew docs/performance.md and its pictures")
    parser.add_argument("--laps", type=int, default=0, help="how often each rival and each size runs; 0: 3 times")
    parser.add_argument("--finished", default="", help=f"finished intents of growth, else {FINISHED}")
    asked = parser.parse_args()
    wanted = asked.parts or list(PARTS)
    finished = asked.finished or (FINISHED_WRITTEN if asked.write else FINISHED)
    if "growth" in wanted:
        needed = "about 10 minutes, and 8 more and 20 GB of disk for a million; --finished chooses"
        sys.stdout.write(f"growth over {finished} finished intents: {needed}\n")
    where, began_s = machine.here(), time.monotonic()
    failed: list[str] = []
    found: dict[str, Any] = {}
    for number, name in enumerate(wanted, start=1):
        what, command = PARTS[name]
        passed_s = time.monotonic() - began_s
        sys.stdout.write(f"\n[{number} of {len(wanted)}, {passed_s:.0f} s] {what}: python -m {' '.join(command)}\n")
        sys.stdout.flush()
        more: tuple[str, ...] = ("--laps", str(asked.laps)) if name in LAPS and asked.laps else ()
        if name == "growth":
            more += ("--finished", finished)
        code, figures = run(name, *more)
        if code:
            failed.append(name)
        if figures:
            found[name] = figures
    if asked.write:
        report.write(Path(load.ROOT) / "docs", where, found)
    told = {"bench": "all", "machine": msgspec.to_builtins(where), "failed": failed, **found}
    sys.stdout.write(f"\n{time.monotonic() - began_s:.0f} s in all\n")
    sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
