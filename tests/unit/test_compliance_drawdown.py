"""Limits and their ladder: reached at equality, told with hysteresis, rounded against us."""

from __future__ import annotations

import pytest

from actors.compliance import best_day, budget, drawdown
from actors.compliance.drawdown import Level
from actors.compliance.money import amount
from actors.watch import ladder
from tests.kit.compliance import a_plan, a_risk, an_account, the_rules

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


def test_swing_around_a_step_is_told_once() -> None:
    steps = ladder.Ladder()
    told = []
    for value in (4_874_000, 4_876_000, 4_874_000, 4_876_000, 4_800_000, 4_801_000):
        standing = ladder.Standing(limit=DAY, value_cents=value, level=DAY.level(value))
        if (change := steps.step(standing, "2026-02-16")) is not None:
            told.append(change.event)
    assert told == ["daily_warn_50", "daily_warn_80"]


def test_new_day_starts_the_daily_ladder_anew_but_not_the_maximum() -> None:
    steps = ladder.Ladder()
    low = ladder.standings(RULES, balance_cents=4_780_000, equity_cents=4_780_000, start_balance_cents=5_000_000)
    assert {change.event for standing in low if (change := steps.step(standing, "a"))} == {
        "maximum_warn_50",
        "daily_stop",
    }
    fresh = ladder.standings(RULES, balance_cents=4_780_000, equity_cents=4_780_000, start_balance_cents=4_780_000)
    assert [steps.step(standing, "b") for standing in fresh] == [None, None]


def test_unknown_day_start_leaves_the_maximum_watched() -> None:
    found = ladder.standings(RULES, balance_cents=4_640_000, equity_cents=5_000_000, start_balance_cents=None)
    assert [(standing.limit.name, standing.level) for standing in found] == [("maximum", Level.FLATTEN)]


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


def test_best_day_counts_profits_without_the_losses() -> None:
    account = an_account(
        realised_today_cents=10_000,
        positions=(a_risk(profit_cents=30_000), a_risk(profit_cents=0, net_profit_cents=-9_000)),
        unresolved=(a_plan(profit_cents=20_000),),
    )
    assert best_day.highest_cents(account, 40_000) == 100_000


def test_a_losing_day_makes_room_for_more_profit() -> None:
    assert best_day.highest_cents(an_account(realised_today_cents=-50_000), 40_000) == -10_000


# ── request budget ──────────────────────────────────────────────────────────


def test_budget_is_enough_up_to_the_reserve_and_not_beyond() -> None:
    assert budget.is_enough(RULES, 1_944)
    assert not budget.is_enough(RULES, 1_945)
    assert budget.left(RULES, 1_990) == 0


@pytest.mark.parametrize(("open_from_h", "open_to_h"), [(0, 0), (0, 24), (6, 9), (20, 24)])
def test_polls_of_a_day_leave_reserve_and_trades_alone(open_from_h: int, open_to_h: int) -> None:
    now_s, used, polls, longest_s = 0.0, 0, 0, 0.0
    while now_s < 86_400:
        used += 2
        polls += 1
        is_open = open_from_h * 3_600 <= now_s < open_to_h * 3_600
        wait_s = budget.poll_interval_s(
            base_s=60 if is_open else 300,
            seconds_to_reset=86_400 - now_s,
            requests_per_poll=2,
            left_requests=budget.left(RULES, used),
            kept_for_trades=400,
        )
        assert wait_s >= min(60, 86_400 - now_s)
        longest_s = max(longest_s, wait_s)
        now_s += wait_s
    assert used <= 2_000 - 50 - 400 + 2
    assert longest_s <= 300
    assert polls >= 286  # flat all day: every 5 minutes


def test_position_open_all_day_is_polled_about_every_two_minutes() -> None:
    wait_s = budget.poll_interval_s(
        base_s=60, seconds_to_reset=86_400, requests_per_poll=2, left_requests=1_950, kept_for_trades=400
    )
    assert wait_s == pytest.approx(86_400 * 2 / 1_550)


def test_spent_budget_waits_for_the_reset_and_not_longer() -> None:
    wait_s = budget.poll_interval_s(
        base_s=60, seconds_to_reset=5_000, requests_per_poll=2, left_requests=0, kept_for_trades=400
    )
    assert wait_s == 5_000


def test_amounts_read_like_amounts() -> None:
    assert [amount(cents) for cents in (-123_456, -5, 0, 100_000_000)] == ["-1,234.56", "-0.05", "0.00", "1,000,000.00"]
