"""The firm's day at its edges and on the days when the clocks change, and the balance it began with."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.compliance import day as days
from tests.kit.compliance import DAY_STARTS, NOW, a_position, a_row

ATHENS = ZoneInfo("Europe/Athens")
MIDNIGHT = time(0, 0)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def hours(found: days.FirmDay) -> float:
    return (found.ends_at - found.starts_at).total_seconds() / 3_600


def test_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        days.firm_day(datetime(2026, 2, 16), MIDNIGHT, ATHENS)  # noqa: DTZ001 - that is the point


def test_reset_itself_belongs_to_the_new_day_and_the_instant_before_to_the_old() -> None:
    assert days.firm_day(at("2026-02-15 22:00"), MIDNIGHT, ATHENS).day == "2026-02-16"
    assert days.firm_day(at("2026-02-15 22:00") - timedelta(microseconds=1), MIDNIGHT, ATHENS).day == "2026-02-15"


def test_days_on_which_the_clocks_change_have_23_and_25_hours() -> None:
    assert hours(days.firm_day(at("2026-03-29 10:00"), MIDNIGHT, ATHENS)) == 23
    assert hours(days.firm_day(at("2026-10-25 10:00"), MIDNIGHT, ATHENS)) == 25
    assert hours(days.firm_day(at("2026-07-01 10:00"), MIDNIGHT, ATHENS)) == 24


def test_reset_that_the_clocks_skip_happens_once() -> None:
    # 29 March: 03:00 becomes 04:00, there is no 03:30.
    reset = time(3, 30)
    before = days.firm_day(at("2026-03-29 01:29"), reset, ATHENS)
    after = days.firm_day(at("2026-03-29 01:30"), reset, ATHENS)
    assert (before.day, after.day) == ("2026-03-28", "2026-03-29")
    assert before.ends_at == after.starts_at == at("2026-03-29 01:30")


def test_reset_that_the_clocks_repeat_happens_at_its_first_occurrence_only() -> None:
    # 25 October: 04:00 becomes 03:00, 03:30 comes at 00:30 and at 01:30 UTC.
    reset = time(3, 30)
    assert days.firm_day(at("2026-10-25 00:29"), reset, ATHENS).day == "2026-10-24"
    first = days.firm_day(at("2026-10-25 00:30"), reset, ATHENS)
    again = days.firm_day(at("2026-10-25 01:30"), reset, ATHENS)
    assert first == again
    assert first.starts_at == at("2026-10-25 00:30")


def test_reset_in_the_evening_labels_the_day_by_its_beginning() -> None:
    new_york = ZoneInfo("America/New_York")
    found = days.firm_day(at("2026-07-01 20:59"), time(17, 0), new_york)
    assert found.day == "2026-06-30"
    assert days.firm_day(at("2026-07-01 21:00"), time(17, 0), new_york).day == "2026-07-01"


@given(
    st.integers(min_value=1_577_836_800, max_value=1_893_456_000).map(lambda epoch: datetime.fromtimestamp(epoch, UTC)),
    st.times(),
    st.sampled_from(["Europe/Athens", "America/New_York", "Africa/Cairo", "Pacific/Apia", "UTC", "Asia/Beirut"]),
)
def test_every_moment_is_in_exactly_one_day(moment: datetime, reset: time, name: str) -> None:
    zone = ZoneInfo(name)
    found = days.firm_day(moment, reset.replace(fold=0), zone)
    assert found.starts_at <= moment < found.ends_at
    following = days.firm_day(found.ends_at, reset.replace(fold=0), zone)
    assert following.starts_at == found.ends_at
    assert days.firm_day(found.ends_at - timedelta(microseconds=1), reset.replace(fold=0), zone) == found


# ── the balance at the day's start ──────────────────────────────────────────


def start(balance: int, **given: object) -> int:
    given.setdefault("closed", ())
    return days.start_balance_cents(balance, starts_at=DAY_STARTS, **given)  # type: ignore[arg-type]


def test_floating_profit_is_no_part_of_the_start() -> None:
    held = a_position(opened_at=DAY_STARTS - timedelta(hours=5), net_profit_cents=-80_000, profit_cents=-80_000)
    assert start(5_000_000, open_positions=(held,), commission_booked="close") == 5_000_000


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
    assert start(5_010_000, closed=(row, row)) == 5_000_000
    assert start(5_020_000, closed=(row, other_half)) == 5_000_000
    assert days.realised_cents((row, row, other_half), DAY_STARTS) == 20_000


def test_commission_booked_at_the_opening_counts_once() -> None:
    opened_today = a_position(commission_cents=-500)
    assert start(4_999_500, open_positions=(opened_today,), commission_booked="open") == 5_000_000
    # Opened yesterday, closed today: the balance lost $5 yesterday, and gained $500 - $0 today.
    carried = a_row(opened_at=DAY_STARTS - timedelta(hours=2), net_profit_cents=49_500, commission_cents=-500)
    assert start(5_050_000, closed=(carried,), commission_booked="open") == 5_000_000


def test_unknown_booking_takes_the_reading_with_the_higher_floor() -> None:
    opened_today = a_position(commission_cents=-500)
    carried = a_row(opened_at=DAY_STARTS - timedelta(hours=2), net_profit_cents=49_500, commission_cents=-500)
    assert start(5_000_000, open_positions=(opened_today,)) == 5_000_500
    assert start(5_049_500, closed=(carried,)) == 5_000_000


def test_deposits_and_withdrawals_are_taken_back() -> None:
    assert start(5_100_000, cash_flows_cents=100_000) == 5_000_000
    assert start(4_900_000, cash_flows_cents=-100_000) == 5_000_000


def test_trades_held_under_a_minute_are_counted() -> None:
    quick = a_row(opened_at=NOW - timedelta(seconds=59, microseconds=999_999), closed_at=NOW)
    minute = a_row(id="P-2", opened_at=NOW - timedelta(seconds=60), closed_at=NOW)
    assert days.held_short((quick, quick, minute), 60) == (1, 2)
