"""Invented bars from a seed, for trying things out: labelled `synthetic-SEED`, refused for a live broker at load.

Runs in the scanner's child process. A random walk: it holds nothing to learn. The same seed gives the same history on
every day, one bar longer each time.
"""

from __future__ import annotations

import zlib
from datetime import UTC, datetime, timedelta

import numpy as np

from actors.market import intervals
from actors.market.bars import Bars, Times
from actors.market.intervals import Interval
from actors.market.sessions import SATURDAY

BEGINS = {
    "D1": datetime(2008, 1, 1, tzinfo=UTC),
    "H4": datetime(2022, 1, 3, tzinfo=UTC),
    "H1": datetime(2025, 1, 6, tzinfo=UTC),
}
DAY_DEVIATION = 0.005
FIRST, FIRST_JPY = 1.1, 150.0


class SyntheticFeed:
    """A random walk a symbol, on every weekday in UTC."""

    def __init__(self, seed: int, now: datetime | None = None) -> None:
        """`now` ends the history: the real time when None."""
        self.source = f"synthetic-{seed}"
        self._seed = seed
        self._now = now or datetime.now(UTC)

    def bars(self, symbol: str, interval: Interval = "D1") -> Bars:
        """Return the walk of a symbol up to the newest finished bar."""
        times = self._times(interval)
        dice = np.random.default_rng([self._seed, zlib.crc32(f"{symbol}:{interval}".encode())])
        deviation = DAY_DEVIATION * (intervals.LENGTH[interval] / timedelta(days=1)) ** 0.5
        # One row a bar, so that a longer history begins with a shorter one.
        steps = dice.normal(0.0, deviation, (len(times), 3))
        close = (FIRST_JPY if symbol.endswith("JPY") else FIRST) * np.exp(np.cumsum(steps[:, 0]))
        opened = np.concatenate([close[:1], close[:-1]])
        high = np.maximum(opened, close) * (1 + np.abs(steps[:, 1]) / 2 + 1e-5)
        low = np.minimum(opened, close) / (1 + np.abs(steps[:, 2]) / 2 + 1e-5)
        return Bars(symbol, self.source, interval, times, opened, high, low, close, closes_only=False)

    def _times(self, interval: Interval) -> Times:
        length = int(intervals.LENGTH[interval].total_seconds())
        begin, end = int(BEGINS[interval].timestamp()), int(self._now.timestamp()) // length * length
        seconds = np.arange(begin, max(begin, end), length, dtype=np.int64)
        days = seconds // 86_400
        found: Times = seconds[(days + 3) % 7 < SATURDAY].astype("datetime64[s]")
        return found
