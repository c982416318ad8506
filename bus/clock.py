"""Two clocks: wall time to record, monotonic time to wait. Injected everywhere, so that tests can hold them.

Imported by every process.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the pipeline needs of time."""

    def now(self) -> datetime:
        """Return the wall time in UTC. For records only: it may jump."""
        ...

    def monotonic(self) -> float:
        """Return seconds that only grow. For waiting and deadlines."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


def iso(moment: datetime) -> str:
    """Return ISO 8601 in UTC with milliseconds: `2026-02-16T09:30:00.000Z`. Sorts as text."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse(text: str) -> datetime:
    """Return the moment that `iso` wrote. Raises ValueError for anything without a zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time without a zone: {text!r}")
    return moment.astimezone(UTC)
