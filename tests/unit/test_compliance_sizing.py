"""Sizing by hand-computed dollars, and the ways it refuses."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import ceil

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.broker.wire import PendingOrder
from actors.compliance import conversion, sizing
from actors.compliance.account import PendingRisk
from actors.compliance.conversion import NoRate
from actors.compliance.sizing import Costs, Sized, Unsized
from tests.kit.compliance import D, a_position, a_quote, an_instrument

FREE = Costs(gap_pips=D(0), commission_per_lot_cents=0, swap_per_lot_cents=0)
USUAL = Costs(gap_pips=D(5), commission_per_lot_cents=1_000, swap_per_lot_cents=0)
QUOTES = {
    "EURUSD": a_quote("EURUSD", "1.09990", "1.10000"),
    "GBPUSD": a_quote("GBPUSD", "1.30000", "1.30020"),
    "USDJPY": a_quote("USDJPY", "150.000", "150.020"),
    "USDCHF": a_quote("USDCHF", "0.80000", "0.80010"),
    "EURGBP": a_quote("EURGBP", "0.84600", "0.84610"),
    "EURJPY": a_quote("EURJPY", "165.000", "165.020"),
}


def sized(symbol: str = "EURUSD", **given: object) -> Sized | Unsized:
    base: dict[str, object] = {
        "side": "BUY", "sl_price": D("1.0975"), "tp_price": D("1.1050"), "contract": an_instrument(symbol),
        "quotes": QUOTES, "account_currency": "USD", "risk_cents": 25_000, "costs": FREE,
    }  # fmt: skip
    return sizing.size(**{**base, **given})  # type: ignore[arg-type]


REFUSALS = {
    "quote_missing": {"quotes": {}},
    "conversion": {
        "symbol": "EURGBP", "sl_price": D("0.84"), "tp_price": D("0.86"), "quotes": {"EURGBP": QUOTES["EURGBP"]},
    },
    "stop_side": {"sl_price": D("1.1000")},
    "volume_min": {"risk_cents": 249},
    "jitter": {"jitter_ratio": D(1)},
}  # fmt: skip


@pytest.mark.parametrize("rule", sorted(REFUSALS))
def test_volume_is_refused_with_the_rule(rule: str) -> None:
    found = sized(**REFUSALS[rule])  # type: ignore[arg-type]
    assert isinstance(found, Unsized)
    assert found.rule == rule
    assert found.reason


def test_refusal_speaks_of_money_as_people_do() -> None:
    found = sized(risk_cents=249)
    assert isinstance(found, Unsized)
    assert found.reason.startswith("risk of 2.49 USD allows")


@pytest.mark.parametrize("quote", [("0", "1.1"), ("1.1", "1.0"), ("NaN", "1.1"), ("-1", "1.1"), ("1.0", "Infinity")])
def test_impossible_quote_is_no_quote(quote: tuple[str, str]) -> None:
    assert isinstance(sized(quotes={"EURUSD": a_quote("EURUSD", *quote)}), Unsized)
    assert isinstance(conversion.rates("EUR", "USD", {"EURUSD": a_quote("EURUSD", *quote)}), NoRate)


def test_buy_of_a_dollar_pair() -> None:
    # $250 / (25 pips x $10) = 1.00 lot; to the target 50 pips x $10.
    found = sized()
    assert found == Sized(
        volume=D("1.00"), loss_cents=25_000, profit_cents=50_000, loss_per_lot_cents=D(25_000), capped=False
    )


def test_gap_and_commission_make_the_volume_smaller() -> None:
    # 25 + 5 at the entry + 5 at the stop, x $10, + $10 = $360 a lot: $250 / $360 = 0.694 -> 0.69 lots, $248.40 at risk.
    found = sized(costs=USUAL)
    assert isinstance(found, Sized)
    assert (found.volume, found.loss_cents) == (D("0.69"), 24_840)


def test_sell_carries_the_spread() -> None:
    # Sold at the bid 1.0999, stop 1.1024: 25 pips and 1 pip of spread at $10: $260 a lot -> 0.96.
    found = sized(side="SELL", sl_price=D("1.1024"), tp_price=D("1.0949"))
    assert isinstance(found, Sized)
    assert (found.loss_per_lot_cents, found.volume, found.loss_cents) == (D(26_000), D("0.96"), 24_960)


def test_swiss_pip_is_worth_twelve_and_a_half_dollars() -> None:
    # 20 pips x 100,000 = 200 francs; at the stop 0.7981 a franc is worth $1.25297..: $250.595 a lot.
    found = sized("USDCHF", sl_price=D("0.7981"), tp_price=D("0.8021"))
    assert isinstance(found, Sized)
    assert found.loss_per_lot_cents == pytest.approx(D("25059.52"), abs=D("0.01"))
    assert found.volume == D("0.99")


def test_yen_pair_is_converted_at_the_worse_rate_of_now_and_stop() -> None:
    # BUY 150.020, stop 149.020: 100,000 yen; now at 150.000 = $666.67, at the stop 149.020 = $671.05.
    found = sized("USDJPY", sl_price=D("149.020"), tp_price=D("152.020"))
    assert isinstance(found, Sized)
    assert found.loss_per_lot_cents == pytest.approx(D("67105.09"), abs=D("0.01"))
    # SELL 150.000, stop 151.000: 100,000 yen and 2,000 of spread; now is worse than the stop.
    found = sized("USDJPY", side="SELL", sl_price=D("151.000"), tp_price=D("148.000"))
    assert isinstance(found, Sized)
    assert found.loss_per_lot_cents == pytest.approx(D("68000.00"), abs=D("0.01"))


def test_cross_is_converted_by_the_quote_of_its_own_currency() -> None:
    # EURGBP 0.8461 -> 0.8411: 500 pounds at the ask 1.3002 = $650.10 a lot.
    found = sized("EURGBP", sl_price=D("0.8411"), tp_price=D("0.8561"))
    assert isinstance(found, Sized)
    assert found.loss_per_lot_cents == D("65010")
    assert found.volume == D("0.38")
    # EURJPY 165.020 -> 164.020: 100,000 yen at 150.000 = $666.67.
    found = sized("EURJPY", sl_price=D("164.020"), tp_price=D("167.020"))
    assert isinstance(found, Sized)
    assert found.loss_per_lot_cents == pytest.approx(D("66666.67"), abs=D("0.01"))


def test_above_the_maximum_the_volume_is_capped() -> None:
    found = sized(contract=an_instrument(volume_max=D("0.50")))
    assert isinstance(found, Sized)
    assert (found.volume, found.capped, found.loss_cents) == (D("0.50"), True, 12_500)


def test_jitter_only_takes_away_and_stops_at_the_minimum() -> None:
    found = sized(jitter_ratio=D("0.05"))
    assert isinstance(found, Sized)
    assert found.volume == D("0.95")
    smallest = sized(risk_cents=299, jitter_ratio=D("0.9"))
    assert isinstance(smallest, Sized)
    assert smallest.volume == D("0.01")


def test_without_a_target_twice_the_risk_is_the_gain() -> None:
    found = sized(tp_price=D(0))
    assert isinstance(found, Sized)
    assert found.profit_cents == 50_000


def test_margin_is_lots_times_contract_over_leverage() -> None:
    assert sizing.margin_cents(D("1"), an_instrument(), QUOTES, "USD") == 220_000  # €100,000 at 1.1 / 50
    assert sizing.margin_cents(D("1"), an_instrument("USDJPY"), QUOTES, "USD") == 200_000
    assert sizing.margin_cents(D("1"), an_instrument(leverage=None), QUOTES, "USD") is None
    assert isinstance(sizing.margin_cents(D("1"), an_instrument("EURGBP"), {}, "USD"), NoRate)


@given(
    side=st.sampled_from(["BUY", "SELL"]),
    symbol=st.sampled_from(["EURUSD", "USDJPY", "USDCHF", "EURGBP", "EURJPY"]),
    pips=st.integers(min_value=1, max_value=500),
    risk_cents=st.integers(min_value=1, max_value=250_000),
    gap=st.integers(min_value=0, max_value=20),
    commission=st.integers(min_value=0, max_value=2_000),
    jitter=st.decimals(min_value=0, max_value="0.5", places=3),
    step=st.sampled_from(["0.01", "0.1", "1"]),
)
def test_loss_at_the_stop_never_exceeds_the_risk(
    side: str, symbol: str, pips: int, risk_cents: int, gap: int, commission: int, jitter: Decimal, step: str
) -> None:
    contract = an_instrument(symbol, volume_min=D(step), volume_step=D(step))
    quote = QUOTES[symbol]
    entry, away = (quote.ask, -1) if side == "BUY" else (quote.bid, 1)
    stop = entry + away * pips * contract.pip
    found = sized(
        symbol, side=side, sl_price=stop, tp_price=D(0), contract=contract, risk_cents=risk_cents, jitter_ratio=jitter,
        costs=Costs(gap_pips=D(gap), commission_per_lot_cents=commission, swap_per_lot_cents=0),
    )  # fmt: skip
    if isinstance(found, Unsized):
        assert found.rule == "volume_min"
        return
    assert found.loss_cents <= risk_cents
    assert found.volume % D(step) == 0
    assert contract.volume_min <= found.volume <= contract.volume_max
    # The same by exact fractions, both fillings a gap beyond their price, at the rate where the stop is filled.
    filled = Fraction(stop) + away * gap * Fraction(contract.pip)
    spread = Fraction(quote.ask - quote.bid) if side == "SELL" else 0
    rate = {
        "USD": Fraction(1),
        "JPY": max(1 / Fraction(QUOTES["USDJPY"].bid), 1 / filled if symbol == "USDJPY" else 0),
        "CHF": max(1 / Fraction(QUOTES["USDCHF"].bid), 1 / filled if symbol == "USDCHF" else 0),
        "GBP": Fraction(QUOTES["GBPUSD"].ask),
    }[contract.quote_currency]
    slipped = Fraction(entry) - away * gap * Fraction(contract.pip)
    lost = (abs(filled - slipped) + spread) * 100_000 * rate * 100 + commission
    exact_cents = ceil(Fraction(found.volume) * lost)
    # Thirds of a cent have no end in Decimal and are rounded against us: at most one cent more, never one less.
    assert exact_cents <= found.loss_cents <= exact_cents + 1


# ── what open positions can still do ────────────────────────────────────────


def risk(costs: Costs = USUAL, symbol: str = "EURUSD", **changed: object) -> sizing.PositionRisk:
    position = a_position(symbol=symbol, **changed)
    return sizing.position_risk(
        position, contract=an_instrument(symbol), quotes=QUOTES, account_currency="USD", costs=costs
    )


def test_position_without_stop_or_quote_has_no_bound() -> None:
    assert risk(sl_price=None).loss_at_stop_cents is None
    assert risk(sl_price=D(0)).loss_at_stop_cents is None
    unquoted = sizing.position_risk(
        a_position(), contract=an_instrument(), quotes={}, account_currency="USD", costs=USUAL
    )
    unlisted = sizing.position_risk(a_position(), contract=None, quotes=QUOTES, account_currency="USD", costs=USUAL)
    assert (unquoted.loss_at_stop_cents, unlisted.loss_at_stop_cents) == (None, None)


def test_position_carries_gap_commission_and_swap() -> None:
    # 25 + 5 pips x $10 + $10 commission + $3 swap.
    assert risk(swap_cents=-300).loss_at_stop_cents == 31_300
    assert risk(swap_cents=+300).loss_at_stop_cents == 31_000


def test_sold_position_carries_the_spread() -> None:
    found = risk(side="SELL", sl_price=D("1.1025"), tp_price=D("1.0950"))
    assert found.loss_at_stop_cents == 32_000


def test_loss_is_never_below_the_floating_one() -> None:
    assert risk(net_profit_cents=-40_000).loss_at_stop_cents == 40_000


def test_stop_beyond_the_entry_locks_a_profit_in() -> None:
    found = risk(FREE, sl_price=D("1.1020"), commission_cents=0, net_profit_cents=30_000)
    assert found.loss_at_stop_cents == -20_000
    assert found.profit_at_target_cents == 50_000


def test_profit_is_never_below_the_floating_one_and_twice_the_risk_without_a_target() -> None:
    assert risk(net_profit_cents=70_000).profit_at_target_cents == 70_000
    assert risk(tp_price=None).profit_at_target_cents == 62_000


def test_locked_in_yen_are_converted_at_the_lower_rate() -> None:
    # BUY 149.000, stop 150.000, now 150.000/150.020: 100,000 yen locked in, worth $666.58 at 1/150.020.
    found = risk(
        FREE, symbol="USDJPY", open_price=D("149.000"), sl_price=D("150.000"), tp_price=None, commission_cents=0,
        net_profit_cents=100_000,
    )  # fmt: skip
    assert found.loss_at_stop_cents == -66_657


# ── swap, and orders that wait ──────────────────────────────────────────────

DEAR = Costs(gap_pips=D(5), commission_per_lot_cents=1_000, swap_per_lot_cents=3_000)


def test_swap_to_come_makes_the_volume_smaller() -> None:
    # 25 + 5 + 5 pips x $10 + $10 + $30 = $390 a lot: $250 / $390 = 0.641 -> 0.64 lots, $249.60 at risk.
    found = sized(costs=DEAR)
    assert isinstance(found, Sized)
    assert (found.volume, found.loss_cents) == (D("0.64"), 24_960)


def test_open_position_still_pays_the_swap_to_come_beside_the_swap_booked() -> None:
    held = a_position(swap_cents=-700, net_profit_cents=-1_200)
    risk = sizing.position_risk(
        held, contract=an_instrument(), quotes=QUOTES, account_currency="USD", costs=DEAR
    )  # fmt: skip
    # 30 pips, $10 of commission, $7 booked and $30 to come.
    assert risk.loss_at_stop_cents == 30_000 + 1_000 + 700 + 3_000
    assert (risk.volume, risk.has_target) == (D("1.00"), True)


def test_position_without_a_target_says_so() -> None:
    held = a_position(tp_price=None)
    risk = sizing.position_risk(held, contract=an_instrument(), quotes=QUOTES, account_currency="USD", costs=DEAR)
    assert not risk.has_target


def a_waiting(**changed: object) -> PendingOrder:
    order = PendingOrder(
        id="O-1", symbol="EURUSD", broker_symbol="EURUSD.", kind="STOP", side="BUY", volume=D("0.50"),
        activation_price=D("1.1100"), sl_price=D("1.1050"), tp_price=D("1.1200"),
    )  # fmt: skip
    return msgspec.structs.replace(order, **changed)


def waiting_risk(order: PendingOrder, quotes: object = QUOTES, contract: object = "EURUSD") -> PendingRisk:
    return sizing.pending_risk(
        order, contract=None if contract is None else an_instrument("EURUSD"), quotes=quotes,  # type: ignore[arg-type]
        account_currency="USD", costs=DEAR,
    )  # fmt: skip


def test_waiting_order_is_filled_with_a_gap_and_stopped_with_another() -> None:
    # (50 + 5 + 5 pips x $10 + $40) x 0.5; the target 100 pips away.
    risk = waiting_risk(a_waiting())
    assert (risk.loss_cents, risk.profit_cents, risk.has_target) == (32_000, 50_000, True)
    # A sell pays the spread of one pip as well.
    sell = a_waiting(side="SELL", activation_price=D("1.0900"), sl_price=D("1.0950"), tp_price=None)
    risk = waiting_risk(sell)
    assert (risk.loss_cents, risk.profit_cents, risk.has_target) == (32_500, 65_000, False)


@pytest.mark.parametrize(("order", "given"), [
    (a_waiting(sl_price=None), {}), (a_waiting(), {"quotes": {}}), (a_waiting(), {"contract": None}),
])  # fmt: skip
def test_waiting_order_that_cannot_be_valued_has_no_bound(order: PendingOrder, given: dict[str, object]) -> None:
    assert waiting_risk(order, **given).loss_cents is None


def test_waiting_order_whose_stop_would_lock_a_profit_in_loses_nothing_and_wins_nothing_for_others() -> None:
    assert waiting_risk(a_waiting(sl_price=D("1.1300"))).loss_cents == 0
