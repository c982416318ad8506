"""High-impact news: the calendar file, and whether an order may be sent near its events. Pure but for `load`.

from = 2026-11-22T00:00:00Z       # all high-impact news from here
until = 2026-11-29T00:00:00Z      # to here are in the list, which may be empty
[[events]]
at = 2026-11-25T13:30:00Z
currency = "USD"
impact = "high"
title = "Core PCE Price Index"
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from config import load as config_load

SEND_S = 30.0  # how long after the guard an order may still reach the broker, with both timeouts

Moment = Annotated[datetime, Meta(tz=True)]


class Event(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event. Only `high` ones count."""

    at: Moment
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")]
    impact: Literal["low", "medium", "high"]
    title: Annotated[str, Meta(min_length=1, max_length=300)]


class Calendar(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All high-impact events between two moments. An empty list says that there are none."""

    since: Moment = field(name="from")
    until: Moment
    events: Annotated[tuple[Event, ...], Meta(max_length=10_000)] = ()


def load(name: str) -> Calendar | str:
    """Return the calendar at that path, or why there is none: no path, no such file, not TOML, a value out of place."""
    if not name:
        return "compliance.news_calendar names no file, and the rules forbid orders around news"
    path = Path(name)
    try:
        found = config_load.convert(config_load.read_toml(path), Calendar, path)
    except config_load.ConfigError as error:
        return f"the news calendar cannot be read: {error}"
    outside = next((event for event in found.events if not found.since <= event.at <= found.until), None)
    if outside is not None:
        return f"{path}: {outside.title} at {outside.at} lies outside of {found.since} to {found.until}"
    return found if found.since < found.until else f"{path}: from {found.since} is not before until {found.until}"


def problem(calendar: Calendar, symbol: str, now: datetime, window_minutes: int) -> str:
    """Return why no order of `symbol` may be sent now, or an empty text.

    An event counts from the window before it to the window after it, both ends included, for either currency of the
    pair; an order may take `SEND_S` to arrive. The calendar must hold all of that span.
    """
    window = timedelta(minutes=window_minutes)
    first, last = now - window, now + window + timedelta(seconds=SEND_S)
    if calendar.since > first or calendar.until < last:
        return f"the news calendar goes from {calendar.since} to {calendar.until}; needed from {first} to {last}"
    for event in calendar.events:
        if event.impact == "high" and event.currency in (symbol[:3], symbol[3:6]) and first <= event.at <= last:
            return f"{event.currency} news at {event.at}: {event.title}; none within {window_minutes} min allowed"
    return ""
