"""Two clocks: wall time to record, monotonic time to wait. Injected everywhere, so that tests can hold them.

Imported by every process.
"""

from __future__ import annotations

import functools
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from config import load

OFFSET_ENV = load.CLOCK_OFFSET


class Clock(Protocol):
    """What the pipeline needs of time."""

    def now(self) -> datetime:
        """Return the wall time in UTC. For records only: it may jump."""
        ...

    def monotonic(self) -> float:
        """Return seconds that only grow. For waiting and deadlines."""
        ...


class SystemClock:
    """The machine's clocks. For tests of clocks that jump, `PILOT_CLOCK_OFFSET` names a file of seconds to add."""

    def __init__(self) -> None:
        self._offset = os.environ.get(OFFSET_ENV, "")

    def now(self) -> datetime:
        now = datetime.now(UTC)
        return now + timedelta(seconds=_seconds_in(Path(self._offset))) if self._offset else now

    def monotonic(self) -> float:
        return time.monotonic()


def boot() -> str:
    """Return what names this boot of the machine, as the kernel says it; empty when it does not."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _seconds_in(path: Path) -> float:
    try:
        return float(path.read_text())
    except FileNotFoundError:
        return 0.0


def iso(moment: datetime) -> str:
    """Return ISO 8601 in UTC with milliseconds: `2026-02-16T09:30:00.000Z`. Sorts as text."""
    # Only what is in UTC may be remembered: in a zone, the two hours that a clock repeats compare as equal.
    return _text(moment) if moment.tzinfo is UTC else _text(moment.astimezone(UTC))


@functools.lru_cache(maxsize=64)  # the store writes one moment some twenty times in a batch
def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse(text: str) -> datetime:
    """Return the moment that `iso` wrote. Raises ValueError for anything without a zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time without a zone: {text!r}")
    return moment.astimezone(UTC)
