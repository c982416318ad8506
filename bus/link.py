"""An actor's link to the store: commands resent until acked, beats, messages in. One per process, inside asyncio.

Never decides anything: it carries. What is queued here is lost with the process, and that is allowed for.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path

import uuid_utils
from loguru import logger

from bus import acklog, calling, codec, failpoints, messages, runtime, sockets
from bus.clock import Clock, SystemClock, iso
from bus.errors import NoAnswer, NotUnderstood
from bus.vocabulary import Role
from config import load
from config.settings import Bus

RETRY_S = 0.02  # while the store is away; a send costs nothing then
ATTACH_S = 0.1  # after a connection was made, its pipe is there within this; until then we try so often:
ATTACH_RETRY_S = 0.001
REFUSED_S = 1.0  # between two calls to a store on another host that refused our key


class _Asked:
    """A command that waits for its answer. One future ends its wait, whatever comes: tasks cost ten times that."""

    __slots__ = ("answer", "kind", "nudge")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.answer: messages.Ack | None = None
        self.nudge: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self.nudge is not None and not self.nudge.done():
            self.nudge.set_result(None)


class Link:
    """The mailbox of one incarnation and its way to the store."""

    def __init__(self, peer: messages.Peer, settings: Bus, run_folder: Path, clock: Clock) -> None:
        self.peer = peer
        self._sender = calling.called_from(peer, settings)
        self.clock = clock
        self.stopping = asyncio.Event()
        self.welcomed = asyncio.Event()
        self.store_epoch = 0
        self.not_understood = 0
        self.receive: Callable[[messages.FromStore], None] | None = None
        self.is_ready = False
        self._settings = settings
        self._run_folder = run_folder
        self._waiting: dict[str, _Asked] = {}  # by id
        self._acks = acklog.open_log(peer)
        self._beat_wanted = asyncio.Event()
        self._inbox: sockets.Socket | None = None
        self._store: sockets.Socket | None = None
        self._connections: sockets.Connections | None = None
        self._connected_at = float("-inf")
        self._refused_s = 0.0

    def open(self) -> None:
        """Bind the inbox and connect to the store. Call inside the running loop."""
        if self._settings.store:
            self._inbox = self._store = calling.call(self._settings, self.peer)
        else:
            path = sockets.inbox_address(self._run_folder, self.peer)
            self._inbox = sockets.bind_pull(path, self._settings.message_bytes_max)
            self._store = sockets.connect_push(
                sockets.store_address(self._run_folder), immediate=True, bytes_max=self._settings.message_bytes_max
            )
        self._connections = sockets.Connections(self._store)
        asyncio.get_running_loop().add_reader(self._inbox.fileno(), self.drain)
        asyncio.get_running_loop().add_reader(self._connections.fileno(), self._look_for_the_store)

    def close(self) -> None:
        """Close both ends and remove the inbox's path."""
        self._close_ends()
        if self._acks is not None:
            self._acks.close()
            self._acks = None

    def _close_ends(self) -> None:
        if self._inbox is None or self._store is None or self._connections is None:
            return
        asyncio.get_running_loop().remove_reader(self._inbox.fileno())
        asyncio.get_running_loop().remove_reader(self._connections.fileno())
        self._connections.close()
        self._inbox.close()
        self._store.close()
        sockets.inbox_address(self._run_folder, self.peer).unlink(missing_ok=True)
        self._inbox = self._store = self._connections = None

    def stop(self) -> None:
        """Ask the actor to end. Asks that are under way go on until they are answered or cancelled."""
        self.stopping.set()
        self._beat_wanted.set()

    async def sleep(self, seconds: float) -> bool:
        """Wait; return True at once when the actor is asked to stop."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return False
        return True

    def ready(self) -> None:
        """Tell the supervisor that this process can do its work."""
        if not self.is_ready:
            self.is_ready = True
            failpoints.reach(f"{self.peer.role}.before_ready")  # telling the supervisor that this process can work
            runtime.notify("READY=1")
            failpoints.reach(f"{self.peer.role}.after_ready")
        self.beat_now()

    def beat_now(self) -> None:
        """Send the next beat at once: the capacity or the leases changed."""
        self._beat_wanted.set()

    async def ask(self, command: messages.Command, deadline_s: float | None = None) -> messages.Ack:
        """Send a command, again and again with the same id, until the store has answered it durably.

        Raises:
            NoAnswer: not answered within `deadline_s` (None: wait for ever). It may have been applied all the same.
        """
        envelope = messages.Envelope(sender=self._sender, id=str(uuid_utils.uuid7()), body=command)
        frame, step = codec.encode(envelope), failpoints.step_of(command)
        loop, asked = asyncio.get_running_loop(), _Asked(type(command).__name__)
        ends_s = math.inf if deadline_s is None else loop.time() + deadline_s
        self._waiting[envelope.id] = asked
        try:
            while True:
                # What was sent into the last moments of a store is lost: a new connection nudges, too, not only time.
                asked.nudge = loop.create_future()
                sent = self._send(frame, step)
                wait_s = min(self._settings.resend_s if sent else self._retry_s(), ends_s - loop.time())
                timer = loop.call_later(max(0.0, wait_s), asked.wake)
                try:
                    await asked.nudge
                finally:
                    timer.cancel()
                if asked.answer is not None:
                    failpoints.reach(f"{self.peer.role}.after_ack_{step}")  # durable, and not yet acted upon
                    return asked.answer
                if loop.time() >= ends_s:
                    raise NoAnswer(f"{asked.kind} {envelope.id} was not answered within {deadline_s} s")
        finally:
            self._waiting.pop(envelope.id, None)

    def _look_for_the_store(self) -> None:
        if self._connections is not None and self._connections.made():
            for asked in self._waiting.values():
                asked.wake()
            self._connected_at = self.clock.monotonic()
            self.beat_now()
        if self._connections is not None and self._connections.refused:
            self._call_again()

    def _call_again(self) -> None:
        """Begin anew, a second later, with a store on another host that does not let us in: it may allow our key."""
        now_s = self.clock.monotonic()
        if not self._refused_s:
            logger.error("{} does not let this host in: is its key allowed there?", self._settings.store)
        if now_s - self._refused_s >= REFUSED_S:
            self._refused_s = now_s
            self._close_ends()
            self.open()

    def _retry_s(self) -> float:
        """Return when to try again what could not be sent. libzmq tells of a connection before it can be used."""
        is_fresh = self.clock.monotonic() - self._connected_at < ATTACH_S
        return ATTACH_RETRY_S if is_fresh else RETRY_S

    async def beat_loop(self, make: Callable[[], messages.Beat]) -> None:
        """Send a beat every `beat_s`, and at once when wanted. Runs until cancelled."""
        sent = False
        while True:
            runtime.notify("WATCHDOG=1")
            sent = self._send(codec.encode(messages.Envelope(sender=self._sender, body=make())), "beat")
            self.drain()  # a descriptor that fires on edges may miss one; once a second repairs it
            self._look_for_the_store()
            # Until the store has welcomed us, try often: start-up and recovery wait for this.
            wait_s = self._settings.beat_s
            if not sent or not self.store_epoch:
                wait_s = min(wait_s, 0.05 if sent else self._retry_s())
            try:
                async with asyncio.timeout(wait_s):
                    await self._beat_wanted.wait()
            except TimeoutError:
                pass
            self._beat_wanted.clear()

    def drain(self) -> None:
        """Take everything out of the inbox."""
        while self._inbox is not None and (frame := self._inbox.receive()) is not None:
            try:
                message = codec.decode_from_store(frame)
            except NotUnderstood as error:
                self.not_understood += 1
                logger.warning("Dropped a message from the store: {}", error)
                continue
            step = failpoints.step_of(message)
            if not failpoints.reach(f"{self.peer.role}.before_take_{step}"):  # one of the store's messages; droppable
                self._take(message)
                failpoints.reach(f"{self.peer.role}.after_take_{step}")

    def _take(self, message: messages.FromStore) -> None:
        if isinstance(message, messages.Ack):
            asked = self._waiting.get(message.id)
            if self._acks is not None:  # before anybody acts on it
                self._acks.write(message, asked.kind if asked else "", iso(self.clock.now()))
            if asked is not None and asked.answer is None:
                asked.answer = message
                asked.wake()
            return
        if isinstance(message, messages.Welcome):
            if message.store_epoch != self.store_epoch:
                logger.debug("Welcomed by store epoch {}", message.store_epoch)
            self.store_epoch = message.store_epoch
            self.welcomed.set()
            self.beat_now()
        if self.receive is not None:
            self.receive(message)

    def _send(self, frame: bytes, step: str) -> bool:
        if failpoints.reach(f"{self.peer.role}.before_send_{step}"):  # each time it is sent and resent; droppable
            return True
        sent = self._store is not None and self._store.send(frame)
        failpoints.reach(f"{self.peer.role}.after_send_{step}")
        return sent


def ask_once(command: messages.Command, role: Role = Role.PILOT, deadline_s: float = 5.0) -> messages.Ack:
    """Send one command from a process that is no actor, and return the store's answer.

    Raises:
        NoAnswer: the store did not answer within `deadline_s` (is it running?).
        config.load.ConfigError, bus.errors.LockHeld: no run folder, or too many operators at once.
    """
    run_folder = load.run_folder()
    slot, lock = runtime.lowest_free_lock(run_folder, str(role), f"{role} command")
    peer = messages.Peer(role, slot, runtime.new_incarnation())

    async def once() -> messages.Ack:
        link = Link(peer, load.settings().bus, run_folder, SystemClock())
        link.open()
        try:
            return await link.ask(command, deadline_s)
        finally:
            link.close()

    try:
        return asyncio.run(once())
    finally:
        lock.release()
