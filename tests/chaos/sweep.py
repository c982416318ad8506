"""Every named point, every action, at the first, second, ... n-th pass, until a run meets no fault. Part (a).

A point is armed on a running pipeline, a small workload runs over it, the fault fires, the supervisor recovers, the
checker holds; the same pipeline then meets the next fault. Where the workload does not pass the point, its process is
killed, so that the replacement does; what only a first start passes gets a pipeline of its own each time. Lanes run
beside each other, each in its own process.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.chaos.figures import Tally
from tests.chaos.rig import Changes, Rig, rigged
from tests.kit import points

ACTIONS = ("kill", "drop", "stop 2.5", "error")  # a stop that outlasts the watchdog
# Passed only by the first start of all, by the training of a model, or when prices crash.
FIRST_START = (
    "store.before_create", "store.after_create", "store.before_migrate", "store.after_migrate", "model.",
    "monitor.before_start_day", "monitor.after_start_day", "monitor.before_send_start_day",
    "monitor.after_send_start_day", "monitor.after_ack_start_day", "supervisor.before_ready", "supervisor.after_ready",
)  # fmt: skip
AT_THE_STOP = ("store.before_checkpoint", "store.after_checkpoint")
AT_A_CRASH = tuple(
    f"monitor.{point}{what}"
    for what in ("close", "raise_halt")
    for point in ("before_", "after_", "before_send_", "after_send_", "after_ack_")
)
NOT_HERE = ("pilot.", "dashboard.")  # the operator's command lines
RUN_BY = {"broker": "executor.1", "scan": "scanner.1", "supervisor": "llm.1"}  # whose death leads to the point
PASSES_MAX = 4
FIRE_S = 1.0  # a workload is through in half of that
REPLACED_S = 3.0  # a process is, too
PROVOKED: dict[str, list[dict[str, Any]]] = {
    "_edit": [{"fault": "ignore_stop", "on": "open"}],
    "_close": [{"fault": "ignore_stop", "on": "open"}, {"fault": "reject_200", "on": "edit", "times": 3}],
    # Placed only after the next executor's first look, within its quiet period: not there yet is not absent.
    "_look": [{"fault": "place_late", "on": "open", "seconds": 0.65}],
    "_order_unknown": [{"fault": "lose_answer_reset", "on": "open"}],
    "_order_failed": [{"fault": "reject_200", "on": "open"}],
}
RENEW_AFTER = 40  # faults on one pipeline
CONSOLE_CHARS = 4_000
RUNNING, FRESH = "running", "fresh"  # where a point is passed


def names() -> list[str]:
    """Return every named point that a process of the pipeline can pass, sorted."""
    return [name for name in points.names() if not name.startswith(NOT_HERE)]


def lane(
    names: list[str],
    warm: Path,
    budget_s: float,
    passes_max: int = PASSES_MAX,
    actions: tuple[str, ...] = ACTIONS,
) -> Tally:
    """Sweep these points for at most `budget_s`; say in the notes how deep they were reached, and which never."""
    sweep = Sweep(names, warm, time.monotonic() + budget_s, actions)
    for nth in range(1, passes_max + 1):
        sweep.round(nth)
    sweep.tally.notes.append(sweep.summary())
    return sweep.tally


class Sweep:
    """The sweep of some points."""

    def __init__(self, names: list[str], warm: Path, end: float, actions: tuple[str, ...]) -> None:
        self.tally = Tally()
        self._actions = actions
        self._names = names
        self._warm = warm
        self._end = end
        self._reached: dict[str, int] = {}  # the deepest pass at which a point fired
        self._over: set[tuple[str, str, str]] = set()  # (point, action, where) that a run met no more

    def round(self, nth: int) -> None:
        """Let every point that still fires do so at its n-th pass, once with every action."""
        apart = (*FIRST_START, *AT_THE_STOP, *AT_A_CRASH)
        running = [name for name in self._names if not name.startswith(apart)]
        for action in self._actions:
            self._on_running(self._jobs(running, action, RUNNING), nth)
            for point, _ in self._jobs([name for name in self._names if name not in running], action, FRESH):
                self._on_fresh(point, action, nth)
        # What no running pipeline passes may be passed by a first start.
        missed = [name for name in running if name not in self._reached]
        for point, action in self._jobs(missed, self._actions[0], FRESH):
            self._on_fresh(point, action, nth)

    def summary(self) -> str:
        missed = [name for name in self._names if name not in self._reached]
        deepest = max(self._reached.values(), default=0)
        text = f"Swept {len(self._reached)} of {len(self._names)} points, up to pass {deepest}"
        tried = [
            name for name in missed if any((name, self._actions[0], where) in self._over for where in (RUNNING, FRESH))
        ]
        text += "; cut by the time limit" if self._is_over() else ""
        return text + (f"; not passed by any workload: {', '.join(tried)}" if tried else "")

    def _jobs(self, names: list[str], action: str, where: str) -> Iterator[tuple[str, str]]:
        for name in names:
            fits = action != "drop" or name in points.droppable()
            if fits and not self._is_over() and (name, action, where) not in self._over:
                yield name, action

    def _is_over(self) -> bool:
        return time.monotonic() >= self._end

    def _on_running(self, jobs: Iterator[tuple[str, str]], nth: int) -> None:
        """Take one pipeline after another through the faults."""
        job = next(jobs, None)
        while job is not None:
            with rigged(self.tally, warm=self._warm) as rig:
                if not rig.begin():
                    return
                for _ in range(RENEW_AFTER):
                    what = f"{job[1]} at pass {nth} of {job[0]}"
                    held = self._meet(rig, *job, nth, what)
                    job = next(jobs, None)
                    if not held:
                        self._show(rig, what)
                        break
                    if job is None:
                        break

    def _meet(self, rig: Rig, point: str, action: str, nth: int, what: str) -> bool:
        """Arm, work, recover, check. True when everything held, also when the point was not passed."""
        rig.disarm()
        rig.run.arm(point, action, at_pass=nth)
        _provoke(rig, point)
        rig.feed(2)
        rig.close_positions(keep=2)
        if not rig.wait(lambda: rig.run.fired(point), FIRE_S):
            self._let_a_start_pass(rig, point)
        return self._see_through(rig, point, action, nth, what, RUNNING)

    def _let_a_start_pass(self, rig: Rig, point: str) -> None:
        process = point.partition(".")[0]
        if process in ("scanner", "scan"):
            (rig.run.data / "models" / "last_scan.json").unlink(missing_ok=True)  # else nothing is proposed again
        if process == "supervisor":
            rig.freeze("monitor.1", REPLACED_S)  # until the watchdog kills it
        if point.endswith(("_end_leftover", "_forget")):
            rig.kill("supervisor")  # the next one finds the frozen monitor
            rig.wait(lambda: rig.run.fired(point), REPLACED_S)
            rig.run.run("status", timeout_s=20)
        rig.kill(RUN_BY.get(process, f"{process}.1"))
        rig.wait(lambda: rig.run.fired(point), REPLACED_S)

    def _on_fresh(self, point: str, action: str, nth: int) -> None:
        """Let a start and a scan pass the point, and one process die, so that its replacement passes it, too."""
        what = f"{action} at pass {nth} of {point}, from the start"
        cold = point.startswith("model.")  # a trained model is not trained again
        crash = point.startswith(AT_A_CRASH)
        changes: Changes = {"executor": {"risk_per_trade_ratio": 0.005}} if crash else {}
        with rigged(self.tally, warm=None if cold else self._warm, strict=crash, changes=changes) as rig:
            rig.run.arm(point, action, at_pass=nth)
            rig.start()
            rig.wait(lambda: rig.run.fired(point) or (rig.run.all_settled() and rig.at_rest()), 30)
            if crash:
                _crash_prices(rig)
            elif not rig.run.fired(point):
                rig.kill("llm.1")
            held = self._see_through(rig, point, action, nth, what, FRESH)
            if cold and rig.run.fired(point):
                rig.kill("scanner.1")  # a scan that failed is tried again after a minute, or by the next scanner
            if not rig.wait(rig.run.all_settled, 30):
                rig.report("the pipeline recovers", f"{what}: the first scan was never finished: {rig.run.counts()}")
                held = False
            had_fired = rig.run.fired(point)
            rig.stop(point)
            if rig.run.fired(point) and not had_fired:
                self._fired(rig, point, action, nth)
                rig.start()
                held = rig.come_to_rest(what) and held
                rig.stop()
            if not held:
                self._show(rig, what)

    def _see_through(self, rig: Rig, point: str, action: str, nth: int, what: str, where: str) -> bool:
        if rig.wait(lambda: rig.run.fired(point), FIRE_S if where == FRESH else 0):
            self._fired(rig, point, action, nth)
            if action == "kill" and not point.startswith("supervisor."):
                rig.note_kill_of(point)
        else:
            # Not even once by a whole workload: then with no other action either.
            self._over.update((point, one, where) for one in (self._actions if nth == 1 else (action,)))
        return rig.come_to_rest(what)

    def _fired(self, rig: Rig, point: str, action: str, nth: int) -> None:
        self._reached[point] = max(self._reached.get(point, 0), nth)
        self._over -= {(point, one, FRESH) for one in self._actions if nth == 1}
        if action == "kill":
            rig.tally.kills += 1
        else:
            rig.tally.faults += 1

    def _show(self, rig: Rig, what: str) -> None:
        self.tally.notes.append(f"--- console after {what} ---\n{rig.run.console()[-CONSOLE_CHARS:]}")


def _provoke(rig: Rig, point: str) -> None:
    """Make the broker do what leads to the point."""
    for ending, faults in PROVOKED.items():
        for fault in faults if point.endswith(ending) else ():
            rig.broker("/paper/faults", **fault)


def _crash_prices(rig: Rig) -> None:
    """Let a pair gap through its stop by a tenth, so that the daily limit is reached and the rest is flattened."""
    with contextlib.suppress(IndexError):
        plan = rig.histories().orders[0].plan
        factor = 9 if plan.side == "BUY" else 11
        rig.broker("/paper/price", symbol=plan.broker_symbol, bid=str(round(plan.entry_price * factor / 10, 5)))
