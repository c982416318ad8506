"""How long a kill took until the replacement was ready, read from the supervisor's own lines. Pure."""

from __future__ import annotations

import re

from tests.kit.console import STAMP, moment

DEATH = re.compile(rf"^{STAMP} \w+ +supervisor +(\w+\.\d+) was killed by SIGKILL", re.MULTILINE)
READY = re.compile(rf"^{STAMP} \w+ +supervisor +(\w+\.\d+) is ready", re.MULTILINE)
EARLY_S = 0.005  # a line's time has milliseconds only
SEEN_S = 1.0  # a death that the supervisor does not see within this was none of its children


Kill = tuple[float, str]  # wall time, and who was killed: `llm.1`, or empty where only the time is known


def measured(console: str, kills: list[Kill], now: float) -> tuple[list[float], list[Kill]]:
    """Return the milliseconds to ready of those kills that are over, and the kills that are not yet.

    A kill that no child of the supervisor died of, such as the scanner's own child, is left out.
    """
    deaths = [(moment(at), name) for at, name in DEATH.findall(console)]
    ready = [(moment(at), name) for at, name in READY.findall(console)]
    done, waiting = [], []
    for killed_at, who in kills:
        name = next((name for at, name in deaths if -EARLY_S <= at - killed_at <= SEEN_S and who in ("", name)), None)
        back = next((at for at, one in ready if one == name and at > killed_at), None)
        if back is None and (name or now - killed_at <= SEEN_S):
            waiting.append((killed_at, who))
        elif back is not None:
            done.append((back - killed_at) * 1_000)
    return done, waiting
