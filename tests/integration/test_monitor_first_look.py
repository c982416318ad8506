"""The first look of a monitor that has just been started: by the days that the store knows, history afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest

from actors.broker.errors import BudgetSpent, Transient, Unauthorised
from actors.broker.wire import ClosedPosition
from actors.compliance import rulebook
from actors.watch.poll import FAILED_AGAIN_S
from bus import messages
from bus.messages import Peer
from bus.vocabulary import Role
from tests.kit import watching
from tests.kit.watching import Room


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with watching.a_room(tmp_path) as found:
        yield found


async def test_limit_that_is_passed_waits_for_no_history(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    closes_before: list[int] = []

    async def never_answers(since: datetime, until: datetime) -> tuple[ClosedPosition, ...]:
        closes_before.append(room.client.closes)
        raise Transient("POST /closed-positions: timeout")

    monkeypatch.setattr(room.client, "closed_positions", never_answers)
    with room.watched() as found:
        await room.buy_for_an_intent(volume="5.00")
        room.start_days(found.rules, 5_000_000)
        room.price("1.09550")
        await found.round()
        assert found.flattens() == ["daily_drawdown"]
        assert await room.open_positions() == ()
        assert closes_before == [1]  # only what asks how the position ended


async def test_token_of_another_account_closes_nothing_and_is_told(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    async def another() -> None:
        raise Unauthorised("broker.account_id 'PAPER-1' is not among the accounts of this token: ACC-2")

    monkeypatch.setattr(room.client, "needs_login", False)
    monkeypatch.setattr(room.client, "login", another)
    with room.watched() as found:
        await room.buy()
        room.store.apply(Peer(Role.PILOT, 1, "eeeeeeeeeeee"), messages.Flatten(operator="ann", reason="out"))
        await found.round()
        await found.round()
        assert (room.client.looks, room.client.closes, found.events()) == (0, 0, ["broker_login"])


async def test_history_is_read_with_a_second_look_at_once_and_then_no_more(room: Room) -> None:
    with room.watched() as found:
        await room.buy_for_an_intent()
        room.start_days(found.rules, 5_000_000)
        await found.round()
        assert (room.client.histories, found.interval_s()) == (0, 0.0)
        assert len(room.store.sent(messages.SampleEquity)) == 1
        await found.round()
        assert room.client.histories == 1
        assert found.interval_s() > 1.0
        await found.round()
        assert room.client.histories == 1


async def test_first_look_that_fails_is_followed_by_one_with_the_history(room: Room) -> None:
    with room.watched() as found:
        room.start_days(found.rules, 5_000_000)
        room.client.balance_is_down = True
        await found.round()
        room.client.balance_is_down = False
        await found.round()
        await found.round()
        assert room.client.histories == 1


async def test_broker_that_fails_after_the_first_look_is_not_asked_without_a_pause(room: Room) -> None:
    with room.watched() as found:
        room.start_days(found.rules, 5_000_000)
        await found.round()
        assert found.interval_s() == 0.0
        room.client.is_down = True
        await found.round()
        assert found.interval_s() == FAILED_AGAIN_S


async def test_requests_that_are_refused_after_the_first_look_are_not_asked_for_without_a_pause(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object) -> None:
        raise BudgetSpent("no requests left for work", 3_600.0, is_refused=True)

    with room.watched() as found:
        room.start_days(found.rules, 5_000_000)
        await found.round()
        monkeypatch.setattr(room.allowance, "ensure", refused)
        await found.round()
        assert found.interval_s() > FAILED_AGAIN_S


async def test_days_that_the_store_does_not_know_are_read_before_anything_is_judged(room: Room) -> None:
    with room.watched() as found:
        await room.buy_for_an_intent()
        await found.round()
        assert room.client.histories == 1
        assert found.interval_s() > 0.0


async def test_maximum_that_trails_is_not_judged_without_the_history(tmp_path: Path) -> None:
    path = watching.trailing_rules(tmp_path)
    async with watching.a_room(tmp_path, rules_file=path) as room:
        rules = rulebook.load(str(path))
        with room.watched(rules) as first:
            await first.round()  # it finds the days and the mark
        with room.watched(rules) as second:
            asked = room.client.histories
            await second.round()
            assert room.client.histories == asked + 1
