"""Which day a daily bar is of, and whether it is over, where its source says when it opened. Pure.

Used by the scanner's child process and by the paper broker, for bars of files and of brokers. A server's day may begin
at 21:00, 22:00 or 23:00 UTC of the day before.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from actors.market.errors import BadBars
from actors.market.sessions import SATURDAY

DAY_S = 86_400
DAY_S_MAX = 90_000  # 25 hours: the day on which a server's clocks are set back

Seconds = NDArray[np.int64]
Kept = NDArray[np.bool_]


def named(opened_s: Seconds) -> tuple[Seconds, Kept]:
    """Return 00:00 of the date that most of each bar lies in, and which of them are of Monday to Friday.

    Both arrays are in epoch seconds. A Sunday's two hours of some servers are no day.
    """
    days = (opened_s + DAY_S // 2) // DAY_S
    return days * DAY_S, _weekday(days) < SATURDAY


def of_file(symbol: str, opened_s: Seconds, now: datetime, *, closes_only: bool) -> tuple[Seconds, Kept]:
    """Return the names of a file's bars, 00:00 of their dates in epoch seconds, and which of them to use.

    Times that are all at 00:00 UTC are those dates, and all are used. Any other time of day makes them openings: then
    bars that may not be over yet are left out, and weekends.

    Raises:
        BadBars: such times are of closes only, which may be of any moment, or cannot be openings.
    """
    if not (opened_s % DAY_S).any():
        return opened_s, np.ones(len(opened_s), dtype=np.bool_)
    if closes_only:
        raise BadBars(symbol, "daily closes have times other than 00:00 UTC; write their dates")
    name_s, is_weekday = named(opened_s)
    if (_weekday(name_s // DAY_S) == SATURDAY).any():
        raise BadBars(symbol, "a daily bar opens when the week ends; write dates, or when each bar opens")
    return name_s, is_weekday & (opened_s + DAY_S_MAX <= now.timestamp())


def _weekday(days: Seconds) -> Seconds:
    """Return the weekday of each day, Monday 0; 1970-01-01 was a Thursday."""
    return (days + 3) % 7
