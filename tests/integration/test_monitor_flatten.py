"""Closing everything, over a real paper broker and a real store: in spite of errors, restarts and late positions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from actors.compliance import rulebook
from bus import messages
from bus.clock import iso
from bus.vocabulary import Status
from tests.kit import desk, watching
from tests.kit.compliance import a_balance, the_rules
from tests.kit.watching import NOON, Room, Watched, with_changes


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with watching.a_room(tmp_path) as found:
        yield found


def order_flat(room: Room) -> None:
    """Have the operator order everything closed."""
    room.store.apply(desk.MONITOR, messages.RaiseHalt(level="hard", reason="flatten: operator op: test", flatten=True))


async def rounds(found: Watched, count: int = 3) -> None:
    for _ in range(count):
        await found.round()


# ── what must not happen ────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (a_balance(0), "allowed: above 0"),
        (a_balance(5_000_000, equity_cents=-1), "allowed: above 0"),
        (a_balance(5_000_000, currency="EUR"), "account in USD"),
        (a_balance(2_400_000), "another account"),
    ],
)
async def test_figures_that_cannot_be_ours_halt_and_close_nothing(room: Room, said: object, why: str) -> None:
    with room.watched() as found:
        await room.buy_for_an_intent()
        room.client.said = said  # type: ignore[assignment]
        await rounds(found)
        assert found.halts() == [("hard", "account")]
        assert why in found.reader.halts()[0].reason
        assert len(await room.open_positions()) == 1
        assert room.store.sent(messages.SampleEquity) == []


async def test_halt_without_flatten_closes_nothing(room: Room) -> None:
    with room.watched() as found:
        await room.buy_for_an_intent()
        room.store.apply(desk.MONITOR, messages.RaiseHalt(level="hard", reason="operator: op: pause"))
        await rounds(found)
        assert len(await room.open_positions()) == 1


async def test_flatten_halt_that_was_lifted_or_has_passed_closes_nothing(room: Room) -> None:
    with room.watched() as found:
        order_flat(room)
        room.store.lift_halts()
        until = "2026-02-18T12:30:00.000Z"
        room.store.apply(desk.MONITOR, messages.RaiseHalt(level="soft", reason="flat: x", until=until, flatten=True))
        room.clock.ahead_s = 1_900.0
        await room.buy_for_an_intent()
        await rounds(found)
        assert len(await room.open_positions()) == 1


# ── what must happen ────────────────────────────────────────────────────────


async def test_operator_orders_it_and_it_is_done_and_told_once(room: Room) -> None:
    with room.watched() as found:
        _, first = await room.buy_for_an_intent()
        _, second = await room.buy_for_an_intent(volume="0.30")
        await found.round()
        order_flat(room)
        await rounds(found, 4)
        assert await room.open_positions() == ()
        assert (found.status(first), found.status(second)) == (Status.CLOSED, Status.CLOSED)
        assert found.events().count("flattened") == 1
        assert room.client.closes == 2
        assert found.flattens() == ["flatten"]  # it stands until the operator lifts it


async def test_halt_is_in_the_store_before_the_first_close(room: Room) -> None:
    with room.watched() as found:
        await room.buy_for_an_intent(volume="5.00")
        await found.round()
        stands: list[bool] = []
        close = room.client.close_position

        async def look_and_close(position: object) -> None:
            stands.append(bool(found.flattens()))
            await close(position)  # type: ignore[arg-type]

        room.client.close_position = look_and_close  # type: ignore[method-assign]
        room.price("1.09550")
        await found.round()
        assert stands == [True]


async def test_new_monitor_goes_on_where_the_last_one_died(room: Room) -> None:
    with room.watched() as found:
        await room.buy_for_an_intent()
        await found.round()
        order_flat(room)
        room.client.close_fails = 1
        await found.round()
        assert len(await room.open_positions()) == 1
    with room.watched() as successor:
        await successor.round()
        assert await room.open_positions() == ()


async def test_position_that_appears_later_is_closed_while_the_halt_stands(room: Room) -> None:
    with room.watched() as found:
        order_flat(room)
        await rounds(found)
        await room.buy()
        await found.round()
        assert await room.open_positions() == ()
        assert found.interval_s() <= 2.0  # looked at again: one empty look is not enough


async def test_unknown_order_is_looked_for_until_it_is_settled(room: Room) -> None:
    with room.watched() as found:
        execute = room.store.reserve()
        order_flat(room)
        await rounds(found, 5)
        assert 2.0 < found.interval_s() <= 30.0
        assert "an order may still become a position" in room.store.sent(messages.Report)[-1].text
        await room.buy()  # it arrives after all
        await found.round()
        assert await room.open_positions() == ()
        failed = messages.OrderFailed(intent_id=execute.intent.id, epoch=execute.epoch, reason="absent")
        room.store.apply(desk.EXECUTOR, failed)
        await rounds(found, 3)
        assert found.interval_s() > 30.0
        assert "flat" in room.store.sent(messages.Report)[-1].text


async def test_one_empty_look_is_not_believed(room: Room) -> None:
    with room.watched() as found:
        await room.buy_for_an_intent()
        order_flat(room)
        room.client.hides_positions = True
        await found.round()
        room.client.hides_positions = False
        assert found.interval_s() <= 2.0
        assert found.events().count("flattened") == 0
        await found.round()
        assert await room.open_positions() == ()


async def test_position_that_does_not_close_holds_up_no_other(room: Room) -> None:
    with room.watched() as found:
        for _ in range(3):
            await room.buy_for_an_intent(volume="0.10")
        order_flat(room)
        room.client.close_fails = 1
        await found.round()
        assert len(await room.open_positions()) == 1
        assert found.interval_s() == 1.0
        room.client.close_fails = 1
        await found.round()
        assert found.interval_s() == 2.0
        await found.round()
        assert await room.open_positions() == ()


async def test_balance_that_cannot_be_read_holds_up_no_closing(room: Room) -> None:
    with room.watched() as found:
        await room.buy_for_an_intent()
        order_flat(room)
        room.client.balance_is_down = True
        await found.round()
        assert await room.open_positions() == ()


async def test_history_that_cannot_be_read_holds_up_no_level(room: Room) -> None:
    with room.watched() as found:
        await room.buy_for_an_intent(volume="5.00")
        by_hand = await room.buy(volume="0.10")
        await found.round()
        room.client.history_is_down = True
        room.close(by_hand)  # now the balance is not explained by what is known
        room.price("1.09550")
        await found.round()
        assert await room.open_positions() == ()
        assert found.flattens() == ["daily_drawdown"]


async def test_broker_that_is_away_is_asked_again_within_half_a_minute_for_as_long_as_it_takes(room: Room) -> None:
    with room.watched() as found:
        await room.buy_for_an_intent()
        await found.round()
        order_flat(room)
        room.client.close_fails = 1
        await found.round()
        assert found.interval_s() == 1.0  # by then it is over, and must not outlive the outage
        room.client.is_down = True
        assert await found.waits(8) == [1, 2, 4, 8, 16, 30, 30, 30]
        room.client.is_down = False
        await found.round()
        assert await room.open_positions() == ()


async def test_store_that_is_away_is_told_the_halt_as_soon_as_it_is_back(room: Room) -> None:
    with room.watched() as found:
        await room.buy_for_an_intent(volume="5.00")
        await found.round()
        room.price("1.09550")
        room.store.is_away = True
        await found.round()
        assert await room.open_positions() == ()
        assert found.halts() == []
        room.store.is_away = False
        await found.round()
        assert found.flattens() == ["daily_drawdown"]


async def test_day_whose_breach_ends_the_account_halts_for_good(room: Room) -> None:
    rules = with_changes(the_rules(), daily={"kind": "hard"})
    with room.watched(rules) as found:
        await room.buy_for_an_intent(volume="5.00")
        await found.round()
        room.price("1.09580")
        await found.round()
        assert found.halts() == [("soft", "daily_drawdown")]
        room.price("1.09550")
        await found.round()
        assert ("hard", "daily_drawdown") in found.halts()
        assert await room.open_positions() == ()


async def test_rule_set_that_was_edited_while_running_halts(room: Room) -> None:
    rules = msgspec.structs.replace(the_rules(), fingerprint="0" * 64)
    with room.watched(rules) as found:
        await found.round()
        await found.round()
        assert found.halts() == [("hard", "rules")]
        assert len(room.store.sent(messages.RaiseHalt)) == 1


async def test_levels_of_every_reading_of_the_day_count_and_the_later_reset_ends_the_pause(tmp_path: Path) -> None:
    # America has summer time already, Europe not yet: the readings are an hour apart.
    async with watching.a_room(tmp_path, at=datetime(2026, 3, 18, 12, 0, tzinfo=UTC)) as room:
        with room.watched() as found:
            await room.buy_for_an_intent(volume="5.00")
            await found.round()
            days = found.reader.account_days("PAPER-1")
            assert {(day.reset, day.ends_at) for day in days} == {
                ("00:00 Europe/Athens", "2026-03-18T22:00:00.000Z"),
                ("17:00 America/New_York", "2026-03-18T21:00:00.000Z"),
            }
            # A pause that ends with the earlier reset does not do for the later one.
            sooner = messages.RaiseHalt(level="soft", reason="daily_drawdown: x", until="2026-03-18T21:00:00.000Z")
            room.store.apply(desk.MONITOR, sooner)
            room.price("1.09580")
            await found.round()
            halt = found.reader.halts()[-1]
            assert halt.until == "2026-03-18T22:00:00.000Z"
            assert found.events().count("daily_stop") == 1


# ── by the clock ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("flat", "closing", "until"),
    [
        # 23:00 in Athens is 21:00 UTC in February; Friday is the 20th.
        ({"daily_by": "23:00", "reopen_at": "00:15"}, datetime(2026, 2, 18, 20, 50, tzinfo=UTC), "2026-02-18T22:15"),
        ({"friday_by": "22:00", "reopen_at": "00:15"}, datetime(2026, 2, 20, 19, 50, tzinfo=UTC), "2026-02-22T22:15"),
    ],
)
async def test_everything_is_closed_ten_minutes_before_no_position_may_be_open(
    tmp_path: Path, flat: dict[str, str], closing: datetime, until: str
) -> None:
    rules = with_changes(the_rules(), flat=flat)
    async with watching.a_room(tmp_path, at=closing - timedelta(seconds=30)) as room:
        with room.watched(rules) as found:
            await room.buy_for_an_intent()
            await found.round()
            assert (found.halts(), len(await room.open_positions())) == ([], 1)
            assert 0 < found.interval_s() <= 30  # however far the next poll would be
            room.clock.ahead_s = 31.0
            await found.round()
            assert await room.open_positions() == ()
            (halt,) = found.reader.halts()
            assert (halt.kind, halt.flatten, str(halt.until)[:16]) == ("soft", True, until)
            assert found.halts() == [("soft", "flat_by")]
            room.store.lift_halts()
            await found.round()
            assert found.halts() == [("soft", "flat_by")]


async def test_rules_without_a_flat_time_close_nothing_on_a_friday(tmp_path: Path) -> None:
    async with watching.a_room(tmp_path, at=datetime(2026, 2, 20, 21, 55, tzinfo=UTC)) as room:
        with room.watched() as found:
            await room.buy_for_an_intent()
            await found.round()
            assert (found.halts(), len(await room.open_positions())) == ([], 1)


# ── what a trailing maximum is counted from ─────────────────────────────────


async def test_highest_equity_is_told_when_it_rises_and_once_a_minute(tmp_path: Path) -> None:
    path = watching.trailing_rules(tmp_path)
    async with watching.a_room(tmp_path, rules_file=path) as room:
        with room.watched(rulebook.load(str(path))) as found:
            await found.round()
            assert found.reader.account_marks("PAPER-1")[0].value_cents == 5_000_000
            told = len(room.store.sent(messages.RaiseMarks))
            await room.buy_for_an_intent()
            await found.round()
            assert len(room.store.sent(messages.RaiseMarks)) == told  # nothing rose, and no minute has passed
            room.price("1.10310")
            await found.round()
            (mark,) = found.reader.account_marks("PAPER-1")
            assert mark.value_cents == 5_000_000 + 29_500  # 30 pips, less $5 of commission
            room.price("1.10000")
            await found.round()
            sent = len(room.store.sent(messages.RaiseMarks))
            room.clock.ahead_s = 61.0
            await found.round()
            assert len(room.store.sent(messages.RaiseMarks)) == sent + 1
            (later,) = found.reader.account_marks("PAPER-1")
            assert (later.value_cents, later.known_until > mark.known_until) == (mark.value_cents, True)


async def test_highest_balance_between_two_looks_is_found_although_the_balance_is_the_same_again(
    tmp_path: Path,
) -> None:
    path = watching.trailing_rules(tmp_path, "trailing_closed")
    async with watching.a_room(tmp_path, rules_file=path) as room:
        rules = rulebook.load(str(path))
        with room.watched(rules) as found:
            await rounds(found, 2)
            for bid, at_s in (("1.10500", 100.0), ("1.10030", 200.0)):  # by hand: $970 gained, then lost
                position_id = await room.buy("2.00")
                room.price(bid)
                room.clock.ahead_s = at_s
                room.close(position_id)
            for at_s in (300.0, 361.0, 422.0, 683.0):
                room.clock.ahead_s = at_s
                await found.round()
            balance = await room.client.balance()
            (mark,) = found.reader.account_marks("PAPER-1")
            assert (balance.balance_cents, mark.value_cents) == (5_000_000, 5_000_000)
            assert mark.known_until < iso(NOON + timedelta(seconds=100)), "not known beyond the history that was read"
        with room.watched(rules) as successor:
            await rounds(successor, 2)
            assert successor.reader.account_marks("PAPER-1")[0].value_cents == 5_097_000
