"""The test controls of the paper broker: faults, prices, closes, counts. Over HTTP, under /paper, when faults are on.

Used by `routes`. Never reachable in production: without PILOT_PAPER_FAULTS these routes are not made.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from actors.broker.paper.counting import Received
from actors.broker.paper.faults import Fault, Faults, ForceClose, SetPrice
from actors.broker.paper.values import Rejected
from actors.broker.paper.venue import Venue

T = TypeVar("T")


def routes(venue: Venue, faults: Faults, received: Received) -> list[Route]:
    """Return POST, GET and DELETE /paper/faults, POST /paper/price, POST /paper/close and GET /paper/requests."""

    async def queue(request: Request) -> Response:
        try:
            faults.order(await _asked(request, Fault))
        except ValueError as error:  # msgspec's errors are ValueErrors, too
            return _text(400, str(error))
        return _text(200, "ordered")

    async def show(_: Request) -> Response:
        return Response(msgspec.json.encode(faults.described()), media_type="application/json")

    async def clear(_: Request) -> Response:
        faults.clear()
        return _text(200, "cleared")

    async def price(request: Request) -> Response:
        try:
            wanted = await _asked(request, SetPrice)
            venue.set_price(wanted.symbol, wanted.bid, hold=wanted.hold)
        except KeyError as error:
            return _text(400, f"unknown symbol {error}")
        except ValueError as error:
            return _text(400, str(error))
        return _text(200, "set")

    async def close(request: Request) -> Response:
        try:
            wanted = await _asked(request, ForceClose)
        except ValueError as error:
            return _text(400, str(error))
        decided = venue.close_position(wanted.position_id)
        return _text(400, decided.message) if isinstance(decided, Rejected) else _text(200, "closed")

    async def requests(_: Request) -> Response:
        counts = {"reads": received.reads, "writes": received.writes}
        return Response(msgspec.json.encode(counts), media_type="application/json")

    return [
        Route("/paper/requests", requests, methods=["GET"]),
        Route("/paper/faults", queue, methods=["POST"]),
        Route("/paper/faults", show, methods=["GET"]),
        Route("/paper/faults", clear, methods=["DELETE"]),
        Route("/paper/price", price, methods=["POST"]),
        Route("/paper/close", close, methods=["POST"]),
    ]


async def _asked(request: Request, kind: type[T]) -> T:
    return msgspec.json.decode(await request.body(), type=kind)


def _text(status: int, said: str) -> Response:
    return Response(msgspec.json.encode({"said": said}), status, media_type="application/json")
