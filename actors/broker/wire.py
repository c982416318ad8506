"""What we make of the broker's JSON: balance, instruments, quotes, positions, as values with Decimal and cents.

Used by executor and monitor through `broker.client`; does no I/O. What makes no sense (NaN, a price of 0, a side that
is none) raises ValueError with the field's name.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal, cast

import msgspec
from msgspec import Struct

from actors.broker import raw
from bus import clock
from bus.vocabulary import Side

METALS = frozenset({"XAU", "XAG", "XPT", "XPD"})
MILLIS_MIN, MILLIS_END = 978_307_200_000, 32_503_680_000_000
AMOUNT_MAX = Decimal("1e15")  # above this it is no price, volume or account of ours


class Balance(Struct, frozen=True, kw_only=True):
    """The account, in cents of its currency. `equity_cents` holds floating profit, `balance_cents` does not."""

    balance_cents: int
    equity_cents: int
    margin_cents: int
    free_margin_cents: int
    currency: str


class Hours(Struct, frozen=True, kw_only=True):
    """One session of the week, in seconds of its day. Closed from `closes_s` on; the zone is not documented."""

    weekday: int  # 0 = Sunday
    opens_s: int
    closes_s: int


class Instrument(Struct, frozen=True, kw_only=True):
    """One thing to trade. `symbol` is ours (EURUSD), `broker_symbol` the broker's (EURUSD.)."""

    symbol: str
    broker_symbol: str
    base_currency: str
    quote_currency: str
    price_precision: int  # decimals of a price
    volume_min: Decimal  # lots
    volume_max: Decimal
    volume_step: Decimal
    contract_size: Decimal  # units of the base currency in a lot
    leverage: Decimal | None  # None = not said
    session_open: bool
    stops_level: Decimal  # smallest distance of a stop, in points
    hours: tuple[Hours, ...] | None = None  # None: not said, or not readable

    @property
    def pip(self) -> Decimal:
        """Return one pip as a price: 0.0001, or 0.01 when quoted in JPY. Raises ValueError for what is no FX pair."""
        if self.symbol != self.base_currency + self.quote_currency or self.base_currency in METALS:
            raise ValueError(f"{self.symbol} is no FX pair: it has no standard pip; use the price distance")
        return Decimal("0.01") if self.quote_currency == "JPY" else Decimal("0.0001")

    @property
    def point(self) -> Decimal:
        """Return the smallest step of a price."""
        return Decimal(1).scaleb(-self.price_precision)


class Quote(Struct, frozen=True, kw_only=True):
    """Bid and ask of one symbol. `at` is the broker's time of that price."""

    symbol: str
    bid: Decimal
    ask: Decimal
    at: datetime


class Position(Struct, frozen=True, kw_only=True):
    """One open position. A stop or target that is not set is None; `net_profit_cents` holds swap and commission."""

    id: str
    symbol: str
    broker_symbol: str
    side: Side
    volume: Decimal
    open_price: Decimal
    sl_price: Decimal | None
    tp_price: Decimal | None
    opened_at: datetime
    current_price: Decimal
    swap_cents: int
    commission_cents: int
    profit_cents: int
    net_profit_cents: int
    comment: str = ""  # what was said with the order, where the broker shows it


class PendingOrder(Struct, frozen=True, kw_only=True):
    """An order that waits at the broker for its price. A stop or target that is not set is None."""

    id: str
    symbol: str
    broker_symbol: str
    kind: str  # the broker's word: LIMIT or STOP
    side: Side
    volume: Decimal
    activation_price: Decimal
    sl_price: Decimal | None
    tp_price: Decimal | None


class ClosedPosition(Struct, frozen=True, kw_only=True):
    """One row of the history: a close of a position, in whole or in part.

    `id` is the position's, the same in the rows of its parts; `row_id` is uid and closing order, as far as the broker
    says them; `reason` is the broker's word (paper: SL, TP, MANUAL, STOP_OUT).
    """

    id: str
    symbol: str
    broker_symbol: str
    side: Side
    volume: Decimal
    open_price: Decimal
    close_price: Decimal
    opened_at: datetime
    closed_at: datetime
    net_profit_cents: int
    profit_cents: int
    swap_cents: int
    commission_cents: int
    reason: str
    sl_price: Decimal | None = None  # None: the row does not say, or there was none
    tp_price: Decimal | None = None
    comment: str = ""
    row_id: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """Return what makes it one row: rows of one key count once. Two fills may differ in `row_id` only."""
        return self.id, self.row_id, self.closed_at, self.volume, self.net_profit_cents


class Candle(Struct, frozen=True, kw_only=True):
    """One finished bar; `at` is when it began."""

    at: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


class OpenRequest(Struct, frozen=True, kw_only=True):
    """A market order with its stop and target as absolute prices; a `tp_price` of 0 is no target.

    `idempotency_key` and `comment` go with the order where the API has room for them.
    """

    broker_symbol: str
    side: Side
    volume: Decimal
    sl_price: Decimal
    tp_price: Decimal
    idempotency_key: str = ""
    comment: str = ""


class PendingRequest(Struct, frozen=True, kw_only=True):
    """An order that shall wait for its price. Prices are absolute; a stop or target of 0 is none."""

    broker_symbol: str
    kind: Literal["LIMIT", "STOP"]
    side: Side
    volume: Decimal
    activation_price: Decimal
    sl_price: Decimal
    tp_price: Decimal


# ── from one to the other ───────────────────────────────────────────────────
# Each raises ValueError with the field's name; the client turns that into `Unreadable`.


def cents(amount: Decimal, name: str) -> int:
    """Return an amount of money as cents, rounded half to even. Raises ValueError unless it is a sensible number."""
    return int((finite(amount, name) * 100).to_integral_value(ROUND_HALF_EVEN))


def finite(value: Decimal, name: str) -> Decimal:
    """Return `value`. Raises ValueError for NaN, infinity and absurd sizes: JSON strings can hold all three."""
    if not value.is_finite() or abs(value) > AMOUNT_MAX:
        raise ValueError(f"{name} was {value}; expected a finite number")
    return value


def positive(value: Decimal, name: str) -> Decimal:
    """Return `value`. Raises ValueError unless it is above zero."""
    if finite(value, name) <= 0:
        raise ValueError(f"{name} was {value}; expected a number above 0")
    return value


def optional_price(value: Decimal | None, name: str) -> Decimal | None:
    """Return a stop or target; None where the broker says 0 or nothing."""
    return None if value is None or finite(value, name) == 0 else positive(value, name)


def moment(millis: int, name: str) -> datetime:
    """Return epoch milliseconds as a time in UTC. Raises ValueError outside of 2001 to 2999, as for epoch seconds."""
    if not MILLIS_MIN <= millis < MILLIS_END:
        raise ValueError(f"{name} was {millis}; expected epoch milliseconds")
    return datetime.fromtimestamp(millis / 1000, UTC)


def instant(text: str, name: str) -> datetime:
    """Return an RFC 3339 time in UTC. Raises ValueError for anything else, also for a time without a zone."""
    try:
        return clock.parse(text)
    except ValueError as error:
        raise ValueError(f"{name} was {text[:40]!r}; expected an RFC 3339 time with a zone") from error


def side_of(text: str) -> Side:
    """Return BUY or SELL. Raises ValueError for any other word."""
    if text.upper() not in ("BUY", "SELL"):
        raise ValueError(f"side was {text[:20]!r}; expected BUY or SELL")
    return cast(Side, text.upper())


def balance(said: raw.Balance) -> Balance:
    """Return the account in cents."""
    return Balance(
        balance_cents=cents(said.balance, "balance"),
        equity_cents=cents(said.equity, "equity"),
        margin_cents=cents(said.margin, "margin"),
        free_margin_cents=cents(said.free_margin, "freeMargin"),
        currency=said.currency,
    )


def quote(said: raw.Quote, symbol: str) -> Quote:
    """Return the quote. Raises ValueError for prices that no market has."""
    bid, ask = positive(said.bid, f"{said.symbol} bid"), positive(said.ask, f"{said.symbol} ask")
    if ask < bid:
        raise ValueError(f"{said.symbol} ask was {ask}, below its bid {bid}")
    return Quote(symbol=symbol, bid=bid, ask=ask, at=moment(said.timestamp_ms, f"{said.symbol} timestampMs"))


def position(said: raw.Position, symbol: str) -> Position:
    """Return the open position."""
    if said.open_time_millis is not None:
        opened_at = moment(said.open_time_millis, "openTimeMillis")
    elif said.open_time is not None:
        opened_at = instant(said.open_time, "openTime")
    else:
        raise ValueError(f"position {said.id}: neither openTimeMillis nor openTime")
    return Position(
        id=str(said.id),
        symbol=symbol,
        broker_symbol=said.symbol,
        side=side_of(said.side),
        volume=positive(said.volume, "volume"),
        open_price=positive(said.open_price, "openPrice"),
        sl_price=optional_price(said.stop_loss, "stopLoss"),
        tp_price=optional_price(said.take_profit, "takeProfit"),
        opened_at=opened_at,
        current_price=positive(said.current_price, "currentPrice"),
        swap_cents=cents(said.swap, "swap"),
        commission_cents=cents(said.commission, "commission"),
        profit_cents=cents(said.profit, "profit"),
        net_profit_cents=cents(said.net_profit, "netProfit"),
    )


def pending_order(said: raw.Pending, symbol: str) -> PendingOrder:
    """Return the waiting order."""
    return PendingOrder(
        id=str(said.id),
        symbol=symbol,
        broker_symbol=said.symbol,
        kind=said.type,
        side=side_of(said.side),
        volume=positive(said.volume, "volume"),
        activation_price=positive(said.activation_price, "activationPrice"),
        sl_price=optional_price(said.stop_loss, "stopLoss"),
        tp_price=optional_price(said.take_profit, "takeProfit"),
    )


def closed_position(said: raw.Closed, symbol: str) -> ClosedPosition:
    """Return the closed row."""
    return ClosedPosition(
        id=str(said.id),
        symbol=symbol,
        broker_symbol=said.symbol,
        side=side_of(said.side),
        volume=positive(said.volume, "volume"),
        open_price=positive(said.open_price, "openPrice"),
        close_price=positive(said.close_price, "closePrice"),
        opened_at=instant(said.open_time, "openTime"),
        closed_at=instant(said.time, "time"),
        net_profit_cents=cents(said.net_profit, "netProfit"),
        profit_cents=cents(said.profit, "profit"),
        swap_cents=cents(said.swap, "swap"),
        commission_cents=cents(said.commission, "commission"),
        reason=said.close_reason,
        sl_price=optional_price(said.stop_loss, "stopLoss"),
        tp_price=optional_price(said.take_profit, "takeProfit"),
        row_id=raw.row_id(said.uid, said.closing_order_id),
    )


def candle(said: raw.Candle) -> Candle:
    """Return the bar. Raises ValueError when its prices do not make a bar."""
    low, high = positive(said.low, "low"), positive(said.high, "high")
    for name, price in (("open", said.open), ("close", said.close)):
        if not low <= positive(price, name) <= high:
            raise ValueError(f"{name} was {price}, outside of low {low} to high {high}")
    at, volume = moment(said.time, "time"), finite(said.volume, "volume")
    return Candle(at=at, open=said.open, high=high, low=low, close=said.close, volume=volume)


def open_request(order: OpenRequest) -> bytes:
    """Return the body of `position/open`: numbers, exactly as planned."""
    return NUMBERS.encode(
        {
            "instrument": order.broker_symbol, "orderSide": order.side, "volume": order.volume,
            "slPrice": order.sl_price, "tpPrice": order.tp_price, "isMobile": False,
        }
    )  # fmt: skip


def edit_request(held: Position, sl_price: Decimal, tp_price: Decimal) -> bytes:
    """Return the body of `position/edit`: full context, both prices each time."""
    return NUMBERS.encode(
        {
            "id": held.id, "instrument": held.broker_symbol, "orderSide": held.side, "volume": held.volume,
            "slPrice": sl_price, "tpPrice": tp_price, "isMobile": False,
        }
    )  # fmt: skip


def close_request(held: Position) -> bytes:
    """Return the body of `position/close`: the side of the open position, the volume as a string."""
    return NUMBERS.encode(
        {
            "positionId": held.id, "instrument": held.broker_symbol, "orderSide": held.side,
            "volume": format(held.volume, "f"),
        }
    )  # fmt: skip


def close_partially_request(held: Position, volume: Decimal) -> bytes:
    """Return the body of `position/close-partially`: as of a close, but the volume to close as a number."""
    return NUMBERS.encode(
        {"positionId": held.id, "instrument": held.broker_symbol, "orderSide": held.side, "volume": volume}
    )


def create_pending_request(order: PendingRequest) -> bytes:
    """Return the body of `pending-order/create`. Source of `price`: public clients; the documents name no body."""
    return NUMBERS.encode(
        {
            "instrument": order.broker_symbol, "orderSide": order.side, "volume": order.volume, "type": order.kind,
            "price": order.activation_price, "slPrice": order.sl_price, "tpPrice": order.tp_price, "isMobile": False,
        }
    )  # fmt: skip


def edit_pending_request(
    waiting: PendingOrder, activation_price: Decimal, sl_price: Decimal, tp_price: Decimal
) -> bytes:
    """Return the body of `pending-order/edit`: full context; the price is called `priceOrder` here."""
    return NUMBERS.encode(
        {
            "id": waiting.id, "instrument": waiting.broker_symbol, "orderSide": waiting.side, "type": waiting.kind,
            "volume": waiting.volume, "priceOrder": activation_price, "slPrice": sl_price, "tpPrice": tp_price,
            "isMobile": False,
        }
    )  # fmt: skip


def cancel_pending_request(waiting: PendingOrder) -> bytes:
    """Return the body of `pending-order/cancel`."""
    return NUMBERS.encode(
        {
            "id": waiting.id, "instrument": waiting.broker_symbol, "orderSide": waiting.side, "type": waiting.kind,
            "isMobile": False,
        }
    )  # fmt: skip


NUMBERS = msgspec.json.Encoder(decimal_format="number")
