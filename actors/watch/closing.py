"""Which of our positions have closed, and which open ones nobody owns. Pure; library of the monitor.

Never guesses: a position that is in neither list is still being looked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal

from actors.broker import reconcile
from actors.broker.reconcile import FoundOpen
from actors.broker.wire import ClosedPosition, Position
from bus.clock import iso, parse
from bus.messages import PositionResult
from bus.records import Order, TradeIntent
from bus.vocabulary import OrderStatus


def result_of(
    intent: TradeIntent,
    rows: Iterable[ClosedPosition],
    *,
    volume: Decimal | None,
    settled: bool,
    cut: Decimal = Decimal(0),
) -> PositionResult | str:
    """Return how an intent's position ended, or why that cannot be said yet.

    `volume` is what the position was opened with, in lots; None: not known. Rows that add up to less are partial closes
    whose last row is still to come, until `settled` says that enough time has passed; never those alone that add up to
    `cut`, the lots that were closed while the position was seen open. Net profit is the sum over the distinct rows,
    with swap and commission; price and reason are the last row's.
    """
    own = [row for row in rows if row.id == intent.position_id]
    if not own:
        return "neither open nor in the history"
    if foreign := {row.symbol for row in own} - {intent.symbol}:
        return f"the history has its id with another symbol: {', '.join(sorted(foreign))}"
    (found,) = reconcile.whole(own)
    if volume is not None and reconcile.is_part(found, volume) and (not settled or found.volume <= cut):
        return f"the history has {found.volume} of {volume} lots"
    return PositionResult(
        closed_at=iso(found.closed_at),
        net_profit_cents=found.net_profit_cents,
        close_price=str(found.close_price),
        reason=found.reason or "not said by the broker",
    )


def orphans(
    positions: Iterable[Position], owned_ids: frozenset[str], unresolved: Iterable[Order]
) -> tuple[Position, ...]:
    """Return the open positions that no intent owns and that no order with an unknown outcome may explain."""
    awaited = tuple(unresolved)
    return tuple(
        position
        for position in positions
        if position.id not in owned_ids and not any(_may_be(position, order) for order in awaited)
    )


def belied(position: Position, orders: Iterable[Order]) -> Order | None:
    """Return the settled order that a position of nobody fits, or None.

    Then what was concluded about that order is wrong: it was carried out later than we looked for it, against the
    broker's own refusal, or twice. An adopted position's order says nothing: nobody of ours sent it.
    """
    settled = (order for order in orders if order.status is OrderStatus.FAILED or _was_sent(order))
    fits = (order for order in settled if isinstance(reconcile.match(order, (position,), (), frozenset()), FoundOpen))
    return next(fits, None)


def resembled(position: Position, orders: Iterable[Order]) -> Order | None:
    """Return the failed order that a position of nobody may come from although it does not fit, or None.

    A broker that rounds a stop, or fills late with another volume, makes such a position. It has the order's symbol and
    side and was opened within the order's life, as far as clocks that differ can tell.
    """
    failed = (order for order in orders if order.status is OrderStatus.FAILED and _may_be(position, order))
    doubt = timedelta(seconds=reconcile.DOUBT_S)
    return next(
        (
            order
            for order in failed
            if parse(order.reserved_at) - doubt
            <= position.opened_at
            <= parse(order.resolved_at or order.deadline_at) + doubt
        ),
        None,
    )


def _was_sent(order: Order) -> bool:
    """Return whether this opened order was one: that of an adopted position has no id."""
    return order.status is OrderStatus.OPENED and order.order_id is not None


def _may_be(position: Position, order: Order) -> bool:
    """Return whether the executor may yet find this position to be the order's. Wider than its own match."""
    same = position.broker_symbol == order.plan.broker_symbol and position.side == order.plan.side
    return same and position.id not in order.baseline
