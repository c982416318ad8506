"""Matching an order whose answer was lost: what is ours, what is not, and what nobody can know."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from actors.broker import reconcile
from actors.broker.reconcile import Absent, Ambiguous, FoundClosed, FoundOpen
from actors.broker.wire import ClosedPosition, Position
from bus import clock
from bus.records import Order, OrderPlan
from bus.vocabulary import OrderStatus

RESERVED = datetime(2026, 2, 16, 9, 30, tzinfo=UTC)
NOBODYS: frozenset[str] = frozenset()


def an_order(*, baseline: tuple[str, ...] = (), **plan: Any) -> Order:
    return Order(
        intent_id="i1",
        status=OrderStatus.UNKNOWN,
        plan=OrderPlan(
            **{
                "symbol": "EURUSD", "broker_symbol": "EURUSD.", "side": "BUY", "volume": Decimal("0.10"),
                "sl_price": Decimal("1.09000"), "tp_price": Decimal("1.12000"), "entry_price": Decimal("1.10000"),
                "loss_cents": 10_000, "profit_cents": 20_000,
            }
            | plan
        ),
        baseline=baseline,
        reserved_at=clock.iso(RESERVED),
        deadline_at=clock.iso(RESERVED + timedelta(seconds=75)),
    )  # fmt: skip


def a_position(position_id: str = "p1", **changes: Any) -> Position:
    return Position(
        **{
            "id": position_id, "symbol": "EURUSD", "broker_symbol": "EURUSD.", "side": "BUY",
            "volume": Decimal("0.1"), "open_price": Decimal("1.10003"), "sl_price": Decimal("1.09"),
            "tp_price": Decimal("1.12"), "opened_at": RESERVED + timedelta(seconds=1),
            "current_price": Decimal("1.1"), "swap_cents": 0, "commission_cents": -50, "profit_cents": 0,
            "net_profit_cents": -50,
        }
        | changes
    )  # fmt: skip


def a_row(position_id: str = "p1", **changes: Any) -> ClosedPosition:
    return ClosedPosition(
        **{
            "id": position_id, "symbol": "EURUSD", "broker_symbol": "EURUSD.", "side": "BUY",
            "volume": Decimal("0.10"), "open_price": Decimal("1.10003"), "close_price": Decimal("1.09"),
            "opened_at": RESERVED + timedelta(seconds=1), "closed_at": RESERVED + timedelta(seconds=9),
            "net_profit_cents": -10_053, "profit_cents": -10_003, "swap_cents": 0, "commission_cents": -50,
            "reason": "SL",
        }
        | changes
    )  # fmt: skip


def test_no_positions_at_all_is_absent() -> None:
    assert reconcile.match(an_order(), (), (), NOBODYS) == Absent()


@pytest.mark.parametrize(
    ("changes", "is_similar"),
    [
        ({"broker_symbol": "GBPUSD."}, False),
        ({"side": "SELL"}, False),
        ({"volume": Decimal("0.11")}, True),
        ({"sl_price": Decimal("1.09001")}, True),
        ({"tp_price": Decimal("1.12001")}, True),
        ({"sl_price": None, "tp_price": Decimal("1.12001")}, True),
        ({"volume": Decimal("0.05"), "sl_price": None}, True),
        ({"volume": Decimal("0.05"), "sl_price": Decimal("1.09001")}, True),
        ({"opened_at": RESERVED - timedelta(seconds=6)}, True),
    ],
)
def test_a_position_that_differs_is_not_ours(changes: dict[str, Any], is_similar: bool) -> None:
    found = reconcile.match(an_order(), (a_position(**changes),), (), NOBODYS)
    assert found == Absent(similar=("p1",) if is_similar else ())


def test_a_position_of_the_baseline_is_not_ours_however_equal() -> None:
    assert reconcile.match(an_order(baseline=("p1",)), (a_position(),), (), NOBODYS) == Absent()
    assert reconcile.match(an_order(baseline=("p1",)), (), (a_row(),), NOBODYS) == Absent()


def test_a_position_that_another_intent_owns_is_not_ours() -> None:
    assert reconcile.match(an_order(), (a_position(),), (), frozenset({"p1"})) == Absent()
    assert reconcile.match(an_order(), (), (a_row(),), frozenset({"p1"})) == Absent()


def test_an_equal_new_position_is_ours_whatever_the_notation_of_its_numbers() -> None:
    position = a_position(volume=Decimal("0.100"), sl_price=Decimal("1.090000"))
    assert reconcile.match(an_order(), (position,), (), NOBODYS) == FoundOpen(position)


@pytest.mark.parametrize("seconds", [-5, 0, 300])
def test_the_brokers_clock_may_be_five_seconds_behind(seconds: int) -> None:
    position = a_position(opened_at=RESERVED + timedelta(seconds=seconds))
    assert reconcile.match(an_order(), (position,), (), NOBODYS) == FoundOpen(position)


def test_a_larger_skew_can_be_allowed() -> None:
    position = a_position(opened_at=RESERVED - timedelta(seconds=20))
    assert reconcile.match(an_order(), (position,), (), NOBODYS, skew_s=30) == FoundOpen(position)


def test_a_plan_without_target_matches_a_position_without_target() -> None:
    order = an_order(tp_price=Decimal(0))
    assert reconcile.match(order, (a_position(tp_price=None),), (), NOBODYS) == FoundOpen(a_position(tp_price=None))
    assert reconcile.match(order, (a_position(),), (), NOBODYS) == Absent(similar=("p1",))


def test_a_position_without_the_stop_that_we_sent_is_still_ours() -> None:
    naked = a_position(sl_price=None, tp_price=None)
    assert reconcile.match(an_order(), (naked,), (), NOBODYS) == FoundOpen(naked)


def test_a_position_without_stop_beside_an_equal_one_is_ambiguous() -> None:
    found = reconcile.match(an_order(), (a_position("p2", sl_price=None), a_position("p1")), (), NOBODYS)
    assert isinstance(found, Ambiguous)
    assert found.ids == ("p1", "p2")


def test_a_partial_fill_with_our_stop_is_ours() -> None:
    part = a_position(volume=Decimal("0.04"))
    assert reconcile.match(an_order(), (part,), (), NOBODYS) == FoundOpen(part)


def test_two_partial_fills_are_ambiguous() -> None:
    parts = (a_position("p1", volume=Decimal("0.04")), a_position("p2", volume=Decimal("0.06")))
    assert isinstance(reconcile.match(an_order(), parts, (), NOBODYS), Ambiguous)


def test_a_doubled_order_is_ambiguous_and_names_both_positions() -> None:
    found = reconcile.match(an_order(), (a_position("p1"), a_position("p2")), (), NOBODYS)
    assert isinstance(found, Ambiguous)
    assert found.ids == ("p1", "p2")
    assert "i1" in found.reason


def test_one_position_listed_twice_counts_once() -> None:
    assert reconcile.match(an_order(), (a_position(), a_position()), (), NOBODYS) == FoundOpen(a_position())
    assert reconcile.match(an_order(), (), (a_row(), a_row()), NOBODYS) == FoundClosed(a_row())


def test_an_order_opened_and_closed_before_we_looked_is_found_in_history() -> None:
    assert reconcile.match(an_order(), (), (a_row(),), NOBODYS) == FoundClosed(a_row())


@pytest.mark.parametrize(
    "changes",
    [
        {"broker_symbol": "GBPUSD."},
        {"side": "SELL"},
        {"volume": Decimal("0.11")},
        {"volume": Decimal("0.05")},
        {"opened_at": RESERVED - timedelta(seconds=6)},
        {"sl_price": Decimal("1.08")},
        {"tp_price": Decimal("1.13")},
    ],
)
def test_a_closed_row_that_differs_is_not_ours(changes: dict[str, Any]) -> None:
    assert isinstance(reconcile.match(an_order(), (), (a_row(**changes),), NOBODYS), Absent)


@pytest.mark.parametrize(("seconds", "is_similar"), [(6, True), (600, True), (906, False), (86_400, False)])
def test_a_closed_row_from_shortly_before_the_reservation_is_in_doubt_and_an_old_one_is_not(
    seconds: int, is_similar: bool
) -> None:
    opened_at = RESERVED - timedelta(seconds=seconds)
    row = a_row(opened_at=opened_at, closed_at=opened_at + timedelta(seconds=3))
    assert reconcile.match(an_order(), (), (row,), NOBODYS) == Absent(similar=("p1",) if is_similar else ())


def test_a_closed_row_that_says_stop_and_target_must_say_ours() -> None:
    row = a_row(sl_price=Decimal("1.09"), tp_price=Decimal("1.12"))
    assert reconcile.match(an_order(), (), (row,), NOBODYS) == FoundClosed(row)


def test_a_partly_filled_closed_row_is_ours_only_with_our_stop() -> None:
    row = a_row(volume=Decimal("0.05"), sl_price=Decimal("1.09"))
    assert reconcile.match(an_order(), (), (row,), NOBODYS) == FoundClosed(row)


def test_one_open_and_another_closed_candidate_are_ambiguous() -> None:
    found = reconcile.match(an_order(), (a_position("p1"),), (a_row("p2"),), NOBODYS)
    assert isinstance(found, Ambiguous)
    assert found.ids == ("p1", "p2")


def test_a_position_closed_in_part_counts_once_as_open() -> None:
    rest = a_position(volume=Decimal("0.06"))
    assert reconcile.match(an_order(), (rest,), (a_row(volume=Decimal("0.04")),), NOBODYS) == FoundOpen(rest)
    assert reconcile.match(an_order(), (a_position(),), (a_row(),), NOBODYS) == FoundOpen(a_position())


def test_a_position_closed_in_two_parts_is_found_as_one_row_with_their_sum() -> None:
    parts = (
        a_row(volume=Decimal("0.04"), net_profit_cents=-400, closed_at=RESERVED + timedelta(seconds=5)),
        a_row(volume=Decimal("0.06"), net_profit_cents=-700, closed_at=RESERVED + timedelta(seconds=9), reason="TP"),
    )
    found = reconcile.match(an_order(), (), parts, NOBODYS)
    assert isinstance(found, FoundClosed)
    assert (found.row.volume, found.row.net_profit_cents, found.row.reason) == (Decimal("0.10"), -1_100, "TP")


def test_two_equal_fills_of_one_moment_count_twice_and_a_repeated_row_once() -> None:
    fill, other_fill = (a_row(volume=Decimal("0.50"), net_profit_cents=-12_850, row_id=uid) for uid in ("u1", "u2"))
    (found,) = reconcile.whole((fill, other_fill, msgspec.structs.replace(fill)))
    assert (found.volume, found.net_profit_cents) == (Decimal("1.00"), -25_700)


def test_two_unresolved_orders_that_differ_in_the_last_digit_find_their_own() -> None:
    first, second = an_order(), an_order(sl_price=Decimal("1.08999"))
    seen = (a_position("p1"), a_position("p2", sl_price=Decimal("1.08999")))
    assert reconcile.match(first, seen, (), NOBODYS) == FoundOpen(seen[0])
    assert reconcile.match(second, seen, (), NOBODYS) == FoundOpen(seen[1])


# ── comments ────────────────────────────────────────────────────────────────

MINE, OTHER = "0123456789abcdef", "fedcba9876543210"


def a_named_order(**changes: Any) -> Order:
    return msgspec.structs.replace(an_order(), intent_id=MINE, **changes)


def test_comment_of_the_intent_confirms_one_of_two_equal_positions() -> None:
    positions = (a_position("p1"), a_position("p2", comment=MINE), a_position("p3", comment="by hand"))
    assert reconcile.match(a_named_order(), positions, (), NOBODYS) == FoundOpen(positions[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"volume": Decimal("0.20")}, {"sl_price": Decimal("1.05")}, {"opened_at": RESERVED - timedelta(hours=1)},
        {"sl_price": None, "tp_price": None},
    ],
)  # fmt: skip
def test_comment_of_the_intent_confirms_what_the_broker_changed(changes: dict[str, Any]) -> None:
    position = a_position(comment=MINE, **changes)
    assert reconcile.match(a_named_order(), (position,), (), NOBODYS) == FoundOpen(position)
    row = a_row(comment=MINE, **changes)
    assert reconcile.match(a_named_order(), (), (row,), NOBODYS) == FoundClosed(row)


@pytest.mark.parametrize("changes", [{"side": "SELL"}, {"broker_symbol": "GBPUSD."}])
def test_comment_makes_no_position_of_another_side_or_symbol_ours(changes: dict[str, Any]) -> None:
    position = a_position(comment=MINE, **changes)
    assert reconcile.match(a_named_order(), (position,), (), NOBODYS) == Absent()


def test_comment_of_the_intent_makes_neither_an_owned_position_nor_one_of_the_baseline_ours() -> None:
    position = a_position(comment=MINE)
    assert reconcile.match(a_named_order(), (position,), (), frozenset({"p1"})) == Absent()
    assert reconcile.match(a_named_order(baseline=("p1",)), (position,), (), NOBODYS) == Absent()


def test_comment_of_another_intent_excludes_an_equal_position() -> None:
    assert reconcile.match(a_named_order(), (a_position(comment=OTHER),), (a_row("p2", comment=OTHER),), NOBODYS) == (
        Absent()
    )


@pytest.mark.parametrize("comment", ["", "by hand", MINE.upper(), MINE[:-1], f"{OTHER}0"])
def test_comment_that_is_no_intents_id_proves_nothing(comment: str) -> None:
    position = a_position(comment=comment)
    assert reconcile.match(a_named_order(), (position,), (), NOBODYS) == FoundOpen(position)


def test_two_positions_with_the_intents_comment_are_ambiguous_and_a_part_that_closed_is_none() -> None:
    both = (a_position("p1", comment=MINE), a_position("p2", comment=MINE))
    found = reconcile.match(a_named_order(), both, (), NOBODYS)
    assert isinstance(found, Ambiguous) and found.ids == ("p1", "p2") and "carry the id of intent" in found.reason
    found = reconcile.match(a_named_order(), both[:1], (a_row("p2", comment=MINE),), NOBODYS)
    assert isinstance(found, Ambiguous)
    part = a_row("p1", volume=Decimal("0.04"), comment=MINE)
    assert reconcile.match(a_named_order(), both[:1], (part,), NOBODYS) == FoundOpen(both[0])
