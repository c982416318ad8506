"""What processes measure: bounded buckets, totals in beats, kept over incarnations and never falling."""

from __future__ import annotations

import json

import msgspec
import pytest

from bus import codec, messages, tallies
from bus.errors import NotUnderstood
from bus.tallies import BOUNDS_S, Name, Tallies, Tally
from bus.vocabulary import Role, State
from store import tallies as tallies_kept
from tests.kit.builders import a_beat, a_peer, an_envelope
from tests.kit.store import StoreHarness

OK = "broker_read_ok"
BUCKETS = len(BOUNDS_S[OK]) + 1
PEER = a_peer(Role.EXECUTOR)


def a_tally(count: int, *, name: str = OK, sum_us: int | None = None) -> Tally:
    """Return a tally with `count` measurements in its first bucket."""
    counts = (count, *[0] * (BUCKETS - 1))
    return Tally(name=name, counts=counts, sum_us=1_000 * count if sum_us is None else sum_us)


def total(store: StoreHarness, process: str = "executor.1", name: str = OK) -> tuple[int, int]:
    """Return how many were counted and their microseconds, over all incarnations."""
    row = store.db.execute(
        "SELECT counts, sum_us, earlier_counts, earlier_sum_us FROM tallies WHERE process = ? AND name = ?",
        (process, name),
    ).fetchone()
    if row is None:
        return 0, 0
    return sum(json.loads(str(row[0]))) + sum(json.loads(str(row[2]))), int(str(row[1])) + int(str(row[3]))


# ── counting ────────────────────────────────────────────────────────────────


def test_a_measurement_falls_into_the_bucket_whose_bound_it_does_not_pass() -> None:
    counted = Tallies()
    for seconds in (-1.0, 0.005, 0.0050001, 30.0, 31.0):
        counted.observe(Name.BROKER_READ_OK, seconds)
    (told,) = counted.told()
    assert told.counts == (2, 1, *[0] * 9, 1, 1)
    assert told.sum_us == 61_010_000


def test_what_is_told_is_bounded_however_much_was_counted() -> None:
    counted = Tallies()
    for name in Name:
        for _ in range(2_000):
            counted.observe(name, 0.02)
    told = counted.told()
    assert [one.name for one in told] == [str(name) for name in Name]
    assert len(told) <= tallies.TALLIES_MAX
    assert max(len(one.counts) for one in told) <= tallies.BUCKETS_MAX
    bare = len(codec.encode(an_envelope(PEER, a_beat())))
    assert len(codec.encode(an_envelope(PEER, a_beat(tallies=told)))) - bare < 1_000
    assert counted.told() == told, "telling must not count anew: totals, so that a lost beat loses nothing"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "", "counts": (), "sum_us": 0},
        {"name": "x" * 41, "counts": (), "sum_us": 0},
        {"name": OK, "counts": (-1,), "sum_us": 0},
        {"name": OK, "counts": (0,) * 33, "sum_us": 0},
        {"name": OK, "counts": (0,), "sum_us": 2**53 + 1},
    ],
)
def test_a_tally_without_bounds_is_not_understood(wrong: dict[str, object]) -> None:
    frame = codec.encode(an_envelope(PEER, a_beat(tallies=(Tally(**wrong),))))  # type: ignore[arg-type]
    with pytest.raises(NotUnderstood):
        codec.decode_to_store(frame)


def test_a_beat_with_more_tallies_than_there_can_be_is_not_understood() -> None:
    frame = codec.encode(an_envelope(PEER, a_beat(tallies=(a_tally(1),) * (tallies.TALLIES_MAX + 1))))
    with pytest.raises(NotUnderstood):
        codec.decode_to_store(frame)


def test_a_beat_with_tallies_has_the_bytes_that_were_kept() -> None:
    beat = messages.Beat(pid=1, state=State.READY, capacity=0, tallies=(Tally(name=OK, counts=(1, 0), sum_us=7),))
    frame = codec.encode(an_envelope(a_peer(Role.EXECUTOR, 1, "0000000000ee"), beat))
    assert frame == (
        b"\x83\xa6sender\x83\xa4role\xa8executor\xa4slot\x01\xabincarnation\xac0000000000ee\xa4body\x85\xa4kind\xa4Beat"
        b"\xa3pid\x01\xa5state\xa5ready\xa8capacity\x00\xa7tallies\x91\x83\xa4name\xaebroker_read_ok\xa6counts\x92\x01\x00"
        b"\xa6sum_us\x07\xa2id\xa0"
    )
    found = codec.decode_to_store(frame).body
    assert isinstance(found, messages.Beat)
    assert found == beat


# ── keeping ─────────────────────────────────────────────────────────────────


@pytest.fixture
def store() -> StoreHarness:
    return StoreHarness()


def beat(store: StoreHarness, peer: messages.Peer, *told: Tally) -> None:
    store.beat(peer, tallies=told)
    store.tick(1.0)


def test_totals_replace_each_other_and_a_lost_beat_loses_nothing(store: StoreHarness) -> None:
    beat(store, PEER, a_tally(1))
    beat(store, PEER, a_tally(5))
    beat(store, PEER, a_tally(5))
    assert total(store) == (5, 5_000)


def test_a_late_lower_total_of_the_same_incarnation_changes_nothing(store: StoreHarness) -> None:
    beat(store, PEER, a_tally(5))
    beat(store, PEER, a_tally(4, sum_us=99))
    assert total(store) == (5, 5_000)


def test_a_new_incarnation_goes_on_from_where_the_old_one_was(store: StoreHarness) -> None:
    for incarnation in range(3):
        peer = a_peer(Role.EXECUTOR, 1, f"{incarnation + 1:012x}")
        beat(store, peer, a_tally(1))
        beat(store, peer, a_tally(10))
    assert total(store) == (30, 30_000)
    assert store.db.execute("SELECT count(*) FROM tallies WHERE process = 'executor.1'").get == 1


def test_totals_survive_a_restart_of_the_store_without_counting_twice(store: StoreHarness) -> None:
    beat(store, PEER, a_tally(7))
    store.restart()
    beat(store, PEER, a_tally(7))
    beat(store, PEER, a_tally(8))
    assert total(store) == (8, 8_000)


def test_a_name_or_a_shape_that_the_store_does_not_know_is_passed_over_and_the_beat_counts(store: StoreHarness) -> None:
    odd = Tally(name="of_a_newer_version", counts=(1,), sum_us=1)
    beat(store, PEER, odd, Tally(name=OK, counts=(1, 2), sum_us=3), a_tally(2, name="broker_read_none"))
    assert total(store, name="of_a_newer_version") == total(store) == (0, 0)
    assert total(store, name="broker_read_none") == (2, 2_000)
    assert [one.name for one in store.read.workers()] == ["executor.1", "store.1"]


def test_other_buckets_than_those_of_the_version_before_are_counted_anew(store: StoreHarness) -> None:
    store.db.execute("INSERT INTO tallies VALUES ('executor.1', ?, 'x', '[1,2]', 3, '[9,9]', 18)", (OK,))
    beat(store, PEER, a_tally(2))
    assert total(store) == (2, 2_000)


@pytest.mark.parametrize("written", ["", "nonsense", "3", "null", '["a"]', "[1.5]", "{}"])
def test_a_row_that_somebody_spoiled_is_counted_anew_and_stops_nobody(store: StoreHarness, written: str) -> None:
    store.db.execute("INSERT INTO tallies VALUES ('executor.1', ?, 'x', ?, 3, ?, 18)", (OK, written, written))
    beat(store, PEER, a_tally(2))
    assert total(store) == (2, 2_000)


def test_sums_beyond_what_the_database_can_hold_stay_at_the_most(store: StoreHarness) -> None:
    for number in range(3):
        huge = msgspec.structs.replace(a_tally(2**53), sum_us=2**53)
        beat(store, a_peer(Role.EXECUTOR, 1, f"{number + 1:012x}"), huge)
        store.db.execute("UPDATE tallies SET earlier_sum_us = ? WHERE process = 'executor.1'", (2**63 - 1,))
    beat(store, a_peer(Role.EXECUTOR, 1, "0000000000ff"), a_tally(1))
    assert total(store)[1] == tallies_kept.SUM_MAX + 1_000


def test_the_store_measures_its_commits_and_a_new_life_adds_to_them(store: StoreHarness) -> None:
    name = str(Name.STORE_COMMIT)
    store.tick()
    store.tick(1.0)
    assert total(store, "store.1", name) == (0, 0), "not with every commit"
    store.tick(5.0)
    before, _ = total(store, "store.1", name)
    assert before == 2, "what is written is what was committed before"
    store.restart()
    store.tick()
    store.tick(5.0)
    assert total(store, "store.1", name)[0] == 3


# ── ends of processes ───────────────────────────────────────────────────────


def test_the_end_of_a_process_counts_once_however_often_it_is_told(store: StoreHarness) -> None:
    supervisor, peer = a_peer(Role.SUPERVISOR), a_peer(Role.LLM, 2)
    for status in ("was killed by SIGKILL", "was killed by SIGKILL", "ended with code 0"):
        store.tell(supervisor, messages.ChildExited(peer=peer, status=status))
    store.tell(supervisor, messages.ChildExited(peer=a_peer(Role.LLM, 2), status="ended with code 0"))
    store.tell(supervisor, messages.ChildExited(peer=a_peer(Role.LLM, 2), status="ended with code 78 (configuration)"))
    assert store.db.execute("SELECT process, clean, failed FROM exits").fetchall() == [("llm.2", 1, 2)]
