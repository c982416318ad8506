"""Why something was traded or not, as the records say it: every way in which an intent waits or ends."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.console import why
from actors.console.why import Why
from bus import messages
from bus.messages import Peer
from bus.records import TradeIntent
from bus.vocabulary import Role
from config.settings import Settings
from tests.kit.builders import a_peer, a_propose
from tests.kit.compliance import the_rules
from tests.kit.store import StoreHarness, a_verdict, an_opening

LLM, EXECUTOR = a_peer(Role.LLM), a_peer(Role.EXECUTOR)
PILOT, SCANNER = a_peer(Role.PILOT), a_peer(Role.SCANNER)
SETTINGS = Settings(profile="test")
GUARD = (
    '{"passed": false, "rule": "spread", "reason": "too wide", "checks": ['
    '{"name": "session", "passed": true, "limit": "open", "found": "open", "text": "the market is open"},'
    '{"name": "spread", "passed": false, "limit": "2.0", "found": "9.5", "text": "the spread is 9.5 pips"},'
    '{"name": "best_day", "passed": false, "limit": "136000", "found": "146786", "text": "too much"}]}'
)


@pytest.fixture
def store() -> StoreHarness:
    return StoreHarness()


def of(store: StoreHarness, intent_id: str) -> Why:
    return why.of_intent(store.read, store.intent(intent_id), settings=SETTINGS, now=store.clock.now())


def of_symbol(store: StoreHarness, symbol: str = "EURUSD", **changes: Any) -> Why:
    settings = msgspec.structs.replace(SETTINGS, **changes)
    return why.of_symbol(store.read, symbol, settings=settings, rules=the_rules(), now=store.clock.now())


def facts(found: Why) -> dict[str, str]:
    return {fact.name: fact.value for fact in found.facts}


def live(store: StoreHarness, *peers: Peer, capacity: int = 0) -> None:
    """Have processes be known to live, with no room for work."""
    for peer in peers:
        store.beat(peer, capacity=capacity)
    store.tick()


# ── no intent ───────────────────────────────────────────────────────────────


def test_a_pair_that_is_not_traded_here(store: StoreHarness) -> None:
    found = of_symbol(store, "USDSEK")
    assert (found.verdict, found.intent_id) == ("no_intent", None)
    assert "USDSEK is not among the settings' symbols" in found.said


def test_nothing_was_proposed_and_nobody_could(store: StoreHarness) -> None:
    assert "proposed nothing today and is not running" in of_symbol(store).said


def test_the_scanner_runs_and_said_why_not(store: StoreHarness) -> None:
    live(store, SCANNER)
    assert "runs and proposed nothing today" in of_symbol(store).said
    store.tell(SCANNER, messages.Report(level="error", event="scan_failed", text="no bars for GBPJPY"))
    found = of_symbol(store)
    assert "reported: no bars for GBPJPY" in found.said
    assert "scan_failed" in facts(found)["scanner said"]


def test_other_pairs_were_proposed_instead(store: StoreHarness) -> None:
    store.tell(SCANNER, a_propose(symbol="GBPUSD"))
    assert "the scanner proposed GBPUSD instead" in of_symbol(store).said


def test_an_intent_of_yesterday_is_not_todays(store: StoreHarness) -> None:
    intent = store.pending(trade_date="2026-11-01")
    store.tell(PILOT, messages.Cancel(intent_id=intent.id, operator="ann", reason="no"))
    assert of_symbol(store).verdict == "cancelled"  # made today
    store.clock.advance(86_400)
    found = of_symbol(store)
    assert found.verdict == "no_intent" and intent.id in facts(found)["last intent"]


def test_a_day_is_the_firms_and_begins_at_its_reset(store: StoreHarness) -> None:
    store.clock.advance(15.5 * 3_600)  # 21:30 UTC of the 2nd, 23:30 in Athens
    intent = store.pending(trade_date="2026-11-01")
    store.tell(PILOT, messages.Cancel(intent_id=intent.id, operator="ann", reason="no"))
    assert of_symbol(store).verdict == "cancelled"
    store.clock.advance(3_600)  # the same day in UTC, the next one in Athens
    found = of_symbol(store)
    assert found.verdict == "no_intent"
    assert "today, 2026-11-03 (00:00 Europe/Athens)" in found.said


# ── waiting ─────────────────────────────────────────────────────────────────


def test_pending_without_an_analyst(store: StoreHarness) -> None:
    found = of(store, store.pending().id)
    assert (found.verdict, "no analyst is running" in found.said) == ("pending", True)


def test_pending_behind_others_while_all_are_busy(store: StoreHarness) -> None:
    live(store, LLM)
    first = store.pending()
    store.clock.advance(1)
    found = of(store, store.pending(symbol="GBPUSD").id)
    assert "every analyst is busy; 1 older intent waits before it" in found.said
    assert first.id[:8] in facts(found)["before it"]


def test_pending_after_a_try_that_failed(store: StoreHarness) -> None:
    intent = store.claimed(LLM)
    store.tell(LLM, messages.AnalysisFailed(intent_id=intent.id, epoch=intent.epoch, error="endpoint is away"))
    store.tick()
    found = of(store, intent.id)
    assert "the last try failed, it is tried again after" in found.said and "endpoint is away" in found.said


def test_claimed_by_a_worker_that_fell_silent(store: StoreHarness) -> None:
    intent = store.claimed(LLM)
    store.tick()
    assert "is with llm.1 since" in of(store, intent.id).said and "not heard" not in of(store, intent.id).said
    store.clock.advance(20)
    assert "not heard of lately" in of(store, intent.id).said


def test_ready_and_halted(store: StoreHarness) -> None:
    intent = store.ready()
    store.tell(PILOT, messages.Pause(operator="ann", reason="holiday"))
    found = of(store, intent.id)
    assert (found.verdict, "trading is halted: operator: ann: holiday" in found.said) == ("ready", True)
    assert "holiday" in facts(found)["halt 1"] and facts(found)["expires"] == intent.expires_at


def test_ready_without_an_executor_and_given_back(store: StoreHarness) -> None:
    intent = store.ready()
    assert "no executor is running" in of(store, intent.id).said
    store.beat(EXECUTOR)
    taken = store.intent(intent.id)
    body = messages.Release(intent_id=intent.id, epoch=taken.epoch, reason="the market is closed", retry_after_s=600)
    store.tell(EXECUTOR, body)
    live(store, EXECUTOR)
    said = of(store, intent.id).said
    assert "the executor gave it back and looks again after" in said and "the market is closed" in said


def test_ready_behind_an_order_that_is_not_settled(store: StoreHarness) -> None:
    reserved = store.reserved(EXECUTOR)
    found = of(store, store.ready(symbol="GBPUSD").id)
    assert f"the order of intent {reserved.id} is not settled" in found.said


def test_executing_reserved_and_unknown(store: StoreHarness) -> None:
    intent = store.executing(EXECUTOR)
    assert "nothing was sent yet" in of(store, intent.id).said
    store.tell(EXECUTOR, store.reservation(intent))
    assert of(store, intent.id).verdict == "executing" and "is under way" in of(store, intent.id).said
    store.tell(EXECUTOR, messages.OrderUnknown(intent_id=intent.id, epoch=intent.epoch, reason="timeout"))
    found = of(store, intent.id)
    assert (found.verdict, "was lost: timeout" in found.said) == ("unresolved", True)


# ── ended ───────────────────────────────────────────────────────────────────


def test_held_with_the_analysts_reason(store: StoreHarness) -> None:
    intent = store.claimed(LLM)
    store.tell(LLM, a_verdict(intent, side="HOLD", sl_pips=None, tp_pips=None, reason="no trend"))
    found = of_symbol(store)
    assert (found.verdict, "no trend" in found.said) == ("held", True)


def test_rejected_with_the_failing_checks_and_their_figures(store: StoreHarness) -> None:
    intent = store.executing(EXECUTOR)
    body = messages.Reject(
        intent_id=intent.id, epoch=intent.epoch, reason="spread: too wide", compliance_snapshot=GUARD
    )
    store.tell(EXECUTOR, body)
    found = of(store, intent.id)
    assert (
        found.verdict == "rejected"
        and found.said == "The gate refused EURUSD BUY: spread: too wide (spread, best_day)."
    )
    assert facts(found)["check spread"] == "found 9.5, limit 2.0: the spread is 9.5 pips"
    assert facts(found)["check best_day"] == "found 1,467.86, limit 1,360.00: too much"
    assert "check session" not in facts(found)


def test_rejected_with_papers_that_cannot_be_read(store: StoreHarness) -> None:
    intent = store.executing(EXECUTOR)
    store.tell(EXECUTOR, messages.Reject(intent_id=intent.id, epoch=intent.epoch, reason="x", compliance_snapshot="{"))
    assert of(store, intent.id).said == "The gate refused EURUSD BUY: x."


def test_expired_says_what_it_waited_for(store: StoreHarness) -> None:
    intent = store.ready()
    store.tell(PILOT, messages.Pause(operator="ann", reason="holiday"))
    store.tick(241 * 60)
    store.tell(PILOT, messages.Resume(operator="ann", reason="back"))
    found = of(store, intent.id)
    assert found.verdict == "expired"
    assert "meanwhile trading was halted: operator: ann: holiday" in found.said


def test_cancelled_by_the_operator(store: StoreHarness) -> None:
    intent = store.pending()
    store.tell(PILOT, messages.Cancel(intent_id=intent.id, operator="ann", reason="news"))
    found = of(store, intent.id)
    assert (found.verdict, found.said) == ("cancelled", f"EURUSD was taken back by {PILOT.name}: ann: news.")


def test_failed_with_its_reason(store: StoreHarness) -> None:
    intent = store.reserved(EXECUTOR)
    store.tell(EXECUTOR, messages.OrderFailed(intent_id=intent.id, epoch=intent.epoch, reason="not enough money"))
    found = of(store, intent.id)
    assert (found.verdict, "no position was opened: not enough money" in found.said) == ("failed", True)


def test_opened_ordered_closed_and_closed(store: StoreHarness) -> None:
    intent: TradeIntent = store.reserved(EXECUTOR)
    store.tell(EXECUTOR, an_opening(intent, "p1"))
    found = of_symbol(store)
    assert (found.verdict, "as position p1" in found.said) == ("opened", True)
    assert "50.00 at risk" in facts(found)["order"]
    store.tell(PILOT, messages.Close(intent_id=intent.id, operator="ann", reason="news"))
    assert "operator ann ordered it closed: news" in of(store, intent.id).said
    assert facts(of(store, intent.id))["close ordered"].endswith("Z by ann: news")
    result = messages.PositionResult(
        closed_at="2026-11-02T09:00:00.000Z", net_profit_cents=-1_205, close_price="1.1", reason="sl"
    )
    store.tell(a_peer(Role.MONITOR), messages.PositionClosed(intent_id=intent.id, position_id="p1", result=result))
    found = of(store, intent.id)
    assert (found.verdict, facts(found)["net profit"]) == ("closed", "-12.05")
    assert (
        "closed at 2026-11-02T09:00:00.000Z by sl, net -12.05; operator ann had ordered it closed: news." in found.said
    )
    assert facts(found)["close ordered"].endswith("Z by ann: news")


def test_text_from_outside_stays_one_clean_line(store: StoreHarness) -> None:
    intent = store.claimed(LLM)
    evil = "no\x1b[31m trend\n2026-11-02 forged line\u202e"
    store.tell(LLM, a_verdict(intent, side="HOLD", sl_pips=None, tp_pips=None, reason=evil))
    found = of(store, intent.id)
    assert not any(sign in one for one in (found.said, *facts(found).values()) for sign in ("\x1b", "\n", "\u202e"))
