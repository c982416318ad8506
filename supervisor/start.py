"""Start a supervisor: settings, Procfile, locks, logging, then the tree until it ends.

Run by the command line for `supervisor` and `supervisor run NAME`. The two kinds exclude each other for one data folder
(an exclusive against a shared lock); several `run` coexist, one for each slot.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from loguru import logger
from msgspec.structs import replace
from setproctitle import setproctitle

from bus import logs, messages, runtime
from bus.clock import SystemClock
from bus.errors import LockHeld
from bus.messages import Peer
from bus.vocabulary import ExitCode, Role
from config import entitled, load
from config.settings import Settings
from supervisor import formation, process, procfile
from supervisor.slots import Limits
from supervisor.tree import Task, Tree

HONCHO_STOP_S = 4.0  # honcho sends SIGKILL 5 s after it asked


class RunsAlready(LockHeld):
    """A supervisor runs for this data folder already."""


def run_all(
    changes: formation.Formation,
    profile: str | None,
    procfile_path: Path | None,
    *,
    only: bool = False,
    monitor_only: bool = False,
    once: bool = False,
    restart: bool = True,
    spares: bool = False,
    commands: process.Commands | None = None,
) -> int:
    """Supervise all names of the Procfile, or with `only` those of `changes`; return the exit code.

    Raises:
        ConfigError, UsageError: settings, Procfile or formation cannot be.
        RunsAlready: another one does; nothing was started.
    """
    settings = load.settings(profile)
    _check_place(settings, changes if only else None)
    default_path = procfile.default_path(load.ROOT, paper=not settings.broker.is_live)
    roles = tuple(changes) if only else procfile.roles(procfile_path or default_path, load.profile_file(profile))
    wanted = formation.of(roles, changes, monitor_only=monitor_only)
    if once and not all(wanted.get(role) for role in formation.TRADING):
        raise formation.UsageError(f"--once needs at least one each of {', '.join(formation.TRADING)}")
    run_folder = load.run_folder()
    try:
        lock = runtime.acquire_lock(run_folder / "formation.lock", "supervisor")
    except LockHeld as error:
        raise RunsAlready(f"{error}; it serves the same data folder {load.data_folder()}") from error
    task = Task(
        scope="all",
        roles=roles,
        slots=tuple(formation.slots(wanted)),
        limits=limits_of(settings, restart=restart, may_give_up=not once),
        environment=_environment(profile, run_folder),
        spares=restart and (spares or settings.supervisor.spares),
    )
    with contextlib.ExitStack() as at_end:
        at_end.callback(lock.release)
        return _run(task, settings, run_folder, commands, once=once)


def run_one(
    name: str,
    slot: int | None,
    profile: str | None,
    *,
    restart: bool = True,
    spares: bool = False,
    commands: process.Commands | None = None,
) -> int:
    """Supervise one process of `name`; return the exit code.

    Raises:
        ConfigError, UsageError: the name or slot cannot be.
        LockHeld: the slot is taken, or a supervisor of all names runs.
    """
    role = formation.role_of(name)
    wanted = slot_wanted(role, slot, os.environ.get("HONCHO_PROCESS_NAME", ""))
    settings = load.settings(profile)
    if settings.bus.store:
        _check_place(settings, {role: 1})
    run_folder = load.run_folder()
    owner = f"supervisor run {role}"
    with contextlib.ExitStack() as at_end:
        at_end.callback(runtime.acquire_lock(run_folder / "formation.lock", owner, shared=True).release)
        number, lock = _take_slot(run_folder, role, wanted, owner)
        at_end.callback(lock.release)
        task = Task(
            scope=f"{role}.{number}",
            roles=(role,),
            slots=((role, number),),
            limits=alone(limits_of(settings, restart=restart), role),
            environment=_environment(profile, run_folder),
            spares=restart and (spares or settings.supervisor.spares),
        )
        return _run(task, settings, run_folder, commands, once=False)


def _check_place(settings: Settings, only: formation.Formation | None) -> None:
    """Refuse a whole pipeline on a host without a store, and its parts on a host that has one (None: all)."""
    if not settings.bus.store:
        if only is not None:
            raise formation.UsageError("--only is for a host without a store, and bus.store is not set; use --scale")
        return
    away = ", ".join(messages.REMOTE)
    if only is None or not set(only) <= set(messages.REMOTE):
        raise formation.UsageError(
            f"the store is at {settings.bus.store}, and only {away} may run without it here: supervisor --only llm=3"
        )


def slot_wanted(role: Role, given: int | None, honcho_name: str) -> int | None:
    """Return the slot number asked for: `given`, else the one in honcho's name for this line. None: the lowest free.

    Raises:
        UsageError: not possible; the message says why.
    """
    matched = re.fullmatch(rf"{role}\.([0-9]{{1,4}})", honcho_name)
    wanted = given if given is not None else int(matched[1]) if matched else None
    if role in formation.SINGLETONS:
        if wanted not in (None, 1):
            raise formation.UsageError(f"{role}.{wanted} cannot be: {formation.SINGLETONS[role]}. Allowed: {role}.1")
        return 1
    if wanted is not None and not 1 <= wanted <= formation.LLM_MAX:
        raise formation.UsageError(f"{role}.{wanted} cannot be; allowed: {role}.1..{role}.{formation.LLM_MAX}")
    return wanted


def limits_of(settings: Settings, *, restart: bool, may_give_up: bool = True) -> Limits:
    """Return the limits of a supervisor of all names."""
    given = settings.supervisor
    return Limits(
        watchdog_s=given.watchdog_s,
        start_s=given.start_s,
        stop_s=given.stop_s,
        store_stop_s=given.stop_s,
        backoff_s=given.backoff_s,
        backoff_s_max=given.backoff_s_max,
        restarts_max=given.restarts_max,
        restarts_window_s=given.restarts_window_s,
        stable_s=given.stable_s,
        restart=restart,
        may_give_up=may_give_up,
    )


def alone(limits: Limits, role: Role) -> Limits:
    """Return the limits of a supervisor of one name: all of the stop fits into what honcho leaves."""
    whole_s = min(limits.stop_s, HONCHO_STOP_S)
    # honcho asks everybody at the same time; the store goes on while others still hand in results.
    peers_wait_s = 0.75 * whole_s if role is Role.STORE else 0.0
    stop_s = 0.95 * whole_s
    return replace(limits, stop_s=stop_s, store_stop_s=stop_s - 0.75 * whole_s, peers_wait_s=peers_wait_s)


def _take_slot(run_folder: Path, role: Role, wanted: int | None, owner: str) -> tuple[int, runtime.Lock]:
    prefix = f"supervisor.{role}"
    if wanted is not None:
        return wanted, runtime.acquire_lock(run_folder / f"{prefix}.{wanted}.lock", owner)
    number, lock = runtime.lowest_free_lock(run_folder, prefix, owner)
    if number > formation.LLM_MAX:
        lock.release()
        raise LockHeld(f"{owner}: all {formation.LLM_MAX} slots are taken")
    return number, lock


def _environment(profile: str | None, run_folder: Path) -> dict[str, str]:
    """Return what children must find, made absolute: they run in the folder of the Procfile."""
    wanted = profile or os.environ.get("PILOT_PROFILE") or "paper"
    return {
        "PILOT_PROFILE": str(Path(wanted).resolve()) if wanted.endswith(".toml") else wanted,
        "PILOT_DATA": str(load.data_folder()),
        "PILOT_RUN": str(run_folder.parent.resolve()),
    }


def _run(task: Task, settings: Settings, run_folder: Path, commands: process.Commands | None, *, once: bool) -> int:
    label = "supervisor" if task.is_whole else f"supervisor.{task.scope}"
    setproctitle("pilot: supervisor" if task.is_whole else f"pilot: supervisor of {task.scope}")
    logs.configure(label, load.data_folder() / "logs")
    logs.hide_known(entitled.everything(settings))
    logger.configure(extra={"actor": "supervisor"})
    number, lock = runtime.lowest_free_lock(run_folder, "supervisor", label)
    me = Peer(Role.SUPERVISOR, number, runtime.new_incarnation())
    clock = SystemClock()
    with contextlib.ExitStack() as at_end:
        at_end.callback(lock.release)
        cycle_done = None
        if once:
            from supervisor.once import DailyCycle

            cycle = DailyCycle(load.db_path(settings), clock)
            at_end.callback(cycle.close)
            cycle_done = cycle.done
        tree = Tree(
            task,
            me,
            settings,
            run_folder,
            clock=clock,
            commands=commands or process.command_of,
            cycle_done=cycle_done,
        )
        code = tree.run()
    if code == ExitCode.OK:
        logger.info("All stopped")
    else:
        logger.error("All stopped; exit code {}", code)
    return code
