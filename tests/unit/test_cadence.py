"""When bars close, across weekends and changes of the clocks; when a look is due; how long an intent may wait."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from actors.market import cadence, intervals, sessions
from actors.market.cadence import Schedule
from actors.market.intervals import Interval
from tests.kit.clock import ManualClock


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# ── sessions ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("since", "until", "hours"),
    [
        ("2026-02-13T20:00", "2026-02-13T21:00", 1),
        ("2026-02-13T21:00", "2026-02-15T23:00", 2),  # Friday's last hour and Sunday's first: 22:00 UTC in winter
        ("2026-07-10T20:00", "2026-07-12T22:00", 2),  # 21:00 UTC in summer
        ("2026-03-06T21:00", "2026-03-08T22:00", 2),  # closes in winter time, opens in summer time
        ("2026-02-14T00:00", "2026-02-15T12:00", 0),
        ("2025-12-24T21:00", "2025-12-25T23:00", 2),  # Christmas: from 22:00 to 22:00
        ("2026-02-13T21:00", "2026-02-13T20:00", 0),
    ],
)
def test_trading_time_between_two_moments(since: str, until: str, hours: float) -> None:
    assert sessions.open_s(at(since), at(until)) == hours * 3_600


def test_the_operators_holiday_is_no_trading_time() -> None:
    day = date(2026, 4, 3)
    assert sessions.open_s(at("2026-04-02T20:00"), at("2026-04-03T21:00"), {day}) == 3_600
    assert sessions.trading_days_between(date(2026, 4, 2), date(2026, 4, 6), {day}) == 0


@pytest.mark.parametrize(
    ("interval", "opened", "closes"),
    [
        ("H1", "2026-02-16T08:00", "2026-02-16T10:00"),
        ("H1", "2026-02-13T21:00", "2026-02-15T23:00"),
        ("H4", "2026-02-16T06:00", "2026-02-16T14:00"),  # a server two hours ahead of UTC
        ("H4", "2026-02-13T20:00", "2026-02-16T00:00"),
        ("D1", "2026-02-12T00:00", "2026-02-14T00:00"),
        ("D1", "2026-02-13T00:00", "2026-02-17T00:00"),  # Sunday's two hours are no day
        ("D1", "2026-02-12T22:00", "2026-02-16T22:00"),  # Friday's bar of such a server; the next is Monday's
        ("D1", "2025-12-24T00:00", "2025-12-27T00:00"),
    ],
)
def test_the_next_bar_closes_when_the_market_has_traded_in_it(interval: Interval, opened: str, closes: str) -> None:
    assert sessions.next_close(interval, at(opened)) == at(closes)


# ── looks ───────────────────────────────────────────────────────────────────


def looks(clock: ManualClock, *timeframes: Interval, hours: float, longest_s: float = 14_400.0) -> dict[str, list[str]]:
    """Run a schedule for some hours on a clock that nobody else moves; return the times of each timeframe's looks."""
    schedule = Schedule(timeframes, settle_s=20.0, longest_s=longest_s)
    end, found = clock.now() + timedelta(hours=hours), dict[str, list[str]]()
    while clock.now() <= end:
        for timeframe in schedule.due(clock.now()):
            found.setdefault(timeframe, []).append(f"{clock.now():%a %H:%M:%S}")
            schedule.looked(timeframe, clock.now())
        clock.advance(schedule.sleep_s(clock.now(), 86_400.0))
    return found


def test_all_are_due_at_the_start_and_then_at_the_closes_of_their_bars() -> None:
    found = looks(ManualClock(at("2026-02-16T09:30")), "D1", "H4", "H1", hours=15)
    assert found["H1"][:3] == ["Mon 09:30:00", "Mon 10:00:20", "Mon 11:00:20"]
    assert found["H4"][:3] == found["H1"][:3], "a broker's H4 may close at any full hour"
    assert found["D1"] == ["Mon 09:30:00", "Mon 13:30:00", "Mon 17:30:00", "Mon 21:30:00", "Tue 00:00:20"]


def test_a_change_of_the_clocks_and_a_weekend_move_no_look() -> None:
    for begin in ("2026-03-06T20:30", "2026-10-23T20:30"):
        found = looks(ManualClock(at(begin)), "H1", hours=72)["H1"]
        assert len(found) == 73
        assert {one[-5:] for one in found[1:]} == {"00:20"}


def test_d1_is_looked_for_at_its_own_cadence() -> None:
    assert len(looks(ManualClock(at("2026-02-16T09:30")), "D1", hours=1, longest_s=600)["D1"]) == 7


def test_a_clock_that_stands_still_or_jumps_keeps_no_look_from_coming() -> None:
    schedule = Schedule(("H1",), settle_s=20.0, longest_s=14_400.0)
    now = at("2026-02-16T09:30")
    schedule.looked("H1", now)
    assert schedule.due(now) == []
    assert schedule.sleep_s(now, 86_400.0) == 1_820.0
    assert schedule.due(now) == ["H1"], "it was slept for"
    schedule.looked("H1", now)
    assert schedule.due(now + timedelta(hours=5)) == ["H1"], "and so it is when the clock says so"


def test_a_machine_that_slept_through_a_close_looks_when_it_wakes() -> None:
    schedule, clock = Schedule(("H1",), settle_s=20.0, longest_s=14_400.0), ManualClock(at("2026-02-16T09:30"))
    schedule.looked("H1", clock.now())
    assert schedule.sleep_s(clock.now(), 5.0) == 5.0
    clock.advance(5.0)
    assert schedule.due(clock.now()) == [], "that was not slept for"
    clock.jump(3 * 3_600.0)
    assert schedule.due(clock.now()) == ["H1"]


def test_a_retry_of_one_timeframe_does_not_hold_up_another() -> None:
    schedule = Schedule(("D1", "H1"), settle_s=20.0, longest_s=14_400.0)
    now = at("2026-02-16T09:59:30")
    assert schedule.due(now) == ["H1", "D1"], "the shortest first"
    schedule.looked("H1", now)
    assert schedule.looked("D1", now, again_s=60.0) == timedelta(seconds=60)
    assert schedule.sleep_s(now, 86_400.0) == 50.0
    assert schedule.due(now) == ["H1"]


def test_a_look_waits_until_the_source_has_settled() -> None:
    assert cadence.next_look("H1", at("2026-02-16T10:00:05"), settle_s=20, longest_s=1) == at("2026-02-16T10:00:20")
    assert cadence.next_look("H1", at("2026-02-16T10:00:20"), settle_s=20, longest_s=1) == at("2026-02-16T11:00:20")


# ── how long an intent may wait ─────────────────────────────────────────────


@pytest.mark.parametrize(
    ("interval", "now", "minutes"),
    [
        ("D1", "2026-02-16T23:00", 240),
        ("H4", "2026-02-16T12:00:30", 239),
        ("H1", "2026-02-16T09:00:30", 59),
        ("H1", "2026-02-16T09:59:01", 0),
        ("H1", "2026-02-16T10:30", -30),
    ],
)
def test_an_intent_ends_before_the_next_bar_of_its_kind_closes(interval: Interval, now: str, minutes: int) -> None:
    assert cadence.minutes_left(interval, at("2026-02-16T08:00"), at(now), ttl_minutes=240) == minutes
    assert cadence.minutes_left("H1", at("2026-02-16T08:00"), at("2026-02-16T09:00"), ttl_minutes=15) == 15


def test_names_of_bars_are_read_back() -> None:
    moment = at("2026-02-16T08:00")
    for interval in ("H4", "H1"):
        assert intervals.opening(interval, intervals.bar_time(interval, moment)) == moment
    assert intervals.opening("D1", "2026-02-16") == at("2026-02-16")
    with pytest.raises(ValueError, match="no time of a H1 bar"):
        intervals.opening("H1", "2026-02-16")
