"""When no position may be open: by day, over the weekend, and on the days when the clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from actors.compliance import flat, rulebook
from actors.compliance.rulebook import RuleSet
from tests.kit.compliance import the_rules

SECOND = timedelta(seconds=1)


def the_set(
    daily_by: str = "none", reopen_at: str = "00:15", friday_by: str = "none", tz: str = "Europe/Athens"
) -> RuleSet:
    rules = the_rules()
    return msgspec.structs.replace(
        rules,
        flat=rulebook.Flat(daily_by=daily_by, reopen_at=reopen_at, friday_by=friday_by),
        reset=msgspec.structs.replace(rules.reset, tz=tz, also=()),
    )


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_rules_without_flat_times_have_no_window() -> None:
    assert flat.window_at(the_rules(), utc("2026-02-20T20:00")) is None
    assert flat.next_window(the_rules(), utc("2026-02-20T20:00")) is None


def test_day_is_flat_from_its_time_over_midnight_until_it_reopens() -> None:
    rules = the_set("23:00")  # Athens in winter: 21:00 to 22:15 UTC
    window = flat.Window(utc("2026-02-16T21:00"), utc("2026-02-16T22:15"))
    assert flat.window_at(rules, window.starts_at - SECOND) is None
    assert flat.window_at(rules, window.starts_at) == window
    assert flat.window_at(rules, window.ends_at - SECOND) == window
    assert flat.window_at(rules, window.ends_at) is None
    assert flat.next_window(rules, window.starts_at - SECOND) == window
    assert flat.next_window(rules, window.starts_at) == flat.Window(utc("2026-02-17T21:00"), utc("2026-02-17T22:15"))


def test_day_that_reopens_the_same_day_ends_on_it() -> None:
    assert flat.window_at(the_set("21:00", "22:00"), utc("2026-02-16T19:30")) == flat.Window(
        utc("2026-02-16T19:00"), utc("2026-02-16T20:00")
    )


def test_weekend_is_flat_from_friday_until_monday() -> None:
    rules = the_set(friday_by="22:00", reopen_at="00:15")
    weekend = flat.Window(utc("2026-02-20T20:00"), utc("2026-02-22T22:15"))
    assert flat.window_at(rules, weekend.starts_at - SECOND) is None
    assert flat.window_at(rules, utc("2026-02-21T12:00")) == weekend
    assert flat.window_at(rules, weekend.ends_at) is None
    assert flat.next_window(rules, weekend.ends_at) == flat.Window(utc("2026-02-27T20:00"), utc("2026-03-01T22:15"))


def test_windows_that_overlap_or_touch_are_one() -> None:
    rules = the_set("23:00", friday_by="22:00")
    assert flat.window_at(rules, utc("2026-02-20T20:00")) == flat.Window(
        utc("2026-02-20T20:00"), utc("2026-02-22T22:15")
    )
    # Open for a minute a day: from 21:59 to 22:00.
    assert flat.window_at(the_set("22:00", "21:59"), utc("2026-02-16T19:59:30")) is None


@pytest.mark.parametrize(("text", "expected"), [
    # Athens: on 2026-03-29 03:00 becomes 04:00, on 2026-10-25 04:00 becomes 03:00.
    ("2026-03-28T12:00", ("2026-03-28T21:00", "2026-03-28T22:15")),
    ("2026-03-29T12:00", ("2026-03-29T20:00", "2026-03-29T21:15")),
    ("2026-10-24T12:00", ("2026-10-24T20:00", "2026-10-24T21:15")),
    ("2026-10-25T12:00", ("2026-10-25T21:00", "2026-10-25T22:15")),
])  # fmt: skip
def test_window_moves_with_the_clocks(text: str, expected: tuple[str, str]) -> None:
    assert flat.next_window(the_set("23:00"), utc(text)) == flat.Window(utc(expected[0]), utc(expected[1]))


def test_time_that_the_clocks_skip_or_repeat_makes_the_longer_window() -> None:
    # 03:30 does not exist on 2026-03-29: 00:30 and 01:30 UTC are its two readings; from the earlier, to the later.
    skipped = flat.next_window(the_set("03:30", "03:45"), utc("2026-03-28T12:00"))
    assert skipped == flat.Window(utc("2026-03-29T00:30"), utc("2026-03-29T01:45"))
    # 03:30 happens twice on 2026-10-25: at 00:30 and 01:30 UTC.
    twice = flat.next_window(the_set("03:30", "03:45"), utc("2026-10-24T12:00"))
    assert twice == flat.Window(utc("2026-10-25T00:30"), utc("2026-10-25T01:45"))


def test_weekend_in_which_the_clocks_change_is_an_hour_longer_or_shorter() -> None:
    rules = the_set(friday_by="22:00")
    spring, autumn = flat.window_at(rules, utc("2026-03-28T12:00")), flat.window_at(rules, utc("2026-10-24T12:00"))
    usual = flat.window_at(rules, utc("2026-02-21T12:00"))
    assert spring is not None and autumn is not None and usual is not None
    assert (usual.ends_at - usual.starts_at) == timedelta(days=2, hours=2, minutes=15)
    assert (spring.ends_at - spring.starts_at) == timedelta(days=2, hours=1, minutes=15)
    assert (autumn.ends_at - autumn.starts_at) == timedelta(days=2, hours=3, minutes=15)


@pytest.mark.parametrize("tz", ["Europe/Athens", "America/New_York", "Etc/GMT-3", "Australia/Lord_Howe"])
@pytest.mark.parametrize("given", [("23:00", "00:15", "none"), ("none", "00:15", "21:30"), ("16:45", "18:00", "16:30")])
def test_every_hour_of_a_year_is_either_inside_or_has_a_next_window(given: Any, tz: str) -> None:
    rules = the_set(*given, tz=tz)
    now, week = utc("2026-01-01T00:30"), timedelta(days=7, hours=1)
    while now < utc("2027-01-01T00:00"):
        inside, coming = flat.window_at(rules, now), flat.next_window(rules, now)
        assert coming is not None and now < coming.starts_at < coming.ends_at
        assert coming.starts_at - now <= week
        if inside is not None:
            assert inside.starts_at <= now < inside.ends_at < coming.starts_at
        else:
            assert flat.window_at(rules, coming.starts_at) == coming
        now += timedelta(hours=13)
