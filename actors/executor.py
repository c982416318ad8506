"""The executor: one account, strictly one order at a time, under a lock held for life. Process entry.

Takes `Execute` work from the store: intents to place, and orders of a dead predecessor to reconcile. Announces capacity
only after one complete look at the broker. Never sends an order it has no fresh licence for.
"""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

from loguru import logger

from actors.broker.client import BrokerClient
from actors.broker.errors import BrokerError
from actors.broker.password import password
from actors.compliance import rulebook
from actors.desk import view
from actors.desk.placing import Desk
from bus import actor, messages
from bus.actor import BeatState
from bus.clock import Clock
from bus.link import Link
from bus.messages import Execute, Held
from bus.vocabulary import Role, State
from config import load
from config.settings import Settings
from store.queries import Reader

FIRST_LOOK_S = 1.0
FIRST_LOOK_S_MAX = 30.0


class Executor(actor.Actor):
    """Places orders, one after the other."""

    role = Role.EXECUTOR

    def __init__(self, link: Link, settings: Settings, clock: Clock) -> None:
        super().__init__(link, settings, clock)
        self._rules = rulebook.load(settings.compliance.rules)
        self._password = password(settings)
        self._work: dict[tuple[str, int], Execute] = {}  # held leases, oldest first
        self._current: tuple[str, int] | None = None
        self._arrived = asyncio.Event()
        self._state = State.STARTING
        self._done = 0

    def beat(self) -> BeatState:
        holding = tuple(Held(intent_id, epoch) for intent_id, epoch in self._work)
        return BeatState(state=self._state, capacity=1, holding=holding, progress=self._done)

    def on_message(self, message: messages.FromStore) -> None:
        if isinstance(message, Execute):
            # The same epoch again is a resend; a newer one replaces what a hand-over made old.
            self._work.setdefault((message.intent.id, message.epoch), message)
            self._arrived.set()
        elif isinstance(message, messages.Withdraw) and (message.intent_id, message.epoch) != self._current:
            # What is under way goes on: without the lease the store refuses its reservation, so nothing is sent.
            self._work.pop((message.intent_id, message.epoch), None)

    async def run(self) -> None:
        async with BrokerClient(self.settings.broker, self._password, self.clock) as client:
            if not await self._first_look(client):
                return
            reader = await self._open_reader()
            if reader is None:
                return
            desk = Desk(
                client=client,
                reader=reader,
                settings=self.settings,
                rules=self._rules,
                clock=self.clock,
                ask=self.link.ask,
                sleep=self.link.sleep,
                draw=random.SystemRandom(),
            )
            self._state = State.READY
            self.link.beat_now()
            try:
                await self._serve(desk, client)
            finally:
                reader.close()

    async def _serve(self, desk: Desk, client: BrokerClient) -> None:
        """Take the oldest work until stopped. What is under way when the stop comes is finished or left certain."""
        while not self.link.stopping.is_set():
            if not self._work:
                self._arrived.clear()
                await self._wait_for_work()
                continue
            key, work = next(iter(self._work.items()))
            self._current = key
            if work.order is None:
                await desk.place(work)
            else:
                await desk.settle(work, work.order)
            if self.link.stopping.is_set() and work.order is not None:
                break  # not settled: it stays ours until the next life takes it over
            self._work.pop(key, None)
            self._done += 1
            self.link.beat_now()
            await self._count_requests(client)

    async def _wait_for_work(self) -> None:
        arrived = asyncio.create_task(self._arrived.wait())
        stopping = asyncio.create_task(self.link.stopping.wait())
        await asyncio.wait((arrived, stopping), return_when=asyncio.FIRST_COMPLETED)
        for task in (arrived, stopping):
            task.cancel()

    async def _first_look(self, client: BrokerClient) -> bool:
        """Read positions and history once, completely, before anything else. False when stopped meanwhile."""
        wait_s, warned = FIRST_LOOK_S, ""
        while True:
            try:
                positions = await client.open_positions()
                now = self.clock.now()
                await client.closed_positions(now - timedelta(days=1), now + timedelta(minutes=1))
            except BrokerError as error:
                if str(error) != warned:
                    warned = str(error)
                    logger.warning("Waiting for the broker: {}", error)
            else:
                logger.info("Looked at the account: {} open positions", len(positions))
                return True
            if await self.link.sleep(wait_s):
                return False
            wait_s = min(2 * wait_s, FIRST_LOOK_S_MAX)

    async def _open_reader(self) -> Reader | None:
        """Open the store's database once the store has welcomed us: then it exists. None when stopped meanwhile."""
        while not self.link.store_epoch:
            if await self.link.sleep(0.02):
                return None
        return Reader(load.db_path(self.settings))

    async def _count_requests(self, client: BrokerClient) -> None:
        reads, writes = client.requests.take()
        if reads or writes:
            day = view.firm_day(self._rules, self.clock.now()).day
            await self.link.ask(messages.CountRequests(day=day, reads=reads, writes=writes))


if __name__ == "__main__":
    actor.main(Executor)
