"""The circuit breaker of one endpoint: after failures in a row nothing is asked of it until a probe has come back.

Used by the llm process. Pure but for the clock it is given: makes no request itself.

    closed ── failures_max calls failed in a row, or away at start ──> open
    open ── the wait is over ──> half_open: exactly one probe, no call
    half_open ── the probe came back ──> closed, on trial: the next failure opens it again and the wait doubles
    half_open ── it did not ──> open, and the wait doubles
    closed ── a call came back ──> closed: failures and wait are as at the start

What began before the breaker opened changes nothing any more.
"""

from __future__ import annotations

from enum import StrEnum

from loguru import logger

from bus.clock import Clock

DOUBLINGS_MAX = 30  # more would overflow no float, and say nothing


class State(StrEnum):
    """Whether calls go through, fail at once, or wait for a probe."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """The state of one endpoint. `name` stands in the log."""

    def __init__(self, name: str, clock: Clock, *, failures_max: int, wait_s: float, wait_s_max: float) -> None:
        self.state = State.CLOSED
        self.reason = ""  # why it opened last
        self._name = name
        self._clock = clock
        self._failures_max = failures_max
        self._wait_s = wait_s
        self._wait_s_max = wait_s_max
        self._failures = 0  # in a row
        self._opened = 0  # times, since a call came back
        self._due_s = 0.0
        self._life = 0  # grows with every opening

    def admit(self) -> int | None:
        """Return what the call's result is reported with, or None: it must not be made."""
        return self._life if self.state is State.CLOSED else None

    def succeeded(self, admitted: int) -> None:
        """Note that an admitted call came back."""
        if admitted == self._life:
            self._failures = self._opened = 0

    def failed(self, admitted: int, reason: str) -> None:
        """Note that an admitted call gave no reply."""
        if admitted != self._life:
            return
        self._failures += 1
        if self._failures >= self._failures_max:
            self.trip(reason)

    def trip(self, reason: str) -> None:
        """Open, whatever was counted so far."""
        wait_s = min(self._wait_s * 2.0 ** min(self._opened, DOUBLINGS_MAX), self._wait_s_max)
        self._opened += 1
        self._life += 1
        self._due_s = self._clock.monotonic() + wait_s
        self.reason = reason
        self._become(State.OPEN, f"{reason}; the next probe is in {wait_s:.0f} s")

    def begin_probe(self) -> bool:
        """Return whether the one probe may be made now. Whoever is told yes must report its end."""
        if self.state is not State.OPEN or self._clock.monotonic() < self._due_s:
            return False
        self._become(State.HALF_OPEN, "one probe")
        return True

    def end_probe(self, problem: str) -> None:
        """Note how the probe ended: with a problem, or (empty) with an answer."""
        if problem:
            self.trip(problem)
            return
        # An endpoint that lists its models and completes nothing must not cost `failures_max` calls each time.
        self._failures = self._failures_max - 1
        self._become(State.CLOSED, "the probe came back")

    def _become(self, state: State, why: str) -> None:
        logger.info("Breaker of {}: {} -> {} ({})", self._name, self.state, state, why)
        self.state = state
