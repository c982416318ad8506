"""Know when one daily cycle is over: the first scan is finished, and every intent is opened or final.

Used by `supervisor --once`. Reads the database only; the truth about intents is there and nowhere else.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from loguru import logger

from bus.clock import Clock
from bus.records import TradeIntent
from bus.vocabulary import Role, State
from store import queries

LOOK_S = 0.5


class DailyCycle:
    """One cycle, looked at every `LOOK_S`."""

    def __init__(self, db_path: Path, clock: Clock) -> None:
        self._db_path = db_path
        self._clock = clock
        self._reader: queries.Reader | None = None
        self._look_at = 0.0
        self._last_said = ""

    def done(self, scanner_incarnation: str) -> bool:
        """Return whether this incarnation of the scanner has finished its first scan and no intent needs work."""
        if self._clock.monotonic() < self._look_at:
            return False
        self._look_at = self._clock.monotonic() + LOOK_S
        try:
            self._reader = self._reader or queries.Reader(self._db_path)
        except queries.DatabaseRefused:
            return False  # not there yet; if it is damaged, the store says so and everything ends
        scanned = any(
            worker.role == Role.SCANNER and worker.incarnation == scanner_incarnation and worker.state == State.READY
            for worker in self._reader.workers()
        )
        # Read after the workers: a scan is finished only when its proposals are stored.
        live = self._reader.live_intents()
        self._say(progress(scanned, live))
        return scanned and not live

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def _say(self, text: str) -> None:
        if text != self._last_said:
            self._last_said = text
            logger.info("Daily cycle: {}", text)


def progress(scanned: bool, live: list[TradeIntent]) -> str:
    """Return in words how far the cycle is."""
    counts = Counter(intent.status.value for intent in live)
    waiting = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    scan = "the scan is finished" if scanned else "scanning"
    return f"{scan}; {waiting or 'no intent is waiting'}"
