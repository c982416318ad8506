"""How long to leave the broker alone after the account could not be read. Used by the executor; no I/O.

Two waits that grow: ours before any other intent is tried, and an intent's own before it comes back. The first keeps
one outage from being met by every waiting intent in turn, each put aside for longer than the one before.
"""

from __future__ import annotations

from bus.clock import Clock

RETRY_S = 10.0  # an intent's wait; doubled with each failure of that intent
RETRY_S_MAX = 300.0  # every request counts against the day's budget
RETRY_S_LONGEST = 93_600.0  # what the store takes: a day of 25 hours and one more
REST_S = 1.0  # ours; doubled with each failure in a row
REST_S_MAX = 60.0
TRIES_MAX = 1_000  # intents whose failures are remembered
DOUBLINGS_MAX = 16


class Patience:
    """Remembers failures, of each intent and in a row."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._in_a_row = 0
        self._tries: dict[str, int] = {}  # intent -> how often the account could not be read for it
        self._rest_until_s = clock.monotonic()

    @property
    def rest_s(self) -> float:
        """Return how long the broker is still to be left alone, in seconds."""
        return min(max(0.0, self._rest_until_s - self._clock.monotonic()), RETRY_S_LONGEST)

    def succeeded(self, intent_id: str) -> None:
        """The account was read for this intent."""
        self._in_a_row = 0
        self._tries.pop(intent_id, None)

    def failed(self, intent_id: str, rest_s_min: float = 0.0) -> float:
        """Begin to rest, for at least `rest_s_min`; return how long this intent is to wait, in seconds."""
        tries = self._tries.get(intent_id, 0)
        if len(self._tries) >= TRIES_MAX:
            self._tries.clear()
        self._tries[intent_id] = min(tries + 1, DOUBLINGS_MAX)
        rest_s = max(rest_s_min, min(REST_S * 2.0**self._in_a_row, REST_S_MAX))
        self._in_a_row = min(self._in_a_row + 1, DOUBLINGS_MAX)
        self._rest_until_s = self._clock.monotonic() + rest_s
        return min(RETRY_S * 2.0**tries, RETRY_S_MAX)
