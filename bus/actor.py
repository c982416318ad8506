"""The generic loop of every asyncio actor: lock, link, beats, signals, lifeline, orderly stop. Callbacks per actor.

Start and recovery are the same path: nothing here asks whether the last life ended well. The store and the supervisor
have loops of their own. The order of the end: stop is wanted -> `run` returns (with a time limit) ->
link closes -> exit.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from typing import ClassVar, NoReturn

from loguru import logger
from msgspec import Struct
from setproctitle import setproctitle

from bus import logs, messages, runtime, standby, tallies
from bus.clock import Clock, SystemClock
from bus.errors import LockHeld, NoAnswer
from bus.link import Link
from bus.messages import Held
from bus.vocabulary import ExitCode, Role, State
from config import entitled, load
from config.settings import Settings


class BeatState(Struct, frozen=True, kw_only=True):
    """What an actor says of itself. `capacity` is the total it can hold; the store subtracts what it holds."""

    state: State = State.READY
    capacity: int = 0
    holding: tuple[Held, ...] = ()
    progress: int = 0


class Actor:
    """One process of the pipeline. Subclasses set `role` and override `run`, `on_message` and `beat`."""

    role: ClassVar[Role]
    announces_ready: ClassVar[bool] = False  # True: the actor calls `link.ready()` itself

    @classmethod
    def warm_up(cls, settings: Settings) -> None:
        """Load what the first work would load. Called in a spare, before its turn: take, bind, write, ask nothing.

        Raises config.load.ConfigError as `__init__` would.
        """

    def __init__(self, link: Link, settings: Settings, clock: Clock) -> None:
        self.link = link
        self.settings = settings
        self.clock = clock

    async def run(self) -> None:
        """Do the job. Must return soon after `link.stopping` is set; an exception ends the process."""
        await self.link.stopping.wait()

    def on_message(self, message: messages.FromStore) -> None:
        """Take a message of the store (never an Ack). Must not block."""

    def beat(self) -> BeatState:
        """Return what the next beat says."""
        return BeatState()


def main(kind: Callable[[Link, Settings, Clock], Actor]) -> NoReturn:
    """Run one actor for life and exit with a code of `ExitCode`."""
    role: Role = kind.role  # type: ignore[attr-defined]
    _without_trio()
    lifeline = runtime.die_with_parent()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    os.umask(0o077)
    try:
        was_spare = standby.wait_for_turn(role, kind.warm_up)  # type: ignore[attr-defined]
        peer = runtime.own_peer(role)
        setproctitle(f"pilot: {peer.name}")
        (logs.rename if was_spare else logs.configure)(peer.name, load.data_folder() / "logs")
        settings = load.settings()
        logs.hide_known(entitled.everything(settings))
        run_folder = load.run_folder()
        # Held for life. For the executor this is the fence: a stopped one keeps it, a second one cannot run.
        runtime.acquire_lock(run_folder / f"{peer.name}.lock", peer.name, wait_s=standby.LOCK_WAIT_S * was_spare)
        code = asyncio.run(_live(kind, peer, settings, lifeline))
    except load.ConfigError as error:
        logger.error("Cannot start: {}", error)
        code = ExitCode.CONFIG
    except LockHeld as error:
        logger.error("Cannot start: {}", error)
        code = ExitCode.LOCKED
    sys.stdout.flush()
    sys.exit(code)


def _without_trio() -> None:
    """Let nobody find trio: we run on asyncio, and httpcore would load all of it, a third of a start, where it is."""
    sys.modules.setdefault("trio", None)  # type: ignore[arg-type]


async def _live(
    kind: Callable[[Link, Settings, Clock], Actor], peer: messages.Peer, settings: Settings, lifeline: int | None
) -> int:
    clock = SystemClock()
    link = Link(peer, settings.bus, load.run_folder(), clock)
    _watch_for_the_end(link, lifeline)
    link.open()  # first: the store is found meanwhile
    try:
        actor = kind(link, settings, clock)
    except BaseException:
        link.close()
        raise
    link.receive = actor.on_message
    job = asyncio.create_task(actor.run(), name="run")
    beats = asyncio.create_task(link.beat_loop(lambda: _beat_of(actor)), name="beats")
    if not actor.announces_ready:
        link.ready()
    stop = asyncio.create_task(link.stopping.wait(), name="stop")
    try:
        await asyncio.wait((job, beats, stop), return_when=asyncio.FIRST_COMPLETED)
        if beats.done():
            beats.result()  # raises: a beat that cannot be sent is a defect
        if not job.done():
            runtime.notify("STOPPING=1")
            await asyncio.wait((job,), timeout=settings.supervisor.stop_s - 0.5)
        if not job.done():
            logger.warning("Did not finish within {} s; leaving the rest to recovery", settings.supervisor.stop_s - 0.5)
            job.cancel()
            await asyncio.wait((job,), timeout=0.2)
            return ExitCode.OK
        return _result_of(job, link)
    finally:
        beats.cancel()
        stop.cancel()
        link.close()


def _result_of(job: asyncio.Task[None], link: Link) -> int:
    """Return the exit code of a finished job; re-raise what killed it unless it was only the end of the store."""
    try:
        job.result()
    except NoAnswer as error:
        if not link.stopping.is_set():
            raise
        logger.info("Stopped without an answer: {}", error)
    return ExitCode.OK


def _beat_of(actor: Actor) -> messages.Beat:
    said = actor.beat()
    draining = actor.link.stopping.is_set()
    return messages.Beat(
        pid=os.getpid(),
        state=State.DRAINING if draining else said.state,
        capacity=0 if draining else said.capacity,
        holding=said.holding,
        progress=said.progress,
        seen_store_epoch=actor.link.store_epoch,
        tallies=tallies.PROCESS.told(),
    )


def _watch_for_the_end(link: Link, lifeline: int | None) -> None:
    """Stop in order on SIGTERM, SIGINT, SIGQUIT and on the death of the supervisor."""
    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        loop.add_signal_handler(wanted, link.stop)
    if lifeline is None:
        return

    def parent_gone() -> None:
        loop.remove_reader(lifeline)
        logger.warning("The supervisor is gone; stopping")
        link.stop()

    loop.add_reader(lifeline, parent_gone)
