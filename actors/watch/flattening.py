"""Cancel every waiting order, close every position and look again, until nothing is left. Library of the monitor.

Flat is: no position, no order that waits at the broker, no order of ours with an unknown outcome. Each is closed or
cancelled on its own: one that fails holds up no other. What an answer said is never believed, only the next look is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from loguru import logger

from actors.broker.errors import BrokerError
from actors.broker.wire import PendingOrder, Position
from actors.compliance import budget
from actors.watch.scene import Scene
from bus.failpoints import reach
from store.queries import Reader

AT_ONCE = 4  # closes under way together
LOOKS_EMPTY = 2  # so many in a row must show nothing: a list can lag the event


class Flattener:
    """Remembers how often closing was tried, and whether the account was seen flat since."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._tries = 0
        self._empty_looks = 0
        self._looks = 0  # since there last was something to close
        self._closed: set[str] = set()
        self._cancelled: set[str] = set()

    @property
    def is_done(self) -> bool:
        """Return whether the account was seen flat, often enough, since there last was something to close."""
        return self._empty_looks >= LOOKS_EMPTY

    def rest(self) -> None:
        """Forget everything: nothing stands that wants the account flat."""
        self._tries = self._empty_looks = self._looks = 0
        self._closed.clear()
        self._cancelled.clear()
        self._scene.tell.forget("flatten ")
        self._scene.wishes.withdraw(who="flatten")

    async def step(
        self, reader: Reader, positions: tuple[Position, ...], reasons: list[str], *, left_s: float, left_requests: int
    ) -> tuple[Position, ...]:
        """Cancel what waits and close what is open; return what is still open after another look.

        `left_s` until the requests' reset and `left_requests` until then, the reserve too, bound how often a broker is
        asked that closes nothing.

        Raises:
            BrokerError: the look afterwards failed. Nothing is known then; when to try again is wished for.
        """
        why = "; ".join(reasons)
        # Read before the broker is: what is settled in between is then seen as a position.
        may_appear = bool(reader.unresolved_orders())
        cancelled: set[str] = set()
        waiting = await self._cancel_all(cancelled)
        if cancelled:
            positions = await self._scene.client.open_positions()  # one may have been filled instead
        again_s = budget.close_again_s(
            self._tries,
            seconds_to_reset=left_s,
            requests_per_try=2 * len(cancelled) + len(positions) + 4,
            left_requests=left_requests,
        )
        if positions or cancelled:
            self._empty_looks = self._looks = 0
            self._scene.wishes.look_within(again_s, who="flatten")
            self._tries += 1
        if positions:
            logger.error("Closing all {} positions: {}", len(positions), why)
            self._closed |= await close_all(self._scene, positions)
            may_appear = bool(reader.unresolved_orders())
            waiting = await self._cancel_all(cancelled)  # who placed one may have placed another
            positions = await self._scene.client.open_positions()
        if positions or waiting:
            left = f"{len(positions)} positions are still open" + f", {len(waiting or ())} orders wait" * bool(waiting)
            logger.error("{}; trying again in {:.0f} s", left, again_s)
            await self._tell(f"still open {left}", f"{left}: {why}")
            return positions
        await self._looked(why, may_appear, waiting is not None, left_s, left_requests)
        return positions

    async def _looked(self, why: str, may_appear: bool, is_known: bool, left_s: float, left_requests: int) -> None:
        """Note a look that found nothing to close; tell people once that is certain, or why it is not."""
        self._empty_looks = 0 if may_appear or not is_known else self._empty_looks + 1
        self._looks += 1
        looked_s = budget.close_again_s(
            self._looks, seconds_to_reset=left_s, requests_per_try=3, left_requests=left_requests
        )
        if self.is_done:
            self._scene.wishes.withdraw(who="flatten")
        else:
            self._scene.wishes.look_within(looked_s, who="flatten")
        if may_appear:
            await self._tell("may appear", f"Closed what is open; an order may still become a position: {why}")
        elif not is_known:
            await self._tell("not known", f"Closed what is open; whether orders wait at the broker is not known: {why}")
        elif self.is_done:
            closed = f"Closed {len(self._closed)} positions" if self._closed else "Nothing is open"
            text = f"{closed}; the account is flat: {why}"
            if self._cancelled:
                text = f"Cancelled {len(self._cancelled)} waiting orders. {text}"
            await self._tell(f"flat {sorted(self._closed | self._cancelled)}", text)
            self._tries = 0

    async def _cancel_all(self, tried: set[str]) -> tuple[PendingOrder, ...] | None:
        """Cancel the orders that wait at the broker but for those `tried`, and look; return what still waits.

        None: not known, for they cannot be read. Closing must not wait for that.
        """
        try:
            waiting = await self._scene.client.pending_orders()
            fresh = [order for order in waiting if order.id not in tried]
            if not fresh:
                return waiting
            tried.update(order.id for order in fresh)
            logger.error("Cancelling {} waiting orders", len(fresh))
            free = asyncio.Semaphore(AT_ONCE)

            async def one(order: PendingOrder) -> None:
                async with free:
                    await _cancel(self._scene, order)

            async with asyncio.TaskGroup() as cancels:
                for order in fresh:
                    cancels.create_task(one(order), name=f"cancel {order.id}")
            left = await self._scene.client.pending_orders()
        except BrokerError as error:
            logger.warning("Waiting orders cannot be read: {}", error)
            return None
        self._cancelled |= {order.id for order in fresh} - {order.id for order in left}
        return left

    async def _tell(self, key: str, text: str) -> None:
        await self._scene.tell.once(f"flatten {key}", "error", "flattened", text)


async def _cancel(scene: Scene, order: PendingOrder) -> None:
    """Cancel one waiting order, once. Only a look tells whether it is gone, or has been filled instead."""
    reach("monitor.before_cancel")  # cancelling one order that waits at the broker
    try:
        await scene.client.cancel_pending(order)
    except BrokerError as error:
        logger.error("Could not cancel {} {} {}: {}", order.kind, order.symbol, order.id, error)
    else:
        logger.warning("Cancelled {} {} {} {} lots {}", order.kind, order.side, order.symbol, order.volume, order.id)
    finally:
        reach("monitor.after_cancel")


async def close_all(scene: Scene, positions: Iterable[Position]) -> set[str]:
    """Close positions, a few at once; return the ids of those that the broker said it closed."""
    free, said = asyncio.Semaphore(AT_ONCE), set()

    async def one(position: Position) -> None:
        async with free:
            if await close(scene, position):
                said.add(position.id)

    async with asyncio.TaskGroup() as closes:
        for position in positions:
            closes.create_task(one(position), name=f"close {position.id}")
    return said


async def close(scene: Scene, position: Position) -> bool:
    """Close one position; return whether the broker said so. Only a look tells whether it is gone."""
    reach("monitor.before_close")  # closing one position at the broker
    try:
        await scene.client.close_position(position)
    except BrokerError as error:
        logger.error("Could not close {} {}: {}", position.symbol, position.id, error)
        return False
    finally:
        reach("monitor.after_close")
    logger.warning("Closed {} {} {} lots {}", position.side, position.symbol, position.volume, position.id)
    return True
