"""A store that listens for other hosts, the keys of both sides, and whoever calls: bare connections, whole workers.

with hosts.listening() as found:
    key = found.allow("gpu1")
    with found.caller(key) as wire:
        wire.send(an_envelope)
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec
import zmq

from bus import calling, codec, keys, messages, sockets
from bus.keys import Pair
from bus.messages import Envelope, FromStore, Peer
from bus.vocabulary import Role, State
from config import load
from config.settings import Bus
from tests.kit import pipeline
from tests.kit.eventually import eventually
from tests.kit.store_process import BYTES_MAX, StoreProcess, Wire, store_process


class Caller:
    """A bare connection of one key: sends what it is told, resends nothing, hides nothing."""

    def __init__(self, settings: Bus, peer: Peer, context: zmq.Context[zmq.Socket[bytes]] | None = None) -> None:
        self._settings, self._peer, self._context = settings, peer, context
        self.got: list[FromStore] = []
        self._call()

    def _call(self) -> None:
        self._socket = calling.call(self._settings, self._peer, self._context)
        self._connections = sockets.Connections(self._socket)

    def send(self, frame: bytes | Envelope, *more: bytes) -> None:
        """Hand over one message; calls until the store lets us in, which may allow the key in a moment."""
        raw = frame if isinstance(frame, bytes) else codec.encode(frame)

        def sent() -> bool:
            self._connections.made()
            if self._connections.refused:
                self.close()
                self._call()
            try:
                self._socket.raw.send_multipart([raw, *more], zmq.NOBLOCK)
            except zmq.Again:
                return False
            return True

        eventually(sent)

    def send_once(self, frame: bytes) -> None:
        """Hand over one frame if it is taken now, looking at nothing before."""
        with suppress(zmq.Again):
            self._socket.raw.send(frame, zmq.NOBLOCK)

    def has_called(self) -> bool:
        """Return whether the store let us in since the last call."""
        return self._connections.made()

    def is_let_in(self, wait_s: float = 0.0) -> bool:
        return bool(self._socket.raw.poll(int(wait_s * 1_000), zmq.POLLOUT))

    def take(self) -> list[FromStore]:
        """Return all that came so far."""
        while (frame := self._socket.receive()) is not None:
            self.got.append(codec.decode_from_store(frame))
        return self.got

    def first(self, kind: type[messages.Message], number: int = 0) -> messages.Message:
        """Wait for the n-th message of a kind."""

        def found() -> messages.Message | None:
            those = [one for one in self.take() if isinstance(one, kind)]
            return those[number] if len(those) > number else None

        return eventually(found)  # type: ignore[return-value]

    def close(self) -> None:
        self._connections.close()
        self._socket.close()


class ListeningStore:
    """One store over the life of a test module, and the folders of those who call it."""

    def __init__(self, store: StoreProcess, address: str) -> None:
        self.store = store
        self.address = address
        self.keys = store.base / "keys"
        self.public = keys.new_pair(self.keys, Role.STORE).public
        profile = store.base / "test.toml"
        profile.write_text(profile.read_text() + f'listen = "{address}"\nkeys = "{self.keys}"\n')
        self._workers: list[subprocess.Popen[bytes]] = []

    def new_key(self, name: str) -> Pair:
        """Make the keys of a host that nobody allowed yet."""
        folder = self.store.base / name
        found = keys.new_pair(folder, Role.LLM)
        keys.trust(folder, self.public)
        return found

    def allow(self, name: str) -> Pair:
        found = self.new_key(name)
        keys.allow(self.keys, Role.LLM, name, found.public)
        return found

    def bus(self, name: str) -> Bus:
        """Return the settings of a host with the keys of `name`."""
        return Bus(
            beat_s=0.1, dead_s=1.0, resend_s=0.1, message_bytes_max=BYTES_MAX, store=self.address,
            keys=str(self.store.base / name),
        )  # fmt: skip

    @contextmanager
    def caller(
        self, name: str, peer: Peer, context: zmq.Context[zmq.Socket[bytes]] | None = None, address: str = ""
    ) -> Iterator[Caller]:  # fmt: skip
        """Connect with the keys of `name`, to the store or to what stands between it and us at `address`."""
        settings = self.bus(name)
        found = Caller(msgspec.structs.replace(settings, store=address or settings.store), peer, context)
        try:
            yield found
        finally:
            found.close()

    @contextmanager
    def here(self, peer: Peer) -> Iterator[Wire]:
        """Connect over ipc, as a process of the store's host."""
        with self.store.wire(peer) as wire:
            yield wire

    def work(self, name: str, count: int = 1, **environment: str) -> subprocess.Popen[bytes]:
        """Start `supervisor --only llm=COUNT` in folders of its own, as the host with the keys of `name`."""
        base = self.store.base / name
        (base / "run").mkdir(mode=0o700, exist_ok=True)
        profile = base / "worker.toml"
        settings = self.bus(name)
        profile.write_text(
            "[bus]\n"
            + "".join(
                f"{key} = {msgspec.json.encode(getattr(settings, key)).decode()}\n"
                for key in ("beat_s", "dead_s", "resend_s", "message_bytes_max", "store", "keys")
            )
        )
        own = {
            "PILOT_DATA": str(base / "data"), "PILOT_RUN": str(base / "run"), "PILOT_PROFILE": str(profile),
            "PILOT_FAILPOINTS": str(self.store.points), "PATH": f"{pipeline.BIN}:{os.environ['PATH']}",
        }  # fmt: skip
        with (base / "worker.log").open("ab") as log:
            found = subprocess.Popen(
                [str(pipeline.BIN / "supervisor"), "--only", f"llm={count}"], env=os.environ | own | environment,
                cwd=load.ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self._workers.append(found)
        return found

    def said(self, name: str) -> str:
        """Return the log of a worker's host."""
        return (self.store.base / name / "worker.log").read_text()

    def end(self) -> None:
        for one in self._workers:
            one.send_signal(signal.SIGCONT)
            one.terminate()
        for one in self._workers:
            try:
                one.wait(10)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()


@contextmanager
def listening(address: str = "") -> Iterator[ListeningStore]:
    """Give a store that is started and listens on `address` (loopback, a free port); leave nothing behind."""
    with store_process() as store:
        found = ListeningStore(store, address or f"tcp://127.0.0.1:{pipeline.free_port()}")
        try:
            yield found
        finally:
            found.end()


def context() -> zmq.Context[zmq.Socket[bytes]]:
    """Return a context whose thread lives where this one is now."""
    found = zmq.Context()
    found.socket(zmq.PULL).close()
    return found


def a_beat(peer: Peer, store_epoch: int, *holding: messages.Held, capacity: int = 1) -> Envelope:
    """Return the beat of an analyst with one slot."""
    body = messages.Beat(
        pid=1, state=State.READY, capacity=capacity, holding=holding, seen_store_epoch=store_epoch
    )  # fmt: skip
    return Envelope(sender=peer, body=body)
