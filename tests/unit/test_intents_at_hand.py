"""Intents that the store's writer has at hand: always what is written, never what was taken back, never many.

After every step the harness itself compares all of them with their rows, here and in every other test of the writer.
"""

from __future__ import annotations

import apsw
import pytest

from bus.records import TradeIntent
from bus.vocabulary import Role, Status
from store import at_hand as limits
from store.at_hand import AtHand
from store.decisions import DecisionStore, Refused
from tests.kit import builders
from tests.kit.store import StoreHarness, a_verdict, an_opening

LLM, EXECUTOR = builders.a_peer(Role.LLM), builders.a_peer(Role.EXECUTOR)


def at_hand(store: StoreHarness) -> AtHand:
    return store.writer.decisions.at_hand


def read_anew(store: StoreHarness, monkeypatch: pytest.MonkeyPatch, intent: TradeIntent) -> list[str]:
    """Return the ids that are read from the database while `intent` is asked for."""
    asked: list[str] = []
    read = store.writer.read.intent

    def counted(intent_id: str) -> TradeIntent | None:
        asked.append(intent_id)
        return read(intent_id)

    monkeypatch.setattr(store.writer.read, "intent", counted)
    assert at_hand(store).get(intent.id) == read(intent.id)
    return asked


def test_second_arrow_that_is_refused_takes_the_first_one_back(monkeypatch: pytest.MonkeyPatch) -> None:
    store = StoreHarness()
    intent = store.reserved(EXECUTOR)

    def refused(*_: object) -> Status:
        raise Refused("not now")

    monkeypatch.setattr(DecisionStore, "mark_closed", refused)
    assert store.tell(EXECUTOR, an_opening(intent, closed=builders.a_result())).outcome == "refused"
    monkeypatch.undo()
    found = at_hand(store).get(intent.id)
    assert found is not None
    assert (found.status, found.position_id) == (Status.EXECUTING, None)
    assert store.tell(EXECUTOR, an_opening(intent)).outcome == "applied"


def test_batch_that_is_not_committed_is_forgotten() -> None:
    store = StoreHarness()
    intent = store.claimed(LLM)
    store.db.set_commit_hook(lambda: True)
    with pytest.raises(apsw.ConstraintError):
        store.tell(LLM, a_verdict(intent))
    store.db.set_commit_hook(None)
    assert at_hand(store).get(intent.id) == intent
    assert store.tell(LLM, a_verdict(intent)).outcome == "applied"


def test_new_life_of_the_store_knows_what_is_written_and_no_more() -> None:
    store = StoreHarness()
    intent = store.claimed(LLM)
    store.restart()
    assert at_hand(store).get(intent.id) == intent
    assert at_hand(store).get("0" * 16) is None


def test_arrow_judged_by_what_is_no_longer_written_is_refused() -> None:
    store = StoreHarness()
    intent = store.pending()
    store.db.execute("UPDATE intents SET status = 'cancelled' WHERE id = ?", (intent.id,))
    at_hand(store).keep(intent)
    with pytest.raises(Refused, match="no longer pending"):
        store.writer.decisions.mark_cancelled(intent, "by hand", LLM, store.clock.now())


def test_next_arrow_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    store = StoreHarness()
    intent = store.executing(EXECUTOR)
    assert read_anew(store, monkeypatch, intent) == []


def test_ended_intent_and_one_with_long_papers_are_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    store = StoreHarness()
    ended = store.closed(EXECUTOR)
    assert read_anew(store, monkeypatch, ended) == [ended.id]
    long = store.claimed(LLM, bar_time="another")
    decision = a_verdict(long, risk_report="x" * (limits.PAPER_CHARS_MAX + 1))
    assert store.tell(LLM, decision).outcome == "applied"
    assert read_anew(store, monkeypatch, store.intent(long.id)) == [long.id]


def test_no_more_are_kept_than_the_limit_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEPT_MAX", 2)
    store = StoreHarness()
    first, second, third = (store.pending(bar_time=f"bar {number}") for number in range(3))
    assert read_anew(store, monkeypatch, second) == []
    assert read_anew(store, monkeypatch, third) == []
    assert read_anew(store, monkeypatch, first) == [first.id]
