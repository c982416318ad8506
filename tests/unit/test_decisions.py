"""Every method of the decision store through the command that calls it: what is refused first, then what it writes."""

from __future__ import annotations

import pytest

from bus import messages
from bus.vocabulary import OrderStatus, Outcome, Role, Status
from tests.kit.builders import a_peer, a_propose, a_result, an_envelope
from tests.kit.store import StoreHarness, a_verdict, an_opening


@pytest.fixture
def store() -> StoreHarness:
    return StoreHarness()


@pytest.fixture
def llm() -> messages.Peer:
    return a_peer(Role.LLM)


@pytest.fixture
def executor() -> messages.Peer:
    return a_peer(Role.EXECUTOR)


MONITOR = a_peer(Role.MONITOR)
PILOT = a_peer(Role.PILOT)


# ── proposing ───────────────────────────────────────────────────────────────


def test_the_same_pair_bar_and_source_is_never_proposed_twice(store: StoreHarness) -> None:
    first = store.pending()
    again = store.tell(a_peer(Role.SCANNER), a_propose(trade_date="2026-11-03", score=0.9))
    assert again.outcome is Outcome.ALREADY
    assert [one.id for one in store.read.intents()] == [first.id]
    assert store.intent(first.id) == first


def test_a_key_of_a_removed_intent_stays_used(store: StoreHarness) -> None:
    intent = store.pending()
    store.tell(PILOT, messages.Cancel(intent_id=intent.id, operator="me", reason="no"))
    store.clock.advance(8 * 86_400)
    store.tell(MONITOR, messages.Sweep())
    assert store.read.intent(intent.id) is None
    assert store.tell(a_peer(Role.SCANNER), a_propose()).outcome is Outcome.ALREADY


def test_a_signal_too_long_to_be_handed_on_is_refused(store: StoreHarness) -> None:
    ack = store.tell(a_peer(Role.SCANNER), a_propose(features={f"f{n}": 0.1 for n in range(12_000)}))
    assert ack.outcome is Outcome.REFUSED
    assert "characters; allowed: 100000" in ack.reason
    assert store.read.intents() == []


@pytest.mark.parametrize("changes", [{"confidence": "sure"}, {"trade_date": "02.11.2026"}])
def test_a_proposal_that_the_schema_refuses_is_answered_and_leaves_nothing(
    store: StoreHarness, changes: dict[str, str]
) -> None:
    ack = store.tell(a_peer(Role.SCANNER), a_propose(**changes))
    assert ack.outcome is Outcome.REFUSED
    assert "the database refused it" in ack.reason
    assert store.read.intents() == []
    assert store.db.execute("SELECT count(*) FROM transitions").get == 0


def test_a_proposal_keeps_every_field_of_the_scanner(store: StoreHarness) -> None:
    intent = store.pending(ttl_minutes=60)
    assert (intent.scanner_score, intent.scanner_confidence, intent.scanner_score_gap) == (0.42, "high", 0.1)
    assert (intent.scanner_drop_distance, intent.scanner_topk_spread) == (0.2, 0.3)
    assert intent.idempotency_key == "EURUSD:D1:2026-10-30:scanner"
    assert intent.expires_at == "2026-11-02T07:00:00.000Z"
    assert intent.status is Status.PENDING
    assert '"volatility_pips":40.0' in intent.signal_json
    assert store.events(intent.id) == ["propose"]


def test_a_proposal_that_arrives_late_ends_at_its_last_moment_or_is_refused(store: StoreHarness) -> None:
    scanner, hour = a_peer(Role.SCANNER), {"timeframe": "H1", "bar_time": "2026-11-02T04:00Z", "ttl_minutes": 60}
    store.tell(scanner, a_propose(**hour, symbol="EURUSD", expires_at="2026-11-02T06:30:00.000Z"))
    store.tell(scanner, a_propose(**hour, symbol="GBPUSD", expires_at="2026-11-02T07:30:00.000Z"))
    ack = store.tell(scanner, a_propose(**hour, symbol="USDJPY", expires_at="2026-11-02T06:00:00.000Z"))
    assert ack.outcome is Outcome.REFUSED and "too late" in ack.reason
    assert {one.symbol: (one.expires_at, one.idempotency_key) for one in store.read.intents()} == {
        "EURUSD": ("2026-11-02T06:30:00.000Z", "EURUSD:H1:2026-11-02T04:00Z:scanner"),
        "GBPUSD": ("2026-11-02T07:00:00.000Z", "GBPUSD:H1:2026-11-02T04:00Z:scanner"),
    }


def test_scanner_and_operator_may_propose_the_same_bar(store: StoreHarness) -> None:
    store.pending()
    assert store.pending(source="manual").idempotency_key == "EURUSD:D1:2026-10-30:manual"


# ── deciding ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("sl_pips", "tp_pips"), [(None, 100.0), (50.0, None), (0.0, 100.0), (-5.0, 100.0), (5.0, -1.0)]
)
def test_a_trade_without_both_stops_above_zero_is_refused_and_the_lease_stays(
    store: StoreHarness, llm: messages.Peer, sl_pips: float | None, tp_pips: float | None
) -> None:
    intent = store.claimed(llm)
    ack = store.tell(llm, a_verdict(intent, sl_pips=sl_pips, tp_pips=tp_pips))
    assert (ack.outcome, ack.allowed) == (Outcome.REFUSED, ("decide HOLD",))
    assert store.intent(intent.id) == intent
    assert store.tell(llm, a_verdict(intent)).outcome is Outcome.APPLIED


def test_a_trade_becomes_ready_for_execution_with_its_report(store: StoreHarness, llm: messages.Peer) -> None:
    intent = store.claimed(llm)
    store.tell(llm, a_verdict(intent, risk_report="calm", state_json="{}"))
    found = store.intent(intent.id)
    assert (found.status, found.suggested_side) == (Status.READY_FOR_EXEC, "BUY")
    assert (found.suggested_sl_pips, found.suggested_tp_pips) == (50, 100)
    assert (found.agent_risk_report, found.agent_state_json) == ("calm", "{}")
    assert (found.claim_incarnation, found.attempts) == (None, 0)
    decision = store.read.decision(intent.id)
    assert decision is not None
    assert (decision.status, decision.decided_at) == ("ready_for_exec", "2026-11-02T06:00:00.000Z")


def test_hold_ends_the_intent_and_keeps_the_report(store: StoreHarness, llm: messages.Peer) -> None:
    intent = store.claimed(llm)
    store.tell(llm, a_verdict(intent, side="HOLD", sl_pips=None, tp_pips=None, risk_report="no edge"))
    found = store.intent(intent.id)
    assert (found.status, found.suggested_side, found.agent_risk_report) == (Status.CANCELLED, "HOLD", "no edge")
    assert found.execution_error == "analyst decided HOLD"


def test_stops_beside_a_hold_are_not_kept(store: StoreHarness, llm: messages.Peer) -> None:
    intent = store.claimed(llm)
    store.tell(llm, a_verdict(intent, side="HOLD"))
    assert store.intent(intent.id).suggested_sl_pips is None


@pytest.mark.parametrize("change", [{"epoch": 0}, {"epoch": 2}, {"intent_id": "no-such-intent"}])
def test_a_verdict_for_another_lease_is_stale(
    store: StoreHarness, llm: messages.Peer, change: dict[str, int | str]
) -> None:
    intent = store.claimed(llm)
    assert store.tell(llm, a_verdict(intent, **change)).outcome is Outcome.STALE
    assert store.intent(intent.id) == intent


def test_a_verdict_of_another_incarnation_is_stale_even_in_the_same_slot(
    store: StoreHarness, llm: messages.Peer
) -> None:
    intent = store.claimed(llm)
    zombie = a_peer(Role.LLM, llm.slot)
    ack = store.tell(zombie, a_verdict(intent))
    assert ack.outcome is Outcome.STALE
    assert store.intent(intent.id) == intent


def test_a_failed_analysis_is_tried_again_after_a_delay_that_doubles_until_attempts_run_out(llm: messages.Peer) -> None:
    store = StoreHarness(attempts_max=3, retry_backoff_s=10.0)
    intent = store.claimed(llm)
    for attempt, wait_s in ((1, 10), (2, 20)):
        store.tell(llm, messages.AnalysisFailed(intent_id=intent.id, epoch=intent.epoch, error="boom"))
        assert store.intent(intent.id).status is Status.PENDING
        store.live(wait_s - 1, (llm, ()))
        assert store.intent(intent.id).status is Status.PENDING, f"attempt {attempt} came too early"
        store.live(2, (llm, ()))
        intent = store.intent(intent.id)
        assert (intent.status, intent.attempts, intent.epoch) == (Status.CLAIMED, attempt + 1, attempt + 1)
    store.tell(llm, messages.AnalysisFailed(intent_id=intent.id, epoch=intent.epoch, error="boom"))
    ended = store.intent(intent.id)
    assert (ended.status, ended.execution_error) == (Status.FAILED, "analysis failed 3 times: boom")


def test_a_release_costs_no_attempt_and_may_ask_for_a_delay(store: StoreHarness, llm: messages.Peer) -> None:
    intent = store.claimed(llm)
    store.tell(llm, messages.Release(intent_id=intent.id, epoch=intent.epoch, retry_after_s=5.0))
    found = store.intent(intent.id)
    assert (found.status, found.attempts, found.not_before) == (Status.PENDING, 0, "2026-11-02T06:00:05.000Z")


# ── executing ───────────────────────────────────────────────────────────────


def test_a_second_reservation_with_a_new_id_is_refused(store: StoreHarness, executor: messages.Peer) -> None:
    intent = store.reserved(executor)
    ack = store.tell(executor, store.reservation(intent, plan=store.order(intent.id).plan))
    assert (ack.outcome, ack.allowed) == (Outcome.REFUSED, ("reconcile",))
    assert store.events(intent.id).count("reserve") == 1


@pytest.mark.parametrize(("level", "until"), [("hard", None), ("soft", "2026-11-02T07:00:00.000Z")])
def test_a_reservation_is_refused_while_a_halt_stands(
    store: StoreHarness, executor: messages.Peer, level: str, until: str | None
) -> None:
    intent = store.executing(executor)
    store.tell(MONITOR, messages.RaiseHalt(level=level, reason="daily loss", until=until))
    ack = store.tell(executor, store.reservation(intent))
    assert (ack.outcome, ack.reason) == (Outcome.REFUSED, "halted: daily loss")
    assert store.read.order(intent.id) is None


def test_a_soft_halt_ends_at_its_time_in_whatever_form_it_came(store: StoreHarness, executor: messages.Peer) -> None:
    intent = store.executing(executor)
    store.tell(MONITOR, messages.RaiseHalt(level="soft", reason="cool down", until="2026-11-02T08:01:00+02:00"))
    store.clock.advance(59)
    assert store.tell(executor, store.reservation(intent)).outcome is Outcome.REFUSED
    store.clock.advance(1)
    assert store.tell(executor, store.reservation(intent)).outcome is Outcome.APPLIED


@pytest.mark.parametrize("until", [None, "", "soon", "2026-11-02T08:00:00"])
def test_a_soft_halt_without_a_time_with_a_zone_is_refused(store: StoreHarness, until: str | None) -> None:
    ack = store.tell(MONITOR, messages.RaiseHalt(level="soft", reason="x", until=until))
    assert (ack.outcome, ack.allowed) == (Outcome.REFUSED, ("raise a hard halt",))


def test_a_hard_halt_has_no_end_even_when_one_is_given(store: StoreHarness) -> None:
    store.tell(MONITOR, messages.RaiseHalt(level="hard", reason="x", until="2026-11-02T06:00:01.000Z"))
    store.clock.advance(3_600)
    assert [halt.kind for halt in store.read.halts("2026-11-02T07:00:00.000Z")] == ["hard"]


def test_the_same_halt_stands_once(store: StoreHarness) -> None:
    halt = messages.RaiseHalt(level="hard", reason="daily loss")
    assert store.tell(MONITOR, halt).outcome is Outcome.APPLIED
    assert store.tell(MONITOR, halt).outcome is Outcome.ALREADY
    assert len(store.read.halts()) == 1
    assert [event for _, _, event, _ in store.read.alerts()] == ["halt"]


def test_a_reservation_is_refused_while_another_order_is_unresolved(
    store: StoreHarness, executor: messages.Peer
) -> None:
    first = store.reserved(executor)
    other = store.ready(symbol="GBPUSD")
    taken = store.writer.decisions.mark_executing(executor, store.clock.now())
    assert taken is not None
    assert taken.id == other.id
    ack = store.tell(executor, store.reservation(taken))
    assert (ack.outcome, ack.reason) == (Outcome.REFUSED, f"the order of intent {first.id} is unresolved")


def test_a_reservation_after_the_intent_expired_is_refused(store: StoreHarness, executor: messages.Peer) -> None:
    intent = store.executing(executor, ttl_minutes=1)
    store.clock.advance(60)
    ack = store.tell(executor, store.reservation(intent))
    assert (ack.outcome, ack.allowed) == (Outcome.REFUSED, ("reject",))


KEY, MARK = "6f1c2d3e-0000-4000-8000-000000000001", "2026-11-02T06:00:01.500Z 12.345 boot"


def test_a_reservation_keeps_the_orders_key_and_the_age_of_its_figures_and_hands_both_on(
    store: StoreHarness, executor: messages.Peer
) -> None:
    intent = store.executing(executor)
    asked = store.reservation(intent, idempotency_key=KEY, figures_mark=MARK)
    assert store.tell(executor, asked).outcome is Outcome.APPLIED
    order = store.order(intent.id)
    assert (order.idempotency_key, order.figures_mark) == (KEY, MARK)


def test_a_reservation_without_a_key_has_none_and_so_have_others(store: StoreHarness, executor: messages.Peer) -> None:
    first = store.opened(executor)
    second = store.reserved(executor, symbol="GBPUSD")
    assert store.order(first.id).idempotency_key is None
    assert store.order(second.id).idempotency_key is None


def test_a_key_that_another_order_carries_is_refused(store: StoreHarness, executor: messages.Peer) -> None:
    first = store.executing(executor)
    assert store.tell(executor, store.reservation(first, idempotency_key=KEY)).outcome is Outcome.APPLIED
    assert store.tell(executor, an_opening(first)).outcome is Outcome.APPLIED
    second = store.executing(executor, symbol="GBPUSD")
    ack = store.tell(executor, store.reservation(second, idempotency_key=KEY))
    assert (ack.outcome, ack.allowed, "carries this key" in ack.reason) == (Outcome.REFUSED, ("release",), True)
    assert store.read.order(second.id) is None


@pytest.mark.parametrize("status", ["ready", "opened"])
def test_a_reservation_by_one_who_holds_nothing_is_stale(
    store: StoreHarness, executor: messages.Peer, status: str
) -> None:
    intent = store.ready() if status == "ready" else store.opened(executor)
    assert store.tell(executor, store.reservation(intent)).outcome is Outcome.STALE


def test_a_reservation_writes_plan_baseline_and_snapshot_before_it_is_acked(
    store: StoreHarness, executor: messages.Peer
) -> None:
    intent = store.executing(executor)
    asked = store.reservation(intent, baseline=("a", "b"))
    assert store.tell(executor, asked).outcome is Outcome.APPLIED
    order = store.order(intent.id)
    assert (order.status, order.plan, order.baseline) == (OrderStatus.RESERVED, asked.plan, ("a", "b"))
    assert store.intent(intent.id).compliance_snapshot == asked.compliance_snapshot
    assert store.intent(intent.id).status is Status.EXECUTING


@pytest.mark.parametrize("what", ["release", "reject"])
def test_what_was_reserved_is_neither_released_nor_rejected(
    store: StoreHarness, executor: messages.Peer, what: str
) -> None:
    intent = store.reserved(executor)
    body: messages.Command = messages.Release(intent_id=intent.id, epoch=intent.epoch)
    if what == "reject":
        body = messages.Reject(intent_id=intent.id, epoch=intent.epoch, reason="x", compliance_snapshot='{"other": 1}')
    assert store.tell(executor, body).outcome is Outcome.REFUSED
    assert store.intent(intent.id) == intent, "the refused snapshot must be rolled back, too"


@pytest.mark.parametrize("kind", ["opened", "failed", "unknown"])
def test_an_outcome_without_a_reservation_is_refused(store: StoreHarness, executor: messages.Peer, kind: str) -> None:
    intent = store.executing(executor)
    lease = {"intent_id": intent.id, "epoch": intent.epoch, "reason": "x"}
    body = {
        "opened": an_opening(intent),
        "failed": messages.OrderFailed(**lease),
        "unknown": messages.OrderUnknown(**lease),
    }[kind]
    ack = store.tell(executor, body)
    assert ack.outcome is Outcome.REFUSED
    assert "nothing is reserved" in ack.reason
    assert store.intent(intent.id) == intent


def test_a_position_of_another_intent_is_refused(store: StoreHarness, executor: messages.Peer) -> None:
    owner = store.opened(executor, "p1")
    intent = store.reserved(executor, symbol="GBPUSD")
    ack = store.tell(executor, an_opening(intent, "p1"))
    assert (ack.outcome, ack.reason) == (Outcome.REFUSED, f"position p1 belongs to intent {owner.id}")
    assert store.order(intent.id).status is OrderStatus.RESERVED


def test_a_rejected_intent_keeps_the_guards_reason_and_snapshot(store: StoreHarness, executor: messages.Peer) -> None:
    intent = store.executing(executor)
    store.tell(
        executor,
        messages.Reject(intent_id=intent.id, epoch=intent.epoch, reason="daily loss", compliance_snapshot='{"a": 1}'),
    )
    found = store.intent(intent.id)
    assert (found.status, found.execution_error, found.compliance_snapshot) == (
        Status.REJECTED,
        "daily loss",
        '{"a": 1}',
    )
    assert store.read.order(intent.id) is None


def test_an_executor_that_gives_back_unused_puts_the_intent_back(store: StoreHarness, executor: messages.Peer) -> None:
    intent = store.executing(executor)
    ack = store.tell(executor, messages.Release(intent_id=intent.id, epoch=intent.epoch, retry_after_s=60))
    assert ack.outcome is Outcome.APPLIED
    assert store.intent(intent.id).status is Status.READY_FOR_EXEC
    store.beat(executor)
    assert store.intent(intent.id).status is Status.READY_FOR_EXEC, "not before its delay"


def test_an_opened_order_ties_position_order_and_decision(store: StoreHarness, executor: messages.Peer) -> None:
    intent = store.reserved(executor)
    store.tell(executor, an_opening(intent, "p7", order_id="o7", execution_meta='{"slip": 1}'))
    found, order, decision = store.intent(intent.id), store.order(intent.id), store.read.decision(intent.id)
    assert decision is not None
    assert (found.status, found.position_id, found.claim_incarnation) == (Status.OPENED, "p7", None)
    assert (order.status, order.order_id, order.position_id) == (OrderStatus.OPENED, "o7", "p7")
    assert (decision.order_id, decision.position_id, decision.execution_meta) == ("o7", "p7", '{"slip": 1}')
    assert store.read.owned_position_ids() == {"p7"}


def test_a_position_found_in_history_is_opened_and_closed_in_one_commit(
    store: StoreHarness, executor: messages.Peer
) -> None:
    intent = store.reserved(executor)
    store.tell(executor, an_opening(intent, closed=a_result(net_profit_cents=-5_100)))
    assert store.intent(intent.id).status is Status.CLOSED
    assert store.events(intent.id)[-2:] == ["open", "close"]
    assert store.db.execute("SELECT net_profit_cents FROM decisions").get == -5_100


def test_an_order_that_does_not_exist_fails_the_intent_for_good(store: StoreHarness, executor: messages.Peer) -> None:
    intent = store.reserved(executor)
    store.tell(executor, messages.OrderFailed(intent_id=intent.id, epoch=intent.epoch, reason="refused: no money"))
    assert store.intent(intent.id).status is Status.FAILED
    assert store.order(intent.id).status is OrderStatus.FAILED
    assert store.read.unresolved_orders() == []


def test_a_lost_answer_leaves_the_intent_executing_and_an_ambiguous_one_halts(
    store: StoreHarness, executor: messages.Peer
) -> None:
    intent = store.reserved(executor)
    lease = {"intent_id": intent.id, "epoch": intent.epoch}
    store.tell(executor, messages.OrderUnknown(**lease, reason="timeout"))
    assert (store.intent(intent.id).status, store.order(intent.id).status) == (Status.EXECUTING, OrderStatus.UNKNOWN)
    assert store.read.halts() == []
    store.tell(executor, messages.OrderUnknown(**lease, reason="two match", ambiguous=True))
    assert [halt.kind for halt in store.read.halts()] == ["hard"]
    assert store.tell(executor, an_opening(intent)).outcome is Outcome.APPLIED, "a halt does not stop the finding out"


# ── closing, cancelling, upkeep ─────────────────────────────────────────────


def test_a_close_of_another_position_or_of_no_intent_is_refused(store: StoreHarness, executor: messages.Peer) -> None:
    intent = store.opened(executor, "p1")
    for intent_id, position_id in ((intent.id, "p2"), ("no-such-intent", "p1")):
        body = messages.PositionClosed(intent_id=intent_id, position_id=position_id, result=a_result())
        assert store.tell(MONITOR, body).outcome is Outcome.REFUSED
    assert store.intent(intent.id).status is Status.OPENED


def test_a_position_closes_once(store: StoreHarness, executor: messages.Peer) -> None:
    intent = store.closed(executor, "p1")
    body = messages.PositionClosed(intent_id=intent.id, position_id="p1", result=a_result(net_profit_cents=1))
    assert store.tell(MONITOR, body).outcome is Outcome.ALREADY
    assert store.db.execute("SELECT net_profit_cents, close_reason FROM decisions").fetchall() == [(9_350, "tp")]
    assert store.events(intent.id).count("close") == 1


@pytest.mark.parametrize("status", ["executing", "reserved", "opened", "closed"])
def test_the_operator_cannot_cancel_what_is_with_the_executor_or_traded(
    store: StoreHarness, executor: messages.Peer, status: str
) -> None:
    intent = getattr(store, status)(executor)
    ack = store.tell(PILOT, messages.Cancel(intent_id=intent.id, operator="me", reason="no"))
    assert ack.outcome is Outcome.REFUSED
    assert ("close" in ack.allowed) == (status == "opened")
    assert store.intent(intent.id) == intent


def test_cancelling_twice_changes_nothing(store: StoreHarness) -> None:
    intent = store.pending()
    cancel = messages.Cancel(intent_id=intent.id, operator="me", reason="no")
    assert store.tell(PILOT, cancel).outcome is Outcome.APPLIED
    assert store.tell(PILOT, cancel).outcome is Outcome.ALREADY
    assert store.intent(intent.id).execution_error == "me: no"
    assert store.events(intent.id) == ["propose", "cancel"]


def test_the_scanner_may_take_back_what_nobody_reserved(store: StoreHarness) -> None:
    intent = store.ready()
    ack = store.tell(a_peer(Role.SCANNER), messages.Invalidate(intent_id=intent.id, reason="bar corrected"))
    assert (ack.outcome, store.intent(intent.id).status) == (Outcome.APPLIED, Status.CANCELLED)


def test_what_waits_past_its_time_is_cancelled_and_what_is_executing_is_not(executor: messages.Peer) -> None:
    store = StoreHarness()
    held = store.executing(executor, symbol="GBPUSD", ttl_minutes=1)
    waiting = store.pending(ttl_minutes=1)
    store.tick(59)
    assert store.intent(waiting.id).status is Status.PENDING
    store.tick(1)
    assert store.intent(waiting.id).status is Status.CANCELLED
    assert store.intent(waiting.id).execution_error == "expired at 2026-11-02T06:01:00.000Z as pending"
    assert store.intent(held.id) == held


def test_an_expired_intent_is_given_to_nobody(store: StoreHarness, llm: messages.Peer) -> None:
    intent = store.pending(ttl_minutes=1)
    store.clock.advance(60)
    store.beat(llm)
    assert store.intent(intent.id).status is Status.PENDING


def test_the_retention_removes_only_what_ended_without_an_order(store: StoreHarness, executor: messages.Peer) -> None:
    kept = [store.opened(executor, "p1"), store.closed(executor, "p2", symbol="GBPUSD")]
    failed = store.reserved(executor, symbol="USDJPY")
    store.tell(executor, messages.OrderFailed(intent_id=failed.id, epoch=failed.epoch, reason="x"))
    gone = store.pending(symbol="USDCAD")
    store.tell(PILOT, messages.Cancel(intent_id=gone.id, operator="me", reason="no"))
    store.clock.advance(7 * 86_400 + 1)
    young = store.pending(symbol="USDCHF")
    ack = store.tell(MONITOR, messages.Sweep())
    assert "1 removed" in ack.reason
    assert {one.id for one in store.read.intents()} == {kept[0].id, kept[1].id, failed.id, young.id}
    assert store.events(gone.id) == ["propose", "cancel"], "the journal stays"


def test_old_commands_and_samples_are_pruned_and_young_ones_stay(store: StoreHarness) -> None:
    store.tell(MONITOR, messages.CountRequests(day="2026-11-02", reads=1, writes=0), "old")
    store.clock.advance(7 * 86_400 + 1)
    store.tell(MONITOR, messages.CountRequests(day="2026-11-09", reads=1, writes=0), "young")
    store.tell(MONITOR, messages.Sweep(), "sweep")
    assert [row[0] for row in store.db.execute("SELECT id FROM commands ORDER BY id")] == ["sweep", "young"]


def test_the_first_start_of_a_day_stands(store: StoreHarness) -> None:
    from tests.kit.builders import a_day

    assert store.tell(MONITOR, messages.StartDay(day=a_day())).outcome is Outcome.APPLIED
    later = messages.StartDay(day=a_day(start_balance_cents=1))
    assert store.tell(MONITOR, later).outcome is Outcome.ALREADY
    found = store.read.account_day("2026-11-02", "PAPER-1", "00:00 Europe/Athens")
    assert found is not None
    assert found.start_balance_cents == 5_000_000


def test_requests_add_up_by_day_over_actors_and_a_resend_counts_once(store: StoreHarness) -> None:
    for actor in (MONITOR, a_peer(Role.EXECUTOR)):
        envelope = an_envelope(actor, messages.CountRequests(day="2026-11-02", reads=3, writes=1))
        store.step(envelope)
        store.step(envelope)
    assert store.read.requests("2026-11-02") == (6, 2)
    assert store.read.requests("2026-11-03") == (0, 0)
