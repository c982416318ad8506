"""When no position may be open: by the day's flat time and over the weekend. Pure; used by guard and monitor.

Local times in the zone of the reset. By every other reading of the reset they lie as far from it, and every window
counts. A time that the clocks skip or repeat begins a window at its earlier moment and ends one at its later: nobody
argues with a position that was closed too early.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct

from actors.compliance import day as firm_day
from actors.compliance.rulebook import RuleSet

NONE = "none"
FRIDAY = 4
DAYS_AROUND = 8  # a week and a day: every kind of window has begun and ended within


class Window(Struct, frozen=True):
    """A span [starts_at, ends_at) in UTC in which no position may be open."""

    starts_at: datetime
    ends_at: datetime


def window_at(rules: RuleSet, now: datetime) -> Window | None:
    """Return the window that holds `now`, or None. Windows that touch are one."""
    return next((window for window in _windows(rules, now) if window.starts_at <= now < window.ends_at), None)


def next_window(rules: RuleSet, now: datetime) -> Window | None:
    """Return the first window that begins after `now`, or None when the rules have none."""
    return next((window for window in _windows(rules, now) if window.starts_at > now), None)


def _windows(rules: RuleSet, now: datetime) -> list[Window]:
    """Return all windows around a moment, oldest first, joined where they touch or overlap."""
    flat = rules.flat
    if flat.daily_by == NONE and flat.friday_by == NONE:
        return []
    today = now.astimezone(rules.zone).date()
    found: list[Window] = []
    for offset in range(-DAYS_AROUND, DAYS_AROUND + 1):
        day = today + timedelta(days=offset)
        if flat.daily_by != NONE:
            reopens = day if flat.reopen_at > flat.daily_by else day + timedelta(days=1)
            found.append(_window(rules, day, flat.daily_by, reopens))
        if flat.friday_by != NONE and day.weekday() == FRIDAY:
            found.append(_window(rules, day, flat.friday_by, day + timedelta(days=3)))
    joined: list[Window] = []
    for window in sorted(found, key=lambda one: one.starts_at):
        if joined and window.starts_at <= joined[-1].ends_at:
            joined[-1] = Window(joined[-1].starts_at, max(joined[-1].ends_at, window.ends_at))
        else:
            joined.append(window)
    return joined


def _window(rules: RuleSet, day: date, by: str, reopens: date) -> Window:
    starts = _readings(rules, day, by)
    return Window(min(starts), max(_readings(rules, reopens, rules.flat.reopen_at)))


def _readings(rules: RuleSet, day: date, local: str) -> list[datetime]:
    """Return every moment that a local time can mean: by each reading of the reset, skipped or repeated."""
    at = datetime.combine(day, time.fromisoformat(local))
    usual = datetime.combine(day, rules.reset_time)
    found: list[datetime] = []
    for reading in firm_day.readings(rules):
        shift = datetime.combine(day, time.fromisoformat(reading.time)) - usual
        # 17:00 in New York is a server's midnight: 7 hours back, not 17 on.
        shift = (shift + timedelta(hours=12)) % timedelta(days=1) - timedelta(hours=12)
        shifted = (at + shift).replace(tzinfo=ZoneInfo(reading.tz))
        found += [shifted.astimezone(UTC), shifted.replace(fold=1).astimezone(UTC)]
    return found
