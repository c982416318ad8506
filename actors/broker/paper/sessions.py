"""When the paper broker trades, when it rolls positions over, and how wide its spread is at which hour. Pure.

The FX week runs from Sunday 17:00 to Friday 17:00 in New York, and so does each of its trading days; a holiday is one
of them. All times are the simulated calendar's, not the machine's.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from config import settings
from config.load import ConfigError
from config.settings import Sessions

NEW_YORK = ZoneInfo("America/New_York")
WEEK_EDGE_HOUR = 17
WEDNESDAY, FRIDAY, SATURDAY, SUNDAY = 2, 4, 5, 6
TRIPLE = 3  # nights that Wednesday's rollover counts for: the weekend's value dates
DAY = timedelta(days=1)
NIGHTS_DAYS_MAX = 3_660  # a calendar that jumped farther is charged for ten years
FACTORS_OF_THE_WEEK = (1.0,) * 21 + (3.0, 3.0, 2.0)  # UTC; the rollover is at 21 or 22
FACTORS_OF_ALWAYS = (1.0,) * 24


def is_open(sessions: Sessions, at: datetime) -> bool:
    """Return whether the week is open at this time, holidays and breaks aside."""
    if sessions == "always":
        return True
    local = at.astimezone(NEW_YORK)
    if local.weekday() == FRIDAY:
        return local.hour < WEEK_EDGE_HOUR
    if local.weekday() == SUNDAY:
        return local.hour >= WEEK_EDGE_HOUR
    return local.weekday() != SATURDAY


def at_ms(epoch_ms: int) -> datetime:
    """Return epoch milliseconds as a time in UTC."""
    return datetime.fromtimestamp(epoch_ms / 1_000, UTC)


class Calendar:
    """The hours of one broker. `suffix` is what its symbols carry behind ours."""

    def __init__(self, paper: settings.Paper) -> None:
        """Read the settings. Raises ConfigError for a zone or a day that does not exist."""
        self._default = paper.sessions
        self._by_symbol: Mapping[str, Sessions] = {
            name + paper.symbol_suffix: sessions for name, sessions in paper.sessions_by_symbol.items()
        }
        self._break = timedelta(minutes=paper.daily_break_minutes)
        self._holidays = _days(paper.holidays)
        self._rollover_hour = paper.rollover_hour
        self._zone = _zone(paper.rollover_zone)
        self._factors = paper.spread_factors
        self._week_open_factor = paper.week_open_spread_factor
        self._hours: dict[tuple[Sessions, date], list[dict[str, int]]] = {}

    def sessions_of(self, symbol: str) -> Sessions:
        """Return which hours a symbol keeps."""
        return self._by_symbol.get(symbol, self._default)

    def shut(self, symbols: Collection[str], epoch_ms: int) -> frozenset[str]:
        """Return the symbols whose session is not open."""
        at, is_open = at_ms(epoch_ms), dict[Sessions, bool]()
        for sessions in {self.sessions_of(symbol) for symbol in symbols}:
            is_open[sessions] = self._is_open(sessions, at)
        return frozenset(symbol for symbol in symbols if not is_open[self.sessions_of(symbol)])

    def next_rollover_ms(self, epoch_ms: int) -> int:
        """Return the first rollover after a moment, be it at a weekend or not."""
        day = at_ms(epoch_ms).astimezone(self._zone).date()
        times = (int(self._rollover(day + ahead * DAY).timestamp() * 1_000) for ahead in range(3))
        return next(one for one in times if one > epoch_ms)

    def nights(self, from_ms: int, to_ms: int) -> int:
        """Return for how many nights a position pays that was open after `from_ms` and until `to_ms`.

        Each rollover in between counts, from Monday to Friday, Wednesday's for three. Source: two days to settlement.
        """
        if to_ms <= from_ms:
            return 0
        begin, end = at_ms(from_ms), at_ms(to_ms)
        day = max(begin, end - NIGHTS_DAYS_MAX * DAY).astimezone(self._zone).date()
        found = 0
        while day <= end.astimezone(self._zone).date():
            if begin < self._rollover(day) <= end and day.weekday() < SATURDAY:
                found += TRIPLE if day.weekday() == WEDNESDAY else 1
            day += DAY
        return found

    def spread_factor(self, symbol: str, epoch_ms: int) -> Decimal:
        """Return by how much the spread is wider than `spread_pips` now."""
        at = at_ms(epoch_ms)
        sessions = self.sessions_of(symbol)
        factors = self._factors or (FACTORS_OF_THE_WEEK if sessions == "fx" else FACTORS_OF_ALWAYS)
        factor = factors[at.hour]
        local = at.astimezone(NEW_YORK)
        if sessions == "fx" and local.weekday() == SUNDAY and local.hour == WEEK_EDGE_HOUR:
            factor = max(factor, self._week_open_factor)
        return Decimal(str(factor))

    def trading_hours(self, symbol: str, epoch_ms: int) -> list[dict[str, int]]:
        """Return the running week (UTC, day 0 = Sunday) as the broker lists it, without its holidays and breaks."""
        sessions = self.sessions_of(symbol)
        today = at_ms(epoch_ms).date()
        sunday = today - (today.weekday() + 1) % 7 * DAY
        if (sessions, sunday) not in self._hours:
            self._hours = {key: rows for key, rows in self._hours.items() if key[1] == sunday}  # the last week is over
            self._hours[sessions, sunday] = [
                _listed(number, begin, end)
                for number in range(7)
                for begin, end in self._spans(sessions, sunday + number * DAY)
            ]
        return self._hours[sessions, sunday]

    def _is_open(self, sessions: Sessions, at: datetime) -> bool:
        if not is_open(sessions, at) or _trading_day(at) in self._holidays:
            return False
        return not self._break or not self._rollover_before(at) <= at < self._rollover_before(at) + self._break

    def _rollover(self, day: date) -> datetime:
        return datetime.combine(day, time(self._rollover_hour), self._zone).astimezone(UTC)

    def _rollover_before(self, at: datetime) -> datetime:
        today = self._rollover(at.astimezone(self._zone).date())
        return today if today <= at else self._rollover(at.astimezone(self._zone).date() - DAY)

    def _spans(self, sessions: Sessions, day: date) -> list[tuple[datetime, datetime]]:
        """Return from when to when it is open on one day in UTC, as tested between all times where that can change."""
        begin = datetime.combine(day, time(), UTC)
        edges = {begin, begin + DAY}
        for near in (day - DAY, day, day + DAY):
            rollover = self._rollover(near)
            edges |= {rollover, rollover + self._break}
            edges.add(datetime.combine(near, time(WEEK_EDGE_HOUR), NEW_YORK).astimezone(UTC))
        times = sorted(one for one in edges if begin <= one <= begin + DAY)
        found: list[tuple[datetime, datetime]] = []
        for since, until in itertools.pairwise(times):
            if not self._is_open(sessions, since + (until - since) / 2):
                continue
            if found and found[-1][1] == since:
                since = found.pop()[0]
            found.append((since, until))
        return found


def _trading_day(at: datetime) -> date:
    """Return the trading day: from 17:00 in New York it is the next one's."""
    local = at.astimezone(NEW_YORK)
    return local.date() + DAY if local.hour >= WEEK_EDGE_HOUR else local.date()


def _listed(number: int, begin: datetime, end: datetime) -> dict[str, int]:
    is_midnight = end.time() == time()
    last = time(23, 59, 59) if is_midnight else end.time()
    return {
        "dayNumber": number,
        "openHours": begin.hour,
        "openMinutes": begin.minute,
        "openSeconds": begin.second,
        "closeHours": last.hour,
        "closeMinutes": last.minute,
        "closeSeconds": last.second,
    }


def _days(texts: tuple[str, ...]) -> frozenset[date]:
    try:
        return frozenset(date.fromisoformat(text) for text in texts)
    except ValueError as error:
        raise ConfigError(f"paper.holidays: {error}; allowed: days such as 2026-12-25") from error


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError) as error:
        raise ConfigError(f"paper.rollover_zone was {name!r}: there is no such zone; e.g. America/New_York") from error
