"""Text from outside made safe to stand in a log, in the database and on the operator's terminal, and times for people.

Used by llm and pilot. Pure.
"""

from __future__ import annotations

import re
from datetime import datetime

from bus import clock

# Control and escape characters; invisible, joining and direction-changing ones; tags and variation selectors, which
# carry text that nobody sees; line and paragraph separators; private and unassigned ones; halves of surrogate pairs.
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\u3164\ud800-\uf8ff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\U000e0000-\U0010ffff]"
)
_LONG_NUMBER = re.compile(r"-?\d{1,15}\.\d{6,}\Z")


def clean(text: str, chars_max: int) -> str:
    """Return text without control, escape and direction characters, cut to `chars_max`. Line feeds and tabs stay."""
    found = _CONTROL.sub("", text.replace("\r\n", "\n")).strip()
    return found if len(found) <= chars_max else found[: chars_max - 1] + "…"


def line(text: str, chars_max: int) -> str:
    """Return text as one clean line: a line feed in it could forge a line of a log."""
    return clean(" ".join(text.split()), chars_max)


def rounded(value: str) -> str:
    """Return a number with at most five decimals; any other text as it is."""
    return f"{float(value):.5f}".rstrip("0").rstrip(".") if _LONG_NUMBER.match(value) else value


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
