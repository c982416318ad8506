"""What a supervisor tells the service manager that started it: sd_notify's READY, STATUS, WATCHDOG and STOPPING.

Used by the supervisor's loop, once a turn: a loop that hangs says nothing, and the manager restarts all. Silent without
NOTIFY_SOCKET. Decides nothing about processes, and knows them only as slots. Source: sd_notify(3).
"""

from __future__ import annotations

from collections.abc import Collection

from bus import failpoints, runtime
from bus.vocabulary import Role
from supervisor.slots import Phase, Slot, is_start_over

PING_S = 0.25  # between two signs of life; a turn comes every half second at the latest


class Manager:
    """The service manager, as far as it was told."""

    def __init__(self) -> None:
        self.knows_ready = False
        self._knows_stopping = False
        self._status = ""
        self._pinged_at: float | None = None

    def turn(self, slots: Collection[Slot], now: float, *, is_stopping: bool, watchdog_s: float) -> None:
        """Tell what has changed since, and what was not delivered then. `watchdog_s`: how old a store's beat may be."""
        if is_stopping and not self._knows_stopping:
            self._knows_stopping = runtime.notify("STOPPING=1")
        if not is_stopping and not self.knows_ready and is_start_over(slots):
            failpoints.reach("supervisor.before_ready")  # telling systemd that all processes are ready
            self.knows_ready = runtime.notify("READY=1")
            failpoints.reach("supervisor.after_ready")
        status = status_of(slots, is_stopping=is_stopping)
        if status != self._status and runtime.notify(f"STATUS={status}"):
            self._status = status
        if self._pinged_at is not None and now - self._pinged_at < PING_S:
            return
        if (is_stopping or store_answers(slots, now, watchdog_s)) and runtime.notify("WATCHDOG=1"):
            self._pinged_at = now


def store_answers(slots: Collection[Slot], now: float, watchdog_s: float) -> bool:
    """Return whether the store turned its loop within `watchdog_s`. A supervisor without a store has none to ask."""
    return all(
        slot.phase is Phase.READY and slot.beat_at is not None and now - slot.beat_at <= watchdog_s
        for slot in slots
        if slot.role is Role.STORE
    )


def status_of(slots: Collection[Slot], *, is_stopping: bool) -> str:
    """Return one line for `systemctl status`: how many are ready, and the names of the others."""
    if is_stopping:
        left = ", ".join(slot.name for slot in slots if slot.phase is not Phase.GIVEN_UP) or "nothing"
        return f"Stopping: {left} left"
    others = [f"{slot.name} {slot.phase.value}" for slot in slots if slot.phase is not Phase.READY]
    ready = len(slots) - len(others)
    return f"{ready} of {len(slots)} processes ready" + (f"; {', '.join(others)}" if others else "")
