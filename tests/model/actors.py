"""The processes around the store as the machine drives them: one move at a time, chosen from outside. No sockets.

Each behaves as ours must: a command is resent with its id until it is acked, a lease stays in the beats until then, and
the executor goes the nine steps with the real matching of orders. `moves` lists what it could do now, the sane first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from actors.broker import reconcile
from actors.broker.reconcile import Ambiguous, FoundClosed, FoundOpen
from bus import messages
from bus.clock import iso
from bus.messages import Ack, Envelope, Execute, FromStore, Held, Peer
from bus.records import Certificate, Order, OrderPlan
from bus.vocabulary import OrderStatus, Outcome
from store.queries import Reader
from tests.kit.builders import a_beat, a_plan
from tests.kit.clock import ManualClock
from tests.model.broker import Broker, Request

LICENCE_S = 2.0
QUIET_S = 10.0
GIVE_UP_S = 5.0  # for what is not waited for without end

Move = Callable[[], None]


class Surroundings(Protocol):
    """What an actor sees of the world."""

    clock: ManualClock
    broker: Broker

    @property
    def read(self) -> Reader: ...

    def send(self, envelope: Envelope) -> None: ...

    def new_id(self) -> str: ...

    def about_to_post(self, execute: Execute, asked_s: float) -> None: ...

    def certificate(self, plan: OrderPlan) -> Certificate: ...


class Actor:
    """One life of one process: commands that wait for their ack."""

    def __init__(self, world: Surroundings, peer: Peer) -> None:
        self.world = world
        self.peer = peer
        self.seen_epoch = 0
        self.asks: dict[str, Envelope] = {}
        self.born_s = world.clock.monotonic()

    def now_s(self) -> float:
        return self.world.clock.monotonic()

    def ask(self, body: messages.Command) -> str:
        envelope = Envelope(sender=self.peer, id=self.world.new_id(), body=body)
        self.asks[envelope.id] = envelope
        self.world.send(envelope)
        return envelope.id

    def resend(self) -> None:
        for envelope in self.asks.values():
            self.world.send(envelope)

    @property
    def waits_for_the_broker(self) -> bool:
        return False

    def holding(self) -> tuple[Held, ...]:
        return ()

    def beat(self) -> None:
        body = a_beat(*self.holding(), capacity=1, seen_store_epoch=self.seen_epoch)
        self.world.send(Envelope(sender=self.peer, body=body))

    def take(self, message: FromStore) -> None:
        if isinstance(message, messages.Welcome):
            self.seen_epoch = message.store_epoch
        elif isinstance(message, Ack) and self.asks.pop(message.id, None) is not None:
            self.answered(message)

    def answered(self, ack: Ack) -> None:
        """Go on after an answer."""

    def moves(self) -> list[Move]:
        """Return what could be done now, the sane thing first."""
        return []


class Analyst(Actor):
    """Decides, holds, fails or gives back; keeps each lease until its last word is acked."""

    def __init__(self, world: Surroundings, peer: Peer) -> None:
        super().__init__(world, peer)
        self._held: dict[str, int] = {}
        self._told: dict[str, Held] = {}  # by command

    def holding(self) -> tuple[Held, ...]:
        return tuple(Held(intent_id, epoch) for intent_id, epoch in self._held.items())

    def take(self, message: FromStore) -> None:
        super().take(message)
        if isinstance(message, messages.Analyse) and self._held.get(message.intent.id, 0) < message.epoch:
            self._held[message.intent.id] = message.epoch
        elif isinstance(message, messages.Withdraw) and self._held.get(message.intent_id) == message.epoch:
            del self._held[message.intent_id]

    def answered(self, ack: Ack) -> None:
        lease = self._told.pop(ack.id, None)
        if lease is not None and self._held.get(lease.intent_id) == lease.epoch:
            del self._held[lease.intent_id]

    def moves(self) -> list[Move]:
        waiting = [lease for lease in self.holding() if lease not in self._told.values()]
        return [move for lease in waiting for move in self._words(lease)]

    def _words(self, lease: Held) -> list[Move]:
        ends: dict[str, Any] = {"intent_id": lease.intent_id, "epoch": lease.epoch}
        said: list[messages.Command] = [
            messages.Decide(**ends, side="BUY", sl_pips=50.0, tp_pips=100.0),
            messages.Decide(**ends, side="SELL", sl_pips=40.0, tp_pips=80.0),
            messages.AnalysisFailed(**ends, error="boom"),
            messages.Decide(**ends, side="HOLD"),
            messages.Release(**ends),
        ]
        return [lambda body=body: self._tell(lease, body) for body in said]  # type: ignore[misc]

    def _tell(self, lease: Held, body: messages.Command) -> None:
        self._told[self.ask(body)] = lease


@dataclass
class Work:
    """One piece of work under way. `command` is what its answer is waited for."""

    execute: Execute
    stage: str = "fresh"
    command: str = ""
    asked_s: float = 0.0
    order: Order | None = None
    request: Request | None = None
    accepted_id: str | None = None
    found: reconcile.Match | None = None
    was_quiet: bool = False

    @property
    def key(self) -> tuple[str, int]:
        return self.execute.intent.id, self.execute.epoch


class Executor(Actor):
    """One order at a time: reserve, send once while the licence is young, then find out what became of it."""

    def __init__(self, world: Surroundings, peer: Peer) -> None:
        super().__init__(world, peer)
        self._queue: dict[tuple[str, int], Execute] = {}
        self._work: Work | None = None
        self._left_s = self.born_s

    def holding(self) -> tuple[Held, ...]:
        return tuple(Held(*key) for key in self._queue)

    def take(self, message: FromStore) -> None:
        super().take(message)
        if isinstance(message, Execute):
            for old in [one for one in self._queue if one[0] == message.intent.id and one[1] < message.epoch]:
                del self._queue[old]
            self._queue.setdefault((message.intent.id, message.epoch), message)
        elif isinstance(message, messages.Withdraw):
            self._queue.pop((message.intent_id, message.epoch), None)

    def moves(self) -> list[Move]:
        work = self._work
        if work is None:
            return [self._begin] if self._queue else []
        stages: dict[str, Callable[[Work], list[Move]]] = {
            "fresh": self._fresh, "asked": self._asked, "licensed": lambda _: [self._post], "posted": self._posted,
            "telling": self._telling, "settling": lambda _: [self._look], "looked": lambda _: [self._conclude],
            "stuck": self._stuck,
        }  # fmt: skip
        return stages[work.stage](work) if work.stage in stages else []

    @property
    def waits_for_the_broker(self) -> bool:
        return self._work is not None and self._work.stage == "posted"

    # ── the nine steps ──────────────────────────────────────────────────────

    def _begin(self) -> None:
        execute = next(iter(self._queue.values()))
        stage = "fresh" if execute.order is None else "settling"
        self._work = Work(execute, stage, order=execute.order)

    def _fresh(self, work: Work) -> list[Move]:
        ends: dict[str, Any] = {"intent_id": work.key[0], "epoch": work.key[1], "reason": "no"}
        return [
            self._reserve,
            lambda: self._put("ending", messages.Release(**ends)),
            lambda: self._put("ending", messages.Reject(**ends, compliance_snapshot="{}")),
        ]

    def _reserve(self) -> None:
        work = self._now()
        clock = self.world.clock
        work.order = Order(
            intent_id=work.key[0],
            status=OrderStatus.RESERVED,
            plan=_plan(work),
            baseline=self.world.broker.baseline(),
            reserved_at=iso(clock.now()),
            deadline_at=iso(clock.now() + timedelta(seconds=LICENCE_S + QUIET_S)),
        )
        work.asked_s = self.now_s()
        body = messages.ReserveOrder(
            intent_id=work.key[0], epoch=work.key[1], plan=work.order.plan, baseline=work.order.baseline,
            deadline_at=work.order.deadline_at, compliance_snapshot="{}",
            certificate=self.world.certificate(work.order.plan),
        )  # fmt: skip
        self._put("asked", body)

    def _asked(self, work: Work) -> list[Move]:
        if self.now_s() - work.asked_s < LICENCE_S:
            return []
        return [self._not_licensed]

    def _not_licensed(self) -> None:
        self.asks.pop(self._now().command, None)  # no longer resent; it may still arrive
        self._fail("not_licensed")

    def _post(self) -> None:
        work = self._now()
        if self.now_s() - work.asked_s > LICENCE_S:
            self._fail("ending")
            return
        assert work.order is not None
        self.world.about_to_post(work.execute, work.asked_s)
        work.request = self.world.broker.post(work.key[0], self.peer.incarnation, work.order.plan, self.now_s())
        work.stage = "posted"

    def _posted(self, work: Work) -> list[Move]:
        assert work.request is not None
        if work.request.is_placed:
            return [self._accepted, self._lost]
        if work.request.fate == "gone":
            return [lambda: self._fail("ending"), self._lost]
        return [self._lost]

    def _accepted(self) -> None:
        work = self._now()
        assert work.request is not None
        work.accepted_id, work.stage = work.request.position_id, "settling"
        self._left_s = self.now_s()

    def _lost(self) -> None:
        work = self._now()
        self._left_s = self.now_s()
        work.asked_s = self.now_s()
        self._put("telling", messages.OrderUnknown(intent_id=work.key[0], epoch=work.key[1], reason="lost"))

    def _telling(self, work: Work) -> list[Move]:
        if self.now_s() - work.asked_s < GIVE_UP_S:
            return []
        return [self._tell_no_longer]

    def _tell_no_longer(self) -> None:
        work = self._now()
        self.asks.pop(work.command, None)
        work.stage = "settling"

    def _look(self) -> None:
        work = self._now()
        if work.key not in self._queue:
            self._work = None  # the operator has settled it
            return
        assert work.order is not None
        broker = self.world.broker
        work.was_quiet = self.now_s() >= self._left_s + QUIET_S
        work.stage = "looked"
        work.found = self._match(work, work.order, broker)

    def _match(self, work: Work, order: Order, broker: Broker) -> reconcile.Match:
        if work.accepted_id is None:
            owned = self.world.read.owned_position_ids()
            return reconcile.match(order, broker.open_positions(), broker.closed_positions(), owned)
        for position in broker.open_positions():
            if position.id == work.accepted_id:
                return FoundOpen(position)
        for row in broker.closed_positions():
            if row.id == work.accepted_id:
                return FoundClosed(row)
        return reconcile.Absent()

    def _conclude(self) -> None:
        work = self._now()
        found = work.found
        ends: dict[str, Any] = {"intent_id": work.key[0], "epoch": work.key[1]}
        if isinstance(found, FoundOpen):
            position: dict[str, Any] = {
                "order_id": found.position.id,
                "position_id": found.position.id,
                "execution_meta": "{}",
            }
            self._put("ending", messages.OrderOpened(**ends, **position))
        elif isinstance(found, FoundClosed):
            position = {"order_id": found.row.id, "position_id": found.row.id, "execution_meta": "{}"}
            closed = messages.PositionResult(
                closed_at=iso(found.row.closed_at), net_profit_cents=found.row.net_profit_cents,
                close_price=str(found.row.close_price), reason=found.row.reason,
            )  # fmt: skip
            self._put("ending", messages.OrderOpened(**ends, **position, closed=closed))
        elif isinstance(found, Ambiguous) or (work.was_quiet and (work.accepted_id or _similar(found))):
            self._put("stuck", messages.OrderUnknown(**ends, reason="unclear", ambiguous=True))
        elif work.was_quiet:
            self._fail("ending")
        else:
            work.stage = "settling"

    def _stuck(self, work: Work) -> list[Move]:
        return [self._let_go] if work.key not in self._queue else []

    def _let_go(self) -> None:
        self._work = None

    # ── plumbing ────────────────────────────────────────────────────────────

    def _now(self) -> Work:
        assert self._work is not None
        return self._work

    def _put(self, stage: str, body: messages.Command) -> None:
        work = self._now()
        work.stage, work.command = stage, self.ask(body)

    def _fail(self, stage: str) -> None:
        intent_id, epoch = self._now().key
        self._put(stage, messages.OrderFailed(intent_id=intent_id, epoch=epoch, reason="no"))

    def answered(self, ack: Ack) -> None:
        work = self._work
        if work is None or ack.id != work.command:
            return
        if work.stage == "asked" and ack.outcome is Outcome.APPLIED:
            work.stage = "licensed"
        elif ack.outcome is Outcome.REFUSED and work.stage in ("asked", "not_licensed"):
            release = messages.Release(intent_id=work.key[0], epoch=work.key[1], retry_after_s=1.0)
            self._put("ending", release)
        elif work.stage == "telling":
            work.stage = "settling"
        elif work.stage in ("asked", "not_licensed", "ending"):
            self._queue.pop(work.key, None)
            self._work = None


def _plan(work: Work) -> OrderPlan:
    """Return the plan: the same for every intent, so that orders can only be told apart by baseline, owner and time."""
    return a_plan(symbol=work.execute.intent.symbol)


def _similar(found: reconcile.Match | None) -> bool:
    return isinstance(found, reconcile.Absent) and bool(found.similar)
