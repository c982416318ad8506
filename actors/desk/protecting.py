"""See to it that an open position carries its stop: read it, set it, else close the position. Used by the executor.

A broker may ignore the stop of an order without a word. A naked position is worse than none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal

from loguru import logger

from actors.broker.client import BrokerClient
from actors.broker.errors import BrokerError
from actors.broker.wire import ClosedPosition, Position
from bus.clock import Clock
from bus.failpoints import reach
from bus.records import OrderPlan

EDITS_MAX = 3
CLOSES_MAX = 5
HISTORY_MARGIN_S = 3_600.0


class Unprotected(Exception):
    """The position has no stop and could not be closed. Somebody must act now."""


class Protector:
    """Puts the planned stop on a position, or ends the position."""

    def __init__(
        self, client: BrokerClient, clock: Clock, sleep: Callable[[float], Awaitable[bool]], *, look_interval_s: float
    ) -> None:
        self._client = client
        self._clock = clock
        self._sleep = sleep
        self._look_interval_s = look_interval_s

    async def protect(self, position: Position, plan: OrderPlan) -> Position | ClosedPosition:
        """Return the position as it is once its stop is there, or the row of its end.

        Raises:
            Unprotected: neither worked within the tries.
        """
        now: Position | ClosedPosition | None = position
        for _ in range(EDITS_MAX):
            if isinstance(now, ClosedPosition) or (now is not None and has_stop(now, plan)):
                return now
            now = await self._edit(position, plan)
        if isinstance(now, ClosedPosition) or (now is not None and has_stop(now, plan)):
            return now
        logger.error("Position {} has no stop and takes none: closing it", position.id)
        return await self._close(position)

    async def _edit(self, position: Position, plan: OrderPlan) -> Position | ClosedPosition | None:
        logger.warning(
            "Position {} has stop {} instead of {}: setting it", position.id, position.sl_price, plan.sl_price
        )
        reach("executor.before_edit")
        try:
            await self._client.edit_position(position, plan.sl_price, plan.tp_price)
        except BrokerError as error:
            logger.warning("Setting the stop of {} failed: {}", position.id, error)
        reach("executor.after_edit")
        await self._sleep(self._look_interval_s / 2)
        return await self._read(position)

    async def _close(self, position: Position) -> ClosedPosition:
        for _ in range(CLOSES_MAX):
            reach("executor.before_close")
            try:
                await self._client.close_position(position)
            except BrokerError as error:
                logger.error("Closing {} failed: {}", position.id, error)
            reach("executor.after_close")
            await self._sleep(self._look_interval_s / 2)
            now = await self._read(position)
            if isinstance(now, ClosedPosition):
                return now
        raise Unprotected(f"position {position.id} ({position.side} {position.volume} {position.symbol}) has no stop")

    async def _read(self, position: Position) -> Position | ClosedPosition | None:
        """Return the position as the broker shows it now; None when it shows nothing or does not answer."""
        now = self._clock.now()
        try:
            for seen in await self._client.open_positions():
                if seen.id == position.id:
                    return seen
            margin = timedelta(seconds=HISTORY_MARGIN_S)
            rows = await self._client.closed_positions(position.opened_at - margin, now + margin)
        except BrokerError as error:
            logger.warning("Reading position {} back failed: {}", position.id, error)
            return None
        return next((row for row in rows if row.id == position.id), None)


def has_stop(position: Position, plan: OrderPlan) -> bool:
    """Return whether the position's stop limits its loss at least as tightly as planned."""
    stop = position.sl_price
    if stop is None or stop <= Decimal(0):
        return False
    return stop >= plan.sl_price if position.side == "BUY" else stop <= plan.sl_price
