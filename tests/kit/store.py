"""The real writer over a database in memory, driven by hand: no sockets, no process, no real clock."""

from __future__ import annotations

from typing import TypeVar

import apsw
import msgspec

from bus import messages
from bus.messages import Ack, Beat, Command, Envelope, FromStore, Held, Peer
from bus.records import Certificate, Order, OrderPlan, TradeIntent
from bus.vocabulary import Role, State
from config.settings import Bus, Llm, Store
from store import connection
from store.certificate import Gate
from store.writer import Writer
from tests.kit import builders
from tests.kit.clock import ManualClock
from tests.kit.gate import a_certificate_for, a_gate, keep_days

M = TypeVar("M", bound=messages.Message)


def memory_db() -> apsw.Connection:
    """Return an empty decision store in memory, with the real schema and triggers."""
    db = apsw.Connection(":memory:")
    db.pragma("foreign_keys", True)
    connection._migrate(db)  # opening without the file's part of it
    return db


class StoreHarness:
    """One store with a manual clock. `sent` keeps everything it sent, in order."""

    def __init__(
        self,
        db: apsw.Connection | None = None,
        clock: ManualClock | None = None,
        gate: Gate | None = None,
        llm: Llm | None = None,
        **settings: float,
    ) -> None:
        self.llm = llm or Llm()
        self.db = db or memory_db()
        self.gate = gate or a_gate()
        self.clock = clock or ManualClock()
        self.settings = Store(**({"retry_backoff_s": 10.0} | settings))
        self.sent: list[tuple[Peer, FromStore]] = []
        self.restart()

    def restart(self) -> None:
        """Begin a new life of the store over the same database."""
        self.writer = Writer(
            self.db, self.settings, Bus(), self.gate,
            now=self.clock.now(), now_s=self.clock.monotonic(), llm=self.llm,
            symbols=("EURUSD", "GBPUSD"),
        )  # fmt: skip
        self.read = self.writer.read

    # ── one step at a time ──────────────────────────────────────────────────

    def step(self, *envelopes: Envelope, tick: bool = False) -> list[tuple[Peer, FromStore]]:
        """Apply a batch now and return what was sent."""
        try:
            sends = self.writer.step(envelopes, self.clock.now(), self.clock.monotonic(), tick=tick)
        finally:
            self.remembers_what_is_written()
        self.sent.extend(sends)
        return list(sends)

    def tell(self, sender: Peer, body: Command, command_id: str | None = None) -> Ack:
        """Send one command and return its answer."""
        envelope = builders.an_envelope(sender, body, command_id)
        return next(m for _, m in self.step(envelope) if isinstance(m, Ack) and m.id == envelope.id)

    def beat(self, sender: Peer, *held: TradeIntent | Held, **changes: object) -> list[FromStore]:
        """Send one beat and return what its sender got for it."""
        changes.setdefault("seen_store_epoch", self.writer.epoch)
        body: Beat = builders.a_beat(*held, **changes)
        return [m for peer, m in self.step(builders.an_envelope(sender, body)) if peer == sender]

    def tick(self, seconds: float = 0.0) -> list[tuple[Peer, FromStore]]:
        """Let time pass at once, then do the periodic work."""
        self.clock.advance(seconds)
        return self.step(tick=True)

    def live(self, seconds: float, *beating: tuple[Peer, tuple[TradeIntent, ...]], capacity: int = 1) -> None:
        """Let time pass second by second: everybody in `beating` beats, holding what is given; the store ticks."""
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            for peer, held in beating:
                self.beat(peer, *held, capacity=capacity)
            self.step(tick=True)

    def got(self, peer: Peer, kind: type[M]) -> list[M]:
        """Return all messages of one kind that were sent to `peer`."""
        return [message for to, message in self.sent if to == peer and isinstance(message, kind)]

    def remembers_what_is_written(self) -> None:
        """Compare every intent that the writer has at hand with its row."""
        for intent_id, kept in self.writer.decisions.at_hand._kept.items():
            assert kept == self.read.intent(intent_id), "what the writer has at hand is not what is written"

    # ── intents in every status ─────────────────────────────────────────────

    def intent(self, intent_id: str) -> TradeIntent:
        found = self.read.intent(intent_id)
        assert found is not None
        return found

    def order(self, intent_id: str) -> Order:
        found = self.read.order(intent_id)
        assert found is not None
        return found

    def pending(self, **changes: object) -> TradeIntent:
        ack = self.tell(builders.a_peer(Role.SCANNER), builders.a_propose(**changes))
        assert ack.intent_id is not None, ack
        return self.intent(ack.intent_id)

    def claimed(self, llm: Peer, **changes: object) -> TradeIntent:
        """Return an intent that `llm` holds. Nothing else may be pending."""
        intent = self.pending(**changes)
        self.beat(llm)
        found = self.intent(intent.id)
        assert found.claim_incarnation == llm.incarnation, found
        return found

    def ready(self, **changes: object) -> TradeIntent:
        llm = builders.a_peer(Role.LLM, 9)
        intent = self.claimed(llm, **changes)
        self.tell(llm, messages.Decide(intent_id=intent.id, epoch=intent.epoch, side="BUY", sl_pips=50, tp_pips=100))
        self.beat(llm, capacity=0, state=State.DRAINING)
        return self.intent(intent.id)

    def executing(self, executor: Peer, **changes: object) -> TradeIntent:
        intent = self.ready(**changes)
        self.beat(executor)
        found = self.intent(intent.id)
        assert found.claim_incarnation == executor.incarnation, found
        return found

    def reserved(self, executor: Peer, **changes: object) -> TradeIntent:
        intent = self.executing(executor, **changes)
        ack = self.tell(executor, self.reservation(intent))
        assert ack.outcome == "applied", ack
        return self.intent(intent.id)

    def reservation(self, intent: TradeIntent, **changes: object) -> messages.ReserveOrder:
        """Return the request for the licence, with a true certificate of a flat account or of the open positions.

        The days that hold now are written when nobody started them.
        """
        usual = builders.a_reservation(intent, **changes)
        if "certificate" in changes:
            return usual
        keep_days(self.db, self.gate, self.clock.now())
        return msgspec.structs.replace(usual, certificate=self.certificate(usual.plan))

    def certificate(self, plan: OrderPlan | None = None, **changes: object) -> Certificate:
        """Return a true certificate for what the store holds now; `changes` are facts of the account."""
        return a_certificate_for(self.read, self.gate, plan or builders.a_plan(), self.clock.now(), **changes)

    def opened(self, executor: Peer, position_id: str = "p1", **changes: object) -> TradeIntent:
        intent = self.reserved(executor, **changes)
        assert self.tell(executor, an_opening(intent, position_id)).outcome == "applied"
        return self.intent(intent.id)

    def closed(self, executor: Peer, position_id: str = "p1", **changes: object) -> TradeIntent:
        intent = self.opened(executor, position_id, **changes)
        body = messages.PositionClosed(intent_id=intent.id, position_id=position_id, result=builders.a_result())
        assert self.tell(builders.a_peer(Role.MONITOR), body).outcome == "applied"
        return self.intent(intent.id)

    def events(self, intent_id: str) -> list[str]:
        """Return the events of an intent's journal, in order."""
        return [move.event for move in self.read.transitions(intent_id)]


def an_opening(intent: TradeIntent, position_id: str = "p1", **changes: object) -> messages.OrderOpened:
    """Return the executor's word that the position was seen."""
    usual = {"order_id": "o1", "position_id": position_id, "execution_meta": "{}"}
    return messages.OrderOpened(**(usual | {"intent_id": intent.id, "epoch": intent.epoch} | changes))


def a_verdict(intent: TradeIntent, **changes: object) -> messages.Decide:
    """Return an analyst's BUY."""
    usual = {"intent_id": intent.id, "epoch": intent.epoch, "side": "BUY", "sl_pips": 50.0, "tp_pips": 100.0}
    return messages.Decide(**(usual | changes))
