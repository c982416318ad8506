"""The lengths of bars that can be ranked, and how the time of a bar is written.

Used by the scanner, its child process and the settings' check. Pure; imports nothing heavy.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

Interval = Literal["D1", "H4", "H1"]
LENGTH: dict[Interval, timedelta] = {"D1": timedelta(days=1), "H4": timedelta(hours=4), "H1": timedelta(hours=1)}


def opening(interval: Interval, text: str) -> datetime:
    """Return when the bar of this name opened. Raises ValueError for a text that `bar_time` does not write."""
    moment = datetime.fromisoformat(text)
    if (moment.tzinfo is None) != (interval == "D1"):
        raise ValueError(f"{text!r} is no time of a {interval} bar")
    return moment.replace(tzinfo=UTC)


def bar_time(interval: Interval, opened: datetime) -> str:
    """Return the text of a bar's time: the trade date of D1, else the opening, RFC 3339 in UTC to the minute."""
    moment = opened.astimezone(UTC)
    return moment.date().isoformat() if interval == "D1" else f"{moment:%Y-%m-%dT%H:%MZ}"


def file_stem(symbol: str, interval: Interval) -> str:
    """Return the name of a file of bars without its ending: `EURUSD` for D1, `EURUSD.H4` and `EURUSD.H1`."""
    return symbol if interval == "D1" else f"{symbol}.{interval}"
