"""How often a chat may be written to. Pure but for the clock it is given; library of the alerts process.

Telegram's limits: one message a second in a chat, twenty a minute in a group, and whatever a 429 says. All that is sent
to the chat counts, answers to commands as well as alerts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

from bus.clock import Clock

WINDOW_S = 60.0


class Pace:
    """The messages of the last minute. `group_per_minute` None: no limit but the gap."""

    def __init__(self, clock: Clock, *, gap_s: float, group_per_minute: int | None) -> None:
        self._clock = clock
        self._gap_s = gap_s
        self._most = group_per_minute
        self._sent_s: deque[float] = deque(maxlen=max(1, group_per_minute or 1))
        self._held_until_s = float("-inf")

    def wait_s(self) -> float:
        """Return how long nothing may be sent; 0 when it may."""
        now_s = self._clock.monotonic()
        due_s = self._held_until_s
        if self._sent_s:
            due_s = max(due_s, self._sent_s[-1] + self._gap_s)
        if self._most is not None and len(self._sent_s) == self._most:
            due_s = max(due_s, self._sent_s[0] + WINDOW_S)
        return max(0.0, due_s - now_s)

    async def turn(self, sleep: Callable[[float], Awaitable[bool]]) -> None:
        """Wait until a message may be sent, and count it. A `sleep` that returns True ends the waiting: last words."""
        while (wait_s := self.wait_s()) > 0:
            if await sleep(wait_s):
                break
        self._sent_s.append(self._clock.monotonic())

    def hold(self, seconds: float) -> None:
        """Send nothing for that long: the other side said so."""
        self._held_until_s = max(self._held_until_s, self._clock.monotonic() + seconds)
