"""Two hosts with a cable between them: it is cut in a claim and in a decision, it loses packets, clocks differ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest
import uuid_utils

from bus import clock, messages
from bus.messages import Envelope
from bus.records import Transition
from bus.vocabulary import Outcome, Role, Status
from tests.kit import failpoints, hosts, netns
from tests.kit.builders import a_peer, a_propose
from tests.kit.eventually import eventually
from tests.kit.hosts import ListeningStore
from tests.kit.netns import Cable

WHY_NOT = netns.possible()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
AN_HOUR_AHEAD = """
from datetime import UTC, datetime, timedelta
import bus.clock
bus.clock.SystemClock.now = lambda self: datetime.now(UTC) + timedelta(hours=1)
open(__file__ + ".done", "w").close()
"""


@pytest.fixture(scope="module")
def cable() -> Iterator[Cable]:
    with netns.cable() as found:
        yield found


@pytest.fixture(scope="module")
def home(cable: Cable) -> Iterator[ListeningStore]:
    """A store on one host and an analyst on the other, whose clock is an hour ahead."""
    with hosts.listening(f"tcp://{netns.HOME}:5577") as found:
        profile = found.store.base / "test.toml"
        profile.write_text(profile.read_text() + "[store]\nretry_backoff_s = 0.1\nattempts_max = 20\n")
        found.allow("far")
        (found.store.base / "sitecustomize.py").write_text(AN_HOUR_AHEAD)
        with cable.at("home"):
            found.store.start()
        with cable.at("far"):
            found.work("far", PYTHONPATH=str(found.store.base))
        found.store.serving(1)
        eventually(lambda: "is ready" in found.said("far"), 30)
        yield found


@pytest.fixture(autouse=True)
def mended(cable: Cable) -> Iterator[None]:
    cable.mend()
    yield
    cable.mend()


def propose(home: ListeningStore, bar: str) -> str:
    peer = a_peer(Role.SCANNER)
    with home.here(peer) as wire:
        wire.send(Envelope(sender=peer, id=str(uuid_utils.uuid7()), body=a_propose(bar_time=bar)))
        (ack,) = wire.acks(1)
    assert ack.outcome is Outcome.APPLIED and ack.intent_id, ack
    return ack.intent_id


def moves(home: ListeningStore, intent_id: str) -> list[Transition]:
    with closing(home.store.read()) as reader:
        return reader.transitions(intent_id)


def reached(home: ListeningStore, intent_id: str, *wanted: Status) -> bool:
    with closing(home.store.read()) as reader:
        found = reader.intent(intent_id)
    return found is not None and found.status in wanted


def decided(home: ListeningStore, intent_id: str) -> list[Transition]:
    """Wait for the verdict and return every arrow that took one: there is never more than one."""
    eventually(lambda: reached(home, intent_id, Status.READY_FOR_EXEC, Status.CANCELLED), 30, step_s=0.05)
    return [one for one in moves(home, intent_id) if one.event.startswith("decide")]


def starts(home: ListeningStore) -> int:
    return home.said("far").count("Started llm.1")


@pytest.mark.parametrize("point", ["llm.before_analyse", "llm.before_send_decide"])
def test_a_cut_ends_the_lease_and_the_worker_comes_back_without_a_restart(
    home: ListeningStore, cable: Cable, point: str
) -> None:
    failpoints.arm(home.store.points, point, "sleep 0.5")
    intent_id = propose(home, f"2026-09-{10 + len(point)}")
    eventually(lambda: failpoints.has_fired(home.store.points, point), 20)
    cable.cut()
    eventually(lambda: any(one.event == "lose" or one.to_status == "timed_out" for one in moves(home, intent_id)), 10)
    cable.mend()
    (verdict,) = decided(home, intent_id)
    assert verdict.epoch >= 2, "its first lease was lost"
    assert starts(home) == 1


def test_a_cut_shorter_than_the_silence_that_ends_a_lease_changes_nothing(home: ListeningStore, cable: Cable) -> None:
    failpoints.arm(home.store.points, "llm.before_send_decide", "sleep 0.2")
    intent_id = propose(home, "2026-09-02")
    eventually(lambda: failpoints.has_fired(home.store.points, "llm.before_send_decide"), 20)
    cable.cut()
    cable.mend()
    assert len(decided(home, intent_id)) == 1
    assert starts(home) == 1


def test_every_intent_is_decided_once_while_a_fifth_of_all_packets_is_lost(home: ListeningStore, cable: Cable) -> None:
    cable.loss = 0.2
    ids = [propose(home, f"2026-08-{day:02d}") for day in range(1, 6)]
    assert [len(decided(home, intent_id)) for intent_id in ids] == [1] * len(ids)
    assert cable.lost > 10
    assert starts(home) == 1


def test_times_are_those_of_the_store_however_wrong_the_clock_of_the_other_host_is(home: ListeningStore) -> None:
    began = clock.SystemClock().now()
    (verdict,) = decided(home, propose(home, "2026-09-01"))
    ended = clock.SystemClock().now()
    assert began - timedelta(seconds=1) <= clock.parse(verdict.at) <= ended + timedelta(seconds=1)
    assert (home.store.base / "sitecustomize.py.done").exists(), "the other host's clock is right"


def test_a_strange_key_is_refused_between_hosts_and_an_allowed_one_waits_for_a_way_and_sees_it_cut(
    home: ListeningStore, cable: Cable
) -> None:
    home.new_key("stranger")
    with cable.at("far"):
        context = hosts.context()
    peer = a_peer()
    with home.caller("stranger", peer, context) as wire:
        eventually(lambda: home.store.said(f"{netns.FAR}: refused"))
        assert not wire.is_let_in()
    home.allow("second")
    cable.cut()
    with home.caller("second", peer, context) as wire:
        assert not wire.is_let_in(0.2)
        cable.mend()
        wire.send(hosts.a_beat(peer, 0))
        wire.first(messages.Welcome)
        cable.cut()

        def cut_is_noticed() -> bool:
            wire.send_once(b"nothing that is confirmed")
            return not wire.is_let_in()

        eventually(cut_is_noticed, 10, step_s=0.05)
    context.term()
