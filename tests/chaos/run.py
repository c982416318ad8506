"""The whole chaos run: `make chaos` (under 10 minutes) or `make chaos MINUTES=m` (storms for about m minutes).

Parts run beside each other, each in a process of its own with a pipeline of its own. First every point once with kill,
and all disasters; then other actions and later passes until the time of the sweep is over or a run meets no fault;
then, alone, the speed of recovery. The last line is one JSON object; exit code 1 when anything did not hold. Leaves no
process and no file behind, also when it is ended by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import multiprocessing
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from tests.chaos import disasters, rig, storm, sweep, zombie
from tests.chaos.checker import Finding
from tests.chaos.figures import Tally, last_line
from tests.chaos.workloads import TRADER
from tests.kit import leftovers, pipeline, points

SEEDS = Path(__file__).with_name("seeds.txt")
LANES = 3  # pipelines beside each other: they wait more than they compute
SWEEP_MINUTES = 7.0  # of the default run, disasters included
KILLS_MEASURED = 3
MEASURE_S = 180.0
STORM_S = 100.0
TRADER_STORM_S = 60.0
REPLAY_S = 30.0
REPLAYS_MAX = 2
EPISODE_S = 150.0
ALL_AT_ONCE = 50
LEAVE_S = 5.0
LOOPS_MAX = 120  # (point, action) that are left: then they are loops, and what is waited for is the slowest of a round
LOOP_PASSES = 4  # that are taken at once of these
ALL_AT_ONCE_S = 240.0

Part = tuple[str, Callable[..., Tally], tuple[Any, ...]]


def main() -> int:
    asked = _arguments()
    seed = asked.seed if asked.seed is not None else secrets.randbelow(1_000_000)
    if asked.api is not None:
        os.environ[rig.API_ENV] = asked.api  # for the pipelines of all parts
    os.environ[leftovers.MARK] = f"chaos-{os.getpid()}"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
    os.environ[pipeline.FOLDER_ENV] = str(folder)
    total, began = Tally(), time.monotonic()
    try:
        minutes = f" MINUTES={asked.minutes:g}" if asked.minutes is not None else ""
        _say(f"Seed {seed}; the same again: make chaos SEED={seed}{minutes}")
        warm = rig.warm_models(folder)
        if asked.minutes is not None:
            _run(_storms(asked.minutes * 60, seed, warm, asked.lanes), total, asked.lanes)
        else:
            swept = _swept(asked.resume)
            begun = swept.next_action > 0 or swept.next_pass > 1
            end = time.time() + asked.sweep * 60
            sweeping = Sweeping(seed, warm, end, total, swept, asked.resume, lanes=asked.lanes)
            sweeping.run([] if begun else _disasters(seed, warm))
            if not begun:
                _measure_recovery(total)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if left := _left_behind():
        total.findings.append(Finding("nothing is left behind", "illegal", f"processes: {left}"))
    if total.kills and not total.recovery_ms:
        total.findings.append(Finding("recoveries are measured", "illegal", f"none after {total.kills} kills"))
    _remember(total.failed_seeds)
    _say_findings(total)
    _say(f"{len(total.recovery_ms)} recoveries measured; took {time.monotonic() - began:.0f} s")
    _say(last_line(total, seed))
    return 1 if total.findings else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--minutes", type=float, help="only storm, for about that long (0.5 and 60 both work)")
    parser.add_argument("--sweep", type=float, default=SWEEP_MINUTES, help="minutes that the sweep may take")
    parser.add_argument(
        "--resume", type=Path, help="file of a sweep that goes on where its time was over, made if missing"
    )
    parser.add_argument("--lanes", type=int, choices=range(1, 17), default=LANES, help="pipelines beside each other")
    parser.add_argument("--api", choices=("platform", "trader"), help="over which API the broker is spoken to")
    parser.add_argument("--seed", type=int, help="of everything that is drawn; without it a new one")
    return parser.parse_args()


def _disasters(seed: int, warm: Path) -> list[Part]:
    return [
        ("everything at once", disasters.kill_everything, (warm, seed, ALL_AT_ONCE, ALL_AT_ONCE_S)),
        ("storm", storm.episode, (warm, seed, STORM_S)),
        *(("storm again", storm.episode, (warm, old, REPLAY_S)) for old in _old_seeds()[-REPLAYS_MAX:]),
        ("zombie", zombie.haunt, (warm,)),
        ("storm over the Trader API", storm.episode, (warm, seed, TRADER_STORM_S, TRADER)),
        ("zombie over the Trader API", zombie.haunt, (warm, zombie.POINTS[-1:], TRADER)),
        ("store killed", disasters.kill_the_store, (warm, seed, 10)),
        ("log torn", disasters.tear_the_log, (warm, seed, 60)),
        ("disk full", disasters.fill_the_disk, (warm,)),
        ("read-only", disasters.forbid_writing, (warm,)),
        ("clock", disasters.jump_the_clock, (warm,)),
        ("supervisor", disasters.kill_the_supervisor, (warm, seed, 10)),
    ]


class Swept(Struct):
    """How far a sweep has come: the next round, and which (point, action) a whole run met no more."""

    next_pass: int = 1
    next_action: int = 0  # of `sweep.ACTIONS`
    met: bool = False  # something of this pass
    over: set[tuple[str, str]] = field(default_factory=set)


def _swept(file: Path | None) -> Swept:
    """Return what `file` says, or a beginning. Raises SystemExit for a file that is no such record."""
    if file is None or not file.exists():
        return Swept()
    try:
        return msgspec.json.decode(file.read_bytes(), type=Swept)
    except msgspec.DecodeError as error:
        raise SystemExit(f"{file} says not how far a sweep has come: {error}") from error


class Sweeping:
    """The rounds of the sweep: an action at the n-th pass of all points that still meet it."""

    def __init__(
        self, seed: int, warm: Path, end: float, total: Tally, swept: Swept, file: Path | None = None, *, lanes: int
    ) -> None:  # fmt: skip
        self._dice = random.Random(seed)
        self._warm = warm
        self._end = end
        self._total = total
        self._wanted = sweep.all_names()
        self._swept = swept
        self._file = file
        self._lanes = lanes

    def run(self, beside: list[Part]) -> None:
        """Sweep, the first round beside other parts, until the time is over or nothing is met any more."""
        swept = self._swept
        while True:
            action, nth = sweep.ACTIONS[swept.next_action], swept.next_pass
            if in_loops := swept.next_action == 0 and nth > 1 and len(self._left()) <= LOOPS_MAX:
                swept.met = self._loops(nth) > 0
            else:
                count = self._round(action, nth, beside if (action, nth) == (sweep.ACTIONS[0], 1) else [])
                swept.met = swept.met or count > 0
            if time.time() >= self._end:
                _say(f"The time of the sweep is over in {action} at pass {nth}")
                break
            swept.next_action = 0 if in_loops else (swept.next_action + 1) % len(sweep.ACTIONS)
            if swept.next_action == 0:
                if not swept.met:
                    _say(f"Nothing is met at pass {nth} any more: the sweep is at its end")
                    break
                swept.next_pass, swept.met = nth + (LOOP_PASSES if in_loops else 1), False
            if self._file is not None:
                self._file.write_bytes(msgspec.json.encode(swept))
        fired = [(point, action, nth) for point, action, nth, did in self._total.swept if did]
        deepest = {action: max((n for _, one, n in fired if one == action), default=0) for action in sweep.ACTIONS}
        depths = ", ".join(f"{action} up to pass {depth}" for action, depth in deepest.items())
        reached = len({point for point, _, _ in fired})
        _say(f"Swept {reached} of {len(self._wanted)} points: {len(fired)} faults; {depths}")

    def _left(self) -> list[tuple[str, str]]:
        """Return which (point, action) were met whenever they were tried."""
        droppable = points.droppable()
        return [
            (point, action)
            for point, action in itertools.product(self._wanted, sweep.ACTIONS)
            if (point, action) not in self._swept.over and (action != "drop" or point in droppable)
        ]

    def _loops(self, nth: int) -> int:
        """Take several passes of all actions beside each other; return how often a point fired."""
        parts, left = list[Part](), self._left()
        for at, action in itertools.product(range(nth, nth + LOOP_PASSES), sweep.ACTIONS):
            wanted = [point for point, other in left if other == action]
            parts += self._parts(sweep.plan(wanted, action, self._dice), action, at)
        first = len(self._total.swept)
        _run(parts, self._total, self._lanes)
        done = self._total.swept[first:]
        missed = {(point, action) for point, action, _, did in done if not did}
        self._swept.over |= missed
        fired = sum(did for *_, did in done)
        never = (
            f"; met no more: {', '.join(sorted(f'{point} ({action})' for point, action in missed))}" if missed else ""
        )
        cut = "; cut by the time limit" if len(done) < LOOP_PASSES * len(left) else ""
        _say(f"[sweep: passes {nth} to {nth + LOOP_PASSES - 1} of {len(left)} loops] fired {fired} times{never}{cut}")
        return fired

    def _round(self, action: str, nth: int, beside: list[Part]) -> int:
        """Return how many points fired."""
        wanted = [point for point in self._wanted if (point, action) not in self._swept.over]
        if not beside and (not wanted or time.time() >= self._end):
            return 0
        first = len(self._total.swept)
        # First what has no time limit of its own: the whole run must end in time.
        parts = self._parts(sweep.plan(wanted, action, self._dice, self._lanes), action, nth)
        _run([*beside, *parts], self._total, self._lanes)
        missed = {point for point, _, _, _ in self._total.swept[first:]} - self._fired(first)
        if nth == 1 and missed:
            _run(self._parts(sweep.one_by_one(missed), action, nth), self._total, self._lanes)
        tried, fired = {point for point, _, _, _ in self._total.swept[first:]}, self._fired(first)
        self._swept.over |= {(point, action) for point in tried - fired}
        if (action, nth) == (sweep.ACTIONS[0], 1):  # what a whole run with kill does not pass, no other action meets
            self._swept.over |= {(point, other) for point in tried - fired for other in sweep.ACTIONS}
        fitting = len(wanted) if action != "drop" else len(points.droppable().intersection(wanted))
        never = f"; not met: {', '.join(sorted(tried - fired))}" if tried - fired else ""
        cut = "; cut by the time limit" if len(tried) < fitting else ""
        _say(f"[sweep: {action} at pass {nth}] fired at {len(fired)} of {fitting} points{never}{cut}")
        return len(fired)

    def _fired(self, first: int) -> set[str]:
        return {point for point, _, _, did in self._total.swept[first:] if did}

    def _parts(self, jobs: list[sweep.Job], action: str, nth: int) -> list[Part]:
        return [("", sweep.run, (job, action, nth, self._warm, self._end)) for job in jobs]


def _measure_recovery(total: Tally) -> None:
    """Print the times from `kill -9` to useful work, beside those of other process managers, with nothing else on."""
    _say(f"Recovery, load average {os.getloadavg()[0]:.1f}:")
    command = [sys.executable, "-m", "tests.bench.recovery", str(KILLS_MEASURED)]
    try:
        done = subprocess.run(command, timeout=MEASURE_S, check=False, capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        _say(f"not measured: more than {MEASURE_S:g} s")
        return
    _say(done.stdout.strip())
    if done.returncode != 0:
        total.findings.append(Finding("recovery can be measured", "illegal", done.stderr[-2_000:]))


def _storms(seconds: float, seed: int, warm: Path, lanes: int) -> list[Part]:
    """Cut the time into episodes on fresh pipelines: a seed that fails is then short to run again."""
    lanes = 1 if seconds < 2 * EPISODE_S else lanes
    count = max(1, round(seconds * lanes / EPISODE_S)) if seconds > EPISODE_S else 1
    length = seconds * lanes / count
    return [("storm", storm.episode, (warm, seed + number, length)) for number in range(count)]


def _run(parts: list[Part], total: Tally, lanes: int) -> None:
    """Run the parts beside each other and add up what they did."""
    if not parts:
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(lanes, len(parts)), mp_context=context) as pool, _ended_with_us(pool):
        asked: dict[Future[Tally], str] = {pool.submit(work, *given): name for name, work, given in parts}
        for done in as_completed(asked):
            if (failed := done.exception()) is not None:
                tally = Tally(findings=[Finding("the part runs", "illegal", f"{asked[done]}: {failed!r}")])
            else:
                tally = done.result()
            total.add(tally)
            if not (name := asked[done]) and not tally.findings:
                continue
            verdict = f"{len(tally.findings)} VIOLATIONS" if tally.findings else "held"
            _say(f"[{name or 'sweep'}] {verdict}: {tally.kills} kills, {tally.faults} faults. {' '.join(tally.notes)}")
            _say_findings(tally)  # now, too: a long run may be ended before its end


@contextlib.contextmanager
def _ended_with_us(pool: ProcessPoolExecutor) -> Iterator[None]:
    """When this run is ended from outside, end its parts and their pipelines with it."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        pool.shutdown(wait=False, cancel_futures=True)
        while left := _ours():  # a supervisor may start one more before its own turn comes
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        raise


def _ours() -> dict[int, str]:
    """Return the processes of this run; Python's own helper lives as long as we do."""
    return {pid: name for pid, name in leftovers.find().items() if "resource_tracker" not in name}


def _left_behind() -> dict[int, str]:
    """Return the processes of this run that still live after a while."""
    end = time.monotonic() + LEAVE_S
    while (left := _ours()) and time.monotonic() < end:
        time.sleep(0.1)
    return left


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


def _say_findings(tally: Tally) -> None:
    for finding in tally.findings:
        _say(f"VIOLATION ({finding.category}) {finding.check}: {finding.text}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
