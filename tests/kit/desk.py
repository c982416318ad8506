"""A real store in this process, reached without sockets.

with desk.store_in(tmp_path, clock) as store: ...
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import uuid_utils

from bus import messages
from bus.clock import Clock, SystemClock, iso
from bus.errors import NoAnswer
from bus.messages import Envelope, Peer
from bus.records import OrderPlan, Signal
from bus.vocabulary import Role, State
from config import settings
from store import connection
from store.certificate import Gate
from store.writer import Writer
from tests.kit.compliance import a_plan
from tests.kit.gate import an_open_gate

MONITOR = Peer(Role.MONITOR, 1, "aaaaaaaaaaaa")
LLM = Peer(Role.LLM, 1, "bbbbbbbbbbbb")
EXECUTOR = Peer(Role.EXECUTOR, 1, "cccccccccccc")
SCANNER = Peer(Role.SCANNER, 1, "dddddddddddd")


class Shifted:
    """The machine's clocks, `ahead_s` seconds ahead: time passes when a test says so."""

    def __init__(self, at: datetime | None = None) -> None:
        self._system: Clock = SystemClock()
        self._base = timedelta(0) if at is None else at - self._system.now()
        self.ahead_s = 0.0

    def now(self) -> datetime:
        return self._system.now() + self._base + timedelta(seconds=self.ahead_s)

    def monotonic(self) -> float:
        return self._system.monotonic() + self.ahead_s


class StoreHere:
    """A link whose store is a real writer in this process. `is_away`: nobody answers."""

    def __init__(self, path: Path, clock: Clock, gate: Gate | None = None) -> None:
        self.path = path
        self.clock = clock
        self.stopping = asyncio.Event()
        self.is_away = False
        self.asked: list[messages.Command] = []
        self.slept_s: list[float] = []
        self._db = connection.open_writer(path)
        self._writer = Writer(
            self._db, settings.Store(), settings.Bus(), gate or an_open_gate(),
            now=clock.now(), now_s=clock.monotonic(),
        )  # fmt: skip
        self._bars = 0

    @property
    def db(self) -> apsw.Connection:
        return self._db

    def close(self) -> None:
        self._db.close()

    async def ask(self, command: messages.Command, deadline_s: float | None = None) -> messages.Ack:
        self.asked.append(command)
        if self.is_away:
            raise NoAnswer(f"{type(command).__name__} was not answered within {deadline_s} s")
        return self.apply(MONITOR, command)

    async def sleep(self, seconds: float) -> bool:
        self.slept_s.append(seconds)
        return self.stopping.is_set()

    def apply(self, sender: Peer, command: messages.Command) -> messages.Ack:
        """Apply a command as its sender's and return the answer."""
        envelope = Envelope(sender=sender, id=str(uuid_utils.uuid7()), body=command)
        sent = self._step(envelope)
        return next(message for _, message in sent if isinstance(message, messages.Ack) and message.id == envelope.id)

    def _step(self, envelope: Envelope) -> list[tuple[Peer, messages.FromStore]]:
        return self._writer.step([envelope], self.clock.now(), self.clock.monotonic())

    def _beat(self, sender: Peer, capacity: int) -> list[messages.FromStore]:
        body = messages.Beat(pid=1, state=State.READY, capacity=capacity, seen_store_epoch=self._writer.epoch)
        return [message for _, message in self._step(Envelope(sender=sender, body=body))]

    def reserve(self, plan: OrderPlan | None = None, *, baseline: tuple[str, ...] = ()) -> messages.Execute:
        """Bring a new intent as far as a reserved order: it may or may not be at the broker."""
        plan = plan or a_plan()
        self._bars += 1
        bar_time = f"{self.clock.now():%Y-%m-%d} {self._bars}"
        signal = Signal(
            symbol=plan.symbol, timeframe="D1", bar_time=bar_time, score=1.0, confidence="high",
            score_gap=1.0, drop_distance=1.0, topk_spread=1.0, side_hint=plan.side, close=1.1, volatility_pips=50.0,
            source="test", model_id="test",
        )  # fmt: skip
        self.apply(SCANNER, messages.Propose(signal=signal, trade_date="2026-02-16"))
        analyse = next(message for message in self._beat(LLM, 1) if isinstance(message, messages.Analyse))
        self._beat(LLM, 0)
        self.apply(LLM, messages.Decide(
            intent_id=analyse.intent.id, epoch=analyse.epoch, side=plan.side, sl_pips=25.0, tp_pips=50.0
        ))  # fmt: skip
        execute = next(message for message in self._beat(EXECUTOR, 1) if isinstance(message, messages.Execute))
        self._beat(EXECUTOR, 0)
        ack = self.apply(EXECUTOR, messages.ReserveOrder(
            intent_id=execute.intent.id, epoch=execute.epoch, plan=plan, baseline=baseline,
            deadline_at=iso(self.clock.now()), compliance_snapshot="{}",
        ))  # fmt: skip
        assert ack.outcome == "applied", ack
        return execute

    def opened(self, execute: messages.Execute, position_id: str, volume: str = "") -> str:
        """Say that the reserved order's position was seen; return the intent's id."""
        ack = self.apply(EXECUTOR, messages.OrderOpened(
            intent_id=execute.intent.id, epoch=execute.epoch, order_id=position_id, position_id=position_id,
            execution_meta=f'{{"volume": "{volume}"}}' if volume else "{}",
        ))  # fmt: skip
        assert ack.outcome == "applied", ack
        return execute.intent.id

    def lift_halts(self) -> None:
        """Lift every halt, as the operator does."""
        self._db.execute(
            "UPDATE halts SET lifted_at = ?, lifted_by = 'op', lift_reason = 'test' WHERE lifted_at IS NULL",
            (iso(self.clock.now()),),
        )

    def sent(self, kind: type[messages.Message]) -> list[Any]:
        """Return the commands of one kind that were asked, in order."""
        return [command for command in self.asked if isinstance(command, kind)]


@contextlib.contextmanager
def store_in(folder: Path, clock: Clock) -> Iterator[StoreHere]:
    store = StoreHere(folder / "decisions.db", clock)
    try:
        yield store
    finally:
        store.close()
