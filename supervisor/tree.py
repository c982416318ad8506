"""The loop of a supervisor: one poller over its mailbox, the children's notices and ends, signals and the store's acks.

Run by `supervisor` (all names of the Procfile) and by `supervisor run NAME` (one). Carries out what `plan` decides and
decides nothing itself. Never imports an actor: which program a name stands for is given to it.

The order of the end: SIGTERM to all but the store, a wait, SIGTERM to the store, a wait, SIGKILL by group to the rest.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from loguru import logger
from msgspec import Struct

from bus import failpoints, messages, runtime, sockets
from bus.clock import Clock
from bus.errors import PilotError
from bus.messages import Peer
from bus.vocabulary import ExitCode, Role
from config import entitled
from config.settings import Settings
from supervisor import control, formation, init, pidfile, plan, process, spares
from supervisor.deaths import Deaths
from supervisor.health import Notices
from supervisor.manager import Manager
from supervisor.slots import Limits, Phase, Slot, SlotId, describe

POLL_S_MAX = 0.5
FROZEN_S = 2.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


class _Stopping(PilotError):
    """Too late: this supervisor is on its way out."""


class Task(Struct, frozen=True, kw_only=True):
    """What one supervisor looks after. `scope` is `all`, or its one slot; `roles` are the names it knows."""

    scope: str
    roles: tuple[Role, ...]
    slots: tuple[SlotId, ...]
    limits: Limits
    environment: dict[str, str]
    spares: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether this is the supervisor of all names."""
        return self.scope == "all"


class Tree:
    """One supervisor at work."""

    def __init__(
        self,
        task: Task,
        me: Peer,
        settings: Settings,
        run_folder: Path,
        *,
        clock: Clock,
        commands: process.Commands,
        cycle_done: Callable[[str], bool] | None = None,
    ) -> None:
        """The caller holds the locks of `task` and of `me`.

        `cycle_done` is given the incarnation of the scanner that is ready and says whether the daily cycle is over.
        """
        now = clock.monotonic()
        self.plan = plan.Plan(task.slots, limits=task.limits, jitter=random.random, now=now)
        self._task = task
        self._settings = settings
        self._run_folder = run_folder
        self._clock = clock
        self._commands = commands
        self._cycle_done = cycle_done
        self._children: dict[SlotId, process.Child] = {}
        self._lifeline = process.Lifeline()
        self._notices = Notices(run_folder / f"notify.{task.scope}")
        self._mailbox = control.Mailbox(run_folder, task.scope)
        self._deaths = Deaths(me, run_folder, settings.bus, self._death_is_known)
        self._poller = sockets.Poller()
        self._wakeup, self._wakeup_writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._spares = spares.Spares(
            task.scope,
            run_folder,
            self._poller,
            limits=task.limits,
            spawn=lambda role: process.spawn_spare(self._commands(role), self._lifeline, self._extra(role)),
            jitter=random.random,
        )
        for source in (self._notices.fileno(), self._mailbox.socket, self._deaths.inbox, self._wakeup):
            self._poller.register(source)
        self._signals_seen = 0
        self._turned_at = now
        self._said_ready = False
        self._manager = Manager()
        self._code: int | None = None

    def run(self) -> int:
        """Look after the children until everything has ended; return the exit code."""
        with self._signals():
            try:
                pidfile.write(pidfile.supervisor_path(self._run_folder, self._task.scope), os.getpid())
                self._end_leftovers()
                self._turned_at = self._clock.monotonic()
                while self._code is None:
                    self._turn()
            finally:
                self._close()
        return self._code

    # ── one turn ──

    def _turn(self) -> None:
        now = self._clock.monotonic()
        wait_s = min(self.plan.wait_s(now, POLL_S_MAX), self._deaths.wait_s(now))
        self._poller.poll(int(wait_s * 1_000) + (wait_s > 0))
        now = self._clock.monotonic()
        if now - self._turned_at > FROZEN_S:
            logger.warning("This supervisor stood still for {:.1f} s; all waits begin anew", now - self._turned_at)
            self.plan.thawed(now)
        self._turned_at = now
        self._take_signals(now)
        self._take_notices(now)  # before the deaths: what a child said while it lived counts
        self._reap(now)
        self._take_requests(now)
        self._deaths.turn(now)
        self._look_outside(now)
        if self.plan.exit_code is not None:
            self._spares.end()
        for action in self.plan.due(now):
            self._do(action, now)
        self._look_after_spares(now)
        if not self._said_ready and self._children and self.plan.settled:
            self._said_ready = True
            if self._task.is_whole:
                missing = ", ".join(slot.name for slot in self.plan.slots.values() if slot.phase is Phase.GIVEN_UP)
                but = f" but {missing}, given up" if missing else ""
                logger.info("All {} processes are ready{}", len(self._children), but)
        if os.getpid() == 1:
            init.reap_strays({child.pid for child in self._children.values()} | self._spares.pids())
        self._manager.turn(
            self.plan.slots.values(),
            now,
            is_stopping=self.plan.exit_code is not None,
            watchdog_s=self._task.limits.watchdog_s,
        )

    def _take_signals(self, now: float) -> None:
        try:
            numbers = os.read(self._wakeup, 100)
        except BlockingIOError:
            return
        for number in numbers:
            if number not in STOP_SIGNALS:
                continue
            self._signals_seen += 1
            name = signal.Signals(number).name
            if self._signals_seen == 1:
                self._begin_to_stop(f"{name} received: stopping", now)
            else:
                logger.warning("{} received again: not waiting any longer", name)
                self.plan.hurry(now)

    def _take_notices(self, now: float) -> None:
        by_pid = {child.pid: slot_id for slot_id, child in self._children.items()}
        for notice in self._notices.receive():
            slot_id = by_pid.get(notice.pid)
            if notice.stands_by and slot_id is None:
                self._spares.stands_by(notice.pid)
            if slot_id is None or not notice.alive:
                continue
            self.plan.beat(slot_id, now)
            if notice.ready:
                self.plan.ready(slot_id, now)

    def _reap(self, now: float) -> None:
        for slot_id, child in list(self._children.items()):
            returncode = child.reap()
            if returncode is None:
                continue
            self._poller.unregister(child.pidfd)
            child.close()
            del self._children[slot_id]
            failpoints.reach("supervisor.after_reap")  # the child is gone, its death not yet noted
            self._bury(child.peer, describe(returncode))
            self.plan.exited(slot_id, returncode, now)

    def _look_outside(self, now: float) -> None:
        """Look at what does not announce itself: other supervisors while stopping, and the end of the daily cycle."""
        if self.plan.exit_code is not None:
            if not self._task.limits.peers_wait_s:
                return
            others = pidfile.supervisors(self._run_folder).keys() - {self._task.scope}
            self.plan.peers_alive = bool(others)
            return
        if self._cycle_done is None:
            return
        scanner = self._children.get((Role.SCANNER, 1))
        slot = self.plan.slots.get((Role.SCANNER, 1))
        if scanner and slot and slot.phase is Phase.READY and self._cycle_done(scanner.peer.incarnation):
            self._begin_to_stop("The daily cycle is done: stopping", now)

    def _look_after_spares(self, now: float) -> None:
        """After the plan: what died is on its way again, and only then a processor may be spent on the next death."""
        present = self.plan.slots.values()
        wanted = {slot.role for slot in present if not slot.leaving and slot.phase is not Phase.GIVEN_UP}
        if not self._task.spares or self.plan.exit_code is not None:
            wanted = set()
        self._spares.turn(wanted, now, busy=any(slot.phase is Phase.STARTING for slot in present))

    def _begin_to_stop(self, why: str, now: float) -> None:
        self.plan.drain(ExitCode.OK, why, now)

    def _bury(self, peer: Peer, status: str) -> None:
        """Tell the store, and remove the mailbox that a killed process leaves: the path is its own."""
        self._deaths.add(peer, status)
        if peer.role is not Role.STORE:
            sockets.inbox_address(self._run_folder, peer).unlink(missing_ok=True)

    # ── carrying out ──

    def _do(self, action: plan.Action, now: float) -> None:
        match action:
            case plan.Say(level, text, event):
                logger.log(level, "{}", text)
                if event:
                    self._deaths.report(messages.Report(level="error", event=event, text=text))
            case plan.Start(slot_id):
                self._start(slot_id, now)
            case plan.Terminate(slot_id):
                self._signal(slot_id, signal.SIGTERM)
            case plan.Dump(slot_id):
                self._signal(slot_id, signal.SIGUSR1)
            case plan.Kill(slot_id):
                if child := self._children.get(slot_id):
                    child.kill()
            case plan.Finish(code):
                self._code = code

    def _start(self, slot_id: SlotId, now: float) -> None:
        role, number = slot_id
        peer = Peer(role, number, runtime.new_incarnation())
        child = self._spares.take(peer)
        if child is not None:
            self.plan.handed_over(slot_id, now)
            logger.info("{} is its spare from now on (pid {})", peer.name, child.pid)
        else:
            failpoints.reach("supervisor.before_spawn")  # starting a child process
            try:
                child = process.spawn(self._commands(role), peer, self._lifeline, self._extra(role))
            except OSError as error:
                self.plan.exited(slot_id, ExitCode.GAVE_UP, now, how=f"could not be started: {error}")
                return
            failpoints.reach("supervisor.after_spawn")
            pidfile.write(pidfile.path_of(self._run_folder, peer), child.pid, peer)
            logger.info("Started {} (pid {})", peer.name, child.pid)
        self._children[slot_id] = child
        self._poller.register(child.pidfd)

    def _extra(self, role: Role) -> dict[str, str | None]:
        """Return what a child or spare has in its environment beside ours; None: it goes without that one of ours."""
        return {
            **entitled.of_role(role, self._settings, os.environ),
            **self._task.environment,
            "NOTIFY_SOCKET": str(self._notices.path),
            "WATCHDOG_USEC": str(int(self._task.limits.watchdog_s * 1_000_000)),
        }

    def _signal(self, slot_id: SlotId, number: signal.Signals) -> None:
        if child := self._children.get(slot_id):
            child.send(number)

    def _death_is_known(self, peer: Peer) -> None:
        """The store knows: the pid file, which would tell a later supervisor to say it again, has done its work."""
        pidfile.remove(pidfile.path_of(self._run_folder, peer), peer.incarnation)

    # ── requests ──

    def _take_requests(self, now: float) -> None:
        while (request := self._mailbox.receive()) is not None:
            answer: control.Report | control.Refused
            try:
                self._obey(request, now)
                answer = self._report(now)
            except formation.UsageError as error:
                answer = control.Refused(code=ExitCode.USAGE, reason=str(error))
            except _Stopping as error:
                answer = control.Refused(code=ExitCode.GAVE_UP, reason=str(error))
            self._mailbox.answer(request, answer)

    def _obey(self, request: control.Request, now: float) -> None:
        if isinstance(request, control.Stop):
            self._begin_to_stop("Asked to stop: stopping", now)
        elif isinstance(request, control.Status):
            return
        elif self.plan.exit_code is not None:
            raise _Stopping("the running supervisor is stopping; wait until it has ended and start it again")
        elif isinstance(request, control.Scale):
            self._scale(request, now)
        elif isinstance(request, control.Restart):
            slots = formation.slots_named(request.name, list(self.plan.slots))
            logger.info("Asked to restart {}", request.name)
            for role, _ in slots:
                self._spares.retire(role)  # whoever asks may have changed the program or a secret
            self.plan.restart(slots, now)

    def _scale(self, request: control.Scale, now: float) -> None:
        if not self._task.is_whole:
            raise formation.UsageError(
                "each process was started by itself (by honcho or by hand), and how many run is set there; "
                "for example: honcho start -c llm=3"
            )
        for role, count in request.changes.items():
            formation.check(role, count)
        present = dict.fromkeys(self._task.roles, 0)
        for slot in self.plan.slots.values():
            present[slot.role] += not slot.leaving
        wanted = formation.of(self._task.roles, {**present, **request.changes})
        logger.info("Asked for {}", ", ".join(f"{role}={count}" for role, count in request.changes.items()))
        self.plan.want(formation.slots(wanted), now, again=tuple(request.changes))

    def _report(self, now: float) -> control.Report:
        order = {role: index for index, role in enumerate(self._task.roles)}
        slots: Sequence[Slot] = sorted(self.plan.slots.values(), key=lambda slot: (order[slot.role], slot.number))
        return control.Report(
            scope=self._task.scope,
            pid=os.getpid(),
            profile=self._settings.profile,
            stopping=self.plan.exit_code is not None,
            children=(*(self._status_of(slot, now) for slot in slots), *self._spares.status(now)),
        )

    def _status_of(self, slot: Slot, now: float) -> control.ChildStatus:
        child = self._children.get(slot.id)
        return control.ChildStatus(
            name=slot.name,
            pid=child.pid if child else None,
            state=slot.phase.value,
            restarts=slot.restarts,
            uptime_s=round(now - slot.started_at, 3) if child and slot.started_at is not None else None,
            last_beat_age_s=round(now - slot.beat_at, 3) if child and slot.beat_at is not None else None,
        )

    # ── beginning and end ──

    def _end_leftovers(self) -> None:
        """End what an earlier supervisor left behind, and pass on every death that its pid files prove."""
        ours = [
            entry
            for entry in pidfile.children(self._run_folder)
            if entry.peer and (self._task.is_whole or (entry.peer.role, entry.peer.slot) in self._task.slots)
        ]
        spares_left = pidfile.spares(self._run_folder, self._task.scope)
        pidfile.end_leftovers([*ours, *spares_left], self._settings.supervisor.stop_s)
        for entry in ours:
            if entry.peer and not entry.lives:
                self._bury(entry.peer, "was gone when this supervisor started")

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn stop signals into bytes on the wakeup pipe: a handler alone does not end a poll."""

        def seen(number: int, frame: FrameType | None) -> None:
            """Python needs a handler; the wakeup pipe does the work."""

        nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        wanted = [number for number in STOP_SIGNALS if not (number is signal.SIGHUP and nohup)]
        before = {number: signal.signal(number, seen) for number in wanted}
        wakeup_before = signal.set_wakeup_fd(self._wakeup_writing, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup_before)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _close(self) -> None:
        """Leave nothing behind. Children that still run read end of file on the lifeline."""
        self._spares.close()
        self._lifeline.close()
        self._mailbox.close()
        self._notices.close()
        self._deaths.close()
        os.close(self._wakeup)
        os.close(self._wakeup_writing)
        pidfile.supervisor_path(self._run_folder, self._task.scope).unlink(missing_ok=True)
