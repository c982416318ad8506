"""The adversary: a climb, with restarts, towards the play that comes nearest to a floor."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.proof.plays import GENES, HEAD, STEP, STEPS, Options, Outcome, Score, play


@dataclass
class Found:
    """The nearest that a search came, and what it cost."""

    outcome: Outcome
    genes: list[float]
    plays: int
    seed: int

    def said(self) -> str:
        """Return it for people."""
        return (
            f"seed {self.seed}, {self.plays} plays: smallest margin {self.outcome.margin:.5f} of the limit on "
            f"{self.outcome.line}, {self.outcome.stop_margin:.5f} above the stop level"
        )


def is_breach(outcome: Outcome) -> bool:
    """Return whether a floor was reached."""
    return outcome.margin <= 0


def search(
    options: Options, *, seed: int, seconds: float, is_found: Callable[[Outcome], bool] = is_breach,
    score: Score = "floor", start: Sequence[float] = (),
) -> Found:  # fmt: skip
    """Climb towards the smallest score, with restarts, until something is found or time is over.

    The first climb begins at `start`, if there is one. Each climb goes for the worst of all finales or for one of them:
    what is hidden behind a nearer line is then found as well.
    """
    chance = random.Random(seed)
    ends = time.monotonic() + seconds
    best: Found | None = None
    plays = 0
    stopped = False

    def tried(genes: list[float]) -> Outcome:
        nonlocal plays, best, stopped
        outcome = play(genes, options)
        plays += 1
        if best is None or outcome.score(score) < best.outcome.score(score) or is_found(outcome):
            best = Found(outcome, list(genes), plays, seed)
        stopped = is_found(outcome) or time.monotonic() >= ends
        return outcome

    while not stopped:
        genes = list(start) if start and plays == 0 else [chance.random() for _ in range(GENES)]
        outcome = tried(genes)
        finale = chance.choice((None, *outcome.by_finale)) if chance.random() < 0.7 else None
        stale = 0
        while not stopped and stale < 40:
            other = _mutated(genes, chance)
            next_outcome = tried(other)
            nearer, before = next_outcome.score(score, finale), outcome.score(score, finale)
            if nearer <= before:
                stale = 0 if nearer < before else stale + 1
                genes, outcome = other, next_outcome
            else:
                stale += 1
    assert best is not None
    best.plays = plays
    return best


def _mutated(genes: list[float], chance: random.Random) -> list[float]:
    other = list(genes)
    if chance.random() < 0.15:  # a step of another place, or two that change places
        first, second = (HEAD + STEP * chance.randrange(STEPS) for _ in range(2))
        other[first : first + STEP], other[second : second + STEP] = (
            genes[second : second + STEP], genes[first : first + STEP],
        )  # fmt: skip
        return other
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        at = chance.randrange(GENES)
        nearby = min(0.999, max(0.0, other[at] + chance.gauss(0, 0.05)))
        other[at] = chance.random() if chance.random() < 0.6 else nearby
    return other
