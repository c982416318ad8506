"""The halts that the monitor raises, and those that make it close everything. Library of the monitor.

A halt is told to the store before anything is closed. One that the store could not be told is owed: it is carried out
and told again with every poll. What stands in the database is carried out whoever raised it, also after a restart.
"""

from __future__ import annotations

from datetime import datetime

from loguru import logger

from actors.watch.order import Order
from actors.watch.scene import Scene
from bus.clock import iso
from bus.failpoints import reach
from store.queries import Reader


class Halts:
    """Raises halts, and knows which of those that stand are to be carried out by closing everything."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._owed: dict[tuple[str, bool], Order] = {}  # the store does not have them yet

    async def apply(self, reader: Reader, order: Order) -> None:
        """Raise a halt unless one with its key stands that does as much. A lifted one is raised again."""
        if (order.key, order.flatten) in self._owed or self._stands(reader, order):
            return
        logger.error("No new orders from now on{}: {}", " and all positions closed" * order.flatten, order.reason)
        self._owed[order.key, order.flatten] = order
        await self._send(order)

    async def settle(self, reader: Reader) -> None:
        """Tell the store the halts that it was not told yet."""
        for order in list(self._owed.values()):
            is_over = order.until is not None and order.until <= self._scene.clock.now()
            if is_over or self._stands(reader, order):
                del self._owed[order.key, order.flatten]
            else:
                await self._send(order)

    def flattening(self, reader: Reader) -> list[str]:
        """Return why every position must be closed: the halts that say so, told or owed."""
        now = self._scene.clock.now()
        told = [halt.reason for halt in reader.halts(iso(now)) if halt.flatten]
        owed = [order.reason for order in self._owed.values() if order.flatten and not _is_past(order, now)]
        return list(dict.fromkeys((*told, *owed)))

    async def _send(self, order: Order) -> None:
        reach("monitor.before_raise_halt")  # stopping all new orders
        if await self._scene.tell.tell(order.command()):
            self._owed.pop((order.key, order.flatten), None)
        reach("monitor.after_raise_halt")

    def _stands(self, reader: Reader, order: Order) -> bool:
        """Return whether a halt of this key stands that lasts as long, and closes if this one does."""
        until = None if order.until is None else iso(order.until)
        return any(
            halt.reason.startswith(f"{order.key}:")
            and (halt.flatten or not order.flatten)
            and (halt.until is None or (until is not None and halt.until >= until))
            for halt in reader.halts(iso(self._scene.clock.now()))
        )


def _is_past(order: Order, now: datetime) -> bool:
    return order.until is not None and order.until <= now
