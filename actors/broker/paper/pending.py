"""Orders that wait for their price: taken, changed, cancelled, and filled or dropped when it comes. Pure.

Run by the paper broker through `venue`; events and their meaning are in `values`, what they do to the account in
`book`. A limit is filled at its level or better, a stop at the market, which after a gap is worse. Orders do not
expire.
"""

from __future__ import annotations

from decimal import Decimal

from actors.broker.paper import book as books
from actors.broker.paper.values import (
    Book,
    Cancelled,
    Changed,
    Created,
    Market,
    Opened,
    Order,
    PendingOrder,
    Price,
    Rejected,
    Rules,
    Terms,
    Waiting,
)
from bus.vocabulary import Side

ORDERS_MAX = 500


def create(book: Book, rules: Rules, market: Market, asked: PendingOrder, receipt: int = 0) -> Created | Rejected:
    """Return the order as it waits from now on, or why not. `receipt` is the number it came in under."""
    terms = rules.terms.get(asked.symbol)
    if terms is None:
        return Rejected("INSTRUMENT_NOT_FOUND", f"there is no instrument {asked.symbol[:40]!r}")
    if not market.trades(asked.symbol):
        return Rejected("MARKET_CLOSED", f"{asked.symbol} is not traded now")
    if len(book.orders) >= ORDERS_MAX:
        return Rejected("TOO_MANY_ORDERS", f"{ORDERS_MAX} orders wait")
    if refusal := books.refused_volume(asked.volume, terms) or books.margin_call(book, rules, market):
        return refusal
    made = Waiting(
        id=str(book.next_id),
        kind=asked.kind,
        symbol=asked.symbol,
        side=asked.side,
        volume=asked.volume,
        activation_price=asked.activation_price,
        sl_price=asked.sl_price,
        tp_price=asked.tp_price,
        created_ms=market.at_ms,
        receipt=receipt,
    )
    refusal = _refused_prices(terms, market, made, asked.activation_price, asked.sl_price, asked.tp_price)
    return refusal or Created(made)


def edit(
    book: Book,
    rules: Rules,
    market: Market,
    order_id: str,
    activation_price: Decimal,
    sl_price: Decimal,
    tp_price: Decimal,
) -> Changed | Rejected:
    """Return the new price, stop and target of a waiting order, or why not."""
    found = _touchable(book, rules, market, order_id)
    if isinstance(found, Rejected):
        return found
    refusal = _refused_prices(rules.terms[found.symbol], market, found, activation_price, sl_price, tp_price)
    return refusal or Changed(found.id, activation_price, sl_price, tp_price)


def cancel(book: Book, rules: Rules, market: Market, order_id: str) -> Cancelled | Rejected:
    """Return the end of a waiting order, or why not."""
    found = _touchable(book, rules, market, order_id)
    return found if isinstance(found, Rejected) else Cancelled(found.id, "MANUAL")


def trigger(book: Book, rules: Rules, market: Market) -> tuple[Opened | Cancelled, ...]:
    """Return what becomes of the orders whose price has come, oldest first: a position, or nothing and why."""
    events: list[Opened | Cancelled] = []
    for waiting in book.orders:
        if not (market.trades(waiting.symbol) and _is_reached(waiting, market.prices[waiting.symbol])):
            continue
        order = Order(
            symbol=waiting.symbol,
            side=waiting.side,
            volume=waiting.volume,
            sl_price=waiting.sl_price,
            tp_price=waiting.tp_price,
        )
        decided = books.filled(book, rules, market, waiting.id, order)
        if isinstance(decided, Rejected):
            events.append(Cancelled(waiting.id, decided.code))
        else:
            events.append(Opened(decided.holding, waiting.receipt))
        book = books.apply(book, events[-1])
    return tuple(events)


def find(book: Book, order_id: str) -> Waiting:
    """Return the waiting order. Raises KeyError when there is none with this id."""
    for waiting in book.orders:
        if waiting.id == order_id:
            return waiting
    raise KeyError(order_id)


# ── inside ──────────────────────────────────────────────────────────────────


def _touchable(book: Book, rules: Rules, market: Market, order_id: str) -> Waiting | Rejected:
    try:
        found = find(book, order_id)
    except KeyError:
        return Rejected("ORDER_NOT_FOUND", f"there is no waiting order {order_id[:40]!r}")
    if not market.trades(found.symbol):
        return Rejected("MARKET_CLOSED", f"{found.symbol} is not traded now")
    price = _opening(market.prices[found.symbol], found.side)
    return books.frozen(rules.terms[found.symbol], found.activation_price, price) or found


def _opening(price: Price, side: Side) -> Decimal:
    return price.ask if side == "BUY" else price.bid


def _waits_below(order: Waiting) -> bool:
    """Return whether the order waits for a price lower than now's."""
    return (order.kind == "LIMIT") == (order.side == "BUY")


def _is_reached(order: Waiting, price: Price) -> bool:
    opens_at = _opening(price, order.side)
    return opens_at <= order.activation_price if _waits_below(order) else opens_at >= order.activation_price


def _refused_prices(
    terms: Terms, market: Market, order: Waiting, level: Decimal, sl_price: Decimal, tp_price: Decimal
) -> Rejected | None:
    """Return why the order cannot wait at this level with this stop and target."""
    if level <= 0 or level != level.quantize(terms.point):
        return Rejected("INVALID_PRICE", f"price was {level}; above 0, at most {terms.price_precision} decimals")
    opens_at = _opening(market.prices[order.symbol], order.side)
    away = opens_at - level if _waits_below(order) else level - opens_at
    what = f"{order.side} {order.kind}"
    if away <= 0:
        wanted = "below" if _waits_below(order) else "above"
        return Rejected("INVALID_PRICE", f"price {level} of a {what} must be {wanted} {opens_at}")
    nearest = terms.stops_level * terms.point
    if away < nearest:
        return Rejected("PRICE_TOO_CLOSE", f"price {level} of a {what} is closer to {opens_at} than {nearest}")
    # Where the order is filled, its stop and target must make sense: not where the price is today.
    return books.refused_stops(terms, Price(level, level), order.side, sl_price, tp_price)
