"""Misbehaviour on demand: what a broker can do to an order, queued by tests over HTTP.

Exists only when the paper broker was started with PILOT_PAPER_FAULTS=1; otherwise none of these routes is there.
Each fault is used up by one request of its kind.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from loguru import logger
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

QUEUE_MAX = 1_000
HANG_S = 3_600.0

Call = Literal["login", "read", "open", "edit", "close"]
Name = Literal[
    "lose_answer_reset",  # carried out, connection reset instead of an answer
    "lose_answer_timeout",  # carried out, no answer until the client gives up
    "drop_unplaced",  # not carried out, connection reset
    "place_late",  # connection reset at once, carried out `seconds` later
    "empty_200",  # carried out, empty body
    "html_200",  # carried out, a page instead of JSON
    "html_502",  # carried out, the proxy's error page
    "redirect",  # carried out, 307 to the same path: whoever follows doubles the order
    "status_503",  # not carried out, JSON error
    "ok_without_order_id",  # carried out, OK that does not say which
    "reject_200",  # not carried out, 200 with status REJECTED
    "html_403",  # not carried out, the content network's page
    "html_400",  # not carried out, a proxy's page
    "401_once",  # not carried out, token refused
    "429",  # not carried out, too many requests, Retry-After 7
    "huge_200",  # carried out, a body without end
    "slow",  # carried out, answered `seconds` later
    "hide_position",  # carried out, the new position not shown for `seconds`
    "ignore_stop",  # carried out without stop and target
]


class Fault(Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the queue: the next `times` requests of kind `on` misbehave."""

    fault: Name
    on: Call = "open"
    times: Annotated[int, Meta(ge=1, le=QUEUE_MAX)] = 1
    seconds: Annotated[float, Meta(ge=0, le=HANG_S)] = 0.0


class SetPrice(Struct, frozen=True, forbid_unknown_fields=True):
    """Move `symbol` (the broker's) to this bid; `hold` keeps all prices where they are then."""

    symbol: str
    bid: Decimal
    hold: bool = True


class ForceClose(Struct, frozen=True, forbid_unknown_fields=True):
    """Close this position at the market, as its owner might by hand."""

    position_id: str


Answering = Callable[[], Awaitable[Response]]


class Faults:
    """The queues, one a kind of request."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Fault]] = {}
        self._late: set[asyncio.Task[None]] = set()

    def queue(self, fault: Fault) -> None:
        """Add a fault. Raises ValueError when the queue is full."""
        waiting = self._queues.setdefault(fault.on, deque())
        if len(waiting) + fault.times > QUEUE_MAX:
            raise ValueError(f"{len(waiting)} faults wait for {fault.on}; allowed {QUEUE_MAX}")
        waiting.extend([fault] * fault.times)

    def take(self, call: Call) -> Fault | None:
        """Return the fault that the next request of this kind suffers, if any."""
        waiting = self._queues.get(call)
        return waiting.popleft() if waiting else None

    def clear(self) -> None:
        """Forget all faults that wait."""
        self._queues.clear()

    def close(self) -> None:
        """Give up what is still to be placed late: the broker is going down."""
        for task in self._late:
            task.cancel()

    async def suffer(self, fault: Fault, request: Request, answer: Answering) -> Response:
        """Answer a request as the fault has it. `answer` carries the request out and makes the honest answer."""
        logger.warning("Misbehaves as ordered: {} on {}", fault.fault, request.url.path)
        name = fault.fault
        if name in UNPLACED:
            return UNPLACED[name](request)
        if name == "drop_unplaced":
            return _reset(request)
        if name == "place_late":
            task = asyncio.create_task(self._later(fault.seconds, answer))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
            return _reset(request)
        honest = await answer()
        if name == "lose_answer_reset":
            return _reset(request)
        if name == "lose_answer_timeout":
            await _until_gone(request)
            return _reset(request)
        if name == "slow":
            await asyncio.sleep(fault.seconds)
            return honest
        return PLACED[name](request) if name in PLACED else honest

    async def _later(self, seconds: float, answer: Answering) -> None:
        await asyncio.sleep(seconds)
        await answer()


def _page(status: int, text: str) -> HTMLResponse:
    return HTMLResponse(f"<!DOCTYPE html><html><head><title>{text}</title></head></html>", status)


def _json(status: int, content: dict[str, str], headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json")


UNPLACED: dict[str, Callable[[Request], Response]] = {
    "status_503": lambda _: _json(503, {"error": "service unavailable"}),
    "reject_200": lambda _: _json(
        200, {"status": "REJECTED", "nativeCode": "TRADE_DISABLED", "errorMessage": "trading is disabled"}
    ),
    "html_403": lambda _: _page(403, "Attention Required! | content network"),
    "html_400": lambda _: _page(400, "400 Bad Request"),
    "401_once": lambda _: _json(401, {"error": "unauthorized"}),
    "429": lambda _: _json(429, {"error": "too many requests"}, {"Retry-After": "7"}),
}
PLACED: dict[str, Callable[[Request], Response]] = {
    "empty_200": lambda _: Response(b"", 200),
    "html_200": lambda _: _page(200, "Maintenance"),
    "html_502": lambda _: _page(502, "502 Bad Gateway"),
    "redirect": lambda request: Response(b"", 307, {"Location": request.url.path}),
    "ok_without_order_id": lambda _: _json(200, {"status": "OK"}),
    "huge_200": lambda _: Response(b" " * 8_388_608, 200),
}


def _reset(request: Request) -> Response:
    """End the connection with a TCP reset. The answer returned goes nowhere."""
    transport: asyncio.Transport = request.scope["state"]["transport"]
    peer: socket.socket = transport.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    return Response(b"", 500)


async def _until_gone(request: Request) -> None:
    """Wait until the client has hung up, for an hour at most."""
    try:
        async with asyncio.timeout(HANG_S):
            while (await request.receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return
