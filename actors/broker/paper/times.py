"""How far the simulated time of the paper broker has come, in memory and in `time.json`.

Run by the paper broker through `venue`. Three times, none of which goes back: the broker's clock, which clients see;
the simulated time, which prices follow and which can be held; and the calendar of sessions, rollovers and spreads. The
calendar is the broker's clock at speed 1, a clock of its own at another speed, and the bars' own times with bars.
What passes while the process is down, or while the machine sleeps, passes all the same, at the set speed.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
from msgspec import Struct

from actors.broker.paper import journal
from actors.broker.paper.sources import Source
from bus.clock import Clock
from config.load import ConfigError

SAVE_EVERY_MS = 5_000
WALL, OWN = "wall", "own"


class SimulatedTime(Struct, frozen=True):
    """What `time.json` holds: how far each time had come; with `held` the prices stand still."""

    simulated_ms: int
    wall_ms: int
    held: bool
    factors: dict[str, Decimal]
    calendar_ms: int = 0
    calendar: str = WALL
    source: str = ""
    due_ms: int = 0


class Times:
    """The times of one venue. `due_ms` is simulated time that has passed and was not played yet."""

    def __init__(self, path: Path, clock: Clock, speed: float, source: Source) -> None:
        """Go on where the file says. Raises ConfigError when it cannot be read."""
        self.path = path
        self.held = False
        self.simulated_ms = 0
        self.due_ms = 0
        self.begins_anew = False  # whether the calendar is another one than that of the last life
        self._clock = clock
        self._speed = speed
        self._source = source
        self._is_played = source.begins_ms > 0
        self._calendar = source.name if self._is_played else WALL if speed == 1 else OWN
        self._wall_ms = self._clock_ms()
        self._own_ms = self._wall_ms
        self._monotonic = clock.monotonic()
        self._saved_ms = 0
        self._resume()
        self._passed_ms = self._wall_ms  # up to where the wall clock has been counted

    @property
    def at_ms(self) -> int:
        """The moment of the prices, as their source counts."""
        return self._source.begins_ms + self.simulated_ms

    @property
    def calendar_ms(self) -> int:
        """Where the calendar stands, in epoch milliseconds."""
        if self._is_played:
            return self.at_ms
        return self._wall_ms if self._calendar == WALL else self._own_ms

    def now_ms(self) -> int:
        """Return the broker's clock in epoch milliseconds. Never backwards."""
        self._wall_ms = max(self._wall_ms, self._clock_ms())
        return self._wall_ms

    def pass_by(self) -> None:
        """Let time pass: what has passed since the last call is due."""
        monotonic, wall_ms = self._clock.monotonic(), self.now_ms()
        # By the clock that went farther: while a machine sleeps, only the wall clock goes on, and the calendar with it.
        elapsed_ms = max(0.0, 1_000 * (monotonic - self._monotonic), wall_ms - self._passed_ms)
        self._monotonic, self._passed_ms = monotonic, wall_ms
        self._fall_due(int(elapsed_ms * self._speed))

    def play(self, until_ms: int) -> None:
        """Let the prices come to a moment of their source, not beyond what is due."""
        self.due_ms -= until_ms - self.at_ms
        self.simulated_ms = until_ms - self._source.begins_ms

    def play_all(self) -> None:
        """Let the prices come to all that is due."""
        self.simulated_ms += self.due_ms
        self.due_ms = 0

    def skip(self) -> None:
        """Let what is due pass without the prices: a walk stands still while nothing is traded."""
        self.due_ms = 0

    def save_now_and_then(self) -> None:
        """Save when the file is some seconds old."""
        if self._wall_ms - self._saved_ms >= SAVE_EVERY_MS:
            self.save()

    def save(self) -> None:
        """Write the file. Raises OSError when the disk does not take it."""
        saved = SimulatedTime(
            self.simulated_ms, self._wall_ms, self.held, self._source.factors, self.calendar_ms, self._calendar,
            self._source.name, self.due_ms,
        )  # fmt: skip
        journal.replace(self.path, msgspec.json.encode(saved))
        self._saved_ms = self._wall_ms

    def _fall_due(self, elapsed_ms: int) -> None:
        self._own_ms += elapsed_ms
        if not self.held:
            self.due_ms += elapsed_ms

    def _resume(self) -> None:
        if not self.path.exists():
            return
        try:
            saved = msgspec.json.decode(self.path.read_bytes(), type=SimulatedTime)
        except msgspec.DecodeError as error:
            raise ConfigError(f"{self.path}: unreadable ({error}); move it away") from error
        away_ms = int(max(0, self._wall_ms - saved.wall_ms) * self._speed)
        self._wall_ms = max(self._wall_ms, saved.wall_ms)
        self.begins_anew = saved.calendar != self._calendar
        if self._calendar == saved.calendar == OWN:
            self._own_ms = saved.calendar_ms
        if saved.source != self._source.name:
            return  # other prices: nothing of the old ones' time is of use
        self.held = saved.held
        self._source.factors.update(saved.factors)
        self.simulated_ms, self.due_ms = saved.simulated_ms, saved.due_ms
        self._fall_due(away_ms)

    def _clock_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1_000)
