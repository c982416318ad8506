"""A small world around the real writer: workers, a broker and a network that fail as a seed says. No sockets, no time.

The network drops, doubles, delays and reorders; workers and the store die anywhere. Every worker behaves as ours must:
a command is resent with its id until it is acked, a lease stays in the beats until then.
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field

from bus import messages
from bus.messages import Ack, Envelope, FromStore, Held, Peer
from bus.vocabulary import Outcome, Role, State
from tests.kit.builders import a_beat, a_plan, a_propose, a_result
from tests.kit.clock import ManualClock
from tests.kit.store import StoreHarness

STEP_S = 0.25
INTENTS = 4
BY_HAND = "h-"  # how the ids of positions begin that no order of ours made


class Killed(Exception):
    """The store died here."""


class Network:
    """Messages under way to one side. Calm = delivered at once, once."""

    def __init__(self, random_: random.Random) -> None:
        self._random = random_
        self._numbers = itertools.count()
        self._queue: list[tuple[float, int, Peer, object]] = []
        self.is_calm = False

    def send(self, now_s: float, peer: Peer, message: object) -> None:
        for _ in range(1 if self.is_calm else self._random.choices((0, 1, 2), (10, 80, 10))[0]):
            delay_s = 0.0 if self.is_calm else self._random.choice((0.0, 0.0, 0.3, 1.0, 3.0))
            heapq.heappush(self._queue, (now_s + delay_s, next(self._numbers), peer, message))

    def due(self, now_s: float) -> list[tuple[Peer, object]]:
        found = []
        while self._queue and self._queue[0][0] <= now_s:
            _, _, peer, message = heapq.heappop(self._queue)
            found.append((peer, message))
        if not self.is_calm:
            self._random.shuffle(found)
        return found

    def lose_everything(self) -> None:
        self._queue.clear()


@dataclass
class Worker:
    """One life of one process: commands that wait for their ack, and leases."""

    world: World
    peer: Peer
    born_s: float
    asks: dict[str, tuple[Envelope, float]] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)
    seen_epoch: int = 0
    next_beat_s: float = 0.0

    def __post_init__(self) -> None:
        """Make what a kind keeps for itself."""

    def ask(self, body: messages.Command) -> str:
        envelope = Envelope(sender=self.peer, id=f"c-{next(self.world.numbers):06d}", body=body)
        self.asks[envelope.id] = (envelope, -1.0)
        return envelope.id

    def step(self, now_s: float) -> None:
        for command_id, (envelope, next_s) in list(self.asks.items()):
            if now_s >= next_s:
                self.world.to_store.send(now_s, self.peer, envelope)
                self.asks[command_id] = (envelope, now_s + 1.0)
        if now_s >= self.next_beat_s and self.peer.role is not Role.SUPERVISOR:
            self.next_beat_s = now_s + 1.0
            body = a_beat(
                *self.held.values(), capacity=self.capacity(), state=State.READY, seen_store_epoch=self.seen_epoch
            )
            self.world.to_store.send(now_s, self.peer, Envelope(sender=self.peer, body=body))
        self.work(now_s)

    def capacity(self) -> int:
        return 0

    def take(self, message: FromStore, now_s: float) -> None:
        if isinstance(message, messages.Welcome):
            self.seen_epoch = message.store_epoch
        elif isinstance(message, Ack) and self.asks.pop(message.id, None):
            self.answered(message, now_s)
        elif isinstance(message, (messages.Analyse, messages.Execute)):
            self.world.granted(message, self.peer)
            known = self.held.get(message.intent.id)
            if known is None or known.epoch < message.epoch:
                self.held[message.intent.id] = Held(message.intent.id, message.epoch)
                self.begin(message, now_s)

    def work(self, now_s: float) -> None:
        """Do what is due."""

    def begin(self, message: messages.Analyse | messages.Execute, now_s: float) -> None:
        """Start on new work."""

    def answered(self, ack: Ack, now_s: float) -> None:
        """Go on after an answer."""


class Scanner(Worker):
    """Proposes the same few signals in every life."""

    def work(self, now_s: float) -> None:
        if not self.asks and self.world.random.random() < 0.1:
            number = self.world.random.randrange(INTENTS)
            self.ask(a_propose(bar_time=f"bar {number}", ttl_minutes=self.world.random.choice((1, 240))))
        elif not self.asks and not self.world.is_calm and self.world.random.random() < 0.005:
            waiting = self.world.store.read.live_intents()
            if waiting:
                self.ask(messages.Invalidate(intent_id=waiting[0].id, reason="bar corrected"))


class Analyst(Worker):
    """Takes a moment for each analysis, then decides, fails or gives back."""

    def __post_init__(self) -> None:
        self.finish_s: dict[str, float] = {}
        self.telling: dict[str, str] = {}

    def capacity(self) -> int:
        return 2

    def begin(self, message: messages.Analyse | messages.Execute, now_s: float) -> None:
        self.finish_s[message.intent.id] = now_s + self.world.random.uniform(0.0, 4.0)
        self.telling = {command: intent for command, intent in self.telling.items() if intent != message.intent.id}

    def work(self, now_s: float) -> None:
        for intent_id, at_s in list(self.finish_s.items()):
            if now_s < at_s:
                continue
            del self.finish_s[intent_id]
            lease = {"intent_id": intent_id, "epoch": self.held[intent_id].epoch}
            dice = self.world.random.random()
            if self.world.is_calm or dice < 0.6:
                body: messages.Command = messages.Decide(**lease, side="BUY", sl_pips=50.0, tp_pips=100.0)
            elif dice < 0.7:
                body = messages.Decide(**lease, side="HOLD")
            else:
                body = messages.AnalysisFailed(**lease, error="boom") if dice < 0.9 else messages.Release(**lease)
            self.telling[self.ask(body)] = intent_id

    def answered(self, ack: Ack, now_s: float) -> None:
        intent_id = self.telling.pop(ack.id, None)
        if intent_id is not None:
            self.held.pop(intent_id, None)

    def take(self, message: FromStore, now_s: float) -> None:
        super().take(message, now_s)
        if not isinstance(message, messages.Withdraw) or message.intent_id not in self.finish_s:
            return
        if self.held[message.intent_id].epoch <= message.epoch:
            del self.held[message.intent_id], self.finish_s[message.intent_id]


@dataclass(frozen=True)
class Question:
    """What the executor waits for: the licence of an intent, or the answer that ends its lease."""

    lease: Held
    asked_s: float
    is_licence: bool


class Executor(Worker):
    """Reserves, sends once at once after a timely ack, and finds out what became of an order it did not send itself."""

    def __post_init__(self) -> None:
        self.questions: dict[str, Question] = {}
        self.to_resolve: dict[Held, float] = {}

    def capacity(self) -> int:
        return 1

    def _put(self, body: messages.Command, lease: Held, *, is_licence: bool = False) -> None:
        self.questions[self.ask(body)] = Question(lease, self.world.now_s(), is_licence)

    def begin(self, message: messages.Analyse | messages.Execute, now_s: float) -> None:
        assert isinstance(message, messages.Execute)
        self.world.note_execution(message, self.peer)
        lease = Held(message.intent.id, message.epoch)
        ends = {"intent_id": lease.intent_id, "epoch": lease.epoch, "reason": "no"}
        if message.order is not None:
            self.to_resolve[lease] = now_s + 2.0
        elif self.world.random.random() < 0.1:
            self._put(messages.Release(**ends), lease)
        elif self.world.random.random() < 0.1:
            self._put(messages.Reject(**ends, compliance_snapshot="{}"), lease)
        else:
            self._put(self.world.store.reservation(message.intent), lease, is_licence=True)

    def answered(self, ack: Ack, now_s: float) -> None:
        question = self.questions.pop(ack.id, None)
        if question is None:
            return
        lease = question.lease
        if question.is_licence and ack.outcome is Outcome.APPLIED:
            if now_s - question.asked_s <= 2.0:
                self.world.place(lease.intent_id)
            self.to_resolve[lease] = now_s + self.world.random.choice((0.0, 2.0))
        elif ack.outcome is Outcome.REFUSED and "reconcile" in ack.allowed:
            self.to_resolve[lease] = now_s
        elif ack.outcome is Outcome.REFUSED and question.is_licence:
            self._put(messages.Release(intent_id=lease.intent_id, epoch=lease.epoch), lease)
        elif self.held.get(lease.intent_id) == lease:
            del self.held[lease.intent_id]

    def take(self, message: FromStore, now_s: float) -> None:
        super().take(message, now_s)
        if not isinstance(message, messages.Withdraw):
            return
        lease = self.held.get(message.intent_id)
        if lease is None or lease.epoch > message.epoch or any(one.lease == lease for one in self.questions.values()):
            return
        del self.held[message.intent_id]
        self.to_resolve.pop(lease, None)

    def work(self, now_s: float) -> None:
        for lease, at_s in list(self.to_resolve.items()):
            if now_s < at_s:
                continue
            del self.to_resolve[lease]
            ends = {"intent_id": lease.intent_id, "epoch": lease.epoch}
            if self.world.random.random() < 0.2:
                self.ask(messages.OrderUnknown(**ends, reason="timeout"))
            if lease.intent_id in self.world.placed:
                closed = a_result() if self.world.random.random() < 0.2 else None
                position = {"order_id": "o", "position_id": f"p-{lease.intent_id}", "execution_meta": "{}"}
                self._put(messages.OrderOpened(**ends, **position, closed=closed), lease)
            else:
                self._put(messages.OrderFailed(**ends, reason="absent"), lease)


class Monitor(Worker):
    """Closes what is open, adopts what somebody opened by hand, and sweeps."""

    def work(self, now_s: float) -> None:
        if self.asks or self.world.random.random() > 0.1:
            return
        opened = self.world.store.read.active_positions()
        if opened and self.world.random.random() < 0.5:
            one = opened[0]
            self.ask(messages.PositionClosed(intent_id=one.id, position_id=str(one.position_id), result=a_result()))
        elif self.world.random.random() < 0.2:
            by_hand = f"{BY_HAND}{self.world.random.randrange(3)}"
            opened_at = "2026-11-02T05:00:00.000Z"
            self.ask(messages.Adopt(position_id=by_hand, plan=a_plan(), opened_at=opened_at, reason="nobody owns it"))
        else:
            self.ask(messages.Sweep())


class Supervisor(Worker):
    """Tells deaths."""


KINDS = {
    ("scanner", 1): Scanner, ("llm", 1): Analyst, ("llm", 2): Analyst, ("executor", 1): Executor,
    ("monitor", 1): Monitor, ("supervisor", 1): Supervisor,
}  # fmt: skip


class World:
    """One history. `run` makes trouble for a while, then calms down until everything is final."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.clock = ManualClock()
        self.numbers = itertools.count(1)
        self.store = StoreHarness(clock=self.clock, retry_backoff_s=1.0)
        self.to_store = Network(self.random)
        self.from_store = Network(self.random)
        self.is_calm = False
        self.workers: dict[tuple[str, int], Worker] = {}
        self.dead: set[str] = set()
        self.placed: dict[str, int] = {}
        self.acks: dict[str, Ack] = {}
        self.grants: dict[tuple[str, int], str] = {}
        self.problems: list[str] = []
        self._kill_at = ""
        for role, slot in KINDS:
            self._spawn(role, slot)

    def now_s(self) -> float:
        return self.clock.monotonic()

    def _spawn(self, role: str, slot: int) -> None:
        peer = Peer(Role(role), slot, f"{next(self.numbers):012x}")
        self.workers[role, slot] = KINDS[role, slot](self, peer, self.now_s())

    def run(self, trouble_s: float, calm_s_max: float) -> None:
        end_s = self.now_s() + trouble_s
        while self.now_s() < end_s:
            self._trouble()
            self._step()
        self.is_calm = self.to_store.is_calm = self.from_store.is_calm = True
        end_s = self.now_s() + calm_s_max
        while self.now_s() < end_s and not self._is_done():
            self._step()

    def _is_done(self) -> bool:
        counts = self.store.read.status_counts()
        waiting = sum(counts.get(one, 0) for one in ("pending", "claimed", "ready_for_exec", "executing", "timed_out"))
        return not waiting and not self.workers["supervisor", 1].asks

    def _trouble(self) -> None:
        dice = self.random.random()
        if dice < 0.02:
            role, slot = self.random.choice(list(KINDS))
            if role != "supervisor":
                self.kill(role, slot)
        elif dice < 0.03:
            self._restart_store()
        elif dice < 0.05:
            self._kill_at = self.random.choice(("store.before_commit", "store.after_commit"))
        elif dice < 0.055:
            self.clock.advance(20.0)  # the whole machine sleeps
        elif dice < 0.06:
            self.clock.jump(self.random.choice((-90.0, 90.0)))  # somebody sets the wall clock

    def kill(self, role: str, slot: int) -> None:
        """End a worker. Its successor comes at once, or after a while; its death is told, sooner or later."""
        dead = self.workers[role, slot].peer
        self.dead.add(dead.incarnation)
        if self.random.random() < 0.7:
            self.workers["supervisor", 1].ask(messages.ChildExited(peer=dead, status="signal 9"))
        self._spawn(role, slot)

    def _restart_store(self) -> None:
        self.to_store.lose_everything()
        self.store.restart()

    def _step(self) -> None:
        self.clock.advance(STEP_S)
        now_s = self.now_s()
        for worker in self.workers.values():
            worker.step(now_s)
        batch = [envelope for _, envelope in self.to_store.due(now_s)]
        is_tick = (now_s % 1.0) < STEP_S
        if batch or is_tick:
            self._step_store(batch, is_tick)  # type: ignore[arg-type]
        for peer, message in self.from_store.due(now_s):
            worker = self.workers[str(peer.role), peer.slot]
            if worker.peer == peer:
                worker.take(message, now_s)  # type: ignore[arg-type]

    def _step_store(self, batch: list[Envelope], is_tick: bool) -> None:
        try:
            sends = self.store.writer.step(batch, self.clock.now(), self.now_s(), tick=is_tick)
        except Killed:
            self._restart_store()
            return
        for peer, message in sends:
            if isinstance(message, Ack) and self.acks.setdefault(message.id, message) != message:
                self.problems.append(f"two answers to {message.id}: {self.acks[message.id]} and {message}")
            # Seen here, not where it arrives: an old copy that is late is answered as stale.
            if isinstance(message, messages.Execute) and message.order is None and message.intent.id in self.placed:
                self.problems.append(f"{message.intent.id} was placed and is given out without its order")
            self.from_store.send(self.now_s(), peer, message)
        self._compare_leases()

    def reach(self, name: str) -> None:
        """Stand in for the store's failpoints."""
        if name == self._kill_at:
            self._kill_at = ""
            raise Killed(name)

    # ── what must hold all the time ─────────────────────────────────────────

    def _compare_leases(self) -> None:
        rows = self.store.db.execute(
            "SELECT id, epoch, claim_incarnation FROM intents WHERE status IN ('claimed', 'executing')"
        ).fetchall()
        leases = [(one.intent_id, one.epoch, one.incarnation) for one in self.store.writer.registry.leases.values()]
        if sorted(rows) != sorted(leases):
            self.problems.append(f"leases {leases} are not the rows {rows}")
        executing = self.store.read.status_counts().get("executing", 0)
        if executing > 1:
            self.problems.append(f"{executing} intents are executing")

    def granted(self, message: messages.Analyse | messages.Execute, peer: Peer) -> None:
        owner = self.grants.setdefault((message.intent.id, message.epoch), peer.incarnation)
        if owner != peer.incarnation:
            self.problems.append(f"{message.intent.id} epoch {message.epoch} was given to {owner} and {peer}")

    def note_execution(self, message: messages.Execute, peer: Peer) -> None:
        if peer.incarnation in self.dead:
            self.problems.append(f"{peer} works although it is dead")

    def place(self, intent_id: str) -> None:
        """The broker opens a position: it never looks whether it has one of that intent already."""
        self.placed[intent_id] = self.placed.get(intent_id, 0) + 1
