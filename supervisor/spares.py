"""The spares: one warm process of each of a few names, waiting to be the next incarnation of whichever slot dies.

Used by every supervisor that is told to. A spare holds no lock, no socket and no database, so it may be ended at any
moment, and its death means nothing but that another one is started. Decides nothing about slots: `plan` does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from loguru import logger
from msgspec import Struct

from bus import failpoints, sockets
from bus.messages import Peer
from bus.vocabulary import Role
from supervisor import control, pidfile, process, slots
from supervisor.slots import Limits

SPARED = (Role.STORE, Role.LLM, Role.EXECUTOR, Role.MONITOR)
"""The names whose absence costs something within seconds. A scanner ranks once in hours; a paper broker is a test."""

CALM_S = 0.3  # after the last start of a process: a spare must not take its processor
CLOSE_S = 2.0


class _Place(Struct):
    """Where the spare of one name is, or is to be."""

    spare: process.Spare | None = None
    stands_by: bool = False
    started_at: float = 0.0
    due_at: float = 0.0
    failures: int = 0  # deaths in a row without a stable life between them
    restarts: int = 0


class Spares:
    """All spares of one supervisor."""

    def __init__(
        self,
        scope: str,
        run_folder: Path,
        poller: sockets.Poller,
        *,
        limits: Limits,
        spawn: Callable[[Role], process.Spare],
        jitter: Callable[[], float],
    ) -> None:
        """`spawn` starts a spare, or raises OSError."""
        self._scope = scope
        self._run_folder = run_folder
        self._poller = poller
        self._limits = limits
        self._spawn = spawn
        self._jitter = jitter
        self._places: dict[Role, _Place] = {}
        self._busy_at = 0.0

    # ── what happens ──

    def turn(self, wanted: Collection[Role], now: float, *, busy: bool) -> None:
        """Bury the dead, end those of names that are not wanted, and start what is missing.

        `busy`: a process of the pipeline is being started. One spare is started at a time, and none meanwhile.
        """
        if busy:
            self._busy_at = now
        for role, place in self._places.items():
            self._look_after(role, place, now)
            if role not in wanted:
                self.retire(role)
        warming = any(place.spare and not place.stands_by for place in self._places.values())
        if warming or now - self._busy_at < CALM_S:
            return
        for role in SPARED:
            place = self._places.setdefault(role, _Place())
            if role in wanted and place.spare is None and now >= place.due_at:
                self._start(role, place, now)
                return

    def stands_by(self, pid: int) -> None:
        """The process says that it is warm."""
        for role, place in self._places.items():
            if place.spare is not None and place.spare.pid == pid and not place.stands_by:
                place.stands_by = True
                logger.info("{}.spare stands by (pid {})", role, pid)

    def take(self, peer: Peer) -> process.Child | None:
        """Make the spare of this name the process of `peer`. None: there is none that is warm."""
        place = self._places.get(peer.role)
        if place is None or place.spare is None or not place.stands_by or place.spare.ended_by_us:
            return None
        spare = place.spare
        # Written first: a later supervisor must know of whoever may hold leases.
        pidfile.write(pidfile.path_of(self._run_folder, peer), spare.pid, peer)
        failpoints.reach("supervisor.before_hand_over")  # naming a spare: its pid file and its turn
        child = spare.hand_over(peer)
        if child is None:
            return None  # it died just now; the next turn buries it
        failpoints.reach("supervisor.after_hand_over")
        self._let_go(peer.role, place)
        place.failures = 0
        return child

    def retire(self, role: Role) -> None:
        """End the spare of this name, if there is one: what it has imported and read is out of date or not wanted."""
        place = self._places.get(role)
        if place is not None and place.spare is not None and not place.spare.ended_by_us:
            place.spare.end()

    def end(self) -> None:
        """End all spares without waiting for them."""
        for role in self._places:
            self.retire(role)

    def close(self) -> None:
        """End all spares and wait for them."""
        self.end()
        for role, place in self._places.items():
            if place.spare is not None:
                place.spare.wait(CLOSE_S)
                self._let_go(role, place)

    def pids(self) -> set[int]:
        """Return the process ids of the spares that were started and not yet buried."""
        return {place.spare.pid for place in self._places.values() if place.spare is not None}

    def status(self, now: float) -> list[control.ChildStatus]:
        """Return the living spares, in the order of the pipeline."""
        return [
            control.ChildStatus(
                name=f"{role}.{control.SPARE}",
                pid=place.spare.pid,
                state=control.SPARE if place.stands_by else slots.Phase.STARTING.value,
                restarts=place.restarts,
                uptime_s=round(now - place.started_at, 3),
                last_beat_age_s=None,
            )
            for role, place in self._places.items()
            if place.spare is not None
        ]

    # ── inside ──

    def _look_after(self, role: Role, place: _Place, now: float) -> None:
        spare = place.spare
        if spare is None:
            return
        returncode = spare.reap()
        if returncode is None:
            if not place.stands_by and not spare.ended_by_us and now - place.started_at > self._limits.start_s:
                logger.warning("{}.spare was not warm within {:.0f} s: killing it", role, self._limits.start_s)
                spare.kill()
            return
        by_us = spare.ended_by_us
        self._let_go(role, place)
        if by_us:
            place.due_at = now
            return
        if now - place.started_at >= self._limits.stable_s:
            place.failures = 0
        place.failures += 1
        place.restarts += 1
        place.due_at = now + slots.backoff_s(place.failures, self._limits, self._jitter())
        wait_s = place.due_at - now
        logger.warning("{}.spare {}; starting another in {:.1f} s", role, slots.describe(returncode), wait_s)

    def _start(self, role: Role, place: _Place, now: float) -> None:
        place.started_at, place.stands_by = now, False
        failpoints.reach("supervisor.before_spawn_spare")  # starting a spare
        try:
            place.spare = self._spawn(role)
        except OSError as error:
            place.failures += 1
            place.due_at = now + slots.backoff_s(place.failures, self._limits, self._jitter())
            logger.warning("{}.spare could not be started: {}", role, error)
            return
        failpoints.reach("supervisor.after_spawn_spare")
        self._poller.register(place.spare.pidfd)
        pidfile.write(pidfile.spare_path(self._run_folder, self._scope, role), place.spare.pid)

    def _let_go(self, role: Role, place: _Place) -> None:
        if place.spare is not None:
            self._poller.unregister(place.spare.pidfd)
            place.spare.close()
        place.spare, place.stands_by = None, False
        pidfile.spare_path(self._run_folder, self._scope, role).unlink(missing_ok=True)
