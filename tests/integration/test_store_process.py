"""The real store process over real sockets: killed at its worst moments, given bytes from hell, started twice."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import apsw
import pytest

from actors.compliance.day import firm_days
from bus import codec, messages
from bus.clock import iso
from bus.link import Link
from bus.messages import Held
from bus.vocabulary import ExitCode, Outcome, Role, Status
from store import verify
from tests.kit.builders import a_beat, a_day, a_peer, a_propose, an_envelope
from tests.kit.compliance import the_rules
from tests.kit.eventually import eventually, eventually_async
from tests.kit.store import a_verdict
from tests.kit.store_process import BYTES_MAX, PROFILE, StoreProcess, store_process

DEADLINE_S = 15.0


@pytest.fixture
def store() -> Iterator[StoreProcess]:
    with store_process() as found:
        yield found


def whole(store: StoreProcess) -> dict[str, int]:
    """Return how many intents there are by status, after proving that the journal is whole."""
    reader = store.read()
    assert verify.verify_chain(reader) == []
    counts = reader.status_counts()
    reader.close()
    return counts


# ── refused ─────────────────────────────────────────────────────────────────


def test_bytes_that_are_no_message_are_counted_kept_aside_and_survived(store: StoreProcess) -> None:
    store.start()
    good = an_envelope(a_peer(Role.SCANNER), a_propose())
    wrong_role = an_envelope(a_peer(Role.LLM), messages.Sweep())
    with store.wire(good.sender) as wire:
        for frame in (b"", b"\xc1garbage", b"\x91" * 10_000, codec.encode(wrong_role)):
            wire.send(frame)
        wire.send(good)
        assert [ack.outcome for ack in wire.acks(1)] == [Outcome.APPLIED]
    eventually(lambda: store.said("(4 so far)"))
    assert store.said("llm.1 sent Sweep; allowed: Beat, Decide")
    kept = sorted(path.name for path in (store.data / "quarantine").iterdir())
    assert kept == ["01.bin", "02.bin", "03.bin", "04.bin"]
    assert (store.data / "quarantine" / "02.bin").read_bytes() == b"\xc1garbage"
    assert store.end() == ExitCode.OK


def test_a_frame_too_large_is_dropped_with_its_connection_and_the_next_one_is_served(store: StoreProcess) -> None:
    store.start()
    good = an_envelope(a_peer(Role.SCANNER), a_propose())
    with store.wire(good.sender) as wire:
        wire.send(b"x" * (BYTES_MAX + 1))
        eventually(lambda: wire.send(good) or wire._acks())  # what was queued behind it is lost with it
    with store.wire(a_peer(Role.SCANNER)) as wire:
        wire.send(good)
    assert whole(store) == {"pending": 1}
    assert store.end() == ExitCode.OK


def test_a_second_store_ends_with_75_and_names_the_holder(store: StoreProcess) -> None:
    first = store.start()
    store.serving(1)
    second = store.start()
    assert second.wait(10) == ExitCode.LOCKED
    assert store.said(f"store.1.lock is held by store.1 (pid {first.pid})")
    assert first.poll() is None


def test_a_second_store_from_another_environment_is_kept_from_the_same_database(store: StoreProcess) -> None:
    first = store.start()
    store.serving(1)
    elsewhere = store.base / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    second = store.start(PILOT_RUN=str(elsewhere))
    assert second.wait(10) == ExitCode.LOCKED
    assert store.said(f"decisions.db.lock is held by store.1 (pid {first.pid})")


@pytest.mark.parametrize("what", ["garbage", "newer", "truncated"])
def test_a_database_that_cannot_be_used_ends_it_with_78_and_stays_as_it_was(store: StoreProcess, what: str) -> None:
    store.data.mkdir()
    if what == "garbage":
        store.db.write_bytes(b"dear diary" * 1_000)
        message = "not a SQLite database"
    else:
        store.start()
        store.serving(1)
        assert store.end() == ExitCode.OK
        message = "damaged"
        if what == "newer":
            db = apsw.Connection(str(store.db))
            db.pragma("user_version", 99)
            db.pragma("journal_mode", "delete")
            db.close()
            message = "written by a newer version"
        else:
            os.truncate(store.db, store.db.stat().st_size // 2)
    before = store.db.read_bytes()
    assert store.start().wait(10) == ExitCode.CONFIG
    assert store.said(message)
    assert store.db.read_bytes() == before


def name_account(store: StoreProcess, kind: str, account_id: str) -> None:
    """Have the next store run for this account."""
    broker = f'kind = "{kind}"\naccount_id = "{account_id}"\nemail = "a@b.example"\n'
    (store.base / "test.toml").write_text(f"{PROFILE}[broker]\n{broker}")


def start_the_day(store: StoreProcess, account_id: str) -> Outcome:
    """Tell a store that starts what today began with, as the account's monitor does; return what it answered."""
    first = firm_days(the_rules(), datetime.now(UTC))[0]
    day = a_day(
        account_id=account_id, day=first.day, reset=first.reset, starts_at=iso(first.starts_at),
        ends_at=iso(first.ends_at), created_at=iso(datetime.now(UTC)),
    )  # fmt: skip
    store.start()
    told = an_envelope(a_peer(Role.MONITOR), messages.StartDay(day=day))
    with store.wire(told.sender) as wire:
        wire.send(told)
        return wire.acks(1)[0].outcome


@pytest.mark.parametrize(
    ("kind", "account_id", "is_written", "said"),
    [
        ("platform", "ACC-2", True, "PAPER-1 of the paper broker; broker.account_id is ACC-2"),
        ("platform", "PAPER-1", True, "PAPER-1 of the paper broker; broker.account_id is PAPER-1"),
        ("paper", "PAPER-2", True, "PAPER-1 of the paper broker; broker.account_id is PAPER-2 of the paper broker"),
        ("platform", "ACC-2", False, "PAPER-1; broker.account_id is ACC-2"),
    ],
)
def test_a_database_of_another_account_ends_it_with_78_and_stays_as_it_was(
    store: StoreProcess, kind: str, account_id: str, is_written: bool, said: str
) -> None:
    assert start_the_day(store, "PAPER-1") is Outcome.APPLIED
    assert store.end() == ExitCode.OK
    if not is_written:
        forget_the_owner(store)
    before = store.db.read_bytes()
    name_account(store, kind, account_id)
    assert store.start().wait(10) == ExitCode.CONFIG
    assert store.said(
        f"this database belongs to account {said}: set PILOT_DATA to a folder of its own for each account"
    )
    assert store.db.read_bytes() == before
    name_account(store, "paper", "PAPER-1")
    store.start()
    store.serving(2)
    assert store.read().halts() == []


def forget_the_owner(store: StoreProcess) -> None:
    db = apsw.Connection(str(store.db))
    db.execute("DELETE FROM meta WHERE key = 'owner'")
    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    db.close()


def test_a_database_of_a_version_that_wrote_no_owner_learns_it_at_the_next_start(store: StoreProcess) -> None:
    start_the_day(store, "PAPER-1")
    assert store.end() == ExitCode.OK
    forget_the_owner(store)
    store.start()
    store.serving(2)
    assert str(store.read().owner()) == "PAPER-1 of the paper broker"


def test_a_database_of_nobody_is_whosever_day_it_is_told_first(store: StoreProcess) -> None:
    store.start()
    store.serving(1)
    assert store.end() == ExitCode.OK
    name_account(store, "platform", "ACC-2")
    assert start_the_day(store, "PAPER-1") is Outcome.REFUSED
    assert store.read().owner() is None, "what is refused names nobody"
    assert store.end() == ExitCode.OK
    assert start_the_day(store, "ACC-2") is Outcome.APPLIED
    assert str(store.read().owner()) == "ACC-2"


def test_a_wrong_setting_ends_it_with_78(store: StoreProcess) -> None:
    (store.base / "test.toml").write_text("[store]\nbatch_max = 0\n")
    assert store.start().wait(10) == ExitCode.CONFIG
    assert store.said("store.batch_max was 0; allowed: `int` >= 1")
    assert not store.db.exists()


async def test_a_lease_of_a_killed_analyst_is_given_on_and_its_old_verdict_is_stale(store: StoreProcess) -> None:
    store.start()
    killed, other = a_peer(Role.LLM, 1), a_peer(Role.LLM, 2)
    async with store.link(a_peer(Role.SCANNER)) as scanner, store.link(a_peer(Role.SUPERVISOR)) as supervisor:
        await scanner.ask(a_propose(), DEADLINE_S)
        async with store.link(killed) as link:
            first = await work(link)
        async with store.link(other) as link:
            beating = asyncio.create_task(link.beat_loop(lambda: a_beat(seen_store_epoch=link.store_epoch)))
            await supervisor.ask(messages.ChildExited(peer=killed, status="signal 9"), DEADLINE_S)
            second = await work(link)
            beating.cancel()
            assert (second.intent.id, first.epoch, second.epoch) == (first.intent.id, 1, 2)
            async with store.link(killed) as zombie:
                stale = await zombie.ask(a_verdict(first.intent), DEADLINE_S)
            assert stale.outcome is Outcome.STALE
            assert "last held by llm.2" in stale.reason
            assert (await link.ask(a_verdict(second.intent), DEADLINE_S)).outcome is Outcome.APPLIED
    assert whole(store) == {"ready_for_exec": 1}


async def work(link: Link) -> messages.Analyse:
    """Beat with one free slot until work comes, and return it."""
    got: list[messages.Analyse] = []
    link.receive = lambda message: got.append(message) if isinstance(message, messages.Analyse) else None
    beating = asyncio.create_task(link.beat_loop(lambda: a_beat(seen_store_epoch=link.store_epoch)))
    try:
        await eventually_async(lambda: got)
    finally:
        beating.cancel()
    return got[0]


# ── the same again ──────────────────────────────────────────────────────────


def test_a_command_resent_three_times_gets_three_equal_answers_and_changes_one_thing(store: StoreProcess) -> None:
    store.start()
    envelope = an_envelope(a_peer(Role.SCANNER), a_propose())
    with store.wire(envelope.sender) as wire:
        for count in (1, 2, 3):
            wire.send(envelope)
            wire.acks(count)
        first, second, third = wire.acks(3)
    assert first == second == third
    assert first.outcome is Outcome.APPLIED
    assert whole(store) == {"pending": 1}


@pytest.mark.parametrize("point", ["store.before_commit", "store.after_commit", "store.before_ack", "store.after_ack"])
async def test_a_store_killed_around_its_commit_has_applied_the_command_once_when_it_is_back(
    store: StoreProcess, point: str
) -> None:
    first = store.start()
    store.serving(1)
    store.arm(point)
    async with store.link(a_peer(Role.SCANNER)) as link:
        asking = asyncio.create_task(link.ask(a_propose(), DEADLINE_S))
        await asyncio.to_thread(first.wait, 10)
        assert first.returncode == -signal.SIGKILL
        counts = whole(store)
        assert counts == ({} if point == "store.before_commit" else {"pending": 1})
        store.start()
        store.serving(2)
        ack = await asking
    assert ack.outcome is Outcome.APPLIED, "not `already`: a resend gets the recorded answer"
    assert whole(store) == {"pending": 1}
    assert store.end() == ExitCode.OK


async def test_what_was_acked_survives_kill_after_kill(store: StoreProcess) -> None:
    acked: list[str] = []
    store.start()
    async with store.link(a_peer(Role.SCANNER)) as link:
        for number in range(12):
            asking = asyncio.create_task(link.ask(a_propose(bar_time=f"bar {number}"), DEADLINE_S))
            if number % 3 == 0:
                store.kill()
                store.start()
            ack = await asking
            assert ack.outcome is Outcome.APPLIED
            acked.append(str(ack.intent_id))
    reader = store.read()
    assert sorted(intent.id for intent in reader.intents()) == sorted(acked)
    reader.close()
    assert whole(store) == {"pending": 12}


# ── what the console says ───────────────────────────────────────────────────


def test_times_are_utc_wherever_the_machine_stands(store: StoreProcess) -> None:
    began = datetime.now(UTC).replace(microsecond=0)
    store.start(TZ="America/New_York")
    store.serving(1)
    assert store.end() == 0
    found = re.findall(r"^(\S+Z) INFO    store\.1     (.*)$", store.log().read_text(), re.MULTILINE)
    assert [words.split()[0] for _, words in found] == ["Serving", "Stopped"]
    for time, _ in found:
        at = began.replace(hour=int(time[:2]), minute=int(time[3:5]), second=int(time[6:8]))
        assert (at - began) % timedelta(days=1) < timedelta(minutes=5), "within this test, midnight or not"


def test_halts_that_outlived_a_restart_are_warned_of_and_lifted_ones_are_not(store: StoreProcess) -> None:
    store.start()
    store.serving(1)
    peer = a_peer(Role.PILOT)
    with store.wire(peer) as pilot:
        pilot.send(an_envelope(peer, messages.Pause(operator="ann", reason="payrolls\nin ten minutes")))
        pilot.acks(1)
        store.end()
        assert not store.said("stands since")
        store.start()
        store.serving(2)
        with closing(store.read()) as reader:
            (halt,) = reader.halts()
        said = (
            f"Halt 1 (hard) stands since {halt.raised_at}, by pilot.1: operator: ann: payrolls in ten minutes. No order"
        )
        eventually(lambda: store.said(f"WARNING store.1     {said} is sent until `pilot resume --halt 1`\n"))
        pilot.send(an_envelope(peer, messages.Resume(operator="ann", reason="back", halt_id=1)))
        pilot.acks(2)
    store.end()
    store.start()
    store.serving(3)
    store.end()
    assert store.log().read_text().count("stands since") == 1


# ── epochs, leases and freezes ──────────────────────────────────────────────


async def test_a_new_life_of_the_store_has_a_new_epoch_and_welcomes_again(store: StoreProcess) -> None:
    store.start()
    async with store.link(a_peer(Role.LLM)) as link:
        beats = asyncio.create_task(link.beat_loop(lambda: a_beat(capacity=0, seen_store_epoch=link.store_epoch)))
        for epoch in (1, 2, 3):
            await eventually_async(lambda epoch=epoch: link.store_epoch == epoch)
            store.kill()
            store.start()
        beats.cancel()


async def test_a_lease_survives_a_store_that_was_frozen_longer_than_beats_may_be_missing(store: StoreProcess) -> None:
    process = store.start()
    async with store.link(a_peer(Role.SCANNER)) as scanner, store.link(a_peer(Role.LLM)) as llm:
        await scanner.ask(a_propose(), DEADLINE_S)
        got = await work(llm)
        held = Held(got.intent.id, got.epoch)
        beats = asyncio.create_task(llm.beat_loop(lambda: a_beat(held, seen_store_epoch=llm.store_epoch)))
        process.send_signal(signal.SIGSTOP)
        await llm.sleep(1.5)  # the situation itself: longer than dead_s
        process.send_signal(signal.SIGCONT)
        await llm.sleep(1.2)  # at least one tick
        ack = await llm.ask(a_verdict(got.intent), DEADLINE_S)
        beats.cancel()
    assert ack.outcome is Outcome.APPLIED
    reader = store.read()
    assert [move.event for move in reader.transitions(got.intent.id)] == ["propose", "claim", "decide_trade"]
    reader.close()


async def test_a_silent_analyst_loses_its_lease_by_time(store: StoreProcess) -> None:
    store.start()
    async with store.link(a_peer(Role.SCANNER)) as scanner, store.link(a_peer(Role.LLM)) as llm:
        await scanner.ask(a_propose(), DEADLINE_S)
        got = await work(llm)
        reader = store.read()
        await eventually_async(lambda: [one.status for one in reader.intents()] == [Status.PENDING])
        assert [move.event for move in reader.transitions(got.intent.id)][2:] == ["lose_lease", "recycle"]
        reader.close()


# ── ends ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wanted", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_ends_it_in_order(store: StoreProcess, wanted: signal.Signals) -> None:
    store.start()
    store.serving(1)
    assert store.end(wanted) == ExitCode.OK
    left = sorted(path.name for path in store.data.glob("decisions*"))
    assert left == ["decisions.db", "decisions.db.lock"], "the log was taken over"


def test_the_end_of_the_supervisor_ends_it_in_order(store: StoreProcess) -> None:
    reading, writing = os.pipe()
    process = store.start(reading, PILOT_LIFELINE_FD=str(reading))
    os.close(reading)
    store.serving(1)
    os.close(writing)
    assert process.wait(10) == ExitCode.OK
    assert store.said("The supervisor is gone")


def test_the_log_is_moved_into_the_database_while_nothing_arrives_and_nothing_is_lost(store: StoreProcess) -> None:
    """SQLite's own checkpoint is off: it would make some commit wait."""
    store.start()
    store.serving(1)
    sender = a_peer(Role.SCANNER)
    path = store.data / "decisions.db"
    with store.wire(sender) as wire:
        empty = path.stat().st_size
        for day in range(84):  # a commit each: some ten pages
            wire.send(an_envelope(sender, a_propose(bar_time=f"{2_000 + day // 28}-02-{day % 28 + 1:02}")))
            assert wire.acks(day + 1)[-1].outcome is Outcome.APPLIED
        eventually(lambda: path.stat().st_size > empty, DEADLINE_S)
    store.kill()
    store.start()
    store.serving(2)
    assert sum(whole(store).values()) == 84
    assert store.end() == ExitCode.OK
