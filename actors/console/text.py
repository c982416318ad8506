"""Text from outside made safe to stand in a log, in the database and on the operator's terminal, and times for people.

Used by llm and pilot. Pure.
"""

from __future__ import annotations

import re
from datetime import datetime

from bus import clock

# Control and escape characters, invisible and direction-changing ones, halves of surrogate pairs.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def clean(text: str, chars_max: int) -> str:
    """Return text without control, escape and direction characters, cut to `chars_max`. Line feeds and tabs stay."""
    found = _CONTROL.sub("", text.replace("\r\n", "\n")).strip()
    return found if len(found) <= chars_max else found[: chars_max - 1] + "…"


def line(text: str, chars_max: int) -> str:
    """Return text as one clean line: a line feed in it could forge a line of a log."""
    return clean(" ".join(text.split()), chars_max)


def age(since: str | None, now: datetime) -> str:
    """Return how long ago an ISO time was: `42s`, `5m`, `3h`, `2d`; `-` for None or what is no time."""
    try:
        seconds = int((now - clock.parse(since or "")).total_seconds())
    except ValueError:
        return "-"
    if seconds < 120:
        return f"{max(0, seconds)}s"
    if seconds < 7_200:
        return f"{seconds // 60}m"
    return f"{seconds // 3_600}h" if seconds < 172_800 else f"{seconds // 86_400}d"


def dollars(cents: int) -> str:
    """Return cents as an amount with thousands separators: `-1,234.05`. Integer arithmetic only."""
    whole, part = divmod(abs(cents), 100)
    return f"{'-' if cents < 0 else ''}{whole:,}.{part:02d}"
