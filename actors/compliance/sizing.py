"""Volume for a given risk, and what a position can lose and win. Pure; used by executor and desk.

Money is integer cents, prices and volumes are Decimal. Every rounding goes against us: losses up, volumes down.
Nothing here knows a pip value: loss comes from price distance, contract size and conversion rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Protocol

from msgspec import Struct

from actors.compliance import conversion
from actors.compliance.account import PendingRisk, PositionRisk
from actors.compliance.conversion import DOWN, UP, NoRate, TwoSided
from actors.compliance.money import amount
from bus.vocabulary import Side

CENTS = Decimal(100)


class Contract(Protocol):
    """What is needed of an instrument. `contract_size` is units of the base currency in one lot."""

    @property
    def symbol(self) -> str: ...
    @property
    def base_currency(self) -> str: ...
    @property
    def quote_currency(self) -> str: ...
    @property
    def pip(self) -> Decimal: ...
    @property
    def contract_size(self) -> Decimal: ...
    @property
    def leverage(self) -> Decimal | None: ...
    @property
    def volume_min(self) -> Decimal: ...
    @property
    def volume_max(self) -> Decimal: ...
    @property
    def volume_step(self) -> Decimal: ...


class Holding(Protocol):
    """What is needed of an open position. Swap and commission are negative when they cost."""

    @property
    def id(self) -> str: ...
    @property
    def symbol(self) -> str: ...
    @property
    def side(self) -> Side: ...
    @property
    def volume(self) -> Decimal: ...
    @property
    def open_price(self) -> Decimal: ...
    @property
    def sl_price(self) -> Decimal | None: ...
    @property
    def tp_price(self) -> Decimal | None: ...
    @property
    def swap_cents(self) -> int: ...
    @property
    def commission_cents(self) -> int: ...
    @property
    def net_profit_cents(self) -> int: ...


class Waiting(Protocol):
    """What is needed of an order that waits for its price."""

    @property
    def id(self) -> str: ...
    @property
    def symbol(self) -> str: ...
    @property
    def side(self) -> Side: ...
    @property
    def volume(self) -> Decimal: ...
    @property
    def activation_price(self) -> Decimal: ...
    @property
    def sl_price(self) -> Decimal | None: ...
    @property
    def tp_price(self) -> Decimal | None: ...


class Costs(Struct, frozen=True, kw_only=True):
    """What is added to every loss: a gap at each filling, and one lot's commission and swap until it is closed."""

    gap_pips: Decimal
    commission_per_lot_cents: int  # of the round turn
    swap_per_lot_cents: int  # beyond what is booked already

    @property
    def per_lot_cents(self) -> int:
        """Return what one lot costs beside its price."""
        return self.commission_per_lot_cents + self.swap_per_lot_cents


class Sized(Struct, frozen=True, kw_only=True):
    """A volume, in lots, with its worst loss at the stop and its gain at the target, in cents."""

    volume: Decimal
    loss_cents: int
    profit_cents: int
    loss_per_lot_cents: Decimal
    capped: bool  # the broker's maximum was below what the risk allowed


class Unsized(Struct, frozen=True, kw_only=True):
    """No volume is possible. `rule` names what stood against it."""

    rule: str
    reason: str


def size(
    *,
    side: Side,
    sl_price: Decimal,
    tp_price: Decimal,
    contract: Contract,
    quotes: Mapping[str, TwoSided],
    account_currency: str,
    risk_cents: int,
    costs: Costs,
    jitter_ratio: Decimal = Decimal(0),
) -> Sized | Unsized:
    """Return the largest volume whose loss at the stop stays within `risk_cents`.

    Entry is the order's own side of the symbol's quote: the ask for BUY, the bid for SELL. `tp_price` 0 means none.
    `jitter_ratio` in [0, 1) takes that part off; it never adds and never pushes a possible volume below the minimum.
    Source: docs/decisions.md, "Sizing".
    """
    quote = quotes.get(contract.symbol)
    if quote is None or not conversion.is_usable(quote):
        return Unsized(rule="quote_missing", reason=f"no usable quote of {contract.symbol}")
    entry = quote.ask if side == "BUY" else quote.bid
    if not 0 <= jitter_ratio < 1:
        return Unsized(rule="jitter", reason=f"jitter was {jitter_ratio}; allowed: 0 to below 1")
    if problem := wrong_side(side, entry, sl_price, tp_price):
        return Unsized(rule="stop_side", reason=problem)
    per_lot = loss_per_lot_cents(
        side=side, entry=entry, sl_price=sl_price, contract=contract, quotes=quotes,
        account_currency=account_currency, costs=costs,
    )  # fmt: skip
    if isinstance(per_lot, NoRate):
        return Unsized(rule="conversion", reason=per_lot.reason)
    wanted = DOWN.divide(Decimal(risk_cents), per_lot)
    allowed = _floor_to_step(min(wanted, contract.volume_max), contract.volume_step)
    if allowed < contract.volume_min:
        return Unsized(
            rule="volume_min",
            reason=f"risk of {amount(risk_cents)} {account_currency} allows {wanted:.5f} lots of {contract.symbol}; "
            f"the smallest order is {contract.volume_min}",
        )
    jittered = _floor_to_step(DOWN.multiply(allowed, 1 - jitter_ratio), contract.volume_step)
    volume = max(jittered, _ceil_to_step(contract.volume_min, contract.volume_step))
    loss_cents = _up(volume * per_lot)
    profit_cents = _profit_cents(side, entry, tp_price, volume, contract, quotes, account_currency)
    if isinstance(profit_cents, NoRate):
        return Unsized(rule="conversion", reason=profit_cents.reason)
    return Sized(
        volume=volume,
        loss_cents=loss_cents,
        # Without a target nothing bounds the gain: twice the risk is counted against the best day.
        profit_cents=2 * loss_cents if profit_cents is None else profit_cents,
        loss_per_lot_cents=per_lot,
        capped=wanted > contract.volume_max,
    )


def wrong_side(side: Side, entry: Decimal, sl_price: Decimal, tp_price: Decimal) -> str:
    """Return why stop or target stand on the wrong side of the entry, or an empty text. `tp_price` 0 means none."""
    if not all(price.is_finite() for price in (entry, sl_price, tp_price)):
        return f"entry {entry}, stop {sl_price}, target {tp_price}: a price is not a number"
    if entry <= 0 or sl_price <= 0:
        return f"entry {entry}, stop {sl_price}: both must be above 0"
    if (sl_price >= entry) if side == "BUY" else (sl_price <= entry):
        return (
            f"the stop of a {side} at {entry} was {sl_price}; must be {'below' if side == 'BUY' else 'above'} the entry"
        )
    if tp_price != 0 and ((tp_price <= entry) if side == "BUY" else (tp_price >= entry or tp_price < 0)):
        allowed = "above" if side == "BUY" else "below"
        return f"the target of a {side} at {entry} was {tp_price}; must be {allowed} the entry"
    return ""


def loss_per_lot_cents(
    *,
    side: Side,
    entry: Decimal,
    sl_price: Decimal,
    contract: Contract,
    quotes: Mapping[str, TwoSided],
    account_currency: str,
    costs: Costs,
) -> Decimal | NoRate:
    """Return one lot's loss at the stop, in cents: distance, gap, spread for sells, commission and swap.

    The gap counts twice: a market order may be filled that far from its quote, and its stop that far beyond itself.
    """
    entry_gap = costs.gap_pips * contract.pip
    distance = abs(entry - sl_price) + entry_gap + _beyond_stop(side, contract, quotes, costs)
    money = _money(
        distance, Decimal(1), contract, quotes, account_currency, at=_stop_filled(side, sl_price, contract, costs)
    )
    return money if isinstance(money, NoRate) else money + costs.per_lot_cents


def margin_cents(
    volume: Decimal, contract: Contract, quotes: Mapping[str, TwoSided], account_currency: str
) -> int | NoRate | None:
    """Return the margin an order of this volume needs, in cents, rounded up. None when the leverage is not known."""
    if contract.leverage is None or contract.leverage <= 0:
        return None
    found = conversion.rates(contract.base_currency, account_currency, quotes)
    if isinstance(found, NoRate):
        return found
    return _up(UP.divide(UP.multiply(volume * contract.contract_size, found.high) * CENTS, contract.leverage))


def position_risk(
    position: Holding,
    *,
    contract: Contract | None,
    quotes: Mapping[str, TwoSided],
    account_currency: str,
    costs: Costs,
) -> PositionRisk:
    """Return what an open position can still do to the balance.

    The loss at the stop holds gap, spread, swap booked and to come and the whole round turn's commission, and is never
    below the floating loss. It is negative when the stop locks a profit in, and None when there is no stop or it cannot
    be valued. The profit at the target is never below the floating profit; without a target it is at least twice the
    risk.
    """
    floating_cents = position.net_profit_cents
    loss_cents = profit_cents = None
    is_bounded = False
    usable = contract is not None and (quote := quotes.get(contract.symbol)) is not None and conversion.is_usable(quote)
    if contract is not None and usable:
        loss_cents = _loss_at_stop_cents(position, contract, quotes, account_currency, costs)
        if position.tp_price:
            gain = abs(position.tp_price - position.open_price)
            beyond = (position.tp_price > position.open_price) == (position.side == "BUY")
            money = _money(gain, position.volume, contract, quotes, account_currency, at=position.tp_price)
            profit_cents = None if isinstance(money, NoRate) else (_up(money) if beyond else 0)
            is_bounded = profit_cents is not None
    if profit_cents is None:
        profit_cents = 2 * max(0, loss_cents or 0)
    return PositionRisk(
        id=position.id,
        symbol=position.symbol,
        side=position.side,
        volume=position.volume,
        loss_at_stop_cents=loss_cents,
        profit_at_target_cents=max(profit_cents, floating_cents, 0),
        has_target=is_bounded,
        net_profit_cents=floating_cents,
    )


def pending_risk(
    order: Waiting,
    *,
    contract: Contract | None,
    quotes: Mapping[str, TwoSided],
    account_currency: str,
    costs: Costs,
) -> PendingRisk:
    """Return what a waiting order can do once it is filled: at its price, or a gap beyond it, and then stopped.

    The loss is None when it has no stop, or one that cannot be valued. Without a target the gain is twice the risk.
    """
    loss_cents = profit_cents = None
    if contract is not None and (quote := quotes.get(contract.symbol)) is not None and conversion.is_usable(quote):
        if order.sl_price:
            adverse = order.activation_price - order.sl_price
            gap = costs.gap_pips * contract.pip  # at the filling; the stop's own is part of what lies beyond it
            distance = (adverse if order.side == "BUY" else -adverse) + gap + _beyond_stop(
                order.side, contract, quotes, costs
            )  # fmt: skip
            filled = _stop_filled(order.side, order.sl_price, contract, costs)
            money = _money(distance, order.volume, contract, quotes, account_currency, at=filled)
            loss_cents = None if isinstance(money, NoRate) else max(0, _up(money + order.volume * costs.per_lot_cents))
        if order.tp_price:
            gain = abs(order.tp_price - order.activation_price)
            money = _money(gain, order.volume, contract, quotes, account_currency, at=order.tp_price)
            profit_cents = None if isinstance(money, NoRate) else _up(money)
    return PendingRisk(
        id=order.id,
        symbol=order.symbol,
        side=order.side,
        volume=order.volume,
        loss_cents=loss_cents,
        profit_cents=2 * max(0, loss_cents or 0) if profit_cents is None else profit_cents,
        has_target=profit_cents is not None,
    )


def _loss_at_stop_cents(
    position: Holding, contract: Contract, quotes: Mapping[str, TwoSided], account_currency: str, costs: Costs
) -> int | None:
    """Return the signed loss at the stop, or None when there is no stop or no rate."""
    if not position.sl_price or position.sl_price <= 0:
        return None
    adverse = (
        position.open_price - position.sl_price if position.side == "BUY" else position.sl_price - position.open_price
    )
    distance = adverse + _beyond_stop(position.side, contract, quotes, costs)
    filled = _stop_filled(position.side, position.sl_price, contract, costs)
    money = _money(distance, position.volume, contract, quotes, account_currency, at=filled)
    if isinstance(money, NoRate):
        return None
    commission_cents = max(_up(position.volume * costs.commission_per_lot_cents), abs(position.commission_cents))
    swap_cents = max(0, -position.swap_cents) + _up(position.volume * costs.swap_per_lot_cents)
    at_stop_cents = _up(money) + commission_cents + swap_cents
    return max(at_stop_cents, -position.net_profit_cents)


def _profit_cents(
    side: Side, entry: Decimal, tp_price: Decimal, volume: Decimal,
    contract: Contract, quotes: Mapping[str, TwoSided], account_currency: str,
) -> int | NoRate | None:  # fmt: skip
    """Return the gain at the target before commission, rounded up: an upper bound. None without a target."""
    if tp_price == 0:
        return None
    money = _money(abs(tp_price - entry), volume, contract, quotes, account_currency, at=tp_price)
    return money if isinstance(money, NoRate) else _up(money)


def _beyond_stop(side: Side, contract: Contract, quotes: Mapping[str, TwoSided], costs: Costs) -> Decimal:
    """Return the price distance a stop may be filled beyond itself: the gap, and the spread for sells."""
    quote = quotes[contract.symbol]
    return costs.gap_pips * contract.pip + (quote.ask - quote.bid if side == "SELL" else 0)


def _stop_filled(side: Side, sl_price: Decimal, contract: Contract, costs: Costs) -> Decimal:
    """Return the price at which the stop is filled at worst."""
    gap = costs.gap_pips * contract.pip
    return sl_price - gap if side == "BUY" else sl_price + gap


def _money(
    distance: Decimal, volume: Decimal, contract: Contract, quotes: Mapping[str, TwoSided], account_currency: str, *,
    at: Decimal,
) -> Decimal | NoRate:  # fmt: skip
    """Return a price distance of a volume in cents, at the worse of the rate now and the rate at that price.

    Worse is the higher rate for what is lost or won, the lower one for a profit that a stop locks in (a negative
    distance). Only a pair that itself converts (USDJPY on a dollar account) has a rate that its own price fixes; for
    a cross the rate now is all there is.
    """
    found = conversion.rates(contract.quote_currency, account_currency, quotes)
    if isinstance(found, NoRate):
        return found
    low, high = found.low, found.high
    if contract.base_currency == account_currency:
        if at <= 0:
            return NoRate(f"{contract.symbol} cannot be converted at {at}")
        low, high = min(low, DOWN.divide(Decimal(1), at)), max(high, UP.divide(Decimal(1), at))
    return UP.multiply(distance * volume * contract.contract_size * CENTS, high if distance >= 0 else low)


def _floor_to_step(volume: Decimal, step: Decimal) -> Decimal:
    return (volume / step).to_integral_value(ROUND_FLOOR) * step


def _ceil_to_step(volume: Decimal, step: Decimal) -> Decimal:
    return (volume / step).to_integral_value(ROUND_CEILING) * step


def _up(cents: Decimal) -> int:
    return int(cents.to_integral_value(ROUND_CEILING))
