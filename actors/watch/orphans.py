"""Positions that no intent owns: told once each, then adopted or closed as the settings say. Library of the monitor.

Never acts on a position that an order of ours may have made: not while one is unresolved, not for a quiet period after
one changed, not when it resembles one that failed. Nor on the word of a single look.
"""

from __future__ import annotations

from decimal import Decimal

from loguru import logger

from actors.broker.errors import BrokerError
from actors.broker.wire import Position
from actors.compliance.account import PositionRisk
from actors.watch import closing, flattening
from actors.watch.halting import Halts
from actors.watch.order import Order
from actors.watch.scene import Scene
from actors.watch.tell import Severity
from bus import messages
from bus.clock import iso
from bus.failpoints import reach
from bus.records import OrderPlan
from store.queries import Reader

LOOK_AGAIN_S = 15.0  # for the second look, and within the quiet period
TRY_AGAIN_S, TRY_AGAIN_S_MAX = 30.0, 1_800.0  # after a try that did not do it; doubled
EVENT = "orphan_position"


class Orphans:
    """Remembers which positions of nobody were seen, since when our orders stand still, and what was tried."""

    def __init__(self, scene: Scene, halts: Halts) -> None:
        self._scene = scene
        self._halts = halts
        self._seen: frozenset[str] = frozenset()  # by the look before
        self._orders: tuple[tuple[str, str], ...] | None = None
        self._still_since_s = 0.0  # monotonic: our orders are as they were then
        self._tries: dict[str, tuple[int, float]] = {}  # position id -> tries, and when the next one may be

    async def step(self, reader: Reader, positions: tuple[Position, ...]) -> None:
        """Find positions of nobody among the open ones, and do what the settings say. Raises BrokerError."""
        # In this order: an order that is resolved between the two reads is then found owned.
        unresolved = reader.unresolved_orders()
        owned = reader.owned_position_ids(position.id for position in positions)
        found = closing.orphans(positions, owned, unresolved)
        self._tries = {id_: tried for id_, tried in self._tries.items() if any(one.id == id_ for one in found)}
        seen, self._seen = self._seen, frozenset(position.id for position in found)
        if not found:
            self._orders = None
            return
        is_still = self._is_still(reader)
        for position in found:
            await self._tell(reader, position)
            is_ours = await self._may_be_ours(reader, position)
            # What is to be flattened is closed by that.
            if is_ours or self._scene.settings.executor.orphans == "alert" or self._halts.flattening(reader):
                continue
            if position.id not in seen or not is_still:
                self._look_again()  # soon over; what may take longer is left to the usual cadence
            elif unresolved or not self._is_due(position):
                continue
            elif self._scene.settings.executor.orphans == "adopt":
                await self._adopt(reader, position)
            else:
                await self._close(reader, position)

    def _is_still(self, reader: Reader) -> bool:
        """Return whether no order of ours changed for a quiet period, as far as we have watched."""
        now_s = self._scene.clock.monotonic()
        orders = tuple((order.intent_id, str(order.status)) for order in reader.orders())
        if orders != self._orders:
            self._orders, self._still_since_s = orders, now_s
        return not orders or now_s - self._still_since_s >= self._scene.settings.executor.quiet_s

    def _look_again(self) -> None:
        self._scene.wishes.look_within(LOOK_AGAIN_S, who="orphans")

    def _is_due(self, position: Position) -> bool:
        _, again_at_s = self._tries.get(position.id, (0, 0.0))
        return self._scene.clock.monotonic() >= again_at_s

    def _tried(self, position: Position) -> int:
        """Note a try that may have been in vain; return how many there were."""
        tries = self._tries.get(position.id, (0, 0.0))[0] + 1
        wait_s = min(TRY_AGAIN_S * 2.0 ** (tries - 1), TRY_AGAIN_S_MAX)
        self._tries[position.id] = (tries, self._scene.clock.monotonic() + wait_s)
        return tries

    # ── telling ─────────────────────────────────────────────────────────────

    async def _tell(self, reader: Reader, position: Position) -> None:
        """Tell people of a position of nobody."""
        policy = self._scene.settings.executor.orphans
        text = (
            f"{position.side} {position.volume} {position.symbol}, opened {iso(position.opened_at)}, "
            f"stop {position.sl_price or 'none'}; it counts in the gate; policy: {policy}"
        )
        await self._once(reader, "error", EVENT, f"Position {position.id} belongs to no intent: ", text)

    async def _once(self, reader: Reader, level: Severity, event: str, beginning: str, rest: str = "") -> None:
        """Tell people, once in a position's life: what an earlier monitor told stands in the store."""
        if not reader.was_told(event, beginning):
            await self._scene.tell.once(f"{event} {beginning}", level, event, beginning + rest)

    async def _may_be_ours(self, reader: Reader, position: Position) -> bool:
        """Return whether a settled order may have made this position after all; halt when it fits one exactly."""
        orders = reader.orders()
        if (order := closing.belied(position, orders)) is not None:
            was = f"position {position.id} fits the order of intent {order.intent_id}, which ended {order.status}"
            text = f"{was} {order.position_id or ''}".rstrip()
            await self._halts.apply(reader, Order(key=f"belied_order {position.id}", text=text, until=None))
            return True
        if (order := closing.resembled(position, orders)) is not None:
            text = f"Position {position.id} resembles the failed order of intent {order.intent_id}: left to you"
            await self._once(reader, "warning", "orphan_left", text)
            return True
        return False

    # ── acting ──────────────────────────────────────────────────────────────

    async def _adopt(self, reader: Reader, position: Position) -> None:
        """Have the store make an intent of a position that the gate can value. The account is read again for that."""
        from actors.desk import view  # all of the gate: only for this, and start-up time bounds recovery

        self._tried(position)
        seen = await view.account_view(
            self._scene.client, reader, settings=self._scene.settings, rules=self._scene.rules, clock=self._scene.clock
        )
        now = next((one for one in seen.reading.positions if one.id == position.id), None)
        risk = next((one for one in seen.account.positions if one.id == position.id), None)
        if now is None or risk is None:
            return  # closed meanwhile
        plan = plan_of(now, risk)
        if isinstance(plan, str):
            await self._once(reader, "warning", "orphan_left", f"Position {position.id} is not adopted: ", plan)
            return
        reach("monitor.before_adopt")  # telling the store to make a position of nobody an intent's
        command = messages.Adopt(
            position_id=position.id, plan=plan, opened_at=iso(now.opened_at), reason="no intent owned it"
        )
        if await self._scene.tell.tell(command):
            self._tries.pop(position.id, None)
            logger.warning("Adopted {} {} {} {}", plan.side, plan.volume, plan.symbol, position.id)
        reach("monitor.after_adopt")

    async def _close(self, reader: Reader, position: Position) -> None:
        """Close a position of nobody, and look: only that tells whether it is gone."""
        tries = self._tried(position)
        was_said = await flattening.close(self._scene, position)
        try:
            left = {one.id for one in await self._scene.client.open_positions()}
        except BrokerError as error:
            logger.warning("Whether {} is closed is not known: {}", position.id, error)
            self._look_again()
            return
        if position.id not in left:
            self._tries.pop(position.id, None)
            text = f"Closed position {position.id} of {position.symbol}: it belonged to no intent"
            await self._once(reader, "warning", "orphan_closed", text)
            return
        self._look_again()
        said = "was said to be closed" if was_said else "could not be closed"
        text = f"it {said} and is still open, after {tries} tries"
        await self._once(reader, "error", "orphan_left", f"Position {position.id} of nobody is to be closed: ", text)


def plan_of(position: Position, risk: PositionRisk) -> OrderPlan | str:
    """Return a position as the plan of an order, or why it is none that we would have opened.

    Loss and profit are the gate's own: while a list does not show the position, it counts by them.
    """
    if position.sl_price is None:
        return "it has no stop; give it one, or close it: until then the gate refuses every order"
    if risk.loss_at_stop_cents is None:
        return "its loss at the stop cannot be valued: no quote, rate or contract for it"
    return OrderPlan(
        symbol=position.symbol,
        broker_symbol=position.broker_symbol,
        side=position.side,
        volume=position.volume,
        sl_price=position.sl_price,
        tp_price=position.tp_price or Decimal(0),
        entry_price=position.open_price,
        loss_cents=max(0, risk.loss_at_stop_cents),
        profit_cents=risk.profit_at_target_cents,
    )
