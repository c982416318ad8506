"""No sequence of trades that the gate passes takes the account to a floor: searched for, and drawn by Hypothesis.

`PROOF_SECONDS=600 pytest tests/proof/test_floor_holds.py -s` searches deeper, `PROOF_SEED=7` elsewhere.
Costs, spreads, slippage and gaps stay within the allowances; the rate of a cross's quote currency within what
`stop_ratio` covers. Every reading of the reset is judged, and the maximum by its mode.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.proof import rules as rule_sets
from tests.proof.plays import GENES, Options, Outcome, Score, play
from tests.proof.search import Found, search

SECONDS = float(os.environ.get("PROOF_SECONDS", "20"))
SEED = int(os.environ.get("PROOF_SEED", "1"))
SHIPPED = rule_sets.shipped()
DEFAULT = next(rules for rules in SHIPPED if rules.name == "e8-signature-50k")
DRAWN = tuple(rule_sets.by_chance(DEFAULT, number) for number in range(200))
DRIFT = 0.9  # of what the stop ratio covers

pytestmark = pytest.mark.timeout(60 + 3 * SECONDS)


def said(found: Found) -> str:
    return "\n".join((found.said(), *found.outcome.story, *found.outcome.broken))


def is_below_stop(outcome: Outcome) -> bool:
    return outcome.stop_margin <= 0 or bool(outcome.broken)


def is_broken(outcome: Outcome) -> bool:
    return outcome.margin <= 0 or bool(outcome.broken)


SEARCHES: dict[str, tuple[Options, Callable[[Outcome], bool], Score]] = {
    # Not even the stop level is reached while rates of conversion stand still.
    "default": (Options(rules=(DEFAULT,)), is_below_stop, "stop"),
    "shipped": (Options(rules=SHIPPED), is_below_stop, "stop"),
    "drawn": (Options(rules=DRAWN), is_below_stop, "stop"),
    # Crosses, whose rate of conversion moves against us meanwhile: the floor itself holds.
    "crosses": (Options(rules=(*SHIPPED, *DRAWN), drift=DRIFT), is_broken, "floor"),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_strongest_search_finds_no_way_to_a_floor(name: str) -> None:
    options, is_found, score = SEARCHES[name]
    found = search(options, seed=SEED, seconds=SECONDS / len(SEARCHES), is_found=is_found, score=score)
    sys.stdout.write(f"{name}: {found.said()}\n")
    assert not is_found(found.outcome), said(found)
    assert found.outcome.passed > 0, "nothing passed: the search shows nothing"


@settings(
    max_examples=int(10 * SECONDS), deadline=None, database=None, print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(
    genes=st.lists(st.floats(0, 0.999), min_size=GENES, max_size=GENES),
    drift=st.sampled_from((0.0, DRIFT)),
)
def test_no_random_sequence_of_trades_reaches_a_floor(genes: list[float], drift: float) -> None:
    outcome = play(genes, Options(rules=(*SHIPPED, *DRAWN[:20]), drift=drift))
    assert outcome.margin > 0, outcome.story
    assert outcome.stop_margin > 0 or drift > 0, outcome.story
    assert not outcome.broken, outcome.broken
