"""Flattening an account on which orders wait for their price: cancelled once a look, read back, closed when filled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors.broker.wire import PendingRequest
from bus import messages
from tests.kit import desk, waiting, watching
from tests.kit.compliance import D
from tests.kit.waiting import WaitingRoom
from tests.kit.watching import Room, Watched

FLATTEN = messages.RaiseHalt(level="hard", reason="flatten: operator op: test", flatten=True)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[WaitingRoom]:
    async with waiting.a_room(tmp_path) as found:
        yield found


async def rounds(found: Watched, count: int = 3) -> None:
    for _ in range(count):
        await found.round()


def flat(room: Room) -> bool:
    """Return whether people were told that the account is flat."""
    return any("the account is flat" in report.text for report in room.store.sent(messages.Report))


# ── what must not be concluded ──────────────────────────────────────────────


async def test_waiting_order_that_stays_is_not_flat_and_is_tried_again_with_a_pause(room: WaitingRoom) -> None:
    with room.watched() as found:
        room.broker.wait("o1")
        room.broker.on_cancel = ["ignore"] * 4
        room.store.apply(desk.MONITOR, FLATTEN)
        pauses = []
        for _ in range(4):
            await found.round()
            pauses.append(found.interval_s())
        assert (room.broker.cancels, pauses) == (["o1"] * 4, [1, 2, 4, 8])  # once a look
        assert not flat(room)
        assert "0 positions are still open, 1 orders wait" in room.store.sent(messages.Report)[-1].text
        await rounds(found)
        assert flat(room)


async def test_waiting_order_is_cancelled_once_a_look_also_when_positions_are_closed_in_it(room: WaitingRoom) -> None:
    with room.watched() as found:
        room.broker.open("p1")
        room.broker.wait("o1")
        room.broker.on_cancel = ["ignore"] * 2
        room.store.apply(desk.MONITOR, FLATTEN)
        await found.round()
        assert (room.broker.cancels, room.broker.positions) == (["o1"], {})


async def test_orders_that_cannot_be_read_hold_up_no_close_and_are_not_flat(room: WaitingRoom) -> None:
    with room.watched() as found:
        room.broker.open("p1")
        room.broker.hides_orders = True
        room.store.apply(desk.MONITOR, FLATTEN)
        await rounds(found, 4)
        assert (room.broker.positions, flat(room)) == ({}, False)
        assert "is not known" in room.store.sent(messages.Report)[-1].text
        assert found.interval_s() <= 30.0
        room.broker.hides_orders = False
        await rounds(found)
        assert flat(room)


async def test_cancel_without_an_answer_is_looked_at_and_not_sent_again_when_it_is_done(room: WaitingRoom) -> None:
    with room.watched() as found:
        room.broker.wait("o1")
        room.broker.on_cancel = ["lose"]
        room.store.apply(desk.MONITOR, FLATTEN)
        await rounds(found, 4)
        assert (room.broker.cancels, flat(room)) == (["o1"], True)


async def test_cancel_that_was_lost_on_its_way_is_sent_again_after_a_look(room: WaitingRoom) -> None:
    with room.watched() as found:
        room.broker.wait("o1")
        room.broker.on_cancel = ["drop"]
        room.store.apply(desk.MONITOR, FLATTEN)
        await rounds(found, 4)
        assert (room.broker.cancels, room.broker.orders) == (["o1", "o1"], {})


# ── what must be done ───────────────────────────────────────────────────────


async def test_order_that_was_filled_instead_of_cancelled_is_closed_in_the_same_look(room: WaitingRoom) -> None:
    with room.watched() as found:
        room.broker.wait("o1")
        room.broker.wait("o2")
        room.broker.on_cancel = ["fill", "ok"]
        room.store.apply(desk.MONITOR, FLATTEN)
        await found.round()
        assert (room.broker.orders, room.broker.positions) == ({}, {})
        await rounds(found)
        assert flat(room)
        assert "Cancelled 2 waiting orders. Closed 1 positions" in room.store.sent(messages.Report)[-1].text


async def test_order_that_is_filled_while_positions_are_closed_is_closed_by_the_next_look(room: WaitingRoom) -> None:
    with room.watched() as found:
        room.broker.open("p1")
        room.broker.wait("o1")
        room.broker.on_cancel = ["ignore"]
        room.broker.fills_on_close = ["o1"]
        room.store.apply(desk.MONITOR, FLATTEN)
        await found.round()
        assert list(room.broker.positions) == ["o1"]
        assert found.interval_s() == 1.0
        await found.round()
        assert room.broker.positions == {}


async def test_order_that_appears_while_the_halt_stands_is_cancelled(room: WaitingRoom) -> None:
    with room.watched() as found:
        room.store.apply(desk.MONITOR, FLATTEN)
        await rounds(found)
        assert flat(room)
        room.broker.wait("o1")
        await found.round()
        assert room.broker.orders == {}


async def test_without_a_flattening_halt_waiting_orders_are_left_alone(room: WaitingRoom) -> None:
    with room.watched() as found:
        room.broker.wait("o1")
        await rounds(found)
        assert (list(room.broker.orders), room.broker.cancels) == (["o1"], [])


async def test_paper_broker_is_flat_once_its_waiting_orders_are_cancelled(tmp_path: Path) -> None:
    async with watching.a_room(tmp_path) as room:
        order = PendingRequest(
            broker_symbol="EURUSD.", kind="LIMIT", side="BUY", volume=D("0.10"), activation_price=D("1.05000"),
            sl_price=D("1.04000"), tp_price=D(0),
        )  # fmt: skip
        async with room.broker.client() as owner:
            await owner.balance()
            await owner.create_pending(order)
            assert len(await owner.pending_orders()) == 1
        with room.watched() as found:
            await room.buy()
            room.store.apply(desk.MONITOR, FLATTEN)
            await rounds(found)
            assert flat(room)
            assert (await room.client.pending_orders(), await room.open_positions()) == ((), ())
