"""Analysts on other hosts that fell silent: forgotten after an hour, with their sums kept, and welcome again."""

from __future__ import annotations

import msgspec

from bus import messages, tallies
from bus.messages import Peer
from bus.tallies import Tally
from bus.vocabulary import Outcome, Role, State
from store import tallies as kept
from tests.kit.builders import a_peer
from tests.kit.store import StoreHarness

NAME = str(tallies.Name.LLM_OK)


def beat(store: StoreHarness, peer: Peer, count: int) -> None:
    counts = (count, *(0,) * len(tallies.BOUNDS_S[NAME]))
    body = messages.Beat(
        pid=1, state=State.READY, capacity=0, seen_store_epoch=store.writer.epoch,
        tallies=(Tally(name=NAME, counts=counts, sum_us=5),),
    )  # fmt: skip
    store.step(messages.Envelope(sender=peer, body=body))
    store.tick()


def names(store: StoreHarness) -> set[str]:
    return {worker.name for worker in store.read.workers() if worker.role != Role.STORE}


def total(store: StoreHarness) -> int:
    rows = store.db.execute("SELECT counts, earlier_counts FROM tallies WHERE name = ?", (NAME,)).fetchall()
    return sum(sum(kept.counts_in(one)) for row in rows for one in row)


def test_a_silent_process_of_another_host_is_forgotten_with_its_sums_kept_and_one_of_this_host_is_not() -> None:
    store = StoreHarness()
    here = a_peer()
    pods = [msgspec.structs.replace(a_peer(), host=f"gpu/pod{number}") for number in range(3)]
    for peer in (here, *pods):
        beat(store, peer, 7)
    assert names(store) == {"llm.1", "llm.1@gpu/pod0", "llm.1@gpu/pod1", "llm.1@gpu/pod2"} and total(store) == 28
    store.clock.jump(3_000)
    store.tell(a_peer(Role.MONITOR), messages.Sweep())
    assert len(names(store)) == 4, "less than an hour"
    beat(store, pods[0], 8)
    store.clock.jump(3_000)
    for _ in range(2):
        store.tell(a_peer(Role.MONITOR), messages.Sweep())
        assert names(store) == {"llm.1", "llm.1@gpu/pod0"} and total(store) == 29
    assert set(store.writer.registry.peers) == names(store)
    beat(store, msgspec.structs.replace(pods[1], incarnation="00000000beef"), 1)
    assert "llm.1@gpu/pod1" in names(store) and total(store) == 30


def test_a_lease_is_of_one_host_whatever_another_one_says_of_the_process() -> None:
    store = StoreHarness()
    holder = msgspec.structs.replace(a_peer(), host="gpu1")
    intent_id = store.claimed(holder).id
    said = messages.Decide(intent_id=intent_id, epoch=1, side="HOLD", reason="test")
    for host in ("", "gpu2", "gpu1/x"):
        assert store.tell(msgspec.structs.replace(holder, host=host), said).outcome is Outcome.STALE
    assert store.tell(holder, said).outcome is Outcome.APPLIED
