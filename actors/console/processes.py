"""Which processes run, as the store wrote it down: one rule for pilot, the page and the chat. Pure.

Only the store writes, at least once a second, and its own line with the others. So a store whose line is old, or says
that it stopped, speaks for the whole pipeline: nobody trades without it, and no beat can be newer than its last word.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from bus import clock
from bus.records import EquitySample, Worker
from bus.vocabulary import Role, State
from config.settings import Monitor

SILENT = "silent"
LOOKED_POLLS = 3.0  # the account counts as watched when it was looked at within so many polls


class NotRunning(Struct, frozen=True, kw_only=True):
    """Nothing runs. `since` is the store's last word (ISO), None when no process was ever heard."""

    since: str | None
    in_order: bool  # the store was stopped; else it was killed, hangs, or cannot write


def not_running(workers: Sequence[Worker], now: datetime, dead_s: float) -> NotRunning | None:
    """Return since when the pipeline is down; None while its store writes."""
    # A database of an older version holds no line of the store: then the newest beat of all stands for it.
    found = [one for one in workers if one.role == Role.STORE] or workers
    last = max(found, key=lambda one: one.last_beat_at, default=None)
    if last is None:
        return NotRunning(since=None, in_order=False)
    stopped = last.role == Role.STORE and last.state == State.STOPPED
    if stopped or _is_late(last, now, dead_s):
        return NotRunning(since=last.last_beat_at, in_order=stopped)
    return None


def seen(workers: Sequence[Worker], now: datetime, dead_s: float) -> list[Worker]:
    """Return the processes with the state they are in now, whatever their last beats said."""
    down = not_running(workers, now, dead_s) is not None
    return [msgspec.structs.replace(one, state=_state(one, now, dead_s, down=down)) for one in workers]


def runs(workers: Sequence[Worker], role: Role) -> bool:
    """Return whether a process of this role does its work. `workers` are as `seen` returned them."""
    return any(one.role == role and one.state in (State.READY, State.DRAINING) for one in workers)


def is_fresh(sample: EquitySample, settings: Monitor, now: datetime) -> bool:
    """Return whether the account was looked at as lately as the monitor's pace says."""
    pace_s = max(settings.equity_poll_s, settings.equity_poll_flat_s)
    return (now - clock.parse(sample.at)).total_seconds() <= LOOKED_POLLS * pace_s


def _state(worker: Worker, now: datetime, dead_s: float, *, down: bool) -> str:
    """Return `silent` without a beat for too long, `stopped` after an end in order, else what the last beat says."""
    if worker.state == State.STOPPED or not (down or _is_late(worker, now, dead_s)):
        return worker.state
    return str(State.STOPPED) if worker.state == State.DRAINING else SILENT


def _is_late(worker: Worker, now: datetime, dead_s: float) -> bool:
    # A beat from the future counts as if as long ago: the clock was set back since, and nobody has written after that.
    return abs((now - clock.parse(worker.last_beat_at)).total_seconds()) > dead_s
