"""The trading part of the pipeline in this process: the real executor, monitor, store and paper broker, time held.

    async with floor.a_floor(tmp_path, monkeypatch) as run:
        await run.broker.fault("lose_answer_reset")
        await run.trade()
        assert run.status() == "opened"
        run.audit()

Waits of executor and monitor pass at once by moving everybody's clock; HTTP goes over real sockets. Nothing is killed
here, so the disks are not waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import uuid_utils

from actors import monitor
from actors.broker import factory
from actors.compliance import day
from actors.desk.allowance import Allowance
from actors.executor import Executor
from actors.watch.poll import Watch
from bus import messages
from bus.messages import Envelope, FromStore, Held, Peer
from bus.records import Signal, TradeIntent
from bus.vocabulary import Role, State
from config import settings
from store import connection, verify
from store.queries import Reader
from store.writer import Writer
from tests.kit import paper
from tests.kit.compliance import the_rules
from tests.kit.desk import Shifted
from tests.kit.gate import a_gate

D = Decimal
EXECUTOR = Peer(Role.EXECUTOR, 1, "cccccccccccc")
MONITOR = Peer(Role.MONITOR, 1, "aaaaaaaaaaaa")
LLM = Peer(Role.LLM, 1, "bbbbbbbbbbbb")
SCANNER = Peer(Role.SCANNER, 1, "dddddddddddd")
QUIET_S = 4.0
LOOK_S = 0.25
STEP_S = 0.5
IDLE_STEP_S = 5.0  # below bus.dead_s, so that nobody is taken for dead
TRADE_S_MAX = 20_000.0  # of the held clock
FINAL = ("opened", "closed", "failed", "rejected", "cancelled")


class HereLink:
    """A `bus.link.Link` whose store is a writer in this process."""

    def __init__(self, floor: Floor, peer: Peer) -> None:
        self.peer = peer
        self.stopping = asyncio.Event()
        self.welcomed = asyncio.Event()
        self.welcomed.set()
        self.store_epoch = 0
        self.receive: Callable[[FromStore], None] = lambda message: None
        self._floor = floor

    async def ask(self, command: messages.Command, deadline_s: float | None = None) -> messages.Ack:
        await asyncio.sleep(0)
        return self._floor.apply(self.peer, command)

    async def sleep(self, seconds: float) -> bool:
        """Let the time pass for everybody, a beat of everybody each step."""
        while seconds > 0 and not self.stopping.is_set():
            step_s = min(seconds, STEP_S)
            seconds -= step_s
            await self._floor.pass_time(step_s)
        await asyncio.sleep(0)
        return self.stopping.is_set()

    def ready(self) -> None:
        """Nobody listens."""

    def beat_now(self) -> None:
        """The floor beats all the time."""


class House:
    """A paper broker that a fault can end; it is started again on the same port and files, its faults forgotten."""

    def __init__(self, folder: Path, clock: Shifted, api: str = "platform") -> None:
        self._api = api
        self.broker: paper.RunningPaper
        self._folder = folder
        self._clock = clock
        self._serving: AbstractAsyncContextManager[paper.RunningPaper]
        self._again: asyncio.Task[None] | None = None

    async def open(self, port: int = 0) -> None:
        self._serving = paper.running(self._folder, clock=self._clock, port=port, die=self._die, api=self._api)
        self.broker = await self._serving.__aenter__()

    async def close(self) -> None:
        if self._again is not None:
            await self._again
        await self._serving.__aexit__(None, None, None)

    async def is_back(self) -> None:
        """Wait for the end of a restart that is under way."""
        if self._again is not None:
            await asyncio.shield(self._again)

    def _die(self) -> None:
        self._again = asyncio.create_task(self._restart())

    async def _restart(self) -> None:
        port = int(self.broker.url.rpartition(":")[2])
        await self._serving.__aexit__(None, None, None)
        await self.open(port)


class Floor:
    """One account, one intent at a time."""

    def __init__(self, house: House, clock: Shifted, folder: Path, **executor: Any) -> None:
        self.house = house
        self.clock = clock
        broker = house.broker
        self.settings = settings.Settings(
            profile="test",
            symbols=paper.SYMBOLS,
            broker=broker.settings,
            executor=settings.Executor(
                **{
                    "random_delay_s_max": 0.0, "quiet_s": QUIET_S, "look_interval_s": LOOK_S, "volume_jitter_ratio": 0.0
                } | executor
            ),
        )  # fmt: skip
        path = folder / self.settings.store.db_path
        self._db = connection.open_writer(path)
        self._db.pragma("synchronous", 0)
        self._writer = Writer(
            self._db, settings.Store(), settings.Bus(), a_gate(), now=clock.now(), now_s=clock.monotonic()
        )
        self.reader = Reader(path)
        self._links = {peer: HereLink(self, peer) for peer in (EXECUTOR, MONITOR)}
        self.executor = Executor(self._links[EXECUTOR], self.settings, clock)  # type: ignore[arg-type]
        self._links[EXECUTOR].receive = self.executor.on_message
        link, rules = self._links[MONITOR], the_rules()
        allowance = Allowance(link.ask, clock, lambda: day.firm_days(rules, clock.now()), block=monitor.BLOCK)
        self._client = factory.account(broker.settings, "paper", clock, allowance)
        self._watch = Watch(
            self._client, link, allowance=allowance, settings=self.settings, rules=rules, clock=clock, db_path=path  # type: ignore[arg-type]
        )  # fmt: skip
        self._bars = 0
        self.intent_id = ""

    @property
    def broker(self) -> paper.RunningPaper:
        return self.house.broker

    async def close(self) -> None:
        await self._client.__aexit__(None, None, None)
        self.reader.close()
        self._db.close()

    # ── the store ───────────────────────────────────────────────────────────

    def apply(self, sender: Peer, command: messages.Command) -> messages.Ack:
        """Apply a command as its sender's and return the answer."""
        envelope = Envelope(sender=sender, id=str(uuid_utils.uuid7()), body=command)
        return next(one for one in self._step(envelope) if isinstance(one, messages.Ack) and one.id == envelope.id)

    def _step(self, *envelopes: Envelope) -> list[FromStore]:
        sends = self._writer.step(envelopes, self.clock.now(), self.clock.monotonic(), tick=True)
        for peer, message in sends:
            link = self._links.get(peer)
            if link is None or isinstance(message, messages.Ack):
                continue
            if isinstance(message, messages.Welcome):
                link.store_epoch = message.store_epoch
            link.receive(message)
        return [message for _, message in sends]

    def _beat(self, peer: Peer, capacity: int, holding: tuple[Held, ...] = (), state: State = State.READY) -> list[Any]:
        link = self._links.get(peer)
        epoch = link.store_epoch if link else self._writer.epoch
        body = messages.Beat(pid=1, state=state, capacity=capacity, holding=holding, seen_store_epoch=epoch)
        return self._step(Envelope(sender=peer, body=body))

    def beat(self) -> None:
        """Let the executor beat."""
        said = self.executor.beat()
        self._beat(EXECUTOR, said.capacity if said.state is State.READY else 0, said.holding, said.state)

    async def pass_time(self, seconds: float) -> None:
        # Held time passes in no time: no wait may end while the broker is half-way through its restart.
        await self.house.is_back()
        self.clock.ahead_s += seconds
        self.broker.venue.tick()
        self.beat()
        await asyncio.sleep(0)

    # ── one trade ───────────────────────────────────────────────────────────

    def decide(self, side: str = "BUY") -> str:
        """Make a new intent that waits for the executor; return its id."""
        self._bars += 1
        bar_time = f"{self.clock.now():%Y-%m-%d} {self._bars}"
        signal = Signal(
            symbol="EURUSD", timeframe="D1", bar_time=bar_time, score=1.0, confidence="high", score_gap=1.0,
            drop_distance=1.0, topk_spread=1.0, side_hint=side, close=1.1, volatility_pips=50.0, source="test",
            model_id="test",
        )  # fmt: skip
        ack = self.apply(SCANNER, messages.Propose(signal=signal, trade_date="2026-02-16", ttl_minutes=1_440))
        analyse = next(one for one in self._beat(LLM, 1) if isinstance(one, messages.Analyse))
        self._beat(LLM, 0)
        self.apply(LLM, messages.Decide(
            intent_id=analyse.intent.id, epoch=analyse.epoch, side=side, sl_pips=50.0, tp_pips=100.0,  # type: ignore[arg-type]
        ))  # fmt: skip
        assert ack.intent_id
        self.intent_id = ack.intent_id
        return ack.intent_id

    async def trade(self, side: str = "BUY") -> None:
        """Take one intent until it is settled, or the account is halted over it."""
        self.decide(side)
        running = asyncio.create_task(self.executor.run())
        try:
            end_s = self.clock.monotonic() + TRADE_S_MAX
            while not self.is_settled():
                assert self.clock.monotonic() < end_s, f"still {self.status()} after {TRADE_S_MAX} s"
                if running.done():
                    running.result()
                if self.executor._work:
                    await asyncio.sleep(0.002)
                else:
                    await self.pass_time(IDLE_STEP_S)
        finally:
            self._links[EXECUTOR].stopping.set()
            await asyncio.wait((running,), timeout=5)
            assert running.done(), "the executor does not stop"
            running.result()

    async def watch(self, rounds: int = 2, *, every_s: float = 5.0) -> None:
        """Let the monitor poll."""
        for _ in range(rounds):
            await self.pass_time(every_s)
            await self._watch.round(self.reader)

    # ── looking ─────────────────────────────────────────────────────────────

    def intent(self) -> TradeIntent:
        found = self.reader.intent(self.intent_id)
        assert found is not None
        return found

    def status(self) -> str:
        return str(self.intent().status)

    def reasons(self) -> str:
        """Return all reasons in the intent's journal, in order."""
        return "\n".join(f"{move.event}: {move.reason}" for move in self.reader.transitions(self.intent_id))

    def is_settled(self) -> bool:
        return self.status() in FINAL or bool(self.reader.halts())

    def end(self) -> str:
        """Return how the intent ended: its status, or `halted` while only the operator can tell."""
        return "halted" if self.reader.unresolved_orders() and self.reader.halts() else self.status()

    def halts(self) -> list[str]:
        return [halt.reason for halt in self.reader.halts()]

    def ledger(self, *kinds: str) -> list[dict[str, Any]]:
        lines = (self.broker.venue.folder / "ledger.jsonl").read_text().splitlines()
        return [row for row in map(json.loads, lines) if not kinds or row["kind"] in kinds]

    def audit(self) -> None:
        """Compare broker, ledger and store. What must hold after every misbehaviour, whatever its end."""
        received, placed, closed = self.ledger("received"), self.ledger("placed"), self.ledger("closed")
        assert len({row.get("key", row["receipt"]) for row in received}) <= 1, "an order was sent twice"
        assert all("key" not in row or row["key"] == self._key() for row in received), "a key of nobody"
        assert {row["receipt"] for row in placed} <= {row["receipt"] for row in received}
        self._audit_ledger(placed, closed)
        assert verify.verify_chain(self.reader) == []
        owned = self.reader.owned_position_ids()
        assert owned <= {row["position_id"] for row in placed}, "the store knows a position that never was"
        is_halted = bool(self.halts())
        for row in placed:
            assert row["position_id"] in owned or is_halted, f"nobody knows position {row['position_id']}"
            self._audit_stop(row, is_halted=is_halted)
        if self.status() == "closed":
            decision = self.reader.decision(self.intent_id)
            assert decision is not None
            mine = [row for row in closed if row["position_id"] == self.intent().position_id]
            assert decision.net_profit_cents == sum(row["net_profit_cents"] for row in mine)
            assert decision.close_reason == mine[-1]["reason"]
            held = {one.id for one in self.broker.venue.book.holdings}
            assert self.intent().position_id not in held or is_halted, "a part of what is closed is still open"

    def _key(self) -> str | None:
        order = self.reader.order(self.intent_id)
        return order.idempotency_key if order else None

    def _audit_ledger(self, placed: list[dict[str, Any]], closed: list[dict[str, Any]]) -> None:
        left = {row["position_id"]: D(row["volume"]) for row in placed}
        assert len(left) == len(placed), "one position was placed twice"
        for row in closed:
            left[row["position_id"]] -= D(row["volume"])
        there = {held.id: held.volume for held in self.broker.venue.book.holdings}
        assert {key: volume for key, volume in left.items() if volume} == there, "ledger and account differ"

    def _audit_stop(self, row: dict[str, Any], *, is_halted: bool) -> None:
        """Check that a position is gone, or carries a stop at least as tight as planned."""
        order = self.reader.order(self.intent_id)
        held = next((one for one in self.broker.venue.book.holdings if one.id == row["position_id"]), None)
        if held is None:
            return
        assert order is not None
        assert held.sl_price, f"position {held.id} has no stop"
        distance = held.sl_price - order.plan.sl_price
        # One that nobody could tell to be ours may carry the broker's own rounding.
        assert (distance if held.side == "BUY" else -distance) >= (D("-0.00001") if is_halted else 0)
        edits = [one for one in self.ledger("edited") if one["position_id"] == held.id]
        assert D((edits[-1] if edits else row)["sl_price"]) == held.sl_price


@contextlib.asynccontextmanager
async def a_floor(
    folder: Path, patch: pytest.MonkeyPatch, api: str = "platform", **executor: Any
) -> AsyncIterator[Floor]:
    """Make a floor whose executor settings differ from the test's by `executor`. EURUSD stands at 1.10000."""
    patch.setenv("PILOT_DATA", str(folder))
    patch.setattr(os, "fsync", lambda _: None)
    clock = Shifted()
    house = House(folder / "paper", clock, api)
    await house.open()
    try:
        await house.broker.price("EURUSD.", "1.10000")
        floor = Floor(house, clock, folder, **executor)
        try:
            yield floor
        finally:
            await floor.close()
    finally:
        await house.close()
