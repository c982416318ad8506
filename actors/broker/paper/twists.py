"""What a misbehaving broker makes of an order, an edit or a close. Used by `routes`; only when faults are on.

Never answers anybody: see `answers`. Everything that comes of it goes through the venue, whose ledger stays true.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal

from msgspec import structs

from actors.broker.paper import values
from actors.broker.paper.faults import Fault
from actors.broker.paper.values import Holding, Order, Terms
from actors.broker.paper.venue import Venue

LATE = ("place_late", "place_late_unanswered")
NAKED = ("ignore_stop", "naked")


def order(fault: Fault | None, asked: Order, terms: Terms | None) -> Order:
    """Return the order as the broker understands it. `terms` is None for a symbol it does not list."""
    name = fault.fault if fault else ""
    if name in NAKED:
        return structs.replace(asked, sl_price=values.NONE, tp_price=values.NONE)
    if terms is None:
        return asked
    if name == "partial_fill":
        return structs.replace(asked, volume=half(asked.volume, terms))
    if name == "overfill":
        return structs.replace(asked, volume=2 * asked.volume)
    if name == "round_stop" and asked.sl_price:
        away = -terms.point if asked.side == "BUY" else terms.point
        return structs.replace(asked, sl_price=asked.sl_price + away)
    return asked


def opened(fault: Fault | None, venue: Venue, held: Holding, asked: Order, receipt: int) -> None:
    """Do to a new position what the fault has in mind for it."""
    name = fault.fault if fault else ""
    if fault is not None and name == "hide_position":
        venue.hide(held.id, fault.for_s)
    elif name == "naked":
        venue.refuse_edits(held.id)
    elif name == "close_at_once":
        venue.close_position(held.id, reason="SL")
    elif name == "place_twice":
        venue.open_position(asked, receipt)


def half(volume: Decimal, terms: Terms) -> Decimal:
    """Return half of a volume in whole steps, at least the smallest one."""
    steps = (volume / 2 / terms.volume_step).to_integral_value(ROUND_FLOOR)
    return max(terms.volume_min, steps * terms.volume_step)
