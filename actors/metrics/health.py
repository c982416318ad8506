"""Whether the pipeline can do its work: which process is missing, as the database has it. Library of the dashboard.

Reads only; says what is missing and never mends it. A process that left in order is not missing.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from msgspec import Struct

from bus import clock
from bus.records import Worker
from bus.vocabulary import Role, State
from store import gauges
from store.gauges import Gauges
from store.queries import DatabaseRefused, NoDatabase

ALWAYS = ("executor.1", "monitor.1")
LISTED_MAX = 100


class Missing(Struct, frozen=True):
    """What is not there, and why we say so."""

    name: str
    reason: str


def missing(path: Path, now: datetime, dead_s: float) -> list[Missing]:
    """Return what keeps the pipeline from its work now; empty when it is ready. At most `LISTED_MAX`.

    Wanted are a database, a store that writes, executor and monitor, and whoever else this life of the store has heard
    of and who did not say that it leaves.
    """
    try:
        with gauges.opened(path) as found:
            return _missing(found, now, dead_s)[:LISTED_MAX]
    except NoDatabase:
        return [Missing("database", "there is none yet")]
    except DatabaseRefused:
        return [Missing("database", "it cannot be read; `pilot status` says why")]


def silent_s(at: str | None, now: datetime) -> float:
    """Return how long ago a time was. One that lies ahead counts as if as long ago: one of the clocks is wrong."""
    return float("inf") if at is None else abs((now - clock.parse(at)).total_seconds())


def is_expected(worker: Worker, store_started_at: str | None) -> bool:
    """Return whether a process should be there: always, or heard of since the store began, and it did not leave."""
    if worker.name in ALWAYS:
        return True
    return worker.state not in (State.DRAINING, State.STOPPED) and worker.last_beat_at >= (store_started_at or "")


def _missing(found: Gauges, now: datetime, dead_s: float) -> list[Missing]:
    wrong = []
    store_s = silent_s(found.store_wrote_at(), now)
    if store_s > dead_s:
        wrong.append(Missing("store", _silence("has not written", store_s)))
    workers = {worker.name: worker for worker in found.read.workers() if worker.role != Role.STORE}
    wrong += [Missing(name, "was never heard of") for name in ALWAYS if name not in workers]
    started_at = found.store_started_at()
    for worker in workers.values():
        if not is_expected(worker, started_at):
            continue
        if (worker_s := silent_s(worker.last_beat_at, now)) > dead_s:
            wrong.append(Missing(worker.name, _silence("has not beaten", worker_s)))
        elif worker.name in ALWAYS and worker.state != State.READY:
            wrong.append(Missing(worker.name, f"is {worker.state}"))
    return wrong


def _silence(what: str, seconds: float) -> str:
    return f"{what} yet" if seconds == float("inf") else f"{what} for {seconds:.0f} s"
