"""Marks that only rise, and the balance's past they are taken from."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from actors.compliance import ledger, marks
from bus.clock import iso
from bus.records import AccountMark
from tests.kit.compliance import ACCOUNT_ID, DAY_STARTS, NOW, D, a_day, a_position, a_row
from tests.kit.days import NEW_YORK, rules_with

HOUR = timedelta(hours=1)
MARK = AccountMark(
    account_id=ACCOUNT_ID, kind="closed_balance", value_cents=5_000_000, at=iso(NOW - HOUR), known_until=iso(NOW - HOUR)
)


def unexplained(balance_cents: int, **changed: Any) -> int:
    given: dict[str, Any] = {"starts_at": DAY_STARTS, "closed": (), "open_positions": (), "booked": "close"}
    return ledger.unexplained_cents(5_000_000, balance_cents, **{**given, **changed})


# ── marks ───────────────────────────────────────────────────────────────────


def test_lower_value_changes_only_how_long_the_mark_is_known() -> None:
    assert marks.raised(MARK, 4_999_999, NOW, NOW) == msgspec.structs.replace(MARK, known_until=iso(NOW))


def test_equal_value_keeps_the_moment_it_was_first_reached() -> None:
    assert marks.raised(MARK, 5_000_000, NOW, NOW).at == MARK.at


def test_higher_value_raises_the_mark() -> None:
    found = marks.raised(MARK, 5_000_001, NOW - timedelta(minutes=5), NOW)
    assert (found.value_cents, found.at, found.known_until) == (5_000_001, iso(NOW - timedelta(minutes=5)), iso(NOW))


def test_mark_is_never_known_for_less_long_and_never_reached_later_than_known() -> None:
    assert marks.raised(MARK, 5_000_001, NOW, NOW - 2 * HOUR).known_until == MARK.known_until
    # A broker whose clock runs ahead of ours stamps a row later than we know of.
    assert marks.raised(MARK, 5_000_001, NOW + HOUR, NOW).at == iso(NOW)


def test_first_mark_is_the_initial_balance_and_static_floors_need_none() -> None:
    assert marks.first(rules_with(), ACCOUNT_ID, NOW) is None
    found = marks.first(rules_with(maximum={"mode": "trailing_day_end"}), ACCOUNT_ID, NOW)
    assert found is not None
    assert (found.kind, found.value_cents, found.known_until) == ("day_end_balance", 5_000_000, iso(NOW))


def test_ends_of_days_count_by_every_reading_of_the_reset() -> None:
    # Closed at 21:30 UTC on 20 March: after the day's end in New York (21:00), before that in Athens (22:00).
    now = NOW.replace(month=3, day=21)
    lost = a_row(opened_at=now - 20 * HOUR, closed_at=now.replace(day=20, hour=21, minute=30), net_profit_cents=-60_000)
    past = ledger.past(4_990_000, closed=(lost,), open_positions=(), booked="close")
    mark = msgspec.structs.replace(MARK, kind="day_end_balance", known_until=iso(now - 20 * HOUR))
    both = rules_with(maximum={"mode": "trailing_day_end"}, reset={"also": (NEW_YORK,)})
    one = rules_with(maximum={"mode": "trailing_day_end"})
    assert marks.after_day_ends(mark, both, past, (), now, now).value_cents == 5_050_000
    assert marks.after_day_ends(mark, one, past, (), now, now).value_cents == 5_000_000
    recorded = a_day(5_080_000)
    assert marks.after_day_ends(mark, one, past, (recorded,), now, now).value_cents == 5_080_000
    assert marks.after_day_ends(mark, one, past, (recorded,), DAY_STARTS - HOUR, now).value_cents == 5_000_000


def test_rows_that_are_stamped_shortly_before_the_mark_was_known_are_not_missed() -> None:
    known = NOW - HOUR
    won = a_row(opened_at=NOW - 2 * HOUR, closed_at=known - timedelta(seconds=59), net_profit_cents=30_000)
    lost = a_row(id="P-2", opened_at=NOW - 2 * HOUR, closed_at=known - timedelta(seconds=58), net_profit_cents=-40_000)
    past = ledger.past(4_990_000, closed=(lost, won), open_positions=(), booked="close")
    assert marks.after_closings(MARK, past, 4_990_000, NOW).value_cents == 5_030_000


def test_balance_now_counts_as_a_result() -> None:
    past = ledger.past(5_010_000, closed=(), open_positions=(), booked="close")
    assert marks.after_closings(MARK, past, 5_010_000, NOW).value_cents == 5_010_000


# ── the balance's past ──────────────────────────────────────────────────────


def test_balance_of_the_past_counts_each_row_once_and_splits_the_commission() -> None:
    row = a_row(opened_at=NOW - 2 * HOUR, closed_at=NOW, net_profit_cents=9_500, commission_cents=-500)
    for booked, before in (("close", 5_000_000), ("open", 4_999_500), ("unknown", 5_000_000)):
        past = ledger.past(5_009_500, closed=(row, row), open_positions=(), booked=booked)  # type: ignore[arg-type]
        assert past.balance_cents(NOW + HOUR) == 5_009_500
        assert past.balance_cents(NOW - HOUR) == past.balance_cents(NOW) == before, booked
        assert past.balance_cents(NOW - 3 * HOUR) == 5_000_000


def test_peaks_are_the_highest_balance_at_each_booking_oldest_first() -> None:
    rows = [
        a_row(id=str(number), opened_at=NOW, closed_at=NOW + number * HOUR, net_profit_cents=cents)
        for number, cents in ((3, 300), (1, 100), (2, -250))
    ]
    past = ledger.past(5_000_150, closed=rows, open_positions=(), booked="close")
    assert past.peaks(NOW) == ((NOW + HOUR, 5_000_100), (NOW + 2 * HOUR, 5_000_100), (NOW + 3 * HOUR, 5_000_150))
    assert past.peaks(NOW + 2 * HOUR) == ((NOW + 3 * HOUR, 5_000_150),)


# ── the balance at the day's start ──────────────────────────────────────────


def start(balance: int, **changed: Any) -> int:
    given: dict[str, Any] = {"closed": (), "open_positions": (), "booked": "unknown"}
    return ledger.past(balance, **{**given, **changed}).balance_cents(DAY_STARTS)


def test_floating_profit_is_no_part_of_the_start() -> None:
    held = a_position(opened_at=DAY_STARTS - timedelta(hours=5), net_profit_cents=-80_000, profit_cents=-80_000)
    assert start(5_000_000, open_positions=(held,), booked="close") == 5_000_000


def test_closed_results_since_the_reset_are_taken_back() -> None:
    won, lost = a_row(net_profit_cents=49_500), a_row(id="P-2", net_profit_cents=-20_000)
    old = a_row(id="P-3", closed_at=DAY_STARTS - timedelta(microseconds=1), net_profit_cents=7_777)
    assert start(5_029_500, closed=(won, lost, old)) == 5_000_000


def test_row_stamped_exactly_at_the_reset_belongs_to_the_new_day() -> None:
    row = a_row(opened_at=DAY_STARTS, closed_at=DAY_STARTS, net_profit_cents=10_000)
    assert start(5_010_000, closed=(row,)) == 5_000_000


def test_row_that_comes_twice_counts_once_but_partial_closes_count_each() -> None:
    row = a_row(net_profit_cents=10_000)
    other_half = a_row(net_profit_cents=10_000, closed_at=row.closed_at + timedelta(seconds=9))
    again = msgspec.structs.replace(row)
    assert start(5_010_000, closed=(row, again)) == 5_000_000
    assert start(5_020_000, closed=(row, other_half)) == 5_000_000
    assert ledger.realised_cents((row, again, other_half), DAY_STARTS) == 20_000


def test_two_equal_fills_of_one_moment_count_both_and_explain_the_balance() -> None:
    fill, other_fill = (a_row(volume=D("0.50"), net_profit_cents=-12_850, row_id=uid) for uid in ("u1", "u2"))
    rows = (fill, other_fill, msgspec.structs.replace(fill))
    assert ledger.realised_cents(rows, DAY_STARTS) == -25_700
    assert unexplained(5_000_000 - 25_700, closed=rows) == 0
    assert start(5_000_000 - 25_700, closed=rows) == 5_000_000


def test_commission_booked_at_the_opening_counts_once() -> None:
    opened_today = a_position(commission_cents=-500)
    assert start(4_999_500, open_positions=(opened_today,), booked="open") == 5_000_000
    # Opened yesterday, closed today: the balance lost $5 yesterday, and gained $500 - $0 today.
    carried = a_row(opened_at=DAY_STARTS - timedelta(hours=2), net_profit_cents=49_500, commission_cents=-500)
    assert start(5_050_000, closed=(carried,), booked="open") == 5_000_000


def test_unknown_booking_takes_the_reading_with_the_higher_floor() -> None:
    opened_today = a_position(commission_cents=-500)
    carried = a_row(opened_at=DAY_STARTS - timedelta(hours=2), net_profit_cents=49_500, commission_cents=-500)
    assert start(5_000_000, open_positions=(opened_today,)) == 5_000_500
    assert start(5_049_500, closed=(carried,)) == 5_000_000


# ── what nothing explains ───────────────────────────────────────────────────


@pytest.mark.parametrize(("balance_cents", "expected"), [(5_000_000, 0), (5_000_001, 1), (4_999_999, -1)])
def test_cent_without_a_row_is_unexplained(balance_cents: int, expected: int) -> None:
    assert unexplained(balance_cents) == expected


def test_rows_since_the_start_explain_and_older_ones_do_not() -> None:
    new = a_row(opened_at=DAY_STARTS, closed_at=DAY_STARTS, net_profit_cents=700)
    old = a_row(opened_at=DAY_STARTS - HOUR, closed_at=DAY_STARTS - timedelta(milliseconds=1), net_profit_cents=900)
    assert unexplained(5_000_700, closed=(new, new, old)) == 0
    assert unexplained(5_000_000, closed=(new,)) == -700


@pytest.mark.parametrize(("booked", "explained"), [("close", (0,)), ("open", (-500,)), ("unknown", (0, -500))])
def test_commission_of_a_position_opened_since_may_have_left_the_balance(
    booked: str, explained: tuple[int, ...]
) -> None:
    held = a_position(opened_at=DAY_STARTS, commission_cents=-500)
    for cents in (-501, -500, 0, 1):
        found = unexplained(5_000_000 + cents, open_positions=(held,), booked=booked)
        assert (found == 0) is (cents in explained), (booked, cents)


@pytest.mark.parametrize(("booked", "explained"), [("close", (0,)), ("open", (500,)), ("unknown", (0, 500))])
def test_commission_of_a_row_carried_over_the_start_may_have_left_before(
    booked: str, explained: tuple[int, ...]
) -> None:
    row = a_row(opened_at=DAY_STARTS - HOUR, closed_at=NOW, net_profit_cents=9_500, commission_cents=-500)
    for cents in (-1, 0, 500, 501):
        found = unexplained(5_009_500 + cents, closed=(row,), booked=booked)
        assert (found == 0) is (cents in explained), (booked, cents)


@pytest.mark.parametrize("swap_cents", [-30, 30])
def test_swap_of_a_night_may_be_booked_already_or_not(swap_cents: int) -> None:
    held = a_position(opened_at=DAY_STARTS - HOUR, swap_cents=swap_cents, commission_cents=0)
    row = a_row(opened_at=DAY_STARTS - HOUR, net_profit_cents=0, swap_cents=swap_cents, commission_cents=0)
    for given in ({"open_positions": (held,)}, {"closed": (row,)}):
        assert [unexplained(5_000_000 + cents, **given) for cents in (-31, -30, 30, 31)] == [-1, 0, 0, 1]
