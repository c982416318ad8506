"""Positions that no intent owns, over a real paper broker and a real store: what must not be done to them first."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors.broker.errors import NotSent
from actors.broker.wire import OpenRequest, Position
from bus import messages
from bus.vocabulary import OrderStatus, Status
from tests.kit import desk, execution, watching
from tests.kit.compliance import D, a_plan
from tests.kit.watching import Room, Watched

QUIET_S = 60.0
POLICIES = ("adopt", "close")
acting = pytest.mark.parametrize("policy", POLICIES)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with watching.a_room(tmp_path) as found:
        yield found


async def rounds(found: Watched, count: int = 3) -> None:
    for _ in range(count):
        await found.round()


async def untouched(room: Room, found: Watched, position_id: str) -> bool:
    """Return whether a position is open and nobody's after some more looks."""
    await rounds(found)
    is_open = any(one.id == position_id for one in await room.open_positions())
    return is_open and position_id not in found.reader.owned_position_ids()


def owner(found: Watched, position_id: str) -> str:
    (intent_id,) = [one.id for one in found.reader.intents() if one.position_id == position_id]
    return intent_id


# ── what must not be done ───────────────────────────────────────────────────


@acting
async def test_nothing_is_done_on_the_word_of_a_single_look(room: Room, policy: str) -> None:
    with room.watched(orphans=policy) as found:
        position_id = await room.buy()
        await found.round()
        assert found.interval_s() == 15.0
        assert [one.id for one in await room.open_positions()] == [position_id]
        assert found.reader.intents() == []
        room.client.hides_positions = True
        await found.round()
        room.client.hides_positions = False
        await found.round()  # seen again: that is the first look of two
        assert [one.id for one in await room.open_positions()] == [position_id]
        assert found.reader.intents() == []


@acting
async def test_position_whose_opening_is_still_being_recorded_is_no_orphan(room: Room, policy: str) -> None:
    with room.watched(orphans=policy) as found:
        execute = room.store.reserve()
        position_id = await room.buy()
        await rounds(found, 4)
        assert found.events() == []
        intent_id = room.store.opened(execute, position_id)
        room.clock.ahead_s += QUIET_S + 1
        await rounds(found, 4)
        assert (found.events(), found.status(intent_id)) == ([], Status.OPENED)
        assert [one.id for one in await room.open_positions()] == [position_id]
        assert room.client.closes == 0


@acting
async def test_nothing_is_done_while_an_order_is_unresolved_that_cannot_even_be_the_positions(
    room: Room, policy: str
) -> None:
    with room.watched(orphans=policy) as found:
        position_id = await room.buy()
        execute = room.store.reserve(a_plan(side="SELL", sl_price=D("1.2"), tp_price=D("0.9")))
        assert await untouched(room, found, position_id)
        room.clock.ahead_s += 10 * QUIET_S
        assert await untouched(room, found, position_id)
        assert found.interval_s() == 60.0  # an order may stay unresolved for hours
        failed = messages.OrderFailed(intent_id=execute.intent.id, epoch=execute.epoch, reason="absent")
        room.store.apply(desk.EXECUTOR, failed)
        assert await untouched(room, found, position_id)  # a quiet period begins with the change
        room.clock.ahead_s += QUIET_S - 20
        assert await untouched(room, found, position_id)
        room.clock.ahead_s += 21
        await found.round()
        assert (room.client.closes, len(found.reader.active_positions())) == ((1, 0) if policy == "close" else (0, 1))


@acting
async def test_quiet_period_begins_with_the_monitor_when_there_were_orders(room: Room, policy: str) -> None:
    _, intent_id = await room.buy_for_an_intent()
    by_hand = await room.buy(volume="0.20", sl="0.80000")
    with room.watched(orphans=policy) as found:
        assert await untouched(room, found, by_hand)
        room.clock.ahead_s = QUIET_S + 1
        await found.round()
        assert by_hand in found.reader.owned_position_ids() or room.client.closes == 1
        assert found.status(intent_id) == Status.OPENED


@acting
@pytest.mark.parametrize(("volume", "sl", "halts"), [("1.00", "1.09750", True), ("0.40", "1.09700", False)])
async def test_position_like_a_failed_order_is_left_to_the_operator(
    room: Room, policy: str, volume: str, sl: str, halts: bool
) -> None:
    with room.watched(orphans=policy) as found:
        plan = a_plan(volume=D("1.00"), sl_price=D("1.09750"), tp_price=D("1.90000"))
        execute = room.store.reserve(plan)
        failed = messages.OrderFailed(intent_id=execute.intent.id, epoch=execute.epoch, reason="absent")
        room.store.apply(desk.EXECUTOR, failed)
        position_id = await room.buy(volume=volume, sl=sl)
        await found.round()
        room.clock.ahead_s = QUIET_S + 1
        assert await untouched(room, found, position_id)
        assert room.client.closes == 0
        assert [key.partition(" ")[0] for _, key in found.halts()] == ["belied_order"] * halts
        assert found.events().count("orphan_left") == (not halts)


async def test_position_without_a_stop_is_told_and_not_adopted_until_it_has_one(room: Room) -> None:
    with room.watched(orphans="adopt") as found:
        position_id = await room.buy(sl="0")
        await rounds(found, 4)
        assert found.events() == ["orphan_position", "orphan_left"]
        assert found.interval_s() == 60.0  # what lasts is not paid for with looks
        assert "has no stop" in room.store.sent(messages.Report)[-1].text
        async with room.broker.client() as client:
            (position,) = await client.open_positions()
            await client.edit_position(position, D("1.09000"), D(0))
        room.clock.ahead_s = 1_000.0
        await rounds(found, 2)
        assert found.status(owner(found, position_id)) == Status.OPENED


async def test_store_that_is_away_leaves_the_position_to_a_later_look(room: Room) -> None:
    with room.watched(orphans="adopt") as found:
        await room.buy()
        await found.round()
        tell = found.watch._tell
        whole_tell = tell.tell

        async def lost(command: messages.Command) -> bool:
            return False if isinstance(command, messages.Adopt) else await whole_tell(command)

        tell.tell = lost  # type: ignore[method-assign]
        await rounds(found, 2)
        assert found.reader.active_positions() == []
        tell.tell = whole_tell  # type: ignore[method-assign]
        room.clock.ahead_s = 40.0
        await found.round()
        assert len(found.reader.active_positions()) == 1


async def test_close_that_fails_is_tried_again_later_and_later_and_told_once(room: Room) -> None:
    with room.watched(orphans="close") as found:
        await room.buy()
        await found.round()
        room.client.close_fails = 3
        for wait_s in (30.0, 60.0, 120.0):
            before = room.client.closes
            await found.round()
            assert room.client.closes == before + 1
            await rounds(found, 3)
            assert room.client.closes == before + 1  # not blindly with every look
            room.clock.ahead_s += wait_s + 0.1
        assert found.events() == ["orphan_position", "orphan_left"]
        await found.round()
        assert await room.open_positions() == ()
        assert found.events()[-1] == "orphan_closed"


async def test_close_whose_answer_was_lost_is_looked_at_and_not_sent_twice(room: Room) -> None:
    with room.watched(orphans="close") as found:
        await room.buy()
        await found.round()
        await room.broker.fault("lose_answer_reset", on="close")
        await rounds(found, 3)
        assert (room.client.closes, await room.open_positions()) == (1, ())
        assert found.events() == ["orphan_position", "orphan_closed"]


async def test_reading_only_closes_nothing_and_says_so(room: Room) -> None:
    with room.watched(orphans="close") as found:
        await room.buy()
        await found.round()

        async def refused(position: Position) -> None:
            raise NotSent("POST /position/close: PILOT_READONLY is set")

        room.client.close_position = refused  # type: ignore[method-assign]
        await found.round()
        assert len(await room.open_positions()) == 1
        assert found.events() == ["orphan_position", "orphan_left"]


# ── what must be done ───────────────────────────────────────────────────────


@pytest.mark.parametrize("policy", ["alert", *POLICIES])
async def test_position_is_told_once_in_its_life_whatever_restarts(room: Room, policy: str) -> None:
    position_id = await room.buy(sl="0" if policy == "adopt" else "0.90000")
    for _ in range(3):
        with room.watched(orphans=policy) as found:
            await found.round()
            told = [text for _, _, event, text in found.reader.alerts() if event == "orphan_position"]
    assert len(told) == 1
    assert told[0].startswith(f"Position {position_id} belongs to no intent: BUY 1.00 EURUSD")
    assert told[0].endswith(f"policy: {policy}")


async def test_alert_leaves_it_alone(room: Room) -> None:
    with room.watched() as found:
        position_id = await room.buy()
        assert await untouched(room, found, position_id)
        assert (found.events(), found.halts()) == (["orphan_position"], [])


async def test_adopted_position_is_followed_to_its_close_and_its_profit_is_recorded(room: Room) -> None:
    with room.watched(orphans="adopt") as found:
        position_id = await room.buy(tp="1.11000")
        await rounds(found, 2)
        intent_id = owner(found, position_id)
        order = found.reader.order(intent_id)
        assert order is not None
        plan = order.plan
        assert (plan.side, plan.volume, plan.sl_price, plan.tp_price) == ("BUY", D("1.00"), D("0.9"), D("1.11"))
        assert (order.status, plan.entry_price) == (OrderStatus.OPENED, D("1.10010"))
        assert plan.loss_cents > 2_001_000  # 2,001 pips, gap, spread and commission beside
        await rounds(found, 2)
        assert len(room.store.sent(messages.Adopt)) == 1
        room.price("1.11000")
        await found.round()
        decision = found.reader.decision(intent_id)
        assert decision is not None
        assert (found.status(intent_id), decision.net_profit_cents) == (Status.CLOSED, 99_000 - 500)
        told = [event for _, _, event, _ in found.reader.alerts()]
        assert told == ["position_closed", "orphan_adopted", "orphan_position"]


async def test_second_position_like_an_adopted_one_belies_nothing(room: Room) -> None:
    with room.watched(orphans="adopt") as found:
        await room.buy()
        await rounds(found, 2)
        await room.buy()
        room.clock.ahead_s = QUIET_S + 1
        await rounds(found, 2)
        room.clock.ahead_s = 2 * QUIET_S + 2
        await found.round()
        assert (found.halts(), len(found.reader.active_positions())) == ([], 2)


async def test_flattening_closes_what_would_be_adopted(room: Room) -> None:
    with room.watched(orphans="adopt") as found:
        await room.buy()
        await found.round()
        halt = messages.RaiseHalt(level="hard", reason="flatten: operator op: test", flatten=True)
        room.store.apply(desk.MONITOR, halt)
        room.client.close_fails = 1
        await rounds(found, 3)
        assert await room.open_positions() == ()
        assert found.reader.intents() == []


async def test_monitor_that_died_after_the_close_is_followed_by_one_that_finds_it_done(room: Room) -> None:
    with room.watched(orphans="close") as found:
        await room.buy()
        await found.round()
        close = room.client.close_position

        async def close_and_die(position: Position) -> None:
            await close(position)
            raise KeyboardInterrupt

        room.client.close_position = close_and_die  # type: ignore[method-assign]
        with contextlib.suppress(KeyboardInterrupt):
            await found.round()
        room.client.close_position = close  # type: ignore[method-assign]
    with room.watched(orphans="close") as successor:
        await rounds(successor, 3)
        assert (room.client.closes, await room.open_positions()) == (1, ())
        assert [event for _, _, event, _ in successor.reader.alerts()] == ["orphan_position"]


# ── the gate counts them ────────────────────────────────────────────────────


async def by_hand(bench: execution.Bench, volume: str, *, sl_pips: int) -> str:
    """Open a position beside the pipeline with a client of its own; return its id. 0 pips: no stop."""
    async with bench.broker.client() as client:
        quote = (await client.quotes(["EURUSD"]))["EURUSD"]
        sl = round(quote.bid - D(sl_pips) / 10_000, 5) if sl_pips else D(0)
        order = OpenRequest(broker_symbol="EURUSD.", side="BUY", volume=D(volume), sl_price=sl, tp_price=D(0))
        return await client.open_position(order)


def adopt(bench: execution.Bench, position_id: str, volume: str) -> None:
    plan = a_plan(volume=D(volume), loss_cents=1, profit_cents=0)
    command = messages.Adopt(position_id=position_id, plan=plan, opened_at="2026-02-16T09:00:00Z", reason="test")
    assert bench.store.apply(desk.MONITOR, command).outcome == "applied"


@pytest.mark.parametrize("is_adopted", [False, True])
@pytest.mark.parametrize(("volume", "status"), [("0.10", "opened"), ("3.80", "rejected")])
async def test_position_by_hand_uses_up_the_room_of_the_gate(
    tmp_path: Path, volume: str, status: str, is_adopted: bool
) -> None:
    async with execution.a_bench(tmp_path) as bench:
        position_id = await by_hand(bench, volume, sl_pips=50)  # 3.80 lots can lose some $2,000 of the day's $2,125
        if is_adopted:
            adopt(bench, position_id, volume)
        work = await bench.place(symbol="GBPUSD")
        assert bench.status(work) == status, bench.reason(work)
        assert status == "opened" or "drawdown" in bench.reason(work)


async def test_position_by_hand_without_a_stop_refuses_every_order(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        await by_hand(bench, "0.01", sl_pips=0)
        work = await bench.place(symbol="GBPUSD")
        assert (bench.status(work), "stop" in bench.reason(work)) == ("rejected", True), bench.reason(work)
