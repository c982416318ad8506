"""Close single positions that the operator ordered closed, and look again until they are gone. Library of the monitor.

The order stands in the store until its intent is closed, so that a monitor that died is succeeded by one that goes on.
Closes nothing else: a position that only has the intent's id, and not its symbol and side, is left and told.
"""

from __future__ import annotations

from typing import NamedTuple

from loguru import logger

from actors.broker.wire import Position
from actors.compliance import budget
from actors.watch import flattening
from actors.watch.scene import Scene
from bus.records import Closing
from store.queries import Reader


class Due(NamedTuple):
    """One order and the open position that it is about."""

    order: Closing
    position: Position


class OrderedCloses:
    """Remembers how often each close was tried, and for which orders the last look showed nothing to close."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._tries: dict[str, tuple[int, float]] = {}  # intent id -> tries, and when the next one may be
        self._idle: frozenset[str] = frozenset()

    def wanted(self, reader: Reader) -> frozenset[str]:
        """Return the intents whose position is to be closed, but for those that the last look did not show."""
        return frozenset(one.intent_id for one in reader.closings()) - self._idle

    async def due(self, reader: Reader, positions: tuple[Position, ...]) -> list[Due]:
        """Return what is to be closed now."""
        intents = {intent.id: intent for intent in reader.active_positions()}
        orders = [one for one in reader.closings() if one.intent_id in intents]
        shown = {position.id: position for position in positions}
        now_s, idle, due = self._scene.clock.monotonic(), set(), []
        for one in orders:
            intent, order = intents[one.intent_id], reader.order(one.intent_id)
            position = shown.get(str(intent.position_id))
            if position is None:
                idle.add(intent.id)
            elif order is None or (position.symbol, position.side) != (intent.symbol, order.plan.side):
                idle.add(intent.id)
                text = f"Position {position.id} is not the one that intent {intent.id} opened: left to you"
                await self._scene.tell.once(f"close {intent.id} foreign", "error", "close_failed", text, intent.id)
            elif (again_at_s := self._tries.get(intent.id, (0, 0.0))[1]) <= now_s:
                due.append(Due(one, position))
            else:
                self._look_within(again_at_s - now_s, intent.id)
        self._idle = frozenset(idle)
        self._tries = {id_: tried for id_, tried in self._tries.items() if id_ in {one.intent_id for one in orders}}
        return due

    async def step(self, due: list[Due], *, left_s: float, left_requests: int) -> tuple[Position, ...]:
        """Close what is due, each once, and return what is open after another look.

        `left_s` until the requests' reset and `left_requests` until then, the reserve too, bound how often a broker is
        asked that closes nothing.

        Raises:
            BrokerError: the look afterwards failed. Nothing is known then; each is tried again when its time comes.
        """
        now_s = self._scene.clock.monotonic()
        for order, position in due:
            tries = self._tries.get(order.intent_id, (0, 0.0))[0]
            wait_s = budget.close_again_s(
                tries, seconds_to_reset=left_s, requests_per_try=3, left_requests=left_requests
            )
            self._tries[order.intent_id] = (tries + 1, now_s + wait_s)
            logger.warning("Closing {} {} for {}: {}", position.symbol, position.id, order.operator, order.reason)
        await flattening.close_all(self._scene, (position for _, position in due))
        positions = await self._scene.client.open_positions()
        left = {position.id for position in positions}
        for one in due:
            await self._tell(one, is_open=one.position.id in left)
        return positions

    async def _tell(self, one: Due, *, is_open: bool) -> None:
        order, position = one
        what = f"position {position.id} of {position.symbol}, as operator {order.operator} ordered: {order.reason}"
        key = f"close {order.intent_id}"
        if is_open:
            self._look_within(self._tries[order.intent_id][1] - self._scene.clock.monotonic(), order.intent_id)
            text = f"Could not close yet, and tries again: {what}"
            await self._scene.tell.once(f"{key} open", "error", "close_failed", text, order.intent_id)
        else:
            self._idle |= {order.intent_id}
            await self._scene.tell.once(f"{key} done", "info", "close_done", f"Closed {what}", order.intent_id)

    def _look_within(self, seconds: float, intent_id: str) -> None:
        self._scene.wishes.look_within(seconds, who=f"close {intent_id}")
