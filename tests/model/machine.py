"""A Hypothesis machine that drives the real store: whatever it chooses to lose, double, delay, reorder or kill, the
checker of the chaos runs must find nothing after every single step.

Ends each history by a calm in which everything that is alive goes on, and then demands that all of it has come to rest.
"""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bus import clock, messages
from bus.messages import Ack, Envelope, Execute, FromStore, Peer
from bus.records import Certificate, OrderPlan
from bus.vocabulary import Role
from store.queries import Reader
from tests.kit.builders import a_propose, a_result
from tests.kit.clock import ManualClock
from tests.kit.gate import keep_days
from tests.kit.store import StoreHarness
from tests.model import judging
from tests.model.actors import LICENCE_S, Actor, Analyst, Executor, Move
from tests.model.broker import PROFIT_CENTS, Broker, Request

INTENTS = 3
CALM_ROUNDS_MAX = 200
LIVES: dict[tuple[Role, int], type[Actor]] = {
    (Role.LLM, 1): Analyst, (Role.LLM, 2): Analyst, (Role.EXECUTOR, 1): Executor,
}  # fmt: skip


class Broken(AssertionError):
    """A promise was broken."""


class Killed(Exception):
    """The store died here."""


class Armed:
    """Stands in for the store's failpoints: dies at the point that is set, once."""

    point = ""

    @classmethod
    def reach(cls, name: str) -> bool:
        if name == cls.point:
            cls.point = ""
            raise Killed(name)
        return False


class StoreMachine(RuleBasedStateMachine):
    """One history. The rules are the events; `_check` is what must hold after each."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.broker = Broker()
        self.store = StoreHarness(clock=self.clock, retry_backoff_s=1.0, attempts_max=3)
        self.up: list[Envelope] = []  # on their way to the store
        self.down: list[tuple[Peer, FromStore]] = []
        self.acks: list[dict[str, Any]] = []
        self.kinds: dict[str, tuple[str, str]] = {}
        self._numbers = itertools.count(1)
        self._checked: tuple[int, int, int] | None = None
        self._granted: dict[tuple[str, int], str] = {}
        self.scanner, self.monitor, self.pilot, self.supervisor = (
            self._born(Actor, role, 1) for role in (Role.SCANNER, Role.MONITOR, Role.PILOT, Role.SUPERVISOR)
        )
        self.lives = {key: self._born(kind, *key) for key, kind in LIVES.items()}
        Armed.point = ""

    # ── what actors see of the world ────────────────────────────────────────

    @property
    def read(self) -> Reader:
        return self.store.read

    def certificate(self, plan: OrderPlan) -> Certificate:
        """Return the guard's figures, true at this moment; others may change the account before they arrive."""
        keep_days(self.store.db, self.store.gate, self.clock.now())
        return self.store.certificate(plan)

    def send(self, envelope: Envelope) -> None:
        if envelope not in self.up:
            self.up.append(envelope)

    def new_id(self) -> str:
        return f"c-{next(self._numbers):06d}"

    def about_to_post(self, execute: Execute, asked_s: float) -> None:
        """Look at the database in the instant before an order leaves."""
        intent_id = execute.intent.id
        order = self.read.order(intent_id)
        if order is None or order.status not in ("reserved", "unknown"):
            raise Broken(f"{intent_id} is sent, but its order is {order and order.status} in the database")
        if self.clock.monotonic() - asked_s > LICENCE_S:
            raise Broken(f"{intent_id} is sent with a licence that is {self.clock.monotonic() - asked_s} s old")
        if any(request.intent_id == intent_id for request in self.broker.requests):
            raise Broken(f"{intent_id} is sent a second time")

    # ── the network ─────────────────────────────────────────────────────────

    @precondition(lambda self: self.up)
    @rule(at=st.integers(0, 7), keep=st.booleans(), dies=st.sampled_from(("", "", "", "before_commit", "after_commit")))
    def deliver(self, at: int, keep: bool, dies: str) -> None:
        """Give one message to the store, whichever; a copy may stay on its way; the store may die over it."""
        envelope = self.up[at % len(self.up)]
        if not keep:
            self.up.remove(envelope)
        Armed.point = f"store.{dies}" if dies else ""
        self._step([envelope])
        if dies:
            self.restart_store()

    @precondition(lambda self: self.up)
    @rule(backwards=st.booleans())
    def deliver_everything(self, backwards: bool) -> None:
        batch = self.up[::-1] if backwards else self.up[:]
        self.up.clear()
        self._step(batch)

    @precondition(lambda self: self.up)
    @rule(at=st.integers(0, 7))
    def lose(self, at: int) -> None:
        self.up.pop(at % len(self.up))

    @precondition(lambda self: self.down)
    @rule(at=st.integers(0, 7), keep=st.booleans())
    def receive(self, at: int, keep: bool) -> None:
        number = at % len(self.down)
        self._hand(*(self.down[number] if keep else self.down.pop(number)))

    @precondition(lambda self: self.down)
    @rule()
    def receive_everything(self) -> None:
        letters, self.down = self.down, []
        for letter in letters:
            self._hand(*letter)

    @precondition(lambda self: self.down)
    @rule(at=st.integers(0, 7))
    def lose_answer(self, at: int) -> None:
        self.down.pop(at % len(self.down))

    # ── the processes ───────────────────────────────────────────────────────

    @initialize(proposals=st.integers(1, INTENTS), rounds=st.integers(0, 8), thinks=st.booleans())
    def begin(self, proposals: int, rounds: int, thinks: bool) -> None:
        """Begin somewhere on the way, or the histories would hardly get as far as an order."""
        for number in range(proposals):
            self.propose(number, 240)
        for _ in range(rounds):
            self._round(thinks=thinks)

    @rule(number=st.integers(0, INTENTS - 1), ttl_minutes=st.sampled_from((240, 240, 1)))
    def propose(self, number: int, ttl_minutes: int) -> None:
        self.scanner.ask(a_propose(bar_time=f"bar {number}", ttl_minutes=ttl_minutes))

    @rule(who=st.sampled_from([*sorted(LIVES), None]))
    def beat(self, who: tuple[Role, int] | None) -> None:
        for one in LIVES if who is None else [who]:
            self._alive(one).beat()

    @precondition(lambda self: self._moves())
    @rule(at=st.integers(0, 2), choice=st.integers(0, 5))
    def act(self, at: int, choice: int) -> None:
        """Let somebody do something, mostly the sane thing."""
        found = self._moves()
        moves = found[at % len(found)]
        moves[choice if choice < len(moves) else 0]()

    @rule()
    def resend(self) -> None:
        for actor in self._everybody():
            actor.resend()

    @rule(at=st.sampled_from((2, 2, 0, 1)), told=st.booleans(), again=st.booleans())
    def kill(self, at: int, told: bool, again: bool) -> None:
        """A process dies, with what was on its way to it. Its successor is born at once, or when it is looked for."""
        who = list(LIVES)[at]
        dead = self.lives.pop(who, None)
        if dead is not None:
            self.down = [(peer, message) for peer, message in self.down if peer != dead.peer]
            if told:
                self.supervisor.ask(messages.ChildExited(peer=dead.peer, status="signal 9"))
        if again:
            self._alive(who).beat()

    @rule()
    def restart_store(self) -> None:
        Armed.point = ""
        self.store.restart()

    @rule(seconds=st.sampled_from((0.3, 1.0, 1.0, 3.0, 8.0, 70.0)))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.broker.pass_time(self.clock.now(), self.clock.monotonic())
        self._step([], tick=True)

    @rule(
        rounds=st.integers(1, 3), places=st.booleans(), answers=st.booleans(),
        dies=st.sampled_from(("", "", "before_commit", "after_commit")),
    )  # fmt: skip
    def live(self, rounds: int, places: bool, answers: bool, dies: str) -> None:
        """Let everything go on, so that histories get somewhere, with a broker that is good or not."""
        for _ in range(rounds - 1):
            self._round(places=places, answers=answers)
        self._round(places=places, answers=answers, dies=dies)

    @rule(
        at=st.sampled_from((0, 0, 0, 1, 2)),
        rounds=st.sampled_from((8, 3)),
        thinks=st.sampled_from((False, False, True)),
    )
    def freeze(self, at: int, rounds: int, thinks: bool) -> None:
        """A process stands still, with what comes from it and goes to it, while the world goes on; then it wakes up.

        Mostly one that holds a lease. When it wakes up it goes on as if nothing had been, and is heard first.
        """
        frozen = sorted(map(self._alive, LIVES), key=lambda one: not one.holding())[at]
        for _ in range(rounds):
            self._round(without=frozen.peer, thinks=thinks)
        for move in frozen.moves()[:1]:
            move()
        batch = [one for one in self.up if one.sender == frozen.peer]
        self.up = [one for one in self.up if one.sender != frozen.peer]
        self._step(batch)

    # ── broker and operator ─────────────────────────────────────────────────

    @precondition(lambda self: self._requests("flying", "hidden", "visible"))
    @rule(at=st.integers(0, 3), places=st.booleans())
    def broker_goes_on(self, at: int, places: bool) -> None:
        found = self._requests("flying", "hidden", "visible")
        request = found[at % len(found)]
        if request.fate == "flying":
            self.broker.decide(request, places=places, now=self.clock.now(), now_s=self.clock.monotonic())
        elif request.fate == "hidden":
            self.broker.show(request)
        else:
            self.broker.close(request, self.clock.now())

    @rule()
    def monitor_looks(self) -> None:
        """Tell the store of positions that ended."""
        ended = {request.position_id: request for request in self._requests("closed")}
        for intent in self.read.active_positions():
            asked = {getattr(one.body, "position_id", None) for one in self.monitor.asks.values()}
            if intent.position_id in ended and intent.position_id not in asked:
                result = a_result(net_profit_cents=PROFIT_CENTS)
                self.monitor.ask(
                    messages.PositionClosed(intent_id=intent.id, position_id=intent.position_id, result=result)
                )

    @precondition(lambda self: self._requests("visible"))
    @rule(at=st.integers(0, 3))
    def careless_monitor_adopts(self, at: int) -> None:
        """Ask for the adoption of a position that an order of ours made, whatever the store knows of it yet."""
        found = self._requests("visible")
        mine = found[at % len(found)]
        assert mine.at is not None
        self.monitor.ask(
            messages.Adopt(
                position_id=mine.position_id, plan=mine.plan, opened_at=clock.iso(mine.at), reason="nobody owns it"
            )
        )

    @rule(what=st.sampled_from(("cancel", "resolve", "halt", "count", "sweep")), at=st.integers(0, INTENTS - 1))
    def somebody_asks(self, what: str, at: int) -> None:
        """Operator and monitor do something that has nothing to do with what is under way."""
        intents = self.read.intents()
        if what == "cancel" and intents:
            self.pilot.ask(messages.Cancel(intent_id=intents[at % len(intents)].id, operator="anna", reason="no"))
        elif what == "resolve":
            self.resolve()
        elif what == "halt":
            until = clock.iso(self.clock.now() + timedelta(seconds=10))
            self.monitor.ask(messages.RaiseHalt(level="soft", reason=f"loss {at}", until=until))
        elif what == "count":
            self.monitor.ask(messages.CountRequests(day="2026-11-02", reads=1, writes=0))
        else:
            self.monitor.ask(messages.Sweep())

    def resolve(self) -> None:
        """The operator looks at the broker's own page and says what is true by now."""
        for order in self.read.unresolved_orders():
            mine = [request for request in self.broker.requests if request.intent_id == order.intent_id]
            if not any(request.fate == "flying" for request in mine):
                placed = next((request.position_id for request in mine if request.is_placed), None)
                word = {"intent_id": order.intent_id, "operator": "anna", "reason": "looked"}
                self.pilot.ask(messages.Resolve(**word, position_id=placed))

    # ── what must hold ──────────────────────────────────────────────────────

    @invariant()
    def nothing_is_broken(self) -> None:
        state = (self.store.db.total_changes(), self.broker.changes, len(self.acks))
        if state != self._checked:
            self._checked = state
            self._check(at_rest=False)

    def teardown(self) -> None:
        """Calm down until nothing is left to do, then look a last time."""
        for _ in range(CALM_ROUNDS_MAX):
            if self._is_at_rest():
                break
            self._round()
            self.nothing_is_broken()
        self._check(at_rest=True)

    def _check(self, *, at_rest: bool) -> None:
        sentences = list(judging.findings(self.store, self.broker, self.acks, at_rest=at_rest))
        if at_rest and not self._is_at_rest():
            counts, asks = self.read.status_counts(), [list(one.asks.values()) for one in self._everybody()]
            sentences.append(f"no rest after a long calm: {counts}, {asks}")
        if sentences:
            raise Broken("\n".join(sentences))

    # ── plumbing ────────────────────────────────────────────────────────────

    def _step(self, batch: list[Envelope], *, tick: bool = False) -> None:
        for envelope in batch:
            if envelope.id:
                self.kinds[envelope.id] = (type(envelope.body).__name__, envelope.sender.name)
        try:
            sends = self.store.writer.step(batch, self.clock.now(), self.clock.monotonic(), tick=tick)
        except Killed:
            return
        for peer, message in sends:
            self._note(peer, message)
            self.down.append((peer, message))

    def _note(self, peer: Peer, message: FromStore) -> None:
        """Keep what left the store: answers as an actor's log has them, and who was given which epoch."""
        if isinstance(message, Ack):
            kind, sender = self.kinds[message.id]
            said = {"id": message.id, "kind": kind, "sender": sender, "outcome": str(message.outcome)}
            answer = said | {"intent_id": message.intent_id}
            if answer not in self.acks:
                self.acks.append(answer)
            if sum(one["id"] == message.id for one in self.acks) > 1:
                raise Broken(f"{kind} {message.id} was answered twice, differently: {message}")
        elif isinstance(message, (messages.Analyse, Execute)):
            key = (message.intent.id, message.epoch)
            if self._granted.setdefault(key, peer.incarnation) != peer.incarnation:
                raise Broken(f"{key} was given to two incarnations")

    def _hand(self, peer: Peer, message: FromStore) -> None:
        for actor in self._everybody():
            if actor.peer == peer:
                actor.take(message)

    def _round(
        self, *, places: bool = True, answers: bool = True, dies: str = "", without: Peer | None = None,
        thinks: bool = True,
    ) -> None:  # fmt: skip
        """One second: everybody (`without` that one) acts, beats, and hears and is heard at once.

        Analysts that do not think only beat: their analyses take longer.
        """
        self.pass_time(1.0)
        for request in self._requests("flying"):
            self.broker.decide(request, places=places, now=self.clock.now(), now_s=self.clock.monotonic())
        self.monitor_looks()
        awake = [actor for actor in map(self._alive, LIVES) if actor.peer != without]
        for actor in awake:
            moves = actor.moves() if thinks or isinstance(actor, Executor) else []
            if moves:
                moves[0 if answers or not actor.waits_for_the_broker else -1]()
            actor.beat()
        self.resend()
        batch = [one for one in self.up if one.sender != without]
        self.up = [one for one in self.up if one.sender == without]
        Armed.point = f"store.{dies}" if dies else ""
        self._step(batch)
        if dies:
            self.restart_store()
        letters = [letter for letter in self.down if letter[0] != without]
        self.down = [letter for letter in self.down if letter[0] == without]
        for letter in letters:
            self._hand(*letter)
        if self.read.halts() and self.read.unresolved_orders():
            self.resolve()

    def _is_at_rest(self) -> bool:
        if any(actor.asks or actor.moves() for actor in self._everybody()) or self._requests("flying", "hidden"):
            return False
        closed = {request.position_id for request in self._requests("closed")}
        is_told = not any(intent.position_id in closed for intent in self.read.active_positions())
        return is_told and not self.read.live_intents() and not self.read.intents(status="timed_out")

    def _born(self, kind: type[Actor], role: Role, slot: int) -> Actor:
        return kind(self, Peer(role, slot, f"{next(self._numbers):012x}"))

    def _alive(self, who: tuple[Role, int]) -> Actor:
        """Return who is in this slot; a dead one is replaced, as nobody else can have its lock."""
        if who not in self.lives:
            self.lives[who] = self._born(LIVES[who], *who)
        return self.lives[who]

    def _everybody(self) -> list[Actor]:
        return [self.scanner, self.monitor, self.pilot, self.supervisor, *self.lives.values()]

    def _moves(self) -> list[list[Move]]:
        return [moves for who in LIVES if (moves := self._alive(who).moves())]

    def _requests(self, *fates: str) -> list[Request]:
        return [request for request in self.broker.requests if request.fate in fates]
