"""A wall clock that is set back: what waits, waits no longer than it was meant to, and lives no longer either."""

from __future__ import annotations

from datetime import timedelta

import apsw
import pytest

from bus import messages
from bus.clock import parse
from bus.records import TradeIntent
from bus.vocabulary import Role, Status
from store import wallclock
from tests.kit.builders import a_peer
from tests.kit.store import StoreHarness

AHEAD_S = 5 * 3_600
WAIT_S = 60.0
EXECUTOR = a_peer(Role.EXECUTOR)


@pytest.fixture
def store() -> StoreHarness:
    found = StoreHarness()
    found.tick()
    return found


def given_back(store: StoreHarness) -> TradeIntent:
    """Return an intent that its executor gave back for a minute."""
    intent = store.executing(EXECUTOR)
    release = messages.Release(intent_id=intent.id, epoch=intent.epoch, reason="busy", retry_after_s=WAIT_S)
    assert store.tell(EXECUTOR, release).outcome == "applied"
    return store.intent(intent.id)


def test_what_was_made_to_wait_under_a_clock_ahead_is_taken_when_its_wait_is_over(store: StoreHarness) -> None:
    store.clock.jump(AHEAD_S)
    intent = given_back(store)
    store.clock.jump(-AHEAD_S)
    store.live(WAIT_S - 2, (EXECUTOR, ()))
    assert store.intent(intent.id).status == Status.READY_FOR_EXEC
    store.live(3, (EXECUTOR, ()))
    assert store.intent(intent.id).status == Status.EXECUTING


def test_what_was_proposed_under_a_clock_ahead_expires_after_its_own_time(store: StoreHarness) -> None:
    store.clock.jump(AHEAD_S)
    intent = store.pending()
    life = parse(intent.expires_at or "") - store.clock.now()
    store.clock.jump(-AHEAD_S)
    store.tick()
    assert parse(store.intent(intent.id).expires_at or "") - store.clock.now() == life
    store.tick(life.total_seconds())
    assert store.intent(intent.id).status == Status.CANCELLED


def test_clock_that_was_set_back_while_the_store_was_down_is_noticed_by_the_next_one(store: StoreHarness) -> None:
    store.clock.jump(AHEAD_S)
    intent = given_back(store)
    store.tick()
    store.clock.jump(-AHEAD_S)
    store.restart()
    store.tick()
    assert parse(store.intent(intent.id).not_before or "") - store.clock.now() <= timedelta(seconds=WAIT_S)


def test_it_is_dealt_with_once_and_told(store: StoreHarness) -> None:
    intent = given_back(store)
    before = parse(intent.not_before or "")
    store.clock.jump(-AHEAD_S)
    for _ in range(3):
        store.tick(1)
    store.restart()
    store.tick(1)
    assert parse(store.intent(intent.id).not_before or "") == before - timedelta(seconds=AHEAD_S)
    told = [text for _, _, event, text in store.read.alerts() if event == "clock"]
    assert told == [f"the wall clock went back by {AHEAD_S} s: 1 waiting intents moved with it"]


def test_what_was_not_committed_is_done_again(store: StoreHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    intent = given_back(store)
    before = parse(intent.not_before or "")
    store.clock.jump(-AHEAD_S)

    def full() -> None:
        raise apsw.FullError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(store.writer, "_assign", full)
        with pytest.raises(apsw.FullError):
            store.tick()
    assert parse(store.intent(intent.id).not_before or "") == before
    store.tick()
    assert parse(store.intent(intent.id).not_before or "") == before - timedelta(seconds=AHEAD_S)


@pytest.mark.parametrize("jump_s", [AHEAD_S, 10.0, -wallclock.BACK_S_MIN + 0.5])
def test_clock_set_forward_or_trimmed_moves_nothing(store: StoreHarness, jump_s: float) -> None:
    store.clock.jump(-2 * AHEAD_S)  # so that nothing expires by the jump
    store.tick()
    intent = given_back(store)
    store.clock.jump(jump_s)
    store.tick()
    found = store.intent(intent.id)
    assert (found.not_before, found.expires_at) == (intent.not_before, intent.expires_at)


def test_what_has_ended_keeps_its_times(store: StoreHarness) -> None:
    intent = store.opened(EXECUTOR)
    store.clock.jump(-AHEAD_S)
    store.tick()
    assert store.intent(intent.id).expires_at == intent.expires_at
