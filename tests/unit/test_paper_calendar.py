"""The paper broker's hours: sessions, breaks, holidays, rollovers, and how wide the spread is when."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from msgspec import structs

from actors.broker.paper import book, sessions, values
from actors.broker.paper.sessions import Calendar
from actors.broker.paper.values import Opened, Rolled
from config import settings
from config.load import ConfigError
from tests.unit.test_paper_book import EMPTY, RATES, RULES, a_market, an_order, opened

D = Decimal


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000)


def calendar(**paper: Any) -> Calendar:
    return Calendar(settings.Paper(**{"sessions": "fx"} | paper))


def is_open(found: Calendar, at: str, symbol: str = "EURUSD.") -> bool:
    return not found.shut([symbol], ms(at))


# ── refusals ────────────────────────────────────────────────────────────────


def test_days_and_zones_that_do_not_exist_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"paper\.holidays"):
        calendar(holidays=("2026-02-30",))
    with pytest.raises(ConfigError, match=r"rollover_zone was 'Mars/Olympus'"):
        calendar(rollover_zone="Mars/Olympus")


# ── sessions ────────────────────────────────────────────────────────────────


def test_a_symbol_can_keep_other_hours_than_the_others() -> None:
    found = calendar(sessions_by_symbol={"USDJPY": "always"})
    saturday = ms("2026-02-21T12:00")
    assert found.shut(["EURUSD.", "USDJPY."], saturday) == {"EURUSD."}
    assert len(found.trading_hours("USDJPY.", saturday)) == 7


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-12-24T21:59", True), ("2026-12-24T22:00", False),  # the day of the 25th begins at 17:00 in New York
        ("2026-12-25T12:00", False), ("2026-12-25T21:59", False),
        ("2026-12-27T21:59", False), ("2026-12-27T22:00", True),  # a Friday: the week is over as well
    ],
)  # fmt: skip
def test_a_holiday_is_a_whole_trading_day(at: str, expected: bool) -> None:
    assert is_open(calendar(holidays=("2026-12-25",)), at) is expected


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-02-17T21:59:59", True), ("2026-02-17T22:00", False), ("2026-02-17T22:04:59", False),
        ("2026-02-17T22:05", True), ("2026-02-22T22:04", False), ("2026-02-22T22:05", True),
    ],
)  # fmt: skip
def test_the_daily_break_begins_at_the_rollover(at: str, expected: bool) -> None:
    assert is_open(calendar(daily_break_minutes=5), at) is expected


def listed(found: Calendar, at: str) -> list[str]:
    rows = found.trading_hours("EURUSD.", ms(at))
    return [
        f"{row['dayNumber']} {row['openHours']:02}:{row['openMinutes']:02} "
        f"{row['closeHours']:02}:{row['closeMinutes']:02}:{row['closeSeconds']:02}"
        for row in rows
    ]


def test_trading_hours_are_those_of_the_running_week_in_utc() -> None:
    days = [f"{day} 00:00 23:59:59" for day in range(1, 5)]
    assert listed(calendar(), "2026-02-18T12:00") == ["0 22:00 23:59:59", *days, "5 00:00 22:00:00"]
    assert listed(calendar(), "2026-07-08T12:00") == ["0 21:00 23:59:59", *days, "5 00:00 21:00:00"]
    assert listed(calendar(daily_break_minutes=5), "2026-02-18T12:00")[:3] == [
        "0 22:05 23:59:59", "1 00:00 22:00:00", "1 22:05 23:59:59",
    ]  # fmt: skip
    # Thursday, New Year 2026: closed from Wednesday 22:00 to Thursday 22:00.
    assert listed(calendar(holidays=("2026-01-01",)), "2026-01-01T12:00") == [
        "0 22:00 23:59:59", "1 00:00 23:59:59", "2 00:00 23:59:59", "3 00:00 22:00:00", "4 22:00 23:59:59",
        "5 00:00 22:00:00",
    ]  # fmt: skip


@pytest.mark.parametrize("paper", [{}, {"daily_break_minutes": 7}, {"holidays": ("2026-03-11",)}])
def test_trading_hours_say_the_same_as_the_session(paper: dict[str, Any]) -> None:
    found = calendar(**paper)
    for minute in range(7, 7 * 1_440, 13):
        at_ms = ms("2026-03-08T00:00") + minute * 60_000  # the week in which New York changes its clocks
        at = sessions.at_ms(at_ms)
        day = (at.weekday() + 1) % 7
        seconds = at.hour * 3_600 + at.minute * 60
        inside = any(
            row["openHours"] * 3_600 + row["openMinutes"] * 60 <= seconds
            < row["closeHours"] * 3_600 + row["closeMinutes"] * 60 + row["closeSeconds"]
            for row in found.trading_hours("EURUSD.", at_ms) if row["dayNumber"] == day
        )  # fmt: skip
        assert inside is not bool(found.shut(["EURUSD."], at_ms)), at


# ── rollovers ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("since", "until", "nights"),
    [
        ("2026-02-16T12:00", "2026-02-16T21:59:59", 0),
        ("2026-02-16T12:00", "2026-02-16T22:00", 1),  # a Monday
        ("2026-02-16T22:00", "2026-02-17T21:59", 0),  # opened at the very rollover: after it
        ("2026-02-18T12:00", "2026-02-18T22:00", 3),  # Wednesday pays for the weekend
        ("2026-02-20T12:00", "2026-02-20T22:00", 1),
        ("2026-02-20T23:00", "2026-02-23T21:59", 0),  # Saturday and Sunday have none
        ("2026-02-16T00:00", "2026-02-23T00:00", 7),
        ("2026-03-06T12:00", "2026-03-09T20:59:59", 1),  # Friday's; on Monday it is summer in New York
        ("2026-03-06T12:00", "2026-03-09T21:00", 2),
        ("2026-02-17T00:00", "2026-02-16T00:00", 0),
        ("2025-02-16T12:00", "2026-02-15T12:00", 364),  # 52 weeks of seven nights
    ],
)
def test_every_rollover_in_between_counts_and_wednesdays_for_three(since: str, until: str, nights: int) -> None:
    assert calendar().nights(ms(since), ms(until)) == nights


def test_the_rollover_is_where_the_settings_say() -> None:
    found = calendar(rollover_hour=0, rollover_zone="Europe/Berlin")
    noon, midnight = ms("2026-02-16T12:00"), ms("2026-02-16T23:00")
    assert found.next_rollover_ms(noon) == midnight
    assert (found.nights(noon, midnight - 1), found.nights(noon, midnight)) == (0, 1)


def test_the_next_rollover_comes_after_now() -> None:
    found = calendar()
    for at, following in (
        ("2026-02-16T21:59", "2026-02-16T22:00"), ("2026-02-16T22:00", "2026-02-17T22:00"),
        ("2026-02-17T00:10", "2026-02-17T22:00"), ("2026-03-07T23:00", "2026-03-08T21:00"),
    ):  # fmt: skip
        assert found.next_rollover_ms(ms(at)) == ms(following), at


# ── swaps ───────────────────────────────────────────────────────────────────


def swapped(buy: str, sell: str) -> values.Rules:
    terms = {name: structs.replace(one, swap_buy=D(buy), swap_sell=D(sell)) for name, one in RULES.terms.items()}
    return structs.replace(RULES, terms=terms)


@pytest.mark.parametrize(
    ("order", "nights", "swap_cents"),
    [
        # EURUSD: -6.1 points x 0.00001 x 100,000 x 2 lots = -12.20 USD a night.
        ({"volume": D(2)}, 1, -1_220),
        ({"volume": D(2)}, 3, -3_660),
        ({"volume": D(2), "side": "SELL", "sl_price": D("1.11")}, 1, 440),  # +2.2 points
        # USDJPY: -6.1 points x 0.001 x 100,000 = -610 JPY a lot, at 150 JPY a dollar -4.0667 USD.
        ({"symbol": "USDJPY.", "volume": D(1), "sl_price": D(0)}, 1, -407),
        # EURGBP: -6.1 points x 0.00001 x 100,000 x 0.5 = -3.05 GBP x 1.25 = -3.8125 USD.
        ({"symbol": "EURGBP.", "volume": D("0.5"), "sl_price": D(0)}, 1, -381),
    ],
)
def test_a_swap_is_points_times_lots_times_nights_in_the_accounts_currency(
    order: dict[str, Any], nights: int, swap_cents: int
) -> None:
    kept = opened(an_order(**order))
    rolled = book.roll(kept, swapped("-6.1", "2.2"), a_market(calendar_ms=9), {"1000001": nights})
    assert rolled == Rolled(9, nights, {"1000001": swap_cents})
    held = book.apply(kept, rolled).holdings[0]
    assert (held.swap_cents, held.rolled_ms) == (swap_cents, 9)


def test_swap_is_part_of_equity_goes_with_the_part_that_is_closed_and_into_the_balance() -> None:
    kept = opened(an_order(volume=D("0.30")))
    kept = book.apply(kept, Rolled(5, 1, {"1000001": -300}))
    worth = book.account(kept, RULES, a_market())
    assert (worth.profit_cents, worth.net_profit_cents, worth.equity_cents) == (-300, -300 - 150 - 300, 4_999_250)
    part = book.close_position(kept, RULES, a_market(), "1000001", D("0.10"))
    assert isinstance(part, values.Closed)
    assert (part.operation.swap_cents, part.operation.net_profit_cents) == (-100, -100 - 50 - 100)
    rest = book.apply(kept, part)
    assert rest.holdings[0].swap_cents == -200
    last = book.close_position(rest, RULES, a_market(), "1000001")
    assert isinstance(last, values.Closed)
    assert book.apply(rest, last).balance_cents == 5_000_000 - 750


def test_positions_not_named_get_no_swap_and_an_unknown_one_is_a_broken_file() -> None:
    kept = opened(an_order(), before=opened(an_order()))
    after = book.apply(kept, Rolled(5, 1, {"1000002": -7}))
    assert [(held.swap_cents, held.rolled_ms) for held in after.holdings] == [(0, 5), (-7, 5)]
    with pytest.raises(KeyError):
        book.apply(EMPTY, Rolled(5, 1, {"1000002": -7}))


def test_a_new_position_has_been_rolled_up_to_now() -> None:
    decided = book.open_position(EMPTY, RULES, a_market(calendar_ms=77, rates=RATES), an_order())
    assert isinstance(decided, Opened) and decided.holding.rolled_ms == 77


# ── spread ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("paper", "at", "factor"),
    [
        ({}, "2026-02-17T12:00", "1.0"), ({}, "2026-02-17T20:59", "1.0"), ({}, "2026-02-17T21:00", "3.0"),
        ({}, "2026-02-17T22:30", "3.0"), ({}, "2026-02-17T23:59", "2.0"), ({}, "2026-02-18T00:00", "1.0"),
        ({}, "2026-02-22T22:30", "5.0"), ({}, "2026-02-22T23:00", "2.0"),  # the first hour of the week
        ({}, "2026-07-05T21:30", "5.0"),
        ({"week_open_spread_factor": 9.0}, "2026-02-22T22:30", "9.0"),
        ({"sessions": "always"}, "2026-02-17T22:30", "1.0"), ({"sessions": "always"}, "2026-02-22T22:30", "1.0"),
        ({"sessions": "always", "spread_factors": (2.0,) * 24}, "2026-02-17T12:00", "2.0"),
        ({"spread_factors": (1.5,) * 24}, "2026-02-17T22:30", "1.5"),
    ],
)  # fmt: skip
def test_the_spread_is_wider_around_the_rollover_and_when_the_week_opens(
    paper: dict[str, Any], at: str, factor: str
) -> None:
    assert calendar(**paper).spread_factor("EURUSD.", ms(at)) == D(factor)


def test_outside_those_hours_the_usual_spread_is_the_mean() -> None:
    found = calendar()
    hours = [found.spread_factor("EURUSD.", ms(f"2026-02-17T{hour:02}:00")) for hour in range(21)]
    assert sum(hours) / len(hours) == 1
