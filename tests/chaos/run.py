"""The whole chaos run: `make chaos` (under 10 minutes) or `make chaos MINUTES=m` (storms for about m minutes).

Parts run beside each other, each in a process of its own with a pipeline of its own. The last line is one JSON object;
exit code 1 when anything did not hold. Leaves no process and no file behind.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tests.chaos import disasters, rig, storm, sweep, zombie
from tests.chaos.checker import Finding
from tests.chaos.figures import Tally, last_line
from tests.kit import leftovers

SEEDS = Path(__file__).with_name("seeds.txt")
LANES = 3  # a pipeline waits more than it computes: three keep two cores busy
SWEEP_MINUTES = 5.0
STORM_S = 100.0
REPLAY_S = 30.0
REPLAYS_MAX = 2
EPISODE_S = 150.0
ALL_AT_ONCE = 50
LEAVE_S = 5.0
ALL_AT_ONCE_S = 150.0

Part = tuple[str, Callable[..., Tally], tuple[Any, ...]]


def main() -> int:
    asked = _arguments()
    seed = asked.seed if asked.seed is not None else secrets.randbelow(1_000_000)
    os.environ[leftovers.MARK] = f"chaos-{os.getpid()}"
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
    total, began = Tally(), time.monotonic()
    try:
        minutes = f" MINUTES={asked.minutes:g}" if asked.minutes is not None else ""
        _say(f"Seed {seed}; the same again: make chaos SEED={seed}{minutes}")
        warm = rig.warm_models(folder)
        for parts in _phases(asked.minutes, asked.sweep, seed, warm):
            _run(parts, total)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if left := _left_behind():
        total.findings.append(Finding("nothing is left behind", "illegal", f"processes: {left}"))
    _remember(total.failed_seeds)
    for finding in total.findings:
        _say(f"VIOLATION ({finding.category}) {finding.check}: {finding.text}")
    _say(f"{len(total.recovery_ms)} recoveries measured; took {time.monotonic() - began:.0f} s")
    _say(last_line(total, seed))
    return 1 if total.findings else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, help="only storm, for about that long (0.5 and 60 both work)")
    parser.add_argument("--sweep", type=float, default=SWEEP_MINUTES, help="minutes that the sweep may take")
    parser.add_argument("--seed", type=int, help="of everything that is drawn; without it a new one")
    return parser.parse_args()


def _phases(minutes: float | None, sweep_minutes: float, seed: int, warm: Path) -> list[list[Part]]:
    if minutes is not None:
        return [_storms(minutes * 60, seed, warm)]
    names = sweep.names()
    random.Random(seed).shuffle(names)  # what a time limit cuts off is not always the same
    lanes: list[Part] = [
        (f"sweep {lane + 1}", sweep.lane, (names[lane::LANES], warm, sweep_minutes * 60)) for lane in range(LANES)
    ]
    others: list[Part] = [
        ("everything at once", disasters.kill_everything, (warm, seed, ALL_AT_ONCE, ALL_AT_ONCE_S)),
        ("storm", storm.episode, (warm, seed, STORM_S)),
        ("zombie", zombie.haunt, (warm,)),
        ("store killed", disasters.kill_the_store, (warm, seed, 10)),
        ("log torn", disasters.tear_the_log, (warm, seed, 60)),
        ("disk full", disasters.fill_the_disk, (warm,)),
        ("read-only", disasters.forbid_writing, (warm,)),
        ("clock", disasters.jump_the_clock, (warm,)),
        ("supervisor", disasters.kill_the_supervisor, (warm, seed, 10)),
        *(("storm again", storm.episode, (warm, old, REPLAY_S)) for old in _old_seeds()[-REPLAYS_MAX:]),
    ]
    return [lanes, others]


def _storms(seconds: float, seed: int, warm: Path) -> list[Part]:
    """Cut the time into episodes on fresh pipelines: a seed that fails is then short to run again."""
    lanes = 1 if seconds < 2 * EPISODE_S else LANES
    count = max(1, round(seconds * lanes / EPISODE_S)) if seconds > EPISODE_S else 1
    length = seconds * lanes / count
    return [("storm", storm.episode, (warm, seed + number, length)) for number in range(count)]


def _run(parts: list[Part], total: Tally) -> None:
    """Run the parts beside each other and add up what they did."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(LANES, len(parts)), mp_context=context) as pool:
        asked: dict[Future[Tally], str] = {pool.submit(work, *given): name for name, work, given in parts}
        for done in as_completed(asked):
            if (failed := done.exception()) is not None:
                tally = Tally(findings=[Finding("the part runs", "illegal", f"{asked[done]}: {failed!r}")])
            else:
                tally = done.result()
            total.add(tally)
            verdict = f"{len(tally.findings)} VIOLATIONS" if tally.findings else "held"
            _say(f"[{asked[done]}] {verdict}: {tally.kills} kills, {tally.faults} faults. {' '.join(tally.notes)}")


def _left_behind() -> dict[int, str]:
    """Return the processes of this run that still live after a while; Python's own helper lives as long as we do."""
    end = time.monotonic() + LEAVE_S
    while True:
        left = {pid: name for pid, name in leftovers.find().items() if "resource_tracker" not in name}
        if not left or time.monotonic() >= end:
            return left
        time.sleep(0.1)


def _old_seeds() -> list[int]:
    lines = SEEDS.read_text().splitlines() if SEEDS.exists() else []
    return [int(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]


def _remember(seeds: list[int]) -> None:
    """Keep seeds that failed: the next runs begin with them."""
    known = _old_seeds()
    with SEEDS.open("a") as file:
        for seed in seeds:
            if seed not in known:
                file.write(f"{seed}\n")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
