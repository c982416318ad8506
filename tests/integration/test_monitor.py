"""The monitor's watch over a real paper broker and a real store: what it refuses to conclude, and what it must do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from actors.broker.errors import Transient
from actors.broker.wire import Position
from actors.compliance.day import firm_days
from actors.watch.poll import FAILED_AGAIN_S
from bus import messages
from bus.clock import iso
from bus.messages import Peer
from bus.records import AccountDay
from bus.vocabulary import Role, Status
from tests.kit import desk, watching
from tests.kit.compliance import the_rules
from tests.kit.desk import Shifted
from tests.kit.eventually import eventually_async
from tests.kit.watching import NOON, Room, Watched


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with watching.a_room(tmp_path) as found:
        yield found


# ── what must not be concluded ──────────────────────────────────────────────


async def test_position_in_neither_list_is_looked_for_and_told_after_two_minutes(room: Room) -> None:
    with room.watched() as found:
        position_id, intent_id = await room.buy_for_an_intent()
        await found.round()
        room.close(position_id)
        room.client.hides_rows = True
        await found.round()
        assert (found.status(intent_id), found.events()) == (Status.OPENED, [])
        assert found.interval_s() == 15.0
        room.clock.ahead_s = 119.0
        await found.round()
        assert found.events() == []
        room.clock.ahead_s = 121.0
        await found.round()
        await found.round()
        assert found.events() == ["position_missing"]
        assert found.status(intent_id) == Status.OPENED
        room.client.hides_rows = False
        await found.round()
        assert found.status(intent_id) == Status.CLOSED


async def test_part_that_was_closed_is_no_end_while_a_list_omits_the_rest(room: Room) -> None:
    with room.watched() as found:
        position_id, intent_id = await room.buy_for_an_intent()
        await found.round()
        async with room.broker.client() as client:
            (position,) = await client.open_positions()
            await client.close_partially(position, position.volume / 2)
        await found.round()
        room.client.hides_positions = True
        await found.round()
        assert found.status(intent_id) == Status.OPENED
        room.client.hides_positions = False
        room.close(position_id)
        await found.round()
        assert found.status(intent_id) == Status.CLOSED


async def test_open_position_of_a_closed_intent_halts_on_the_second_look(room: Room) -> None:
    with room.watched() as found:
        position_id, intent_id = await room.buy_for_an_intent()
        result = messages.PositionResult(
            closed_at=iso(room.clock.now()), net_profit_cents=-1, close_price="1.1", reason="MANUAL"
        )
        room.store.apply(
            desk.MONITOR, messages.PositionClosed(intent_id=intent_id, position_id=position_id, result=result)
        )
        await found.round()
        assert (found.halts(), found.interval_s()) == ([], 15.0)
        room.client.hides_positions = True  # the list was older than the end
        await found.round()
        room.client.hides_positions = False
        await found.round()
        assert found.halts() == []
        await found.round()
        assert found.halts() == [("hard", f"belied_close {position_id}")]
        assert intent_id in found.reader.halts()[0].reason
        assert [one.id for one in await room.open_positions()] == [position_id], "the operator's to close"


async def test_login_of_a_start_that_failed_is_a_poll_that_failed_and_is_not_tried_twice_in_a_row(room: Room) -> None:
    async def fail() -> bool:
        raise Transient("POST /manager/mtr-login: connection refused")

    with room.watched() as found:
        _, intent_id = await room.buy_for_an_intent()
        found.watch._entry = asyncio.create_task(fail())
        before = room.client.looks
        await found.round()
        assert (found.watch.polls, room.client.looks) == (0, before), "nothing was asked after it"
        assert found.interval_s() == FAILED_AGAIN_S
        await found.round()
        assert (found.watch.polls, room.client.looks) == (1, before + 1)
        assert found.status(intent_id) == Status.OPENED


async def test_first_poll_waits_for_the_login_that_is_under_way(room: Room) -> None:
    let_in = asyncio.Event()
    with room.watched() as found:
        found.watch._entry = asyncio.create_task(let_in.wait())
        before, poll = room.client.looks, asyncio.create_task(found.round())
        await asyncio.wait((poll,), timeout=0.1)
        assert (poll.done(), room.client.looks) == (False, before)
        let_in.set()
        await poll
        assert (found.watch.polls, room.client.looks) == (1, before + 1)


async def test_broker_that_does_not_answer_is_not_an_empty_account(room: Room) -> None:
    with room.watched() as found:
        _, intent_id = await room.buy_for_an_intent()
        await found.round()
        samples = len(room.store.sent(messages.SampleEquity))
        room.client.is_down = True
        for _ in range(4):
            await found.round()
        assert found.events() == ["broker_unreachable"]
        assert len(room.store.sent(messages.SampleEquity)) == samples
        assert found.status(intent_id) == Status.OPENED
        assert found.interval_s() == 8.0
        room.client.is_down = False
        await found.round()
        assert found.watch.polls == 2
        assert found.interval_s() == 60.0


async def test_a_row_that_is_awaited_does_not_hasten_the_polls_of_a_broker_that_is_away(room: Room) -> None:
    with room.watched() as found:
        position_id, _ = await room.buy_for_an_intent()
        await found.round()
        await found.round()
        room.close(position_id)
        room.client.hides_rows = True
        await found.round()
        assert found.interval_s() == 15.0
        room.client.is_down = True
        assert await found.waits(8) == [1, 2, 4, 8, 16, 32, 60, 60]


async def test_rules_of_another_account_halt_and_close_nothing(room: Room) -> None:
    rules = the_rules()
    larger = msgspec.structs.replace(rules.account, initial_balance_cents=20_000_000)
    with room.watched(msgspec.structs.replace(rules, account=larger)) as found:
        await room.buy_for_an_intent()
        await found.round()
        await found.round()
        assert found.halts() == [("hard", "account")]
        assert len(await room.open_positions()) == 1
        assert room.store.sent(messages.SampleEquity) == []


async def cut_position(room: Room, found: Watched) -> tuple[str, str]:
    """Have 0.60 of 1.00 lots closed by hand at a profit while the monitor looks; return position and intent."""
    position_id, intent_id = await room.buy_for_an_intent()
    await found.round()
    room.price("1.10500")
    await room.cut(position_id, "0.60")
    await found.round()
    return position_id, intent_id


async def test_parts_row_is_not_the_end_while_the_last_row_is_to_come(room: Room) -> None:
    with room.watched() as found:
        position_id, intent_id = await cut_position(room, found)
        room.price("1.09000")
        room.close(position_id)
        room.client.hides_last_row = True
        await found.round()
        assert (found.status(intent_id), found.interval_s()) == (Status.OPENED, 15.0)
        room.client.hides_last_row = False
        await found.round()
        (told,) = room.store.sent(messages.PositionClosed)
        assert told.result.net_profit_cents == 49 * 600 - 300 - (101 * 400 + 200)  # 49 and -101 pips, commission


@pytest.mark.parametrize("waits_s", [[0.0], [0.0, 121.0]])
async def test_cut_position_that_looks_do_not_show_is_not_closed(room: Room, waits_s: list[float]) -> None:
    with room.watched() as found:
        position_id, intent_id = await cut_position(room, found)
        room.client.hides_positions = True
        for ahead_s in waits_s:
            room.clock.ahead_s = ahead_s
            await found.round()
            assert found.status(intent_id) == Status.OPENED
        room.client.hides_positions = False
        await found.round()
        assert [position.id for position in await room.open_positions()] == [position_id]
        assert found.status(intent_id) == Status.OPENED
        assert found.events() == ["position_missing"] * (len(waits_s) - 1)


async def test_new_monitor_does_not_take_a_part_for_the_whole(room: Room) -> None:
    with room.watched() as found:
        _, intent_id = await cut_position(room, found)
    with room.watched() as successor:
        await successor.round()
        room.client.hides_positions = True
        await successor.round()
        assert successor.status(intent_id) == Status.OPENED
    with room.watched() as third:  # which has never seen the position
        await third.round()
        assert third.status(intent_id) == Status.OPENED


async def test_position_that_was_filled_in_part_ends_with_what_was_filled(room: Room) -> None:
    with room.watched() as found:
        position_id, intent_id = await room.buy_for_an_intent(volume="0.40", planned="1.00")
        room.close(position_id)
        await found.round()
        assert found.status(intent_id) == Status.CLOSED


async def test_day_start_is_not_rebuilt_while_the_rest_of_a_cut_position_is_in_neither_list(room: Room) -> None:
    with room.watched() as found:
        position_id, _ = await room.buy_for_an_intent()
        room.price("1.10500")
        await room.cut(position_id, "0.60")
        room.close(position_id)
        room.client.hides_last_row = True
        await found.round()
        assert found.reader.account_day("2026-02-18", "PAPER-1", "00:00 Europe/Athens") is None
        assert "day_unknown" in found.events()


async def test_day_start_is_not_rebuilt_while_a_row_is_still_to_come(room: Room) -> None:
    with room.watched() as found:
        position_id, _ = await room.buy_for_an_intent()
        room.price("1.10500")
        room.close(position_id)
        room.client.hides_rows = True
        await found.round()
        assert found.reader.account_day("2026-02-18", "PAPER-1", "00:00 Europe/Athens") is None
        assert room.store.sent(messages.SampleEquity) == []
        assert "day_unknown" in found.events()
        assert found.interval_s() == 15.0
        room.clock.ahead_s = 15.0
        room.client.hides_rows = False
        await found.round()
        day = found.reader.account_day("2026-02-18", "PAPER-1", "00:00 Europe/Athens")
        assert day is not None
        assert day.start_balance_cents == 5_000_000


# ── what must be done ───────────────────────────────────────────────────────


async def test_closed_position_ends_its_intent_with_net_profit_and_reason(room: Room) -> None:
    with room.watched() as found:
        position_id, intent_id = await room.buy_for_an_intent(tp="1.11000")
        await found.round()
        assert found.status(intent_id) == Status.OPENED
        room.price("1.11000")
        await found.round()
        assert found.status(intent_id) == Status.CLOSED
        (command,) = room.store.sent(messages.PositionClosed)
        (row,) = await room.client.closed_positions(NOON - timedelta(hours=1), NOON + timedelta(hours=1))
        assert (command.position_id, command.result.reason) == (position_id, "TP")
        assert command.result.net_profit_cents == row.net_profit_cents == 99_000 - 500  # 99 pips, $5 commission


@pytest.mark.parametrize("jump_s", [-30 * 86_400, -5 * 3_600, 5 * 3_600, 30 * 86_400])
async def test_clock_that_was_wrong_when_the_intent_was_made_hides_no_closed_position(
    room: Room, jump_s: float
) -> None:
    right = room.clock
    room.store.clock = Shifted(NOON + timedelta(seconds=jump_s))
    position_id, intent_id = await room.buy_for_an_intent()
    room.store.clock = right
    room.close(position_id)
    with room.watched() as found:
        await found.round()
        assert found.status(intent_id) == Status.CLOSED


@pytest.mark.parametrize("jump_s", [-5 * 3_600, 5 * 3_600])
async def test_clock_that_is_wrong_now_hides_no_closed_position(room: Room, jump_s: float) -> None:
    position_id, intent_id = await room.buy_for_an_intent()
    room.close(position_id)
    room.store.clock = room.clock = Shifted(NOON + timedelta(seconds=jump_s))
    with room.watched() as found:
        await found.round()
        assert found.status(intent_id) == Status.CLOSED


async def test_first_poll_starts_the_day_samples_and_counts_requests(room: Room) -> None:
    with room.watched() as found:
        await found.round()
        day = found.reader.account_day("2026-02-18", "PAPER-1", "00:00 Europe/Athens")
        assert day is not None
        assert (day.start_balance_cents, day.starts_at) == (5_000_000, "2026-02-17T22:00:00.000Z")
        sample = found.reader.last_equity()
        assert sample is not None
        assert (sample.balance_cents, sample.daily_loss_cents, sample.level) == (5_000_000, 0, "ok")
        assert sum(found.reader.requests("2026-02-18")) >= 6
        await found.round()
        assert len(room.store.sent(messages.StartDay)) == 1


async def test_slept_reset_is_rebuilt_from_the_rows_closed_since(room: Room) -> None:
    await room.client.balance()
    position_id = await room.buy()
    room.price("1.10510")
    room.close(position_id)
    with room.watched() as found:
        await found.round()
        day = found.reader.account_day("2026-02-18", "PAPER-1", "00:00 Europe/Athens")
        assert day is not None
        assert day.start_balance_cents == 5_000_000
        assert (await room.client.balance()).balance_cents == 5_049_500


async def test_clock_set_back_hides_no_row_from_the_start_of_the_day(room: Room) -> None:
    await room.client.balance()
    position_id = await room.buy()
    room.price("1.10510")
    room.close(position_id)
    room.store.clock = room.clock = Shifted(NOON - timedelta(hours=5))
    with room.watched() as found:
        await found.round()
        day = found.reader.account_day("2026-02-18", "PAPER-1", "00:00 Europe/Athens")
        assert day is not None
        assert day.start_balance_cents == 5_000_000


async def test_levels_are_told_halts_raised_and_everything_closed_at_the_flatten_level(room: Room) -> None:
    with room.watched() as found:
        _, intent_id = await room.buy_for_an_intent(volume="5.00")
        await found.round()
        room.price("1.09700")  # 31 pips x $50 + $25: 62% of $2,500
        await found.round()
        assert found.events() == ["daily_warn_50"]
        assert found.halts() == []
        room.price("1.09580")  # $2,150 + $25: 87%
        await found.round()
        assert found.events() == ["daily_warn_50", "daily_stop", "maximum_warn_50"]
        assert found.halts() == [("soft", "daily_drawdown")]
        assert found.status(intent_id) == Status.OPENED
        room.price("1.09550")  # $2,300 + $25: 93%
        await found.round()
        assert await room.open_positions() == ()
        assert found.status(intent_id) == Status.CLOSED
        assert found.halts() == [("soft", "daily_drawdown")] * 2  # the first one stops, the second one closes
        assert found.flattens() == ["daily_drawdown"]
        halt = found.reader.halts()[-1]
        assert halt.until == "2026-02-18T22:00:00.000Z"
        room.clock.ahead_s = 11 * 3_600  # after the reset
        assert found.halts() == []


async def test_maximum_limit_halts_until_the_operator_lifts_it(room: Room) -> None:
    with room.watched() as found:
        await room.buy_for_an_intent(volume="5.00")
        await found.round()
        room.price("1.09300")  # $3,550 + $25 of $4,000
        await found.round()
        assert set(found.halts()) == {("soft", "daily_drawdown"), ("hard", "max_drawdown")}
        await found.round()
        assert len(room.store.sent(messages.RaiseHalt)) == 2


async def test_lifted_halt_whose_level_still_stands_is_raised_again(room: Room) -> None:
    with room.watched() as found:
        await room.buy_for_an_intent(volume="5.00")
        room.start_days(found.rules, 4_700_000)
        room.price("1.09300")
        await found.round()
        assert found.halts() == [("hard", "max_drawdown")]
        room.store.lift_halts()
        await found.round()
        assert found.halts() == [("hard", "max_drawdown")]
        room.price("1.10000")
        room.store.lift_halts()
        await found.round()
        assert found.halts() == []


async def test_row_of_another_position_ends_nothing(room: Room) -> None:
    with room.watched() as found:
        first_id, first = await room.buy_for_an_intent()
        _, second = await room.buy_for_an_intent(volume="2.00")
        await found.round()
        room.close(first_id)
        await found.round()
        assert (found.status(first), found.status(second)) == (Status.CLOSED, Status.OPENED)


async def test_flattening_goes_on_in_spite_of_errors_and_without_the_store(room: Room) -> None:
    with room.watched() as found:
        await room.buy_for_an_intent(volume="5.00")
        await room.buy_for_an_intent(volume="0.10")
        await found.round()
        room.price("1.09550")
        room.store.is_away = True
        room.client.close_fails = 2
        await found.round()
        assert len(await room.open_positions()) == 2
        assert found.interval_s() == 1.0
        room.client.close_fails = 1
        await found.round()
        assert len(await room.open_positions()) == 1
        await found.round()
        assert await room.open_positions() == ()
        room.store.is_away = False
        await found.round()
        assert found.halts() == [("soft", "daily_drawdown")]
        assert found.reader.active_positions() == []


async def test_profit_beyond_the_best_day_level_is_taken(room: Room) -> None:
    with room.watched() as found:
        await room.buy_for_an_intent(volume="5.00")
        await found.round()
        room.price("1.10290")  # 28 pips x $50 - $25 = $1,375: above $1,360
        await found.round()
        assert found.halts() == [("soft", "best_day")]
        assert len(await room.open_positions()) == 1
        room.price("1.10310")  # $1,475: above $1,440
        await found.round()
        assert await room.open_positions() == ()


def close_after_the_next_look(room: Room, position_id: str) -> None:
    """Have a position closed between the look at the positions and that at the balance, once."""
    look = room.client.open_positions

    async def look_and_close() -> tuple[Position, ...]:
        found = await look()
        room.client.open_positions = look  # type: ignore[method-assign]
        room.close(position_id)
        return found

    room.client.open_positions = look_and_close  # type: ignore[method-assign]


async def test_profit_taken_between_the_two_reads_of_a_poll_counts_once(room: Room) -> None:
    with room.watched() as found:
        taken, _ = await room.buy_for_an_intent(volume="5.00")
        _, other = await room.buy_for_an_intent(volume="0.10")
        await found.round()
        room.price("1.10180")  # 17 pips x $51 - $25.50 = $841.50; 17 pips x $50 - $25 more would be $1,666.50
        await found.round()
        close_after_the_next_look(room, taken)
        await found.round()
        await found.round()
        assert found.halts() == []
        assert found.status(other) == Status.OPENED


async def test_loss_taken_between_the_two_reads_of_a_poll_hides_the_best_day_for_a_moment_only(room: Room) -> None:
    with room.watched() as found:
        await room.buy_for_an_intent(volume="5.00")
        room.price("1.10400")
        lost, _ = await room.buy_for_an_intent(volume="1.00")
        room.price("1.10100")
        await found.round()
        await found.round()
        room.price("1.10330")  # 32 pips x $50 - $25 - (8 pips x $10 + $5) = $1,490: above $1,440
        close_after_the_next_look(room, lost)
        await found.round()
        assert found.flattens() == []  # the loss may have been counted twice, or not at all
        assert found.interval_s() == 1.0
        await found.round()
        assert found.flattens() == ["best_day"]
        assert await room.open_positions() == ()


async def test_deposit_is_no_profit_of_the_day_but_puts_the_account_in_doubt(room: Room) -> None:
    with room.watched() as found:
        await room.buy_for_an_intent()
        room.start_days(found.rules, 4_800_000)
        await found.round()  # the first look goes by the store's days alone
        await found.round()
        assert found.halts() == []  # a row of the history may still be missing
        room.clock.ahead_s = 119.0
        await found.round()
        assert found.halts() == []
        room.clock.ahead_s = 121.0
        await found.round()
        assert found.halts() == [("hard", "account")]
        assert len(await room.open_positions()) == 1


async def test_after_a_deposit_the_operators_word_for_the_next_day_brings_the_account_back(room: Room) -> None:
    pilot = Peer(Role.PILOT, 1, "eeeeeeeeeeee")
    with room.watched() as found:
        await room.client.balance()
        room.start_days(found.rules, 4_800_000)  # 2,000.00 came in since
        await found.round()
        await found.round()
        room.clock.ahead_s = 121.0
        await found.round()
        assert found.halts() == [("hard", "account")]
        today = firm_days(found.rules, room.clock.now())
        room.clock.ahead_s += 86_400.0
        await found.round()
        assert found.events()[-1] == "day_unknown"
        for day, before in zip(firm_days(found.rules, room.clock.now()), today, strict=True):
            assert day.day > before.day
            kept = AccountDay(
                account_id="PAPER-1", day=day.day, reset=day.reset, starts_at=iso(day.starts_at),
                ends_at=iso(day.ends_at), start_balance_cents=5_000_000, reference_cents=5_000_000,
                initial_balance_cents=5_000_000, created_at=iso(room.clock.now()),
            )  # fmt: skip
            ack = room.store.apply(pilot, messages.DeclareDay(operator="me", reason="a deposit of 2,000", day=kept))
            assert ack.outcome == "applied", ack
        assert room.store.apply(pilot, messages.Resume(operator="me", reason="settled")).outcome == "applied"
        room.clock.ahead_s += 300.0
        await found.round()
        room.clock.ahead_s += 300.0
        await found.round()
        assert found.halts() == []
        sample = found.reader.last_equity()
        assert sample is not None
        assert (sample.balance_cents, sample.daily_loss_cents, sample.at > kept.created_at) == (5_000_000, 0, True)


async def test_new_order_ends_the_flat_cadence(room: Room) -> None:
    with room.watched() as found:
        await found.round()
        assert found.interval_s() == 300.0
        room.store.reserve()
        assert 60.0 <= found.interval_s() < 120.0


async def test_watch_goes_on_without_the_store_and_its_requests_are_counted_later(room: Room) -> None:
    with room.watched() as found:
        await room.buy_for_an_intent()
        await found.round()
        before, _ = found.reader.requests("2026-02-18")
        room.store.is_away = True
        for _ in range(4):
            await found.round()
        assert found.watch.polls == 5
        room.store.is_away = False
        await found.round()
        await eventually_async(lambda: found.reader.requests("2026-02-18")[0] >= before + 8)


async def test_flat_account_is_not_polled_on_credit(room: Room) -> None:
    with room.watched() as found:
        await found.round()
        room.store.is_away = True
        for _ in range(5):
            await found.round()
        assert found.watch.polls < 5
