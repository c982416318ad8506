"""A request as it came in: its body, what it asks for, the amounts in it, the fault it suffers.

Used by `routes` and `trader_routes`. Never decides; a request that cannot be read ends in an HTTPException.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request

from actors.broker.paper.faults import Fault

BODY_BYTES_MAX = 65_536
AMOUNT_MAX = Decimal("1e9")

T = TypeVar("T")


async def body(request: Request) -> bytes:
    """Return the whole body, read once. Raises HTTPException 413 beyond `BODY_BYTES_MAX`."""
    if not hasattr(request.state, "body"):
        received = bytearray()
        async for chunk in request.stream():
            received += chunk
            if len(received) > BODY_BYTES_MAX:
                raise HTTPException(413, f"body larger than {BODY_BYTES_MAX} bytes")
        request.state.body = bytes(received)
    whole: bytes = request.state.body
    return whole


async def asked(request: Request, kind: type[T]) -> T:
    """Return the body as `kind`. Raises HTTPException 400 for anything else."""
    try:
        return msgspec.json.decode(await body(request), type=kind)
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
