"""Decide which process to start, stop, kill or give up. Pure: what was seen and the time go in, actions come out.

Used by every supervisor, the one of all names and the one of a single name. Touches no process, clock or randomness:
the caller reports what happened, asks `due`, and does what it says. Restarts are one for one: a process that died is
started again alone, because starting everything again with the store would throw away minutes of analysis.

    waiting -> starting -> ready -> (dies) -> waiting -> ...
                  |          |
                  +--> hung -+-> killed -> (dies) -> waiting      no READY in time, or no beat
    any of them -> stopping -> (killed) -> gone                   wanted
    waiting -> given_up                                           died too often: llm, scanner, alerts, dashboard
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from bus.vocabulary import ExitCode, Role
from supervisor import slots
from supervisor.slots import Limits, Phase, Slot, SlotId


class Start(Struct, frozen=True):
    """Start the process of this slot."""

    slot: SlotId


class Terminate(Struct, frozen=True):
    """Ask the process to stop in order (SIGTERM)."""

    slot: SlotId


class Dump(Struct, frozen=True):
    """Ask the process to print its stacks (SIGUSR1)."""

    slot: SlotId


class Kill(Struct, frozen=True):
    """End the process and its group at once (SIGKILL)."""

    slot: SlotId


class Say(Struct, frozen=True):
    """One line for people. With `event` it goes into the outbox of alerts, too."""

    level: Literal["INFO", "WARNING", "ERROR"]
    text: str
    event: str = ""


class Finish(Struct, frozen=True):
    """Nothing is left to do: exit with this code."""

    code: int


Action = Start | Terminate | Dump | Kill | Say | Finish


class Plan:
    """The state of all slots and the rules that move them. Every method is told the monotonic time."""

    def __init__(self, wanted: Sequence[SlotId], *, limits: Limits, jitter: Callable[[], float], now: float) -> None:
        self.slots: dict[SlotId, Slot] = {}
        self.exit_code: int | None = None  # set: everything is being stopped, and this is how it ends
        self.peers_alive = False  # other supervisors of this data folder still run
        self._limits = limits
        self._jitter = jitter
        self._began_at = now
        self._drain_at = now
        self._settled_once = False
        self._said: list[Action] = []
        self.want(wanted, now)

    # ── what is wanted ──

    def want(self, wanted: Sequence[SlotId], now: float, *, again: Sequence[Role] = ()) -> None:
        """Make exactly these slots exist. Those of the roles in `again` that were given up are tried again."""
        for slot in list(self.slots.values()):
            if slot.id not in wanted:
                self._leave(slot, now)
        self._look_whether_settled()
        for role, number in wanted:
            found = self.slots.get((role, number))
            if found is None:
                self._put(Slot(role=role, number=number, phase=Phase.WAITING, due_at=now))
            elif found.leaving:
                self._put(replace(found, leaving=False, again=True))
            elif found.phase is Phase.GIVEN_UP and role in again:
                self._put(slots.fresh(found, now))

    def restart(self, ids: Sequence[SlotId], now: float) -> None:
        """Stop these processes in order and start them again. It does not count as a death."""
        for slot in (self.slots[key] for key in ids):
            if slot.phase in slots.WITHOUT_PROCESS:
                self._put(slots.fresh(slot, now))
            elif not slot.leaving:
                self._terminate(replace(slot, again=True), now)

    def drain(self, code: int, why: str, now: float, *, level: Literal["INFO", "ERROR"] = "INFO") -> None:
        """Stop everything in order, the store last, and finish with `code`. The first call decides the code."""
        if self.exit_code is not None:
            return
        self.exit_code = code
        self._drain_at = now
        self._say(level, why, event="pipeline_stopping" if level == "ERROR" else "")

    def hurry(self, now: float) -> None:
        """Skip the drain: kill what is left."""
        for slot in self.slots.values():
            if slot.phase not in (*slots.WITHOUT_PROCESS, Phase.KILLED):
                self._kill(slot, now)

    # ── what was seen ──

    def ready(self, slot_id: SlotId, now: float) -> None:
        """The process says that it can do its work."""
        slot = self.slots[slot_id]
        if slot.phase is Phase.STARTING:
            took_s = now - (slot.started_at or now)
            self._say("INFO", f"{slot.name} is ready after {took_s:.2f} s")
            self._put(replace(slot, phase=Phase.READY, ready_at=now, beat_at=now, ever_ready=True))
            self._look_whether_settled()

    def handed_over(self, slot_id: SlotId, now: float) -> None:
        """The process that was to be started is a spare: it lives already, and must say so soon."""
        self._put(replace(self.slots[slot_id], due_at=now + self._limits.watchdog_s))

    def beat(self, slot_id: SlotId, now: float) -> None:
        """The process says that it is alive."""
        slot = self.slots[slot_id]
        if slot.phase is Phase.STARTING and slot.beat_at is None:
            slot = replace(slot, due_at=(slot.started_at or now) + self._limits.start_s)
        self._put(replace(slot, beat_at=now))

    def exited(self, slot_id: SlotId, returncode: int, now: float, *, how: str = "") -> None:
        """The process is certainly dead: it was waited for, or could not be started (`how` says why).

        `returncode` is negative for a signal, as subprocess gives it.
        """
        slot = self.slots[slot_id]
        text = how or f"{slots.describe(returncode)} after {now - (slot.started_at or now):.0f} s"
        if returncode == -signal.SIGKILL and slot.phase is not Phase.KILLED:
            text += " (not by this supervisor: by hand, or out of memory)"
        if self.exit_code is not None or slot.leaving:
            self._say("INFO", f"{slot.name} {text}")
            del self.slots[slot_id]
        elif slot.again:
            self._say("INFO", f"{slot.name} {text}; starting it again as asked")
            self._put(replace(slots.fresh(slot, now), restarts=slot.restarts + 1))
        else:
            self._died(slot, returncode, text, now)

    def thawed(self, now: float) -> None:
        """This supervisor itself stood still: what it missed says nothing of its children; all waits begin anew."""
        for slot in self.slots.values():
            if slot.phase is Phase.STARTING:
                self._put(replace(slot, due_at=now + self._limits.start_s))
            elif slot.phase is Phase.READY:
                self._put(replace(slot, beat_at=now))
            elif slot.phase is Phase.STOPPING:
                self._put(replace(slot, due_at=self._stop_deadline(slot.role, now)))

    # ── what to do ──

    def due(self, now: float) -> list[Action]:
        """Return what must be done now, in order. The caller does all of it."""
        if self.exit_code is not None:
            self._drain(now)
        for slot in list(self.slots.values()):
            self._move(slot, now)
        actions, self._said = self._said, []
        if self.exit_code is not None and not self.slots:
            actions.append(Finish(self.exit_code))
        return actions

    def wait_s(self, now: float, at_most_s: float) -> float:
        """Return how long nothing will be due, unless something happens."""
        if self._said:
            return 0.0
        times = [self._due_at(slot) for slot in self.slots.values() if slot.phase not in (Phase.GIVEN_UP, Phase.KILLED)]
        if self.exit_code is not None:
            times.append(now + 0.05)  # peers are looked at, not announced
        return max(0.0, min([at_most_s, *(moment - now for moment in times)]))

    @property
    def settled(self) -> bool:
        """Whether the start of all that is wanted is over, as `slots.is_start_over` has it."""
        return slots.is_start_over(self.slots.values())

    # ── inside ──

    def _look_whether_settled(self) -> None:
        self._settled_once = self._settled_once or self.settled

    def _due_at(self, slot: Slot) -> float:
        if slot.phase is Phase.READY:
            return (slot.beat_at or 0.0) + self._limits.watchdog_s
        if slot.phase is Phase.WAITING and self._held(slot):
            return max(slot.due_at, self._began_at + self._limits.store_head_start_s)
        return slot.due_at

    def _held(self, slot: Slot) -> bool:
        """Whether this start still waits for the store, which is started first but not waited for without end."""
        store = self.slots.get((Role.STORE, 1))
        return slot.role is not Role.STORE and store is not None and not store.ever_ready

    def _move(self, slot: Slot, now: float) -> None:
        if slot.phase in (Phase.GIVEN_UP, Phase.KILLED) or now < self._due_at(slot):
            return
        if slot.phase is Phase.WAITING:
            self._said.append(Start(slot.id))
            self._put(replace(slot, phase=Phase.STARTING, due_at=now + self._limits.start_s, started_at=now))
        elif slot.phase is Phase.STARTING:
            self._hung(slot, f"{slot.name} was not ready within {self._limits.start_s:.0f} s: killing it", now)
        elif slot.phase is Phase.READY:
            silent_s = now - (slot.beat_at or now)
            self._hung(slot, f"{slot.name} did not beat for {silent_s:.1f} s: killing it", now)
        elif slot.phase is Phase.STOPPING:
            self._say("WARNING", f"{slot.name} did not stop in time: killing it")
            self._kill(slot, now)
        else:
            self._kill(slot, now)

    def _hung(self, slot: Slot, text: str, now: float) -> None:
        self._say("ERROR", text)
        self._said.append(Dump(slot.id))
        self._put(replace(slot, phase=Phase.HUNG, due_at=now + self._limits.dump_s))

    def _kill(self, slot: Slot, now: float) -> None:
        self._said.append(Kill(slot.id))
        self._put(replace(slot, phase=Phase.KILLED, due_at=now))

    def _terminate(self, slot: Slot, now: float) -> None:
        if slot.phase in (Phase.STARTING, Phase.READY):
            self._said.append(Terminate(slot.id))
            slot = replace(slot, phase=Phase.STOPPING, due_at=self._stop_deadline(slot.role, now))
        self._put(slot)

    def _leave(self, slot: Slot, now: float) -> None:
        if slot.phase in slots.WITHOUT_PROCESS:
            del self.slots[slot.id]
        else:
            self._terminate(replace(slot, leaving=True, again=False), now)

    def _drain(self, now: float) -> None:
        for slot in list(self.slots.values()):
            if slot.role is not Role.STORE:
                self._leave(slot, now)
        store = self.slots.get((Role.STORE, 1))
        if store is None or len(self.slots) > 1:
            return
        # The store goes last: the others still hand in results and give leases back.
        peers_may_need_it = self.peers_alive and now < self._drain_at + self._limits.peers_wait_s
        if store.phase in slots.WITHOUT_PROCESS or not peers_may_need_it:
            self._leave(store, now)

    def _died(self, slot: Slot, returncode: int, text: str, now: float) -> None:
        name = slot.name
        if not self._limits.restart:
            self._lost(slot)
            self.drain(
                slots.exit_code_of(returncode), f"{name} {text}; stopping, as restarts are off", now, level="ERROR"
            )
            return
        if returncode in (ExitCode.LOCKED, ExitCode.CONFIG) and slot.role in slots.NEVER_MISSED:
            self._give_up(slot, f"{name} {text}", now)
            return
        if returncode == ExitCode.LOCKED:
            self._lost(slot)
            self.drain(ExitCode.LOCKED, f"{name} {text}; stopping everything", now, level="ERROR")
            return
        # A wrong setting stops the start. Later, one slot that is added with it must not end a pipeline that runs.
        if returncode == ExitCode.CONFIG and not slot.ever_ready and not self._settled_once:
            self._lost(slot)
            why = f"{name} {text}; it is not started again until that is mended. Stopping everything"
            self.drain(ExitCode.CONFIG, why, now, level="ERROR")
            return
        stable = slot.ready_at is not None and now - slot.ready_at >= self._limits.stable_s
        failures = 0 if stable else slot.failures
        deaths = (*(at for at in slot.deaths if now - at < self._limits.restarts_window_s), now)
        if returncode == ExitCode.CONFIG or len(deaths) >= self._limits.restarts_max:
            times = "" if returncode == ExitCode.CONFIG else f", {len(deaths)} deaths in {now - deaths[0]:.0f} s"
            self._give_up(slot, f"{name} {text}{times}", now)
            return
        delay_s = slots.backoff_s(failures, self._limits, self._jitter())
        self._say("WARNING", f"{name} {text}; starting it again" + (f" in {delay_s:.1f} s" if delay_s else ""))
        waiting = slots.fresh(slot, now + delay_s)
        self._put(replace(waiting, deaths=deaths, failures=failures + 1, restarts=slot.restarts + 1))

    def _give_up(self, slot: Slot, text: str, now: float) -> None:
        may_miss = self._limits.may_give_up or slot.role in slots.NEVER_MISSED
        if slot.role in slots.GIVEN_UP_ALONE and may_miss:
            again = f"The rest runs on; try it again with: supervisor restart {slot.name}"
            self._say("ERROR", f"{text}: given up. {again}", event="process_given_up")
            self._put(replace(slots.fresh(slot, now), phase=Phase.GIVEN_UP))
            self._look_whether_settled()
            return
        self._lost(slot)
        self.drain(ExitCode.GAVE_UP, f"{text}: nothing can go on without it; stopping everything", now, level="ERROR")

    def _lost(self, slot: Slot) -> None:
        del self.slots[slot.id]

    def _stop_deadline(self, role: Role, now: float) -> float:
        if role is Role.STORE and self.exit_code is not None:
            return max(now + self._limits.store_stop_s, self._drain_at + self._limits.stop_s)
        return now + self._limits.stop_s

    def _put(self, slot: Slot) -> None:
        self.slots[slot.id] = slot

    def _say(self, level: Literal["INFO", "WARNING", "ERROR"], text: str, *, event: str = "") -> None:
        self._said.append(Say(level, text, event))
