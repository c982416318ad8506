"""Seeded misfortune on one pipeline for a while: kills, stops, sleeps, broker faults, all while it trades. Part (b).

The same seed draws the same misfortunes in the same order; what they meet depends on the machine. Nothing is drawn that
the guarantees exclude: a broker that hides or delays an order for longer than the quiet period, or that lies.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

from actors.broker.paper import catalogue
from store.queries import DatabaseRefused
from tests.chaos import sweep
from tests.chaos.figures import Tally
from tests.chaos.rig import Changes, Rig, rigged
from tests.kit import points

QUIET_S = 3.0
BROKER_AWAY_S = 0.8  # the longest that the broker stands still or is late: well within the quiet period
SETTINGS: Changes = {"executor": {"quiet_s": QUIET_S}}
PAUSE_S = (0.05, 1.2)
REST_S = 60.0  # a broker that is busy is tried again after 10 s
ROLES = ("store.1", "scanner.1", "llm.1", "executor.1", "monitor.1", "paper.1")
POSITIONS_KEPT = 4
EXCLUDED = {
    # lets the look after the quiet period see what is not so: hidden for longer than the window
    "positions_vanish", "history_vanishes", "history_late", "stale_read", "hide_position",
    # a login that is refused is not tried again for two minutes
    "login_refused", "other_account",
}  # fmt: skip
EVENTS = {"kill": 8, "freeze": 3, "broker": 8, "failpoint": 8, "slow disk": 2, "supervisor": 1, "everything": 1}


def episode(warm: Path, seed: int, seconds: float, changes: Changes | None = None) -> Tally:
    """Storm for about `seconds`, let it come to rest, check. The seed is in the tally's notes, failed ones apart.

    `changes` are settings by section, such as another API.
    """
    tally, dice = Tally(), random.Random(seed)
    with rigged(tally, warm=warm, changes=SETTINGS | (changes or {})) as rig:
        if rig.begin():
            told = _storm(rig, dice, time.monotonic() + seconds)
            _calm(rig)
            rig.come_to_rest(f"storm with seed {seed}", REST_S)
            if not tally.findings:
                rig.stop()
        tally.unknown_left = _unknown_left(rig)
        if tally.findings:
            tally.failed_seeds.append(seed)
            tally.notes.append(f"--- console of the storm with seed {seed} ---\n{rig.run.console()[-6_000:]}")
        else:
            tally.notes.append(f"Storm with seed {seed}: {seconds:.0f} s, {rig.fed} intents fed; {told}")
    return tally


def _storm(rig: Rig, dice: random.Random, end: float) -> str:
    met: dict[str, int] = {}
    while time.monotonic() < end and not rig.tally.findings:
        rig.wait(lambda: False, dice.uniform(*PAUSE_S))
        rig.feed(dice.randint(1, 3), deadline_s=2.0)
        event = dice.choices(list(EVENTS), list(EVENTS.values()))[0]
        _strike(rig, dice, event)
        met[event] = met.get(event, 0) + 1
        if dice.random() < 0.2:
            rig.close_positions(keep=POSITIONS_KEPT)
        if dice.random() < 0.2:
            _operate(rig)
        rig.measure()
    return ", ".join(f"{times} x {event}" for event, times in sorted(met.items()))


def _strike(rig: Rig, dice: random.Random, event: str) -> None:
    name = dice.choice(ROLES)
    away_s = dice.uniform(0.1, BROKER_AWAY_S if name == "paper.1" else 3.0)
    if event == "kill":
        rig.kill(name)
    elif event == "freeze":
        rig.freeze(name, away_s)
    elif event == "supervisor":
        rig.kill("supervisor")
    elif event == "everything":
        rig.kill_everything()
    elif event == "slow disk":
        rig.run.arm(dice.choice(["store.before_commit", "store.after_commit"]), f"sleep {dice.uniform(0.1, 1):.2f}")
        rig.tally.faults += 1
    elif event == "failpoint":
        _arm(rig, dice)
    else:
        names = sorted(name for name, one in catalogue.ALL.items() if not one.is_lie and name not in EXCLUDED)
        body = {"fault": dice.choice(names), "seconds": round(dice.uniform(0.05, BROKER_AWAY_S), 2)}
        rig.tally.faults += rig.broker("/paper/faults", **body)


def _arm(rig: Rig, dice: random.Random) -> None:
    point = dice.choice(sweep.names())
    seconds = dice.uniform(0.1, BROKER_AWAY_S if point.startswith("paper.") else 2.0)
    actions = ["kill", "error", f"stop {seconds:.2f}", f"sleep {seconds:.2f}"]
    actions += ["drop"] if point in points.droppable() else []
    rig.run.arm(point, dice.choice(actions), at_pass=dice.randint(1, 3))
    rig.tally.faults += 1


def _calm(rig: Rig) -> None:
    """No more misfortune: disarm, wake, forget the broker's faults, and let the operator settle what is unclear."""
    rig.disarm()
    rig.wake_all()
    rig.wait(lambda: rig.broker_forgets(), 15)
    rig.wait(lambda: rig.at_rest() or _operate(rig), REST_S)


def _operate(rig: Rig) -> bool:
    """Be the operator for a moment. Always False: the wait goes on."""
    try:
        rig.operate()
    except DatabaseRefused:
        return False
    return False


def _unknown_left(rig: Rig) -> int:
    try:
        with rig.run.reader() as reader:
            return len(reader.unresolved_orders())
    except DatabaseRefused:
        return 0
