"""Walk through every state that a model can reach, breadth first, and keep the shortest way to each broken promise.

A model gives its first state, the steps out of a state (each with what it broke, if anything) and what must hold in
every state. Nothing here knows the protocol.
"""

from __future__ import annotations

import gc
from array import array
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Step = tuple[str, Hashable, tuple[str, ...]]  # what happened, the state after it, the promises it broke


class Model(Protocol):
    """What `explore` needs to know."""

    def first(self) -> Hashable: ...

    def steps(self, state: Hashable) -> Iterable[Step]: ...

    def broken_in(self, state: Hashable) -> Iterable[str]: ...

    def is_done(self, state: Hashable) -> bool: ...


class TooLarge(Exception):
    """The model has more states than allowed: it was not explored exhaustively."""


@dataclass
class Report:
    """What was found. `findings` maps each broken promise to the shortest history that breaks it."""

    states: int = 0
    steps: int = 0
    findings: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        found = [f"{promise}:\n  " + "\n  ".join(history) for promise, history in self.findings.items()]
        return "\n".join([f"{self.states:,} states, {self.steps:,} steps", *found])


def explore(model: Model, *, states_max: int, until: Sequence[str] = (), ends: bool = False) -> Report:
    """Visit every reachable state, or stop early once all promises in `until` are found broken.

    With `ends` it is checked, too, that from every state an end (`is_done`) can still be reached.

    Raises:
        TooLarge: there are more than `states_max` states.
    """
    gc.disable()  # states are tuples without cycles: to look for them again and again doubles the time
    try:
        return _explore(model, states_max, until, ends)
    finally:
        gc.enable()


def _explore(model: Model, states_max: int, until: Sequence[str], ends: bool) -> Report:
    report = Report()
    first = model.first()
    numbers: dict[Hashable, int] = {first: 0}
    came_from, labels = array("q", [-1]), [""]
    edges_from, edges_to, done = array("l"), array("l"), bytearray([model.is_done(first)])
    waiting: list[Hashable] = [first]

    def history(number: int) -> list[str]:
        found = []
        while came_from[number] >= 0:
            found.append(labels[number])
            number = came_from[number]
        return found[::-1]

    for at, state in enumerate(waiting):  # grows while it is walked through
        waiting[at] = None
        for label, after, broken in model.steps(state):
            report.steps += 1
            number = numbers.get(after)
            if number is None:
                number = numbers[after] = len(numbers)
                if number >= states_max:
                    raise TooLarge(f"more than {states_max:,} states")
                came_from.append(at)
                labels.append(label)
                done.append(model.is_done(after))
                waiting.append(after)
                broken = (*broken, *model.broken_in(after))
            if ends:
                edges_from.append(at)
                edges_to.append(number)
            for promise in broken:
                report.findings.setdefault(promise, [*history(at), label])
        if until and all(promise in report.findings for promise in until):
            break
    else:
        if ends and (stuck := _stuck(done, edges_from, edges_to)) is not None:
            report.findings["every history can still end well"] = history(stuck)
    report.states = len(numbers)
    return report


def _stuck(done: bytearray, edges_from: array[int], edges_to: array[int]) -> int | None:
    """Return the first state from which no end can be reached, or None."""
    back: list[list[int]] = [[] for _ in done]
    for before, after in zip(edges_from, edges_to, strict=True):
        back[after].append(before)
    ending = bytearray(done)
    waiting = [number for number, is_done in enumerate(done) if is_done]
    while waiting:
        for before in back[waiting.pop()]:
            if not ending[before]:
                ending[before] = 1
                waiting.append(before)
    number = ending.find(0)
    return None if number < 0 else number
