"""From a decided intent and a look at the account to the exact order that would be sent. Pure.

Used by the executor. Side, SL and TP come from the intent; the volume only from the risk setting and the account.
"""

from __future__ import annotations

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


def order_plan(
    intent: TradeIntent, view: View, *, risk_ratio: Decimal, jitter_ratio: Decimal, costs: Costs
) -> OrderPlan | Unsized:
    """Return the order for `intent` on the quotes of `view`, or why there is none.

    SL and TP become absolute prices, rounded against us: the stop outwards before sizing, the target inwards.
    The fingerprint (symbol, side, volume, SL, TP) differs from every unresolved order and open position.
    """
    instrument = view.reading.instruments.get(intent.symbol)
    quote = view.reading.quotes.get(intent.symbol)
    if instrument is None:
        return Unsized(rule="symbol", reason=f"the broker does not list {intent.symbol}")
    if quote is None:
        return Unsized(rule="quote_missing", reason=f"the broker has no quote for {intent.symbol}")
    if intent.suggested_side not in ("BUY", "SELL") or not intent.suggested_sl_pips or not intent.suggested_tp_pips:
        return Unsized(
            rule="decision",
            reason=f"decided {intent.suggested_side} with SL {intent.suggested_sl_pips}, TP {intent.suggested_tp_pips}",
        )
    side: Side = intent.suggested_side
    sl_price, tp_price = _stops(side, quote, instrument, intent.suggested_sl_pips, intent.suggested_tp_pips)
    risk_cents = int(risk_ratio * min(view.account.balance_cents, view.account.equity_cents))
    sized = sizing.size(
        side=side,
        sl_price=sl_price,
        tp_price=tp_price,
        contract=instrument,
        quotes=_two_sided(view.reading.quotes),
        account_currency=view.account.currency,
        risk_cents=risk_cents,
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
    return _made_unique(plan, instrument, view.account.unresolved, view.reading.positions)


def unsized_result(unsized: Unsized) -> GuardResult:
    """Return a missing plan as a guard's verdict, so that every rejection is recorded alike."""
    check = Check(name=unsized.rule, passed=False, limit="a plan", found="none", text=unsized.reason)
    return GuardResult(passed=False, rule=unsized.rule, reason=f"{unsized.rule}: {unsized.reason}", checks=(check,))


def _stops(side: Side, quote: Quote, instrument: Instrument, sl_pips: float, tp_pips: float) -> tuple[Decimal, Decimal]:
    """Return SL and TP as prices, from the side of the quote that the order is filled at."""
    entry = quote.ask if side == "BUY" else quote.bid
    away, gain = Decimal(str(sl_pips)) * instrument.pip, Decimal(str(tp_pips)) * instrument.pip
    if side == "BUY":
        return _rounded(entry - away, instrument, up=False), _rounded(entry + gain, instrument, up=False)
    return _rounded(entry + away, instrument, up=True), _rounded(entry - gain, instrument, up=True)


def _rounded(price: Decimal, instrument: Instrument, *, up: bool) -> Decimal:
    return price.quantize(instrument.point, rounding=ROUND_CEILING if up else ROUND_FLOOR)


def _made_unique(
    plan: OrderPlan, instrument: Instrument, unresolved: Iterable[OrderPlan], positions: Iterable[Position]
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
        if reconcile.fingerprint(moved) not in taken:
            return moved
    return Unsized(rule="fingerprint", reason=f"{POINTS_TRIED_MAX} orders look like this one")


def _two_sided(quotes: dict[str, Quote]) -> dict[str, TwoSided]:
    return dict(quotes)
