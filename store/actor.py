"""The store's process loop: mailbox in, one transaction a batch, answers out.

The only place with its sockets and clock.
Never decides: `writer.Writer` does. A plain poller instead of asyncio: an order of magnitude more messages a second.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import apsw
from loguru import logger
from setproctitle import setproctitle

from bus import clock, codec, logs, runtime, sockets, standby
from bus.clock import Clock, SystemClock
from bus.errors import LockHeld, NotUnderstood
from bus.failpoints import reach, step_of
from bus.messages import Beat, Envelope, FromStore, Peer
from bus.vocabulary import ExitCode, Role
from config import entitled, load
from config.settings import Settings
from store import connection, upgrade
from store.archive import Archivist
from store.certificate import Gate
from store.connection import DatabaseRefused, NoRoom
from store.writer import Writer

if TYPE_CHECKING:
    from bus import hosts

T = TypeVar("T")
TICK_S_MAX = 1.0
ROOM_AGAIN_S = 2.0  # between two looks for room on a full disk, at the start
QUARANTINE_MAX = 20  # frames kept aside
PEERS_MAX = 1_000
UNTOLD_MAX = 1_000  # arrows that may wait to be logged while messages arrive
TELL_S = 0.003  # without a message, after which arrows are logged: the next arrow of an intent mostly comes earlier
SHORTEN_S = 0.02  # without a message, after which the log is shortened
LOG_PAGES_QUIET = 500  # of 4 KB, from which the log is shortened as soon as it is quiet
LOG_PAGES_MAX = 4_000  # and from which it is shortened whatever arrives: journal_size_limit is as much


class StoreActor:
    """The one writer. Runs until stopped; every way to die is a way to start again."""

    def __init__(
        self, settings: Settings, db: apsw.Connection, gate: Gate, clock: Clock, lifeline: int | None
    ) -> None:  # fmt: skip
        self._settings = settings
        self._db = db
        self._gate = gate
        self._clock = clock
        self._run_folder = load.run_folder()
        self._lifeline = lifeline
        self._poller = sockets.Poller()
        self._peers: dict[Peer, sockets.Socket] = {}
        self._door: hosts.Door | None = None
        self._not_understood = 0
        self._stopping = False
        self._log_pages = 0  # of the write-ahead log
        db.set_wal_hook(self._count_log)  # instead of SQLite's own: that one makes some commit wait for it

    def run(self) -> None:
        """Serve until a signal or the end of the supervisor, then close the database in order."""
        bytes_max = self._settings.bus.message_bytes_max
        inbox = sockets.bind_pull(sockets.store_address(self._run_folder), bytes_max)
        self._poller.register(inbox)
        writer = _with_room(self._writer)
        wakeup = self._watch_signals()
        if self._settings.bus.listen:
            from bus import hosts  # a store without other hosts starts without it

            self._door = hosts.Door(
                self._settings.bus, self._poller, self._clock, lambda name: writer.tallies.observe(name, 0.0)
            )
        logger.info("Serving epoch {} of {}", writer.epoch, self._settings.store.db_path)
        self._say_what_stands(writer)
        archivist = Archivist(self._db, load.db_path(self._settings), self._settings.store.archive_after_days)
        reach("store.before_ready")  # telling the supervisor that the store serves
        runtime.notify("READY=1")
        reach("store.after_ready")
        tick_s = min(TICK_S_MAX, self._settings.bus.dead_s / 4)  # a tick that comes late means that we slept
        next_tick_s = self._clock.monotonic()
        while not self._stopping:
            wait_s = min(self._rest_s(writer.untold), max(0.0, next_tick_s - self._clock.monotonic()))
            ready = self._poller.poll(int(wait_s * 1_000 + 1))
            self._look_for_the_end(ready, wakeup)
            batch = self._receive(inbox)
            is_due = self._clock.monotonic() >= next_tick_s
            if is_due:
                runtime.notify("WATCHDOG=1")
            # Expiry only when the inbox is empty: a beat that waits there may save a lease.
            is_tick = is_due and sum(not one.sender.host for one in batch) < self._settings.store.batch_max
            if is_tick:
                next_tick_s = self._clock.monotonic() + tick_s
                self._forget_the_dead(writer)
            if batch or is_tick:
                self._step(writer, batch, is_tick)
            if is_tick and all(isinstance(one.body, Beat) for one in batch):
                archivist.rest(self._clock.now(), self._clock.monotonic())
            if writer.untold > (UNTOLD_MAX if batch else 0):
                writer.log_moves()  # whoever waits for an answer comes first
            elif self._log_pages >= (LOG_PAGES_MAX if batch else LOG_PAGES_QUIET):
                self._shorten_log()
        writer.log_moves()
        runtime.notify("STOPPING=1")
        self._end(writer)
        self._close(inbox)

    def _writer(self) -> Writer:
        return Writer(
            self._db, self._settings.store, self._settings.bus, self._gate,
            now=self._clock.now(), now_s=self._clock.monotonic(), llm=self._settings.llm,
            symbols=self._settings.symbols,
        )  # fmt: skip

    def _say_what_stands(self, writer: Writer) -> None:
        """Warn of each halt that outlived a restart: else a pipeline that starts well would seem to trade."""
        for halt in writer.read.halts(clock.iso(self._clock.now())):
            logger.warning(
                "Halt {} ({}{}) stands since {}, by {}: {}. No order is sent until {}`pilot resume --halt {}`",
                halt.id, halt.kind, ", closing every position" if halt.flatten else "", halt.raised_at, halt.raised_by,
                " ".join(halt.reason.split()), f"{halt.until}, or " if halt.until else "", halt.id,
            )  # fmt: skip

    def _rest_s(self, untold: int) -> float:
        """Return how long nothing may come before the upkeep that is due is done."""
        if untold:
            return TELL_S
        return SHORTEN_S if self._log_pages >= LOG_PAGES_QUIET else TICK_S_MAX

    def _receive(self, inbox: sockets.Socket) -> list[Envelope]:
        batch: list[Envelope] = []
        while len(batch) < self._settings.store.batch_max and (frame := inbox.receive()) is not None:
            try:
                envelope = codec.decode_to_store(frame)
                self._refuse_strangers(envelope.sender)
                batch.append(envelope)
            except NotUnderstood as error:
                self._set_aside(frame, error)
        if self._door is not None:
            batch += self._door.receive()
        return batch

    def _refuse_strangers(self, sender: Peer) -> None:
        """Refuse what comes over ipc and speaks for a process of another host: that has a way of its own."""
        if sender.host or (self._door is not None and not self._door.is_from_here(sender)):
            raise NotUnderstood(f"{sender.name} is on another host and spoke over ipc")

    def _step(self, writer: Writer, batch: list[Envelope], is_tick: bool) -> None:
        try:
            sends = writer.step(batch, self._clock.now(), self._clock.monotonic(), tick=is_tick)
        except apsw.FullError as error:
            # Nothing was committed and nothing is acked: the senders resend until there is room again.
            logger.error("Disk full, nothing is acknowledged until there is room: {}", error)
            return
        except apsw.BusyError as error:
            logger.error("Another program writes to the database, nothing is acknowledged until it ends: {}", error)
            return
        if batch:
            reach("store.before_ack")  # all answers of one batch
        for peer, message in sends:
            self._send(peer, message)
        if batch:
            reach("store.after_ack")

    def _end_of(self, peer: Peer) -> sockets.Socket:
        """Return the way to a process of this host."""
        socket = self._peers.get(peer)
        if socket is None:
            if len(self._peers) >= PEERS_MAX:
                self._peers.pop(next(iter(self._peers))).close()
            socket = self._peers[peer] = sockets.connect_push(
                sockets.inbox_address(self._run_folder, peer),
                immediate=False,
                bytes_max=self._settings.bus.message_bytes_max,
            )
        return socket

    def _send(self, peer: Peer, message: FromStore) -> None:
        step = step_of(message)
        if reach(f"store.before_send_{step}"):  # one message to one process, after the commit; droppable
            return
        frame = codec.encode(message)
        if len(frame) > self._settings.bus.message_bytes_max:
            logger.error("Cannot send {} to {}: {} bytes", type(message).__name__, peer.name, len(frame))
        elif not (self._end_of(peer).send(frame) if not peer.host else self._door and self._door.send(peer, frame)):
            logger.debug("{} does not take messages now; it will ask again", peer.name)
        reach(f"store.after_send_{step}")

    def _forget_the_dead(self, writer: Writer) -> None:
        """Close the sockets of incarnations that are dead or whose mailbox is gone."""
        for peer in list(self._peers):
            gone = not sockets.inbox_address(self._run_folder, peer).exists()
            if gone or writer.registry.is_dead(peer.incarnation):
                self._peers.pop(peer).close()
        if self._door is not None:
            self._door.look(writer.registry.is_dead)

    def _set_aside(self, frame: bytes, error: NotUnderstood) -> None:
        """Count bytes that are no message, keep the first few for a look, and go on."""
        self._not_understood += 1
        logger.warning("Dropped a message that was not understood ({} so far): {}", self._not_understood, error)
        if self._not_understood > QUARANTINE_MAX:
            return
        folder = load.data_folder() / "quarantine"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            (folder / f"{self._not_understood:02d}.bin").write_bytes(frame[:65_536])
        except OSError as full:
            logger.warning("Could not keep it for a look: {}", full)

    def _watch_signals(self) -> int:
        """Make signals wake the poller: a Python handler alone does not end `poll`."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for wanted in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(wanted, lambda *_: None)
        self._poller.register(reading)
        if self._lifeline is not None:
            self._poller.register(self._lifeline)
        return reading

    def _look_for_the_end(self, ready: set[sockets.Socket | int], wakeup: int) -> None:
        if wakeup in ready:
            self._stopping = True
        if self._lifeline is not None and self._lifeline in ready:
            logger.warning("The supervisor is gone; stopping")
            self._stopping = True

    def _count_log(self, _: apsw.Connection, __: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK

    def _shorten_log(self) -> None:
        """Move what is committed from the log into the database, as far as no reader needs it."""
        reach("store.before_shorten_log")  # moving committed pages into the database, mostly while nothing arrives
        try:
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except (apsw.BusyError, apsw.FullError) as error:
            logger.warning("The log could not be shortened, and is tried again: {}", error)
        reach("store.after_shorten_log")
        self._log_pages = 0  # the next commit tells

    def _end(self, writer: Writer) -> None:
        try:
            writer.end(self._clock.now(), self._clock.monotonic())
        except (apsw.BusyError, apsw.FullError) as error:
            logger.warning("That the store ended in order could not be written down: {}", error)

    def _close(self, inbox: sockets.Socket) -> None:
        inbox.close()
        if self._door is not None:
            self._door.close()
        for socket in self._peers.values():
            socket.close()
        reach("store.before_checkpoint")  # moving the log into the database at an orderly stop
        try:
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.BusyError:
            logger.debug("A reader kept the log; the next start takes it over")
        self._db.close()
        reach("store.after_checkpoint")
        logger.info("Stopped")


def _with_room(begin: Callable[[], T]) -> T:
    """Return what `begin` returns, which a full disk only delays: it is tried again until there is room.

    A signal ends the process meanwhile: nothing is open that must be closed in order.
    """
    while True:
        try:
            return begin()
        except (apsw.FullError, NoRoom) as error:
            logger.error("Disk full, the store starts when there is room: {}", error)
            runtime.notify("WATCHDOG=1")
            time.sleep(ROOM_AGAIN_S)


def _lock_database(path: Path, owner: str) -> None:
    """Lock the database itself: the run folder moves with the environment, so its lock alone would admit two stores."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        runtime.acquire_lock(path.with_name(path.name + ".lock"), owner)
    except OSError as error:
        raise load.ConfigError(f"store.db_path: cannot use {path}: {error.strerror}") from error


def _warm_up(settings: Settings) -> None:
    """Load what the first work would load, as a spare does before its turn. Raises ConfigError as the start would."""
    connection.warm_up()
    Gate.load(settings)


def main() -> None:
    """Run the store and exit with a code of `ExitCode`."""
    lifeline = runtime.die_with_parent()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    os.umask(0o077)
    connection.configure_sqlite()
    try:
        was_spare = standby.wait_for_turn(Role.STORE, _warm_up)
        peer = runtime.own_peer(Role.STORE)
        setproctitle(f"pilot: {peer.name}")
        (logs.rename if was_spare else logs.configure)(peer.name, load.data_folder() / "logs")
        settings = load.settings()
        logs.hide_known(entitled.everything(settings))
        if settings.bus.store:
            raise load.ConfigError(f"bus.store is {settings.bus.store}: this host has no store; docs/hosts.md")
        runtime.acquire_lock(load.run_folder() / f"{peer.name}.lock", peer.name, wait_s=standby.LOCK_WAIT_S * was_spare)
        path = load.db_path(settings)
        _lock_database(path, peer.name)
        gate = Gate.load(settings)
        backups = load.data_folder() / "backups"
        db = _with_room(lambda: upgrade.open_writer(path, backups, SystemClock(), gate.owner))
        StoreActor(settings, db, gate, SystemClock(), lifeline).run()
        code = ExitCode.OK
    except (load.ConfigError, DatabaseRefused) as error:
        logger.error("Cannot start: {}", error)
        code = ExitCode.CONFIG
    except LockHeld as error:
        logger.error("Cannot start: {}", error)
        code = ExitCode.LOCKED
    sys.stdout.flush()
    sys.exit(code)
