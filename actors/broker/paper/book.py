"""The paper account: orders in, events out, money in cents. Pure.

Run by the paper broker through `venue`. Every change is an event: `open_position` and its sisters decide, `apply`
does. Replaying the same events gives the same book. Bought at the ask and closed at the bid, sold at the bid and
closed at the ask; a stop that the price jumped over is filled at the worse price, a target never at a better one.
Commission is per lot for the round turn and is booked when the position opens. No swap is charged.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal

from msgspec import Struct, structs

from bus.vocabulary import Side

POSITIONS_MAX = 1_000
HISTORY_MAX = 10_000
NONE = Decimal(0)  # a stop or target that is not set
STOP_OUT_LEVEL = Decimal("0.5")  # equity / margin below which the broker closes positions

Reason = Literal["SL", "TP", "MANUAL", "STOP_OUT"]


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

    @property
    def point(self) -> Decimal:
        return Decimal(1).scaleb(-self.price_precision)


class Price(Struct, frozen=True):
    """Bid and ask."""

    bid: Decimal
    ask: Decimal


class Market(Struct, frozen=True, kw_only=True):
    """One instant. `rates` is the worth of one unit of each currency in the account's currency."""

    at_ms: int
    is_open: bool
    prices: Mapping[str, Price]
    rates: Mapping[str, Decimal]


class Rules(Struct, frozen=True, kw_only=True):
    """The house's rules. `terms` is by broker symbol; the commission is a lot's round turn, in account currency."""

    terms: Mapping[str, Terms]
    commission_per_lot: Decimal


class Holding(Struct, frozen=True, kw_only=True):
    """One open position. A stop or target of 0 is none; `commission_cents` is what it cost, 0 or below."""

    id: str
    symbol: str
    side: Side
    volume: Decimal
    open_price: Decimal
    sl_price: Decimal
    tp_price: Decimal
    opened_ms: int
    commission_cents: int
    comment: str = ""  # as it came with the order
    key: str = ""  # of the order that it came from, see `trader_keys`


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
    comment: str = ""
    key: str = ""

    @property
    def net_profit_cents(self) -> int:
        return self.profit_cents + self.commission_cents


class Book(Struct, frozen=True, kw_only=True):
    """The whole account."""

    balance_cents: int
    holdings: tuple[Holding, ...] = ()
    history: tuple[Operation, ...] = ()  # the newest `HISTORY_MAX`
    next_id: int = 1_000_001


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


class Order(Struct, frozen=True, kw_only=True):
    """A market order as it came in. Nothing is checked yet."""

    symbol: str
    side: Side
    volume: Decimal
    sl_price: Decimal = NONE
    tp_price: Decimal = NONE
    comment: str = ""
    key: str = ""


# ── events ──────────────────────────────────────────────────────────────────


class Opened(Struct, frozen=True, tag=True):
    """A position exists from now on. `receipt` is the number of the order that it came from; 0: not known."""

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


Event = Opened | Edited | Closed


class Rejected(Struct, frozen=True):
    """The broker says no; nothing changed."""

    code: str
    message: str


def apply(book: Book, event: Event) -> Book:
    """Return the book after the event. Raises KeyError for an event of a position that is not open."""
    if isinstance(event, Opened):
        return structs.replace(book, holdings=(*book.holdings, event.holding), next_id=int(event.holding.id) + 1)
    if isinstance(event, Edited):
        held = find(book, event.id)
        edited = structs.replace(held, sl_price=event.sl_price, tp_price=event.tp_price)
        return structs.replace(book, holdings=tuple(edited if one is held else one for one in book.holdings))
    done = event.operation
    held = find(book, done.id)
    left = structs.replace(
        held, volume=held.volume - done.volume, commission_cents=held.commission_cents - done.commission_cents
    )
    others = tuple(left if one is held else one for one in book.holdings if one is not held or left.volume > 0)
    return Book(
        balance_cents=book.balance_cents + done.net_profit_cents,
        holdings=others,
        history=(*book.history, done)[-HISTORY_MAX:],
        next_id=int(done.closing_order_id) + 1,
    )


def find(book: Book, position_id: str) -> Holding:
    """Return the open position. Raises KeyError when there is none with this id."""
    for held in book.holdings:
        if held.id == position_id:
            return held
    raise KeyError(position_id)


# ── decisions ───────────────────────────────────────────────────────────────


def open_position(book: Book, rules: Rules, market: Market, order: Order) -> Opened | Rejected:
    """Return the position that the order becomes, or why not."""
    terms = rules.terms.get(order.symbol)
    if terms is None:
        return Rejected("INSTRUMENT_NOT_FOUND", f"there is no instrument {order.symbol[:40]!r}")
    if not market.is_open:
        return Rejected("MARKET_CLOSED", f"{order.symbol} is not traded now")
    if len(book.holdings) >= POSITIONS_MAX:
        return Rejected("TOO_MANY_POSITIONS", f"{POSITIONS_MAX} positions are open")
    if not _is_volume(order.volume, terms.volume_max, terms):
        allowed = f"{terms.volume_min} to {terms.volume_max} in steps of {terms.volume_step}"
        return Rejected("INVALID_VOLUME", f"volume was {order.volume}; allowed {allowed}")
    price = market.prices[order.symbol]
    if refusal := _refused_stops(terms, price, order.side, order.sl_price, order.tp_price):
        return refusal
    held = Holding(
        id=str(book.next_id),
        symbol=order.symbol,
        side=order.side,
        volume=order.volume,
        open_price=price.ask if order.side == "BUY" else price.bid,
        sl_price=order.sl_price,
        tp_price=order.tp_price,
        opened_ms=market.at_ms,
        commission_cents=-in_cents(order.volume * rules.commission_per_lot),
        comment=order.comment,
        key=order.key,
    )
    after = account(structs.replace(book, holdings=(*book.holdings, held)), rules, market)
    if after.free_margin_cents < 0:
        return Rejected("NOT_ENOUGH_MONEY", f"free margin would be {Decimal(after.free_margin_cents) / 100}")
    return Opened(held)


def edit_position(
    book: Book, rules: Rules, market: Market, position_id: str, sl_price: Decimal, tp_price: Decimal
) -> Edited | Rejected:
    """Return the new stop and target, or why not."""
    try:
        held = find(book, position_id)
    except KeyError:
        return Rejected("POSITION_NOT_FOUND", f"there is no open position {position_id[:40]!r}")
    if not market.is_open:
        return Rejected("MARKET_CLOSED", f"{held.symbol} is not traded now")
    refusal = _refused_stops(rules.terms[held.symbol], market.prices[held.symbol], held.side, sl_price, tp_price)
    return refusal or Edited(held.id, sl_price, tp_price)


def close_position(
    book: Book,
    rules: Rules,
    market: Market,
    position_id: str,
    volume: Decimal | None = None,
    *,
    reason: Reason = "MANUAL",
) -> Closed | Rejected:
    """Return the close of a position, or of `volume` lots of it, at the market; or why not."""
    try:
        held = find(book, position_id)
    except KeyError:
        return Rejected("POSITION_NOT_FOUND", f"there is no open position {position_id[:40]!r}")
    if not market.is_open:
        return Rejected("MARKET_CLOSED", f"{held.symbol} is not traded now")
    part = held.volume if volume is None else volume
    if part != held.volume and not _is_volume(part, held.volume, rules.terms[held.symbol]):
        return Rejected("INVALID_VOLUME", f"volume was {part}; the position has {held.volume}")
    return _closed(book, rules, market, held, closing_price(held, market), reason, part)


def settle(book: Book, rules: Rules, market: Market) -> tuple[Closed, ...]:
    """Return every close that this instant forces: stops, targets, and a margin call. Nothing while closed."""
    events: list[Closed] = []
    if not market.is_open:
        return ()
    for held in book.holdings:
        hit = _hit(held, closing_price(held, market))
        if hit is not None:
            events.append(_closed(book, rules, market, held, hit[0], hit[1], held.volume))
            book = apply(book, events[-1])
    while book.holdings and _is_stopped_out(account(book, rules, market)):
        worst = min(book.holdings, key=lambda held: profit_cents(held, rules, market, closing_price(held, market)))
        events.append(_closed(book, rules, market, worst, closing_price(worst, market), "STOP_OUT", worst.volume))
        book = apply(book, events[-1])
    return tuple(events)


# ── sums ────────────────────────────────────────────────────────────────────


def account(book: Book, rules: Rules, market: Market) -> Account:
    """Return balance, floating profit and margin."""
    profits = [profit_cents(held, rules, market, closing_price(held, market)) for held in book.holdings]
    return Account(
        balance_cents=book.balance_cents,
        profit_cents=sum(profits),
        net_profit_cents=sum(profits) + sum(held.commission_cents for held in book.holdings),
        margin_cents=sum(margin_cents(held, rules, market) for held in book.holdings),
    )


def closing_price(held: Holding, market: Market) -> Decimal:
    """Return the price at which the position would be closed now: the bid of a buy, the ask of a sell."""
    price = market.prices[held.symbol]
    return price.bid if held.side == "BUY" else price.ask


def profit_cents(held: Holding, rules: Rules, market: Market, price: Decimal, volume: Decimal | None = None) -> int:
    """Return the profit at `price` before commission: price distance x lots x contract, in the account's currency."""
    terms = rules.terms[held.symbol]
    distance = price - held.open_price if held.side == "BUY" else held.open_price - price
    lots = held.volume if volume is None else volume
    return in_cents(distance * lots * terms.contract_size * market.rates[terms.quote_currency])


def margin_cents(held: Holding, rules: Rules, market: Market) -> int:
    """Return the margin: the position's worth in the account's currency, by the leverage."""
    terms = rules.terms[held.symbol]
    return in_cents(held.volume * terms.contract_size * market.rates[terms.base_currency] / terms.leverage)


def in_cents(amount: Decimal) -> int:
    """Return an amount of the account's currency in cents, half to even."""
    return int((amount * 100).to_integral_value(ROUND_HALF_EVEN))


# ── inside ──────────────────────────────────────────────────────────────────


def _is_volume(volume: Decimal, volume_max: Decimal, terms: Terms) -> bool:
    return terms.volume_min <= volume <= volume_max and volume % terms.volume_step == 0


def _refused_stops(terms: Terms, price: Price, side: Side, sl: Decimal, tp: Decimal) -> Rejected | None:
    """Return why the broker does not take this stop and target. Distances are from the price that closes."""
    closes_at = price.bid if side == "BUY" else price.ask
    sign = 1 if side == "BUY" else -1
    nearest = terms.stops_level * terms.point
    for name, level, distance in (("SL", sl, sign * (closes_at - sl)), ("TP", tp, sign * (tp - closes_at))):
        if level == 0:
            continue
        if level < 0 or level != level.quantize(terms.point):
            return Rejected("INVALID_PRICE", f"{name} was {level}; at most {terms.price_precision} decimals")
        if distance <= 0:
            return Rejected("INVALID_STOPS", f"{name} {level} is on the wrong side of {closes_at} for a {side}")
        if distance < nearest:
            return Rejected("STOPS_TOO_CLOSE", f"{name} {level} is closer to {closes_at} than {nearest}")
    return None


def _hit(held: Holding, price: Decimal) -> tuple[Decimal, Reason] | None:
    """Return the fill of a stop or target that `price` reached: the market's for a stop, never better for a target."""
    sign = 1 if held.side == "BUY" else -1
    if held.sl_price and sign * (price - held.sl_price) <= 0:
        return price, "SL"
    if held.tp_price and sign * (price - held.tp_price) >= 0:
        return held.tp_price, "TP"
    return None


def _is_stopped_out(worth: Account) -> bool:
    return worth.margin_cents > 0 and worth.equity_cents < STOP_OUT_LEVEL * worth.margin_cents


def _closed(
    book: Book, rules: Rules, market: Market, held: Holding, price: Decimal, reason: Reason, volume: Decimal
) -> Closed:
    return Closed(
        Operation(
            id=held.id,
            closing_order_id=str(book.next_id),
            symbol=held.symbol,
            side=held.side,
            volume=volume,
            open_price=held.open_price,
            close_price=price,
            opened_ms=held.opened_ms,
            closed_ms=market.at_ms,
            profit_cents=profit_cents(held, rules, market, price, volume),
            commission_cents=int((held.commission_cents * volume / held.volume).to_integral_value(ROUND_HALF_EVEN)),
            reason=reason,
            comment=held.comment,
            key=held.key,
        )
    )
