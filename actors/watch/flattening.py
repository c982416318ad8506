"""Close every position and look again, until the broker shows none and no reservation is open. Library of the monitor.

Each position is closed on its own: one that fails holds up no other. What a close answered is never believed, only the
next look is. An order whose outcome is unknown may still become a position: it is looked for, and closed, too.
"""

from __future__ import annotations

import asyncio

from loguru import logger

from actors.broker.errors import BrokerError
from actors.broker.wire import Position
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
        self.again_s: float | None = None  # a look wanted within so many seconds

    @property
    def is_done(self) -> bool:
        """Return whether the account was seen flat, often enough, since there last was something to close."""
        return self._empty_looks >= LOOKS_EMPTY

    def rest(self) -> None:
        """Forget everything: nothing stands that wants the account flat."""
        self._tries = self._empty_looks = self._looks = 0
        self._closed.clear()
        self._scene.tell.forget("flatten ")
        self.again_s = None

    async def step(
        self, reader: Reader, positions: tuple[Position, ...], reasons: list[str], *, left_s: float, left_requests: int
    ) -> tuple[Position, ...]:
        """Close what is open; return what is still open after another look.

        `left_s` until the requests' reset and `left_requests` until then, the reserve too, bound how often a broker is
        asked that closes nothing.

        Raises:
            BrokerError: the look afterwards failed. Nothing is known then, and `again_s` says when to try again.
        """
        why = "; ".join(reasons)
        is_first = not self._tries and not self._empty_looks
        # Read before the broker is: what is settled in between is then seen as a position.
        may_appear = bool(reader.unresolved_orders())
        if positions:
            self._empty_looks = self._looks = 0
            self.again_s = budget.close_again_s(
                self._tries,
                seconds_to_reset=left_s,
                requests_per_try=len(positions) + 2,
                left_requests=left_requests,
            )
            self._tries += 1
            logger.error("Closing all {} positions: {}", len(positions), why)
            await self._close_all(positions)
            may_appear = bool(reader.unresolved_orders())
            positions = await self._scene.client.open_positions()
        if positions:
            logger.error("{} positions are still open; closing them again in {:.0f} s", len(positions), self.again_s)
            await self._tell(f"still open {len(positions)}", f"{len(positions)} positions are still open: {why}")
            return positions
        self._empty_looks = 0 if may_appear else self._empty_looks + 1
        self._looks += 1
        looked_s = budget.close_again_s(
            self._looks, seconds_to_reset=left_s, requests_per_try=2, left_requests=left_requests
        )
        self.again_s = None if self.is_done else looked_s
        if may_appear:
            await self._tell("may appear", f"Closed what is open; an order may still become a position: {why}")
        elif self.is_done and (self._tries or is_first):
            closed = f"Closed {len(self._closed)} positions" if self._closed else "Nothing is open"
            await self._tell(f"flat {sorted(self._closed)}", f"{closed}; the account is flat: {why}")
            await self._pending()
            self._tries = 0
        return positions

    async def _pending(self) -> None:
        """Tell people which orders still wait at the broker. What they become is closed while the halt stands."""
        try:
            found = await self._scene.client.pending_orders()
        except BrokerError as error:
            logger.warning("Pending orders cannot be read: {}", error)
            return
        if found:
            ids = ", ".join(order.id for order in found)
            text = f"{len(found)} orders still wait at the broker and may be filled: {ids}. Cancel them there"
            await self._scene.tell.once(f"flatten pending {ids}", "error", "pending_orders", text)

    async def _tell(self, key: str, text: str) -> None:
        await self._scene.tell.once(f"flatten {key}", "error", "flattened", text)

    async def _close_all(self, positions: tuple[Position, ...]) -> None:
        free = asyncio.Semaphore(AT_ONCE)

        async def one(position: Position) -> None:
            async with free:
                if await close(self._scene, position):
                    self._closed.add(position.id)

        async with asyncio.TaskGroup() as closes:
            for position in positions:
                closes.create_task(one(position), name=f"close {position.id}")


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
