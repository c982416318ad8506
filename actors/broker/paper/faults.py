"""Which request of the paper broker suffers which misbehaviour: queued one by one, or drawn by a seeded chance.

Exists only when the paper broker was started with PILOT_PAPER_FAULTS: `1`, or the path of a JSON file with a list of
faults to begin with: [{"fault": "lose_answer_reset", "probability": 0.05, "seed": 7}].
Never decides what a fault does: see `catalogue`, `twists` and `answers`.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, structs

from actors.broker.paper import catalogue
from actors.broker.paper.catalogue import Call
from config.load import ConfigError

QUEUE_MAX = 1_000
STANDING_MAX = 200
SECONDS_MAX = 3_600.0

Seconds = Annotated[float, Meta(ge=0, le=SECONDS_MAX)]


class Fault(Struct, frozen=True, forbid_unknown_fields=True):
    """One order to misbehave.

    Without `probability` the next `times` (1) requests of kind `on` suffer it, after `skip` that are left alone.
    With it, every such request does with that probability, drawn from `seed`, at most `times` times (None: no limit);
    queued faults come first.
    `on` is None for the first kind that the catalogue names; `read` is any read. `then` is what the answer suffers
    besides, for a fault that changes the order itself: {"fault": "partial_fill", "then": "lose_answer_reset"}.
    `seconds` is None for the catalogue's; with `seconds_max` the time is drawn between the two.
    Raises ValueError: the name is unknown, or does not fit.
    """

    fault: str
    on: Call | None = None
    then: str | None = None
    times: Annotated[int, Meta(ge=1, le=QUEUE_MAX)] | None = None
    skip: Annotated[int, Meta(ge=0, le=QUEUE_MAX)] = 0
    seconds: Seconds | None = None
    seconds_max: Seconds | None = None
    probability: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        known = catalogue.ALL.get(self.fault)
        if known is None:
            raise ValueError(f"fault was {self.fault[:40]!r}; known: {', '.join(sorted(catalogue.ALL))}")
        if self.on is not None and self.on not in known.on:
            raise ValueError(f"{self.fault} on {self.on}; it fits {', '.join(known.on)}")
        if self.then is not None and (self.fault not in catalogue.TWISTS or self.call not in _calls(self.then)):
            raise ValueError(f"{self.fault}, then {self.then[:40]!r}; only a changed order, then an answer of its kind")
        if self.seconds_max is not None and self.seconds_max < (self.seconds or 0):
            raise ValueError(f"seconds_max was {self.seconds_max}; allowed from {self.seconds}")

    @property
    def call(self) -> Call:
        """The kind of request that suffers."""
        return self.on or catalogue.ALL[self.fault].on[0]

    @property
    def for_s(self) -> float:
        """The seconds that go with the fault."""
        return catalogue.ALL[self.fault].seconds if self.seconds is None else self.seconds


class SetPrice(Struct, frozen=True, forbid_unknown_fields=True):
    """Move `symbol` (the broker's) to this bid; `hold` keeps all prices where they are then."""

    symbol: str
    bid: Decimal
    hold: bool = True


class ForceClose(Struct, frozen=True, forbid_unknown_fields=True):
    """Close this position at the market, as its owner might by hand."""

    position_id: str


class Standing:
    """A fault with a probability, and the dice it is drawn with."""

    def __init__(self, fault: Fault, salt: str) -> None:
        self.fault = fault
        self.left = fault.times
        self.dice = random.Random(f"{fault.seed}:{fault.fault}:{fault.call}:{salt}")

    def strikes(self) -> bool:
        """Draw once. The draw is made also when the limit is reached, so that others see the same dice."""
        hit = self.dice.random() < (self.fault.probability or 0.0)
        if not hit or self.left == 0:
            return False
        if self.left is not None:
            self.left -= 1
        return True


class Faults:
    """What waits to go wrong. `salt` differs from life to life: else a restart would draw the same dice again."""

    def __init__(self, begin: tuple[Fault, ...] = (), *, salt: str = "") -> None:
        self.suffered: Counter[str] = Counter()
        self._queues: dict[Call, deque[Fault | None]] = {}  # None: one that is left alone
        self._standing: list[Standing] = []
        self._salt = salt
        for fault in begin:
            self.order(fault)

    def order(self, fault: Fault) -> None:
        """Add a fault. Raises ValueError when there are too many."""
        if fault.probability is not None:
            if len(self._standing) >= STANDING_MAX:
                raise ValueError(f"{STANDING_MAX} faults stand already")
            self._standing.append(Standing(fault, self._salt))
            return
        waiting = self._queues.setdefault(fault.call, deque())
        more: list[Fault | None] = [None] * fault.skip + [fault] * (fault.times or 1)
        if len(waiting) + len(more) > QUEUE_MAX:
            raise ValueError(f"{len(waiting)} faults wait for {fault.call}; allowed {QUEUE_MAX}")
        waiting.extend(more)

    def take(self, call: Call) -> Fault | None:
        """Return the fault that the next request of this kind suffers, if any."""
        kinds: tuple[Call, ...] = (call, "read") if call in catalogue.NAMED_READS else (call,)
        for kind in kinds:
            if (waiting := self._queues.get(kind)) and (fault := waiting.popleft()) is not None:
                return self._struck(fault, random.Random(f"{fault.seed}:{len(waiting)}:{self._salt}"))
        struck = [one for one in self._standing if one.fault.call in kinds and one.strikes()]
        return self._struck(struck[0].fault, struck[0].dice) if struck else None

    def clear(self) -> None:
        """Forget all faults that wait or stand."""
        self._queues.clear()
        self._standing.clear()

    def described(self) -> dict[str, Any]:
        """Return what waits, what stands, and how often each was suffered in this life."""
        return {
            "waiting": {call: len(waiting) for call, waiting in self._queues.items() if waiting},
            "standing": [one.fault for one in self._standing],
            "suffered": dict(self.suffered),
        }

    def _struck(self, fault: Fault, dice: random.Random) -> Fault:
        self.suffered[fault.fault] += 1
        if fault.seconds_max is None:
            return fault
        return structs.replace(fault, seconds=dice.uniform(fault.for_s, fault.seconds_max), seconds_max=None)


def from_environment(value: str, *, salt: str) -> Faults | None:
    """Return the faults that PILOT_PAPER_FAULTS asks for; None when it is empty: then no test control exists.

    Raises:
        ConfigError: it names no readable list of faults.
    """
    if not value:
        return None
    return Faults(() if value == "1" else _read(Path(value)), salt=salt)


def _read(path: Path) -> tuple[Fault, ...]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[Fault, ...])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"PILOT_PAPER_FAULTS: {path}: no list of faults ({error}); see docs/misbehaviours.md"
        ) from error


def _calls(name: str) -> tuple[Call, ...]:
    found = catalogue.ANSWERS.get(name)
    return found.on if found else ()
