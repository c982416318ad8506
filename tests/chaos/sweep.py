"""Every named point, every action, at the first, second, ... n-th pass, until a run meets no fault. Part (a).

Points that trading passes are armed on a running pipeline, one of each process at a time: a small workload runs over
them, the faults fire, the supervisor recovers, the checker holds; the same pipeline then meets the next faults. What
the workload does not pass, a killed process's replacement may. What needs more has a workload of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bus import messages
from bus.vocabulary import Role, Status
from tests.chaos import workloads
from tests.chaos.figures import Tally
from tests.chaos.rig import Rig, rigged
from tests.chaos.workloads import Model, Turn, Workload
from tests.kit import bridge, points

ACTIONS = ("kill", "drop", "stop 2.5", "error")  # a stop that outlasts the watchdog
NOT_HERE = ("pilot.", "dashboard.", "alerts.")  # the operator's side
NEVER: dict[str, str] = dict.fromkeys(
    (*workloads.told("paper.report"), *workloads.both("paper.take_ack")), "the paper broker tells the store nothing"
) | dict.fromkeys(
    workloads.told("scanner.invalidate"), "the scanner takes nothing back; the message is for scanners that do"
) | dict.fromkeys(
    workloads.told("executor.count_requests"), "only for a store that goes away in the middle of reconciling"
) | dict.fromkeys(
    (name for name in points.names() if name.startswith("alerts.")),
    "no order depends on the alerts process; tests/integration/test_alerts_process.py kills it at its own points",
) | dict.fromkeys(
    workloads.both("pilot.backup", "pilot.bundle", "pilot.init", "pilot.restore_safe", "pilot.restore_mark",
                   "pilot.restore_aside", "pilot.restore_place", "pilot.restore_end"),
    "files of the operator, written outside the pipeline: killed at each by tests/integration/test_pilot_keeping.py",
) | dict.fromkeys(
    workloads.both("store.keep_former"), "only before an upgrade; tests/integration/test_upgrade.py kills it there"
) | dict.fromkeys(
    workloads.both("pilot.export_table", "pilot.keep_export", "pilot.keep_journal"),
    "a reader's file beside the pipeline; tests/integration/test_records.py kills it there"
) | dict.fromkeys(
    workloads.both("store.archive", "store.archived"),
    "only for what ended 400 days ago, which concerns no order; tests/integration/test_archive.py kills it there",
) | dict.fromkeys(
    workloads.both("supervisor.write_key", "supervisor.revoke"),
    "files of the operator about other hosts: killed at each by tests/integration/test_hosts_keys.py",
) | dict.fromkeys(
    workloads.both("store.shorten_log"),
    "after hundreds of pages, which no workload writes; it moves what is committed, as SQLite used to do by itself"
) | dict.fromkeys(
    workloads.both("scan.ask"), "Twelve Data is not asked by a pipeline that needs no network"
) | dict.fromkeys(
    workloads.both("supervisor.export"),
    "files for the place where it runs, written by hand before anything runs: it concerns no order",
) | dict.fromkeys(
    workloads.both("pilot.pin", "pilot.unpin", "pilot.write_report"),
    "a file of the operator's about the ranking: it concerns no order, and no process waits for it"
) | dict.fromkeys(
    workloads.both("supervisor.keep_report"),
    "what people are told when a process is given up, which ends a run here; tests/unit/test_untold.py stops there",
) | dict.fromkeys(
    (name for name in points.names() if name.startswith("dashboard.")),
    "the page reads; what an operator orders on it are the commands of pilot, which are swept",
)  # fmt: skip
"""Points that the list spells out because the process may send the message, and that no process passes, with why."""
RUN_BY = {"broker": "executor.1", "scan": "scanner.1", "supervisor": "llm.1"}  # whose death leads to the point
AT_A_START = ("_ready", "_first_look", "_take_welcome", "store.before_open", "store.after_open", "_epoch", "_create")
AT_A_DEATH = ("_end_leftover", "_forget")
FIRE_S = 1.2  # a workload is through in half of that
REPLACED_S = 6.0  # a process is, too; a scan takes longer
STRUCK_S = 0.1  # a point's file says that it fired just before it does
FROZEN_S = 3.0  # longer than the watchdog waits
PROVOKED: dict[str, list[dict[str, Any]]] = {
    "_edit": [{"fault": "ignore_stop", "on": "open"}],
    "_close": [{"fault": "ignore_stop", "on": "open"}, {"fault": "reject_200", "on": "edit", "times": 3}],
    # Placed only after the next executor's first look, within its quiet period: not there yet is not absent.
    "_look": [{"fault": "place_late", "on": "open", "seconds": 0.65}],
    "_order_unknown": [{"fault": "lose_answer_reset", "on": "open"}],
    "_order_failed": [{"fault": "reject_200", "on": "open"}],
    "_reject": [{"fault": "quotes_missing", "on": "quotes"}],
    "_release": [{"fault": "status_503", "on": "quotes"}],
}  # fmt: skip
ASKED = ("_request", "_answer")  # of the supervisor, by a command line
SCANNED = 3  # intents of the first scan
FED = 3  # intents of the small workload: the same at every pass, so that a run which meets no fault must come
BATCHES_A_PIPELINE = 6
CONSOLE_CHARS = 4_000

Batch = tuple[str, ...]
Job = Workload | tuple[Batch, ...]  # a workload of its own, or batches for one running pipeline


def names() -> list[str]:
    """Return every named point that a process of the pipeline can pass, sorted."""
    return [name for name in points.names() if not name.startswith(NOT_HERE) and name not in NEVER]


def all_names() -> list[str]:
    """Return these and the operator's."""
    operators = (name for name in points.names() if name.startswith("pilot.") and name not in NEVER)
    return sorted([*names(), *operators])


def plan(wanted: Iterable[str], action: str, dice: random.Random, lanes: int = 1) -> list[Job]:
    """Return jobs that lead to these points, in an order that is drawn: what a time limit cuts off then varies.

    Of the last few points each of `lanes` pipelines gets its share.
    """
    fitting = {name for name in wanted if action != "drop" or name in points.droppable()}
    found: list[Job] = list(workloads.iterate(fitting))
    batches = _batches(sorted(fitting - {point for one in workloads.ALL for point in one.points}), dice)
    found += _grouped(batches, lanes)
    dice.shuffle(found)
    return found


def one_by_one(missed: Iterable[str]) -> list[Job]:
    """Return a job for each point that did not fire in company."""
    wanted = sorted(missed)
    alone: list[Job] = [one for name in wanted for one in workloads.iterate({name})]
    others = [name for name in wanted if not any(name in one.points for one in workloads.ALL)]
    return [*alone, *_grouped([(name,) for name in others])]


def _grouped(batches: list[Batch], lanes: int = 1) -> list[tuple[Batch, ...]]:
    """Return the batches as they share pipelines."""
    size = min(BATCHES_A_PIPELINE, max(1, -(-len(batches) // lanes)))
    return [tuple(batches[begin : begin + size]) for begin in range(0, len(batches), size)]


def _batches(wanted: Sequence[str], dice: random.Random) -> list[Batch]:
    """Arm at most one point of a process at a time; executor and monitor share those of the broker's client."""
    by_process: dict[str, list[str]] = defaultdict(list)
    for name in dice.sample(wanted, len(wanted)):
        process = name.partition(".")[0]
        by_process["executor" if process == "broker" else "scanner" if process == "scan" else process].append(name)
    return [tuple(filter(None, row)) for row in itertools.zip_longest(*by_process.values())]


def run(job: Job, action: str, nth: int, warm: Path, end: float) -> Tally:
    """Do one job; nothing when the time is over. `Tally.swept` then says what fired."""
    tally = Tally()
    if time.time() >= end:
        return tally
    if isinstance(job, Workload):
        _on_its_own(tally, job, action, nth, warm)
        return tally
    batches = list(job)
    while batches and time.time() < end:
        with rigged(tally, warm=warm) as rig:
            if not rig.begin():
                return tally
            while batches and time.time() < end:
                if not _meet(rig, batches.pop(0), action, nth):
                    break
    return tally


def lane(wanted: list[str], warm: Path, budget_s: float, actions: tuple[str, ...] = ("kill",)) -> Tally:
    """Sweep these points at their first pass, here and one job after the other."""
    total, end = Tally(), time.time() + budget_s
    for action in actions:
        for job in plan(wanted, action, random.Random(0)):
            total.add(run(job, action, 1, warm, end))
        fired = {point for point, _, _, did in total.swept if did}
        for job in one_by_one(set(wanted) - fired):
            total.add(run(job, action, 1, warm, end))
    return total


# ── a running pipeline ──────────────────────────────────────────────────────


def _meet(rig: Rig, batch: Batch, action: str, nth: int) -> bool:
    """Arm, work, recover, check. True when everything held, also when a point was not passed."""
    what = f"{action} at pass {nth} of {', '.join(batch)}"
    before = len(rig.tally.findings)
    rig.disarm()
    for point in batch:
        rig.run.arm(point, action, at_pass=nth)
        _provoke(rig, point)
    if not all(point.endswith(AT_A_START) or point.startswith(AT_A_START) for point in batch):
        rig.feed(FED)
        rig.close_positions(keep=2)
        _wait(rig, batch, FIRE_S)
    if any(point.endswith(ASKED) for point in batch):
        rig.run.run("status", timeout_s=20)
    # Passes are counted within one life of a process: a replacement begins anew, and passes what a start passes once.
    others = [point for point in batch if nth == 1 or point.startswith("supervisor.")]
    _let_starts_pass(rig, [point for point in others if not rig.run.fired(point)])
    _note(rig, batch, action, nth)
    if any(point.endswith("_release") for point in batch):
        _cancel_waiting(rig)
    rig.disarm()
    rig.come_to_rest(what)
    if len(rig.tally.findings) > before:
        _show(rig, what)
    return len(rig.tally.findings) == before


def _wait(rig: Rig, batch: Batch, seconds: float) -> None:
    rig.wait(lambda: all(rig.run.fired(point) for point in batch), seconds)


def _provoke(rig: Rig, point: str) -> None:
    """Make the broker do what leads to the point."""
    for ending, faults in PROVOKED.items():
        for fault in faults if point.endswith(ending) else ():
            rig.broker("/paper/faults", **fault)


def _let_starts_pass(rig: Rig, left: list[str]) -> None:
    """Kill the processes of points that work did not lead to: their replacements may pass them."""
    if not left:
        return
    if any(point.startswith(("scan.", "scanner.")) for point in left):
        (rig.run.data / "models" / "last_scan.json").unlink(missing_ok=True)  # else nothing is proposed again
    if any(point.startswith("supervisor.") for point in left):
        rig.freeze("monitor.1", FROZEN_S)  # until the watchdog kills it
    if any(point.endswith(AT_A_DEATH) for point in left):
        rig.kill("supervisor")  # the next one finds the frozen monitor
        rig.wait(lambda: any(rig.run.fired(point) for point in left), REPLACED_S)
    for name in sorted({RUN_BY.get(process, f"{process}.1") for process in (one.partition(".")[0] for one in left)}):
        rig.kill(name)
    _wait(rig, tuple(left), REPLACED_S)


def _cancel_waiting(rig: Rig) -> None:
    """Take back what waits for another try: that takes longer than a sweep has."""
    rig.wait(lambda: rig.run.counts().get(Status.READY_FOR_EXEC), FIRE_S)
    for intent in rig.run.intents(Status.READY_FOR_EXEC):
        rig.ask(messages.Cancel(intent_id=intent.id, operator="chaos", reason="not waited for"), Role.PILOT)


# ── a pipeline of its own ───────────────────────────────────────────────────


def _on_its_own(tally: Tally, job: Workload, action: str, nth: int, warm: Path) -> None:
    what = f"{action} at pass {nth} of {', '.join(job.points)}"
    changes = {name: dict(values) for name, values in job.changes.items()}
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(Model()) if job.needs_model else None
        if model is not None:
            changes["llm"]["base_url"] = model.server.url
        if job.needs_bridge:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pb-")))
            changes["llm"]["tradingagents_python"] = str(bridge.environment(folder))
        heat = None if job.is_cold else warm
        rig = stack.enter_context(rigged(tally, warm=heat, strict=job.is_strict, changes=changes))
        rig.wanted = job.wanted
        if job.begins and not rig.begin(*job.arguments):
            return
        job.work(Turn(rig, job.points, action, nth, model))
        _note(rig, job.points, action, nth)
        rig.disarm()
        # At rest is enough: a workload whose fault did not come may leave a halt behind, under which an intent waits.
        if job.scans and not rig.wait(lambda: rig.run.all_settled() or _has_scanned(rig), workloads.SETTLE_S):
            rig.report("the pipeline recovers", f"{what}: the first scan was never finished: {rig.run.counts()}")
        rig.come_to_rest(what)
        rig.stop()
        if tally.findings:
            _show(rig, what)


def _has_scanned(rig: Rig) -> bool:
    return sum(rig.run.counts().values()) >= SCANNED and rig.at_rest()


# ── what was met ────────────────────────────────────────────────────────────


def _note(rig: Rig, wanted: Iterable[str], action: str, nth: int) -> None:
    """Take down what fired. How long a recovery takes is measured where one process died alone."""
    rig.wait(lambda: False, STRUCK_S)
    fired = [point for point in wanted if rig.run.fired(point)]
    rig.tally.swept += [(point, action, nth, point in fired) for point in wanted]
    if action != "kill":
        rig.tally.faults += len(fired)
        return
    rig.tally.kills += len(fired)
    if len(fired) == 1 and not fired[0].startswith(("supervisor.", "pilot.", "scan.", "model.")):
        rig.note_kill_of(fired[0])


def _show(rig: Rig, what: str) -> None:
    rig.tally.notes.append(f"--- console after {what} ---\n{rig.run.console()[-CONSOLE_CHARS:]}")
