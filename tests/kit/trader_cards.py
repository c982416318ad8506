"""What the Trader API answers, endpoint by endpoint, and what the client has to make of it.

Shapes from the API's documentation where it shows them; the fields of rows as in Match-Trader's other APIs. `needed`
are the paths of the fields without which an answer is none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from msgspec import Struct, structs

from actors.broker import wire
from actors.broker.trader.client import TraderClient
from tests.kit import cards
from tests.kit.cards import CANDLE, CLOSED_AT, INSTRUMENT, LISTED, OPENED, OPENED_MS, PENDING, QUOTE, SINCE, UNTIL

D = Decimal
KEY = "6f1c2d3e-0000-4000-8000-000000000001"

ACCOUNT = {
    "login": "7", "balance": "50000.00", "equity": "50009.40", "freeMargin": "49789.40", "margin": "220.00",
    "marginLevel": "22731.55", "credit": "0.00", "profit": "10.00", "netProfit": "9.40", "currency": "USD",
    "currencyPrecision": 2,
}  # fmt: skip
POSITION = {
    "id": "W4711", "symbol": "EURUSD.", "volume": "0.10", "side": "BUY", "openTime": OPENED_MS, "openPrice": "1.10010",
    "slPrice": "1.09000", "tpPrice": None, "currentPrice": "1.10110", "swap": "-0.10", "commission": "-0.50",
    "profit": "10.00", "netProfit": "9.40", "comment": "0123456789abcdef",
}  # fmt: skip
ORDER = {
    "id": "P12", "symbol": "EURUSD.", "volume": "0.20", "type": "LIMIT", "side": "SELL", "activationPrice": "1.12000",
    "slPrice": "1.13000", "tpPrice": None, "comment": None, "creationTime": OPENED_MS,
}  # fmt: skip
ROW = {
    "id": "W4711", "uid": "9b1d", "closingOrderId": "W4712", "symbol": "EURUSD.", "volume": "0.10", "side": "BUY",
    "openTime": OPENED_MS, "closeTime": OPENED_MS + 3_600_000, "openPrice": "1.10010", "closePrice": "1.09000",
    "profit": "-101.00", "netProfit": "-101.60", "swap": -0.1, "commission": "-0.50", "closeReason": "SL",
    "comment": "0123456789abcdef",
}  # fmt: skip


@dataclass(frozen=True)
class Card:
    """One endpoint that is read. `kind` is the type of the result, or of its rows."""

    method: str
    path: str
    answer: Any
    needed: tuple[str, ...]
    read: Callable[[TraderClient], Awaitable[Any]]
    expected: Any
    kind: type[Struct]


HELD = structs.replace(cards.HELD, comment="0123456789abcdef")
WAITING = cards.WAITING

READS = {
    "account": Card(
        "GET", "/v1/account", ACCOUNT, ("login", "balance", "equity", "margin", "freeMargin", "currency"),
        lambda client: client.balance(), cards.READS["balance"].expected, wire.Balance,
    ),
    "quotes": Card(
        "GET", "/v1/quotes", {"quotes": [QUOTE]},
        ("quotes", *(f"quotes.0.{name}" for name in ("symbol", "bid", "ask", "timestampMs"))),
        lambda client: client.quotes(["EURUSD"]), cards.READS["quotations"].expected, wire.Quote,
    ),
    "candles": Card(
        "GET", "/v1/candles", {"symbol": "EURUSD.", "interval": "H1", "candles": [CANDLE]},
        ("candles", *(f"candles.0.{name}" for name in ("time", "open", "high", "low", "close"))),
        lambda client: client.candles("EURUSD", "H1", SINCE, UNTIL), cards.READS["candles"].expected, wire.Candle,
    ),
    "positions": Card(
        "GET", "/v1/positions", {"positions": [POSITION]},
        ("positions", *(f"positions.0.{name}" for name in (
            "id", "symbol", "volume", "side", "openTime", "openPrice", "currentPrice", "profit", "netProfit", "slPrice",
            "tpPrice",
        ))),
        lambda client: client.open_positions(), (HELD,), wire.Position,
    ),
    "pending-orders": Card(
        "GET", "/v1/pending-orders", {"pendingOrders": [ORDER]},
        ("pendingOrders", *(f"pendingOrders.0.{name}" for name in (
            "id", "symbol", "volume", "type", "side", "activationPrice", "slPrice", "tpPrice",
        ))),
        lambda client: client.pending_orders(), (WAITING,), wire.PendingOrder,
    ),
    "closed-positions": Card(
        "GET", "/v1/closed-positions", {"closedPositions": [ROW]},
        ("closedPositions", *(f"closedPositions.0.{name}" for name in (
            "id", "symbol", "volume", "side", "openTime", "closeTime", "openPrice", "closePrice", "profit", "netProfit",
        ))),
        lambda client: client.closed_positions(SINCE, UNTIL),
        (structs.replace(cards.READS["closed-positions"].expected[0], comment="0123456789abcdef"),),
        wire.ClosedPosition,
    ),
}  # fmt: skip
assert timedelta(hours=1) == CLOSED_AT - OPENED

OPEN = structs.replace(cards.OPEN, idempotency_key=KEY, comment="0123456789abcdef")


@dataclass(frozen=True)
class WriteCard:
    """One endpoint that changes something. `body` is the request, number for number; `done` the status of success."""

    method: str
    path: str
    body: str
    write: Callable[[TraderClient], Awaitable[Any]]
    done: int = 204
    said: Any = None
    result: str | None = None


WRITES = {
    "open": WriteCard(
        "POST", "/v1/positions",
        '{"symbol":"EURUSD.","side":"BUY","volume":0.10,"slPrice":1.09,"tpPrice":null,"comment":"0123456789abcdef"}',
        lambda client: client.open_position(OPEN), 201, {"positionId": "W99"}, "W99",
    ),
    "edit": WriteCard(
        "PATCH", "/v1/positions/W4711", '{"slPrice":1.095,"tpPrice":1.2}',
        lambda client: client.edit_position(HELD, D("1.095"), D("1.2")),
    ),
    "close": WriteCard("POST", "/v1/positions/W4711/close", "", lambda client: client.close_position(HELD)),
    "close-partially": WriteCard(
        "POST", "/v1/positions/W4711/close", '{"volume":0.04}', lambda client: client.close_partially(HELD, D("0.04")),
    ),
    "pending-create": WriteCard(
        "POST", "/v1/pending-orders",
        '{"symbol":"EURUSD.","side":"BUY","type":"STOP","volume":0.10,"activationPrice":1.11000,"slPrice":1.10000,'
        '"tpPrice":null}',
        lambda client: client.create_pending(PENDING), 201, {"pendingOrderId": "W99"}, "W99",
    ),
    "pending-edit": WriteCard(
        "PATCH", "/v1/pending-orders/P12",
        '{"activationPrice":1.125,"volume":0.20,"slPrice":1.13,"tpPrice":null}',
        lambda client: client.edit_pending(WAITING, D("1.125"), D("1.13"), D(0)),
    ),
    "pending-cancel": WriteCard(
        "DELETE", "/v1/pending-orders/P12", "", lambda client: client.cancel_pending(WAITING),
    ),
}  # fmt: skip

__all__ = ["HELD", "INSTRUMENT", "LISTED", "READS", "WAITING", "WRITES", "Card", "WriteCard"]


def problem(status: int, code: str, **changes: Any) -> dict[str, Any]:
    """Return a problem object as the documentation shows it."""
    return {
        "path": "/v1/positions", "status": status, "type": f"error://trader-api/{code}", "title": "A title",
        "detail": "what happened", "additionalInfo": None,
    } | changes  # fmt: skip
