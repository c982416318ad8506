"""What the paper account is made of: terms, prices, positions, orders, and the events that change them. Pure.

Used by every part of the paper broker. Decides nothing: see `book` and `pending`. An event's fields are the account
file's; new ones need a default, or an account of yesterday is unreadable.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal

from msgspec import Struct

from bus.vocabulary import Side

HISTORY_MAX = 10_000
NONE = Decimal(0)  # a stop or target that is not set

Reason = Literal["SL", "TP", "MANUAL", "STOP_OUT"]
Kind = Literal["LIMIT", "STOP"]


class Terms(Struct, frozen=True, kw_only=True):
    """What can be traded and how. `symbol` is the broker's name."""

    symbol: str
    base_currency: str
    quote_currency: str
    price_precision: int
    volume_min: Decimal
    volume_max: Decimal
    volume_step: Decimal
    contract_size: Decimal
    leverage: int
    stops_level: int  # points
    freeze_level: int = 0  # points from the price within which stops and orders cannot be changed
    swap_buy: Decimal = NONE  # points a lot and night; below 0 is what it costs
    swap_sell: Decimal = NONE

    @property
    def point(self) -> Decimal:
        return Decimal(1).scaleb(-self.price_precision)


class Price(Struct, frozen=True):
    """Bid and ask."""

    bid: Decimal
    ask: Decimal


Quoted = tuple[dict[str, Price], dict[str, Decimal]]  # bid and ask by symbol, worth by currency


class Market(Struct, frozen=True, kw_only=True):
    """One instant. `rates` is the worth of one unit of each currency in the account's currency.

    `at_ms` is the broker's clock, `calendar_ms` where the simulated calendar stands, both in epoch milliseconds;
    `shut` are the symbols that are not traded although the market `is_open`.
    """

    at_ms: int
    is_open: bool
    prices: Mapping[str, Price]
    rates: Mapping[str, Decimal]
    calendar_ms: int = 0
    shut: frozenset[str] = frozenset()

    def trades(self, symbol: str) -> bool:
        """Return whether a symbol is traded now."""
        return self.is_open and symbol not in self.shut


class Rules(Struct, frozen=True, kw_only=True):
    """The house's rules. `terms` is by broker symbol; the commission is a lot's round turn, in account currency.

    Below `margin_call_level` (equity by margin) no order is taken, below `stop_out_level` positions are closed.
    """

    terms: Mapping[str, Terms]
    commission_per_lot: Decimal
    margin_call_level: Decimal = Decimal(1)
    stop_out_level: Decimal = Decimal("0.5")


class Holding(Struct, frozen=True, kw_only=True):
    """One open position. A stop or target of 0 is none; `commission_cents` is what it cost, 0 or below.

    Swaps are booked up to the calendar's `rolled_ms`; 0 in accounts of old: since it was opened.
    """

    id: str
    symbol: str
    side: Side
    volume: Decimal
    open_price: Decimal
    sl_price: Decimal
    tp_price: Decimal
    opened_ms: int
    commission_cents: int
    swap_cents: int = 0
    rolled_ms: int = 0
    comment: str = ""  # as it came with the order
    key: str = ""  # of the order that it came from, see `trader_keys`


class Waiting(Struct, frozen=True, kw_only=True):
    """One order that waits for its price. The position it becomes has its id."""

    id: str
    kind: Kind
    symbol: str
    side: Side
    volume: Decimal
    activation_price: Decimal
    sl_price: Decimal
    tp_price: Decimal
    created_ms: int
    receipt: int = 0


class Operation(Struct, frozen=True, kw_only=True):
    """One closed row: a whole position or a part of it."""

    id: str
    closing_order_id: str
    symbol: str
    side: Side
    volume: Decimal
    open_price: Decimal
    close_price: Decimal
    opened_ms: int
    closed_ms: int
    profit_cents: int
    commission_cents: int
    reason: Reason
    swap_cents: int = 0
    comment: str = ""
    key: str = ""

    @property
    def net_profit_cents(self) -> int:
        return self.profit_cents + self.commission_cents + self.swap_cents


class Book(Struct, frozen=True, kw_only=True):
    """The whole account."""

    balance_cents: int
    holdings: tuple[Holding, ...] = ()
    history: tuple[Operation, ...] = ()  # the newest `history_max`
    next_id: int = 1_000_001
    orders: tuple[Waiting, ...] = ()
    history_max: int = HISTORY_MAX


class Account(Struct, frozen=True, kw_only=True):
    """What the account is worth at one instant, in cents."""

    balance_cents: int
    profit_cents: int
    net_profit_cents: int
    margin_cents: int

    @property
    def equity_cents(self) -> int:
        return self.balance_cents + self.net_profit_cents

    @property
    def free_margin_cents(self) -> int:
        return self.equity_cents - self.margin_cents

    def is_below(self, level: Decimal) -> bool:
        """Return whether equity has fallen below this part of the margin. Never without a position."""
        return self.margin_cents > 0 and self.equity_cents < level * self.margin_cents


class Order(Struct, frozen=True, kw_only=True):
    """A market order as it came in. Nothing is checked yet."""

    symbol: str
    side: Side
    volume: Decimal
    sl_price: Decimal = NONE
    tp_price: Decimal = NONE
    comment: str = ""
    key: str = ""


class PendingOrder(Struct, frozen=True, kw_only=True):
    """An order that shall wait for its price, as it came in. Nothing is checked yet."""

    kind: Kind
    symbol: str
    side: Side
    volume: Decimal
    activation_price: Decimal
    sl_price: Decimal = NONE
    tp_price: Decimal = NONE


# ── events ──────────────────────────────────────────────────────────────────


class Opened(Struct, frozen=True, tag=True):
    """A position exists from now on. `receipt` is the number of the order that it came from; 0: not known.

    With the id of a waiting order, it is what that order became.
    """

    holding: Holding
    receipt: int = 0


class Edited(Struct, frozen=True, tag=True):
    """Stop and target of a position are these from now on."""

    id: str
    sl_price: Decimal
    tp_price: Decimal


class Closed(Struct, frozen=True, tag=True):
    """A position, or `operation.volume` of it, is closed."""

    operation: Operation


class Created(Struct, frozen=True, tag=True):
    """An order waits for its price from now on."""

    order: Waiting


class Changed(Struct, frozen=True, tag=True):
    """Price, stop and target of a waiting order are these from now on."""

    id: str
    activation_price: Decimal
    sl_price: Decimal
    tp_price: Decimal


class Cancelled(Struct, frozen=True, tag=True):
    """A waiting order is gone. `reason` is MANUAL, or why its price was reached and nothing was opened."""

    id: str
    reason: str


class Rolled(Struct, frozen=True, tag=True):
    """Swaps are booked up to the calendar's `until_ms`: `swap_cents` by position; nothing for those not in it."""

    until_ms: int
    nights: int  # charged; Wednesday's count for three
    swap_cents: dict[str, int]


Event = Opened | Edited | Closed | Created | Changed | Cancelled | Rolled


class Rejected(Struct, frozen=True):
    """The broker says no; nothing changed."""

    code: str
    message: str


def in_cents(amount: Decimal) -> int:
    """Return an amount of the account's currency in cents, half to even."""
    return int((amount * 100).to_integral_value(ROUND_HALF_EVEN))
