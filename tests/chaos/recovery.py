"""How long a kill took until the replacement was ready, read from the supervisor's own lines. Pure."""

from __future__ import annotations

import re
from datetime import datetime

DEATH = re.compile(r"^(\d\d:\d\d:\d\d\.\d+) \w+ +supervisor +(\w+\.\d+) was killed by SIGKILL", re.MULTILINE)
READY = re.compile(r"^(\d\d:\d\d:\d\d\.\d+) \w+ +supervisor +(\w+\.\d+) is ready", re.MULTILINE)
EARLY_S = 0.005  # a line's time has milliseconds only
SEEN_S = 1.0  # a death that the supervisor does not see within this was none of its children


Kill = tuple[float, str]  # wall time, and who was killed: `llm.1`, or empty where only the time is known


def measured(console: str, kills: list[Kill], now: float) -> tuple[list[float], list[Kill]]:
    """Return the milliseconds to ready of those kills that are over, and the kills that are not yet.

    A kill that no child of the supervisor died of, such as the scanner's own child, is left out.
    """
    deaths = [(_moment(at), name) for at, name in DEATH.findall(console)]
    ready = [(_moment(at), name) for at, name in READY.findall(console)]
    done, waiting = [], []
    for moment, who in kills:
        name = next((name for at, name in deaths if -EARLY_S <= at - moment <= SEEN_S and who in ("", name)), None)
        back = next((at for at, one in ready if one == name and at > moment), None)
        if back is None and (name or now - moment <= SEEN_S):
            waiting.append((moment, who))
        elif back is not None:
            done.append((back - moment) * 1_000)
    return done, waiting


def _moment(text: str) -> float:
    """Return the wall time of a console line of today."""
    clock = datetime.strptime(text, "%H:%M:%S.%f").time()  # noqa: DTZ007 - the console speaks local time
    return datetime.combine(datetime.now().astimezone().date(), clock).timestamp()
