"""Seeded histories over the real writer: whatever is lost, doubled, delayed or killed, nothing is traded twice.

`SIMULATION_SEEDS=5000` runs more of them; `SIMULATION_FIRST=123` begins with that one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import pytest
from loguru import logger

from bus.vocabulary import Outcome, Role, Status
from store import states, verify
from store import writer as writer_module
from tests.kit.simulation import BY_HAND, World

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "120"))
FIRST = int(os.environ.get("SIMULATION_FIRST", "1"))
TAKES = {"claim", "take", "hand_over"}


def history(seed: int, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(seed)
    monkeypatch.setattr(writer_module, "reach", world.reach)
    world.run(trouble_s=30.0, calm_s_max=600.0)
    return world


def findings(world: World) -> list[str]:
    """Return every promise that this history broke."""
    found = list(world.problems)
    found += verify.verify_chain(world.store.read)
    found += _trades(world) + _epochs(world) + _answers(world)
    for intent in world.store.read.intents():
        if intent.status not in states.FINAL and intent.status is not Status.OPENED:
            found.append(f"{intent.id} is still {intent.status} after a long calm")
    return found


def _trades(world: World) -> list[str]:
    found = [f"{intent_id} was placed {n} times" for intent_id, n in world.placed.items() if n > 1]
    for intent in world.store.read.intents():
        traded = intent.status in (Status.OPENED, Status.CLOSED)
        if str(intent.position_id).startswith(BY_HAND):
            owners = [one.id for one in world.store.read.intents() if one.position_id == intent.position_id]
            found += [f"{intent.position_id} was adopted by {owners}"] * (owners != [intent.id])
        elif traded != (intent.id in world.placed):
            found.append(f"{intent.id} is {intent.status}, at the broker: {intent.id in world.placed}")
        reserved = [move for move in world.store.read.transitions(intent.id) if move.event == "reserve"]
        if len(reserved) > 1:
            found.append(f"{intent.id} was reserved {len(reserved)} times")
    return found


def _epochs(world: World) -> list[str]:
    found = []
    for intent in world.store.read.intents():
        epoch = 0
        for move in world.store.read.transitions(intent.id):
            if move.epoch != epoch + (move.event in TAKES):
                found.append(f"{intent.id}: {move.event} has epoch {move.epoch} after {epoch}")
            epoch = move.epoch
            if move.from_status == "executing" and move.actor.startswith(str(Role.STORE)):
                holder = _holder(world, intent.id, move.seq)
                if holder not in world.dead:
                    found.append(f"{intent.id} was taken from executor {holder}, which lives")
    return found


def _holder(world: World, intent_id: str, seq: int) -> str:
    takes = [
        one for one in world.store.read.transitions(intent_id) if one.seq < seq and one.event in ("take", "hand_over")
    ]
    return takes[-1].incarnation


def _answers(world: World) -> list[str]:
    """Compare what was answered with what is recorded, and the proposals with the intents."""
    rows = dict(world.store.db.execute("SELECT id, outcome FROM commands").fetchall())
    found = [
        f"{ack.id} was answered {ack.outcome}, recorded: {rows.get(ack.id)}"
        for ack in world.acks.values()
        if rows.get(ack.id) != ack.outcome
    ]
    applied = [ack.intent_id for ack in world.acks.values() if ack.outcome is Outcome.APPLIED and ack.intent_id]
    found += [f"{one} was acked and is gone" for one in set(applied) if world.store.read.intent(one) is None]
    keys = Counter(intent.idempotency_key for intent in world.store.read.intents())
    return found + [f"{key} has {n} intents" for key, n in keys.items() if n > 1]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logger.disable("store")
    yield
    logger.enable("store")


@pytest.mark.timeout(400)
def test_no_history_breaks_a_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[str] = Counter()
    for seed in range(FIRST, FIRST + SEEDS):
        world = history(seed, monkeypatch)
        assert findings(world) == [], f"SIMULATION_FIRST={seed} SIMULATION_SEEDS=1"
        seen.update(move.event for move in world.store.read.journal())
    missing = {event for event, _, _ in states.ARROWS} - set(seen)
    assert SEEDS < 100 or not missing, f"the histories are too tame: no {missing}"
