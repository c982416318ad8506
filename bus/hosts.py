"""The store's door for analysts on other hosts: tcp with CURVE keys, an allow-list, and whose word counts.

Part of the store process, only where `bus.listen` is set. One ROUTER in a context of its own, so that handshakes never
hold up what comes over ipc. Each message is judged by the key of the connection it came over, never by what it claims:
key still allowed, role of the key, a process that belongs to this key. Whatever else comes is counted and dropped.
An answer goes back over the connection of its peer and nowhere else.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import zmq
from loguru import logger
from zmq.utils import z85

from bus import codec, keys, sockets, tallies
from bus.clock import Clock
from bus.errors import NotUnderstood
from bus.keys import Allowed, KeyRefused
from bus.messages import Envelope, Peer
from bus.vocabulary import Role
from config.settings import Bus

ZAP = "inproc://zeromq.zap.01"  # rfc.zeromq.org/spec/27: libzmq asks here whether a key may come in
ZAP_DOMAIN = b"pilot"
ZAP_TURN_MAX = 32  # questions answered in one turn of the store: a flood waits, the store's work does not
BATCH_MAX = 64  # messages of other hosts in one turn
CONNECTIONS_MAX = 200
DESCRIPTORS_WANTED = 8_192  # a login shell gives 1,024, which a flood takes before we have seen it
LOOK_S = 0.1  # between two looks at the allow-list
PEERS_MAX = 1_000
NAMES_MAX = 500  # names that one key may use in an hour: pods come and go
NAMES_S = 3_600.0
SAY_S = 60.0  # between two lines about one sender
SENDERS_MAX = 1_000


class Denials:
    """Counts what is refused, and says so once a minute for each sender: a flood must not fill the log."""

    def __init__(self, clock: Clock, count: Callable[[tallies.Name], None]) -> None:
        self._clock = clock
        self._count = count
        self._said: dict[str, tuple[float, int]] = {}  # by sender: when last, refusals since

    def add(self, name: tallies.Name, sender: str, why: str) -> None:
        """Count a refusal under `name`, and say why when nothing was said of this sender for a while."""
        self._count(name)
        self.say(sender, f"refused: {why}")

    def say(self, sender: str, what: str) -> None:
        now_s = self._clock.monotonic()
        said_s, since = self._said.pop(sender, (now_s - SAY_S, 0))
        if now_s - said_s >= SAY_S:
            more = f" ({since} more since the last line)" if since else ""
            logger.warning("{}: {}{}", sender, what, more)
            said_s, since = now_s, -1
        if len(self._said) >= SENDERS_MAX:
            self._said.pop(next(iter(self._said)))
        self._said[sender] = (said_s, since + 1)


class Door:
    """The listening socket, its guard and the way back to each peer."""

    def __init__(
        self, settings: Bus, poller: sockets.Poller, clock: Clock, count: Callable[[tallies.Name], None]
    ) -> None:
        """Bind; an address that is not there, and a list that cannot be read, are tried again.

        Raises KeyRefused when our own keys cannot be.
        """
        self._folder = Path(settings.keys)
        self._pair = keys.pair(self._folder, Role.STORE)
        self._settings = settings
        self._poller = poller
        self._clock = clock
        self._denials = Denials(clock, count)
        self._seen: object = None  # what `keys.changed` said of the list that was read last; None: it is to be read
        self._unread = ""  # why it could not be read
        self._allowed: dict[str, Allowed] = {}
        self._routes: dict[Peer, bytes] = {}
        self._hosts: dict[str, str] = {}  # by incarnation: the key's name, empty for this host
        self._names: dict[str, set[str]] = {}
        self._names_since_s = clock.monotonic()
        self._context = zmq.Context()
        self._others = _descriptors() or 0
        self._connections_max = min(CONNECTIONS_MAX, (_descriptors_max() - self._others) // 2)
        self._zap = sockets.Socket(self._context.socket(zmq.REP), settings.message_bytes_max)
        self._zap.raw.set(zmq.LINGER, 0)
        self._zap.raw.bind(ZAP)
        poller.register(self._zap)
        self._bound = ""
        self._is_stale = False  # the socket still has connections that are to end
        self._follow_the_list()
        self._router, self._arrivals = self._open()
        self._bind()

    # ── in ──────────────────────────────────────────────────────────────────

    def receive(self) -> list[Envelope]:
        """Answer who asks to come in, and return what those inside sent, with the host in their names. Bounded."""
        if self._arrivals.any():
            self._mind_connections()
        self._answer_guard()
        found: list[Envelope] = []
        for _ in range(BATCH_MAX):
            try:
                parts = self._router.raw.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            envelope = self._judged(parts)
            if envelope is not None:
                found.append(envelope)
        return found

    def is_from_here(self, sender: Peer) -> bool:
        """Return whether a message over ipc may be of this sender: no host claimed, no process of another host's."""
        return not sender.host and self._belongs(sender.incarnation, "")

    def _judged(self, parts: list[zmq.Frame]) -> Envelope | None:
        route, entry = parts[0].bytes, self._allowed.get(_key_of(parts[-1]))
        if entry is None:
            self._denials.add(tallies.Name.HOST_KEY, "a connection", "its key is no longer allowed")
            return None
        sender = f"{entry.role} {entry.name}"
        if len(parts) != 2:
            self._denials.add(tallies.Name.HOST_FRAME, sender, f"a message of {len(parts) - 1} parts; allowed: 1")
            return None
        try:
            envelope = codec.decode_to_store(parts[1].bytes)
        except NotUnderstood as error:
            self._denials.add(tallies.Name.HOST_FRAME, sender, str(error))
            return None
        said = envelope.sender
        if said.role is not entry.role:
            self._denials.add(
                tallies.Name.HOST_ROLE, sender, f"it speaks as {said.role}; its key is for {entry.role} only"
            )
            return None
        if "/" in said.host or not self._belongs(said.incarnation, entry.name):
            self._denials.add(tallies.Name.HOST_ROLE, sender, "it speaks for a process of another host")
            return None
        peer = _stamped(said, entry)
        if not self._has_room(entry, peer):
            self._denials.add(tallies.Name.HOST_LIMIT, sender, f"more than {NAMES_MAX} names in an hour")
            return None
        self._remember(peer, route)
        return Envelope(sender=peer, id=envelope.id, body=envelope.body)

    def _belongs(self, incarnation: str, host: str) -> bool:
        """Return whether a process is of this host: the first that spoke for it keeps it."""
        owner = self._hosts.setdefault(incarnation, host)
        if len(self._hosts) > 10 * PEERS_MAX:
            self._hosts.pop(next(iter(self._hosts)))
        return owner == host

    def _has_room(self, entry: Allowed, peer: Peer) -> bool:
        now_s = self._clock.monotonic()
        if now_s - self._names_since_s > NAMES_S:
            self._names.clear()
            self._names_since_s = now_s
        used = self._names.setdefault(entry.public, set())
        if peer.name not in used and len(used) >= NAMES_MAX:
            return False
        used.add(peer.name)
        return True

    def _remember(self, peer: Peer, route: bytes) -> None:
        self._routes.pop(peer, None)
        if len(self._routes) >= PEERS_MAX:
            self._routes.pop(next(iter(self._routes)))
        self._routes[peer] = route  # the last to speak stands last

    # ── out ─────────────────────────────────────────────────────────────────

    def send(self, peer: Peer, frame: bytes) -> bool:
        """Send over the connection that this peer spoke over last. False: there is none, or it takes nothing now."""
        route = self._routes.get(peer)
        if route is None:
            return False
        try:
            self._router.raw.send_multipart((route, frame), zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._routes.pop(peer, None)  # its connection is gone; it will call again
            return False
        return True

    # ── the guard ───────────────────────────────────────────────────────────

    def look(self, is_dead: Callable[[str], bool]) -> None:
        """Follow the allow-list, forget dead peers, mind the number of connections. Called every tick."""
        self._follow_the_list()
        if self._is_stale:
            self._reopen()
        for peer in [one for one in self._routes if is_dead(one.incarnation)]:
            del self._routes[peer]
        self._mind_connections()

    def close(self) -> None:
        self._close_router()
        self._poller.unregister(self._zap)
        self._zap.close()
        self._context.term()

    def _answer_guard(self) -> None:
        for _ in range(ZAP_TURN_MAX):
            try:
                asked = self._zap.raw.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._zap.raw.send_multipart(self._verdict(asked), zmq.NOBLOCK)

    def _verdict(self, asked: list[bytes]) -> tuple[bytes, ...]:
        """Return the answer to a ZAP request: version, id, domain, address, identity, mechanism, credentials."""
        key = ""
        if len(asked) == 7 and asked[5] == b"CURVE" and len(asked[6]) == 32:
            key = _z85(asked[6])
        if key not in self._allowed and self._clock.monotonic() - self._looked_s >= LOOK_S:
            self._follow_the_list()  # allowed a moment ago, perhaps
        request = asked[1] if len(asked) > 1 else b""
        if key in self._allowed:
            return (b"1.0", request, b"200", b"OK", key.encode("ascii"), b"")
        address = asked[3].decode("ascii", errors="replace")[:64] if len(asked) > 3 else "somebody"
        said = f"key {keys.fingerprint(key)} is not allowed" if key else "no CURVE key"
        self._denials.add(tallies.Name.HOST_KEY, address, said)
        return (b"1.0", request, b"400", b"not allowed", b"", b"")

    def _follow_the_list(self) -> None:
        """Read the allow-list when it changed. Whoever is no longer on it loses the connection at once."""
        self._looked_s = self._clock.monotonic()
        before = self._allowed
        try:
            seen = keys.changed(self._folder)
            if seen == self._seen:
                return
            self._allowed = {one.public: one for one in keys.allowed(self._folder)}
            self._seen, self._unread = seen, ""
            logger.info("{} keys of other hosts are allowed", len(self._allowed))
        except (KeyRefused, OSError) as error:
            # Rather nobody than somebody whose key was revoked. It is read again at every look: it may be mended.
            self._allowed, self._seen = {}, None
            if str(error) != self._unread:
                logger.error("The allow-list cannot be read, no other host may come in: {}", error)
            self._unread = str(error)
        if before.keys() - self._allowed.keys():
            self._reopen()

    # ── the socket ──────────────────────────────────────────────────────────

    def _open(self) -> tuple[sockets.Socket, sockets.Arrivals]:
        """Return a socket that does not listen yet. Raises zmq.ZMQError when there is no room for one."""
        raw: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        sockets.over_tcp(raw, self._settings)
        raw.set(zmq.RCVHWM, sockets.HWM)
        raw.set(zmq.SNDHWM, sockets.HWM)
        raw.set(zmq.BACKLOG, sockets.BACKLOG)
        raw.set(zmq.ROUTER_MANDATORY, 1)  # a peer that is gone is an error here, not a message lost in silence
        raw.set(zmq.ROUTER_HANDOVER, 0)  # nobody takes over another's connection by naming himself like it
        raw.set(zmq.CURVE_SERVER, 1)
        raw.set(zmq.CURVE_SECRETKEY, self._pair.secret.encode("ascii"))
        raw.set(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        found = sockets.Socket(raw, self._settings.message_bytes_max)
        try:
            arrivals = sockets.Arrivals(found)
        except zmq.ZMQError:
            found.close()
            raise
        self._poller.register(found)
        self._poller.register(arrivals.socket)
        return found, arrivals

    def _close_router(self) -> None:
        self._poller.unregister(self._arrivals.socket)
        self._poller.unregister(self._router)
        self._arrivals.close()
        self._router.close()
        self._bound = ""

    def _reopen(self) -> None:
        """End all connections: one alone cannot be ended. Those that may call again and send again what is unacked.

        Without room for another socket they end later; meanwhile nothing that they send counts.
        """
        self._routes.clear()
        try:
            new = self._open()
        except zmq.ZMQError as error:
            self._is_stale = True
            self._denials.say("bus.listen", f"connections of keys that are gone cannot be ended yet: {error.strerror}")
            return
        self._close_router()
        self._router, self._arrivals = new
        self._is_stale = False
        self._bind()

    def _bind(self) -> None:
        """Listen. What cannot be bound now is tried again at the next look: trading here does not wait for it."""
        try:
            self._router.raw.bind(self._settings.listen)
        except zmq.ZMQError as error:
            self._denials.say("bus.listen", f"cannot listen on {self._settings.listen}: {error.strerror}")
            return
        self._bound = str(self._router.raw.get_string(zmq.LAST_ENDPOINT)).rstrip("\0")
        logger.info("Analysts on other hosts may call {}", self._bound)

    def _mind_connections(self) -> None:
        """Stop listening while there are too many connections; those without a valid key end by themselves soon."""
        count = _descriptors()
        is_full = count is None or count - self._others > self._connections_max
        if is_full and self._bound:
            many = f"more than {self._connections_max} connections; no new ones until some end"
            self._denials.say("bus.listen", many)
            self._router.raw.unbind(self._bound)
            self._bound = ""
        elif not is_full and not self._bound:
            self._bind()


def _key_of(frame: zmq.Frame) -> str:
    """Return the public key of the connection that a frame came over, as the guard let it in; empty without."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""


def _z85(key: bytes) -> str:
    return z85.encode(key).decode("ascii")


def _stamped(said: Peer, entry: Allowed) -> Peer:
    host = entry.name if said.host in ("", entry.name) else f"{entry.name}/{said.host}"
    return Peer(said.role, said.slot, said.incarnation, host)


def _descriptors() -> int | None:
    """Return how many files and connections this process has open: libzmq counts no connections for us.

    None: it cannot be said, mostly because there is no room for the look itself.
    """
    try:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        return None


def _descriptors_max() -> int:
    """Return how many this process may have open, after asking for as many as are wanted and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, min(hard, DESCRIPTORS_WANTED))
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
