"""Scanner, llm, executor and monitor whose work is nothing, on the product's own actor loop. Run by `tests.bench.life`.

`python -m tests.bench.life_actors ROLE`. They send the product's messages and obey acks, credit and leases; there is no
broker and no model. Each writes what it saw to a file of its own when it is stopped.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from bus import actor, messages
from bus.actor import BeatState
from bus.clock import Clock, iso
from bus.link import Link
from bus.messages import Analyse, Execute, Held
from bus.vocabulary import Outcome, Role
from config import load
from config.settings import Settings
from store.queries import Reader
from tests.kit import builders, gate

PLAN_ENV = "PILOT_BENCH_LIFE"
CAPACITY = 1_000  # the most that a beat may offer
LOOK_S = 0.005
PROFIT_CENTS = 1


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What one run is to do."""

    folder: str
    intents: int
    in_flight: int  # proposals that wait for their answer at once
    rate: float = 0.0  # proposals a second; 0: as fast as they are answered
    is_wide: bool = False
    every: int = 1  # of so many intents the moments of one are written down, so that a million leave the memory alone
    mark: str = ""  # of this run: another one may have been in the same database

    @property
    def begin(self) -> Path:
        return Path(self.folder) / "begin"

    def key(self, number: int) -> str:
        """Return the idempotency key of an intent of this run."""
        return f"EURUSD:D1:{self.bar(number)}:scanner"

    def bar(self, number: int) -> str:
        return f"bar{self.mark}-{number:08d}"

    def is_noted(self, key: str) -> bool:
        """Return whether the moments of this intent are written down."""
        return int(key.rpartition("-")[2].partition(":")[0]) % self.every == 0


class Idle(actor.Actor):
    """What the four have in common: a plan, leases, and moments by idempotency key to write down."""

    def __init__(self, link: Link, settings: Settings, clock: Clock) -> None:
        super().__init__(link, settings, clock)
        self.plan = msgspec.json.decode(os.environ[PLAN_ENV], type=Plan)
        self.held: dict[tuple[str, int], Held] = {}
        self.seen: dict[str, float] = {}
        self.refused = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def beat(self) -> BeatState:
        return BeatState(capacity=self.capacity(), holding=tuple(self.held.values()))

    def capacity(self) -> int:
        return 0

    async def run(self) -> None:
        await self.work()
        await self.link.stopping.wait()
        spent = time.process_time()
        said = {"seen": self.seen, "refused": self.refused, "cpu_s": spent}
        (Path(self.plan.folder) / f"{self.role}.json").write_bytes(msgspec.json.encode(said))

    async def work(self) -> None:
        """Do what this role does on its own; what is asked of it comes by messages."""

    async def tell(self, command: messages.Command) -> Outcome:
        ack = await self.link.ask(command)
        self.refused += ack.outcome not in (Outcome.APPLIED, Outcome.ALREADY)
        return ack.outcome

    def note(self, key: str) -> None:
        """Write the moment down."""
        if self.plan.is_noted(key):
            self.seen[key] = time.monotonic()

    def start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Scanner(Idle):
    role = Role.SCANNER

    async def work(self) -> None:
        while not self.plan.begin.exists():
            if await self.link.sleep(LOOK_S):
                return
        numbers = iter(range(self.plan.intents))
        if self.plan.rate:
            begun = time.monotonic()
            for number in numbers:
                await asyncio.sleep(max(0.0, begun + number / self.plan.rate - time.monotonic()))
                self.start(self._propose(number))
        else:
            await asyncio.gather(*(self._feed(numbers) for _ in range(self.plan.in_flight)))

    async def _feed(self, numbers: Any) -> None:
        for number in numbers:
            await self._propose(number)

    async def _propose(self, number: int) -> None:
        proposal = builders.a_propose(bar_time=self.plan.bar(number))
        self.note(self.plan.key(number))
        await self.tell(proposal)


class Llm(Idle):
    role = Role.LLM

    def capacity(self) -> int:
        return self.plan.in_flight if self.plan.is_wide else 8

    def on_message(self, message: messages.FromStore) -> None:
        if isinstance(message, Analyse) and (key := (message.intent.id, message.epoch)) not in self.held:
            self.held[key] = Held(*key)
            self.start(self._decide(key))

    async def _decide(self, key: tuple[str, int]) -> None:
        verdict = messages.Decide(intent_id=key[0], epoch=key[1], side="BUY", sl_pips=50.0, tp_pips=100.0)
        await self.tell(verdict)
        del self.held[key]


class Executor(Idle):
    """Reserves, posts nothing, reports the position. Unless the run is wide, with the product's certificate."""

    role = Role.EXECUTOR

    def __init__(self, link: Link, settings: Settings, clock: Clock) -> None:
        super().__init__(link, settings, clock)
        self._gate = gate.a_gate(settings.compliance.rules, account_id=settings.broker.account_id)
        self._reader: Reader | None = None

    def capacity(self) -> int:
        return self.plan.in_flight if self.plan.is_wide else 1

    def on_message(self, message: messages.FromStore) -> None:
        if isinstance(message, Execute) and (key := (message.intent.id, message.epoch)) not in self.held:
            self.held[key] = Held(*key)
            self.start(self._place(key, message))

    async def _place(self, key: tuple[str, int], work: Execute) -> None:
        answer = Outcome.REFUSED
        while (
            answer is Outcome.REFUSED
        ):  # a close came between the reading and the reservation: the account is read again
            answer = await self.tell(self._reservation(key))
        if answer is not Outcome.APPLIED:  # the intent is another's now: nothing may be sent
            del self.held[key]
            return
        self.note(work.intent.idempotency_key)  # here the product posts
        await self.tell(
            messages.OrderOpened(
                intent_id=key[0], epoch=key[1], order_id=key[0], position_id=f"p-{key[0]}", execution_meta="{}"
            )
        )
        del self.held[key]

    def _reservation(self, key: tuple[str, int]) -> messages.ReserveOrder:
        plan = builders.a_plan(loss_cents=PROFIT_CENTS)
        return messages.ReserveOrder(
            intent_id=key[0], epoch=key[1], plan=plan, baseline=(), deadline_at=iso(self.clock.now()),
            compliance_snapshot='{"passed": true}', certificate=self._certificate(plan),
        )  # fmt: skip

    def _certificate(self, plan: Any) -> Any:
        if self.plan.is_wide:
            return None
        self._reader = self._reader or Reader(load.db_path(self.settings))
        return gate.a_certificate_for(self._reader, self._gate, plan, self.clock.now())


class Monitor(Idle):
    role = Role.MONITOR

    async def work(self) -> None:
        while not self.plan.begin.exists():
            if await self.link.sleep(LOOK_S):
                return
        reader = Reader(load.db_path(self.settings))
        closing: set[Any] = set()
        while not await self.link.sleep(LOOK_S):
            opened = dict(reader._db.execute("SELECT id, position_id FROM intents WHERE status = 'opened'"))
            closing &= opened.keys()  # what is gone was closed
            for intent_id in opened.keys() - closing:
                closing.add(intent_id)
                self.start(self._close(intent_id, opened[intent_id]))

    async def _close(self, intent_id: str, position_id: str) -> None:
        result = builders.a_result(closed_at=iso(self.clock.now()), net_profit_cents=PROFIT_CENTS)
        closed = messages.PositionClosed(intent_id=intent_id, position_id=position_id, result=result)
        if await self.tell(closed) is Outcome.APPLIED:
            self.seen["last"] = time.monotonic()


KINDS: dict[str, type[Idle]] = {str(kind.role): kind for kind in (Scanner, Llm, Executor, Monitor)}

if __name__ == "__main__":
    actor.main(KINDS[sys.argv[1]])
