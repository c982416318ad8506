"""Match-Trader's answers as typed structs, as they come. `wire` makes our values of them.

Used by the broker library only; does no I/O. Numbers arrive as strings or as numbers and become Decimal; fields we do
not know are ignored; a needed field that is missing is named in the error.
Source of the shapes: the Platform API as documented by Match-Trader and seen in public clients.
"""

from __future__ import annotations

import re
from decimal import Decimal

import msgspec
from msgspec import Raw, Struct, field

# What decoding somebody's bytes can raise; ValidationError is a DecodeError. Brackets within brackets go too deep.
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
HEADER_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")  # printable ASCII, no blank at either end


class Said(Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of the broker's structs."""


class System(Said, frozen=True):
    uuid: str


class Offer(Said, frozen=True):
    system: System
    currency: str = ""


class Account(Said, frozen=True):
    trading_account_id: str | int
    trading_api_token: str
    offer: Offer


class Login(Said, frozen=True):
    """The answer to a login. The list of accounts has one of two names."""

    token: str
    accounts: tuple[Account, ...] = ()
    trading_accounts: tuple[Account, ...] = ()


class Refreshed(Said, frozen=True):
    """The answer to a refresh, which may also be none: then the cookies say all. Accounts are rarely listed."""

    token: str = ""
    accounts: tuple[Account, ...] = ()
    trading_accounts: tuple[Account, ...] = ()


class PlatformDetails(Said, frozen=True):
    partner_id: str | int


class Balance(Said, frozen=True):
    balance: Decimal
    equity: Decimal
    margin: Decimal
    free_margin: Decimal
    currency: str


class Named(Said, frozen=True):
    symbol: str


class Hours(Said, frozen=True):
    """When one weekday's session begins and ends. `day_number` 0 is Sunday; in which zone is not documented."""

    day_number: int
    open_hours: int
    close_hours: int
    open_minutes: int = 0
    open_seconds: int = 0
    close_minutes: int = 0
    close_seconds: int = 0


class Instrument(Said, frozen=True):
    symbol: str
    base_currency: str
    quote_currency: str
    price_precision: int
    volume_min: Decimal
    volume_max: Decimal
    volume_step: Decimal
    contract_size: Decimal
    session_open: bool
    leverage: Decimal | None = None
    stops_level: Decimal = Decimal(0)
    trading_hours: Raw = Raw(b"null")  # only shown to people: an odd one must not hide an instrument


class Quote(Said, frozen=True):
    symbol: str
    bid: Decimal
    ask: Decimal
    timestamp_ms: int = field(name="timestampMs")


class Position(Said, frozen=True):
    id: str | int
    symbol: str
    volume: Decimal
    side: str
    open_price: Decimal
    current_price: Decimal
    profit: Decimal
    net_profit: Decimal
    swap: Decimal = Decimal(0)
    commission: Decimal = Decimal(0)
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    open_time: str | None = None
    open_time_millis: int | None = None


class Positions(Said, frozen=True):
    positions: tuple[Position, ...]


class Pending(Said, frozen=True):
    """An order that waits for its price."""

    id: str | int
    symbol: str
    volume: Decimal
    type: str
    side: str
    activation_price: Decimal
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None


class PendingOrders(Said, frozen=True):
    orders: tuple[Pending, ...]


class Closed(Said, frozen=True):
    """A closed row. `time` is when it closed, `id` the position's id: not positionId, not closeTime."""

    id: str | int
    symbol: str
    volume: Decimal
    side: str
    open_time: str
    time: str
    open_price: Decimal
    close_price: Decimal
    profit: Decimal
    net_profit: Decimal
    swap: Decimal = Decimal(0)
    commission: Decimal = Decimal(0)
    close_reason: str = ""
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    uid: str | int = ""
    closing_order_id: str | int = field(name="closingOrderID", default="")


def row_id(uid: str | int, closing_order_id: str | int) -> str:
    """Return what the broker tells the rows of one position apart by; empty where it says nothing.

    Whether a uid is the row's or the position's is not documented: it alone makes no two rows one.
    """
    return " ".join(filter(None, (str(uid), str(closing_order_id))))


class Operations(Said, frozen=True):
    operations: tuple[Closed, ...]


class Candle(Said, frozen=True):
    time: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal = Decimal(0)


class Candles(Said, frozen=True):
    candles: tuple[Candle, ...]


class Written(Said, frozen=True):
    """The answer to a write. Success is `status` OK; for an open also an `order_id`."""

    status: str = ""
    native_code: str | int | None = None
    error_message: str | None = None
    error_code: str | None = None
    order_id: str | int | None = None

    def reason(self) -> str:
        """Return the broker's words for a refusal."""
        said = [str(part) for part in (self.native_code, self.error_code, self.error_message) if part]
        return ": ".join(dict.fromkeys(said)) or "no reason given"
