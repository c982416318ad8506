"""Tell the store which processes are certainly dead, so that it frees their leases at once instead of after a silence.

Used by every supervisor. Each death is a command: sent again with the same id until the store has acked it. It is a
short cut only: what is lost here is found by missed beats and by the successor's locks. What a supervisor has to tell
people goes the same way into the outbox of alerts, and is kept until the store has it: see `untold`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import uuid_utils
from loguru import logger

from bus import acklog, clock, codec, failpoints, messages, sockets
from bus.errors import NotUnderstood
from bus.messages import Peer
from bus.vocabulary import Role
from config.settings import Bus
from supervisor import untold

BACKLOG_MAX = 100
RETRY_S = 0.05  # while the store is away; a send costs nothing then


class Deaths:
    """The deaths that the store has not acked yet. `on_known` is called with each that it has."""

    def __init__(self, me: Peer, run_folder: Path, settings: Bus, on_known: Callable[[Peer], None]) -> None:
        self.inbox_path = sockets.inbox_address(run_folder, me)
        self.inbox = sockets.bind_pull(self.inbox_path, settings.message_bytes_max)
        self._store = sockets.connect_push(
            sockets.store_address(run_folder), immediate=True, bytes_max=settings.message_bytes_max
        )
        self._me = me
        self._resend_s = settings.resend_s
        self._on_known = on_known
        self._waiting: OrderedDict[str, tuple[Peer | None, bytes]] = OrderedDict()  # None: nobody's death
        self._send_at = 0.0
        self._acks = acklog.open_log(me)
        self._run_folder = run_folder
        self._is_away = bool(settings.store)  # the store is on another host and sees for itself who is silent
        for identity, report in untold.read(run_folder):
            self._add(identity, report, None)

    def add(self, peer: Peer, status: str) -> None:
        """Note a death. Nothing is noted of the store: it knows by its own start."""
        if self._is_away:
            self._on_known(peer)
            return
        if peer.role is Role.STORE:
            self._on_known(peer)
            self._send_at = 0.0  # what it was told last may be lost with it
            return
        self._add(str(uuid_utils.uuid7()), messages.ChildExited(peer=peer, status=status), peer)

    def report(self, report: messages.Report) -> None:
        """Note what people are to be told. On a host without a store the log has it, and nobody else is told."""
        if self._is_away:
            return
        identity = str(uuid_utils.uuid7())
        untold.keep(self._run_folder, identity, report)
        self._add(identity, report, None)

    def _add(self, identity: str, body: messages.ChildExited | messages.Report, peer: Peer | None) -> None:
        frame = codec.encode(messages.Envelope(sender=self._me, id=identity, body=body))
        self._waiting[identity] = (peer, frame)
        if len(self._waiting) > BACKLOG_MAX:
            self._waiting.popitem(last=False)
        self._send_at = 0.0

    def turn(self, now: float) -> None:
        """Take the answers that came, and send what is due."""
        while (frame := self.inbox.receive()) is not None:
            self._take(frame)
        if not self._waiting or now < self._send_at:
            return
        lost = failpoints.reach("supervisor.before_send_child_exited")  # telling the store of deaths; droppable
        sent = lost or all(self._store.send(frame) for _, frame in self._waiting.values())
        failpoints.reach("supervisor.after_send_child_exited")
        self._send_at = now + (self._resend_s if sent else RETRY_S)

    def wait_s(self, now: float) -> float:
        """Return how long `turn` has nothing to send."""
        return max(0.0, self._send_at - now) if self._waiting else float("inf")

    def close(self) -> None:
        self.inbox.close()
        self._store.close()
        if self._acks is not None:
            self._acks.close()
        self.inbox_path.unlink(missing_ok=True)

    def _take(self, frame: bytes) -> None:
        try:
            message = codec.decode_from_store(frame)
        except NotUnderstood as error:
            logger.warning("Dropped a message from the store: {}", error)
            return
        if isinstance(message, messages.Ack) and message.id in self._waiting:
            failpoints.reach("supervisor.before_take_ack")  # the store knows of a death
            if self._acks is not None:
                self._acks.write(message, self._kind_of(message.id), clock.iso(clock.SystemClock().now()))
            peer, _ = self._waiting.pop(message.id)
            if peer is not None:
                self._on_known(peer)
            else:
                untold.forget(self._run_folder, message.id)
            failpoints.reach("supervisor.after_take_ack")

    def _kind_of(self, identity: str) -> str:
        peer, _ = self._waiting[identity]
        return (messages.Report if peer is None else messages.ChildExited).__name__
