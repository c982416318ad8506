"""What the whole pipeline costs while it has nothing to do: processor time and memory of each process, from /proc.

python -m tests.bench.idle [--seconds 60] [--json]

The processes of `supervisor` with the product's own cadences and no work to do: without the scanner, which would rank,
and alerts, which have nobody to tell. "Without paper" is the sum that a live account pays: the paper broker makes
prices and is a test server.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import msgspec

from config.settings import Bus, Monitor, Paper, Supervisor
from tests.bench import processes
from tests.kit import pipeline
from tests.kit.pipeline import Pipeline, free_port

START_S = 120.0
SETTLE_S = 12.0
GOAL_PERCENT = 2.0


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process: processor time in percent of one core, wake-ups a second, resident size."""

    name: str
    cpu_percent: float
    wakes_per_s: float
    resident_mb: float


class Idle(msgspec.Struct, frozen=True, kw_only=True):
    """All of them, over so many seconds."""

    seconds: float
    processes: tuple[Process, ...]
    with_paper_percent: float
    without_paper_percent: float


def measure(seconds: float) -> Idle:
    """Start everything, let it settle, and look twice."""
    usual = {
        "bus": Bus(), "monitor": Monitor(), "paper": Paper(), "supervisor": Supervisor(),
    }  # fmt: skip
    changes: dict[str, dict[str, Any]] = {
        "bus": {"beat_s": usual["bus"].beat_s, "dead_s": usual["bus"].dead_s, "resend_s": usual["bus"].resend_s},
        "monitor": {
            "equity_poll_s": usual["monitor"].equity_poll_s, "equity_poll_flat_s": usual["monitor"].equity_poll_flat_s,
        },
        "paper": {"tick_s": usual["paper"].tick_s},
        "supervisor": {"watchdog_s": usual["supervisor"].watchdog_s},
        "executor": {"look_interval_s": 2.0},
        "dashboard": {"port": free_port()},
    }  # fmt: skip
    with pipeline.running(**changes) as run:
        run.start("--scale", "scanner=0")
        wanted = ("store", "executor", "monitor", "dashboard", "paper", "llm")
        run.eventually(lambda: _are_ready(run, wanted), START_S)
        time.sleep(SETTLE_S)
        assert run.root is not None
        pids = {"supervisor": run.root.pid}
        pids |= {name: int(one["pid"]) for name, one in run.status().items() if one.get("pid")}
        before, began_s = {name: _look(pid) for name, pid in pids.items()}, time.monotonic()
        time.sleep(seconds)
        passed_s = time.monotonic() - began_s
        after = {name: _look(pid) for name, pid in pids.items()}
        run.stop()
    rows = tuple(
        Process(
            name=name,
            cpu_percent=round(100 * (after[name][0] - before[name][0]) / passed_s, 3),
            wakes_per_s=round((after[name][1] - before[name][1]) / passed_s, 1),
            resident_mb=round(after[name][2], 1),
        )
        for name in pids
    )
    total = sum(one.cpu_percent for one in rows)
    paper = sum(one.cpu_percent for one in rows if one.name.startswith("paper"))
    return Idle(
        seconds=round(passed_s, 1), processes=rows, with_paper_percent=round(total, 2),
        without_paper_percent=round(total - paper, 2),
    )  # fmt: skip


def _are_ready(run: Pipeline, wanted: tuple[str, ...]) -> bool:
    ready = {name.partition(".")[0] for name, one in run.status().items() if one.get("state") == "ready"}
    return set(wanted) <= ready


def _look(pid: int) -> tuple[float, int, float]:
    """Return processor seconds, wake-ups, and resident MB."""
    return processes.cpu_s(pid), processes.wakes(pid), processes.memory(pid).resident_mb


def markdown(found: Idle) -> str:
    """Return the table for docs/performance.md."""
    lines = ["| process | CPU, % of one core | wake-ups a second | resident MB |", "|---|---|---|---|"]
    lines += [
        f"| {one.name} | {one.cpu_percent:.2f} | {one.wakes_per_s:.1f} | {one.resident_mb:.0f} |"
        for one in found.processes
    ]
    said = (
        f"All together {found.with_paper_percent:.2f} %, without the paper broker {found.without_paper_percent:.2f} %"
    )
    return "\n".join([*lines, "", f"{said} of one core, over {found.seconds:.0f} s."])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.idle")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", action="store_true", help="only the JSON line")
    asked = parser.parse_args()
    found = measure(asked.seconds)
    if not asked.json:
        sys.stdout.write(markdown(found) + "\n")
        if found.without_paper_percent >= GOAL_PERCENT:
            sys.stdout.write(f"over the goal of {GOAL_PERCENT} % of one core\n")
    sys.stdout.write(msgspec.json.encode({"bench": "idle", **msgspec.to_builtins(found)}).decode() + "\n")


if __name__ == "__main__":
    main()
