"""The hours of the FX market: which bars can exist, and how much trading time lies between two moments. Pure.

Used by the scanner and by its child process. The week runs from Sunday 17:00 to Friday 17:00 in New York, and so does
each of its trading days, named after the date on which it ends. Christmas and New Year's Day are closed everywhere;
what else a broker keeps closed are the operator's `compliance.holidays`.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from actors.market.intervals import LENGTH, Interval

NEW_YORK = ZoneInfo("America/New_York")
DAY_EDGE = time(17)
SATURDAY = 5
CLOSED = frozenset({(12, 25), (1, 1)})  # month and day
DAY = timedelta(days=1)
DAYS_MAX = 36_500  # of one span: a century; only a broken date is farther away
BARS_AHEAD_MAX = 400  # an H1 bar after the longest row of closed days is nearer

Holidays = Collection[date]


def is_trading_day(day: date, holidays: Holidays = ()) -> bool:
    """Return whether the trading day of this date exists."""
    return day.weekday() < SATURDAY and (day.month, day.day) not in CLOSED and day not in holidays


def open_s(since: datetime, until: datetime, holidays: Holidays = ()) -> float:
    """Return the seconds of trading time between two moments; 0 when the second is not later.

    Raises:
        ValueError: they are more than a century apart.
    """
    if until - since > DAYS_MAX * DAY:
        raise ValueError(f"{since} and {until} are more than {DAYS_MAX} days apart")
    found, day = 0.0, since.astimezone(NEW_YORK).date()
    while True:
        begin, end = _span(day)
        if begin >= until:
            return found
        if is_trading_day(day, holidays):
            found += max(0.0, (min(end, until) - max(begin, since)).total_seconds())
        day += DAY


def next_close(interval: Interval, opened: datetime, holidays: Holidays = ()) -> datetime:
    """Return when the first bar after the one that opened at `opened` will have closed.

    An H4 or H1 bar exists when the market is open at some time of it, a D1 bar when the date that most of it lies in is
    a trading day. Bars keep the distance of the one that is known, so that those of a broker whose day begins
    elsewhere are found, too.
    """
    length = LENGTH[interval]
    begin = opened + length
    for _ in range(BARS_AHEAD_MAX):
        middle = begin + length / 2
        if is_trading_day(middle.date(), holidays) if interval == "D1" else open_s(begin, begin + length, holidays):
            break
        begin += length
    return begin + length


def trading_days_between(first: date, last: date, holidays: Holidays = ()) -> int:
    """Return how many trading days lie strictly between two dates."""
    days = min((last - first).days, DAYS_MAX)
    return sum(is_trading_day(first + ahead * DAY, holidays) for ahead in range(1, days))


@functools.lru_cache(maxsize=40_000)
def _span(day: date) -> tuple[datetime, datetime]:
    """Return begin and end of the trading day of this date."""
    return (
        datetime.combine(day - DAY, DAY_EDGE, NEW_YORK).astimezone(UTC),
        datetime.combine(day, DAY_EDGE, NEW_YORK).astimezone(UTC),
    )
