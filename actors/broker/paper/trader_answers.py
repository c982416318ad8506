"""The Trader API's problem objects, and what a misbehaving broker says in its words. Used by `trader_routes`."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from actors.broker.paper import answers
from actors.broker.paper.answers import NOBODY, Words
from actors.broker.paper.values import Rejected

VALIDATION = "trading-validation-failed"


def problem(status: int, code: str, detail: str, path: str = "", headers: dict[str, str] | None = None) -> Response:
    """Return a problem object as the API's documentation shows it."""
    said: dict[str, Any] = {
        "path": path, "status": status, "type": f"error://trader-api/{code}",
        "title": code.replace("-", " ").capitalize(), "detail": detail, "additionalInfo": None,
    }  # fmt: skip
    return Response(msgspec.json.encode(said), status, headers, "application/problem+json")


def made(**fields: str) -> Response:
    """Return a 201."""
    return Response(msgspec.json.encode(fields), 201, media_type="application/json")


def refused(refusal: Rejected, request: Request) -> Response:
    """Return the problem that a rejection is."""
    return problem(400, VALIDATION, f"{refusal.code}: {refusal.message}", request.url.path)


def _refused(code: str, text: str) -> Response:
    return problem(400, VALIDATION, f"{code}: {text}")


def _unauthorised() -> Response:
    return problem(401, "unauthorized", "the token is not valid")


TRADER = Words(
    answers.UNPLACED
    | {
        "ok_unplaced": lambda: made(positionId=NOBODY),
        "reject_200": lambda: _refused("TRADE_DISABLED", "trading is disabled"),
        "reject_400": lambda: _refused("TRADE_DISABLED", "trading is disabled"),
        "market_closed": lambda: _refused("MARKET_CLOSED", "the session is over"),
        "status_503": lambda: problem(503, "service-unavailable", "try again later"),
        "401_once": _unauthorised,
        "429": lambda: problem(429, "too-many-requests", "slow down", headers={"Retry-After": "7"}),
        "429_bare": lambda: problem(429, "too-many-requests", "slow down"),
    },
    answers.PLACED
    | {
        "json_500": lambda _: problem(500, "internal-error", "internal error"),
        "401_placed": lambda _: _unauthorised(),
        "status_pending": lambda _: Response(b'{"status": "PENDING"}', 202, media_type="application/json"),
        "ok_without_order_id": lambda _: made(),
        "wrong_order_id": lambda _: made(positionId=NOBODY),
        "reject_placed": lambda _: _refused("TRADE_DISABLED", "trading is disabled"),
    },
)
