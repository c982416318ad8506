"""When the paper broker trades: always, or in the week of the FX market. Pure.

The FX week runs from Sunday 17:00 to Friday 17:00 in New York.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

Sessions = Literal["always", "fx"]

NEW_YORK = ZoneInfo("America/New_York")
WEEK_EDGE_HOUR = 17
FRIDAY, SATURDAY, SUNDAY = 4, 5, 6


def is_open(sessions: Sessions, at: datetime) -> bool:
    """Return whether trading is open at this time."""
    if sessions == "always":
        return True
    local = at.astimezone(NEW_YORK)
    if local.weekday() == FRIDAY:
        return local.hour < WEEK_EDGE_HOUR
    if local.weekday() == SUNDAY:
        return local.hour >= WEEK_EDGE_HOUR
    return local.weekday() != SATURDAY


def trading_hours(sessions: Sessions) -> list[dict[str, int]]:
    """Return the week as the broker lists it, day 0 = Sunday; for the FX week in New York winter time as UTC."""
    days = range(7) if sessions == "always" else range(6)
    return [
        {
            "dayNumber": day,
            "openHours": 22 if sessions == "fx" and day == 0 else 0,
            "openMinutes": 0,
            "openSeconds": 0,
            "closeHours": 22 if sessions == "fx" and day == 5 else 23,
            "closeMinutes": 0 if sessions == "fx" and day == 5 else 59,
            "closeSeconds": 0 if sessions == "fx" and day == 5 else 59,
        }
        for day in days
    ]
