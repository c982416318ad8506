"""The values a plan works on: slots and their phases, the limits, and how the end of a process reads in words. Pure.

Used by every supervisor.
"""

from __future__ import annotations

import signal
from collections.abc import Collection
from enum import StrEnum

from msgspec import Struct

from bus.vocabulary import ExitCode, Role

SlotId = tuple[Role, int]
GIVEN_UP_ALONE = frozenset({Role.LLM, Role.SCANNER, Role.ALERTS, Role.DASHBOARD})
"""Without these the rest does useful work: positions are watched and orders reconciled. All others must live."""

NEVER_MISSED = frozenset({Role.ALERTS, Role.DASHBOARD})
"""However these end, it ends nothing else: not with a lock held elsewhere, not with a wrong setting, not in a cycle."""

EXIT_MEANINGS = {
    ExitCode.USAGE: "wrong command line",
    ExitCode.GAVE_UP: "gave up",
    ExitCode.LOCKED: "lock held by another process",
    ExitCode.CONFIG: "wrong configuration",
}


class Phase(StrEnum):
    """Where a slot stands; the words of `supervisor status`."""

    WAITING = "waiting"  # no process; the next start is due at `due_at`
    STARTING = "starting"
    READY = "ready"
    HUNG = "hung"  # asked for a traceback, killed at `due_at`
    STOPPING = "stopping"
    KILLED = "killed"  # SIGKILL is sent; the kernel has not reported the end yet
    GIVEN_UP = "given_up"


WITHOUT_PROCESS = (Phase.WAITING, Phase.GIVEN_UP)


class Limits(Struct, frozen=True, kw_only=True):
    """The numbers a plan keeps to, in seconds. `store_head_start_s`: how long the others wait for the store at first.

    `store_stop_s`: what the store, the last to be stopped, has at least. `peers_wait_s`: how long the store goes on for
    supervisors of other names that are stopping, too.
    """

    watchdog_s: float = 5.0
    start_s: float = 60.0
    stop_s: float = 4.0
    store_stop_s: float = 4.0
    peers_wait_s: float = 0.0
    backoff_s: float = 0.25
    backoff_s_max: float = 30.0
    restarts_max: int = 5
    restarts_window_s: float = 60.0
    stable_s: float = 60.0
    dump_s: float = 0.2
    store_head_start_s: float = 5.0
    restart: bool = True  # False: the first death ends everything; an outer supervisor restarts
    may_give_up: bool = True  # False: every name must live, as in one daily cycle


class Slot(Struct, frozen=True, kw_only=True):
    """One seat for a process: `llm.2`. Times are monotonic seconds; None = has not happened in this life."""

    role: Role
    number: int
    phase: Phase
    due_at: float
    started_at: float | None = None
    ready_at: float | None = None
    beat_at: float | None = None
    ever_ready: bool = False
    deaths: tuple[float, ...] = ()  # within the window
    failures: int = 0  # deaths in a row without a stable life between them
    restarts: int = 0
    again: bool = False  # being stopped in order to be started again
    leaving: bool = False  # being stopped for good

    @property
    def name(self) -> str:
        return f"{self.role}.{self.number}"

    @property
    def id(self) -> SlotId:
        return self.role, self.number


def backoff_s(failures: int, limits: Limits, jitter: float) -> float:
    """Return the wait before the next start: none at first, then doubling, never above `backoff_s_max`.

    `jitter` in 0..1 stretches the wait by up to half, so that slots that died together do not return together.
    """
    if failures == 0:
        return 0.0
    doubled = limits.backoff_s * float(2 ** min(failures - 1, 30))
    return min(limits.backoff_s_max, doubled * (1.0 + 0.5 * jitter))


def describe(returncode: int) -> str:
    """Return in words how a process ended: `was killed by SIGKILL`, `ended with code 78 (wrong configuration)`."""
    if returncode >= 0:
        meaning = EXIT_MEANINGS.get(returncode, "")
        return f"ended with code {returncode}" + (f" ({meaning})" if meaning else "")
    known = {item.value: item.name for item in signal.Signals}
    return f"was killed by {known.get(-returncode, f'signal {-returncode}')}"


def exit_code_of(returncode: int) -> int:
    """Return the exit code that passes a death on. A child that ended unasked with 0 gave up: 0 means wanted."""
    return 128 - returncode if returncode < 0 else returncode or ExitCode.GAVE_UP


def is_start_over(found: Collection[Slot]) -> bool:
    """Return whether every process is ready, or given up for good beside others that are ready.

    Of those that are given up, people are told; the rest does useful work.
    """
    phases = {slot.phase for slot in found}
    return Phase.READY in phases and phases <= {Phase.READY, Phase.GIVEN_UP}


def fresh(slot: Slot, due_at: float) -> Slot:
    """Return the slot without a process, its deaths forgotten."""
    return Slot(
        role=slot.role,
        number=slot.number,
        phase=Phase.WAITING,
        due_at=due_at,
        ever_ready=slot.ever_ready,
        restarts=slot.restarts,
    )
