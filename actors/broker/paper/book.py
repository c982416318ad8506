"""The paper account: orders in, events out, money in cents. Pure.

Run by the paper broker through `venue`. Every change is an event: `open_position` and its sisters decide, `apply`
does. Replaying the same events gives the same book. Bought at the ask and closed at the bid, sold at the bid and
closed at the ask; a stop that the price jumped over is filled at the worse price, a target never at a better one.
Commission is per lot for the round turn and is booked when the position opens; swaps are booked at each rollover.
Orders that wait for their price: see `pending`.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

from msgspec import structs

from actors.broker.paper.values import (
    Account,
    Book,
    Cancelled,
    Changed,
    Closed,
    Created,
    Edited,
    Event,
    Holding,
    Market,
    Opened,
    Operation,
    Order,
    Price,
    Reason,
    Rejected,
    Rolled,
    Rules,
    Terms,
    in_cents,
)
from bus.vocabulary import Side

POSITIONS_MAX = 1_000


def apply(book: Book, event: Event) -> Book:
    """Return the book after the event. Raises KeyError for an event of a position or order that is not there."""
    if isinstance(event, Opened):
        return structs.replace(
            book,
            holdings=(*book.holdings, event.holding),
            orders=tuple(one for one in book.orders if one.id != event.holding.id),
            next_id=max(book.next_id, int(event.holding.id) + 1),
        )
    if isinstance(event, Edited):
        held = find(book, event.id)
        edited = structs.replace(held, sl_price=event.sl_price, tp_price=event.tp_price)
        return structs.replace(book, holdings=tuple(edited if one is held else one for one in book.holdings))
    if isinstance(event, Closed):
        return _without(book, event.operation)
    if isinstance(event, Rolled):
        return _rolled(book, event)
    return _of_orders(book, event)


def _without(book: Book, done: Operation) -> Book:
    held = find(book, done.id)
    left = structs.replace(
        held,
        volume=held.volume - done.volume,
        commission_cents=held.commission_cents - done.commission_cents,
        swap_cents=held.swap_cents - done.swap_cents,
    )
    others = tuple(left if one is held else one for one in book.holdings if one is not held or left.volume > 0)
    return structs.replace(
        book,
        balance_cents=book.balance_cents + done.net_profit_cents,
        holdings=others,
        history=(*book.history, done)[-book.history_max :],
        next_id=int(done.closing_order_id) + 1,
    )


def _rolled(book: Book, event: Rolled) -> Book:
    for position_id in event.swap_cents:
        find(book, position_id)
    moved = (
        structs.replace(
            held, swap_cents=held.swap_cents + event.swap_cents.get(held.id, 0), rolled_ms=event.until_ms
        )
        for held in book.holdings
    )  # fmt: skip
    return structs.replace(book, holdings=tuple(moved))


def _of_orders(book: Book, event: Created | Changed | Cancelled) -> Book:
    if isinstance(event, Created):
        return structs.replace(book, orders=(*book.orders, event.order), next_id=int(event.order.id) + 1)
    found = next((one for one in book.orders if one.id == event.id), None)
    if found is None:
        raise KeyError(event.id)
    if isinstance(event, Cancelled):
        return structs.replace(book, orders=tuple(one for one in book.orders if one is not found))
    changed = structs.replace(
        found, activation_price=event.activation_price, sl_price=event.sl_price, tp_price=event.tp_price
    )
    return structs.replace(book, orders=tuple(changed if one is found else one for one in book.orders))


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
    if not market.trades(order.symbol):
        return Rejected("MARKET_CLOSED", f"{order.symbol} is not traded now")
    if refusal := refused_volume(order.volume, terms):
        return refusal
    price = market.prices[order.symbol]
    if refusal := refused_stops(terms, price, order.side, order.sl_price, order.tp_price):
        return refusal
    return filled(book, rules, market, str(book.next_id), order)


def filled(book: Book, rules: Rules, market: Market, position_id: str, order: Order) -> Opened | Rejected:
    """Return the position that an order, checked so far, becomes at the market; or why the account cannot hold it."""
    if len(book.holdings) >= POSITIONS_MAX:
        return Rejected("TOO_MANY_POSITIONS", f"{POSITIONS_MAX} positions are open")
    if refusal := margin_call(book, rules, market):
        return refusal
    price = market.prices[order.symbol]
    held = Holding(
        id=position_id,
        symbol=order.symbol,
        side=order.side,
        volume=order.volume,
        open_price=price.ask if order.side == "BUY" else price.bid,
        sl_price=order.sl_price,
        tp_price=order.tp_price,
        opened_ms=market.at_ms,
        commission_cents=-in_cents(order.volume * rules.commission_per_lot),
        rolled_ms=market.calendar_ms,
        comment=order.comment,
        key=order.key,
    )
    after = account(structs.replace(book, holdings=(*book.holdings, held)), rules, market)
    if after.free_margin_cents < 0:
        return Rejected("NOT_ENOUGH_MONEY", f"free margin would be {Decimal(after.free_margin_cents) / 100}")
    return Opened(held)


def margin_call(book: Book, rules: Rules, market: Market) -> Rejected | None:
    """Return the refusal of every new order while equity is below the margin call's level; None above it."""
    worth = account(book, rules, market)
    if not worth.is_below(rules.margin_call_level):
        return None
    has = f"{Decimal(worth.equity_cents) / 100} for a margin of {Decimal(worth.margin_cents) / 100}"
    return Rejected("MARGIN_CALL", f"equity is {has}, below {rules.margin_call_level:%}")


def edit_position(
    book: Book, rules: Rules, market: Market, position_id: str, sl_price: Decimal, tp_price: Decimal
) -> Edited | Rejected:
    """Return the new stop and target, or why not."""
    try:
        held = find(book, position_id)
    except KeyError:
        return Rejected("POSITION_NOT_FOUND", f"there is no open position {position_id[:40]!r}")
    if not market.trades(held.symbol):
        return Rejected("MARKET_CLOSED", f"{held.symbol} is not traded now")
    terms = rules.terms[held.symbol]
    for level in (held.sl_price, held.tp_price):
        if level and (refusal := frozen(terms, level, closing_price(held, market))):
            return refusal
    refusal = refused_stops(terms, market.prices[held.symbol], held.side, sl_price, tp_price)
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
    if not market.trades(held.symbol):
        return Rejected("MARKET_CLOSED", f"{held.symbol} is not traded now")
    part = held.volume if volume is None else volume
    if part != held.volume and not _is_volume(part, held.volume, rules.terms[held.symbol]):
        return Rejected("INVALID_VOLUME", f"volume was {part}; the position has {held.volume}")
    return _closed(book, rules, market, held, closing_price(held, market), reason, part)


def settle(book: Book, rules: Rules, market: Market) -> tuple[Closed, ...]:
    """Return every close that this instant forces: stops, targets, and the stop-out. Nothing where it is closed."""
    events: list[Closed] = []
    for held in book.holdings:
        hit = _hit(held, closing_price(held, market)) if market.trades(held.symbol) else None
        if hit is not None:
            events.append(_closed(book, rules, market, held, hit[0], hit[1], held.volume))
            book = apply(book, events[-1])
    while (worst := _worst(book, rules, market)) is not None:
        events.append(_closed(book, rules, market, worst, closing_price(worst, market), "STOP_OUT", worst.volume))
        book = apply(book, events[-1])
    return tuple(events)


def roll(book: Book, rules: Rules, market: Market, nights: dict[str, int]) -> Rolled:
    """Return the swaps that fall due until now; `nights` is how many each position has to pay for.

    Points x point x lots x contract x nights, in the account's currency at today's rate.
    """
    swaps: dict[str, int] = {}
    for held in book.holdings:
        terms = rules.terms[held.symbol]
        points = (terms.swap_buy if held.side == "BUY" else terms.swap_sell) * nights.get(held.id, 0)
        worth = points * terms.point * held.volume * terms.contract_size * market.rates[terms.quote_currency]
        if worth:
            swaps[held.id] = in_cents(worth)
    return Rolled(market.calendar_ms, max(nights.values(), default=0), swaps)


# ── sums ────────────────────────────────────────────────────────────────────


def account(book: Book, rules: Rules, market: Market) -> Account:
    """Return balance, floating profit and margin."""
    profits = [profit_cents(held, rules, market, closing_price(held, market)) for held in book.holdings]
    return Account(
        balance_cents=book.balance_cents,
        profit_cents=sum(profits),
        net_profit_cents=sum(profits) + sum(held.commission_cents + held.swap_cents for held in book.holdings),
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


# ── what is not allowed ─────────────────────────────────────────────────────


def refused_volume(volume: Decimal, terms: Terms) -> Rejected | None:
    """Return why this volume cannot be ordered."""
    if _is_volume(volume, terms.volume_max, terms):
        return None
    allowed = f"{terms.volume_min} to {terms.volume_max} in steps of {terms.volume_step}"
    return Rejected("INVALID_VOLUME", f"volume was {volume}; allowed {allowed}")


def refused_stops(terms: Terms, price: Price, side: Side, sl: Decimal, tp: Decimal) -> Rejected | None:
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


def frozen(terms: Terms, level: Decimal, price: Decimal) -> Rejected | None:
    """Return why what waits at `level` cannot be touched any more: the price is within the freeze level of it."""
    nearest = terms.freeze_level * terms.point
    if nearest == 0 or abs(level - price) >= nearest:
        return None
    return Rejected("FROZEN", f"{level} is closer to {price} than {nearest}: it cannot be changed now")


# ── inside ──────────────────────────────────────────────────────────────────


def _is_volume(volume: Decimal, volume_max: Decimal, terms: Terms) -> bool:
    return terms.volume_min <= volume <= volume_max and volume % terms.volume_step == 0


def _hit(held: Holding, price: Decimal) -> tuple[Decimal, Reason] | None:
    """Return the fill of a stop or target that `price` reached: the market's for a stop, never better for a target."""
    sign = 1 if held.side == "BUY" else -1
    if held.sl_price and sign * (price - held.sl_price) <= 0:
        return price, "SL"
    if held.tp_price and sign * (price - held.tp_price) >= 0:
        # Opened beyond its target, as a waiting order can be by a gap: that price never was in this market.
        return (price if sign * (held.open_price - held.tp_price) > 0 else held.tp_price), "TP"
    return None


def _worst(book: Book, rules: Rules, market: Market) -> Holding | None:
    """Return the position that the stop-out closes next: the one that loses most, of those that are traded now."""
    if not account(book, rules, market).is_below(rules.stop_out_level):
        return None
    traded = [held for held in book.holdings if market.trades(held.symbol)]
    return min(
        traded, key=lambda held: profit_cents(held, rules, market, closing_price(held, market)), default=None
    )  # fmt: skip


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
            commission_cents=_share(held.commission_cents, volume, held),
            swap_cents=_share(held.swap_cents, volume, held),
            reason=reason,
            comment=held.comment,
            key=held.key,
        )
    )


def _share(amount_cents: int, volume: Decimal, held: Holding) -> int:
    """Return the part of an amount that goes with a part of the position."""
    return int((amount_cents * volume / held.volume).to_integral_value(ROUND_HALF_EVEN))
