"""Who lives and who holds what: peers by their beats, leases by their epochs. In memory, rebuilt from rows at start.

Part of the store process. Pure of sockets and clocks: time comes in as monotonic seconds. An executor's intent is never
taken away by a timeout: only its holder, its successor (which holds the executor's lock) or a confirmed death frees it.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from bus.messages import Beat, Peer
from bus.vocabulary import Role, State

DEAD_MAX = 10_000  # incarnations remembered as dead
RESENDS_MAX = 3


@dataclass
class Seen:
    """What the store knows of one live incarnation."""

    peer: Peer
    beat: Beat
    last_beat_s: float
    started_at: str
    last_beat_at: str
    is_dirty: bool = True


@dataclass
class Lease:
    """Work given to one incarnation, as the row says it."""

    intent_id: str
    epoch: int
    role: Role
    incarnation: str
    sent_s: float
    sends: int = 1
    has_order: bool = False


@dataclass
class Changes:
    """What a beat or a tick asks the store to do."""

    lost: list[tuple[Lease, str]] = field(default_factory=list)
    resend: list[Lease] = field(default_factory=list)
    withdraw: list[tuple[str, int]] = field(default_factory=list)
    hand_over: list[Lease] = field(default_factory=list)
    welcome: bool = False


class Registry:
    """Peers and leases. `dead_s` without a beat ends an analyst's leases; a fresh registry grants that time to all."""

    def __init__(self, *, beat_s: float, dead_s: float, now_s: float) -> None:
        self._beat_s = beat_s
        self._dead_s = dead_s
        self._grace_until_s = now_s + dead_s
        self._last_tick_s = now_s
        self.peers: dict[str, Seen] = {}
        self.leases: dict[str, Lease] = {}
        self._first_heard: dict[str, int] = {}  # by incarnation: which one we heard first, in this life of the store
        self._heard = 0
        self._dead: dict[str, None] = {}

    def bury(self, incarnation: str) -> list[Lease]:
        """Remember an incarnation as certainly dead, and return the leases it held."""
        self._dead[incarnation] = None
        if len(self._dead) > DEAD_MAX:
            self._dead.pop(next(iter(self._dead)))
        for name, seen in list(self.peers.items()):
            if seen.peer.incarnation == incarnation:
                del self.peers[name]
        return [lease for lease in self.leases.values() if lease.incarnation == incarnation]

    def is_dead(self, incarnation: str) -> bool:
        return incarnation in self._dead

    def beat(self, peer: Peer, beat: Beat, *, now_s: float, at: str, store_epoch: int) -> Changes:
        """Take a beat: renew the peer, find leases it lacks, leases not its own, and a predecessor's leases.

        A beat of somebody not welcomed yet is only welcomed. So whoever counts was alive after we first heard it, and
        of two incarnations in one slot the one heard first is the older, however late a dead one's beats come.
        """
        order = self._hear(peer.incarnation)
        if beat.seen_store_epoch != store_epoch:
            return Changes(welcome=True)
        changes = Changes()
        before = self.peers.get(peer.name)
        is_new = before is None or before.peer.incarnation != peer.incarnation
        if before is not None and is_new:
            if order < self._hear(before.peer.incarnation):
                self.bury(peer.incarnation)
                return changes
            # The new one holds the slot's lock, so the old one is dead.
            self.bury(before.peer.incarnation)
        started_at = at if before is None or is_new else before.started_at
        self.peers[peer.name] = Seen(peer, beat, now_s, started_at, at)
        self._compare(peer, beat, now_s, changes)
        return changes

    def _hear(self, incarnation: str) -> int:
        """Return the number of an incarnation in the order of being heard for the first time."""
        if incarnation not in self._first_heard:
            self._heard += 1
            self._first_heard[incarnation] = self._heard
            if len(self._first_heard) > DEAD_MAX:
                self._first_heard.pop(next(iter(self._first_heard)))
        return self._first_heard[incarnation]

    def _compare(self, peer: Peer, beat: Beat, now_s: float, changes: Changes) -> None:
        held = {(one.intent_id, one.epoch) for one in beat.holding}
        for lease in self.leases.values():
            if lease.incarnation == peer.incarnation:
                if (lease.intent_id, lease.epoch) in held:
                    lease.sends = 1
                elif now_s - lease.sent_s >= 2 * self._beat_s:
                    if lease.sends > RESENDS_MAX and lease.role is not Role.EXECUTOR:
                        changes.lost.append((lease, f"{peer.name} did not take the work after {RESENDS_MAX} resends"))
                    else:
                        changes.resend.append(lease)
            elif lease.role is peer.role and lease.role is Role.EXECUTOR:
                # There is one executor and it holds the lock: whoever held this before is dead.
                changes.hand_over.append(lease)
            elif lease.role is not Role.EXECUTOR and self.is_dead(lease.incarnation):
                changes.lost.append((lease, "its holder was replaced"))
        for intent_id, epoch in held:
            lease_now = self.leases.get(intent_id)
            if lease_now is None or (lease_now.epoch, lease_now.incarnation) != (epoch, peer.incarnation):
                changes.withdraw.append((intent_id, epoch))

    def tick(self, now_s: float) -> Changes:
        """Find the analysts' leases without a beat for `dead_s`. Call once a second, with the inbox empty."""
        changes = Changes()
        if now_s - self._last_tick_s > self._dead_s / 2:
            self._grace_until_s = now_s + self._dead_s  # we slept, not they
        self._last_tick_s = now_s
        if now_s < self._grace_until_s:
            return changes
        alive = {
            seen.peer.incarnation for seen in self.peers.values() if now_s - seen.last_beat_s <= self._dead_s
        }  # fmt: skip
        for lease in self.leases.values():
            if lease.role is not Role.EXECUTOR and lease.incarnation not in alive:
                changes.lost.append((lease, f"no beat for {self._dead_s:g} s"))
        return changes

    def free_capacity(self, role: Role, now_s: float) -> list[tuple[Seen, int]]:
        """Return the live and ready peers of a role with their credit (capacity minus leases), most credit first."""
        used = Counter(lease.incarnation for lease in self.leases.values())
        found = []
        for seen in self.peers.values():
            if seen.peer.role is role and seen.beat.state is State.READY and now_s - seen.last_beat_s <= self._dead_s:
                credit = seen.beat.capacity - used[seen.peer.incarnation]
                if credit > 0:
                    found.append((seen, credit))
        return sorted(found, key=lambda one: (-one[1], one[0].peer.slot))

    def free_slots(self, role: Role, now_s: float) -> Iterator[Peer]:
        """Yield whom to give the next work to, until all credit is used: always who has most, then the lower slot."""
        free = [(-credit, seen.peer.slot, seen.peer) for seen, credit in self.free_capacity(role, now_s)]
        heapq.heapify(free)
        while free:
            credit, slot, peer = free[0]
            yield peer
            if credit == -1:
                heapq.heappop(free)
            else:
                heapq.heapreplace(free, (credit + 1, slot, peer))

    def peer_of(self, incarnation: str) -> Peer | None:
        """Return the live peer of an incarnation, or None."""
        return next((seen.peer for seen in self.peers.values() if seen.peer.incarnation == incarnation), None)
