"""The paper account: every refusal, then money by hand-computed examples."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from actors.broker.paper import book
from actors.broker.paper.values import (
    Book,
    Closed,
    Edited,
    Holding,
    Market,
    Opened,
    Order,
    Price,
    Rejected,
    Rules,
    Terms,
)

D = Decimal


def terms(symbol: str) -> Terms:
    return Terms(
        symbol=f"{symbol}.", base_currency=symbol[:3], quote_currency=symbol[3:],
        price_precision=3 if symbol.endswith("JPY") else 5, volume_min=D("0.01"), volume_max=D(50),
        volume_step=D("0.01"), contract_size=D(100_000), leverage=50, stops_level=10,
    )  # fmt: skip


RULES = Rules(
    terms={f"{name}.": terms(name) for name in ("EURUSD", "USDJPY", "EURGBP", "USDCHF")}, commission_per_lot=D(5)
)
PRICES = {
    "EURUSD.": Price(D("1.10000"), D("1.10010")),
    "USDJPY.": Price(D("150.000"), D("150.010")),
    "EURGBP.": Price(D("0.85000"), D("0.85010")),
    "USDCHF.": Price(D("0.80000"), D("0.80010")),
}
RATES = {"USD": D(1), "EUR": D("1.1"), "JPY": 1 / D(150), "GBP": D("1.25"), "CHF": D("1.25")}
EMPTY = Book(balance_cents=5_000_000)


def a_market(**changes: Any) -> Market:
    return Market(**{"at_ms": 1_000, "is_open": True, "prices": PRICES, "rates": RATES} | changes)


def at(symbol: str, bid: str, ask: str, **changes: Any) -> Market:
    return a_market(prices=PRICES | {f"{symbol}.": Price(D(bid), D(ask))}, **changes)


def an_order(**changes: Any) -> Order:
    return Order(**{"symbol": "EURUSD.", "side": "BUY", "volume": D("0.10"), "sl_price": D("1.09000")} | changes)


def opened(order: Order, *, before: Book = EMPTY, market: Market | None = None) -> Book:
    decided = book.open_position(before, RULES, market or a_market(), order)
    assert isinstance(decided, Opened), decided
    return book.apply(before, decided)


# ── refusals ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"symbol": "EURUSD"}, "INSTRUMENT_NOT_FOUND"),
        ({"symbol": "XAUUSD."}, "INSTRUMENT_NOT_FOUND"),
        ({"volume": D(0)}, "INVALID_VOLUME"),
        ({"volume": D("-0.10")}, "INVALID_VOLUME"),
        ({"volume": D("0.005")}, "INVALID_VOLUME"),
        ({"volume": D("0.015")}, "INVALID_VOLUME"),
        ({"volume": D("50.01")}, "INVALID_VOLUME"),
        ({"sl_price": D("1.090001")}, "INVALID_PRICE"),
        ({"sl_price": D("-1")}, "INVALID_PRICE"),
        ({"sl_price": D("1.10000")}, "INVALID_STOPS"),
        ({"sl_price": D("1.11000")}, "INVALID_STOPS"),
        ({"tp_price": D("1.09900")}, "INVALID_STOPS"),
        ({"sl_price": D("1.09991")}, "STOPS_TOO_CLOSE"),
        ({"tp_price": D("1.10009")}, "STOPS_TOO_CLOSE"),
        ({"side": "SELL", "sl_price": D("1.10010")}, "INVALID_STOPS"),
        ({"side": "SELL", "sl_price": D("1.10019")}, "STOPS_TOO_CLOSE"),
        ({"side": "SELL", "sl_price": D("1.11"), "tp_price": D("1.10500")}, "INVALID_STOPS"),
        ({"side": "SELL", "sl_price": D("1.11"), "tp_price": D("1.10001")}, "STOPS_TOO_CLOSE"),
        ({"volume": D("22.73")}, "NOT_ENOUGH_MONEY"),  # 22.73 lots x 110,000 USD / 50 = 50,006 USD of margin
    ],
)
def test_an_order_that_is_not_allowed_is_rejected(changes: dict[str, Any], code: str) -> None:
    decided = book.open_position(EMPTY, RULES, a_market(), an_order(**changes))
    assert isinstance(decided, Rejected)
    assert decided.code == code


def test_stops_exactly_at_the_smallest_distance_are_taken() -> None:
    opened(an_order(sl_price=D("1.09990"), tp_price=D("1.10010")))
    opened(an_order(side="SELL", sl_price=D("1.10020"), tp_price=D("1.10000")))


def test_nothing_can_be_done_while_the_market_is_closed() -> None:
    closed = a_market(is_open=False)
    kept = opened(an_order())
    refusals = [
        book.open_position(kept, RULES, closed, an_order()),
        book.edit_position(kept, RULES, closed, "1000001", D("1.08"), D(0)),
        book.close_position(kept, RULES, closed, "1000001"),
    ]
    assert [one.code for one in refusals if isinstance(one, Rejected)] == ["MARKET_CLOSED"] * 3
    assert book.settle(kept, RULES, at("EURUSD", "1.00000", "1.00010", is_open=False)) == ()


def test_a_position_that_is_not_open_can_neither_be_edited_nor_closed() -> None:
    edited = book.edit_position(EMPTY, RULES, a_market(), "1", D(0), D(0))
    closed = book.close_position(EMPTY, RULES, a_market(), "1")
    assert isinstance(edited, Rejected) and edited.code == "POSITION_NOT_FOUND"
    assert isinstance(closed, Rejected) and closed.code == "POSITION_NOT_FOUND"


def test_an_edit_to_a_stop_on_the_wrong_side_is_rejected() -> None:
    decided = book.edit_position(opened(an_order()), RULES, a_market(), "1000001", D("1.2"), D(0))
    assert isinstance(decided, Rejected) and decided.code == "INVALID_STOPS"


@pytest.mark.parametrize("volume", ["0.11", "0", "-0.01", "0.005"])
def test_a_part_that_the_position_does_not_have_cannot_be_closed(volume: str) -> None:
    decided = book.close_position(opened(an_order()), RULES, a_market(), "1000001", D(volume))
    assert isinstance(decided, Rejected) and decided.code == "INVALID_VOLUME"


def test_the_number_of_positions_is_limited() -> None:
    held = opened(an_order()).holdings[0]
    full = structs.replace(EMPTY, holdings=(held,) * book.POSITIONS_MAX)
    decided = book.open_position(full, RULES, a_market(), an_order())
    assert isinstance(decided, Rejected) and decided.code == "TOO_MANY_POSITIONS"


def test_exactly_all_of_the_free_margin_may_be_used() -> None:
    # 22.70 lots: margin 22.70 x 110,000 / 50 = 49,940; spread 22.70 x 10 = 227 and commission 113.50 leave too little.
    assert isinstance(book.open_position(EMPTY, RULES, a_market(), an_order(volume=D("22.70"))), Rejected)
    # 22.57 lots: 49,654 of margin + 225.70 + 112.85 = 49,992.55.
    assert isinstance(book.open_position(EMPTY, RULES, a_market(), an_order(volume=D("22.57"))), Opened)
    # 22.58 lots: 49,676 + 225.80 + 112.90 = 50,014.70.
    assert isinstance(book.open_position(EMPTY, RULES, a_market(), an_order(volume=D("22.58"))), Rejected)


# ── money ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("symbol", "side", "volume", "entry", "leave", "rate", "profit_cents"),
    [
        # EURUSD, quoted in dollars: 50 pips x 10 USD x 0.2 lots = 100 USD.
        ("EURUSD", "BUY", "0.20", "1.10000", "1.10500", "1", 10_000),
        ("EURUSD", "SELL", "0.20", "1.10000", "1.10500", "1", -10_000),
        # USDJPY: 0.500 x 100,000 x 0.3 = 15,000 JPY; at 150 JPY a dollar 100 USD.
        ("USDJPY", "BUY", "0.30", "150.000", "150.500", "150", 10_000),
        # USDJPY, a sell that lost 1.25 yen: 125,000 JPY / 151.25 = 826.446 USD.
        ("USDJPY", "SELL", "1.00", "150.000", "151.250", "151.25", -82_645),
        # EURGBP: 0.00400 x 100,000 x 0.5 = 200 GBP x 1.25 = 250 USD.
        ("EURGBP", "SELL", "0.50", "0.85000", "0.84600", "1.25", 25_000),
        # USDCHF at 0.80: a pip of a lot is 10 CHF = 12.50 USD, not 10; 20 pips = 250 USD.
        ("USDCHF", "BUY", "1.00", "0.80000", "0.80200", "1.25", 25_000),
    ],
)
def test_profit_is_distance_times_lots_times_contract_in_the_accounts_currency(
    symbol: str, side: Any, volume: str, entry: str, leave: str, rate: str, profit_cents: int
) -> None:
    quote = symbol[3:]
    held = Holding(
        id="1", symbol=f"{symbol}.", side=side, volume=D(volume), open_price=D(entry), sl_price=D(0), tp_price=D(0),
        opened_ms=0, commission_cents=0,
    )  # fmt: skip
    market = a_market(rates=RATES | {quote: 1 / D(rate) if quote == "JPY" else D(rate)})
    assert book.profit_cents(held, RULES, market, D(leave)) == profit_cents


def test_a_buy_opens_at_the_ask_and_closes_at_the_bid() -> None:
    kept = opened(an_order())
    assert kept.holdings[0].open_price == D("1.10010")
    assert book.closing_price(kept.holdings[0], a_market()) == D("1.10000")


def test_a_sell_opens_at_the_bid_and_closes_at_the_ask() -> None:
    kept = opened(an_order(side="SELL", sl_price=D("1.11")))
    assert kept.holdings[0].open_price == D("1.10000")
    assert book.closing_price(kept.holdings[0], a_market()) == D("1.10010")


def test_a_new_position_costs_the_spread_and_the_commission_of_the_round_turn() -> None:
    worth = book.account(opened(an_order(volume=D("2.00"))), RULES, a_market())
    # Spread: 0.00010 x 100,000 x 2 = 20 USD. Commission: 5 USD x 2 lots. Margin: 2 x 110,000 / 50.
    assert (worth.balance_cents, worth.profit_cents, worth.net_profit_cents) == (5_000_000, -2_000, -3_000)
    assert (worth.equity_cents, worth.margin_cents, worth.free_margin_cents) == (4_997_000, 440_000, 4_557_000)


def test_the_margin_of_a_yen_pair_is_in_its_base_currency() -> None:
    kept = opened(an_order(symbol="USDJPY.", volume=D(1), sl_price=D(0)))
    assert book.account(kept, RULES, a_market()).margin_cents == 200_000


def test_a_close_moves_the_net_profit_into_the_balance() -> None:
    kept = opened(an_order(volume=D(1)))
    decided = book.close_position(kept, RULES, at("EURUSD", "1.10110", "1.10120", at_ms=2_000), "1000001")
    assert isinstance(decided, Closed)
    done = decided.operation
    assert (done.profit_cents, done.commission_cents, done.net_profit_cents) == (10_000, -500, 9_500)
    assert (done.reason, done.close_price, done.closed_ms, done.opened_ms) == ("MANUAL", D("1.10110"), 2_000, 1_000)
    after = book.apply(kept, decided)
    assert (after.balance_cents, after.holdings, after.history) == (5_009_500, (), (done,))


def test_a_part_closed_takes_its_share_and_leaves_the_rest() -> None:
    kept = opened(an_order(volume=D("0.30")))
    first = book.close_position(kept, RULES, a_market(), "1000001", D("0.10"))
    assert isinstance(first, Closed)
    rest = book.apply(kept, first)
    assert (first.operation.profit_cents, first.operation.commission_cents) == (-100, -50)
    assert (rest.holdings[0].volume, rest.holdings[0].commission_cents) == (D("0.20"), -100)
    last = book.close_position(rest, RULES, a_market(), "1000001")
    assert isinstance(last, Closed)
    assert book.apply(rest, last).balance_cents == 5_000_000 - 300 - 150


# ── stops ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("side", "bid", "ask", "expected"),
    [
        ("BUY", "1.09001", "1.09011", None),
        ("BUY", "1.09000", "1.09010", ("SL", "1.09000")),
        ("BUY", "1.07000", "1.07010", ("SL", "1.07000")),  # a gap: filled where the price is, not at the stop
        ("BUY", "1.11999", "1.12009", None),  # the ask has reached the target, the bid has not
        ("BUY", "1.12000", "1.12010", ("TP", "1.12000")),
        ("BUY", "1.13000", "1.13010", ("TP", "1.12000")),  # a gap: never better than the target
        ("SELL", "1.11989", "1.11999", None),
        ("SELL", "1.11990", "1.12000", ("SL", "1.12000")),  # a sell's stop is hit at the ask
        ("SELL", "1.14990", "1.15000", ("SL", "1.15000")),
        ("SELL", "1.09000", "1.09010", None),
        ("SELL", "1.08990", "1.09000", ("TP", "1.09000")),
        ("SELL", "1.05000", "1.05010", ("TP", "1.09000")),
    ],
)
def test_stop_and_target_are_hit_at_the_price_that_closes(
    side: Any, bid: str, ask: str, expected: tuple[str, str] | None
) -> None:
    sl, tp = ("1.09000", "1.12000") if side == "BUY" else ("1.12000", "1.09000")
    kept = opened(an_order(side=side, sl_price=D(sl), tp_price=D(tp)))
    events = book.settle(kept, RULES, at("EURUSD", bid, ask))
    found = [(one.operation.reason, str(one.operation.close_price)) for one in events]
    assert found == ([] if expected is None else [expected])


def test_an_edited_stop_is_the_one_that_counts() -> None:
    kept = opened(an_order())
    decided = book.edit_position(kept, RULES, a_market(), "1000001", D("1.09500"), D("1.20000"))
    assert isinstance(decided, Edited)
    assert len(book.settle(book.apply(kept, decided), RULES, at("EURUSD", "1.09400", "1.09410"))) == 1
    assert book.settle(kept, RULES, at("EURUSD", "1.09400", "1.09410")) == ()


def test_a_margin_call_closes_the_worst_position_first_and_stops_when_it_is_enough() -> None:
    kept = opened(an_order(volume=D(10), sl_price=D(0)))
    kept = opened(an_order(symbol="EURGBP.", volume=D(1), sl_price=D(0)), before=kept)
    # 10 lots at 1.05800: loss 42,100 + commission 55; equity 7,835 is below half of 24,200 margin.
    events = book.settle(kept, RULES, at("EURUSD", "1.05800", "1.05810"))
    assert [(one.operation.symbol, one.operation.reason) for one in events] == [("EURUSD.", "STOP_OUT")]


# ── replay ──────────────────────────────────────────────────────────────────


def test_an_event_of_a_position_that_is_not_open_cannot_be_applied() -> None:
    with pytest.raises(KeyError):
        book.apply(EMPTY, Edited("1", D(0), D(0)))


def test_ids_are_never_used_twice() -> None:
    kept = opened(an_order())
    closed = book.close_position(kept, RULES, a_market(), "1000001")
    assert isinstance(closed, Closed)
    again = opened(an_order(), before=book.apply(kept, closed))
    assert (closed.operation.closing_order_id, again.holdings[0].id) == ("1000002", "1000003")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["open", "close", "part", "settle"]), st.integers(-300, 300)), max_size=25))
def test_balance_is_the_start_plus_all_net_profits_and_a_replay_gives_the_same_book(
    steps: list[tuple[str, int]],
) -> None:
    kept, events = EMPTY, list[Any]()
    for number, (what, pips) in enumerate(steps):
        bid = D("1.1") + D(pips) / 10_000
        market = at("EURUSD", str(bid), str(bid + D("0.0001")), at_ms=number)
        decided: list[Any] = []
        if what == "open":
            side: Any = "BUY" if pips % 2 else "SELL"
            decided = [book.open_position(kept, RULES, market, an_order(side=side, sl_price=D(0)))]
        elif what == "settle":
            decided = list(book.settle(kept, RULES, market))
        elif kept.holdings:
            part = D("0.03") if what == "part" and kept.holdings[0].volume > D("0.03") else None
            decided = [book.close_position(kept, RULES, market, kept.holdings[0].id, part)]
        for event in decided:
            if not isinstance(event, Rejected):
                kept = book.apply(kept, event)
                events.append(event)
    assert kept.balance_cents == EMPTY.balance_cents + sum(done.net_profit_cents for done in kept.history)
    again = EMPTY
    for event in events:
        again = book.apply(again, event)
    assert again == kept
