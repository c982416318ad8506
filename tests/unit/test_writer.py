"""The writer: one batch, one transaction, then the answers. Deduplication, fences, credit, deaths."""

from __future__ import annotations

import os

import apsw
import pytest

from bus import clock, messages
from bus.messages import Ack, Analyse, Execute, Held, Peer, Welcome, Withdraw
from bus.vocabulary import Outcome, Role, State, Status
from store import verify, writer
from tests.kit.builders import a_beat, a_peer, a_propose, a_sample, an_envelope
from tests.kit.store import StoreHarness, a_verdict, an_opening

SUPERVISOR = a_peer(Role.SUPERVISOR)
SCANNER = a_peer(Role.SCANNER)
MONITOR = a_peer(Role.MONITOR)


@pytest.fixture
def store() -> StoreHarness:
    return StoreHarness()


def died(peer: Peer) -> messages.ChildExited:
    return messages.ChildExited(peer=peer, status="signal 9")


# ── the same command again ──────────────────────────────────────────────────


def test_a_command_sent_three_times_changes_one_thing_and_gets_one_answer(store: StoreHarness) -> None:
    envelope = an_envelope(SCANNER, a_propose())
    acks = [store.step(envelope) for _ in range(3)]
    assert acks[0] == acks[1] == acks[2]
    assert acks[0][0][1] == Ack(id=envelope.id, outcome=Outcome.APPLIED, intent_id=store.read.intents()[0].id)
    assert len(store.read.intents()) == 1
    assert store.db.execute("SELECT count(*) FROM transitions").get == 1


def test_a_command_twice_in_one_batch_is_applied_once(store: StoreHarness) -> None:
    envelope = an_envelope(MONITOR, messages.CountRequests(day="2026-11-02", reads=1, writes=0))
    first, second = store.step(envelope, envelope)
    assert first == second
    assert store.read.requests("2026-11-02") == (1, 0)


def test_the_recorded_answer_survives_a_restart_of_the_store(store: StoreHarness) -> None:
    envelope = an_envelope(SCANNER, a_propose())
    before = store.step(envelope)
    store.restart()
    assert store.step(envelope) == before
    assert len(store.read.intents()) == 1


@pytest.mark.parametrize("outcome", [Outcome.STALE, Outcome.REFUSED])
def test_an_answer_that_changed_nothing_is_recorded_too(store: StoreHarness, outcome: Outcome) -> None:
    llm = a_peer()
    intent = store.claimed(llm)
    body = a_verdict(intent, sl_pips=None) if outcome is Outcome.REFUSED else a_verdict(intent, epoch=9)
    first = store.tell(llm, body, "c")
    assert first.outcome is outcome
    store.tell(llm, a_verdict(intent))  # now it would be answered in another way
    assert store.tell(llm, body, "c") == first


def test_a_resend_of_an_old_verdict_after_the_lease_moved_on_gets_its_old_answer(store: StoreHarness) -> None:
    llm = a_peer()
    intent = store.claimed(llm)
    first = store.tell(llm, a_verdict(intent), "c")
    executor = a_peer(Role.EXECUTOR)
    store.beat(executor)
    assert store.tell(llm, a_verdict(intent), "c") == first
    assert store.intent(intent.id).claim_incarnation == executor.incarnation


# ── one transaction ─────────────────────────────────────────────────────────


def test_one_bad_command_takes_nothing_of_its_batch_with_it(store: StoreHarness) -> None:
    sends = store.step(
        an_envelope(SCANNER, a_propose(symbol="EURUSD"), "c1"),
        an_envelope(SCANNER, a_propose(symbol="GBPUSD", confidence="sure"), "c2"),
        an_envelope(SCANNER, a_propose(symbol="USDJPY"), "c3"),
    )
    assert [ack.outcome for _, ack in sends if isinstance(ack, Ack)] == ["applied", "refused", "applied"]
    assert {intent.symbol for intent in store.read.intents()} == {"EURUSD", "USDJPY"}
    assert verify.verify_chain(store.read) == []


def test_a_command_that_fails_half_way_leaves_no_half_of_it(store: StoreHarness) -> None:
    executor = a_peer(Role.EXECUTOR)
    intent = store.executing(executor)
    # the snapshot is written first, then the arrow is refused by a trigger
    store.db.execute("CREATE TEMP TRIGGER no BEFORE INSERT ON transitions BEGIN SELECT RAISE(ABORT, 'no'); END")
    ack = store.tell(executor, store.reservation(intent))
    assert ack.outcome is Outcome.REFUSED
    assert (store.intent(intent.id), store.read.order(intent.id)) == (intent, None)
    store.db.execute("DROP TRIGGER no")
    assert store.tell(executor, store.reservation(intent)).outcome is Outcome.APPLIED
    assert verify.verify_chain(store.read) == []


def test_nothing_is_answered_and_nothing_stands_when_the_commit_fails(
    store: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = a_peer()
    intent = store.claimed(llm)
    envelope = an_envelope(llm, a_verdict(intent))

    def full(name: str) -> None:
        if name == "store.before_commit":
            raise apsw.FullError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(writer, "reach", full)
        with pytest.raises(apsw.FullError):
            store.step(envelope)
    assert not store.db.in_transaction
    assert store.intent(intent.id) == intent
    assert store.writer.registry.leases[intent.id].epoch == intent.epoch
    assert store.step(envelope)[0][1].outcome is Outcome.APPLIED  # type: ignore[union-attr]
    assert verify.verify_chain(store.read) == []


def test_the_epoch_of_the_store_grows_with_every_start_and_is_told(store: StoreHarness) -> None:
    peer = a_peer()
    assert store.writer.epoch == 1
    assert store.beat(peer, seen_store_epoch=1, capacity=0) == []
    store.restart()
    assert store.beat(peer, seen_store_epoch=1, capacity=0) == [Welcome(store_epoch=2)]
    assert store.beat(peer, seen_store_epoch=2, capacity=0) == []


# ── credit and order ────────────────────────────────────────────────────────


def test_no_more_work_is_sent_than_there_is_credit_over_beats_and_restarts(store: StoreHarness) -> None:
    llm = a_peer()
    for n in range(5):
        store.pending(bar_time=f"2026-10-{n + 10}")
    store.beat(llm, capacity=2)
    store.beat(llm, capacity=2)
    store.restart()
    store.beat(llm, capacity=2)
    assert len(store.got(llm, Analyse)) == 2
    assert store.read.status_counts() == {"claimed": 2, "pending": 3}


def test_work_is_committed_as_claimed_before_it_is_sent(store: StoreHarness) -> None:
    llm = a_peer()
    intent = store.pending()
    (sent,) = [m for m in store.beat(llm) if isinstance(m, Analyse)]
    assert sent.intent == store.intent(intent.id)
    assert (sent.epoch, sent.lease_s, sent.intent.status) == (1, 1_800.0, Status.CLAIMED)
    assert store.read.transitions(intent.id)[-1].incarnation == llm.incarnation


def test_the_oldest_intent_is_given_out_first(store: StoreHarness) -> None:
    ids = []
    for symbol in ("USDJPY", "EURUSD", "GBPUSD"):
        ids.append(store.pending(symbol=symbol).id)
        store.clock.advance(1)
    llm = a_peer()
    store.beat(llm, capacity=3)
    assert [sent.intent.id for sent in store.got(llm, Analyse)] == ids


def test_work_is_shared_out_to_whoever_has_most_credit(store: StoreHarness) -> None:
    one, two = a_peer(slot=1), a_peer(slot=2)
    store.step(an_envelope(one, a_beat(capacity=2)), an_envelope(two, a_beat(capacity=2)))
    for n in range(4):
        store.pending(bar_time=f"2026-10-{n + 10}")
    assert (len(store.got(one, Analyse)), len(store.got(two, Analyse))) == (2, 2)


def test_one_intent_is_executing_at_a_time_whatever_the_executor_offers(store: StoreHarness) -> None:
    store.ready(symbol="EURUSD")
    store.ready(symbol="GBPUSD")
    executor = a_peer(Role.EXECUTOR)
    store.beat(executor, capacity=5)
    store.beat(executor, capacity=5)
    assert store.read.status_counts() == {"executing": 1, "ready_for_exec": 1}
    intent = store.got(executor, Execute)[0].intent
    store.tell(executor, store.reservation(intent))
    store.beat(executor, intent, capacity=5)
    assert len(store.got(executor, Execute)) == 1
    store.tell(executor, an_opening(intent))
    assert len(store.got(executor, Execute)) == 2, "the next one comes with the answer"


@pytest.mark.parametrize("level", ["soft", "hard"])
def test_nothing_is_given_to_the_executor_while_a_halt_stands(store: StoreHarness, level: str) -> None:
    store.ready()
    store.tell(MONITOR, messages.RaiseHalt(level=level, reason="x", until="2026-11-02T06:10:00.000Z"))
    executor = a_peer(Role.EXECUTOR)
    store.beat(executor)
    assert store.got(executor, Execute) == []
    store.clock.advance(601)
    store.beat(executor)
    assert len(store.got(executor, Execute)) == (1 if level == "soft" else 0)


def test_the_executor_gets_no_papers_it_does_not_read(store: StoreHarness) -> None:
    llm, executor = a_peer(), a_peer(Role.EXECUTOR)
    intent = store.claimed(llm)
    store.tell(llm, a_verdict(intent, risk_report="r" * 400_000, state_json="s" * 400_000))
    store.beat(executor)
    (sent,) = store.got(executor, Execute)
    assert (sent.intent.agent_risk_report, sent.intent.agent_state_json) == ("", "")
    assert len(store.intent(intent.id).agent_state_json) == 400_000


# ── deaths ──────────────────────────────────────────────────────────────────


def test_a_dead_analysts_work_is_free_at_once_with_a_new_epoch(store: StoreHarness) -> None:
    dead, other = a_peer(slot=1), a_peer(slot=2)
    intent = store.claimed(dead)
    store.beat(other)
    store.tell(SUPERVISOR, died(dead))
    found = store.intent(intent.id)
    assert (found.status, found.epoch, found.claim_incarnation) == (Status.CLAIMED, 2, other.incarnation)
    assert store.events(intent.id) == ["propose", "claim", "lose_lease", "recycle", "claim"]
    assert store.tell(dead, a_verdict(intent)).outcome is Outcome.STALE


def test_what_the_dead_one_sent_in_the_same_batch_counts(store: StoreHarness) -> None:
    llm = a_peer()
    intent = store.claimed(llm)
    sends = store.step(an_envelope(SUPERVISOR, died(llm)), an_envelope(llm, a_verdict(intent)))
    assert {ack.outcome for _, ack in sends if isinstance(ack, Ack)} == {Outcome.APPLIED}
    assert store.intent(intent.id).status is Status.READY_FOR_EXEC


def test_beats_of_the_dead_are_not_heard(store: StoreHarness) -> None:
    llm = a_peer()
    store.beat(llm)
    store.tell(SUPERVISOR, died(llm))
    store.pending()
    assert store.beat(llm) == []
    assert store.got(llm, Analyse) == []


def test_a_death_told_twice_frees_once(store: StoreHarness) -> None:
    llm = a_peer()
    intent = store.claimed(llm)
    store.tell(SUPERVISOR, died(llm))
    store.tell(SUPERVISOR, died(llm))
    assert store.events(intent.id).count("lose_lease") == 1


def test_an_executors_intent_stays_its_own_however_long_it_is_silent(store: StoreHarness) -> None:
    executor, llm = a_peer(Role.EXECUTOR), a_peer()
    intent = store.executing(executor)
    store.live(3_600, (llm, ()))
    store.tell(MONITOR, messages.Sweep())
    assert store.intent(intent.id) == intent
    assert store.tell(executor, messages.Release(intent_id=intent.id, epoch=intent.epoch)).outcome is Outcome.APPLIED


def test_a_dead_executors_intent_without_an_order_is_ready_again(store: StoreHarness) -> None:
    executor = a_peer(Role.EXECUTOR)
    intent = store.executing(executor)
    store.tell(SUPERVISOR, died(executor))
    assert store.intent(intent.id).status is Status.READY_FOR_EXEC
    assert store.tell(executor, store.reservation(intent)).outcome is Outcome.STALE
    assert store.read.order(intent.id) is None


def test_an_intent_that_kills_every_executor_is_ended(store: StoreHarness) -> None:
    intent = store.ready()
    for _ in range(3):
        executor = a_peer(Role.EXECUTOR)
        store.beat(executor)
        store.tell(SUPERVISOR, died(executor))
    assert store.intent(intent.id).status is Status.FAILED
    assert "3 executors died over it" in str(store.intent(intent.id).execution_error)


def test_a_dead_executors_order_is_handed_to_its_successor_to_reconcile(store: StoreHarness) -> None:
    old, new = a_peer(Role.EXECUTOR), a_peer(Role.EXECUTOR)
    intent = store.reserved(old)
    store.tell(SUPERVISOR, died(old))
    assert store.intent(intent.id) == intent, "nobody may touch it before the successor is there"
    (sent,) = [m for m in store.beat(new) if isinstance(m, Execute)]
    assert sent.order == store.order(intent.id)
    assert (sent.epoch, sent.intent.claim_incarnation) == (intent.epoch + 1, new.incarnation)
    assert store.tell(old, an_opening(intent)).outcome is Outcome.STALE
    assert store.tell(new, an_opening(sent.intent)).outcome is Outcome.APPLIED


def test_the_successor_is_never_given_a_licence_for_what_was_reserved(store: StoreHarness) -> None:
    old, new = a_peer(Role.EXECUTOR), a_peer(Role.EXECUTOR)
    store.reserved(old)
    (sent,) = [m for m in store.beat(new) if isinstance(m, Execute)]
    assert store.tell(new, store.reservation(sent.intent)).outcome is Outcome.REFUSED


def test_a_successor_without_a_told_death_takes_over_as_well(store: StoreHarness) -> None:
    old, new = a_peer(Role.EXECUTOR), a_peer(Role.EXECUTOR)
    intent = store.executing(old)
    store.beat(new)
    found = store.intent(intent.id)
    assert (found.status, found.claim_incarnation) == (Status.EXECUTING, new.incarnation)
    assert store.events(intent.id)[-2:] == ["return", "take"]


def test_the_hand_over_survives_a_restart_of_the_store_in_between(store: StoreHarness) -> None:
    old, new = a_peer(Role.EXECUTOR), a_peer(Role.EXECUTOR)
    intent = store.reserved(old)
    store.tell(SUPERVISOR, died(old))
    store.restart()
    (sent,) = [m for m in store.beat(new) if isinstance(m, Execute)]
    assert (sent.intent.id, sent.order is not None) == (intent.id, True)


def test_lost_leases_end_after_their_attempts(store: StoreHarness) -> None:
    intent = store.pending()
    for slot in (1, 2, 3):
        llm = a_peer(slot=slot)
        store.beat(llm)
        assert store.intent(intent.id).attempts == slot
        store.tell(SUPERVISOR, died(llm))
    assert store.intent(intent.id).status is Status.CANCELLED
    assert "3 attempts were lost" in str(store.intent(intent.id).execution_error)


def test_a_lost_lease_of_an_expired_intent_is_not_tried_again(store: StoreHarness) -> None:
    llm = a_peer()
    intent = store.claimed(llm, ttl_minutes=1)
    store.clock.advance(60)
    store.tell(SUPERVISOR, died(llm))
    assert store.events(intent.id)[-2:] == ["lose_lease", "give_up"]


# ── leases by beats ─────────────────────────────────────────────────────────


def test_a_silent_analyst_loses_its_work_and_is_told_when_it_is_back(store: StoreHarness) -> None:
    frozen, other = a_peer(slot=1), a_peer(slot=2)
    store.tick(10)
    intent = store.claimed(frozen)
    store.live(7, (other, ()))
    assert store.intent(intent.id).claim_incarnation == other.incarnation
    held = Held(intent.id, intent.epoch)
    assert Withdraw(intent_id=intent.id, epoch=1, reason="not your lease") in store.beat(frozen, held)


def test_an_analyst_that_lost_the_message_gets_it_again_with_the_same_epoch(store: StoreHarness) -> None:
    llm = a_peer()
    intent = store.claimed(llm)
    store.live(3, (llm, ()))
    sent = store.got(llm, Analyse)
    assert [(one.intent.id, one.epoch) for one in sent] == [(intent.id, 1)] * 2
    assert store.events(intent.id).count("claim") == 1


def test_the_claims_hard_limit_ends_even_a_lively_lease(store: StoreHarness) -> None:
    llm = a_peer()
    store.settings = type(store.settings)(claim_ttl_minutes=1)
    store.restart()
    intent = store.claimed(llm)
    store.live(59, (llm, (intent,)))
    assert store.intent(intent.id).epoch == 1
    store.live(1, (llm, (intent,)), capacity=0)
    assert store.intent(intent.id).status is Status.PENDING
    assert Withdraw(intent_id=intent.id, epoch=1, reason="held too long") in store.got(llm, Withdraw)


def test_a_jump_of_the_wall_clock_does_not_make_anybody_dead(store: StoreHarness) -> None:
    llm = a_peer()
    intent = store.claimed(llm)
    store.live(10, (llm, (intent,)))
    store.clock.jump(600)
    store.step(tick=True)
    assert store.intent(intent.id) == intent


def test_cancelling_a_claim_withdraws_it_from_its_holder(store: StoreHarness) -> None:
    llm = a_peer()
    intent = store.claimed(llm)
    store.tell(a_peer(Role.PILOT), messages.Cancel(intent_id=intent.id, operator="me", reason="no"))
    assert store.got(llm, Withdraw) == [Withdraw(intent_id=intent.id, epoch=1, reason="cancelled")]
    assert store.tell(llm, a_verdict(intent)).outcome is Outcome.STALE


def test_after_a_restart_a_holder_that_still_works_keeps_its_lease(store: StoreHarness) -> None:
    llm = a_peer()
    intent = store.claimed(llm)
    store.clock.advance(60)
    store.restart()
    store.step(tick=True)
    assert store.beat(llm, intent) == []
    store.live(20, (llm, (intent,)))
    assert store.tell(llm, a_verdict(intent)).outcome is Outcome.APPLIED


def test_after_a_restart_a_holder_that_is_gone_loses_it_after_one_grace(store: StoreHarness) -> None:
    intent = store.claimed(a_peer())
    store.restart()
    store.live(4)
    assert store.intent(intent.id).status is Status.CLAIMED
    store.live(2)
    assert store.intent(intent.id).status is Status.PENDING


# ── the rest of what it writes ──────────────────────────────────────────────


def test_the_newest_word_of_every_worker_is_written_once_a_tick(store: StoreHarness) -> None:
    llm = a_peer(slot=3)
    store.beat(llm, capacity=4, progress=7, state=State.READY)
    assert store.read.workers() == []
    store.step(tick=True)
    found, own = store.read.workers()
    assert (found.name, found.capacity, found.progress, found.state) == ("llm.3", 4, 7, "ready")
    assert (own.name, own.role, own.state, own.pid) == ("store.1", "store", "ready", os.getpid())
    assert own.last_beat_at == clock.iso(store.clock.now())


def test_who_ended_in_order_is_written_as_stopped_and_who_was_killed_or_replaced_is_not(store: StoreHarness) -> None:
    ended, killed, before = a_peer(slot=1), a_peer(slot=2), a_peer(slot=3)
    after = a_peer(slot=3, incarnation="00000000beef")
    for peer in (ended, killed, before):
        store.beat(peer, state=State.READY)
    store.tick(1.0)
    store.beat(after, state=State.READY)
    store.tick(1.0)
    store.tell(SUPERVISOR, messages.ChildExited(peer=ended, status="ended with code 0"))
    store.tell(SUPERVISOR, messages.ChildExited(peer=killed, status="was killed by SIGKILL"))
    store.tell(SUPERVISOR, messages.ChildExited(peer=before, status="ended with code 0"))
    store.tick(1.0)
    found = {one.name: one.state for one in store.read.workers()}
    assert found == {"llm.1": "stopped", "llm.2": "ready", "llm.3": "ready", "store.1": "ready"}


def test_a_store_that_ends_in_order_writes_the_last_beats_and_its_end(store: StoreHarness) -> None:
    llm = a_peer(slot=3)
    store.beat(llm, state=State.READY)
    store.tick(1.0)
    store.beat(llm, state=State.DRAINING)
    store.clock.advance(0.5)
    store.writer.end(store.clock.now(), store.clock.monotonic())
    found = {one.name: (one.state, one.last_beat_at) for one in store.read.workers()}
    assert found["llm.3"][0] == "draining" and found["store.1"] == ("stopped", clock.iso(store.clock.now()))
    store.restart()
    store.tick()
    assert {one.name: one.state for one in store.read.workers()}["store.1"] == "ready"


def test_reports_and_samples_are_kept(store: StoreHarness) -> None:
    store.tell(MONITOR, messages.Report(level="warning", event="drawdown", text="50 %"))
    store.tell(MONITOR, messages.SampleEquity(sample=a_sample(equity_cents=4_990_000)))
    assert store.read.alerts()[0][1:] == ("warning", "drawdown", "50 %")
    assert store.read.last_equity() == a_sample(equity_cents=4_990_000)
