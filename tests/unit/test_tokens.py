"""Tokens and money of the analysts' calls: what the store reserves, settles, refuses and never forgets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus import messages
from bus.messages import Ack, Peer
from bus.vocabulary import Outcome, Role
from config import dollars
from config.settings import Llm
from tests.kit.builders import a_peer
from tests.kit.store import StoreHarness

LLM = a_peer(Role.LLM)
OTHER = a_peer(Role.LLM, 2)
TODAY = "2026-11-02"


def a_store(**limits: Any) -> StoreHarness:
    return StoreHarness(llm=Llm(**limits))


def reserve(
    store: StoreHarness, tokens: int, micros: int = 0, *, day: str = TODAY, by: Peer = LLM, id: str | None = None
) -> Ack:
    body = messages.ReserveTokens(day=day, endpoint="llm", tokens=tokens, cost_micros=micros)
    return store.tell(by, body, id)


def settle(store: StoreHarness, reserved: tuple[int, int], used: tuple[int, int], *, by: Peer = LLM) -> Ack:
    body = messages.SettleTokens(
        day=TODAY, endpoint="llm", reserved_tokens=reserved[0], reserved_micros=reserved[1],
        tokens=used[0], cost_micros=used[1],
    )  # fmt: skip
    return store.tell(by, body)


def alerts(store: StoreHarness) -> list[str]:
    return [text for _, _, event, text in store.read.alerts() if event == "llm_budget"]


# ── refusals ────────────────────────────────────────────────────────────────


def test_a_call_that_does_not_fit_into_the_days_tokens_is_refused_whoever_asks() -> None:
    store = a_store(day_tokens_max=1_000)
    assert reserve(store, 600).outcome is Outcome.APPLIED
    for by in (LLM, OTHER):
        ack = reserve(store, 401, by=by)
        assert ack.outcome is Outcome.REFUSED and "budget of 1000 tokens is used up: 600" in ack.reason
    assert reserve(store, 400, by=OTHER).outcome is Outcome.APPLIED
    assert reserve(store, 1).outcome is Outcome.REFUSED


def test_a_call_that_does_not_fit_into_the_days_money_is_refused() -> None:
    store = a_store(day_cost_max="0.01")
    assert reserve(store, 10**9, 10_000).outcome is Outcome.APPLIED
    ack = reserve(store, 0, 1)
    assert ack.outcome is Outcome.REFUSED and "$0.01 is used up: $0.0100" in ack.reason and "$0.0001" in ack.reason


@pytest.mark.parametrize("limits", [{"day_tokens_max": 0}, {"day_cost_max": "0"}])
def test_a_budget_of_zero_lets_no_call_through(limits: dict[str, Any]) -> None:
    assert reserve(a_store(**limits), 1, 1).outcome is Outcome.REFUSED


def test_without_a_limit_everything_is_counted_and_nothing_refused() -> None:
    store = a_store()
    assert reserve(store, 10**9, 10**9).outcome is Outcome.APPLIED
    assert store.read.llm_day(TODAY).reserved_tokens == 10**9


@pytest.mark.parametrize("day", ["2026-11-01", "2026-11-03", "2020-01-01"])
def test_a_day_that_is_not_todays_is_refused(day: str) -> None:
    ack = reserve(a_store(), 1, day=day)
    assert ack.outcome is Outcome.REFUSED and ack.allowed == (TODAY,)


def test_around_midnight_both_days_are_taken_and_a_new_day_begins_at_nothing() -> None:
    store = a_store(day_tokens_max=100)
    reserve(store, 100)
    store.clock.advance(18 * 3_600 - 30)  # 23:59:30
    assert reserve(store, 1, day="2026-11-03").outcome is Outcome.APPLIED
    store.clock.advance(60)
    assert reserve(store, 1).outcome is Outcome.REFUSED, "yesterday's budget is still used up"
    assert "budget" in reserve(store, 1).reason
    assert reserve(store, 99, day="2026-11-03").outcome is Outcome.APPLIED
    store.clock.advance(60)
    assert "is not the day in UTC" in reserve(store, 1).reason


def test_people_are_told_of_the_first_refusal_of_a_day_only() -> None:
    store = a_store(day_tokens_max=10)
    for _ in range(3):
        reserve(store, 11)
        reserve(store, 11, by=OTHER)
    assert len(alerts(store)) == 1 and "no trades until tomorrow" in alerts(store)[0]
    store.restart()
    reserve(store, 11)
    assert len(alerts(store)) == 1
    assert store.read.llm_day(TODAY).refusals == 7
    store.clock.advance(86_400)
    reserve(store, 11, day="2026-11-03")
    assert len(alerts(store)) == 2


# ── settling ────────────────────────────────────────────────────────────────


def test_a_settled_call_counts_what_it_did_cost() -> None:
    store = a_store(day_tokens_max=1_000)
    reserve(store, 1_000, 50)
    assert settle(store, (1_000, 50), (300, 12)).outcome is Outcome.APPLIED
    found = store.read.llm_day(TODAY)
    assert (found.calls, found.tokens, found.cost_micros, found.reserved_tokens, found.reserved_micros) == (
        1, 300, 12, 0, 0,
    )  # fmt: skip
    assert reserve(store, 700).outcome is Outcome.APPLIED
    assert reserve(store, 1).outcome is Outcome.REFUSED


def test_a_call_that_cost_more_than_was_reserved_counts_in_full() -> None:
    store = a_store(day_tokens_max=1_000)
    reserve(store, 100)
    settle(store, (100, 0), (5_000, 0))
    assert store.read.llm_day(TODAY).tokens == 5_000
    assert reserve(store, 1).outcome is Outcome.REFUSED


def test_what_a_dead_process_reserved_stays_counted_and_nobody_else_can_settle_it() -> None:
    store = a_store(day_tokens_max=1_000)
    reserve(store, 1_000)
    store.tell(a_peer(Role.SUPERVISOR), messages.ChildExited(peer=LLM, status="signal 9"))
    store.restart()
    assert settle(store, (1_000, 0), (0, 0), by=OTHER).outcome is Outcome.REFUSED
    successor = Peer(Role.LLM, LLM.slot, "00000000beef")
    assert settle(store, (1_000, 0), (0, 0), by=successor).outcome is Outcome.REFUSED
    assert reserve(store, 1, by=successor).outcome is Outcome.REFUSED


@pytest.mark.parametrize("reserved", [(101, 0), (0, 11), (10**9, 10**9)])
def test_more_than_was_reserved_cannot_be_settled(reserved: tuple[int, int]) -> None:
    store = a_store()
    reserve(store, 100, 10)
    before = store.read.llm_day(TODAY)
    ack = settle(store, reserved, (1, 1))
    assert ack.outcome is Outcome.REFUSED and "100 and 10 reserved" in ack.reason
    assert store.read.llm_day(TODAY) == before


def test_a_resent_reservation_counts_once() -> None:
    store = a_store()
    for _ in range(3):
        assert reserve(store, 100, id="r-1").outcome is Outcome.APPLIED
        store.restart()
    assert (store.read.llm_day(TODAY).calls, store.read.llm_day(TODAY).reserved_tokens) == (1, 100)


calls = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 600), st.booleans(), st.booleans()), max_size=30)


@settings(max_examples=40, deadline=None)
@given(calls)
def test_the_count_is_never_below_what_was_spent_and_the_reserved_never_above_the_limit(
    made: list[tuple[int, int, bool, bool]],
) -> None:
    store = a_store(day_tokens_max=1_000)
    spent = 0
    for asked, used, dies, is_other in made:
        by = OTHER if is_other else LLM
        before = store.read.llm_day(TODAY)
        if reserve(store, asked, by=by).outcome is not Outcome.APPLIED:
            assert before.tokens + before.reserved_tokens + asked > 1_000
            continue
        assert before.tokens + before.reserved_tokens + asked <= 1_000
        used = min(used, asked)
        spent += used
        if not dies:
            settle(store, (asked, 0), (used, 0), by=by)
        found = store.read.llm_day(TODAY)
        assert spent <= found.tokens + found.reserved_tokens <= 1_000


# ── money ───────────────────────────────────────────────────────────────────


def test_a_cost_is_exact_and_rounded_up_to_a_millionth() -> None:
    assert dollars.cost_micros("0.15", "0.60", 1, 0) == 1
    assert dollars.cost_micros("0.15", "0.60", 1_000_000, 1_000_000) == 750_000
    assert dollars.cost_micros("3", None, 10, 10) == 30
    assert dollars.cost_micros(None, None, 10**9, 10**9) == 0
    assert (dollars.micros("12.345678"), dollars.text(1), dollars.text(1_023_401)) == (12_345_678, "0.0001", "1.0235")
