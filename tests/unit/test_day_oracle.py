"""Ten years of the firm's days against two independent oracles, for every zone and reset time of the rule sets.

One oracle knows no time zone database: it has the laws of summer time as arithmetic. The other walks through UTC in
steps of 15 minutes and looks at what the wall clock shows, never asking when a wall time happens.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from actors.compliance import day as days
from actors.compliance.rulebook import Moment
from config.load import RULES

FIRST, LAST = date(2019, 12, 31), date(2030, 1, 1)
STEP = timedelta(minutes=15)  # every offset since 1972 is a multiple of it
TICK = timedelta(microseconds=1)
HARD = (
    ("00:00", "Asia/Gaza"),  # summer time used to begin at midnight: 00:00 was skipped
    ("01:00", "Asia/Gaza"),
    ("00:00", "Africa/Casablanca"),  # four changes a year, by the moon
    ("02:30", "Africa/Casablanca"),
    ("02:00", "Australia/Lord_Howe"),  # by half an hour
    ("01:45", "Australia/Lord_Howe"),
    ("03:30", "Europe/Athens"),
    ("02:30", "America/New_York"),
    ("00:00", "America/Santiago"),  # skipped in September, repeated in April
    ("23:45", "Pacific/Chatham"),
)


def used() -> list[tuple[str, str]]:
    """Return reset time and zone of every reading in every rule set."""
    found = set()
    for path in sorted(RULES.glob("*.toml")):
        reset = tomllib.loads(path.read_text())["reset"]
        found |= {(moment["time"], moment["tz"]) for moment in (reset, *reset["also"])}
    return sorted(found)


def dates() -> list[date]:
    return [FIRST + timedelta(days=number) for number in range((LAST - FIRST).days + 1)]


# ── by the laws ─────────────────────────────────────────────────────────────


def sunday(year: int, month: int, number: int) -> date:
    """Return the first (1), second (2) ... or last (-1) Sunday of a month."""
    if number < 0:
        last = (date(year, month, 28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
        return last - timedelta(days=(last.weekday() + 1) % 7)
    first = date(year, month, 1)
    return first + timedelta(days=(6 - first.weekday()) % 7 + 7 * (number - 1))


def european(hours: int) -> Callable[[datetime], timedelta]:
    """Summer time from the last Sunday of March to that of October, at 01:00 UTC. Source: directive 2000/84/EC."""

    def offset(moment: datetime) -> timedelta:
        begins, ends = (
            datetime.combine(sunday(moment.year, month, -1), time(1), tzinfo=UTC) for month in (3, 10)
        )  # fmt: skip
        return timedelta(hours=hours + (begins <= moment < ends))

    return offset


def american(hours: int) -> Callable[[datetime], timedelta]:
    """From the second Sunday of March to the first of November, at 02:00 local. Source: Energy Policy Act of 2005."""

    def offset(moment: datetime) -> timedelta:
        begins = datetime.combine(sunday(moment.year, 3, 2), time(2), tzinfo=UTC) - timedelta(hours=hours)
        ends = datetime.combine(sunday(moment.year, 11, 1), time(2), tzinfo=UTC) - timedelta(hours=hours + 1)
        return timedelta(hours=hours + (begins <= moment < ends))

    return offset


LAWS: dict[str, Callable[[datetime], timedelta]] = {
    "Europe/Athens": european(2),
    "Europe/Prague": european(1),
    "America/New_York": american(-5),
    "Etc/GMT-3": lambda moment: timedelta(hours=3),
    "UTC": lambda moment: timedelta(0),
}


def by_law(reset: time, offset: Callable[[datetime], timedelta]) -> list[datetime]:
    """Return each date's reset: the earliest moment that shows it; skipped, where the clocks would have been."""
    found = []
    for day in dates():
        wall = datetime.combine(day, reset, tzinfo=UTC)
        guesses = {wall - offset(wall + timedelta(hours=shift)) for shift in (-36, 36)}
        shown = [guess for guess in guesses if guess + offset(guess) == wall]
        found.append(min(shown) if shown else wall - offset(wall - timedelta(hours=36)))
    return found


# ── by looking at the clock ─────────────────────────────────────────────────


@cache
def seen(tz: str) -> dict[datetime, datetime]:
    """Return when, in UTC, the wall clock first shows each time of day, seen every 15 minutes.

    A time that the clocks skip comes so long after the last one seen as it would have come without the change.
    """
    zone, moment = ZoneInfo(tz), datetime.combine(FIRST, time(0), tzinfo=UTC) - timedelta(days=2)
    end = datetime.combine(LAST, time(0), tzinfo=UTC) + timedelta(days=2)
    found: dict[datetime, datetime] = {}
    skipped: dict[datetime, datetime] = {}
    before = moment.astimezone(zone).replace(tzinfo=None)
    while moment < end:
        wall = moment.astimezone(zone).replace(tzinfo=None)
        missed = before + STEP
        while missed < wall:
            skipped[missed] = moment - STEP + (missed - before)
            missed += STEP
        found.setdefault(wall, moment)
        moment, before = moment + STEP, wall
    return {**skipped, **found}


def by_looking(reset: time, tz: str) -> list[datetime]:
    """Return each date's reset."""
    return [seen(tz)[datetime.combine(day, reset)] for day in dates()]


# ── the comparison ──────────────────────────────────────────────────────────


def assert_days_are(resets: list[datetime], at: str, tz: str) -> None:
    reading = Moment(time=at, tz=tz)
    for day, starts_at, ends_at in zip(dates(), resets, resets[1:], strict=False):
        expected = days.FirmDay(day=day.isoformat(), reset=f"{at} {tz}", starts_at=starts_at, ends_at=ends_at)
        assert days.day_of(reading, starts_at) == expected, f"at the reset of {day}"
        assert days.day_of(reading, ends_at - TICK) == expected, f"just before the end of {day}"
    assert [found.starts_at for found in days.days_of(reading, resets[0], resets[-1])] == resets[1:]


def test_rule_sets_use_zones_whose_laws_are_written_here() -> None:
    assert {tz for _, tz in used()} <= LAWS.keys()
    assert ("00:00", "Europe/Athens") in used()


@pytest.mark.parametrize(("at", "tz"), used())
def test_days_of_every_rule_set_are_those_of_the_law(at: str, tz: str) -> None:
    assert_days_are(by_law(time.fromisoformat(at), LAWS[tz]), at, tz)


@pytest.mark.parametrize(("at", "tz"), [*used(), *HARD])
def test_days_are_those_that_the_wall_clock_shows(at: str, tz: str) -> None:
    assert_days_are(by_looking(time.fromisoformat(at), tz), at, tz)


@pytest.mark.parametrize("tz", ["Europe/Athens", "Europe/Prague", "America/New_York"])
def test_both_oracles_agree_on_resets_that_are_skipped_or_repeated(tz: str) -> None:
    for at in ("01:00", "01:30", "02:00", "02:30", "03:00", "03:30", "04:00"):
        assert by_law(time.fromisoformat(at), LAWS[tz]) == by_looking(time.fromisoformat(at), tz), at


def test_days_last_23_24_or_25_hours() -> None:
    for at, tz in used():
        resets = by_law(time.fromisoformat(at), LAWS[tz])
        lengths = [(end - start) // timedelta(hours=1) for start, end in pairwise(resets)]
        changes = 0 if tz in ("Etc/GMT-3", "UTC") else 10
        assert (lengths.count(23), lengths.count(25)) == (changes, changes), tz
        assert set(lengths) <= {23, 24, 25}
