"""The store's door for other hosts, over real tcp on loopback: who comes in, what they may say, what a replay does."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import msgspec
import pytest
import uuid_utils
import zmq

from bus import codec, keys, messages
from bus.messages import Envelope, Peer
from bus.vocabulary import Outcome, Role, Status
from tests.kit import hosts
from tests.kit.builders import a_peer, a_propose
from tests.kit.eventually import eventually
from tests.kit.hosts import Caller, ListeningStore, a_beat
from tests.kit.store_process import Wire


@pytest.fixture(scope="module")
def home() -> Iterator[ListeningStore]:
    with hosts.listening() as found:
        for name in ("gpu1", "gpu2"):
            found.allow(name)
        found.store.start()
        found.store.serving(1)
        yield found


def propose(home: ListeningStore, symbol: str, bar: str) -> str:
    """Propose an intent as the scanner of the store's host."""
    peer = a_peer(Role.SCANNER)
    with home.here(peer) as wire:
        command = Envelope(sender=peer, id=new_id(), body=a_propose(symbol=symbol, bar_time=bar))
        wire.send(command)
        (ack,) = wire.acks(1)
    assert ack.outcome is Outcome.APPLIED and ack.intent_id, ack
    return ack.intent_id


def new_id() -> str:
    return str(uuid_utils.uuid7())


def a_hold(peer: Peer, work: messages.Analyse, identity: str = "") -> Envelope:
    body = messages.Decide(intent_id=work.intent.id, epoch=work.epoch, side="HOLD", reason="test")
    return Envelope(sender=peer, id=identity or new_id(), body=body)


def working(wire: Caller, peer: Peer) -> messages.Analyse:
    """Beat until work comes, as a worker does that is welcomed."""
    wire.send(a_beat(peer, 0))
    welcome = wire.first(messages.Welcome)

    def work() -> messages.Analyse | None:
        wire.send(a_beat(peer, welcome.store_epoch))  # type: ignore[attr-defined]
        return next((one for one in wire.take() if isinstance(one, messages.Analyse)), None)

    return eventually(work, step_s=0.1)  # type: ignore[return-value]


def refusals(home: ListeningStore, name: str) -> int:
    """Return how often the store counted a refusal; it writes its counts down every few seconds."""
    with closing(home.store.read()) as reader:
        row = reader._db.execute("SELECT counts FROM tallies WHERE name = ?", (name,)).fetchone()
    return sum(msgspec.json.decode(str(row[0]), type=list[int])) if row else 0


# ── in order ────────────────────────────────────────────────────────────────


def test_an_allowed_host_is_given_work_under_its_own_name_and_decides_once_however_often_it_says_so(
    home: ListeningStore,
) -> None:
    intent_id = propose(home, "EURUSD", "2026-10-01")
    peer = a_peer()
    with home.caller("gpu1", peer) as wire:
        work = working(wire, peer)
        assert work.intent.id == intent_id
        said = a_hold(peer, work)
        wire.send(said)
        first = wire.first(messages.Ack)
        wire.send(said)  # a replay of the very frame
        wire.send(a_hold(peer, work))  # and the same verdict as a new command
        again, stale = wire.first(messages.Ack, 1), wire.first(messages.Ack, 2)
    assert (first.outcome, again, stale.outcome) == (Outcome.APPLIED, first, Outcome.STALE)  # type: ignore[attr-defined]
    with closing(home.store.read()) as reader:
        assert reader.intent(intent_id).claim_worker_id == "llm.1@gpu1"  # type: ignore[union-attr]
        assert [one.to_status for one in reader.transitions(intent_id)] == ["pending", "claimed", "cancelled"]


# ── refused ─────────────────────────────────────────────────────────────────


def test_a_key_speaks_for_its_own_role_and_its_own_processes_only(home: ListeningStore) -> None:
    intent_id = propose(home, "GBPUSD", "2026-10-02")
    holder, thief = a_peer(), a_peer()
    operator = a_peer(Role.PILOT)
    with home.caller("gpu1", holder) as mine, home.caller("gpu2", thief) as other:
        work = working(mine, holder)
        for envelope in (
            Envelope(sender=operator, id=new_id(), body=messages.Cancel(intent_id=intent_id, operator="x", reason="x")),
            Envelope(sender=thief, id=new_id(), body=messages.Cancel(intent_id=intent_id, operator="x", reason="x")),
            Envelope(sender=a_peer(Role.SCANNER), id=new_id(), body=a_propose(symbol="NZDUSD")),
            a_hold(holder, work),  # in the other's name
            a_hold(msgspec.structs.replace(holder, host="gpu1/x"), work),
            a_beat(holder, 1),
        ):
            other.send(envelope)
        other.send(codec.encode(a_hold(thief, work)), b"and more")  # two parts
        other.send(b"\xc1 no message")
        other.send(a_hold(thief, work))  # in its own name: not its lease
        stale = other.first(messages.Ack)
        assert stale.outcome is Outcome.STALE  # type: ignore[attr-defined]
        with closing(home.store.read()) as reader:
            assert reader.intent(intent_id).status == Status.CLAIMED  # type: ignore[union-attr]
            assert reader.intents(symbol="NZDUSD") == []
        assert [one for one in other.take() if not isinstance(one, messages.Welcome)] == [stale]
        mine.send(a_hold(holder, work))
        assert mine.first(messages.Ack).outcome is Outcome.APPLIED  # type: ignore[attr-defined]
    assert home.store.said("its key is for llm only")
    eventually(lambda: refusals(home, "host_role") >= 5 and refusals(home, "host_frame") >= 3)


def test_a_process_of_another_host_is_not_believed_over_ipc(home: ListeningStore) -> None:
    intent_id = propose(home, "USDCAD", "2026-10-03")
    peer = a_peer()
    with home.caller("gpu1", peer) as wire, home.here(a_peer()) as local:
        work = working(wire, peer)
        local.send(a_hold(peer, work))
        local.send(a_hold(msgspec.structs.replace(peer, host="gpu1"), work))
        local.send(a_beat(a_peer(Role.MONITOR), 0))  # and what is sent after them is
        eventually(lambda: home.store.said("spoke over ipc"))
        with closing(home.store.read()) as reader:
            assert reader.intent(intent_id).status == Status.CLAIMED  # type: ignore[union-attr]
        wire.send(a_hold(peer, work))
        assert wire.first(messages.Ack).outcome is Outcome.APPLIED  # type: ignore[attr-defined]


def test_a_strange_key_and_plain_tcp_and_noise_come_to_nothing_and_the_store_serves_on(home: ListeningStore) -> None:
    home.new_key("stranger")
    port = int(home.address.rpartition(":")[2])
    plain = zmq.Context.instance().socket(zmq.DEALER)
    plain.set(zmq.LINGER, 0)
    plain.set(zmq.IMMEDIATE, 1)
    plain.connect(home.address)
    noise = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
    for number, one in enumerate(noise):
        one.sendall((b"GET / HTTP/1.0\r\n\r\n", os.urandom(2_000), b"\xff" + b"\0" * 8 + b"\x7f\3", b"")[number % 4])
    with home.caller("stranger", a_peer()) as wire:
        eventually(lambda: home.store.said("is not allowed"))
        assert not wire.is_let_in() and not plain.poll(200, zmq.POLLOUT)
        propose(home, "USDCHF", "2026-10-04")
    for one in noise:
        one.settimeout(10)
        with pytest.raises((ConnectionError, StopIteration)):
            while one.recv(4_096):
                pass
            raise StopIteration
        one.close()
    plain.close()


def test_a_frame_that_is_too_large_ends_its_own_connection_only(home: ListeningStore) -> None:
    peer, other = a_peer(), a_peer()
    with home.caller("gpu1", peer) as wire, home.caller("gpu2", other) as second:
        wire.send(a_beat(peer, 0))
        wire.first(messages.Welcome)
        wire.has_called()
        wire.send_once(b"x" * 200_000)
        eventually(wire.has_called)  # its connection was ended
        second.send(a_beat(other, 0))
        second.first(messages.Welcome)
        wire.send(a_beat(peer, 0))  # it may call again
        wire.first(messages.Welcome, 1)


def test_a_revoked_key_loses_its_connection_without_a_restart_and_an_allowed_one_is_let_in(
    home: ListeningStore,
) -> None:
    peer, stays = a_peer(), a_peer()
    home.allow("gone")
    intent_id = propose(home, "EURJPY", "2026-10-05")
    with home.caller("gone", peer) as wire, home.caller("gpu2", stays) as second:
        work = working(wire, peer)
        second.send(a_beat(stays, 0))
        second.first(messages.Welcome)
        keys.revoke(home.keys, Role.LLM, "gone")
        eventually(lambda: not wire.is_let_in())
        second.send(a_beat(stays, 0))  # called again by itself
        second.first(messages.Welcome, 1)
        with closing(home.store.read()) as reader:
            assert reader.intent(intent_id).status != Status.CANCELLED  # type: ignore[union-attr]
        keys.allow(home.keys, Role.LLM, "gone", keys.pair(home.store.base / "gone", Role.LLM).public)
    with home.caller("gone", peer) as wire:
        wire.send(a_hold(peer, work))
        assert wire.first(messages.Ack).outcome in (Outcome.APPLIED, Outcome.STALE)  # type: ignore[attr-defined]


class Recorder:
    """A wire between a caller and the store that keeps every byte which the caller sends."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent: list[bytes] = []
        self._port = port
        self._thread = threading.Thread(target=self._carry, name="recorder")
        self._thread.start()

    def _carry(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection(("127.0.0.1", self._port))
        with near, far:
            while True:
                for end in select.select([near, far], [], [])[0]:
                    data = end.recv(65_536)
                    if not data:
                        return
                    if end is near:
                        self.sent.append(data)
                    (far if end is near else near).sendall(data)

    def close(self) -> None:
        self._thread.join()
        self._listener.close()


def test_bytes_that_were_overheard_say_nothing_to_the_store_when_they_are_sent_again(home: ListeningStore) -> None:
    port = int(home.address.rpartition(":")[2])
    propose(home, "EURGBP", "2026-10-07")
    peer, recorder = a_peer(), Recorder(port)
    with home.caller("gpu1", peer, address=recorder.address) as wire:
        work = working(wire, peer)
        intent_id = work.intent.id  # the oldest that waits, which may be an earlier test's
        wire.send(a_hold(peer, work))
        assert wire.first(messages.Ack).outcome is Outcome.APPLIED  # type: ignore[attr-defined]
    recorder.close()
    overheard = b"".join(recorder.sent)
    assert intent_id.encode() not in overheard, "it is not even readable"
    with closing(home.store.read()) as reader:
        before = reader._db.execute("SELECT count(*) FROM commands").fetchone()
        moves = len(reader.transitions(intent_id))
    with socket.create_connection(("127.0.0.1", port)) as again:
        again.settimeout(10)
        for part in recorder.sent:
            with contextlib.suppress(ConnectionError):
                again.sendall(part)
        with contextlib.suppress(ConnectionError):
            while again.recv(4_096):
                pass
    with closing(home.store.read()) as reader:
        assert reader._db.execute("SELECT count(*) FROM commands").fetchone() == before
        assert len(reader.transitions(intent_id)) == moves


def test_a_flood_of_strange_keys_does_not_hold_up_the_work_of_the_stores_own_host(home: ListeningStore) -> None:
    home.new_key("flood")
    peer = a_peer(Role.MONITOR)

    def round_trip_s(wire: Wire, number: int) -> float:
        began = time.monotonic()
        wire.send(Envelope(sender=peer, id=new_id(), body=messages.Sweep()))
        wire.acks(number)
        return time.monotonic() - began

    with home.here(peer) as wire:
        quiet = sorted(round_trip_s(wire, number) for number in range(1, 16))[7]
        before = refusals(home, "host_key")
        stop = threading.Event()

        def flood() -> None:
            while not stop.is_set():
                with home.caller("flood", a_peer()) as stranger:
                    stranger.is_let_in(0.02)

        floods = [threading.Thread(target=flood) for _ in range(4)]
        for one in floods:
            one.start()
        try:
            loud = sorted(round_trip_s(wire, number) for number in range(16, 46))[15]
        finally:
            stop.set()
            for one in floods:
                one.join()
    eventually(lambda: refusals(home, "host_key") >= before + 20)
    assert loud < 20 * quiet + 0.2, (quiet, loud)


@pytest.mark.parametrize("files_max", [256, 4_096])
def test_more_bare_connections_than_the_store_may_have_files_neither_end_it_nor_hold_up_its_own_host(
    files_max: int,
) -> None:
    with hosts.listening() as home, contextlib.ExitStack() as noise:
        home.allow("gpu1")
        process = home.store.start()
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (256, files_max))
        home.store.serving(1)
        port = int(home.address.rpartition(":")[2])
        for _ in range(600):
            with contextlib.suppress(OSError):
                noise.enter_context(socket.create_connection(("127.0.0.1", port), 1))
        eventually(lambda: home.store.said("no new ones until some end"))
        for day in range(1, 4):  # over a way of its own each
            propose(home, "EURUSD", f"2026-10-{day:02d}")
        noise.close()
        peer = a_peer()
        with home.caller("gpu1", peer) as wire:  # listens again, with the list in hand
            wire.send(a_beat(peer, 0))
            wire.first(messages.Welcome)
        assert process.poll() is None and not home.store.said("Serving epoch 2")


def test_an_allow_list_that_cannot_be_read_lets_nobody_in_and_the_store_serves_on_and_starts_again() -> None:
    with hosts.listening() as home:
        key = home.allow("gpu1")
        process = home.store.start()
        home.store.serving(1)
        peer, place = a_peer(), home.keys / "allowed" / "llm"
        with home.caller("gpu1", peer) as wire:
            wire.send(a_beat(peer, 0))
            wire.first(messages.Welcome)
            place.rename(home.keys / "aside")
            place.write_text("not a folder")
            eventually(lambda: not wire.is_let_in())
            propose(home, "EURUSD", "2026-10-01")
            assert process.poll() is None
            home.store.kill()
            home.store.start()
            home.store.serving(2)
            propose(home, "EURUSD", "2026-10-02")
            assert home.store.log().read_text().count("The allow-list cannot be read") == 2
            place.unlink()
            keys.allow(home.keys, Role.LLM, "gpu1", key.public)
            wire.send(a_beat(peer, 0))
            wire.first(messages.Welcome, 1)


# ── whole workers ───────────────────────────────────────────────────────────


def test_a_supervisor_on_another_host_waits_until_its_key_is_allowed_and_then_runs_analysts_without_a_database(
    home: ListeningStore,
) -> None:
    key = home.new_key("far")
    worker = home.work("far", 2)
    eventually(lambda: "does not let this host in" in home.said("far"), 30)
    keys.allow(home.keys, Role.LLM, "far", key.public)
    intent_id = propose(home, "AUDUSD", "2026-10-06")

    def done() -> bool:
        with closing(home.store.read()) as reader:
            found = reader.intent(intent_id)
        return found is not None and found.status in (Status.READY_FOR_EXEC, Status.CANCELLED)

    eventually(done, 30)
    with closing(home.store.read()) as reader:
        (decided,) = [one for one in reader.transitions(intent_id) if one.from_status == "claimed"]
        assert decided.actor.endswith("@far") or "@far/" in decided.actor
    assert key.secret not in home.said("far") + home.store.log().read_text()
    assert list((home.store.base / "far" / "data").glob("*.db*")) == []
    worker.terminate()
    assert worker.wait(15) == 0, home.said("far")
