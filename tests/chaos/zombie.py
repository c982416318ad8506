"""An executor stopped between its permission and its POST, woken when that is gone: it sends nothing. Part (c).

First as it can happen: the lock stays with the stopped one, and only its licence is too old. Then as it cannot, with
the locks taken away on purpose: a successor has settled the order and works on, and the old one wakes up. At last an
analyst that wakes up while another one holds its intent: its verdict is stale.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from bus import runtime
from bus.vocabulary import OrderStatus, Outcome
from config import load
from tests.chaos.figures import Tally
from tests.chaos.rig import Changes, Rig, rigged

POINTS = ("executor.before_reserve", "executor.after_reserve", "executor.before_post")
LICENCE_S = 0.5
TRIES_MAX = 5  # of orders that are refused before they are licensed
HELD_S = 0.7  # shorter than the silence that loses a lease
PATIENT: Changes = {"executor": {"licence_s": LICENCE_S, "quiet_s": 0.8}, "supervisor": {"watchdog_s": 60.0}}


# A successor would open what the stopped one holds, while its figures are young: here it must find it absent.
ONLY_LOOKS: Changes = {"executor": {**PATIENT["executor"], "keyed_retry_s": 0.0}, "supervisor": PATIENT["supervisor"]}


def haunt(warm: Path, points: tuple[str, ...] = POINTS, changes: Changes | None = None) -> Tally:
    """Stop an executor at each of the points, and once more with a successor. `changes`: such as another API."""
    tally, more = Tally(), changes or {}
    for point in points:
        with rigged(tally, warm=warm, changes=PATIENT | more) as rig:
            _stopped_too_long(rig, point)
    with rigged(tally, warm=warm, changes=ONLY_LOOKS | more) as rig:
        _succeeded(rig)
    with rigged(tally, warm=warm, changes=PATIENT) as rig:
        _analyst(rig)
    tally.notes.append(
        f"Zombies: {len(points)} woken after their licence, 1 after its successor had taken over, "
        "1 analyst while another held its intent"
    )
    return tally


def _stopped_too_long(rig: Rig, point: str) -> None:
    what = f"executor stopped at {point} and woken after its licence"
    if not rig.begin():
        return
    for _ in range(TRIES_MAX):
        before = _refusals(rig)
        pid = _stop_one(rig, point, what)
        if not pid:
            return
        time.sleep(LICENCE_S + 0.2)  # nothing to wait for: the licence must grow old
        os.kill(pid, signal.SIGCONT)
        rig.come_to_rest(what)
        # The account may change while it stands still: then it is refused, and asks for a new licence with new figures.
        if _orders(rig, OrderStatus.FAILED) or _refusals(rig) == before:
            break
        rig.disarm()
    _sent_nothing(rig, what)


def _succeeded(rig: Rig) -> None:
    what = "executor stopped before its POST and woken after a successor had settled its order"
    pid = _stop_one(rig, "executor.before_post", what) if rig.begin() else 0
    if not pid:
        return
    for lock in (*(rig.run.folder / "run").glob("pilot-*/executor*.lock"), *rig.run.data.glob("executor*.lock")):
        lock.unlink()
    env = rig.run.env | {"PILOT_SLOT": "1", "PILOT_INCARNATION": runtime.new_incarnation()}
    with (rig.run.folder / "console.log").open("ab") as log:
        successor = subprocess.Popen(
            [sys.executable, "-m", "actors.executor"], cwd=load.ROOT, env=env, stdout=log, stderr=log
        )
    try:
        if not rig.wait(lambda: _orders(rig, OrderStatus.FAILED) == 1, 40):
            rig.report("a successor settles", f"{what}: {rig.run.console()[-2_000:]}")
        rig.feed(1)  # the successor goes on meanwhile
        rig.wait(rig.at_rest, 10)
        os.kill(pid, signal.SIGCONT)
        _sent_nothing(rig, what, fed=2)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        successor.kill()
        successor.wait()


def _analyst(rig: Rig) -> None:
    what = "analyst woken while another one held its intent"
    rig.wanted = 7
    if not rig.begin("--scale", "llm=2"):
        return
    rig.run.arm("llm.before_decide", "stop")
    rig.feed(1)
    if not rig.wait(lambda: rig.run.fired("llm.before_decide"), 10):
        rig.report("the point is reached", what)
        return
    rig.disarm()
    rig.run.arm("llm.before_decide", f"sleep {HELD_S}")
    if not rig.wait(lambda: rig.run.fired("llm.before_decide"), 10):
        rig.report("a lost lease is claimed again", what)
    rig.tally.faults += 2
    rig.wake_all()
    rig.come_to_rest(what)
    outcomes = [ack["outcome"] for ack in rig.histories().acks if ack["kind"] == "Decide"]
    if outcomes.count("stale") != 1:
        rig.report("a zombie's verdict is stale", f"{what}: verdicts were answered {outcomes}")


def _stop_one(rig: Rig, point: str, what: str) -> int:
    """Stop the executor over the next order; return its pid, 0 when it was not reached."""
    pid = rig.children()["executor.1"]
    rig.run.arm(point, "stop")
    rig.feed(1)
    if not rig.wait(lambda: rig.run.fired(point), 10):
        rig.report("the point is reached", what)
        return 0
    rig.tally.faults += 1
    return pid


def _sent_nothing(rig: Rig, what: str, fed: int = 1) -> None:
    """Check all, and that of the orders fed exactly the stopped one was never received."""
    rig.come_to_rest(what)
    found = rig.histories()
    if len(found.received) != len(found.orders) - 1 or _orders(rig, OrderStatus.FAILED) != 1:
        rig.report(
            "a zombie sends nothing",
            f"{what}: {len(found.orders)} orders, {len(found.received)} received, {_orders(rig, OrderStatus.FAILED)} "
            f"failed, {fed} fed\n{rig.run.console()[-3_000:]}",
        )


def _refusals(rig: Rig) -> int:
    """Return how many reservations were refused so far."""
    acks = rig.histories().acks
    return sum(ack["kind"] == "ReserveOrder" and ack["outcome"] == Outcome.REFUSED for ack in acks)


def _orders(rig: Rig, status: OrderStatus) -> int:
    return sum(order.status == status for order in rig.histories().orders)
