"""From a decided intent and a look at the account to the exact order that would be sent. Pure.

Used by the executor. Side, SL and TP come from the intent; the volume only from the risk setting and the account.
What cannot be planned is an `Unsized` with its rule, never an exception: one odd intent must not end the process.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import msgspec

from actors.broker import reconcile
from actors.broker.wire import Instrument, Position, Quote
from actors.compliance import sizing
from actors.compliance.conversion import TwoSided
from actors.compliance.guard import Check, GuardResult
from actors.compliance.sizing import Costs, Unsized
from actors.desk.view import View
from bus.records import OrderPlan, TradeIntent
from bus.vocabulary import Side

POINTS_TRIED_MAX = 100
PIPS_MAX = 10_000  # more is no stop or target of an FX pair


def order_plan(
    intent: TradeIntent, view: View, *, risk_ratio: Decimal, jitter_ratio: Decimal, costs: Costs
) -> OrderPlan | Unsized:
    """Return the order for `intent` on the quotes of `view`, or why there is none.

    SL and TP become absolute prices, rounded against us: the stop outwards before sizing, the target inwards.
    The fingerprint (symbol, side, volume, SL, TP) differs from every unresolved order and open position.
    """
    instrument = view.reading.instruments.get(intent.symbol)
    quote = view.reading.quotes.get(intent.symbol)
    side = intent.suggested_side
    if instrument is None:
        return Unsized(rule="symbol", reason=f"the broker does not list {intent.symbol}")
    if (pip := _pip(instrument)) is None:
        return Unsized(rule="symbol", reason=f"{intent.symbol} is no FX pair: stops in pips have no meaning")
    if quote is None:
        return Unsized(rule="quote_missing", reason=f"the broker has no quote for {intent.symbol}")
    if side not in ("BUY", "SELL") or not _is_pips(intent.suggested_sl_pips) or not _is_pips(intent.suggested_tp_pips):
        found = f"decided {side} with SL {intent.suggested_sl_pips}, TP {intent.suggested_tp_pips}"
        return Unsized(rule="decision", reason=f"{found}; allowed: BUY or SELL, above 0 to {PIPS_MAX} pips")
    sl_price, tp_price = _stops(
        side,
        quote,
        instrument,
        Decimal(str(intent.suggested_sl_pips)) * pip,
        Decimal(str(intent.suggested_tp_pips)) * pip,
    )
    if problem := _unplaceable(side, quote, instrument, sl_price, tp_price):
        return Unsized(rule="stop_side", reason=problem)
    sized = sizing.size(
        side=side,
        sl_price=sl_price,
        tp_price=tp_price,
        contract=instrument,
        quotes=_two_sided(view.reading.quotes),
        account_currency=view.account.currency,
        risk_cents=int(risk_ratio * min(view.account.balance_cents, view.account.equity_cents)),
        costs=costs,
        jitter_ratio=jitter_ratio,
    )
    if isinstance(sized, Unsized):
        return sized
    plan = OrderPlan(
        symbol=intent.symbol,
        broker_symbol=instrument.broker_symbol,
        side=side,
        volume=sized.volume,
        sl_price=sl_price,
        tp_price=tp_price,
        entry_price=quote.ask if side == "BUY" else quote.bid,
        loss_cents=sized.loss_cents,
        profit_cents=sized.profit_cents,
    )
    return _made_unique(plan, quote, instrument, view.account.unresolved, view.reading.positions)


def unsized_result(unsized: Unsized) -> GuardResult:
    """Return a missing plan as a guard's verdict, so that every rejection is recorded alike."""
    check = Check(name=unsized.rule, passed=False, limit="a plan", found="none", text=unsized.reason)
    return GuardResult(passed=False, rule=unsized.rule, reason=f"{unsized.rule}: {unsized.reason}", checks=(check,))


def _pip(instrument: Instrument) -> Decimal | None:
    try:
        return instrument.pip
    except ValueError:
        return None


def _is_pips(pips: float | None) -> bool:
    return pips is not None and math.isfinite(pips) and 0 < pips <= PIPS_MAX


def _stops(side: Side, quote: Quote, instrument: Instrument, away: Decimal, gain: Decimal) -> tuple[Decimal, Decimal]:
    """Return SL and TP as prices, from the side of the quote that the order is filled at."""
    if side == "BUY":
        return _rounded(quote.ask - away, instrument, up=False), _rounded(quote.ask + gain, instrument, up=False)
    return _rounded(quote.bid + away, instrument, up=True), _rounded(quote.bid - gain, instrument, up=True)


def _rounded(price: Decimal, instrument: Instrument, *, up: bool) -> Decimal:
    return price.quantize(instrument.point, rounding=ROUND_CEILING if up else ROUND_FLOOR)


def _unplaceable(side: Side, quote: Quote, instrument: Instrument, sl_price: Decimal, tp_price: Decimal) -> str:
    """Return why the broker cannot take this stop or target, or an empty text.

    Both are hit by the price that closes the position, the bid of a BUY and the ask of a SELL, and the broker wants
    them at least `stops_level` points from it: a stop inside the spread is hit at once, or silently not taken.
    """
    closes_at, sign = (quote.bid, 1) if side == "BUY" else (quote.ask, -1)
    nearest = max(instrument.stops_level, Decimal(1)) * instrument.point
    for name, price, distance in (
        ("stop", sl_price, sign * (closes_at - sl_price)), ("target", tp_price, sign * (tp_price - closes_at)),
    ):  # fmt: skip
        if price <= 0:
            return f"the {name} would be at {price}"
        if distance < nearest:
            return f"the {name} {price} must be at least {nearest} from {closes_at}, where a {side} is closed"
    return ""


def _made_unique(
    plan: OrderPlan,
    quote: Quote,
    instrument: Instrument,
    unresolved: Iterable[OrderPlan],
    positions: Iterable[Position],
) -> OrderPlan | Unsized:
    """Move the stop towards the entry, a point at a time, until nothing else looks like this order."""
    taken = [reconcile.fingerprint(other) for other in unresolved]
    taken += [
        reconcile.Fingerprint(
            broker_symbol=held.broker_symbol,
            side=held.side,
            volume=held.volume,
            sl_price=held.sl_price,
            tp_price=held.tp_price,
        )
        for held in positions
    ]
    step = instrument.point if plan.side == "BUY" else -instrument.point
    for points in range(POINTS_TRIED_MAX):
        moved = msgspec.structs.replace(plan, sl_price=plan.sl_price + points * step)
        if _unplaceable(plan.side, quote, instrument, moved.sl_price, moved.tp_price):
            break
        if reconcile.fingerprint(moved) not in taken:
            return moved
    return Unsized(rule="fingerprint", reason="too many orders look like this one: no stop is left that differs")


def _two_sided(quotes: dict[str, Quote]) -> dict[str, TwoSided]:
    return dict(quotes)
