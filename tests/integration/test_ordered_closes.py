"""One position that the operator ordered closed, over a real paper broker and a real store: that one, and no other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from actors.broker.wire import Position
from actors.watch.wishes import AGAIN_S_MIN
from bus import messages
from bus.vocabulary import Outcome, Status
from tests.kit import desk, watching
from tests.kit.watching import Room


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with watching.a_room(tmp_path) as found:
        yield found


def order(room: Room, intent_id: str) -> None:
    ack = room.store.apply(desk.MONITOR, messages.Close(intent_id=intent_id, operator="ann", reason="news"))
    assert ack.outcome is Outcome.APPLIED, ack


async def open_ids(room: Room) -> set[str]:
    return {position.id for position in await room.open_positions()}


async def test_only_what_was_ordered_is_closed_once_and_its_intent_ends(room: Room) -> None:
    with room.watched() as found:
        wanted, intent_id = await room.buy_for_an_intent()
        kept, other = await room.buy_for_an_intent(volume="0.30")
        by_hand = await room.buy("0.10")
        await found.round()
        order(room, intent_id)
        granted = len(room.store.sent(messages.GrantRequests))
        await found.round()
        asked = room.store.sent(messages.GrantRequests)[granted:]
        assert asked and {one.purpose for one in asked} == {"flatten"}, asked
        await found.round()
        assert await open_ids(room) == {kept, by_hand}
        assert (found.status(intent_id), found.status(other)) == (Status.CLOSED, Status.OPENED)
        assert room.client.closes == 1
        assert found.events().count("close_done") == 1
        (told,) = room.store.sent(messages.PositionClosed)
        assert (told.position_id, told.intent_id) == (wanted, intent_id)
        assert found.halts() == []  # trading goes on


async def test_it_is_done_at_once_and_not_at_the_next_cadence(room: Room) -> None:
    with room.watched() as found:
        _, intent_id = await room.buy_for_an_intent()
        await found.round()
        room.store.slept_s.clear()
        order(room, intent_id)
        assert await found.watch._wait(found.reader) is False
        assert room.store.slept_s == []


async def test_a_position_that_only_has_its_id_is_left_and_told(room: Room) -> None:
    with room.watched() as found:
        execute = room.store.reserve()  # a BUY of EURUSD
        position_id = await room.buy()
        intent_id = room.store.opened(execute, position_id)
        order(room, intent_id)
        positions = room.client.open_positions

        async def other_side() -> tuple[object, ...]:
            return tuple(msgspec.structs.replace(one, side="SELL") for one in await positions())

        room.client.open_positions = other_side  # type: ignore[method-assign, assignment]
        await found.round()
        await found.round()
        assert room.client.closes == 0 and position_id in await open_ids(room)
        assert found.events().count("close_failed") == 1


async def test_a_close_that_fails_is_told_once_and_tried_again_later(room: Room) -> None:
    with room.watched() as found:
        _, intent_id = await room.buy_for_an_intent()
        await found.round()
        order(room, intent_id)
        room.client.close_fails = 2
        await found.round()
        assert found.status(intent_id) == Status.OPENED
        assert found.interval_s() <= 1.0
        await found.round()  # too early for another try
        assert room.client.closes == 1
        for ahead_s in (2.0, 5.0):
            room.clock.ahead_s = ahead_s
            await found.round()
        assert found.status(intent_id) == Status.CLOSED
        assert (room.client.closes, found.events().count("close_failed")) == (3, 1)


@pytest.mark.parametrize("point", ["monitor.before_close", "monitor.after_close"])
async def test_a_monitor_that_dies_over_it_is_succeeded_by_one_that_goes_on(
    room: Room, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException):
        pass

    def die(name: str) -> bool:
        if name == point:
            raise Died
        return False

    _, intent_id = await room.buy_for_an_intent()
    kept, _ = await room.buy_for_an_intent(volume="0.30")
    order(room, intent_id)
    with room.watched() as found:
        with monkeypatch.context() as patch:
            patch.setattr("actors.watch.flattening.reach", die)
            with pytest.raises(BaseExceptionGroup):
                await found.round()
    with room.watched() as successor:
        await successor.round()
        assert successor.status(intent_id) == Status.CLOSED
        assert await open_ids(room) == {kept}
        assert room.client.closes == 1


async def test_what_its_stop_closed_first_is_not_closed_again(room: Room) -> None:
    with room.watched() as found:
        position_id, intent_id = await room.buy_for_an_intent()
        order(room, intent_id)
        room.close(position_id)
        await found.round()
        assert (room.client.closes, found.status(intent_id)) == (0, Status.CLOSED)


async def test_a_flatten_takes_it_over(room: Room) -> None:
    with room.watched() as found:
        _, intent_id = await room.buy_for_an_intent()
        await room.buy_for_an_intent(volume="0.30")
        order(room, intent_id)
        room.client.close_fails = 1
        await found.round()
        assert found.interval_s() <= 1.0
        halt = messages.RaiseHalt(level="hard", reason="flatten: operator op: test", flatten=True)
        room.store.apply(desk.MONITOR, halt)
        room.client.close_fails = 2
        await found.round()
        assert room.client.closes == 1 + 2  # each once a round, however many want it closed
        room.clock.ahead_s = 3.0
        for _ in range(3):
            await found.round()
        assert await open_ids(room) == set()
        assert room.client.closes == 1 + 4
        assert found.interval_s() >= 60.0  # what the ordered close had wished for is over


async def slow_close_fails(room: Room, found: watching.Watched) -> None:
    """Order a close that fails only after the next try would have been due: it is due at once."""
    _, intent_id = await room.buy_for_an_intent()
    await found.round()
    order(room, intent_id)
    close = room.client.close_position

    async def slow(position: Position) -> None:
        room.clock.ahead_s += 10.0
        await close(position)

    room.client.close_position = slow  # type: ignore[method-assign]
    room.client.close_fails = 1
    await found.round()
    room.client.close_position = close  # type: ignore[method-assign]
    assert room.client.closes == 1


async def test_a_try_that_is_due_already_does_not_make_the_poll_spin(room: Room) -> None:
    with room.watched() as found:
        await slow_close_fails(room, found)
        assert found.interval_s() == AGAIN_S_MIN


async def test_a_broker_that_is_away_is_not_asked_for_the_sake_of_an_earlier_look(room: Room) -> None:
    with room.watched() as found:
        await slow_close_fails(room, found)
        room.client.is_down = True
        assert await found.waits(8) == [1, 2, 4, 8, 16, 30, 30, 30]
