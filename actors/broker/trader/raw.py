"""The Trader API's answers as typed structs, as they come, and what we make of them.

Used by `trader.client` only; does no I/O. Numbers may arrive as strings; fields we do not know are ignored; a needed
field that is missing is named in the error. Stop and target are needed although they may be null: a field of another
name must not be taken for a position without a stop.
Source: https://app.theneo.io/match-trade/trader-api, which shows the lists' names and the requests, but hides the
fields of a row; those are named as in Match-Trader's other APIs. Times are epoch milliseconds, as integers.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec
from msgspec import field

from actors.broker import raw, wire
from actors.broker.raw import Said
from actors.broker.wire import Balance, ClosedPosition, PendingOrder, Position, Quote


class Account(Said, frozen=True):
    """The account that the token is for."""

    login: str | int
    balance: Decimal
    equity: Decimal
    margin: Decimal
    free_margin: Decimal
    currency: str


class Instruments(Said, frozen=True):
    instruments: tuple[msgspec.Raw, ...]


class Quotes(Said, frozen=True):
    quotes: tuple[raw.Quote, ...]


class HeldRow(Said, frozen=True):
    """One open position."""

    id: str | int
    symbol: str
    side: str
    volume: Decimal
    open_price: Decimal
    current_price: Decimal
    open_time: int
    profit: Decimal
    net_profit: Decimal
    stop_loss: Decimal | None = field(name="slPrice")
    take_profit: Decimal | None = field(name="tpPrice")
    swap: Decimal = Decimal(0)
    commission: Decimal = Decimal(0)
    comment: str | None = None


class Positions(Said, frozen=True):
    positions: tuple[HeldRow, ...]


class ClosedRow(Said, frozen=True):
    """One closed position, or a part of one."""

    id: str | int
    symbol: str
    side: str
    volume: Decimal
    open_price: Decimal
    close_price: Decimal
    open_time: int
    close_time: int
    profit: Decimal
    net_profit: Decimal
    swap: Decimal = Decimal(0)
    commission: Decimal = Decimal(0)
    close_reason: str = ""
    stop_loss: Decimal | None = field(name="slPrice", default=None)
    take_profit: Decimal | None = field(name="tpPrice", default=None)
    uid: str | int = ""
    closing_order_id: str | int = ""
    comment: str | None = None


class ClosedPositions(Said, frozen=True):
    closed_positions: tuple[ClosedRow, ...]


class WaitingRow(Said, frozen=True):
    """An order that waits for its price."""

    id: str | int
    symbol: str
    side: str
    type: str
    volume: Decimal
    activation_price: Decimal
    stop_loss: Decimal | None = field(name="slPrice")
    take_profit: Decimal | None = field(name="tpPrice")


class PendingOrders(Said, frozen=True):
    pending_orders: tuple[WaitingRow, ...]


class Opened(Said, frozen=True):
    """The 201 of an order. Source: "Open Position" in the API's documentation."""

    position_id: str | int


class Waits(Said, frozen=True):
    """The 201 of a waiting order. Source: "Create Pending Order" in the API's documentation."""

    pending_order_id: str | int


# ── from one to the other; each raises ValueError with the field's name ──────


def balance(said: Account) -> Balance:
    """Return the account in cents."""
    return Balance(
        balance_cents=wire.cents(said.balance, "balance"),
        equity_cents=wire.cents(said.equity, "equity"),
        margin_cents=wire.cents(said.margin, "margin"),
        free_margin_cents=wire.cents(said.free_margin, "freeMargin"),
        currency=said.currency,
    )


def quote(said: raw.Quote, symbol: str) -> Quote:
    """Return the quote. Raises ValueError for prices that no market has."""
    return wire.quote(said, symbol)


def position(said: HeldRow, symbol: str) -> Position:
    """Return the open position."""
    return Position(
        id=str(said.id),
        symbol=symbol,
        broker_symbol=said.symbol,
        side=wire.side_of(said.side),
        volume=wire.positive(said.volume, "volume"),
        open_price=wire.positive(said.open_price, "openPrice"),
        sl_price=wire.optional_price(said.stop_loss, "slPrice"),
        tp_price=wire.optional_price(said.take_profit, "tpPrice"),
        opened_at=wire.moment(said.open_time, "openTime"),
        current_price=wire.positive(said.current_price, "currentPrice"),
        swap_cents=wire.cents(said.swap, "swap"),
        commission_cents=wire.cents(said.commission, "commission"),
        profit_cents=wire.cents(said.profit, "profit"),
        net_profit_cents=wire.cents(said.net_profit, "netProfit"),
        comment=said.comment or "",
    )


def closed_position(said: ClosedRow, symbol: str) -> ClosedPosition:
    """Return the closed row."""
    return ClosedPosition(
        id=str(said.id),
        symbol=symbol,
        broker_symbol=said.symbol,
        side=wire.side_of(said.side),
        volume=wire.positive(said.volume, "volume"),
        open_price=wire.positive(said.open_price, "openPrice"),
        close_price=wire.positive(said.close_price, "closePrice"),
        opened_at=wire.moment(said.open_time, "openTime"),
        closed_at=wire.moment(said.close_time, "closeTime"),
        net_profit_cents=wire.cents(said.net_profit, "netProfit"),
        profit_cents=wire.cents(said.profit, "profit"),
        swap_cents=wire.cents(said.swap, "swap"),
        commission_cents=wire.cents(said.commission, "commission"),
        reason=said.close_reason,
        sl_price=wire.optional_price(said.stop_loss, "slPrice"),
        tp_price=wire.optional_price(said.take_profit, "tpPrice"),
        comment=said.comment or "",
        row_id=raw.row_id(said.uid, said.closing_order_id),
    )


def pending_order(said: WaitingRow, symbol: str) -> PendingOrder:
    """Return the waiting order."""
    return PendingOrder(
        id=str(said.id),
        symbol=symbol,
        broker_symbol=said.symbol,
        kind=said.type,
        side=wire.side_of(said.side),
        volume=wire.positive(said.volume, "volume"),
        activation_price=wire.positive(said.activation_price, "activationPrice"),
        sl_price=wire.optional_price(said.stop_loss, "slPrice"),
        tp_price=wire.optional_price(said.take_profit, "tpPrice"),
    )


def millis(moment: datetime) -> int:
    """Return a time as the API wants it in a query."""
    return int(moment.timestamp() * 1_000)
