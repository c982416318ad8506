"""See to it that an open position carries its stop: read it, set it, else close the position. Used by the executor.

A broker may ignore the stop of an order without a word. A naked position is worse than none. What is not seen, because
the broker does not answer or a list lags, is waited for: only a position that is seen without its stop is closed.
When either lasts, people are told, and it goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from loguru import logger

from actors.broker import reconcile
from actors.broker.account import Account
from actors.broker.errors import BrokerError, NotSent
from actors.broker.wire import ClosedPosition, Position
from actors.desk import stops
from actors.desk.settling import HISTORY_MARGIN_S, LOOKS_MIN
from bus.clock import Clock
from bus.failpoints import reach
from bus.records import OrderPlan

EDITS_MAX = 3  # that reached the broker and were seen to have no effect
CLOSES_MAX = 5
STOP_SLACK = Decimal("0.02")
UNSEEN_WAIT_S_MAX = 30.0
LOST_WAIT_S_MAX = 300.0  # once people were told: looks for ever must not use up the day's requests
NAKED_S_MAX = 60.0  # last seen without its stop for as long: trading is halted

Tell = Callable[[str], Awaitable[object]]
Seen = Position | ClosedPosition | None  # None: the broker shows it nowhere, or was not reached


class Unprotected(Exception):
    """The position has no stop and could not be closed. Somebody must act now."""


@dataclass(slots=True)
class _Case:
    """One position in our hands, as it was found."""

    position: Position
    plan: OrderPlan
    lots: Decimal  # the most it was seen to hold
    naked_since_s: float | None  # monotonic; None: last seen with its stop
    misses: int = 0  # looks in a row that were answered and did not show it open
    missing_since_s: float = 0.0  # monotonic: when the first of them began
    missing_s: float = 0.0  # from there to the newest of them that showed no end of it either
    lots_closed: Decimal = Decimal(0)
    is_told_lost: bool = False

    @property
    def name(self) -> str:
        """Return which position it is, for people."""
        return f"position {self.position.id} ({self.position.side} {self.position.volume} {self.position.symbol})"

    def seen(self, now: Position, at_s: float) -> None:
        """Note that a look shows it open."""
        self.lots, self.misses, self.missing_s = max(self.lots, now.volume), 0, 0.0
        if has_stop(now, self.plan):
            self.naked_since_s = None
        elif self.naked_since_s is None:
            self.naked_since_s = at_s

    def missed(self, ended: ClosedPosition | None, at_s: float) -> None:
        """Note that a look which began then does not show it open, and has this much of it in the history."""
        self.missing_since_s = self.missing_since_s if self.misses else at_s
        self.misses, self.missing_s = self.misses + 1, at_s - self.missing_since_s
        self.lots_closed = ended.volume if ended is not None else Decimal(0)


class Protector:
    """Puts the planned stop on a position, or ends the position.

    What is shown nowhere for `quiet_s` is lost. `pause` is the wait before a read-back. Unlike `sleep` it is not cut
    short by a stop of the process: a read-back that comes too early would take a stop that was just set for one that is
    missing.
    """

    def __init__(
        self,
        client: Account,
        clock: Clock,
        sleep: Callable[[float], Awaitable[bool]],
        *,
        look_interval_s: float,
        quiet_s: float,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._clock = clock
        self._sleep = sleep
        self._look_interval_s = look_interval_s
        self._quiet_s = quiet_s
        self._pause = pause

    async def protect(
        self, position: Position, plan: OrderPlan, *, is_ours: Callable[[], bool], halt: Tell, lost: Tell
    ) -> Seen:
        """Return the position as it is once its stop is there, or the row of its end.

        None: we were asked to stop, or `is_ours` says that the lease is gone; then nothing more is written.
        A target that is missing is set once; without it the position is only less good, never dangerous.
        `halt` is told that the stop has been missing for long, `lost` that only the operator can tell what became of
        the position. Either way we go on: it may come back, and without its stop.

        Raises:
            Unprotected: the position is there without its stop, and neither setting it nor closing worked.
        """
        began_s = self._clock.monotonic()
        case = _Case(position, plan, position.volume, None if has_stop(position, plan) else began_s)
        now: Seen = position
        edits = closes = 0
        is_target_tried, wait_s = False, self._look_interval_s
        while True:
            if isinstance(now, ClosedPosition):
                return now
            if now is not None and has_stop(now, plan) and (is_target_tried or has_target(now, plan)):
                return now
            if now is not None and edits >= EDITS_MAX and is_near(now, plan):
                logger.warning("Position {} keeps its stop {}: near enough", position.id, now.sl_price or "none")
                return now
            if not is_ours():
                return None
            await self._tell(case, halt, lost)
            if now is None:
                wait_s = min(wait_s, self._wait_s_max(case))
                if await self._sleep(wait_s):
                    return None
                wait_s *= 2
                now = await self._read(case)
            elif has_stop(now, plan):
                is_target_tried = True
                now = await self._set_target(case, now, plan)
            elif edits < EDITS_MAX:
                now = await self._set_stop(case, now, plan)
                edits += now is not None
            elif closes < CLOSES_MAX:
                now = await self._close(case, now)
                closes += now is not None
            else:
                raise Unprotected(f"{case.name} has no stop, takes none and cannot be closed")

    async def _tell(self, case: _Case, halt: Tell, lost: Tell) -> None:
        """Tell people of what lasts; of the missing stop again after as long, should the halt have been lifted."""
        now_s = self._clock.monotonic()
        if case.missing_s >= self._quiet_s and not case.is_told_lost:
            case.is_told_lost, case.naked_since_s = True, None  # what is seen later counts anew
            history = f"the history has {case.lots_closed} of its {case.lots} lots"
            await lost(f"{case.name} is not open for {case.missing_s:.0f} s, and {history}")
        looked_s = case.missing_since_s + case.missing_s
        if case.naked_since_s is None or (case.misses and now_s - looked_s < NAKED_S_MAX):
            return  # while looks are answered and do not show it, it may be lost, but naked is only what is there
        if now_s - case.naked_since_s >= NAKED_S_MAX:
            case.naked_since_s = now_s
            await halt(f"{case.name} is without its stop: for {NAKED_S_MAX:g} s it could be neither set nor closed")

    def _wait_s_max(self, case: _Case) -> float:
        return max(LOST_WAIT_S_MAX if case.missing_s >= self._quiet_s else UNSEEN_WAIT_S_MAX, self._look_interval_s)

    async def _set_stop(self, case: _Case, position: Position, plan: OrderPlan) -> Seen:
        found = position.sl_price or "none"
        logger.warning("Position {} has stop {} instead of {}: setting it", position.id, found, plan.sl_price)
        return await self._edit(case, position, plan.sl_price, plan.tp_price)

    async def _set_target(self, case: _Case, position: Position, plan: OrderPlan) -> Seen:
        logger.warning("Position {} has no target instead of {}: setting it", position.id, plan.tp_price)
        seen = await self._edit(case, position, position.sl_price or plan.sl_price, plan.tp_price)
        if isinstance(seen, Position) and not has_target(seen, plan):
            logger.warning("Position {} takes no target; its stop {} stands", position.id, seen.sl_price or "none")
        return seen

    async def _edit(self, case: _Case, position: Position, sl_price: Decimal, tp_price: Decimal) -> Seen:
        try:
            await stops.edit(self._client, position, sl_price, tp_price)
        except BrokerError as error:
            logger.warning("Setting stop and target of {} failed: {}", position.id, error)
            if isinstance(error, NotSent):
                return None
        await self._pause(self._look_interval_s / 2)
        return await self._read(case)

    async def _close(self, case: _Case, position: Position) -> Seen:
        logger.error("Position {} has no stop and takes none: closing it", position.id)
        reach("executor.before_close")  # closing a position that takes no stop
        try:
            await self._client.close_position(position)
        except BrokerError as error:
            logger.error("Closing {} failed: {}", position.id, error)
            if isinstance(error, NotSent):
                return None
        reach("executor.after_close")
        await self._pause(self._look_interval_s / 2)
        return await self._read(case)

    async def _read(self, case: _Case) -> Seen:
        """Return the position as the broker shows it now; None when it shows no whole one or does not answer."""
        position, now, began_s = case.position, self._clock.now(), self._clock.monotonic()
        try:
            for seen in await self._client.open_positions():
                if seen.id == position.id:
                    case.seen(seen, began_s)
                    return seen
            margin = timedelta(seconds=HISTORY_MARGIN_S)
            until = max(now, position.opened_at) + margin
            rows = await self._client.closed_positions(position.opened_at - margin, until)
        except BrokerError as error:
            logger.warning("Reading position {} back failed: {}", position.id, error)
            return None
        ended = next(iter(reconcile.whole([row for row in rows if row.id == position.id])), None)
        case.missed(ended, began_s)
        # A part may have been closed before it was found: less than planned is no end on the word of a single look.
        lots = case.lots if case.misses >= LOOKS_MIN else max(case.lots, case.plan.volume)
        if ended is not None and reconcile.is_part(ended, lots):
            logger.warning("The history has {} of {} lots of {}", ended.volume, lots, position.id)
            return None
        return ended


def has_stop(position: Position, plan: OrderPlan) -> bool:
    """Return whether the position's stop limits its loss at least as tightly as planned."""
    stop = position.sl_price
    if stop is None or stop <= Decimal(0):
        return False
    return stop >= plan.sl_price if position.side == "BUY" else stop <= plan.sl_price


def is_near(position: Position, plan: OrderPlan) -> bool:
    """Return whether the stop is there and at most `STOP_SLACK` of its planned distance too wide.

    For a broker that rounds: the guard values what the position really has, and closing would cost more.
    """
    stop = position.sl_price
    if stop is None or stop <= Decimal(0):
        return False
    return abs(stop - plan.sl_price) <= STOP_SLACK * abs(plan.entry_price - plan.sl_price)


def has_target(position: Position, plan: OrderPlan) -> bool:
    """Return whether the position has a target, or the plan wants none."""
    return position.tp_price is not None or plan.tp_price == 0
