"""What running supervisors say about their processes, asked from this process: no command line has to start for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import structs

from supervisor import client

WAIT_S = 20.0


def status(base: Path) -> dict[str, dict[str, Any]]:
    """Return what `supervisor status` tells, by name; empty when nothing runs below the folder `PILOT_RUN`."""
    run_folder = next(base.glob("pilot-*"), None)
    if run_folder is None:
        return {}
    try:
        reports = client.Client(run_folder, WAIT_S).status()
    except (client.NotRunning, client.Unreachable):
        return {}
    return {child.name: structs.asdict(child) for child in client.children_of(reports)}
