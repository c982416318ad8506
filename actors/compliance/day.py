"""The firm's day: when it begins and ends, and the balance it began with. Pure; used by executor and monitor.

A day is [reset, next reset): whatever is stamped exactly at the reset belongs to the new day. Floating profit is
never part of a day's start.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, Protocol
from zoneinfo import ZoneInfo

from msgspec import Struct


class FirmDay(Struct, frozen=True, kw_only=True):
    """One day of the firm. `day` is the local date of its beginning; both moments are in UTC."""

    day: str
    starts_at: datetime
    ends_at: datetime


class ClosedRow(Protocol):
    """What is needed of a row of the broker's history."""

    @property
    def id(self) -> str: ...
    @property
    def opened_at(self) -> datetime: ...
    @property
    def closed_at(self) -> datetime: ...
    @property
    def net_profit_cents(self) -> int: ...
    @property
    def commission_cents(self) -> int: ...


class OpenRow(Protocol):
    """What is needed of an open position. `commission_cents` is negative when it costs."""

    @property
    def opened_at(self) -> datetime: ...
    @property
    def commission_cents(self) -> int: ...


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
                starts_at=starts_at,
                ends_at=_reset_of(candidate + timedelta(days=1), reset, zone),
            )
    raise ValueError(f"no day of {zone.key} holds {moment}")


def _reset_of(day: date, reset: time, zone: ZoneInfo) -> datetime:
    """Return the moment at which a local date's reset happens, in UTC. `fold` is 0: see `firm_day`."""
    return datetime.combine(day, reset, tzinfo=zone).astimezone(UTC)


def start_balance_cents(
    balance_cents: int,
    *,
    starts_at: datetime,
    closed: Iterable[ClosedRow],
    open_positions: Iterable[OpenRow] = (),
    commission_booked: Literal["open", "close", "unknown"] = "unknown",
    cash_flows_cents: int = 0,
) -> int:
    """Return the balance at the day's start, rebuilt from the balance now.

    Takes back the net profit of every row closed at or after the start, and signed cash flows since (deposit +,
    withdrawal -). A broker that books the commission when a position is opened has taken it in the day of the opening:
    it is counted there, once. `unknown` gives the higher of the two readings, which makes for the higher floor.
    Floating profit is never taken into account. `closed` may hold older rows and the same row twice.
    Source: docs/decisions.md, "Rebuild after a slept reset".
    """
    since = {_identity(row): row for row in closed if row.closed_at >= starts_at}.values()
    booked_at_close = balance_cents - cash_flows_cents - sum(row.net_profit_cents for row in since)
    # Of a row opened before the reset, the commission had left the balance before the day began.
    carried_cents = sum(row.commission_cents for row in since if row.opened_at < starts_at)
    taken_today_cents = sum(row.commission_cents for row in open_positions if row.opened_at >= starts_at)
    booked_at_open = booked_at_close + carried_cents - taken_today_cents
    if commission_booked == "unknown":
        return max(booked_at_open, booked_at_close)
    return booked_at_open if commission_booked == "open" else booked_at_close


def realised_cents(closed: Iterable[ClosedRow], starts_at: datetime) -> int:
    """Return the net profit of the rows closed at or after the day's start. The same row twice counts once."""
    return sum({_identity(row): row.net_profit_cents for row in closed if row.closed_at >= starts_at}.values())


def held_short(closed: Iterable[ClosedRow], seconds_min: int) -> tuple[int, int]:
    """Return how many trades were held shorter than `seconds_min`, and how many there are. Doubled rows count once."""
    rows = {_identity(row): row for row in closed}.values()
    short = sum(1 for row in rows if (row.closed_at - row.opened_at).total_seconds() < seconds_min)
    return short, len(rows)


def _identity(row: ClosedRow) -> tuple[str, datetime, int]:
    """Return what tells two rows apart: partial closes share the position's id, doubled rows share everything."""
    return row.id, row.closed_at, row.net_profit_cents
