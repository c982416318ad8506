"""Limits and their floors: which count, from what, reached at equality, rounded against us, never falling."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.compliance import drawdown, marks
from actors.compliance.drawdown import Level, Limit
from actors.compliance.money import amount
from actors.compliance.rulebook import RuleSet
from bus.clock import iso
from bus.records import AccountMark
from tests.kit.compliance import ACCOUNT_ID, NOW, a_day, the_rules
from tests.kit.days import NEW_YORK, rules_with

RULES = the_rules()
DAY = drawdown.daily(RULES, 5_000_000)


@pytest.mark.parametrize(
    ("value_cents", "level"),
    [
        (5_100_000, Level.OK),
        (4_875_001, Level.OK),
        (4_875_000, Level.WARN_50),
        (4_800_001, Level.WARN_50),
        (4_800_000, Level.WARN_80),
        (4_787_501, Level.WARN_80),
        (4_787_500, Level.STOP),
        (4_775_001, Level.STOP),
        (4_775_000, Level.FLATTEN),
        (4_750_001, Level.FLATTEN),
        (4_750_000, Level.BREACH),
        (0, Level.BREACH),
    ],
)
def test_level_is_reached_at_equality(value_cents: int, level: Level) -> None:
    assert DAY.level(value_cents) == level


def test_level_rises_at_once_and_falls_only_with_a_margin() -> None:
    assert DAY.next_level(4_787_500, Level.OK) == Level.STOP
    assert DAY.next_level(4_787_501, Level.STOP) == Level.STOP
    assert DAY.next_level(4_800_000, Level.STOP) == Level.STOP  # 80%: 5 points below the stop, reached
    assert DAY.next_level(4_800_001, Level.STOP) == Level.WARN_80
    assert DAY.next_level(5_000_000, Level.STOP) == Level.OK


def test_lower_of_balance_and_equity_is_measured() -> None:
    assert drawdown.measured_cents(10, 20, "lower_of_balance_and_equity") == 10
    assert drawdown.measured_cents(20, 10, "lower_of_balance_and_equity") == 10
    assert drawdown.measured_cents(10, 20, "equity") == 20


def test_parts_of_a_cent_round_the_floor_up() -> None:
    # 5% of $50,000.07 is $2,500.0035: the floor is $47,500.0665, rounded up.
    assert drawdown.daily(RULES, 5_000_007).floor_cents == 4_750_007


def test_room_and_loss_are_never_negative() -> None:
    assert (DAY.loss_cents(5_000_001), DAY.room_cents(4_749_999)) == (0, 0)
    assert (DAY.loss_cents(4_999_999), DAY.room_cents(4_750_001)) == (1, 1)


# ── which limits count ──────────────────────────────────────────────────────


def limits(rules: RuleSet, **changed: Any) -> tuple[Limit, ...] | str:
    given: dict[str, Any] = {
        "days": (a_day(),),
        "marks": (),
        "balance_cents": 5_000_000,
        "equity_cents": changed.get("balance_cents", 5_000_000),
    }
    return drawdown.lines(rules, **{**given, **changed})


def named(rules: RuleSet, **changed: Any) -> dict[str, Limit]:
    found = limits(rules, **changed)
    assert not isinstance(found, str), found
    return {limit.name: limit for limit in found}


def a_mark(kind: Any, value_cents: int) -> AccountMark:
    return AccountMark(account_id=ACCOUNT_ID, kind=kind, value_cents=value_cents, at=iso(NOW), known_until=iso(NOW))


def trailing(mode: str, lock_at: str = "none", **changed: Any) -> RuleSet:
    return rules_with(maximum={"mode": mode, "lock_at": lock_at, **changed})


def test_day_that_is_not_known_leaves_nothing_to_be_said() -> None:
    rules = rules_with(reset={"also": (NEW_YORK,)})
    assert limits(rules) == "what the day by 17:00 America/New_York started with is not known"
    assert limits(rules, days=()) == "what the day by 00:00 Europe/Athens started with is not known"


def test_day_kept_for_another_initial_balance_is_refused() -> None:
    found = limits(rules_with(), days=(a_day(initial_balance_cents=10_000_000),))
    assert found == "day 2026-02-16 was kept for an initial balance of 100,000.00; the rules say 50,000.00"


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("trailing_day_end", "day_end_balance"), ("trailing_closed", "closed_balance"), ("trailing_intraday", "equity")],
)
def test_mark_that_is_not_known_leaves_nothing_to_be_said(mode: str, kind: str) -> None:
    other = a_mark("equity" if kind != "equity" else "closed_balance", 5_100_000)
    said = f"the highest {kind} so far, which the maximum loss trails, is not known"
    assert limits(trailing(mode), marks=(other,)) == said
    assert marks.kind_of(trailing(mode)) == kind
    assert marks.kind_of(rules_with()) is None


def test_every_reading_of_the_reset_has_its_line_then_the_next_day_then_the_maximum() -> None:
    rules = rules_with(reset={"also": (NEW_YORK,)})
    days = (a_day(4_900_000, reset=NEW_YORK.label), a_day(5_000_000))
    found = limits(rules, days=days, balance_cents=4_950_000)
    assert not isinstance(found, str)
    assert [(limit.name, limit.reference_cents, limit.floor_cents, limit.stop_cents) for limit in found] == [
        ("daily 00:00 Europe/Athens", 5_000_000, 4_750_000, 4_787_500),
        ("daily 17:00 America/New_York", 4_900_000, 4_655_000, 4_691_750),
        ("next_day", 4_950_000, 4_702_500, 4_739_625),
        ("maximum", 5_000_000, 4_600_000, 4_660_000),
    ]


def test_set_without_a_daily_limit_has_only_the_maximum() -> None:
    assert list(named(rules_with(daily={"kind": "none", "ratio": Decimal(0)}), days=())) == ["maximum"]


def test_daily_amount_is_of_the_initial_balance_or_of_the_reference() -> None:
    for base, amount_cents in (("initial", 250_000), ("reference", 260_000)):
        found = named(rules_with(daily={"base": base}), days=(a_day(5_200_000),), balance_cents=5_200_000)
        assert found["daily 00:00 Europe/Athens"].floor_cents == 5_200_000 - amount_cents


def test_reference_above_the_start_counts() -> None:
    day = a_day(5_000_000, reference_cents=5_040_000)
    assert named(rules_with(), days=(day,))["daily 00:00 Europe/Athens"].reference_cents == 5_040_000


@pytest.mark.parametrize(
    ("reference", "equity_cents", "expected"),
    [
        ("balance", 5_100_000, 5_000_000),
        ("higher_of_balance_and_equity", 5_100_000, 5_100_000),
        ("higher_of_balance_and_equity", 4_900_000, 5_000_000),
    ],
)
def test_next_day_is_counted_from_what_the_firm_would_take(reference: str, equity_cents: int, expected: int) -> None:
    found = named(rules_with(daily={"reference": reference}), equity_cents=equity_cents)
    assert found["next_day"].reference_cents == expected


@pytest.mark.parametrize(
    ("mode", "kind", "balance_cents", "equity_cents", "reference_cents"),
    [
        ("trailing_day_end", "day_end_balance", 5_300_000, 5_400_000, 5_100_000),  # the day has not ended yet
        ("trailing_closed", "closed_balance", 5_300_000, 5_400_000, 5_300_000),
        ("trailing_closed", "closed_balance", 5_000_000, 5_400_000, 5_100_000),  # floating profit is no result
        ("trailing_intraday", "equity", 5_000_000, 5_400_000, 5_400_000),
        ("trailing_intraday", "equity", 5_400_000, 5_000_000, 5_100_000),
    ],
)
def test_trailing_maximum_is_counted_from_mark_or_present(
    mode: str, kind: str, balance_cents: int, equity_cents: int, reference_cents: int
) -> None:
    found = named(
        trailing(mode), marks=(a_mark(kind, 5_100_000),), balance_cents=balance_cents, equity_cents=equity_cents
    )
    assert found["maximum"].reference_cents == reference_cents
    assert found["maximum"].floor_cents == reference_cents - 400_000


def test_maximum_of_the_days_end_is_held_for_the_next_end_too() -> None:
    found = named(trailing("trailing_day_end"), marks=(a_mark("day_end_balance", 5_100_000),), balance_cents=5_300_000)
    assert list(found) == ["daily 00:00 Europe/Athens", "next_day", "maximum", "next_maximum"]
    assert found["next_maximum"].floor_cents == 4_900_000
    below = named(trailing("trailing_day_end"), marks=(a_mark("day_end_balance", 5_100_000),), balance_cents=4_950_000)
    assert below["next_maximum"].floor_cents == below["maximum"].floor_cents == 4_700_000


@pytest.mark.parametrize(
    ("mark_cents", "floor_cents"),
    [(5_000_000, 4_600_000), (5_399_999, 4_999_999), (5_400_000, 5_000_000), (9_000_000, 5_000_000)],
)
def test_locked_floor_rises_to_the_initial_balance_and_no_further(mark_cents: int, floor_cents: int) -> None:
    found = named(trailing("trailing_closed", "initial"), marks=(a_mark("closed_balance", mark_cents),))
    assert found["maximum"].floor_cents == floor_cents
    free = named(trailing("trailing_closed"), marks=(a_mark("closed_balance", mark_cents),))
    assert free["maximum"].floor_cents == mark_cents - 400_000


def test_parts_of_a_cent_round_a_locked_floor_up_and_not_down() -> None:
    rules = trailing("trailing_closed", "initial", ratio=Decimal("0.0800000001"))
    assert named(rules, marks=(a_mark("closed_balance", 9_000_000),))["maximum"].floor_cents == 5_000_001


def test_mark_below_the_initial_balance_lowers_no_floor() -> None:
    found = named(trailing("trailing_closed"), marks=(a_mark("closed_balance", 4_000_000),), balance_cents=4_700_000)
    assert found["maximum"].floor_cents == 4_600_000


@pytest.mark.parametrize(
    ("breach_at", "value_cents", "level"),
    [
        ("reach", 4_600_001, Level.FLATTEN),
        ("reach", 4_600_000, Level.BREACH),
        ("below", 4_600_000, Level.FLATTEN),
        ("below", 4_599_999, Level.BREACH),
    ],
)
def test_floor_is_breached_when_reached_or_only_below(breach_at: str, value_cents: int, level: Level) -> None:
    limit = named(rules_with(maximum={"breach_at": breach_at}))["maximum"]
    assert limit.level(value_cents) == level
    assert limit.stop_cents == 4_660_000  # the guard is as strict either way


def test_daily_limit_says_when_it_is_breached_as_well() -> None:
    assert named(rules_with(daily={"breach_at": "below"}))["next_day"].level(4_750_000) == Level.FLATTEN
    assert named(rules_with())["next_day"].level(4_750_000) == Level.BREACH


@given(
    steps=st.lists(st.tuples(st.integers(-300_000, 300_000), st.integers(-300_000, 300_000)), max_size=40),
    mode=st.sampled_from(["static", "trailing_day_end", "trailing_closed", "trailing_intraday"]),
    lock_at=st.sampled_from(["initial", "none"]),
    ratio=st.decimals("0.01", "0.2", places=6),
)
def test_maximum_floor_never_falls(steps: list[tuple[int, int]], mode: str, lock_at: str, ratio: Decimal) -> None:
    """Whatever the account does, as long as every look raises the mark."""
    rules = trailing(mode, lock_at, ratio=ratio)
    mark = marks.first(rules, ACCOUNT_ID, NOW)
    balance_cents, floors = 5_000_000, []
    for gained_cents, floating_cents in steps:
        balance_cents = max(1, balance_cents + gained_cents)
        equity_cents = balance_cents + floating_cents
        if mark is not None:
            value_cents = equity_cents if mode == "trailing_intraday" else balance_cents
            mark = marks.raised(mark, value_cents, NOW, NOW)
        known = () if mark is None else (mark,)
        found = named(rules, marks=known, balance_cents=balance_cents, equity_cents=equity_cents)
        floors.append(found["maximum"].floor_cents)
    assert floors == sorted(floors)
    if lock_at == "initial":
        assert all(floor <= 5_000_001 for floor in floors)


def test_amounts_read_like_amounts() -> None:
    assert [amount(cents) for cents in (-123_456, -5, 0, 100_000_000)] == ["-1,234.56", "-0.05", "0.00", "1,000,000.00"]
