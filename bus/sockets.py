"""ZeroMQ sockets with every option set on purpose. The only place that makes sockets.

A mailbox is a PULL bound by its owner (who holds its lock first: a second bind would silently steal the path); whoever
sends connects a PUSH. Frames are single, bounded, and may be lost with a dead peer: nothing here is the truth.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import zmq

from bus.messages import Peer
from config.settings import Bus

HWM = 1_000  # the default of libzmq; RCVHWM=1 together with ZMTP heartbeats aborts the process (libzmq #3937)
RECONNECT_MS = 10
RECONNECT_MS_MAX = 0  # no backoff: the store is back within milliseconds, and asking a path costs nothing
BACKLOG = 128
HANDSHAKE_MS = 2_000  # for a connection of another host to prove its key
CALL_MS, CALL_MS_MAX = 100, 1_000  # between two calls to a store on another host
REFUSALS = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL


class Socket:
    """One end of a PUSH/PULL pair: single frames, never blocking longer than asked."""

    def __init__(self, raw: zmq.Socket[bytes], bytes_max: int) -> None:
        self.raw = raw
        self._bytes_max = bytes_max

    def send(self, frame: bytes, timeout_s: float = 0.0) -> bool:
        """Hand over a frame; False when nobody can take it within `timeout_s`. Raises ValueError when too large."""
        if len(frame) > self._bytes_max:
            raise ValueError(f"message of {len(frame)} bytes; allowed: {self._bytes_max}")
        if timeout_s and not self.raw.poll(int(timeout_s * 1_000), zmq.POLLOUT):
            return False
        try:
            self.raw.send(frame, zmq.NOBLOCK, copy=True)
        except zmq.Again:
            return False
        return True

    def receive(self) -> bytes | None:
        """Return the next frame, or None when there is none. Never blocks."""
        try:
            return self.raw.recv(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def fileno(self) -> int:
        """Return the edge-triggered descriptor: after it fires, receive until None."""
        return int(self.raw.get(zmq.FD))

    def close(self) -> None:
        self.raw.close(linger=0)


class Connections:
    """Tells when a connected end has found its mailbox: at first, and again after the owner's death.

    `refused` stays true once the other end did not let us in: libzmq does not call again then.
    """

    def __init__(self, socket: Socket) -> None:
        self.refused = False
        self._watched = socket.raw
        self._raw = socket.raw.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | REFUSALS)
        self.made()  # the descriptor fires only after a look that found nothing

    def fileno(self) -> int:
        """Return the edge-triggered descriptor: after it fires, ask `made`."""
        return int(self._raw.get(zmq.FD))

    def made(self) -> bool:
        """Return whether a connection was made since the last call."""
        found = False
        while True:
            try:
                event, _ = self._raw.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return found
            is_refusal = bool(int.from_bytes(event[:2], sys.byteorder) & REFUSALS)
            self.refused |= is_refusal
            found |= not is_refusal

    def close(self) -> None:
        """Stop watching. Before the watched end is closed."""
        self._watched.disable_monitor()
        self._raw.close(linger=0)


class Arrivals:
    """Tells that a listening end was called, by whomever: long before anybody has proved a key."""

    def __init__(self, socket: Socket) -> None:
        """Watch from now on. Raises zmq.ZMQError when there is no room for another socket."""
        self._watched = socket.raw
        address = f"inproc://arrivals.{id(self)}"
        self._watched.monitor(address, zmq.EVENT_ACCEPTED)
        raw: zmq.Socket[bytes] = self._watched.context.socket(zmq.PAIR)
        # No limit: at a full queue libzmq's thread would wait for us, holding a lock that our next bind waits for.
        raw.set(zmq.RCVHWM, 0)
        raw.connect(address)
        self.socket = Socket(raw, 0)

    def any(self) -> bool:
        """Return whether somebody called since the last look."""
        found = False
        while self.socket.receive() is not None:
            found = True
        return found

    def close(self) -> None:
        """Stop watching. Before the watched end is closed."""
        self._watched.disable_monitor()
        self.socket.close()


class Poller:
    """Wait for sockets, plain file descriptors and pidfds together."""

    def __init__(self) -> None:
        self._poller = zmq.Poller()
        self._sockets: dict[zmq.Socket[bytes], Socket] = {}

    def register(self, source: Socket | int) -> None:
        if isinstance(source, Socket):
            self._sockets[source.raw] = source
            self._poller.register(source.raw, zmq.POLLIN)
        else:
            self._poller.register(source, zmq.POLLIN)

    def unregister(self, source: Socket | int) -> None:
        with contextlib.suppress(KeyError):
            self._poller.unregister(source.raw if isinstance(source, Socket) else source)
        if isinstance(source, Socket):
            self._sockets.pop(source.raw, None)

    def poll(self, timeout_ms: int) -> set[Socket | int]:
        """Return what can be read now, as it was registered; empty after `timeout_ms`."""
        ready: set[Socket | int] = set()
        for source, _ in self._poller.poll(timeout_ms):
            ready.add(source if isinstance(source, int) else self._sockets[source])
        return ready


def bind_pull(path: Path, bytes_max: int) -> Socket:
    """Bind a mailbox at `path`. The caller holds the lock that makes the path its own."""
    raw: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
    _common(raw)
    raw.set(zmq.RCVHWM, HWM)
    raw.set(zmq.MAXMSGSIZE, bytes_max)
    raw.set(zmq.BACKLOG, BACKLOG)
    path.unlink(missing_ok=True)
    raw.bind(f"ipc://{path}")
    return Socket(raw, bytes_max)


def connect_push(path: Path, *, immediate: bool, bytes_max: int = 1_048_576) -> Socket:
    """Connect to a mailbox. With `immediate`, nothing is queued while the owner is away: send answers False."""
    raw: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
    _common(raw)
    raw.set(zmq.SNDHWM, HWM)
    raw.set(zmq.IMMEDIATE, int(immediate))
    raw.set(zmq.RECONNECT_IVL, RECONNECT_MS)
    raw.set(zmq.RECONNECT_IVL_MAX, RECONNECT_MS_MAX)
    raw.connect(f"ipc://{path}")
    return Socket(raw, bytes_max)


def _common(raw: zmq.Socket[bytes]) -> None:
    raw.set(zmq.LINGER, 0)
    raw.set(zmq.SNDTIMEO, 0)
    raw.set(zmq.RCVTIMEO, 0)
    # HEARTBEAT_IVL stays unset: we beat in the application.


def over_tcp(raw: zmq.Socket[bytes], settings: Bus) -> None:
    """Set what both ends of a connection between hosts need. A cut is noticed within about half of `dead_s`.

    By the kernel, which gives up what nobody confirms, and never by ZMTP heartbeats: with a full queue they abort the
    process (`!_io_error`), and a full queue is what others can bring about.
    """
    cut_s = max(0.5, 0.6 * settings.dead_s)
    _common(raw)
    raw.set(zmq.MAXMSGSIZE, settings.message_bytes_max)
    raw.set(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    raw.set(zmq.TCP_MAXRT, int(1_000 * cut_s))
    raw.set(zmq.TCP_KEEPALIVE, 1)
    raw.set(zmq.TCP_KEEPALIVE_IDLE, max(1, round(cut_s)))
    raw.set(zmq.TCP_KEEPALIVE_INTVL, 1)
    raw.set(zmq.TCP_KEEPALIVE_CNT, 3)
    raw.set(zmq.IPV6, int("[" in settings.listen + settings.store))


def warm_up() -> None:
    """Start what all sockets of this process share, its threads included, without binding or connecting any."""
    zmq.Context.instance().socket(zmq.PULL).close(linger=0)


def store_address(run_folder: Path) -> Path:
    """Return the path of the store's mailbox."""
    return run_folder / "store.in"


def inbox_address(run_folder: Path, peer: Peer) -> Path:
    """Return the path of the mailbox of one incarnation: derived, never taken from a message."""
    return run_folder / f"{peer.name}.{peer.incarnation}.in"
