"""The few numbers of the rule set that the store needs for its own sums. Part of the store process; read once at start.

Reads the same file as the guard, but with structs and day arithmetic of its own: an error there must not be repeated
here. Judges no rule set; whoever trades does that when it loads it.
"""

from __future__ import annotations

import functools
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct

from bus.records import MarkKind
from config import load
from config.load import ConfigError

MeasuredOn = Literal["equity", "lower_of_balance_and_equity"]
TRAILED: dict[str, MarkKind] = {
    "trailing_day_end": "day_end_balance",
    "trailing_closed": "closed_balance",
    "trailing_intraday": "equity",
}


class Account(Struct, frozen=True):
    initial_balance_cents: int


class Reading(Struct, frozen=True):
    """One reading of when the firm's day begins."""

    time: str
    tz: str

    @property
    def label(self) -> str:
        """Return it as `account_days.reset` keeps it."""
        return f"{self.time} {self.tz}"

    def starts_at(self, day: date) -> datetime:
        """Return when that local date's day begins, in UTC. A time that the clocks skip or repeat happens once."""
        local = datetime.combine(day, time.fromisoformat(self.time), tzinfo=ZoneInfo(self.tz))
        return local.astimezone(UTC)

    def span_of(self, day: str) -> tuple[datetime, datetime]:
        """Return when that local date's day begins and ends. Raises ValueError for anything that is no date."""
        date_of = date.fromisoformat(day)
        return self.starts_at(date_of), self.starts_at(date_of + timedelta(days=1))

    def day_of(self, moment: datetime) -> str:
        """Return the firm's date at a moment: that of the newest beginning at or before it."""
        day = moment.astimezone(ZoneInfo(self.tz)).date() + timedelta(days=1)
        while self.starts_at(day) > moment:
            day -= timedelta(days=1)
        return day.isoformat()


class Reset(Reading, frozen=True):
    also: tuple[Reading, ...] = ()


class Daily(Struct, frozen=True):
    kind: Literal["soft_pause", "hard", "none"]
    ratio: Decimal
    base: Literal["initial", "reference"]
    reference: Literal["balance", "higher_of_balance_and_equity"]
    measured_on: MeasuredOn


class Maximum(Struct, frozen=True):
    mode: Literal["static", "trailing_day_end", "trailing_closed", "trailing_intraday"]
    ratio: Decimal
    lock_at: Literal["initial", "none"]
    measured_on: MeasuredOn

    @property
    def mark(self) -> MarkKind | None:
        """Return what the floor trails; None when it stands still."""
        return TRAILED.get(self.mode)


class Requests(Struct, frozen=True):
    per_day: int
    reserve: int
    writes_per_day: int
    writes_reserve: int


class Safety(Struct, frozen=True):
    stop_ratio: Decimal


class Rules(Struct, frozen=True):
    """One rule set. `fingerprint` is that of the file it was read from."""

    name: str
    account: Account
    reset: Reset
    daily: Daily
    maximum: Maximum
    requests: Requests
    safety: Safety
    fingerprint: str = ""

    @property
    def readings(self) -> tuple[Reading, ...]:
        """Return every reading of the reset that counts, the usual one first."""
        return (Reading(self.reset.time, self.reset.tz), *self.reset.also)

    def reading(self, label: str) -> Reading | None:
        return next((one for one in self.readings if one.label == label), None)

    def days_of(self, moment: datetime) -> tuple[str, ...]:
        """Return the firm's dates at a moment, each once: the readings may differ for some hours."""
        return tuple(dict.fromkeys(reading.day_of(moment) for reading in self.readings))


def read(name: str) -> Rules:
    """Return the numbers of a rule set: a name under config/rules, or the path of a TOML file. Raises ConfigError."""
    return _rules_in(load.rules_file(name))


@functools.lru_cache(maxsize=4)
def _rules_in(file: load.RulesFile) -> Rules:
    """Return the numbers in these bytes. A spare reads the file again at its turn, but parses only what changed."""
    found = load.convert({**file.raw, "fingerprint": file.fingerprint}, Rules, file.path)
    for reading in found.readings:
        try:
            reading.starts_at(date(2026, 1, 1))
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigError(f"{file.path}: reset {reading.label!r} is no local time of the IANA database") from error
    return found
