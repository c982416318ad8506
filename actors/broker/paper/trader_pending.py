"""The Trader API's paths of orders that wait for their price, over the paper venue.

Used by `trader_routes`, which sees to who asks, to keys and to faults: on creation those of an order, on edit and
cancel those of an edit and a close.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from actors.broker.paper import asking, pending, pending_routes, trader_views
from actors.broker.paper.trader_answers import made, problem, refused
from actors.broker.paper.values import NONE, PendingOrder, Rejected, Waiting
from actors.broker.paper.venue import Venue


class CreateAsked(Struct, frozen=True, rename="camel"):
    symbol: str
    side: Literal["BUY", "SELL"]
    type: Literal["LIMIT", "STOP"]
    volume: Decimal
    activation_price: Decimal
    sl_price: Decimal | None = None
    tp_price: Decimal | None = None


class EditAsked(Struct, frozen=True, rename="camel"):
    """What is not said stays as it is; a stop or target of null is removed."""

    activation_price: Decimal | UnsetType = UNSET
    volume: Decimal | UnsetType = UNSET
    sl_price: Decimal | UnsetType | None = UNSET
    tp_price: Decimal | UnsetType | None = UNSET


class TraderPending:
    """The handlers, over one venue."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    async def active(self, _: Request) -> Response:
        """Return the orders that wait."""
        return asking.answer({"pendingOrders": [trader_views.order(waiting) for waiting in self._venue.book.orders]})

    async def create(self, request: Request) -> Response:
        """Take an order. The receipt was given before."""
        said = await asking.asked(request, CreateAsked)
        asking.check(
            volume=said.volume, activationPrice=said.activation_price, slPrice=said.sl_price, tpPrice=said.tp_price
        )
        wanted = PendingOrder(
            kind=said.type,
            symbol=said.symbol,
            side=said.side,
            volume=said.volume,
            activation_price=said.activation_price,
            sl_price=said.sl_price or NONE,
            tp_price=said.tp_price or NONE,
        )
        decided = self._venue.create_pending(wanted, request.state.receipt)
        return refused(decided, request) if isinstance(decided, Rejected) else made(pendingOrderId=decided.order.id)

    async def edit(self, request: Request) -> Response:
        """Change an order's price, stop and target."""
        said = await asking.asked(request, EditAsked)
        found = self._found(request)
        if found is None:
            return _unknown(request)
        price = found.activation_price if said.activation_price is UNSET else said.activation_price
        sl_price = found.sl_price if said.sl_price is UNSET else said.sl_price or NONE
        tp_price = found.tp_price if said.tp_price is UNSET else said.tp_price or NONE
        asking.check(activationPrice=price, slPrice=sl_price, tpPrice=tp_price)
        if said.volume is not UNSET and said.volume != found.volume:
            text = f"volume was {said.volume}; the order has {found.volume}"
            return refused(Rejected("INVALID_VOLUME", text), request)
        if asking.is_fault(asking.fault_of(request), "edit_ignored"):
            return Response(status_code=204)
        decided = self._venue.edit_pending(found.id, price, sl_price, tp_price)
        return refused(decided, request) if isinstance(decided, Rejected) else Response(status_code=204)

    async def cancel(self, request: Request) -> Response:
        """End an order."""
        found = self._found(request)
        if found is None:
            return _unknown(request)
        if asking.is_fault(asking.fault_of(request), "close_ignored"):
            return Response(status_code=204)
        decided = self._venue.cancel_pending(found.id)
        return refused(decided, request) if isinstance(decided, Rejected) else Response(status_code=204)

    def _found(self, request: Request) -> Waiting | None:
        try:
            return pending.find(self._venue.book, request.path_params["id"])
        except KeyError:
            return None


def as_asked(body: bytes) -> dict[str, Any]:
    """Return what an order's request says for the ledger, as far as it can be read."""
    try:
        said = msgspec.json.decode(body, type=CreateAsked)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {"call": pending_routes.CALL}
    return pending_routes.noted(
        said.symbol, said.side, said.volume, said.type, said.activation_price, said.sl_price, said.tp_price
    )


def _unknown(request: Request) -> Response:
    return problem(404, "pending-order-not-found", "there is no such waiting order", request.url.path)
