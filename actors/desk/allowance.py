"""The requests that this process may still make today: granted by the store in blocks, paid one by one. Library of
executor and monitor, one each.

The store counts a block as used when it grants it, so that a kill at any moment leaves the store's count at or above
what the broker received. Nothing leaves without being paid for here. The one exception is `flatten`, which is finding,
protecting and closing positions: while the store does not answer it goes on, on an advance that the store is told of
as soon as it is back. That advance is written nowhere else: a kill before then leaves it uncounted, and the day's
reserve, which only flattening may use, is what covers it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

from loguru import logger
from msgspec import Struct

from actors.broker.errors import BudgetSpent
from actors.compliance.day import FirmDay
from bus import messages
from bus.clock import Clock
from bus.errors import NoAnswer
from bus.vocabulary import Outcome

Purpose = Literal["work", "flatten"]
Ask = Callable[..., Awaitable[messages.Ack]]

ANSWER_S = 2.0  # how long the store's answer is waited for, once; while it stays silent, not again
GIVE_BACK_S = 1.0


class Block(Struct, frozen=True):
    """A number of requests, reads and writes apart."""

    reads: int = 0
    writes: int = 0

    def __bool__(self) -> bool:
        return bool(self.reads or self.writes)

    def plus(self, other: Block) -> Block:
        return Block(self.reads + other.reads, self.writes + other.writes)

    def beyond(self, other: Block) -> Block:
        """Return what of these is more than the other, for reads and writes apart."""
        return Block(max(0, self.reads - other.reads), max(0, self.writes - other.writes))


class Allowance:
    """What one process has been granted of the firm's day and not used yet. Pays for a `broker.client`.

    `today` returns the firm's day by every reading of its reset, as `compliance.day.firm_days` does: a block ends at
    whichever turns first. `block` is the least that is asked for of what runs short: a
    kill wastes no more than that and what `ensure` was asked for.
    """

    def __init__(
        self,
        ask: Ask,
        clock: Clock,
        today: Callable[[], tuple[FirmDay, ...]],
        *,
        block: Block,
        answer_s: float = ANSWER_S,
    ) -> None:
        self.purpose: Purpose = "work"
        self._ask = ask
        self._clock = clock
        self._today = today
        self._block = block
        self._answer_s = answer_s
        self._days: tuple[FirmDay, ...] = ()
        self._left = Block()
        self._asking: asyncio.Task[messages.Ack | None] | None = None
        self._is_silent = False  # the question under way has been waited for once, in vain
        self._to_tell: list[messages.CountRequests | messages.ReturnRequests] = []
        self._telling: asyncio.Task[None] | None = None

    @property
    def left(self) -> Block:
        """What is granted for today and not used."""
        self._turn_the_day()
        return self._left

    async def ensure(self, reads: int, writes: int = 0, purpose: Purpose = "work") -> None:
        """Have so many requests in hand for what comes next, and pay what follows for that `purpose`.

        Waits for the store at most once while it is silent. `flatten` may use the reserve, and goes on without an
        answer; `work` does neither.

        Raises:
            BudgetSpent: refused (`is_refused`, with the time until the reset as `retry_after_s`), or, for `work` only,
                the store did not answer. What was in hand before still is.
        """
        self.purpose = purpose
        await self._cover(Block(reads, writes))

    async def pay_read(self) -> None:
        await self._cover(Block(reads=1))
        self._left = self._left.beyond(Block(reads=1))

    async def pay_write(self) -> None:
        await self._cover(Block(writes=1))
        self._left = self._left.beyond(Block(writes=1))

    def pay_order(self) -> None:
        self._turn_the_day()
        if not self._left.writes:
            raise BudgetSpent("no write is granted to us for an order; one is asked for before its reservation")
        self._left = self._left.beyond(Block(writes=1))

    async def close(self, wait_s: float = GIVE_BACK_S) -> None:
        """Give back what is left and tell what is owed; at most `wait_s`. What stays untold counts as used."""
        self._give_back()
        self._tell()
        if self._telling is not None:
            await asyncio.wait((self._telling,), timeout=wait_s)
        unanswered = [task for task in (self._asking, self._telling) if task is not None]
        for task in unanswered:
            task.cancel()
        await asyncio.gather(*unanswered, return_exceptions=True)

    # ── asking the store ────────────────────────────────────────────────────

    async def _cover(self, wanted: Block) -> None:
        """Return with `wanted` in hand. Nothing is awaited between that and the return."""
        exactly = False
        while True:
            self._turn_the_day()
            self._tell()
            missing = wanted.beyond(self._left)
            if not missing:
                return
            asked = None
            if self._asking is None:
                asked = missing if exactly else self._rounded_up(missing)
                grant = self._ask_for(asked, self._days, self.purpose)
                self._asking = asyncio.create_task(grant, name="grant")
            days = self._days
            ack = await self._answer(self._asking)
            if ack is None:
                self._go_without(missing)
            elif ack.outcome is not Outcome.APPLIED and asked is not None and days == self._today():
                # Of a last block too small for us there may be enough for this one request.
                if asked == missing:
                    what = f"no requests left for {self.purpose}: {ack.reason}"
                    raise BudgetSpent(what, self._until_reset_s(), is_refused=True)
                exactly = True

    async def _ask_for(self, asked: Block, days: tuple[FirmDay, ...], purpose: Purpose) -> messages.Ack | None:
        """Ask until it is answered, however late: asked twice, it would be granted twice. None: nobody was reached."""
        day = days[0].day
        command = messages.GrantRequests(day=day, reads=asked.reads, writes=asked.writes, purpose=purpose)
        try:
            ack = await self._ask(command)
        except NoAnswer:
            return None
        finally:
            self._asking = None
        if self._is_silent:
            logger.info("The store answers again")
            self._is_silent = False
        if ack.outcome is Outcome.APPLIED:
            if self._days == days:
                self._left = self._left.plus(asked)
            else:
                self._to_tell.append(messages.ReturnRequests(day=day, reads=asked.reads, writes=asked.writes))
        return ack

    async def _answer(self, asking: asyncio.Task[messages.Ack | None]) -> messages.Ack | None:
        """Return the answer, or None when there is none in time."""
        await asyncio.wait((asking,), timeout=0 if self._is_silent else self._answer_s)
        if asking.done() and not asking.cancelled() and (ack := asking.result()) is not None:
            return ack
        if not self._is_silent:
            logger.warning("The store grants no requests: no answer")
        self._is_silent = True
        return None

    def _go_without(self, missing: Block) -> None:
        """Take an advance of exactly what is missing. Raises BudgetSpent unless positions are at stake."""
        if self.purpose != "flatten":
            raise BudgetSpent("no requests granted: the store does not answer")
        day = self._days[0].day
        self._left = self._left.plus(missing)
        last = self._to_tell[-1] if len(self._to_tell) > 1 else None  # the first one may be under way
        if isinstance(last, messages.CountRequests) and last.day == day:
            self._to_tell.pop()
            missing = missing.plus(Block(last.reads, last.writes))
        self._to_tell.append(messages.CountRequests(day=day, reads=missing.reads, writes=missing.writes))

    def _rounded_up(self, missing: Block) -> Block:
        return Block(
            max(missing.reads, self._block.reads) if missing.reads else 0,
            max(missing.writes, self._block.writes) if missing.writes else 0,
        )

    # ── days, debts and returns ─────────────────────────────────────────────

    def _turn_the_day(self) -> None:
        """Give back what is left of a day that is over: the new day's requests are granted anew."""
        now = self._clock.now()
        if not self._days or not all(day.starts_at <= now < day.ends_at for day in self._days):
            self._give_back()
            self._days = self._today()

    def _until_reset_s(self) -> float:
        return max(0.0, (min(day.ends_at for day in self._days) - self._clock.now()).total_seconds())

    def _give_back(self) -> None:
        if self._left:
            left, self._left = self._left, Block()
            self._to_tell.append(messages.ReturnRequests(day=self._days[0].day, reads=left.reads, writes=left.writes))

    def _tell(self) -> None:
        """Tell the store what is owed and what is given back, beside what we do."""
        if self._to_tell and self._telling is None:
            self._telling = asyncio.create_task(self._tell_all(), name="requests")

    async def _tell_all(self) -> None:
        """Tell one after the other, each until it is answered: a return must not come before the count it undoes."""
        try:
            while self._to_tell:
                ack = await self._ask(self._to_tell[0])
                del self._to_tell[0]
                if ack.outcome is not Outcome.APPLIED:
                    logger.warning("The store did not take our count of requests: {}", ack.reason)
        except NoAnswer:
            logger.debug("The store does not know all our requests yet")
        finally:
            self._telling = None
