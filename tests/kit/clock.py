"""A clock that moves only when a test says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2026, 11, 2, 6, 0, tzinfo=UTC)  # a Monday


class ManualClock:
    """Both clocks of `bus.clock.Clock`. They move together, unless the wall clock is made to jump."""

    def __init__(self, now: datetime = START, monotonic_s: float = 1_000.0) -> None:
        self._now = now
        self._monotonic_s = monotonic_s

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._monotonic_s += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock, as an operator or NTP does. The monotonic clock does not notice."""
        self._now += timedelta(seconds=seconds)
