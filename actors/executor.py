"""The executor: one account, strictly one order at a time, under a lock held for life. Process entry.

Takes `Execute` work from the store: intents to place, and orders of a dead predecessor to reconcile. Announces capacity
only after one complete look at the broker. Never sends an order it has no fresh licence for.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from datetime import timedelta

from loguru import logger

from actors.broker import factory
from actors.broker.account import Account
from actors.broker.errors import BrokerError, Unauthorised
from actors.broker.password import password
from actors.broker.wire import Position
from actors.compliance import day as days
from actors.compliance import rulebook
from actors.compliance.day import FirmDay
from actors.desk import entering
from actors.desk.allowance import Allowance, Block
from actors.desk.placing import RETRY_LOGIN_S, Desk
from actors.watch import closing
from bus import actor, messages, runtime
from bus import clock as clocks
from bus.actor import BeatState
from bus.clock import Clock
from bus.failpoints import reach
from bus.link import Link
from bus.messages import Execute, Held
from bus.vocabulary import Role, State
from config import load
from config.settings import Settings
from store.queries import DatabaseRefused, Reader

FIRST_LOOK_S = 1.0
FIRST_LOOK_S_MAX = 30.0
READER_RETRY_S = 1.0
LOOK_READS = 4  # login, instruments, positions, history
BLOCK = Block(reads=4, writes=1)  # what a kill may waste beside what was granted for the trade


class Executor(actor.Actor):
    """Places orders, one after the other."""

    role = Role.EXECUTOR

    @classmethod
    def warm_up(cls, settings: Settings) -> None:
        entering.warm_up(settings)

    def __init__(self, link: Link, settings: Settings, clock: Clock) -> None:
        super().__init__(link, settings, clock)
        self._rules = rulebook.load(settings.compliance.rules)
        self._password = password(settings)
        # The fence, beside the database and without a slot: a second executor cannot run, whatever it calls itself.
        self._fence = runtime.acquire_lock(load.data_folder() / "executor.lock", link.peer.name)
        self._allowance = Allowance(link.ask, clock, self._today, block=BLOCK)
        self._work: dict[tuple[str, int], Execute] = {}  # held leases, oldest first
        self._arrived = asyncio.Event()
        self._state = State.STARTING
        self._done = 0

    def _today(self) -> tuple[FirmDay, ...]:
        return days.firm_days(self._rules, self.clock.now())

    def beat(self) -> BeatState:
        holding = tuple(Held(intent_id, epoch) for intent_id, epoch in self._work)
        return BeatState(state=self._state, capacity=1, holding=holding, progress=self._done)

    def on_message(self, message: messages.FromStore) -> None:
        if isinstance(message, Execute):
            # The same epoch again is a resend; a newer one replaces what a hand-over made old.
            for held in [one for one in self._work if one[0] == message.intent.id and one[1] < message.epoch]:
                del self._work[held]
            self._work.setdefault((message.intent.id, message.epoch), message)
            self._arrived.set()
        elif isinstance(message, messages.Withdraw):
            # What is under way notices: without the lease the store reserves nothing, and the desk lets go.
            self._work.pop((message.intent_id, message.epoch), None)

    def _holds(self, work: Execute) -> bool:
        return (work.intent.id, work.epoch) in self._work

    async def run(self) -> None:
        try:
            async with factory.account(self.settings.broker, self._password, self.clock, self._allowance) as client:
                entry = await entering.begin(client, self._allowance, LOOK_READS)
                try:
                    reader = await self._open_reader()
                    if reader is None:
                        return
                    with contextlib.closing(reader):
                        entering.refuse_foreign(reader, self.settings.broker)
                        if await self._first_look(client, reader, entry):
                            await self._place_orders(client, reader)
                finally:
                    await entering.leave(entry)
        finally:
            await self._allowance.close()

    async def _place_orders(self, client: Account, reader: Reader) -> None:
        desk = Desk(
            client=client,
            reader=reader,
            settings=self.settings,
            rules=self._rules,
            clock=self.clock,
            ask=self.link.ask,
            sleep=self.link.sleep,
            holds=self._holds,
            allowance=self._allowance,
            draw=random.SystemRandom(),
            boot=clocks.boot(),
        )
        self._state = State.READY
        self.link.beat_now()
        await self._serve(desk)

    async def _serve(self, desk: Desk) -> None:
        """Take the oldest work until stopped. What is under way when the stop comes is finished or left certain."""
        while not self.link.stopping.is_set():
            if not self._work:
                self._arrived.clear()
                await self._wait_for(self._arrived)
                continue
            key, work = next(iter(self._work.items()))
            if work.order is None:
                await desk.place(work)
            else:
                await desk.settle(work, work.order)
            if self.link.stopping.is_set():
                return  # if it is not settled, it stays ours until the next life takes it over
            self._work.pop(key, None)
            self._done += 1
            self.link.beat_now()

    async def _wait_for(self, event: asyncio.Event) -> bool:
        """Wait until something has happened. False when asked to stop meanwhile."""
        happened = asyncio.create_task(event.wait())
        stopping = asyncio.create_task(self.link.stopping.wait())
        await asyncio.wait((happened, stopping), return_when=asyncio.FIRST_COMPLETED)
        for task in (happened, stopping):
            task.cancel()
        return not self.link.stopping.is_set()

    async def _first_look(self, client: Account, reader: Reader, entry: asyncio.Task[bool] | None) -> bool:
        """Read positions and history once, completely, before anything else. False when stopped meanwhile.

        `entry`: the login that is under way. One that failed is a look that failed: it is not tried twice in a row.
        """
        wait_s, warned = FIRST_LOOK_S, ""
        while True:
            reach("executor.before_first_look")  # reading positions and history before any work is taken
            try:
                entered, entry = entry, None
                reads = LOOK_READS - (entered is not None and await entered)
                # An order that may exist must be found even on the last requests of the day.
                await self._allowance.ensure(reads, purpose="flatten" if reader.unresolved_orders() else "work")
                await entering.confirm(client)
                positions = await client.open_positions()
                now = self.clock.now()
                await client.closed_positions(now - timedelta(days=1), now + timedelta(minutes=1))
            except BrokerError as error:
                if str(error) != warned:
                    warned = str(error)
                    logger.warning("Waiting for the broker: {}", error)
                if isinstance(error, Unauthorised):
                    wait_s = RETRY_LOGIN_S  # wrong passwords in a row lock accounts
            else:
                reach("executor.after_first_look")
                logger.info("Looked at the account: {} open positions", len(positions))
                self._name_orphans(reader, positions)
                return True
            if await self.link.sleep(wait_s):
                return False
            wait_s = min(2 * wait_s, FIRST_LOOK_S_MAX)

    def _name_orphans(self, reader: Reader, positions: tuple[Position, ...]) -> None:
        """Log the positions of nobody. They count in the gate; what becomes of them is the monitor's."""
        unresolved = reader.unresolved_orders()  # before the owners: what is resolved in between is then owned
        owned = reader.owned_position_ids(position.id for position in positions)
        found = closing.orphans(positions, owned, unresolved)
        if found:
            ids = ", ".join(position.id for position in found)
            logger.warning("No intent owns {} of them: {}; policy: {}", len(found), ids, self.settings.executor.orphans)

    async def _open_reader(self) -> Reader | None:
        """Open the store's database once the store has welcomed us: then it exists. None when stopped meanwhile."""
        if not await self._wait_for(self.link.welcomed):
            return None
        while True:
            try:
                return Reader(load.db_path(self.settings))
            except DatabaseRefused as error:
                logger.error("The decision store cannot be read: {}", error)
            if await self.link.sleep(READER_RETRY_S):
                return None


if __name__ == "__main__":
    actor.main(Executor)
