"""Every history of the protocol in small: two intents, two analysts or an executor and its successor, bounded faults.

`MODEL_DEEP=1` explores larger bounds for some minutes. `pytest -s` shows how many states there were.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import pytest

from tests.model import world
from tests.model.explore import TooLarge, explore
from tests.model.protocol import Protocol
from tests.model.world import Sizes

STATES_MAX = 250_000
DEEP = os.environ.get("MODEL_DEEP", "") == "1"
ORDERS = Sizes(slots=("executor",), begin="ready_for_exec", epochs=2, crashes=1, restarts=1, copies=0, cancels=0)
LEASES = Sizes(slots=("llm.1", "llm.2"), begin="pending", epochs=2, crashes=1, restarts=0, copies=0, cancels=0)
WHOLE = Sizes(
    slots=("executor", "llm.1", "llm.2"), begin="pending", intents=1, epochs=2, crashes=1, restarts=0, copies=0,
    cancels=0,
)  # fmt: skip
KEYED = replace(ORDERS, restarts=0, repeats=1)
BOUNDS = {
    "orders, one death of executor and store": ORDERS,
    "orders, one death, one message twice": replace(ORDERS, restarts=0, copies=1),
    "orders with a key, one death, one repetition": KEYED,
    "leases, one death of an analyst": LEASES,
    "the whole path of one intent, one death": WHOLE,
}
DEEP_BOUNDS = {
    "orders with a key, a death of each, two repetitions": replace(KEYED, restarts=1, repeats=2),
    "orders, two deaths": replace(ORDERS, crashes=2),
    "orders, everything once": replace(ORDERS, copies=1, cancels=1),
    "leases, one death of analyst and store": replace(LEASES, restarts=1, holds=True),
    "leases, one message twice, one cancel": replace(LEASES, crashes=0, copies=1, cancels=1),
    "the whole path, one death of actor and store": replace(WHOLE, restarts=1),
}
# What is switched off, and the promises that must be seen broken for it.
MUTANTS: dict[str, tuple[Sizes, tuple[str, ...]]] = {
    "no_fence": (ORDERS, (world.HELD,)),
    "no_dedup": (ORDERS, (world.ONE_ANSWER,)),
    "no_reservation": (ORDERS, (world.LICENSED, world.ONE_POST)),
    "ack_before_commit": (ORDERS, (world.LICENSED, world.ONE_POST)),
    "no_licence_check": (ORDERS, (world.FRESH,)),
    "no_lock": (ORDERS, (world.TRUE_FAILURE, world.KNOWN)),
    "short_quiet": (ORDERS, (world.TRUE_FAILURE, world.OWN_POSITION)),
    "look_timed_after": (ORDERS, (world.TRUE_FAILURE, world.KNOWN)),
    "forgets_the_order": (ORDERS, (world.TRUE_FAILURE,)),
    "new_key": (KEYED, (world.ONE_POST,)),
    "no_figures_check": (KEYED, (world.FRESH,)),
    "repeats_blindly": (KEYED, (world.LICENSED, world.TRUE_FAILURE)),
}


@pytest.mark.parametrize(("broken", "sizes", "promises"), [(name, *one) for name, one in MUTANTS.items()])
def test_without_a_safeguard_a_promise_is_seen_broken(broken: str, sizes: Sizes, promises: tuple[str, ...]) -> None:
    report = explore(Protocol(sizes, broken), states_max=STATES_MAX, until=promises)
    sys.stdout.write(f"{broken}: {report}\n")
    assert set(promises) <= set(report.findings), str(report)


def test_stale_verdict_of_an_analyst_is_seen_without_the_fence() -> None:
    report = explore(Protocol(LEASES, "no_fence"), states_max=STATES_MAX, until=(world.HELD,))
    assert world.HELD in report.findings, str(report)


def test_model_larger_than_allowed_is_no_proof() -> None:
    with pytest.raises(TooLarge):
        explore(Protocol(ORDERS), states_max=1_000)


def test_dead_end_is_seen() -> None:
    """An executor that must give back what it may not give back would never end: the check of ends finds it."""
    report = explore(Protocol(replace(ORDERS, restarts=0), "no_resend"), states_max=STATES_MAX, ends=True)
    assert "every history can still end well" in report.findings, str(report)


@pytest.mark.parametrize("bounds", BOUNDS)
def test_no_history_breaks_a_promise_and_every_one_can_end(bounds: str) -> None:
    report = explore(Protocol(BOUNDS[bounds]), states_max=STATES_MAX, ends=True)
    sys.stdout.write(f"{bounds}: {report}\n")
    assert report.findings == {}, str(report)
    assert report.states > 50_000, "the model has become too tame"


@pytest.mark.skipif(not DEEP, reason="takes minutes: MODEL_DEEP=1")
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("bounds", DEEP_BOUNDS)
def test_no_history_within_larger_bounds_breaks_a_promise(bounds: str) -> None:
    report = explore(Protocol(DEEP_BOUNDS[bounds]), states_max=20 * STATES_MAX, ends=True)
    sys.stdout.write(f"{bounds}: {report}\n")
    assert report.findings == {}, str(report)
