"""What the levels say and do: halts by kind of limit, events once, no guess from figures that cannot be ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from actors.compliance.drawdown import Level
from actors.watch import ladder
from actors.watch.ladder import Ladder, Standing
from bus.clock import parse
from bus.records import AccountDay
from tests.kit.compliance import DAY_ENDS, D, a_balance, a_day, a_position, the_rules

RULES = the_rules()
ATHENS, NEW_YORK = "00:00 Europe/Athens", "17:00 America/New_York"
LATER = DAY_ENDS + timedelta(hours=1)


def days(*starts: int) -> tuple[AccountDay, ...]:
    """Return a day by each reading of the reset; the second one ends an hour later."""
    athens = a_day(starts[0], reset=ATHENS)
    new_york = a_day(starts[-1], reset=NEW_YORK, day="2026-02-15", ends_at=LATER.isoformat())
    return (athens, new_york)[: max(1, len(starts))]


def standings(equity_cents: int, *starts: int, **given: Any) -> tuple[Standing, ...]:
    usual: dict[str, Any] = {"days": days(*(starts or (5_000_000, 5_000_000))), "marks": (), "balance_cents": 5_000_000}
    return ladder.standings(given.pop("rules", RULES), equity_cents=equity_cents, **(usual | given))


def orders(equity_cents: int, *starts: int, **given: Any) -> list[tuple[str, bool, datetime | None]]:
    found = ladder.orders_of(given.get("rules", RULES), standings(equity_cents, *starts, **given))
    return [(order.key, order.flatten, order.until) for order in found]


def hard_daily() -> Any:
    return msgspec.structs.replace(RULES, daily=msgspec.structs.replace(RULES.daily, kind="hard"))


# ── refusals ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"balance_cents": 0}, "above 0"),
        ({"balance_cents": -1}, "above 0"),
        ({"equity_cents": 0}, "above 0"),
        ({"equity_cents": -5}, "above 0"),
        ({"currency": "EUR"}, "USD"),
        ({"balance_cents": 2_499_999}, "another account"),
        ({"balance_cents": 10_000_001}, "another account"),
    ],
)
def test_figures_that_cannot_be_ours_are_doubted(changed: dict[str, Any], word: str) -> None:
    assert word in ladder.doubt_of(RULES, msgspec.structs.replace(a_balance(), **changed))


@pytest.mark.parametrize("balance_cents", [2_500_000, 5_000_000, 10_000_000])
def test_figures_that_can_be_ours_are_not_doubted(balance_cents: int) -> None:
    assert ladder.doubt_of(RULES, a_balance(balance_cents)) == ""


# ── halts ───────────────────────────────────────────────────────────────────


def test_levels_halt_and_close_at_equality_and_not_a_cent_before() -> None:
    assert orders(4_787_501) == []
    assert orders(4_787_500) == [("daily_drawdown", False, LATER)]  # 85% of $2,500
    assert orders(4_775_001) == [("daily_drawdown", False, LATER)]
    assert orders(4_775_000) == [("daily_drawdown", True, LATER)]  # 90%
    assert orders(4_660_001)[1:] == []
    assert orders(4_660_000)[1:] == [("max_drawdown", False, None)]  # 85% of $4,000
    assert orders(4_640_000)[1:] == [("max_drawdown", True, None)]


def test_the_stricter_reading_of_the_day_counts() -> None:
    assert orders(4_860_000, 5_000_000, 5_080_000) == [("daily_drawdown", False, LATER)]
    assert orders(4_860_000, 5_080_000, 5_000_000) == [("daily_drawdown", False, DAY_ENDS)]
    assert orders(4_860_000, 5_000_000, 5_000_000) == []


def test_day_whose_breach_ends_the_account_closes_for_good_but_pauses_until_the_reset() -> None:
    assert orders(4_787_500, rules=hard_daily()) == [("daily_drawdown", False, LATER)]
    assert orders(4_775_000, rules=hard_daily()) == [("daily_drawdown", True, None)]


def test_lower_of_balance_and_equity_is_what_counts() -> None:
    assert orders(5_100_000, balance_cents=4_775_000)[0][:2] == ("daily_drawdown", True)


def test_day_that_is_not_known_is_left_out_and_the_maximum_is_not() -> None:
    found = standings(4_600_000, days=())
    assert [(one.limit.name, one.level) for one in found] == [("maximum", Level.BREACH)]
    known = standings(4_700_000, days=days(5_000_000)[:1])
    assert [one.limit.name for one in known] == [f"daily {ATHENS}", "maximum"]


def test_unknown_mark_counts_from_the_initial_balance() -> None:
    trailing = msgspec.structs.replace(
        RULES, maximum=msgspec.structs.replace(RULES.maximum, mode="trailing_closed", lock_at="initial")
    )
    (maximum,) = standings(4_600_000, days=(), rules=trailing)
    assert (maximum.limit.floor_cents, maximum.level) == (4_600_000, Level.BREACH)


def test_what_only_the_gate_looks_ahead_to_is_no_level_of_now() -> None:
    assert {one.limit.name for one in standings(5_000_000)} == {f"daily {ATHENS}", f"daily {NEW_YORK}", "maximum"}


# ── what people are told ────────────────────────────────────────────────────


def test_changed_levels_are_told_once_and_fall_with_hysteresis() -> None:
    told, today = Ladder(), days(5_000_000, 5_000_000)
    assert [change.event for change in told.step(standings(4_875_000), today)] == ["daily_warn_50"]
    assert told.step(standings(4_875_000), today) == []
    assert told.step(standings(4_880_000), today) == []  # not 5% of the limit below the step
    assert [change.event for change in told.step(standings(4_887_501), today)] == ["daily_ok"]
    rose = told.step(standings(4_800_000), today)
    assert [(change.event, change.severity) for change in rose] == [
        ("daily_warn_80", "warning"), ("maximum_warn_50", "warning"),
    ]  # fmt: skip


def test_new_day_of_either_reading_begins_anew() -> None:
    told = Ladder()
    first = days(5_000_000, 5_000_000)
    told.step(standings(4_875_000), first)
    second = (first[0], msgspec.structs.replace(first[1], day="2026-02-16"))
    assert [change.event for change in told.step(standings(4_875_000), second)] == ["daily_warn_50"]


def test_text_says_what_is_lost_of_what_and_where_the_floor_is() -> None:
    (worst, *_) = standings(4_787_500)
    assert worst.text == "daily 00:00 Europe/Athens loss 2,125.00 of 2,500.00 (85%), floor 47,500.00"
    assert worst.ends_at == parse(a_day().ends_at) == datetime(2026, 2, 16, 22, 0, tzinfo=UTC)


# ── what is at stake ────────────────────────────────────────────────────────


@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_stake_is_the_way_to_the_stop_at_what_a_point_is_worth(side: str) -> None:
    sign = 1 if side == "BUY" else -1
    position = a_position(
        side=side, open_price=D("1.1000"), current_price=D("1.1010") if sign > 0 else D("1.0990"),
        sl_price=D("1.0975") if sign > 0 else D("1.1025"), profit_cents=10_000,
    )  # fmt: skip
    assert ladder.stake((position,)) == 35_000
    locked = msgspec.structs.replace(position, sl_price=D("1.1020") if sign > 0 else D("1.0980"))
    assert ladder.stake((locked,)) == 0
    assert ladder.stake((position, position)) == 70_000


@pytest.mark.parametrize(
    "changed", [{"sl_price": None}, {"current_price": D("1.1000")}, {"profit_cents": 99, "current_price": D("1.1001")}]
)
def test_stake_without_a_bound_is_not_known(changed: dict[str, Any]) -> None:
    assert ladder.stake((a_position(profit_cents=10_000, current_price=D("1.1010")), a_position(**changed))) is None


def test_urgency_goes_by_the_limit_that_asks_for_most() -> None:
    naked = (a_position(sl_price=None),)
    assert ladder.urgency(standings(5_000_000), naked) == 0.0
    assert ladder.urgency(standings(4_800_000), naked) == 1.0
    assert ladder.urgency((), naked) == 1.0  # nothing is known
    safe = (a_position(current_price=D("1.1010"), profit_cents=10_000, sl_price=D("1.1009")),)
    assert ladder.urgency(standings(4_800_000), safe) == 0.0
