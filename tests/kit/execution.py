"""The executor's desk for tests: small fakes for its pure parts, and a bench with a real store and a real paper broker.

async with execution.a_bench(tmp_path) as bench:
    await bench.broker.fault("lose_answer_reset")
    work = await bench.place()
    assert bench.status(work) == "opened"
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from msgspec import structs

from actors.broker.client import BrokerClient
from actors.broker.errors import Transient
from actors.broker.paper.values import Order
from actors.broker.trader.client import TraderClient
from actors.broker.wire import Balance, ClosedPosition, OpenRequest, PendingOrder, Position, Quote
from actors.compliance import day as days
from actors.compliance.day import FirmDay
from actors.desk.allowance import Allowance, Block
from actors.desk.placing import Desk
from actors.desk.protecting import Protector
from actors.desk.settling import Settler
from bus import messages
from bus.errors import NoAnswer
from bus.messages import Execute, FromStore, Peer
from bus.records import Signal
from bus.vocabulary import Outcome, Role, State
from config import settings
from store.queries import Reader
from tests.kit import paper
from tests.kit.clock import ManualClock
from tests.kit.compliance import the_rules
from tests.kit.desk import EXECUTOR, LLM, SCANNER, Shifted, StoreHere
from tests.kit.gate import a_gate

LOOK_S = 0.01
QUIET_S = 0.5
BOOT = "test-boot"
API = "platform"  # of a bench that is made without one


# ── fakes for units ─────────────────────────────────────────────────────────


class FakeBroker:
    """Positions and history in memory. `before` is called with the name of every call; what it raises, the call raises.

    `takes_edits` and `takes_closes` False: answered with OK and ignored, as some brokers do.
    """

    def __init__(self) -> None:
        self.positions: list[Position] = []
        self.rows: list[ClosedPosition] = []
        self.calls: list[str] = []
        self.edits: list[tuple[Any, Any]] = []
        self.takes_edits = True
        self.takes_closes = True
        self.before: Callable[[str], None] = lambda name: None

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self.before(name)

    async def open_positions(self) -> tuple[Position, ...]:
        self._called("open_positions")
        return tuple(self.positions)

    async def closed_positions(self, since: datetime, until: datetime) -> tuple[ClosedPosition, ...]:
        self._called("closed_positions")
        return tuple(row for row in self.rows if since <= row.closed_at <= until)

    async def edit_position(self, position: Position, sl_price: Any, tp_price: Any) -> None:
        self._called("edit_position")
        self.edits.append((sl_price, tp_price))
        if self.takes_edits:
            self.change(position.id, sl_price=sl_price, tp_price=tp_price or None)

    async def close_position(self, position: Position) -> None:
        self._called("close_position")
        if self.takes_closes:
            self.close(position)

    def change(self, position_id: str, **changes: Any) -> None:
        self.positions = [structs.replace(one, **changes) if one.id == position_id else one for one in self.positions]

    def close(self, position: Position, **changes: Any) -> None:
        """Move a position into the history."""
        self.positions = [one for one in self.positions if one.id != position.id]
        self.rows.append(a_row_of(position, **changes))


def a_row_of(position: Position, **changes: Any) -> ClosedPosition:
    """Return the history's row of a position that was closed where it stood, a minute after it was opened."""
    usual: dict[str, Any] = {
        "id": position.id, "symbol": position.symbol, "broker_symbol": position.broker_symbol, "side": position.side,
        "volume": position.volume, "open_price": position.open_price, "close_price": position.current_price,
        "opened_at": position.opened_at, "closed_at": position.opened_at, "net_profit_cents": -500, "profit_cents": 0,
        "swap_cents": 0, "commission_cents": -500, "reason": "MANUAL",
    }  # fmt: skip
    return ClosedPosition(**(usual | changes))


class FakeReader:
    """Knows the positions that other intents own."""

    def __init__(self, owned: Iterable[str] = ()) -> None:
        self.owned = frozenset(owned)

    def owned_position_ids(self, among: Iterable[str]) -> frozenset[str]:
        return self.owned.intersection(among)


@dataclass
class Hands:
    """Settler and protector over a fake broker and a manual clock: every wait moves the clock and is remembered."""

    broker: FakeBroker = field(default_factory=FakeBroker)
    clock: ManualClock = field(default_factory=ManualClock)
    owned: tuple[str, ...] = ()
    waits_s: list[float] = field(default_factory=list)
    pauses_s: list[float] = field(default_factory=list)
    is_stopping: bool = False
    is_ours: bool = True
    on_wait: Callable[[int], None] = lambda n: None  # called with the number of the wait, before it ends
    waits_max: int = 500
    halts: list[str] = field(default_factory=list)  # why the protector halted
    lost: list[str] = field(default_factory=list)  # what it left to the operator

    async def sleep(self, seconds: float) -> bool:
        self.waits_s.append(seconds)
        assert len(self.waits_s) < self.waits_max, "waits for ever"
        self.clock.advance(0 if self.is_stopping else seconds)
        self.on_wait(len(self.waits_s))
        return self.is_stopping

    async def pause(self, seconds: float) -> None:
        self.pauses_s.append(seconds)
        self.clock.advance(seconds)

    def holds(self) -> bool:
        return self.is_ours

    def settler(self, look_interval_s: float = 2.0) -> Settler:
        client, reader = cast(BrokerClient, self.broker), cast(Reader, FakeReader(self.owned))
        return Settler(client, reader, self.clock, self.sleep, look_interval_s=look_interval_s)

    def protector(self, look_interval_s: float = 2.0) -> Protector:
        client = cast(BrokerClient, self.broker)
        return Protector(
            client, self.clock, self.sleep, look_interval_s=look_interval_s, quiet_s=60.0, pause=self.pause
        )

    async def note_halt(self, reason: str) -> None:
        self.halts.append(reason)

    async def note_lost(self, reason: str) -> None:
        self.lost.append(reason)


# ── the bench ───────────────────────────────────────────────────────────────


class Watched:
    """Counts the orders that a real client sends, and interferes with every call of it."""

    def watch(self, broker: paper.RunningPaper) -> None:
        self.broker = broker
        self.opens: list[OpenRequest] = []
        self.order_of_calls: list[str] = []
        self.html_on = ""  # the read that gets a page instead of JSON, once
        self.is_down = False
        self.asks_for_s = 0.0  # the pause that the broker asks for, once
        self.no_quote_of = ""
        self.waiting: tuple[PendingOrder, ...] = ()
        self.balance_moves: list[int] = []  # cents on top of what the broker says, one for each of the next reads
        self.before_open: Callable[[OpenRequest], None] = lambda request: None
        self.after_open: Callable[[], object] = lambda: None

    async def _reads(self, name: str) -> None:
        self.order_of_calls.append(name)
        if self.is_down:
            raise Transient(f"GET {name}: connection refused")
        if self.asks_for_s:
            asked_s, self.asks_for_s = self.asks_for_s, 0.0
            raise Transient(f"GET {name}: 429", asked_s)
        if self.html_on == name:
            self.html_on = ""
            await self.broker.fault("html_200", on="read")

    async def balance(self) -> Balance:
        await self._reads("balance")
        found, moved = await super().balance(), self.balance_moves.pop(0) if self.balance_moves else 0
        return structs.replace(
            found, balance_cents=found.balance_cents + moved, equity_cents=found.equity_cents + moved
        )  # fmt: skip

    async def pending_orders(self) -> tuple[PendingOrder, ...]:
        await self._reads("pending_orders")
        return (*await super().pending_orders(), *self.waiting)

    async def instruments(self, age_s_max: float = 0.0) -> dict[str, Any]:
        if age_s_max == 0.0 or self.html_on == "instruments":
            await self._reads("instruments")
            return await super().instruments(0.0)
        return await super().instruments(age_s_max)

    async def quotes(self, symbols: Iterable[str]) -> dict[str, Quote]:
        await self._reads("quotes")
        return {name: quote for name, quote in (await super().quotes(symbols)).items() if name != self.no_quote_of}

    async def open_positions(self) -> tuple[Position, ...]:
        await self._reads("open_positions")
        return await super().open_positions()

    async def closed_positions(self, since: datetime, until: datetime) -> tuple[ClosedPosition, ...]:
        await self._reads("closed_positions")
        return await super().closed_positions(since, until)

    async def open_position(self, order: OpenRequest) -> str:
        self.order_of_calls.append("POST")
        self.opens.append(order)
        try:
            self.before_open(order)
            return await super().open_position(order)
        finally:
            self.after_open()


class Probe(Watched, BrokerClient):
    """A client of the Platform API that is watched."""


class TraderProbe(Watched, TraderClient):
    """A client of the Trader API that is watched."""


PROBES = {"platform": Probe, "trader": TraderProbe}


async def always_granted(command: messages.Command, deadline_s: float | None = None) -> messages.Ack:
    """Answer like a store whose budget is never spent."""
    return messages.Ack(id="1", outcome=Outcome.APPLIED)


class TradingStore(StoreHere):
    """The real store as the executor sees it. `before` is called with every command, before the store has it.

    `silent` commands are not answered (`NoAnswer`); those in `applies_silently` are carried out all the same.
    """

    def __init__(self, path: Path, clock: Shifted) -> None:
        super().__init__(path, clock, a_gate())
        self.sends: list[tuple[Peer, FromStore]] = []
        self.before: Callable[[messages.Command], None] = lambda command: None
        self.after: Callable[[messages.Command], None] = lambda command: None
        self.silent: dict[type, int] = {}  # kind -> how many of them
        self.applies_silently = False
        self.deadlines_s: list[tuple[str, float | None]] = []

    async def ask(self, command: messages.Command, deadline_s: float | None = None) -> messages.Ack:
        self.asked.append(command)
        self.deadlines_s.append((type(command).__name__, deadline_s))
        self.before(command)
        if self.silent.get(type(command), 0):
            assert deadline_s is not None, f"{type(command).__name__} would wait for ever"
            self.silent[type(command)] -= 1
            if self.applies_silently:
                self.apply(EXECUTOR, command)
            raise NoAnswer(f"{type(command).__name__} was not answered within {deadline_s} s")
        ack = self.apply(EXECUTOR, command)
        self.after(command)
        return ack

    def _step(self, envelope: messages.Envelope) -> list[tuple[Peer, FromStore]]:
        sent = super()._step(envelope)
        self.sends += sent
        return sent

    def _beat(self, sender: Peer, capacity: int) -> list[FromStore]:
        body = messages.Beat(pid=1, state=State.READY, capacity=capacity, seen_store_epoch=self._writer.epoch)
        return [message for _, message in self._step(messages.Envelope(sender=sender, body=body))]

    def take(self, symbol: str = "EURUSD", side: str = "BUY", *, sl: float = 50.0, tp: float = 100.0) -> Execute:
        """Return a new intent that the executor may place."""
        self.ready(symbol, side, sl=sl, tp=tp)
        return self.given()

    def ready(self, symbol: str = "EURUSD", side: str = "BUY", *, sl: float = 50.0, tp: float = 100.0) -> str:
        """Bring a new intent as far as ready_for_exec; return its id."""
        self._bars += 1
        bar_time = f"{self.clock.now():%Y-%m-%d} {self._bars}"
        signal = Signal(
            symbol=symbol, timeframe="D1", bar_time=bar_time, score=1.0, confidence="high", score_gap=1.0,
            drop_distance=1.0, topk_spread=1.0, side_hint="BUY", close=1.1, volatility_pips=50.0, source="test",
            model_id="test",
        )  # fmt: skip
        self.apply(SCANNER, messages.Propose(signal=signal, trade_date="2026-02-16"))
        analyse = next(message for message in self._beat(LLM, 1) if isinstance(message, messages.Analyse))
        self._beat(LLM, 0)
        self.apply(LLM, messages.Decide(
            intent_id=analyse.intent.id, epoch=analyse.epoch, side=cast(Any, side), sl_pips=sl, tp_pips=tp
        ))  # fmt: skip
        return analyse.intent.id

    def given(self) -> Execute:
        """Return what the store gives to an executor that is free."""
        work = next(message for message in self._beat(EXECUTOR, 1) if isinstance(message, Execute))
        self._beat(EXECUTOR, 0)
        return work

    def has_withdrawn(self, work: Execute) -> bool:
        """Return whether the store has told the executor that this lease is gone."""
        lost = [one for _, one in self.sends if isinstance(one, messages.Withdraw)]
        return any((one.intent_id, one.epoch) == (work.intent.id, work.epoch) for one in lost)


PILOT = Peer(Role.PILOT, 1, "eeeeeeeeeeee")


class Bench:
    """One executor's desk between a real store and a real paper broker."""

    def __init__(
        self,
        broker: paper.RunningPaper,
        client: Probe | TraderProbe,
        store: TradingStore,
        clock: Shifted,
        **executor: Any,
    ):
        self.broker = broker
        self.client = client
        self.store = store
        self.clock = clock
        self.stopping = asyncio.Event()
        self.reader = Reader(store.path)
        self.settings = settings.Settings(
            profile="test",
            broker=broker.settings,
            executor=settings.Executor(
                **{"random_delay_s_max": 0.0, "quiet_s": QUIET_S, "look_interval_s": 0.05} | executor
            ),
        )
        self.slept_s: list[float] = []
        self.is_real_time = False
        # Its client pays elsewhere: what is asked of the store is then only what the test is about.
        self.allowance = Allowance(always_granted, clock, self._today, block=Block())
        self.desk = self.a_desk()

    def _today(self) -> tuple[FirmDay, ...]:
        return days.firm_days(the_rules(), self.clock.now())

    def a_desk(self) -> Desk:
        """Return the desk of a new life of the executor."""
        return Desk(
            client=self.client,
            reader=self.reader,
            settings=self.settings,
            rules=the_rules(),
            clock=self.clock,
            ask=self.store.ask,
            sleep=self.sleep,
            holds=lambda work: not self.store.has_withdrawn(work),
            allowance=self.allowance,
            draw=random.Random(20_260_216),
            boot=BOOT,
        )

    async def sleep(self, seconds: float) -> bool:
        """Wait a moment; unless the test wants real time, the clock then says that it was as long as asked for."""
        self.slept_s.append(seconds)
        waited_s = min(seconds, LOOK_S)
        try:
            async with asyncio.timeout(waited_s):
                await self.stopping.wait()
        except TimeoutError:
            if not self.is_real_time:
                self.pass_time(seconds - waited_s)
            return False
        return True

    async def place(self, work: Execute | None = None, **intent: Any) -> Execute:
        """Take an intent through its execution and return the work."""
        work = work or self.store.take(**intent)
        async with asyncio.timeout(20):
            await self.desk.place(work)
        return work

    async def settle(self, work: Execute, desk: Desk | None = None) -> None:
        """Reconcile the intent's reserved order, as after a restart."""
        order = self.reader.order(work.intent.id)
        assert order is not None
        async with asyncio.timeout(20):
            await (desk or self.desk).settle(work, order)

    def status(self, work: Execute) -> str:
        intent = self.reader.intent(work.intent.id)
        assert intent is not None
        return str(intent.status)

    def reason(self, work: Execute) -> str:
        """Return the newest reason in the intent's journal."""
        return self.reader.transitions(work.intent.id)[-1].reason

    def order_status(self, work: Execute) -> str:
        order = self.reader.order(work.intent.id)
        return str(order.status) if order else "none"

    def placed(self) -> list[dict[str, Any]]:
        """Return what the paper broker's ledger says it placed: the truth."""
        lines = (self.broker.venue.folder / "ledger.jsonl").read_text().splitlines()
        return [row for row in map(json.loads, lines) if row["kind"] == "placed"]

    def halts(self) -> list[str]:
        return [halt.reason for halt in self.reader.halts()]

    def resolve(self, work: Execute, position_id: str | None) -> messages.Ack:
        """Say what became of the order, as the operator does."""
        return self.store.apply(
            PILOT,
            messages.Resolve(
                intent_id=work.intent.id, operator="op", position_id=position_id, reason="seen at the broker"
            ),
        )

    def pass_time(self, seconds: float) -> None:
        """Let time pass at once, for everybody; the broker's prices move on."""
        self.clock.ahead_s += seconds
        self.broker.venue.tick()

    def twin(self) -> None:
        """Open a position at the broker that equals the newest one, as its owner might by hand."""
        held = self.broker.venue.book.holdings[-1]
        self.broker.venue.open_position(
            Order(
                symbol=held.symbol, side=held.side, volume=held.volume, sl_price=held.sl_price, tp_price=held.tp_price
            )
        )  # fmt: skip


@contextlib.asynccontextmanager
async def a_bench(folder: Path, *, logged_in: bool = True, api: str = "", **executor: Any) -> AsyncIterator[Bench]:
    """Make a bench whose executor settings differ from the test's by `executor`, over one API or the other."""
    clock, api = Shifted(), api or API
    (folder / "paper").mkdir()
    async with paper.running(folder / "paper", clock=clock, api=api) as broker:
        async with PROBES[api](broker.settings, "paper", clock, broker.budget) as client:
            client.watch(broker)
            if logged_in:
                await client.login()
                await super(Watched, client).instruments()
            store = TradingStore(folder / "decisions.db", clock)
            try:
                bench = Bench(broker, client, store, clock, **executor)
                try:
                    yield bench
                finally:
                    bench.reader.close()
            finally:
                store.close()
