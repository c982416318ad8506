"""Random walks as rows of the cache: bars of a timeframe at the times at which the market was open."""

from __future__ import annotations

import functools
from datetime import UTC, datetime

from actors.market import sessions
from actors.market.cache import Row
from actors.market.intervals import LENGTH, Interval
from tests.kit import market


def rows(interval: Interval, seed: int, until: datetime, count: int = 700, begin_s: int = 0) -> list[Row]:
    """Return the newest finished bars of a random walk; they begin `begin_s` after the usual hour."""
    close = market.closes(count, seed=seed).round(5).tolist()
    opened = [close[0], *close[:-1]]
    return [
        Row(time, o, round(max(o, c) + 0.0005, 5), round(min(o, c) - 0.0005, 5), c)
        for time, o, c in zip(_times(interval, until, count, begin_s), opened, close, strict=True)
    ]


@functools.cache
def _times(interval: Interval, until: datetime, count: int, begin_s: int) -> tuple[int, ...]:
    length = int(LENGTH[interval].total_seconds())
    times: list[int] = []
    at = (int(until.timestamp()) - begin_s) // length * length + begin_s - length
    while len(times) < count:
        opened = datetime.fromtimestamp(at, UTC)
        if sessions.open_s(opened, opened + LENGTH[interval]):
            times.append(at)
        at -= length
    return tuple(reversed(times))
