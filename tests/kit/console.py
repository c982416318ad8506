"""What a line of a process on the console begins with, and the moment that it names."""

from __future__ import annotations

from datetime import UTC, datetime, time

STAMP = r"(\d\d:\d\d:\d\d\.\d{3})Z"
"""The time of a line, UTC and without a date, as `bus/logs.py` writes it."""


def moment(stamp: str) -> float:
    """Return the wall time of a line of today."""
    return datetime.combine(datetime.now(UTC).date(), time.fromisoformat(stamp), UTC).timestamp()
