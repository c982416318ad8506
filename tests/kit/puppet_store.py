"""A store that a test plays by hand: the real mailbox, the real messages, no database. In the test's own event loop.

For situations that a real store reaches only by luck: crossing messages, lost acks, stale leases.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from bus import codec, messages, sockets
from bus.actor import Actor, BeatState
from bus.clock import Clock, SystemClock
from bus.link import Link
from bus.messages import Ack, Beat, Envelope, Peer, Welcome
from bus.vocabulary import Outcome, Role
from config.settings import Settings

BYTES_MAX = 1_048_576
M = TypeVar("M", bound=messages.Message)


class PuppetStore:
    """Welcomes whoever beats, records all commands, and acks them as `answer` says (None: no ack)."""

    def __init__(self, run_folder: Path) -> None:
        self.beats: list[Beat] = []
        self.commands: list[Envelope] = []
        self.answer: Callable[[Envelope], Outcome | None] = lambda envelope: Outcome.APPLIED
        self._run_folder = run_folder
        self._inbox = sockets.bind_pull(sockets.store_address(run_folder), BYTES_MAX)
        self._ways: dict[Peer, sockets.Socket] = {}
        self._peer: Peer | None = None
        self._pump = asyncio.create_task(self._serve())

    async def close(self) -> None:
        self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)
        self._inbox.close()
        for way in self._ways.values():
            way.close()

    def tell(self, message: messages.FromStore, peer: Peer | None = None) -> None:
        """Send a message to the one who beat last, or to `peer`."""
        to = peer or self._peer
        assert to is not None, "nobody has beaten yet"
        if to not in self._ways:
            address = sockets.inbox_address(self._run_folder, to)
            self._ways[to] = sockets.connect_push(address, immediate=False)
        assert self._ways[to].send(codec.encode(message))

    def of(self, kind: type[M]) -> list[M]:
        """Return the commands of one kind, in order, resends included."""
        return [envelope.body for envelope in self.commands if isinstance(envelope.body, kind)]

    async def _serve(self) -> None:
        while True:
            while (frame := self._inbox.receive()) is not None:
                self._take(codec.decode_to_store(frame))
            await asyncio.sleep(0.002)

    def _take(self, envelope: Envelope) -> None:
        if isinstance(envelope.body, Beat):
            self.beats.append(envelope.body)
            self._peer = envelope.sender
            if envelope.body.seen_store_epoch == 0:
                self.tell(Welcome(store_epoch=1))
            return
        self.commands.append(envelope)
        outcome = self.answer(envelope)
        if outcome is not None:
            self.tell(Ack(id=envelope.id, outcome=outcome), envelope.sender)


@asynccontextmanager
async def running(
    kind: Callable[[Link, Settings, Clock], Actor], role: Role, settings: Settings, run_folder: Path
) -> AsyncIterator[Actor]:
    """Run an actor of `kind` on a real link beside the test; stop it in order at the end."""
    link = Link(Peer(role, 1, "0123456789ab"), settings.bus, run_folder, SystemClock())
    found = kind(link, settings, SystemClock())
    link.receive = found.on_message
    link.open()

    def beat() -> Beat:
        said: BeatState = found.beat()
        return Beat(
            pid=1, state=said.state, capacity=said.capacity, holding=said.holding, progress=said.progress,
            seen_store_epoch=link.store_epoch,
        )  # fmt: skip

    beats = asyncio.create_task(link.beat_loop(beat))
    job = asyncio.create_task(found.run())
    try:
        yield found
    finally:
        link.stop()
        done, _ = await asyncio.wait((job,), timeout=10)
        beats.cancel()
        link.close()
        assert done, "the actor did not stop"
        job.result()
