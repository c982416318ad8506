"""What became of our positions. Library of the monitor.

Tells the store how an intent's position ended, never without its rows in the broker's history; halts when the broker
shows one open that was recorded as closed. Closes nothing.
"""

from __future__ import annotations

from decimal import Decimal

from loguru import logger

from actors.broker.wire import ClosedPosition, Position
from actors.compliance.money import amount
from actors.desk import lots
from actors.watch import closing
from actors.watch.halting import Halts
from actors.watch.order import Order
from actors.watch.scene import CLOCK_SKEW, Scene
from bus import messages
from bus.clock import parse
from bus.failpoints import reach
from bus.records import TradeIntent
from store.queries import Reader

ROW_LAG_S = 120.0  # a history row that takes longer is told to people
LOOK_AGAIN_S = 15.0  # while such a row is awaited


class Tracker:
    """Remembers when each position was first missed, and what it held: a part that is closed is not its end."""

    def __init__(self, scene: Scene, halts: Halts) -> None:
        self._scene = scene
        self._halts = halts
        self._belied: frozenset[str] = frozenset()  # open by the look before, and recorded as closed by then
        self._missing: dict[str, float] = {}  # position id -> monotonic time when it was first missed
        self._held: dict[str, tuple[Decimal, Decimal]] = {}  # position id -> most lots seen open, and the last

    async def step(self, reader: Reader, positions: tuple[Position, ...]) -> None:
        """Find the positions that are open no more in the history, and tell the store how they ended.

        Raises:
            BrokerError: the history could not be read.
        """
        await self._halt_over_closed(reader, positions)
        for position in positions:
            most, _ = self._held.get(position.id, (position.volume, position.volume))
            self._held[position.id] = (max(most, position.volume), position.volume)
        open_ids = {position.id for position in positions}
        missing = [intent for intent in reader.active_positions() if intent.position_id not in open_ids]
        wanted = {str(intent.position_id) for intent in missing}
        self._missing = {id_: self._missing.get(id_, self._scene.clock.monotonic()) for id_ in wanted}
        self._held = {id_: held for id_, held in self._held.items() if id_ in open_ids | wanted}
        if missing:
            # By clocks that may have been wrong then, or be wrong now: a wide look costs the same one request.
            times = [self._scene.clock.now(), *(parse(intent.created_at) for intent in missing)]
            rows = await self._scene.client.closed_positions(min(times) - CLOCK_SKEW, max(times) + CLOCK_SKEW)
            for intent in missing:
                await self._look_for(reader, intent, rows)

    async def _halt_over_closed(self, reader: Reader, positions: tuple[Position, ...]) -> None:
        """Halt over a position that is open although its intent is closed: nobody else looks after it.

        Not on the word of a single look: the list may be from before the end, and come out of a cache.
        """
        closed = reader.closed_among(position.id for position in positions)
        before, self._belied = self._belied, frozenset(closed)
        for position in positions:
            if position.id not in closed:
                continue
            if position.id not in before:
                self._scene.wishes.look_within(LOOK_AGAIN_S, who="closed")
                continue
            held, intent_id = f"{position.volume} lots", closed[position.id]
            text = f"{held} of {position.symbol} are open, although intent {intent_id} was recorded as closed"
            await self._halts.apply(reader, Order(key=f"belied_close {position.id}", text=text, until=None))

    async def _look_for(self, reader: Reader, intent: TradeIntent, rows: tuple[ClosedPosition, ...]) -> None:
        waited_s = self._scene.clock.monotonic() - self._missing[str(intent.position_id)]
        volume, cut = self._opened(reader, intent)
        result = closing.result_of(intent, rows, volume=volume, settled=waited_s >= ROW_LAG_S, cut=cut)
        if isinstance(result, messages.PositionResult):
            await self._closed(intent, result)
        elif waited_s >= ROW_LAG_S:
            text = f"Position {intent.position_id} of {intent.symbol}: {result}"
            key = f"missing {intent.position_id}"
            await self._scene.tell.once(key, "warning", "position_missing", text, intent.id)
        else:
            self._scene.wishes.look_within(LOOK_AGAIN_S, who="rows")

    def _opened(self, reader: Reader, intent: TradeIntent) -> tuple[Decimal | None, Decimal]:
        """Return what a position was opened with, in lots, and how much of it was closed while it was seen open."""
        opened, filled = lots.opened(reader, intent.id), lots.filled(reader, intent.id)
        if (held := self._held.get(str(intent.position_id))) is None:
            return opened, Decimal(0)
        most, last = held
        return max(most, opened or most), max(most, filled or most) - last

    async def _closed(self, intent: TradeIntent, result: messages.PositionResult) -> None:
        reach("monitor.before_position_closed")  # telling the store how a position ended
        command = messages.PositionClosed(intent_id=intent.id, position_id=str(intent.position_id), result=result)
        if await self._scene.tell.tell(command):
            logger.bind(intent_id=intent.id).info(
                "Position {} of {} closed by {} at {}: {}",
                intent.position_id, intent.symbol, result.reason, result.close_price, amount(result.net_profit_cents),
            )  # fmt: skip
        reach("monitor.after_position_closed")
