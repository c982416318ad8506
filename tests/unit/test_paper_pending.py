"""Orders that wait for their price: every refusal, then what they become when it comes, also over a gap."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from actors.broker.paper import book, pending
from actors.broker.paper.values import Book, Cancelled, Changed, Closed, Created, Market, Opened, PendingOrder, Rejected
from tests.unit.test_paper_book import EMPTY, RULES, a_market, an_order, at, opened

D = Decimal


def asked(**changes: Any) -> PendingOrder:
    return PendingOrder(
        **{
            "kind": "LIMIT", "symbol": "EURUSD.", "side": "BUY", "volume": D("0.10"), "activation_price": D("1.09000"),
        }
        | changes
    )  # fmt: skip


def waiting(order: PendingOrder, *, before: Book = EMPTY, market: Market | None = None, receipt: int = 0) -> Book:
    decided = pending.create(before, RULES, market or a_market(), order, receipt)
    assert isinstance(decided, Created), decided
    return book.apply(before, decided)


def code_of(decided: object) -> str:
    assert isinstance(decided, Rejected), decided
    return decided.code


SELL_LIMIT = {"side": "SELL", "activation_price": D("1.12")}
BUY_STOP = {"kind": "STOP", "activation_price": D("1.12")}
SELL_STOP = {"kind": "STOP", "side": "SELL", "activation_price": D("1.09")}

# ── refusals ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"symbol": "XAUUSD."}, "INSTRUMENT_NOT_FOUND"),
        ({"volume": D("0.005")}, "INVALID_VOLUME"),
        ({"activation_price": D(0)}, "INVALID_PRICE"),
        ({"activation_price": D("-1.09")}, "INVALID_PRICE"),
        ({"activation_price": D("1.090001")}, "INVALID_PRICE"),
        # Bid 1.10000, ask 1.10010. A buy limit waits below the ask, a sell limit above the bid; stops the other way.
        ({"activation_price": D("1.10010")}, "INVALID_PRICE"),
        ({"activation_price": D("1.10001")}, "PRICE_TOO_CLOSE"),
        (SELL_LIMIT | {"activation_price": D("1.10000")}, "INVALID_PRICE"),
        (SELL_LIMIT | {"activation_price": D("1.10009")}, "PRICE_TOO_CLOSE"),
        (BUY_STOP | {"activation_price": D("1.10010")}, "INVALID_PRICE"),
        (BUY_STOP | {"activation_price": D("1.10019")}, "PRICE_TOO_CLOSE"),
        (SELL_STOP | {"activation_price": D("1.10000")}, "INVALID_PRICE"),
        (SELL_STOP | {"activation_price": D("1.09991")}, "PRICE_TOO_CLOSE"),
        # Stop and target are measured from the activation price, not from today's.
        ({"sl_price": D("1.09500")}, "INVALID_STOPS"),
        ({"tp_price": D("1.08900")}, "INVALID_STOPS"),
        ({"sl_price": D("1.08991")}, "STOPS_TOO_CLOSE"),
        ({"tp_price": D("1.09009")}, "STOPS_TOO_CLOSE"),
        ({"sl_price": D("1.089001")}, "INVALID_PRICE"),
        (SELL_LIMIT | {"sl_price": D("1.11900")}, "INVALID_STOPS"),
        (BUY_STOP | {"sl_price": D("1.12100")}, "INVALID_STOPS"),
    ],
)  # fmt: skip
def test_an_order_that_cannot_wait_is_rejected(changes: dict[str, Any], code: str) -> None:
    assert code_of(pending.create(EMPTY, RULES, a_market(), asked(**changes))) == code


@pytest.mark.parametrize("changes", [
    {"activation_price": D("1.10000"), "sl_price": D("1.09990"), "tp_price": D("1.10010")},
    SELL_LIMIT | {"activation_price": D("1.10010"), "sl_price": D("1.10020"), "tp_price": D("1.10000")},
    BUY_STOP | {"activation_price": D("1.10020")},
    SELL_STOP | {"activation_price": D("1.09990")},
])  # fmt: skip
def test_prices_exactly_at_the_smallest_distance_are_taken(changes: dict[str, Any]) -> None:
    waiting(asked(**changes))


def test_where_it_is_closed_orders_are_neither_taken_nor_changed_nor_filled() -> None:
    kept = waiting(asked())
    for shut in (a_market(is_open=False), a_market(shut=frozenset({"EURUSD."}))):
        assert code_of(pending.create(kept, RULES, shut, asked())) == "MARKET_CLOSED"
        assert code_of(pending.edit(kept, RULES, shut, "1000001", D("1.08"), D(0), D(0))) == "MARKET_CLOSED"
        assert code_of(pending.cancel(kept, RULES, shut, "1000001")) == "MARKET_CLOSED"
    low = at("EURUSD", "1.00000", "1.00010", shut=frozenset({"EURUSD."}))
    assert pending.trigger(kept, RULES, low) == ()
    assert isinstance(book.open_position(kept, RULES, low, an_order(symbol="EURGBP.", sl_price=D(0))), Opened)


def test_an_order_that_does_not_wait_can_neither_be_changed_nor_cancelled() -> None:
    assert code_of(pending.edit(EMPTY, RULES, a_market(), "1", D("1.08"), D(0), D(0))) == "ORDER_NOT_FOUND"
    assert code_of(pending.cancel(EMPTY, RULES, a_market(), "1")) == "ORDER_NOT_FOUND"


def test_within_the_freeze_level_nothing_can_be_changed() -> None:
    terms = {name: structs.replace(one, freeze_level=50) for name, one in RULES.terms.items()}
    rules = structs.replace(RULES, terms=terms)
    kept = waiting(asked(sl_price=D("1.08")))
    near, far = at("EURUSD", "1.09030", "1.09040"), at("EURUSD", "1.09040", "1.09050")
    assert code_of(pending.cancel(kept, rules, near, "1000001")) == "FROZEN"
    assert code_of(pending.edit(kept, rules, near, "1000001", D("1.07"), D(0), D(0))) == "FROZEN"
    assert isinstance(pending.cancel(kept, rules, far, "1000001"), Cancelled)
    held = opened(an_order())
    assert code_of(book.edit_position(held, rules, at("EURUSD", "1.09049", "1.09059"), "1000001", D("1.08"), D(0))) == (
        "FROZEN"
    )  # fmt: skip
    assert not isinstance(
        book.edit_position(held, rules, at("EURUSD", "1.09050", "1.09060"), "1000001", D("1.08"), D(0)), Rejected
    )


def test_the_number_of_orders_is_limited() -> None:
    one = waiting(asked()).orders[0]
    full = structs.replace(EMPTY, orders=(one,) * pending.ORDERS_MAX)
    assert code_of(pending.create(full, RULES, a_market(), asked())) == "TOO_MANY_ORDERS"


def test_below_the_margin_call_no_order_is_taken_and_none_is_filled() -> None:
    kept = opened(an_order(volume=D(20), sl_price=D(0)))
    kept = waiting(asked(activation_price=D("1.05000")), before=kept)
    # 20 lots: margin 44,000. At 1.09700 the loss is 6,200 and 100 of commission: 43,700.
    low = at("EURUSD", "1.09700", "1.09710")
    assert code_of(book.open_position(kept, RULES, low, an_order(volume=D("0.01"), sl_price=D(0)))) == "MARGIN_CALL"
    assert code_of(pending.create(kept, RULES, low, asked(activation_price=D("1.08")))) == "MARGIN_CALL"
    just_above = at("EURUSD", "1.09720", "1.09730")
    assert code_of(book.open_position(kept, RULES, just_above, an_order(volume=D("0.5"), sl_price=D(0)))) == (
        "NOT_ENOUGH_MONEY"
    )  # fmt: skip
    assert pending.trigger(kept, RULES, at("EURUSD", "1.04990", "1.05000")) == (Cancelled("1000002", "MARGIN_CALL"),)


# ── what becomes of them ────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "bid", "ask", "fill"),
    [
        ({}, "1.08991", "1.09001", None),
        ({}, "1.08990", "1.09000", "1.09000"),
        ({}, "1.07000", "1.07010", "1.07010"),  # a gap: a limit is filled at its level or better
        (SELL_LIMIT, "1.11999", "1.12009", None),  # the ask is there, the bid is not
        (SELL_LIMIT, "1.12000", "1.12010", "1.12000"),
        (SELL_LIMIT, "1.15000", "1.15010", "1.15000"),
        (BUY_STOP, "1.11989", "1.11999", None),
        (BUY_STOP, "1.11990", "1.12000", "1.12000"),
        (BUY_STOP, "1.15000", "1.15010", "1.15010"),  # a gap: a stop is filled at the market, which is worse
        (SELL_STOP, "1.09001", "1.09011", None),
        (SELL_STOP, "1.09000", "1.09010", "1.09000"),
        (SELL_STOP, "1.05000", "1.05010", "1.05000"),
    ],
)
def test_an_order_is_filled_at_the_price_that_opens(
    changes: dict[str, Any], bid: str, ask: str, fill: str | None
) -> None:
    kept = waiting(asked(**changes), receipt=7)
    events = pending.trigger(kept, RULES, at("EURUSD", bid, ask, at_ms=5_000))
    if fill is None:
        assert events == ()
        return
    (event,) = events
    assert isinstance(event, Opened)
    held = event.holding
    assert (held.id, held.open_price, held.opened_ms, held.volume) == ("1000001", D(fill), 5_000, D("0.10"))
    assert (held.commission_cents, event.receipt) == (-50, 7)
    after = book.apply(kept, event)
    assert (after.orders, after.holdings, after.next_id) == ((), (held,), 1_000_002)


def test_without_the_margin_an_order_whose_price_came_is_dropped_and_says_why() -> None:
    kept = waiting(asked(volume=D(20)))
    kept = waiting(asked(volume=D(20)), before=kept)
    events = pending.trigger(kept, RULES, at("EURUSD", "1.08990", "1.09000"))
    assert [type(one) for one in events] == [Opened, Cancelled]  # the older one took all there was
    assert events[1] == Cancelled("1000002", "NOT_ENOUGH_MONEY")
    for event in events:
        kept = book.apply(kept, event)
    assert (len(kept.orders), len(kept.holdings)) == (0, 1)


def test_an_order_takes_its_stops_along_and_a_gap_beyond_them_closes_it_at_the_market() -> None:
    kept = waiting(asked(sl_price=D("1.08000"), tp_price=D("1.10000")))
    market = at("EURUSD", "1.07000", "1.07010")
    (event,) = pending.trigger(kept, RULES, market)
    assert isinstance(event, Opened) and (event.holding.sl_price, event.holding.tp_price) == (D("1.08"), D("1.10"))
    (closed,) = book.settle(book.apply(kept, event), RULES, market)
    # The spread and the commission: nobody was ever offered 1.08.
    assert (closed.operation.close_price, closed.operation.reason, closed.operation.net_profit_cents) == (
        D("1.07000"), "SL", -150,
    )  # fmt: skip


def test_a_stop_order_that_a_gap_filled_beyond_its_target_is_closed_at_the_market_not_at_the_target() -> None:
    kept = waiting(asked(**BUY_STOP, tp_price=D("1.13000")))
    market = at("EURUSD", "1.15000", "1.15010")
    (event,) = pending.trigger(kept, RULES, market)
    (closed,) = book.settle(book.apply(kept, event), RULES, market)
    assert (closed.operation.close_price, closed.operation.reason) == (D("1.15000"), "TP")


def test_a_changed_order_is_filled_by_its_new_price_and_a_cancelled_one_never() -> None:
    kept = waiting(asked())
    changed = pending.edit(kept, RULES, a_market(), "1000001", D("1.08000"), D("1.07"), D("1.09"))
    assert changed == Changed("1000001", D("1.08000"), D("1.07"), D("1.09"))
    assert isinstance(changed, Changed)
    moved = book.apply(kept, changed)
    assert pending.trigger(moved, RULES, at("EURUSD", "1.08500", "1.08510")) == ()
    (event,) = pending.trigger(moved, RULES, at("EURUSD", "1.07990", "1.08000"))
    assert isinstance(event, Opened) and event.holding.sl_price == D("1.07")
    cancelled = pending.cancel(kept, RULES, a_market(), "1000001")
    assert isinstance(cancelled, Cancelled)
    assert book.apply(kept, cancelled).orders == ()
    assert code_of(pending.edit(kept, RULES, a_market(), "1000001", D("1.11"), D(0), D(0))) == "INVALID_PRICE"


@pytest.mark.parametrize("event", [Changed("1", D(1), D(0), D(0)), Cancelled("1", "MANUAL")])
def test_an_event_of_an_order_that_does_not_wait_cannot_be_applied(event: Changed | Cancelled) -> None:
    with pytest.raises(KeyError):
        book.apply(EMPTY, event)


def test_ids_of_orders_and_positions_are_never_used_twice() -> None:
    kept = waiting(asked())
    kept = opened(an_order(), before=kept)
    (event,) = pending.trigger(kept, RULES, at("EURUSD", "1.09001", "1.09000"))
    kept = book.apply(kept, event)
    assert [held.id for held in kept.holdings] == ["1000002", "1000001"]
    assert kept.next_id == 1_000_003


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["create", "edit", "cancel", "open", "close", "tick"]), st.integers(-400, 400)),
        max_size=30,
    )
)
def test_a_replay_of_any_life_gives_the_same_book_and_the_same_money(steps: list[tuple[str, int]]) -> None:
    kept, events = EMPTY, list[Any]()

    def take(decided: Any) -> None:
        nonlocal kept
        for event in decided if isinstance(decided, tuple) else (decided,):
            if not isinstance(event, Rejected):
                kept = book.apply(kept, event)
                events.append(event)

    for number, (what, pips) in enumerate(steps):
        bid = D("1.1") + D(pips) / 10_000
        market = at("EURUSD", str(bid), str(bid + D("0.0001")), at_ms=number)
        side: Any = "BUY" if pips % 2 else "SELL"
        if what == "create":
            level = bid + (D("0.005") if pips % 3 else D("-0.005"))
            kind: Any = "STOP" if (level > bid) == (side == "BUY") else "LIMIT"
            take(pending.create(kept, RULES, market, asked(kind=kind, side=side, activation_price=level), number))
        elif what == "edit" and kept.orders:
            one = kept.orders[0]
            take(pending.edit(kept, RULES, market, one.id, one.activation_price, D(0), D(0)))
        elif what == "cancel" and kept.orders:
            take(pending.cancel(kept, RULES, market, kept.orders[-1].id))
        elif what == "open":
            take(book.open_position(kept, RULES, market, an_order(side=side, sl_price=D(0))))
        elif what == "close" and kept.holdings:
            take(book.close_position(kept, RULES, market, kept.holdings[0].id))
        else:
            take(book.settle(kept, RULES, market))
            take(pending.trigger(kept, RULES, market))
    again = EMPTY
    for event in events:
        again = book.apply(again, event)
    assert again == kept
    assert kept.balance_cents == EMPTY.balance_cents + sum(done.net_profit_cents for done in kept.history)
    ids = [one.holding.id for one in events if isinstance(one, Opened)]
    assert len(ids) == len(set(ids))
    closings = [one.operation.closing_order_id for one in events if isinstance(one, Closed)]
    assert len({*ids, *closings}) == len(ids) + len(closings)
