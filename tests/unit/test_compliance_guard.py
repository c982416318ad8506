"""The gate: every rule refuses on its own, at its exact limit, and nothing unknown passes."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.compliance import best_day, drawdown, guard
from actors.compliance.account import AccountView
from actors.compliance.conversion import NoRate
from bus.clock import iso
from bus.records import OrderPlan
from tests.kit.compliance import (
    DAY_ENDS,
    NOW,
    D,
    a_day,
    a_halt,
    a_plan,
    a_risk,
    an_account,
    the_facts,
    the_rules,
)

RULES = the_rules()
ORDER_OF_CHECKS = [
    "currency", "figures_fresh", "quote_fresh", "session_open", "halted", "intent_expired", "day_known", "stop_side",
    "volume", "position_without_stop", "unresolved", "positions", "daily_drawdown", "next_day_drawdown",
    "max_drawdown", "best_day", "min_hold_share", "margin", "request_budget",
]  # fmt: skip


def verdict(plan: OrderPlan | None = None, account: AccountView | None = None, **facts: object) -> guard.GuardResult:
    return guard.check_all(plan or a_plan(), account or an_account(), RULES, the_facts(**facts))


REFUSED = {
    "currency": {"account": an_account(currency="EUR")},
    "figures_fresh": {"account": an_account(figures_at_s=985.9)},  # 15.1 s old
    "quote_fresh": {"quote_age_s": 30.1},
    "session_open": {"session_open": False},
    "halted": {"account": an_account(halts=(a_halt(),))},
    "intent_expired": {"expires_at": NOW},
    "day_known": {"account": an_account(day=a_day(ends_at=iso(NOW)))},
    "stop_side": {"plan": a_plan(sl_price=D("1.1001"))},
    "volume": {"plan": a_plan(volume=D("1.005"))},
    "position_without_stop": {"account": an_account(positions=(a_risk(None),))},
    "unresolved": {"account": an_account(unresolved=(a_plan(),))},
    "positions": {"account": an_account(positions=(a_risk(100, 0), a_risk(100, 0), a_risk(100, 0)))},
    "daily_drawdown": {"account": an_account(balance_cents=4_812_500)},
    "next_day_drawdown": {"account": an_account(balance_cents=5_200_000), "plan": a_plan(loss_cents=221_001)},
    "max_drawdown": {"account": an_account(balance_cents=4_685_000, day=a_day(4_685_000))},
    "best_day": {"account": an_account(realised_today_cents=86_001)},
    "min_hold_share": {"account": an_account(trades_short=5, trades_total=10)},
    "margin": {"account": an_account(free_margin_cents=219_999)},
    "request_budget": {"account": an_account(requests_used=1_945)},
}


@pytest.mark.parametrize("rule", ORDER_OF_CHECKS)
def test_each_rule_refuses_alone(rule: str) -> None:
    given = dict(REFUSED[rule])
    result = verdict(given.pop("plan", None), given.pop("account", None), **given)
    assert not result.passed
    # A loss without a bound leaves no worst case to compare.
    also = {"daily_drawdown", "next_day_drawdown", "max_drawdown"} if rule == "position_without_stop" else set()
    assert {check.name for check in result.checks if not check.passed} - also == {rule}
    assert result.rule == rule
    assert result.reason.startswith(f"{rule}: ")


NEARLY = {
    "figures_fresh": {"account": an_account(figures_at_s=986.0)},
    "quote_fresh": {"quote_age_s": 30.0},
    "halted": {"account": an_account(halts=(a_halt(until=iso(NOW)), a_halt(lifted_at=iso(NOW))))},
    "intent_expired": {"expires_at": NOW + timedelta(milliseconds=1)},
    "unresolved": {"account": an_account(unresolved=(a_plan(symbol="GBPUSD", profit_cents=0),))},
    "positions": {"account": an_account(positions=(a_risk(100, 0), a_risk(100, 0)))},
    "daily_drawdown": {"account": an_account(balance_cents=4_812_501)},
    "next_day_drawdown": {"account": an_account(balance_cents=5_200_000), "plan": a_plan(loss_cents=220_999)},
    "max_drawdown": {"account": an_account(balance_cents=4_685_001, day=a_day(4_685_001))},
    "best_day": {"account": an_account(realised_today_cents=86_000)},
    "min_hold_share": {"account": an_account(trades_short=4, trades_total=9)},
    "margin": {"account": an_account(free_margin_cents=220_000)},
    "request_budget": {"account": an_account(requests_used=1_944)},
}


@pytest.mark.parametrize("rule", sorted(NEARLY))
def test_one_step_inside_each_limit_passes(rule: str) -> None:
    given = dict(NEARLY[rule])
    result = verdict(given.pop("plan", None), given.pop("account", None), **given)
    assert result.passed, result.reason


def test_all_checks_run_in_their_order_even_when_the_first_one_fails() -> None:
    result = verdict(account=an_account(currency="EUR"))
    assert [check.name for check in result.checks] == ORDER_OF_CHECKS


@pytest.mark.parametrize(
    ("account", "facts", "rule"),
    [
        (an_account(day=None), {}, "day_known"),
        (an_account(day=a_day(account_id="another")), {}, "day_known"),
        (an_account(day=a_day(initial_balance_cents=10_000_000)), {}, "day_known"),
        (an_account(free_margin_cents=None), {}, "margin"),
        (an_account(), {"margin_cents": NoRate("no quote of EURUSD")}, "margin"),
        (an_account(), {"quote_age_s": None}, "quote_fresh"),
        (an_account(), {"quote_age_s": -31.0}, "quote_fresh"),
        (an_account(), {"expires_at": None}, "intent_expired"),
        (an_account(figures_at_s=1_002.0), {}, "figures_fresh"),
        (an_account(trades_short=-1, trades_total=20), {}, "min_hold_share"),
    ],
)
def test_what_is_missing_or_impossible_refuses(account: AccountView, facts: dict[str, object], rule: str) -> None:
    result = verdict(account=account, **facts)
    assert not result.passed
    assert result.rule == rule


def test_unknown_day_fails_every_check_that_needs_it() -> None:
    failed = {check.name for check in verdict(account=an_account(day=None)).checks if not check.passed}
    assert failed == {"day_known", "daily_drawdown", "best_day"}


@pytest.mark.parametrize(
    "plan",
    [
        a_plan(sl_price=D(0)),
        a_plan(sl_price=D("1.1000")),
        a_plan(tp_price=D("1.1000")),
        a_plan(side="SELL"),
        a_plan(side="SELL", sl_price=D("1.1025"), tp_price=D("1.1050")),
        a_plan(sl_price=D("NaN")),
        a_plan(entry_price=D("Infinity")),
        a_plan(loss_cents=0),
        a_plan(loss_cents=-1),
    ],
)
def test_order_whose_stop_does_not_protect_is_refused(plan: OrderPlan) -> None:
    assert "stop_side" in {check.name for check in verdict(plan).checks if not check.passed}


@pytest.mark.parametrize("volume", ["0", "-1", "0.005", "50.01", "1.001", "NaN", "Infinity"])
def test_volume_outside_of_the_brokers_steps_is_refused(volume: str) -> None:
    assert "volume" in {check.name for check in verdict(a_plan(volume=Decimal(volume))).checks if not check.passed}


def test_unresolved_order_counts_against_every_limit() -> None:
    unknown = a_plan(symbol="GBPUSD", loss_cents=100_000, profit_cents=100_000)
    # $50,000 - $1,000 unknown - $250 = $48,750; the stop level of the day is $47,875.
    near = an_account(balance_cents=4_912_500, unresolved=(unknown,))
    assert verdict(account=near).rule == "daily_drawdown"
    harmless = a_plan(symbol="GBPUSD", loss_cents=100_000, profit_cents=0)
    assert verdict(account=an_account(balance_cents=4_912_501, unresolved=(harmless,))).passed
    # As if it existed: $1,000 + $500 is more than $1,360.
    assert verdict(account=an_account(unresolved=(unknown,))).rule == "best_day"
    three = tuple(a_plan(symbol=name, loss_cents=1, profit_cents=0) for name in ("GBPUSD", "USDJPY", "AUDUSD"))
    assert verdict(account=an_account(unresolved=three)).rule == "positions"


def test_order_without_target_counts_twice_its_risk_against_the_best_day() -> None:
    plan = a_plan(tp_price=D(0), profit_cents=0, loss_cents=68_000)
    assert verdict(plan).passed  # exactly $1,360
    assert verdict(a_plan(tp_price=D(0), profit_cents=0, loss_cents=68_001)).rule == "best_day"


def test_locked_in_profit_does_not_pay_for_another_loss() -> None:
    # The loser may be stopped before the winner: $47,875 + $250 - $250 is not above the stop level.
    account = an_account(balance_cents=4_812_500, positions=(a_risk(-100_000, 100_000),))
    assert verdict(account=account).rule == "daily_drawdown"


def test_locked_in_profit_does_not_pay_for_the_loss_of_another_position() -> None:
    # $48,375 - $250 of the loser - $250: exactly the stop level, whatever the winner has locked in.
    positions = (a_risk(-100_000, 100_000), a_risk(25_000, 0, id="P-2"))
    assert verdict(account=an_account(balance_cents=4_837_500, positions=positions)).rule == "daily_drawdown"


def test_position_without_a_bound_leaves_no_worst_case_to_compare() -> None:
    failed = {check.name for check in verdict(account=an_account(positions=(a_risk(None),))).checks if not check.passed}
    assert failed == {"position_without_stop", "daily_drawdown", "next_day_drawdown", "max_drawdown"}


def test_equity_below_what_the_positions_explain_counts() -> None:
    account = an_account(balance_cents=5_000_000, equity_cents=4_812_500)
    assert verdict(account=account).rule == "daily_drawdown"


def test_loss_today_leaves_the_maximum_limit_alone_and_the_other_way_round() -> None:
    # Day start $47,000: its stop level is $45,002.50, but the maximum's is $46,600.
    result = verdict(account=an_account(balance_cents=4_680_000, day=a_day(4_700_000)))
    assert result.rule == "max_drawdown"


def test_snapshot_is_json_with_every_check() -> None:
    said = json.loads(verdict().snapshot())
    assert [check["name"] for check in said["checks"]] == ORDER_OF_CHECKS
    assert said["passed"] is True
    assert set(said["checks"][0]) == {"name", "passed", "limit", "found", "text"}


def test_halt_text_names_kind_and_reason() -> None:
    result = verdict(account=an_account(halts=(a_halt(kind="hard", until=None),)))
    assert "hard halt 1" in result.reason
    assert "daily_drawdown: loss" in result.reason


def test_day_that_begins_now_is_known_and_one_that_ends_now_is_over() -> None:
    begins = an_account(day=a_day(starts_at=iso(NOW), ends_at=iso(NOW + timedelta(days=1))))
    assert verdict(account=begins).passed
    assert verdict(now=DAY_ENDS, expires_at=DAY_ENDS + timedelta(hours=1)).rule == "day_known"


# ── properties ──────────────────────────────────────────────────────────────

cents = st.integers(min_value=0, max_value=600_000)
plans = st.builds(
    lambda loss, profit, name: a_plan(symbol=name, loss_cents=loss, profit_cents=profit),
    cents, cents, st.sampled_from(["GBPUSD", "USDJPY"]),
)  # fmt: skip
risks = st.builds(a_risk, st.integers(min_value=-300_000, max_value=600_000), cents)
accounts = st.builds(
    lambda start, change, floating, positions, unresolved: an_account(
        balance_cents=start + change, equity_cents=start + change + floating, day=a_day(start),
        positions=tuple(positions), unresolved=tuple(unresolved), realised_today_cents=change,
    ),
    st.integers(min_value=4_500_000, max_value=5_600_000),
    st.integers(min_value=-300_000, max_value=200_000),
    st.integers(min_value=-300_000, max_value=200_000),
    st.lists(risks, max_size=2),
    st.lists(plans, max_size=2),
)  # fmt: skip


@given(accounts, st.integers(min_value=1, max_value=400_000), cents)
def test_guard_never_passes_when_any_order_of_events_reaches_a_stop_level(
    account: AccountView, loss: int, profit: int
) -> None:
    result = guard.check_all(a_plan(loss_cents=loss, profit_cents=profit), account, RULES, the_facts())
    if not result.passed:
        return
    assert account.day is not None
    levels = [
        account.day.start_balance_cents - Decimal("0.85") * Decimal("0.05") * account.day.start_balance_cents,
        Decimal(5_000_000 - 340_000),
    ]
    # Every subset of what may go wrong, the unknown orders existing or not: never at or below a level.
    losses = [loss, *(plan.loss_cents for plan in account.unresolved)]
    losses += [risk.loss_at_stop_cents for risk in account.positions if risk.loss_at_stop_cents is not None]
    for mask in range(2 ** len(losses)):
        hit = sum(amount for bit, amount in enumerate(losses) if mask >> bit & 1)
        assert account.balance_cents - hit > max(levels)
    gains = [profit, *(plan.profit_cents for plan in account.unresolved)]
    gains += [risk.profit_at_target_cents for risk in account.positions]
    assert account.realised_today_cents + sum(gains) <= 136_000


@given(accounts, st.integers(min_value=2, max_value=400_000), cents, st.data())
def test_less_risk_never_turns_a_pass_into_a_refusal(
    account: AccountView, loss: int, profit: int, data: st.DataObject
) -> None:
    if not guard.check_all(a_plan(loss_cents=loss, profit_cents=profit), account, RULES, the_facts()).passed:
        return
    smaller = a_plan(
        loss_cents=data.draw(st.integers(min_value=1, max_value=loss)),
        profit_cents=data.draw(st.integers(min_value=0, max_value=profit)),
    )
    assert guard.check_all(smaller, account, RULES, the_facts()).passed


@given(st.integers(min_value=1, max_value=10_000_000), st.decimals(min_value="0.01", max_value=1, places=4))
def test_floors_are_never_rounded_down(reference: int, ratio: Decimal) -> None:
    limit = drawdown.Limit(
        name="daily", reference_cents=reference, amount_cents=ratio * reference, stop_ratio=Decimal("0.85"),
        flatten_ratio=Decimal("0.9"), measured_on="equity",
    )  # fmt: skip
    exact = reference - ratio * reference
    assert exact <= limit.floor_cents < exact + 1
    assert limit.floor_cents <= limit.stop_cents


def test_best_day_levels_are_the_blueprints() -> None:
    assert (best_day.stop_cents(RULES), best_day.flatten_cents(RULES)) == (136_000, 144_000)
