"""The firm's day: when it begins and ends, by every reading of the firm's words. Pure; used by executor and monitor.

A day is [reset, next reset): whatever is stamped exactly at the reset belongs to the new day.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct

from actors.compliance import ledger
from actors.compliance.ledger import ClosedRow
from actors.compliance.rulebook import Moment, RuleSet


class FirmDay(Struct, frozen=True, kw_only=True):
    """One day of the firm. `day` is the local date of its beginning; both moments are in UTC."""

    day: str
    reset: str  # which reading of the reset, e.g. "00:00 Europe/Athens"
    starts_at: datetime
    ends_at: datetime


def readings(rules: RuleSet) -> tuple[Moment, ...]:
    """Return every reading of when the firm's day begins, the set's own first. All of them count."""
    return (Moment(time=rules.reset.time, tz=rules.reset.tz), *rules.reset.also)


def firm_days(rules: RuleSet, now: datetime) -> tuple[FirmDay, ...]:
    """Return the firm's day that holds `now` by every reading, in the order of `readings`.

    Raises:
        ValueError: the moment has no zone.
    """
    return tuple(day_of(moment, now) for moment in readings(rules))


def day_of(reading: Moment, now: datetime) -> FirmDay:
    """Return the day that holds `now` by one reading. Raises ValueError when `now` has no zone."""
    return firm_day(now, time.fromisoformat(reading.time), ZoneInfo(reading.tz))


def days_of(reading: Moment, since: datetime, until: datetime) -> tuple[FirmDay, ...]:
    """Return the days by one reading that begin after `since` and not after `until`, oldest first."""
    found: list[FirmDay] = []
    day = day_of(reading, until)
    while day.starts_at > since:
        found.append(day)
        day = day_of(reading, day.starts_at - timedelta(microseconds=1))
    return tuple(reversed(found))


def firm_day(moment: datetime, reset: time, zone: ZoneInfo) -> FirmDay:
    """Return the firm's day that holds a moment.

    A reset time that the clocks skip is counted with the offset before the change, one that they repeat at its first
    occurrence: each happens exactly once. Days last 23 or 25 hours when the clocks change.

    Raises:
        ValueError: the moment has no zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"a moment without a zone: {moment}")
    today = moment.astimezone(zone).date()
    # The local date is at most one day away from the firm's: the reset may lie before or after local midnight.
    for candidate in (today + timedelta(days=1), today, today - timedelta(days=1)):
        if (starts_at := _reset_of(candidate, reset, zone)) <= moment:
            return FirmDay(
                day=candidate.isoformat(),
                reset=f"{reset:%H:%M} {zone.key}",
                starts_at=starts_at,
                ends_at=_reset_of(candidate + timedelta(days=1), reset, zone),
            )
    raise ValueError(f"no day of {zone.key} holds {moment}")


def _reset_of(day: date, reset: time, zone: ZoneInfo) -> datetime:
    """Return the moment at which a local date's reset happens, in UTC. `fold` is 0: see `firm_day`."""
    return datetime.combine(day, reset, tzinfo=zone).astimezone(UTC)


def held_short(closed: Iterable[ClosedRow], seconds_min: int) -> tuple[int, int]:
    """Return how many trades were held shorter than `seconds_min`, and how many there are. Doubled rows count once."""
    rows = ledger.distinct(closed)
    short = sum(1 for row in rows if (row.closed_at - row.opened_at).total_seconds() < seconds_min)
    return short, len(rows)
