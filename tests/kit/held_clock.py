"""The machine's clocks, with a hand on them: a test pushes both forward or back."""

from __future__ import annotations

from datetime import datetime, timedelta

from bus.clock import SystemClock


class HeldClock(SystemClock):
    """Real time plus `ahead_s`."""

    ahead_s = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead_s)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s
