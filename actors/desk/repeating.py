"""Ask a broker that knows keys what became of an order by sending it again with its key. Used by the executor.

A repetition opens the order when the first request never arrived. It is therefore sent only while the order might be
opened for the first time, too: the gate's figures are young by both clocks, no halt stands, the lease is held, the
store's file still has the order unresolved, and the intent has not expired. Later nothing is sent, and the account is
only looked at.

Only an id ends the uncertainty. A refusal of the repetition does not say what the first request did: the margin that is
missing now may be what the first one took.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from loguru import logger

from actors.broker.account import Account
from actors.broker.errors import BudgetSpent, KeyConflict, Refused
from actors.desk import licence
from actors.desk.allowance import Allowance
from actors.desk.sending import Sender
from bus.clock import Clock, iso
from bus.failpoints import reach
from bus.records import Order, TradeIntent
from bus.vocabulary import OrderStatus
from config.settings import Executor
from store.queries import DatabaseRefused, Reader

UNRESOLVED = (OrderStatus.RESERVED, OrderStatus.UNKNOWN)
REPEATS_MAX = 3
WAIT_S = 0.5  # before the first, doubled before each other


class Repeater:
    """Repeats one order at a time. `boot` names the boot of this machine: see `licence.of_mark`."""

    def __init__(
        self,
        client: Account,
        reader: Reader,
        sender: Sender,
        allowance: Allowance,
        clock: Clock,
        sleep: Callable[[float], Awaitable[bool]],
        *,
        executor: Executor,
        boot: str,
    ) -> None:
        self._client = client
        self._reader = reader
        self._sender = sender
        self._allowance = allowance
        self._clock = clock
        self._sleep = sleep
        self._executor = executor
        self._boot = boot

    async def repeat(
        self, order: Order, intent: TradeIntent, *, is_ours: Callable[[], bool]
    ) -> str | KeyConflict | None:
        """Return the id that the broker gives to the order now, its objection to the key, or None: nobody knows.

        `is_ours` tells whether the lease is still held.
        """
        wait_s = WAIT_S
        for _ in range(REPEATS_MAX if self._is_keyed(order) else 0):
            if await self._sleep(wait_s):
                return None
            wait_s *= 2
            try:
                await self._allowance.ensure(0, 1)  # of the work, never of the reserve: it may open a position
            except BudgetSpent as error:
                logger.info("Not repeated: {}", error)
                return None
            reach("executor.before_repeat")  # sending an order again with its key
            if why := self._why_not(order, intent, is_ours):
                logger.info("Not repeated: {}", why)
                return None
            answer = await self._sender.send(order)
            reach("executor.after_repeat")
            logger.bind(intent_id=order.intent_id).info("Repeated the order with its key: {}", answer)
            if isinstance(answer, (str, KeyConflict)):
                return answer
            if isinstance(answer, Refused):
                return None
        return None

    def _is_keyed(self, order: Order) -> bool:
        return self._client.keyed_orders and bool(order.idempotency_key)

    def _why_not(self, order: Order, intent: TradeIntent, is_ours: Callable[[], bool]) -> str:
        """Return why this order must not be opened now, in the case that it was not; empty when it may."""
        figures = licence.of_mark(order.figures_mark, self._boot)
        if figures is None:
            return "nobody knows how old its figures are"
        allowed_s = min(self._executor.figures_age_s_max, self._executor.keyed_retry_s)
        if (age_s := figures.age_s(self._clock)) > allowed_s:
            return f"its figures are {age_s:.1f} s old; allowed {allowed_s:g} s"
        if not is_ours():
            return "the lease is gone"
        now = iso(self._clock.now())
        if intent.expires_at and intent.expires_at <= now:
            return f"the intent expired at {intent.expires_at}"
        try:
            halts, kept = self._reader.halts(now), self._reader.order(order.intent_id)
            is_settled = kept is None or kept.status not in UNRESOLVED or kept.idempotency_key != order.idempotency_key
            # Late or doubled work may speak of an order that was settled since: what it opens would be nobody's.
            if is_settled or (held := self._reader.intent(order.intent_id)) is None or held.epoch != intent.epoch:
                return "the order is no longer what we were given"
        except DatabaseRefused as error:
            return f"the store's file cannot be read: {error}"
        return f"halted: {halts[0].reason}" if halts else ""
