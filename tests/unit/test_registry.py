"""Who lives and who holds what: the registry alone, with nothing but messages and seconds."""

from __future__ import annotations

import pytest

from bus.messages import Beat, Held, Peer
from bus.vocabulary import Role, State
from store.recovery import Changes, Lease, Registry
from tests.kit.builders import a_beat, a_peer

STORE_EPOCH = 1


@pytest.fixture
def registry() -> Registry:
    return Registry(beat_s=1.0, dead_s=5.0, now_s=0.0)


def beat(registry: Registry, peer: Peer, now_s: float, body: Beat | None = None) -> Changes:
    return registry.beat(peer, body or a_beat(), now_s=now_s, at="x", store_epoch=STORE_EPOCH)


def lease(
    registry: Registry, peer: Peer, intent_id: str = "i1", sent_s: float = 0.0, *, has_order: bool = False
) -> Lease:
    given = Lease(intent_id, 1, peer.role, peer.incarnation, sent_s, has_order=has_order)
    registry.leases[intent_id] = given
    return given


def ticks(registry: Registry, begin_s: float, end_s: float) -> list[tuple[float, Lease, str]]:
    """Tick once a second; return what was lost and when."""
    lost = []
    now_s = begin_s
    while now_s <= end_s:
        lost += [(now_s, one, reason) for one, reason in registry.tick(now_s).lost]
        now_s += 1.0
    return lost


# ── leases and time ─────────────────────────────────────────────────────────


def test_an_executors_lease_is_never_lost_by_time(registry: Registry) -> None:
    executor = a_peer(Role.EXECUTOR)
    lease(registry, executor)
    beat(registry, executor, 0.0)
    assert ticks(registry, 1.0, 5_000.0) == []


def test_an_analysts_lease_is_lost_when_its_beats_stop_for_dead_s(registry: Registry) -> None:
    llm = a_peer()
    held = lease(registry, llm)
    ticks(registry, 1.0, 9.0)
    beat(registry, llm, 10.0, a_beat(Held("i1", 1)))
    lost = ticks(registry, 10.0, 16.0)
    assert lost[0] == (16.0, held, "no beat for 5 s")


def test_a_lease_lives_as_long_as_its_holder_beats(registry: Registry) -> None:
    llm = a_peer()
    lease(registry, llm)
    for second in range(60):
        beat(registry, llm, float(second), a_beat(Held("i1", 1)))
        assert registry.tick(float(second)).lost == []


def test_after_a_start_every_holder_has_one_grace_period(registry: Registry) -> None:
    lease(registry, a_peer())  # read from a row; its holder was never heard of
    lost = ticks(registry, 1.0, 8.0)
    assert lost[0][0] == 5.0


def test_after_a_freeze_of_the_store_every_holder_has_one_grace_period(registry: Registry) -> None:
    llm = a_peer()
    lease(registry, llm)
    for second in range(10):
        beat(registry, llm, float(second), a_beat(Held("i1", 1)))
        registry.tick(float(second))
    assert registry.tick(60.0).lost == [], "we slept, not they"
    assert [now_s for now_s, _, _ in ticks(registry, 61.0, 65.0)] == [65.0], "the grace ends"


# ── beats ───────────────────────────────────────────────────────────────────


def test_a_beat_of_another_store_epoch_is_welcomed_and_one_of_ours_is_not(registry: Registry) -> None:
    assert beat(registry, a_peer(), 0.0, a_beat(seen_store_epoch=0)).welcome
    assert beat(registry, a_peer(), 0.0, a_beat(seen_store_epoch=7)).welcome
    assert not beat(registry, a_peer(), 0.0, a_beat(seen_store_epoch=STORE_EPOCH)).welcome


def test_missing_work_is_sent_again_only_after_two_beats(registry: Registry) -> None:
    llm = a_peer()
    missing = lease(registry, llm, sent_s=0.0)
    assert beat(registry, llm, 1.9).resend == []
    assert beat(registry, llm, 2.0).resend == [missing]


def test_held_work_is_not_sent_again_and_its_count_begins_anew(registry: Registry) -> None:
    llm = a_peer()
    held = lease(registry, llm)
    held.sends = 4
    assert beat(registry, llm, 9.0, a_beat(Held("i1", 1))).resend == []
    assert held.sends == 1


def test_work_that_an_analyst_never_takes_is_lost_after_three_resends(registry: Registry) -> None:
    llm = a_peer()
    ignored = lease(registry, llm)
    ignored.sends = 4
    changes = beat(registry, llm, 9.0)
    assert [one for one, _ in changes.lost] == [ignored]
    assert changes.resend == []


def test_work_that_an_executor_never_takes_is_sent_for_ever(registry: Registry) -> None:
    executor = a_peer(Role.EXECUTOR)
    ignored = lease(registry, executor)
    ignored.sends = 400
    changes = beat(registry, executor, 9.0)
    assert (changes.resend, changes.lost) == ([ignored], [])


@pytest.mark.parametrize("held", [Held("i1", 2), Held("i1", 0), Held("unknown", 1)])
def test_a_lease_that_the_store_does_not_know_is_withdrawn(registry: Registry, held: Held) -> None:
    llm = a_peer()
    lease(registry, llm)
    assert beat(registry, llm, 0.0, a_beat(held)).withdraw == [(held.intent_id, held.epoch)]


def test_a_lease_that_another_holds_now_is_withdrawn(registry: Registry) -> None:
    lease(registry, a_peer(slot=2))
    assert beat(registry, a_peer(slot=1), 0.0, a_beat(Held("i1", 1))).withdraw == [("i1", 1)]


def test_a_new_incarnation_in_a_slot_ends_the_leases_of_the_old_one(registry: Registry) -> None:
    old, new = a_peer(slot=1), a_peer(slot=1)
    beat(registry, old, 0.0)
    held = lease(registry, old)
    assert [one for one, _ in beat(registry, new, 1.0).lost] == [held]
    assert registry.is_dead(old.incarnation)
    assert not registry.is_dead(new.incarnation)
    assert registry.peer_of(old.incarnation) is None


def test_beats_after_a_death_are_not_heard_whoever_was_in_the_slot_before(registry: Registry) -> None:
    dead, live = a_peer(), a_peer()
    beat(registry, dead, 0.0)
    beat(registry, live, 0.0)
    assert registry.is_dead(dead.incarnation)
    assert not registry.is_dead(live.incarnation)


def test_a_beat_that_was_not_welcomed_by_this_store_moves_nothing(registry: Registry) -> None:
    holder = a_peer(Role.EXECUTOR)
    lease(registry, holder, has_order=True)
    late = a_peer(Role.EXECUTOR)
    assert beat(registry, late, 0.0, a_beat(seen_store_epoch=0)) == Changes(welcome=True)
    assert registry.free_capacity(Role.EXECUTOR, 0.0) == []
    beat(registry, holder, 0.0)
    assert beat(registry, late, 0.0, a_beat(seen_store_epoch=0)) == Changes(welcome=True)
    assert registry.peer_of(holder.incarnation) == holder


@pytest.mark.parametrize("role", [Role.LLM, Role.EXECUTOR])
def test_a_late_beat_of_a_predecessor_does_not_replace_its_successor(registry: Registry, role: Role) -> None:
    dead, live = a_peer(role), a_peer(role)
    beat(registry, dead, 0.0, a_beat(seen_store_epoch=0))  # welcomed; its next beat is under way when it dies
    beat(registry, live, 1.0, a_beat(seen_store_epoch=0))
    beat(registry, live, 1.1)
    held = lease(registry, live)
    assert beat(registry, dead, 2.0) == Changes()
    assert registry.leases == {held.intent_id: held}
    assert registry.peer_of(live.incarnation) == live
    assert registry.is_dead(dead.incarnation)


def test_a_neighbour_does_not_end_a_lease(registry: Registry) -> None:
    one, two = a_peer(slot=1), a_peer(slot=2)
    beat(registry, one, 0.0)
    lease(registry, one)
    assert beat(registry, two, 1.0).lost == []


def test_a_new_executor_is_handed_what_the_old_one_held(registry: Registry) -> None:
    held = lease(registry, a_peer(Role.EXECUTOR), has_order=True)
    assert beat(registry, a_peer(Role.EXECUTOR), 0.0).hand_over == [held]


def test_an_analyst_is_not_handed_what_an_executor_held(registry: Registry) -> None:
    lease(registry, a_peer(Role.EXECUTOR))
    changes = beat(registry, a_peer(Role.LLM), 0.0)
    assert (changes.hand_over, changes.lost) == ([], [])


def test_a_buried_peer_is_forgotten_with_its_leases_named(registry: Registry) -> None:
    llm = a_peer()
    beat(registry, llm, 0.0)
    held = lease(registry, llm)
    lease(registry, a_peer(slot=2), "i2")
    assert registry.bury(llm.incarnation) == [held]
    assert registry.free_capacity(Role.LLM, 0.0) == []


# ── credit ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "now_s"),
    [({"capacity": 0}, 0.0), ({"state": State.STARTING}, 0.0), ({"state": State.DRAINING}, 0.0), ({}, 5.1)],
)
def test_no_credit_for_who_has_none_is_not_ready_or_is_silent(
    registry: Registry, changes: dict[str, object], now_s: float
) -> None:
    beat(registry, a_peer(), 0.0, a_beat(**changes))
    assert registry.free_capacity(Role.LLM, now_s) == []


def test_credit_is_capacity_minus_leases_and_the_most_comes_first(registry: Registry) -> None:
    busy, idle = a_peer(slot=1), a_peer(slot=2)
    beat(registry, busy, 0.0, a_beat(capacity=3))
    beat(registry, idle, 0.0, a_beat(capacity=3))
    lease(registry, busy)
    found = registry.free_capacity(Role.LLM, 0.0)
    assert [(seen.peer, credit) for seen, credit in found] == [(idle, 3), (busy, 2)]


def test_credit_is_of_one_role_only(registry: Registry) -> None:
    beat(registry, a_peer(Role.EXECUTOR), 0.0)
    assert registry.free_capacity(Role.LLM, 0.0) == []
