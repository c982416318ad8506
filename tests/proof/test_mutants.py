"""With one safeguard less the search finds a way to a floor: its numbers are kept and are where it starts here."""

from __future__ import annotations

import os
import sys

import pytest

from tests.proof.mutants import MUTANTS, kept
from tests.proof.plays import play
from tests.proof.search import search

SECONDS = max(30.0, float(os.environ.get("PROOF_SECONDS", "0")))
SEED = int(os.environ.get("PROOF_SEED", "1"))

pytestmark = pytest.mark.timeout(60 + 2 * SECONDS)


@pytest.mark.parametrize("name", MUTANTS)
def test_without_a_safeguard_the_search_finds_a_counterexample(name: str) -> None:
    mutant = MUTANTS[name]
    with mutant.standing():
        # The kept example is the start: when the product has changed since, the climb begins next to it.
        found = search(
            mutant.options(), seed=SEED, seconds=SECONDS, is_found=mutant.is_found, start=kept().get(name, ())
        )
    sys.stdout.write("\n".join((name, found.said(), *found.outcome.story, *found.outcome.broken, "")))
    assert mutant.is_found(found.outcome), found.said()
    whole = play(found.genes, mutant.unharmed())
    assert not mutant.is_found(whole), "the safeguard was in its place and did not help"
