"""Named places where a test may make this process die, stop, wait or fail.

`reach` does nothing unless `PILOT_FAILPOINTS` names a folder that holds a file of the point's name. The file's text is
the action, `kill`, `stop`, `sleep SECONDS` or `error`, with `@n` for the n-th pass. A point fires once: its file is
renamed first, so that a restarted process passes.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

_folder = os.environ.get("PILOT_FAILPOINTS", "")
_passes: dict[str, int] = {}


class FailpointError(Exception):
    """Raised by a point armed with `error`."""


def reach(name: str) -> None:
    """Pass the point `name`. Does nothing in production."""
    if _folder:
        _fire(Path(_folder) / name, name)


def _fire(armed: Path, name: str) -> None:
    try:
        action, _, nth = armed.read_text().strip().partition("@")
    except OSError:
        return
    _passes[name] = _passes.get(name, 0) + 1
    if _passes[name] < int(nth or "1"):
        return
    try:
        armed.rename(armed.with_suffix(f"{armed.suffix}.fired"))
    except OSError:
        return  # another process took it
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif action.startswith("sleep "):
        time.sleep(float(action.removeprefix("sleep ")))
    else:
        raise FailpointError(f"failpoint {name}: {action}")
