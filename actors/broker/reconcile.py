"""Is this order at the broker? Match one order whose answer was lost against what the broker shows. Pure.

Used by the executor. Never guesses: more than one candidate is ambiguous, and "absent" is only what these two lists
say. Whether the look started late enough to believe it is the caller's question. A comment that the broker shows with a
position, and that is an intent's id, confirms or excludes it; that there is none proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

from msgspec import Struct, structs

from actors.broker.wire import ClosedPosition, Position
from bus import clock
from bus.records import Order, OrderPlan
from bus.vocabulary import Side

INTENT_ID = re.compile(r"[0-9a-f]{16}")  # what a comment of ours is; people write other things

SKEW_S = 5.0  # how far the broker's clock may be behind ours
DOUBT_S = (
    900.0  # and how far before a closed row is surely older: the gate lets no order pass with clocks further apart
)


class Fingerprint(Struct, frozen=True, kw_only=True):
    """What an order without an id of ours is known by. A `tp_price` of None is no target."""

    broker_symbol: str
    side: Side
    volume: Decimal
    sl_price: Decimal | None
    tp_price: Decimal | None


class FoundOpen(Struct, frozen=True):
    """The order is this open position. Its volume or stop may differ from the plan: read them."""

    position: Position


class FoundClosed(Struct, frozen=True):
    """The order was opened and closed before we looked. A position closed in parts is given as one row."""

    row: ClosedPosition


class Absent(Struct, frozen=True):
    """Nothing in these lists is the order.

    `similar` are ids of unowned positions of the same symbol and side that are not in the baseline but differ in stop,
    target, volume, or in time by the broker's clock (closed ones by at most `DOUBT_S`: a baseline holds no closed
    positions): an operator's own trade, another unresolved order of ours, or a broker that rounds. Never a match.
    """

    similar: tuple[str, ...] = ()


class Ambiguous(Struct, frozen=True):
    """More than one position could be the order. Only the operator can tell."""

    ids: tuple[str, ...]
    reason: str


Match = FoundOpen | FoundClosed | Absent | Ambiguous


def fingerprint(plan: OrderPlan) -> Fingerprint:
    """Return what the plan's position will look like at the broker."""
    return Fingerprint(
        broker_symbol=plan.broker_symbol,
        side=plan.side,
        volume=plan.volume,
        sl_price=plan.sl_price or None,
        tp_price=plan.tp_price or None,
    )


def match(
    order: Order,
    open_positions: Sequence[Position],
    closed_positions: Sequence[ClosedPosition],
    owned_ids: frozenset[str],
    *,
    skew_s: float = SKEW_S,
) -> Match:
    """Return which position the order became, if any.

    A candidate is a position that neither existed before the reservation nor belongs to another intent, of the same
    symbol and side, opened after the reservation (less `skew_s`), that is equal in volume, stop and target, or
    - equal but without the stop or target that the broker did not take, or
    - equal but smaller: a partial fill.
    A position with the comment of this intent is the order, whatever else it is, and then no other one is a candidate;
    one with the comment of another intent is none.
    Closed rows mostly do not say stop and target; what a row does not say is not compared.
    A position that shows both as open and as closed (in part) counts once, as open.
    """
    wanted = fingerprint(order.plan)
    since = clock.parse(order.reserved_at) - timedelta(seconds=skew_s)
    not_ours = owned_ids.union(order.baseline)
    confirmed = named(order, open_positions, closed_positions, owned_ids)
    if len(confirmed) > 1:
        ids = tuple(one.id for one in confirmed)
        return Ambiguous(ids, f"{len(ids)} positions carry the id of intent {order.intent_id}: {', '.join(ids)}")
    if confirmed:
        (one,) = confirmed
        return FoundOpen(one) if isinstance(one, Position) else FoundClosed(one)
    open_positions = [held for held in open_positions if not is_of_another(held, order)]
    closed_positions = [row for row in closed_positions if not is_of_another(row, order)]
    opened = {held.id: held for held in open_positions if _may_be(held, wanted, not_ours)}
    rows = [row for row in closed_positions if row.id not in opened and _may_be(row, wanted, not_ours)]
    doubtful_since = since - timedelta(seconds=DOUBT_S)
    closed = {row.id: row for row in whole(rows) if row.opened_at >= doubtful_since}
    found_open = [held for held in opened.values() if held.opened_at >= since and _is_open_match(held, wanted)]
    found_closed = [row for row in closed.values() if row.opened_at >= since and _is_closed_match(row, wanted)]
    found: list[Position | ClosedPosition] = [*found_open, *found_closed]
    if len(found) > 1:
        ids = tuple(sorted(one.id for one in found))
        return Ambiguous(ids, f"{len(ids)} positions fit the order of intent {order.intent_id}: {', '.join(ids)}")
    if found_open:
        return FoundOpen(found_open[0])
    if found_closed:
        return FoundClosed(found_closed[0])
    return Absent(similar=tuple(sorted({*opened, *closed})))


def named(
    order: Order,
    open_positions: Sequence[Position],
    closed_positions: Sequence[ClosedPosition],
    owned_ids: frozenset[str],
) -> tuple[Position | ClosedPosition, ...]:
    """Return the unowned positions of the order's symbol and side that carry its intent's id, each once, by id."""
    wanted, not_ours = fingerprint(order.plan), owned_ids.union(order.baseline)
    found: dict[str, Position | ClosedPosition] = {row.id: row for row in whole(closed_positions)}
    found |= {held.id: held for held in open_positions}
    ours = (one for one in found.values() if one.comment == order.intent_id and _may_be(one, wanted, not_ours))
    return tuple(sorted(ours, key=lambda one: one.id))


def is_of_another(seen: Position | ClosedPosition, order: Order) -> bool:
    """Return whether a position carries the id of another intent."""
    return seen.comment != order.intent_id and INTENT_ID.fullmatch(seen.comment) is not None


def _may_be(seen: Position | ClosedPosition, wanted: Fingerprint, not_ours: frozenset[str]) -> bool:
    """Return whether a position is not in the baseline, unowned, and of the order's symbol and side."""
    return seen.id not in not_ours and (seen.broker_symbol, seen.side) == (wanted.broker_symbol, wanted.side)


def _is_open_match(held: Position, wanted: Fingerprint) -> bool:
    if held.volume == wanted.volume:
        # A stop that is not there was not taken by the broker. One that is there must be ours.
        return held.sl_price in (None, wanted.sl_price) and held.tp_price in (None, wanted.tp_price)
    return held.volume < wanted.volume and (held.sl_price, held.tp_price) == (wanted.sl_price, wanted.tp_price)


def _is_closed_match(row: ClosedPosition, wanted: Fingerprint) -> bool:
    stops_fit = row.sl_price in (None, wanted.sl_price) and row.tp_price in (None, wanted.tp_price)
    if row.volume == wanted.volume:
        return stops_fit
    # A partial fill is ours only when the row proves it by its stop.
    return row.volume < wanted.volume and stops_fit and row.sl_price is not None


def whole(rows: Sequence[ClosedPosition]) -> list[ClosedPosition]:
    """Return one row a position: the same row twice counts once, parts are added up."""
    parts: dict[str, list[ClosedPosition]] = {}
    for row in {row.key: row for row in rows}.values():
        parts.setdefault(row.id, []).append(row)
    return [_added_up(sorted(known, key=lambda part: part.closed_at)) for known in parts.values()]


def is_part(row: ClosedPosition, volume: Decimal) -> bool:
    """Return whether the history has fewer lots of a position than it held.

    Then its row is no end: the rest may be open although a list omits it once, or its own row is still to come.
    """
    return row.volume < volume


def _added_up(parts: Sequence[ClosedPosition]) -> ClosedPosition:
    """Return the parts of one position as one row: price, time and reason of the last one."""
    return structs.replace(
        parts[-1],
        volume=sum((part.volume for part in parts), Decimal(0)),
        profit_cents=sum(part.profit_cents for part in parts),
        swap_cents=sum(part.swap_cents for part in parts),
        commission_cents=sum(part.commission_cents for part in parts),
        net_profit_cents=sum(part.net_profit_cents for part in parts),
    )
