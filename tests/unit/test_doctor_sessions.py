"""What `pilot doctor` says of sessions: contradictions between hours and `sessionOpen` by name, zones that fit."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from actors.broker import instruments
from actors.broker.wire import Hours, Instrument
from actors.console import sessions
from tests.kit.cards import HOURS, INSTRUMENT, LISTED

ATHENS = "Europe/Athens"
WEEK = tuple(Hours(weekday=day, opens_s=300, closes_s=86_100) for day in range(1, 6))  # 00:05 to 23:55
NOON = datetime(2026, 2, 18, 12, 0, tzinfo=UTC)  # a Wednesday


def states(at: datetime, *listed: Instrument, zones: tuple[str, ...] = (ATHENS,)) -> list[tuple[str, str]]:
    by_symbol = {one.symbol: one for one in listed}
    found = sessions.check(list(by_symbol), by_symbol, at, zones, ())
    assert all(one.check == "sessions" for one in found)
    return [(one.state, one.found) for one in found]


def an_instrument(*, is_open: bool = True, hours: tuple[Hours, ...] | None = WEEK) -> Instrument:
    return msgspec.structs.replace(LISTED, session_open=is_open, hours=hours)


def test_hours_that_contradict_in_every_zone_are_named() -> None:
    (first, said) = states(NOON, an_instrument(is_open=False))
    assert first[0] == "warn"
    assert said == ("warn", "EURUSD is closed, and its hours say open in UTC, Europe/Athens")
    sunday = datetime(2026, 2, 22, 12, 0, tzinfo=UTC)
    assert ("warn", "EURUSD is open, and its hours say closed in UTC, Europe/Athens") in states(sunday, an_instrument())


def test_zone_in_which_the_hours_fit_is_told() -> None:
    late = datetime(2026, 2, 22, 22, 30, tzinfo=UTC)  # Sunday in UTC, Monday 00:30 in Athens
    assert states(late, an_instrument())[1] == ("ok", "the hours fit Europe/Athens; EURUSD: Mo Tu We Th Fr 00:05-23:55")
    assert states(late, an_instrument(is_open=False))[1][1].startswith("the hours fit UTC;")
    assert states(NOON, an_instrument())[1][1].startswith("the hours fit UTC, Europe/Athens;")


def test_closed_at_the_weekend_is_no_contradiction() -> None:
    saturday = datetime(2026, 2, 21, 12, 0, tzinfo=UTC)
    found = states(saturday, an_instrument(is_open=False))
    assert [state for state, _ in found] == ["warn", "ok"]
    assert found[0][1] == "closed now: EURUSD"


def test_hours_that_are_not_said_contradict_nothing() -> None:
    assert states(NOON, an_instrument(hours=None)) == [("ok", "all are open"), ("warn", "no hours of EURUSD")]


def test_holidays_to_come_are_told_and_past_ones_are_not() -> None:
    found = sessions.check(["EURUSD"], {"EURUSD": LISTED}, NOON, (), ("2026-12-25", "2026-01-01"))
    assert found[-1].found == "no new orders on 2026-12-25 (compliance.holidays)"


@pytest.mark.parametrize(
    "said",
    [
        None, [], "always", [HOURS | {"dayNumber": 7}], [HOURS | {"openHours": 25}], [HOURS | {"closeHours": "x"}],
        [{"dayNumber": 1}], [HOURS | {"openHours": 23, "closeHours": 1}],
    ],
)  # fmt: skip
def test_odd_hours_hide_no_instrument(said: object) -> None:
    row = msgspec.Raw(msgspec.json.encode(INSTRUMENT | {"tradingHours": said}))
    found, left_out = instruments.by_our_symbol([row])
    assert left_out == ()
    assert found["EURUSD"].hours is None
