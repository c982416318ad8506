"""The Match-Trader paths of orders that wait for their price.

Used by `routes`, which sees to who asks and to faults: on creation those of an order, on edit and cancel those of an
edit and a close. Bodies as public clients send them; an edit is answered with an empty body, as real brokers do.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from actors.broker.paper import asking, pending, views
from actors.broker.paper.asking import Asked
from actors.broker.paper.values import NONE, PendingOrder, Rejected
from actors.broker.paper.venue import Venue

CALL = "pending"  # in the ledger's received lines


class CreateAsked(Asked, frozen=True):
    instrument: str
    order_side: Literal["BUY", "SELL"]
    volume: Decimal
    type: Literal["LIMIT", "STOP"]
    price: Decimal
    sl_price: Decimal | None = None
    tp_price: Decimal | None = None


class EditAsked(Asked, frozen=True):
    id: str
    instrument: str
    order_side: Literal["BUY", "SELL"]
    type: Literal["LIMIT", "STOP"]
    volume: Decimal
    price_order: Decimal
    sl_price: Decimal
    tp_price: Decimal


class CancelAsked(Asked, frozen=True):
    id: str
    instrument: str
    order_side: Literal["BUY", "SELL"]
    type: Literal["LIMIT", "STOP"]


class PendingRoutes:
    """The handlers, over one venue."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    async def active(self, _: Request) -> Response:
        """Return the orders that wait."""
        return asking.answer({"orders": [views.order(waiting) for waiting in self._venue.book.orders]})

    async def create(self, request: Request) -> Response:
        """Take an order. The receipt was given before."""
        said = await asking.asked(request, CreateAsked)
        asking.check(volume=said.volume, price=said.price, slPrice=said.sl_price, tpPrice=said.tp_price)
        decided = self._venue.create_pending(_order(said), request.state.receipt)
        return asking.rejected(decided) if isinstance(decided, Rejected) else asking.done(decided.order.id)

    async def edit(self, request: Request) -> Response:
        """Change an order's price, stop and target."""
        said = await asking.asked(request, EditAsked)
        asking.check(volume=said.volume, price=said.price_order, slPrice=said.sl_price, tpPrice=said.tp_price)
        if refusal := self._mismatch(said, said.volume):
            return asking.rejected(refusal)
        if asking.is_fault(asking.fault_of(request), "edit_ignored"):
            return Response(b"", 200)
        decided = self._venue.edit_pending(said.id, said.price_order, said.sl_price, said.tp_price)
        return asking.rejected(decided) if isinstance(decided, Rejected) else Response(b"", 200)

    async def cancel(self, request: Request) -> Response:
        """End an order."""
        said = await asking.asked(request, CancelAsked)
        if refusal := self._mismatch(said, None):
            return asking.rejected(refusal)
        if asking.is_fault(asking.fault_of(request), "close_ignored"):
            return asking.done(said.id)
        decided = self._venue.cancel_pending(said.id)
        return asking.rejected(decided) if isinstance(decided, Rejected) else asking.done(decided.id)

    def _mismatch(self, said: EditAsked | CancelAsked, volume: Decimal | None) -> Rejected | None:
        """Return why a request does not speak of the order whose id it names. A volume cannot be changed."""
        try:
            found = pending.find(self._venue.book, said.id)
        except KeyError:
            return Rejected("ORDER_NOT_FOUND", f"there is no waiting order {said.id[:40]!r}")
        if (found.symbol, found.side, found.kind) != (said.instrument, said.order_side, said.type):
            return Rejected("ORDER_MISMATCH", f"order {found.id} is a {found.side} {found.kind} of {found.symbol}")
        if volume is not None and volume != found.volume:
            return Rejected("INVALID_VOLUME", f"volume was {volume}; the order has {found.volume}")
        return None


def as_asked(body: bytes) -> dict[str, Any]:
    """Return what an order's request says for the ledger, as far as it can be read."""
    try:
        said = msgspec.json.decode(body, type=CreateAsked)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {"call": CALL}
    return noted(said.instrument, said.order_side, said.volume, said.type, said.price, said.sl_price, said.tp_price)


def noted(
    symbol: str, side: str, volume: Decimal, kind: str, price: Decimal, sl: Decimal | None, tp: Decimal | None
) -> dict[str, Any]:
    """Return the ledger's fields of an order that shall wait."""
    return {
        "call": CALL, "symbol": symbol, "side": side, "volume": volume, "kind_of": kind, "activation_price": price,
        "sl_price": sl or NONE, "tp_price": tp or NONE,
    }  # fmt: skip


def _order(said: CreateAsked) -> PendingOrder:
    return PendingOrder(
        kind=said.type,
        symbol=said.instrument,
        side=said.order_side,
        volume=said.volume,
        activation_price=said.price,
        sl_price=said.sl_price or NONE,
        tp_price=said.tp_price or NONE,
    )
