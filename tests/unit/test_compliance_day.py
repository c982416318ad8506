"""The firm's day at its edges and on the days when the clocks change, and the balance it began with."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.compliance import day as days
from tests.kit.compliance import NOW, a_row
from tests.kit.days import NEW_YORK, rules_with

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


def test_every_reading_of_the_reset_has_its_day_the_sets_own_first() -> None:
    rules = rules_with(reset={"also": (NEW_YORK,)})
    assert [moment.label for moment in days.readings(rules)] == ["00:00 Europe/Athens", "17:00 America/New_York"]
    # New York changes its clocks on 8 March, Athens on the 29th: in between the readings are an hour apart.
    found = days.firm_days(rules, at("2026-03-20 21:30"))
    assert [(each.reset, each.day, each.starts_at) for each in found] == [
        ("00:00 Europe/Athens", "2026-03-20", at("2026-03-19 22:00")),
        ("17:00 America/New_York", "2026-03-20", at("2026-03-20 21:00")),
    ]
    assert days.firm_days(rules, at("2026-01-20 12:00"))[0].starts_at == at("2026-01-19 22:00")
    assert [each.reset for each in days.firm_days(rules_with(), NOW)] == ["00:00 Europe/Athens"]


def test_days_between_two_moments_are_those_that_begin_after_the_first_and_not_after_the_second() -> None:
    athens = days.readings(rules_with())[0]
    begun = days.days_of(athens, at("2026-03-27 22:00"), at("2026-03-30 21:00"))
    assert [day.day for day in begun] == ["2026-03-29", "2026-03-30", "2026-03-31"]
    assert days.days_of(athens, at("2026-03-28 22:00"), at("2026-03-29 20:59")) == ()


def test_trades_held_under_a_minute_are_counted() -> None:
    quick = a_row(opened_at=NOW - timedelta(seconds=59, microseconds=999_999), closed_at=NOW)
    minute = a_row(id="P-2", opened_at=NOW - timedelta(seconds=60), closed_at=NOW)
    assert days.held_short((quick, quick, minute), 60) == (1, 2)
