"""Requests read and answers written by the paper broker's routes: bodies with a limit, amounts that are numbers.

Used by `routes` and its sisters. Knows no account.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from actors.broker.paper.faults import Fault
from actors.broker.paper.values import Rejected
from bus import clock as clocks

BODY_BYTES_MAX = 65_536
AMOUNT_MAX = Decimal("1e9")

STRINGS = msgspec.json.Encoder()
NUMBERS = msgspec.json.Encoder(decimal_format="number")

T = TypeVar("T")


class Asked(Struct, frozen=True, rename="camel"):
    """Base of the requests. Unknown fields are ignored, as the real broker does."""


async def body_of(request: Request) -> bytes:
    """Return the whole body, read once. Raises HTTPException 413 beyond `BODY_BYTES_MAX`."""
    if not hasattr(request.state, "body"):
        received = bytearray()
        async for chunk in request.stream():
            received += chunk
            if len(received) > BODY_BYTES_MAX:
                raise HTTPException(413, f"body larger than {BODY_BYTES_MAX} bytes")
        request.state.body = bytes(received)
    body: bytes = request.state.body
    return body


async def asked(request: Request, kind: type[T]) -> T:
    """Return the body as `kind`. Raises HTTPException 400 for anything else."""
    try:
        return msgspec.json.decode(await body_of(request), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HTTPException(400, str(error)) from error


def fault_of(request: Request) -> Fault | None:
    """Return the fault that this request suffers, if any."""
    found: Fault | None = getattr(request.state, "fault", None)
    return found


def is_fault(fault: Fault | None, name: str) -> bool:
    """Return whether it is this fault."""
    return fault is not None and fault.fault == name


def check(**amounts: Decimal | None) -> None:
    """Raise HTTPException 400 for NaN, infinity and absurd sizes, which decimal strings can hold."""
    for name, amount in amounts.items():
        if amount is not None and (not amount.is_finite() or abs(amount) > AMOUNT_MAX):
            raise HTTPException(400, f"{name} was {amount}")


def span(since: str, until: str) -> tuple[int, int]:
    """Return two RFC 3339 times in epoch milliseconds. Raises HTTPException 400 for anything else."""
    try:
        return int(clocks.parse(since).timestamp() * 1_000), int(clocks.parse(until).timestamp() * 1_000)
    except ValueError as error:
        raise HTTPException(400, f"from and to are RFC 3339 times: {error}") from error


def answer(content: Any, encoder: msgspec.json.Encoder = STRINGS, status: int = 200) -> Response:
    return Response(encoder.encode(content), status, media_type="application/json")


def done(order_id: str) -> Response:
    return answer({"status": "OK", "nativeCode": None, "errorMessage": None, "orderId": order_id})


def rejected(refusal: Rejected) -> Response:
    return answer({"status": "REJECTED", "nativeCode": refusal.code, "errorMessage": refusal.message, "orderId": None})
