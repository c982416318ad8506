"""How long a kill took until the replacement was ready, read from the supervisor's own lines. Pure."""

from __future__ import annotations

import re
from datetime import datetime

DEATH = re.compile(r"^(\d\d:\d\d:\d\d\.\d+) \w+ +supervisor +(\w+\.\d+) was killed by SIGKILL", re.MULTILINE)
READY = re.compile(r"^(\d\d:\d\d:\d\d\.\d+) \w+ +supervisor +(\w+\.\d+) is ready", re.MULTILINE)
EARLY_S = 0.005  # a line's time has milliseconds only
SEEN_S = 1.0  # a death that the supervisor does not see within this was none of its children


def measured(console: str, killed_at: list[float], now: float) -> tuple[list[float], list[float]]:
    """Return the milliseconds to ready of those kills (wall times) that are over, and the kills that are not yet.

    A kill that no child of the supervisor died of, such as the scanner's own child, is left out.
    """
    deaths = [(_moment(at), name) for at, name in DEATH.findall(console)]
    ready = [(_moment(at), name) for at, name in READY.findall(console)]
    done, waiting = [], []
    for moment in killed_at:
        name = next((name for at, name in deaths if -EARLY_S <= at - moment <= SEEN_S), None)
        back = next((at for at, who in ready if who == name and at > moment), None)
        if back is None and (name or now - moment <= SEEN_S):
            waiting.append(moment)
        elif back is not None:
            done.append((back - moment) * 1_000)
    return done, waiting


def _moment(text: str) -> float:
    """Return the wall time of a console line of today."""
    clock = datetime.strptime(text, "%H:%M:%S.%f").time()  # noqa: DTZ007 - the console speaks local time
    return datetime.combine(datetime.now().astimezone().date(), clock).timestamp()
