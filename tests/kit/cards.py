"""What Match-Trader answers, endpoint by endpoint, and what the client has to make of it.

Shapes from the Platform API's documentation and public clients: strings where brokers send strings, all their fields
and not only ours. `needed` are the paths of the fields without which an answer is none; `read` makes the client's call;
`expected` is the typed result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from msgspec import Struct

from actors.broker import wire
from actors.broker.client import BrokerClient

D = Decimal
SINCE, UNTIL = datetime(2026, 2, 16, tzinfo=UTC), datetime(2026, 2, 17, tzinfo=UTC)
OPENED = datetime(2026, 2, 16, 9, 30, tzinfo=UTC)
OPENED_MS = 1_771_234_200_000
CLOSED_AT = OPENED + timedelta(hours=1)

BALANCE = {
    "balance": "50000.00", "equity": "50009.40", "freeMargin": "49789.40", "margin": "220.00",
    "marginLevel": "22731.55", "credit": "0.00", "profit": "10.00", "netProfit": "9.40", "currency": "USD",
    "currencyPrecision": 2,
}  # fmt: skip
HOURS = {
    "dayNumber": 1, "openHours": 0, "openMinutes": 5, "openSeconds": 0, "closeHours": 23, "closeMinutes": 55,
    "closeSeconds": 0,
}  # fmt: skip
INSTRUMENT = {
    "symbol": "EURUSD.", "alias": "EUR/USD", "type": "FOREX", "baseCurrency": "EUR", "quoteCurrency": "USD",
    "pricePrecision": 5, "volumePrecision": 2, "volumeMin": "0.01", "volumeMax": "50", "volumeStep": "0.01",
    "contractSize": "100000", "sizeOfOnePoint": "0.00001", "sessionOpen": True, "tradingHours": [HOURS],
    "leverage": "50", "askMarkup": "0", "bidMarkup": "0", "swapType": "POINTS", "swapBuy": "-6.1", "swapSell": "2.2",
    "freezeLevel": 0, "stopsLevel": "10",
}  # fmt: skip
QUOTE = {
    "symbol": "EURUSD.", "bid": "1.10000", "ask": "1.10010", "change": "0.12", "high": "1.10500", "low": "1.09500",
    "timestampMs": OPENED_MS,
}  # fmt: skip
CANDLE = {"time": OPENED_MS, "open": "1.1", "high": "1.2", "low": "1.0", "close": "1.15", "volume": 7}
POSITION = {
    "id": "W4711", "symbol": "EURUSD.", "alias": "EUR/USD", "volume": "0.10", "side": "BUY",
    "openTime": "2026-02-16T09:30:00.000Z", "openTimeMillis": OPENED_MS, "openPrice": "1.10010",
    "stopLoss": "1.09000", "takeProfit": "0", "currentPrice": "1.10110", "swap": "-0.10", "commission": "-0.50",
    "profit": "10.00", "netProfit": "9.40",
}  # fmt: skip
ORDER = {
    "id": "P12", "symbol": "EURUSD.", "volume": "0.20", "type": "LIMIT", "side": "SELL",
    "creationTime": "2026-02-16T09:30:00.000Z", "activationPrice": "1.12000", "stopLoss": "1.13000", "takeProfit": 0,
}  # fmt: skip
OPERATION = {
    "id": "W4711", "uid": "9b1d", "closingOrderID": "W4712", "symbol": "EURUSD.", "volume": "0.10", "side": "BUY",
    "openTime": "2026-02-16T09:30:00.000Z", "time": "2026-02-16T10:30:00.000Z", "openPrice": "1.10010",
    "closePrice": "1.09000", "profit": "-101.00", "netProfit": "-101.60", "swap": -0.1, "commission": "-0.50",
    "closeReason": "SL",
}  # fmt: skip


@dataclass(frozen=True)
class Card:
    """One endpoint that is read. `kind` is the type of the result, or of its rows."""

    method: str
    path: str
    answer: Any
    needed: tuple[str, ...]
    read: Callable[[BrokerClient], Awaitable[Any]]
    expected: Any
    kind: type[Struct]


def _closed(client: BrokerClient) -> Awaitable[Any]:
    return client.closed_positions(SINCE, UNTIL)


READS = {
    "balance": Card(
        "GET", "/balance", BALANCE, ("balance", "equity", "margin", "freeMargin", "currency"),
        lambda client: client.balance(),
        wire.Balance(
            balance_cents=5_000_000, equity_cents=5_000_940, margin_cents=22_000, free_margin_cents=4_978_940,
            currency="USD",
        ),
        wire.Balance,
    ),
    "quotations": Card(
        "GET", "/quotations", [QUOTE], ("0.symbol", "0.bid", "0.ask", "0.timestampMs"),
        lambda client: client.quotes(["EURUSD"]),
        {"EURUSD": wire.Quote(symbol="EURUSD", bid=D("1.1"), ask=D("1.1001"), at=OPENED)},
        wire.Quote,
    ),
    "candles": Card(
        "GET", "/candles", {"symbol": "EURUSD.", "interval": "H1", "candles": [CANDLE]},
        ("candles", *(f"candles.0.{name}" for name in ("time", "open", "high", "low", "close"))),
        lambda client: client.candles("EURUSD", "H1", SINCE, UNTIL),
        (wire.Candle(at=OPENED, open=D("1.1"), high=D("1.2"), low=D(1), close=D("1.15"), volume=D(7)),),
        wire.Candle,
    ),
    "open-positions": Card(
        "GET", "/open-positions", {"positions": [POSITION]},
        ("positions", *(f"positions.0.{name}" for name in (
            "id", "symbol", "volume", "side", "openPrice", "currentPrice", "profit", "netProfit",
        ))),
        lambda client: client.open_positions(),
        (wire.Position(
            id="W4711", symbol="EURUSD", broker_symbol="EURUSD.", side="BUY", volume=D("0.10"), open_price=D("1.1001"),
            sl_price=D("1.09"), tp_price=None, opened_at=OPENED, current_price=D("1.1011"), swap_cents=-10,
            commission_cents=-50, profit_cents=1_000, net_profit_cents=940,
        ),),
        wire.Position,
    ),
    "active-orders": Card(
        "GET", "/active-orders", {"orders": [ORDER]},
        ("orders", *(f"orders.0.{name}" for name in ("id", "symbol", "volume", "type", "side", "activationPrice"))),
        lambda client: client.pending_orders(),
        (wire.PendingOrder(
            id="P12", symbol="EURUSD", broker_symbol="EURUSD.", kind="LIMIT", side="SELL", volume=D("0.20"),
            activation_price=D("1.12"), sl_price=D("1.13"), tp_price=None,
        ),),
        wire.PendingOrder,
    ),
    "closed-positions": Card(
        "POST", "/closed-positions", {"operations": [OPERATION]},
        ("operations", *(f"operations.0.{name}" for name in (
            "id", "symbol", "volume", "side", "openTime", "time", "openPrice", "closePrice", "profit", "netProfit",
        ))),
        _closed,
        (wire.ClosedPosition(
            id="W4711", symbol="EURUSD", broker_symbol="EURUSD.", side="BUY", volume=D("0.1"), open_price=D("1.1001"),
            close_price=D("1.09"), opened_at=OPENED, closed_at=CLOSED_AT, net_profit_cents=-10_160,
            profit_cents=-10_100, swap_cents=-10, commission_cents=-50, reason="SL", row_id="9b1d W4712",
        ),),
        wire.ClosedPosition,
    ),
}  # fmt: skip
INSTRUMENT_NEEDED = (
    "baseCurrency", "quoteCurrency", "pricePrecision", "volumeMin", "volumeMax", "volumeStep", "contractSize",
    "sessionOpen",
)  # fmt: skip
LISTED = wire.Instrument(
    symbol="EURUSD", broker_symbol="EURUSD.", base_currency="EUR", quote_currency="USD", price_precision=5,
    volume_min=D("0.01"), volume_max=D(50), volume_step=D("0.01"), contract_size=D(100_000), leverage=D(50),
    session_open=True, stops_level=D(10),
    hours=(wire.Hours(weekday=1, opens_s=300, closes_s=86_100),),
)  # fmt: skip

HELD = READS["open-positions"].expected[0]
WAITING = READS["active-orders"].expected[0]
PENDING = wire.PendingRequest(
    broker_symbol="EURUSD.", kind="STOP", side="BUY", volume=D("0.10"), activation_price=D("1.11000"),
    sl_price=D("1.10000"), tp_price=D(0),
)  # fmt: skip
OPEN = wire.OpenRequest(broker_symbol="EURUSD.", side="BUY", volume=D("0.10"), sl_price=D("1.09"), tp_price=D(0))


@dataclass(frozen=True)
class WriteCard:
    """One endpoint that changes something. `body` is the request, number for number; `result` what the call returns."""

    path: str
    body: str
    write: Callable[[BrokerClient], Awaitable[Any]]
    result: str | None = None
    may_say_nothing: bool = False


WRITES = {
    "open": WriteCard(
        "/position/open",
        '{"instrument":"EURUSD.","orderSide":"BUY","volume":0.10,"slPrice":1.09,"tpPrice":0,"isMobile":false}',
        lambda client: client.open_position(OPEN), "W99",
    ),
    "edit": WriteCard(
        "/position/edit",
        '{"id":"W4711","instrument":"EURUSD.","orderSide":"BUY","volume":0.10,"slPrice":1.095,"tpPrice":1.2,'
        '"isMobile":false}',
        lambda client: client.edit_position(HELD, D("1.095"), D("1.2")),
    ),
    "close": WriteCard(
        "/position/close", '{"positionId":"W4711","instrument":"EURUSD.","orderSide":"BUY","volume":"0.10"}',
        lambda client: client.close_position(HELD),
    ),
    "close-partially": WriteCard(
        "/position/close-partially", '{"positionId":"W4711","instrument":"EURUSD.","orderSide":"BUY","volume":0.04}',
        lambda client: client.close_partially(HELD, D("0.04")),
    ),
    "pending-create": WriteCard(
        "/pending-order/create",
        '{"instrument":"EURUSD.","orderSide":"BUY","volume":0.10,"type":"STOP","price":1.11000,"slPrice":1.10000,'
        '"tpPrice":0,"isMobile":false}',
        lambda client: client.create_pending(PENDING), "W99",
    ),
    "pending-edit": WriteCard(
        "/pending-order/edit",
        '{"id":"P12","instrument":"EURUSD.","orderSide":"SELL","type":"LIMIT","volume":0.20,"priceOrder":1.125,'
        '"slPrice":1.13,"tpPrice":0,"isMobile":false}',
        lambda client: client.edit_pending(WAITING, D("1.125"), D("1.13"), D(0)), may_say_nothing=True,
    ),
    "pending-cancel": WriteCard(
        "/pending-order/cancel",
        '{"id":"P12","instrument":"EURUSD.","orderSide":"SELL","type":"LIMIT","isMobile":false}',
        lambda client: client.cancel_pending(WAITING),
    ),
}  # fmt: skip
