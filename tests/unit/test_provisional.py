"""What an unknown day began with at least: no figure that can be above the firm's, and none kept once it is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from actors.compliance.account import DayView
from actors.compliance.day import firm_days
from actors.compliance.rulebook import RuleSet
from actors.desk.days import Days, Kept
from actors.watch.provisional import Glance, Provisional, text_of
from bus.clock import iso
from bus.records import AccountDay, AccountMark, EquitySample
from tests.kit.compliance import ACCOUNT_ID, DAY_ENDS, a_day, the_rules
from tests.kit.days import rules_with

RULES = rules_with()
HIGHER = rules_with(daily={"reference": "higher_of_balance_and_equity"})
DAY_END = rules_with(maximum={"mode": "trailing_day_end"})
BEFORE, AFTER = DAY_ENDS - timedelta(seconds=60), DAY_ENDS + timedelta(seconds=1)
UNKNOWN = Days(known=(), marks=(), record=None, raised=None, unknown="no history", unexplained_cents=None)
KEPT = Kept(account_id=ACCOUNT_ID, days=(a_day(),))


def a_glance(at: datetime, balance_cents: int = 5_000_000, **changed: Any) -> Glance:
    glance = Glance(at=at, balance_cents=balance_cents, equity_cents=balance_cents, positions=1)
    return msgspec.structs.replace(glance, **changed)


def a_sample(at: datetime) -> EquitySample:
    return EquitySample(
        at=iso(at), day="2026-02-16", balance_cents=5_000_000, equity_cents=5_000_000, margin_cents=0, positions=1,
        daily_loss_cents=0, max_loss_cents=0,
    )  # fmt: skip


def a_mark(value_cents: int, kind: Any = "day_end_balance") -> AccountMark:
    return AccountMark(
        account_id=ACCOUNT_ID, kind=kind, value_cents=value_cents, at=iso(BEFORE), known_until=iso(BEFORE)
    )


def watched_by(*glances: Glance, rules: RuleSet = RULES, found: Days = UNKNOWN) -> list[int]:
    """Return what the loss of today is counted from after these looks; empty when it is not watched."""
    provisional = Provisional(rules, ACCOUNT_ID)
    for glance in glances:
        provisional.look(glance)
    return [day.reference_cents for day in provisional.days(found, glances[-1].at)]


def true_day(start_cents: int, at: datetime = AFTER) -> AccountDay:
    (day,) = firm_days(RULES, at)
    return a_day(start_cents, day=day.day, reset=day.reset, starts_at=iso(day.starts_at), ends_at=iso(day.ends_at))


# ── what is no lower bound ──────────────────────────────────────────────────


def test_one_look_says_nothing_of_the_reset_before_it() -> None:
    assert watched_by(a_glance(AFTER)) == []
    assert watched_by(a_glance(BEFORE - timedelta(minutes=5)), a_glance(BEFORE)) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (a_glance(BEFORE, positions=2), a_glance(AFTER, 5_030_000, positions=0)),  # a loss before, a gain after
        (a_glance(BEFORE - timedelta(minutes=6)), a_glance(AFTER, 5_030_000)),  # too far apart
        (a_glance(BEFORE - timedelta(days=1)), a_glance(AFTER)),
    ],
)
def test_results_on_both_sides_of_a_reset_could_hide_each_other(before: Glance, after: Glance) -> None:
    assert watched_by(before, after) == []


@pytest.mark.parametrize(("now_cents", "least_cents"), [(5_030_000, 5_000_000), (4_970_000, 4_970_000)])
def test_lower_balance_of_the_two_looks_counts(now_cents: int, least_cents: int) -> None:
    assert watched_by(a_glance(BEFORE), a_glance(AFTER, now_cents)) == [least_cents]


def test_equity_counts_only_when_it_was_seen_at_the_reset_and_where_the_firm_counts_it() -> None:
    seen, late = a_glance(AFTER, equity_cents=5_100_000), DAY_ENDS + timedelta(seconds=11)
    assert watched_by(a_glance(BEFORE), seen, rules=HIGHER) == [5_100_000]
    assert watched_by(a_glance(BEFORE), seen) == [5_000_000]
    assert watched_by(a_glance(BEFORE), a_glance(late, equity_cents=5_100_000), rules=HIGHER) == [5_000_000]
    deposit = a_glance(AFTER, 5_050_000, equity_cents=5_150_000)
    assert watched_by(a_glance(BEFORE), deposit, rules=HIGHER) == [5_100_000]


@pytest.mark.parametrize("kept", [Kept(account_id=ACCOUNT_ID), Kept(account_id=ACCOUNT_ID, days=(true_day(1),))])
def test_sample_of_a_day_that_this_account_never_had_is_not_believed(kept: Kept) -> None:
    provisional = Provisional(RULES, ACCOUNT_ID)
    provisional.begin(a_sample(BEFORE), kept)
    provisional.look(a_glance(AFTER))
    assert provisional.days(UNKNOWN, AFTER) == ()


# ── what is ─────────────────────────────────────────────────────────────────


def test_sample_of_the_day_before_counts_as_a_look() -> None:
    provisional = Provisional(RULES, ACCOUNT_ID)
    provisional.begin(a_sample(BEFORE), KEPT)
    provisional.look(a_glance(AFTER + timedelta(hours=3)))
    (day,) = provisional.days(UNKNOWN, AFTER)
    assert (day.reference_cents, day.note) == (5_000_000, "provisional")
    assert "provisional start of 50,000.00 (00:00 Europe/Athens)" in text_of((day,))


def test_highest_of_what_is_certain_counts_and_stays_when_the_history_is_gone_again() -> None:
    provisional, (today,) = Provisional(RULES, ACCOUNT_ID), firm_days(RULES, AFTER)
    for least, expected in (({today: 4_990_000}, 4_990_000), ({today: 4_999_000}, 4_999_000), ({}, 4_999_000)):
        (day,) = provisional.days(msgspec.structs.replace(UNKNOWN, at_least=least), AFTER)
        assert day.reference_cents == expected
    assert provisional.days(UNKNOWN, AFTER + timedelta(days=1)) == ()


def test_true_start_replaces_the_provisional_one_and_outlives_a_store_that_was_away() -> None:
    provisional = Provisional(RULES, ACCOUNT_ID)
    provisional.look(a_glance(BEFORE))
    provisional.look(a_glance(AFTER))
    known = msgspec.structs.replace(UNKNOWN, known=(DayView(day=true_day(4_950_000), realised_cents=0),), unknown="")
    assert provisional.days(known, AFTER) == ()
    assert [day.reference_cents for day in provisional.days(UNKNOWN, AFTER)] == [4_950_000]


def test_resets_an_hour_apart_have_a_start_of_their_own() -> None:
    summer = datetime(2026, 3, 18, 20, 59, 30, tzinfo=UTC)  # New York at 21:00 UTC, Athens at 22:00
    provisional = Provisional(the_rules(), ACCOUNT_ID)
    provisional.look(a_glance(summer))
    provisional.look(a_glance(summer + timedelta(minutes=1)))
    found = provisional.days(UNKNOWN, summer + timedelta(minutes=1))
    assert [(day.reset, day.reference_cents) for day in found] == [("17:00 America/New_York", 5_000_000)]
    provisional.look(a_glance(summer + timedelta(minutes=60), 4_980_000))
    provisional.look(a_glance(summer + timedelta(minutes=61), 4_980_000))
    found = provisional.days(UNKNOWN, summer + timedelta(minutes=61))
    assert {day.reset: day.reference_cents for day in found} == {
        "00:00 Europe/Athens": 4_980_000, "17:00 America/New_York": 5_000_000,
    }  # fmt: skip


# ── marks ───────────────────────────────────────────────────────────────────


def test_day_end_raises_the_mark_until_it_is_known() -> None:
    provisional, stored = Provisional(DAY_END, ACCOUNT_ID), (a_mark(5_000_000),)
    provisional.look(a_glance(BEFORE, 5_200_000))
    provisional.look(a_glance(AFTER, 5_200_000))
    assert [mark.value_cents for mark in provisional.marks(UNKNOWN, stored)] == [5_200_000]
    known = msgspec.structs.replace(UNKNOWN, unknown="", marks=(a_mark(5_150_000),))
    assert provisional.marks(known, stored) == known.marks
    assert provisional.marks(UNKNOWN, stored) == stored


def test_mark_that_the_store_knows_is_not_forgotten_because_it_may_be_higher() -> None:
    rules = rules_with(maximum={"mode": "trailing_intraday"})
    stored = (a_mark(5_300_000, "equity"),)
    assert Provisional(rules, ACCOUNT_ID).marks(UNKNOWN, stored) == stored
    assert Provisional(rules, ACCOUNT_ID).marks(UNKNOWN, ()) == ()
