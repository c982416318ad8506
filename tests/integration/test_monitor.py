"""The monitor's watch over a real paper broker and a real store: what it refuses to conclude, and what it must do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.broker.client import BrokerClient
from actors.broker.errors import Transient, UnknownOutcome
from actors.broker.wire import ClosedPosition, OpenRequest, Position
from actors.desk import view
from bus import messages
from bus.clock import iso
from bus.vocabulary import Status
from tests.kit import desk, paper
from tests.kit.compliance import D, a_plan, the_rules
from tests.kit.desk import Desk, Shifted, StoreHere

NOON = datetime(2026, 2, 18, 12, 0, tzinfo=UTC)  # a Wednesday


class Wayward(BrokerClient):
    """A real client that can be told to fail or to see too little."""

    hides_rows = False
    is_down = False
    close_fails = 0

    async def open_positions(self) -> tuple[Position, ...]:
        if self.is_down:
            raise Transient("GET /open-positions: connection refused")
        return await super().open_positions()

    async def closed_positions(self, since: datetime, until: datetime) -> tuple[ClosedPosition, ...]:
        rows = await super().closed_positions(since, until)
        return () if self.hides_rows else rows

    async def close_position(self, position: Position) -> None:
        if self.close_fails:
            self.close_fails -= 1
            raise UnknownOutcome("POST /position/close: no answer")
        await super().close_position(position)


@dataclass
class Room:
    """Broker, client, store and clock of one test."""

    broker: paper.RunningPaper
    client: Wayward
    store: StoreHere
    clock: Shifted

    def price(self, bid: str) -> None:
        self.broker.venue.set_price("EURUSD.", D(bid), hold=True)

    def close(self, position_id: str) -> None:
        """Close a position as its owner might by hand."""
        self.broker.venue.close_position(position_id)

    async def buy(self, volume: str = "1.00", sl: str = "0.90000", tp: str = "1.90000") -> str:
        order = OpenRequest(broker_symbol="EURUSD.", side="BUY", volume=D(volume), sl_price=D(sl), tp_price=D(tp))
        return await self.client.open_position(order)

    async def buy_for_an_intent(self, **given: Any) -> tuple[str, str]:
        """Return the ids of a position and of the intent that owns it."""
        await self.client.balance()
        execute = self.store.reserve(a_plan(volume=D(given.get("volume", "1.00"))))
        position_id = await self.buy(**given)
        return position_id, self.store.opened(execute, position_id)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    clock = Shifted(NOON)
    async with paper.running(tmp_path / "paper", clock=clock) as broker:
        async with Wayward(broker.settings, "paper", clock) as client:
            broker.venue.set_price("EURUSD.", D("1.10000"), hold=True)
            await client.login()
            with desk.store_in(tmp_path, clock) as store:
                yield Room(broker, client, store, clock)


def status_of(found: Desk, intent_id: str) -> str:
    intent = found.reader.intent(intent_id)
    assert intent is not None
    return intent.status


# ── what must not be concluded ──────────────────────────────────────────────


async def test_position_in_neither_list_is_looked_for_and_told_after_two_minutes(room: Room) -> None:
    with desk.a_desk(room.client, room.store) as found:
        position_id, intent_id = await room.buy_for_an_intent()
        await found.round()
        room.close(position_id)
        room.client.hides_rows = True
        await found.round()
        assert (status_of(found, intent_id), found.events()) == (Status.OPENED, [])
        assert found.interval_s() == 15.0
        room.clock.ahead_s = 119.0
        await found.round()
        assert found.events() == []
        room.clock.ahead_s = 121.0
        await found.round()
        await found.round()
        assert found.events() == ["position_missing"]
        assert status_of(found, intent_id) == Status.OPENED
        room.client.hides_rows = False
        await found.round()
        assert status_of(found, intent_id) == Status.CLOSED


async def test_broker_that_does_not_answer_is_not_an_empty_account(room: Room) -> None:
    with desk.a_desk(room.client, room.store) as found:
        _, intent_id = await room.buy_for_an_intent()
        await found.round()
        samples = len(room.store.sent(messages.SampleEquity))
        room.client.is_down = True
        for _ in range(4):
            await found.round()
        assert found.events() == ["broker_unreachable"]
        assert len(room.store.sent(messages.SampleEquity)) == samples
        assert status_of(found, intent_id) == Status.OPENED
        assert found.interval_s() == 8.0
        room.client.is_down = False
        await found.round()
        assert found.watch.polls == 2
        assert found.interval_s() == 60.0


async def test_position_that_an_unknown_order_may_explain_is_no_orphan(room: Room) -> None:
    with desk.a_desk(room.client, room.store, orphans="close") as found:
        await room.client.balance()
        execute = room.store.reserve()
        position_id = await room.buy()
        await found.round()
        await found.round()
        assert found.events() == []
        room.store.opened(execute, position_id)
        await found.round()
        assert found.events() == []
        assert len(await room.client.open_positions()) == 1


async def test_rules_of_another_account_halt_and_close_nothing(room: Room) -> None:
    rules = the_rules()
    larger = msgspec.structs.replace(rules.account, initial_balance_cents=20_000_000)
    with desk.a_desk(room.client, room.store, msgspec.structs.replace(rules, account=larger)) as found:
        await room.buy_for_an_intent()
        await found.round()
        await found.round()
        assert found.halts() == [("hard", "rules_of_another_account")]
        assert len(await room.client.open_positions()) == 1
        assert room.store.sent(messages.SampleEquity) == []


async def test_day_start_is_not_rebuilt_while_a_row_is_still_to_come(room: Room) -> None:
    with desk.a_desk(room.client, room.store) as found:
        position_id, _ = await room.buy_for_an_intent()
        room.price("1.10500")
        room.close(position_id)
        room.client.hides_rows = True
        await found.round()
        assert found.reader.account_day("2026-02-18") is None
        assert room.store.sent(messages.SampleEquity) == []
        assert "day_unknown" in found.events()
        room.client.hides_rows = False
        await found.round()
        day = found.reader.account_day("2026-02-18")
        assert day is not None
        assert day.start_balance_cents == 5_000_000


# ── what must be done ───────────────────────────────────────────────────────


async def test_closed_position_ends_its_intent_with_net_profit_and_reason(room: Room) -> None:
    with desk.a_desk(room.client, room.store) as found:
        position_id, intent_id = await room.buy_for_an_intent(tp="1.11000")
        await found.round()
        assert status_of(found, intent_id) == Status.OPENED
        room.price("1.11000")
        await found.round()
        assert status_of(found, intent_id) == Status.CLOSED
        (command,) = room.store.sent(messages.PositionClosed)
        (row,) = await room.client.closed_positions(NOON - timedelta(hours=1), NOON + timedelta(hours=1))
        assert (command.position_id, command.result.reason) == (position_id, "TP")
        assert command.result.net_profit_cents == row.net_profit_cents == 99_000 - 500  # 99 pips, $5 commission


async def test_first_poll_starts_the_day_samples_and_counts_requests(room: Room) -> None:
    with desk.a_desk(room.client, room.store) as found:
        await found.round()
        day = found.reader.account_day("2026-02-18")
        assert day is not None
        assert (day.start_balance_cents, day.starts_at) == (5_000_000, "2026-02-17T22:00:00.000Z")
        sample = found.reader.last_equity()
        assert sample is not None
        assert (sample.balance_cents, sample.daily_loss_cents, sample.level) == (5_000_000, 0, "ok")
        assert sum(found.reader.requests("2026-02-18")) >= 6
        assert room.client.requests.take() == (0, 0)
        await found.round()
        assert len(room.store.sent(messages.StartDay)) == 1


async def test_slept_reset_is_rebuilt_from_the_rows_closed_since(room: Room) -> None:
    await room.client.balance()
    position_id = await room.buy()
    room.price("1.10510")
    room.close(position_id)
    with desk.a_desk(room.client, room.store) as found:
        await found.round()
        day = found.reader.account_day("2026-02-18")
        assert day is not None
        assert day.start_balance_cents == 5_000_000
        assert (await room.client.balance()).balance_cents == 5_049_500


async def test_levels_are_told_halts_raised_and_everything_closed_at_the_flatten_level(room: Room) -> None:
    with desk.a_desk(room.client, room.store) as found:
        _, intent_id = await room.buy_for_an_intent(volume="5.00")
        await found.round()
        room.price("1.09700")  # 31 pips x $50 + $25: 62% of $2,500
        await found.round()
        assert found.events() == ["daily_warn_50"]
        assert found.halts() == []
        room.price("1.09580")  # $2,150 + $25: 87%
        await found.round()
        assert found.events() == ["daily_warn_50", "maximum_warn_50", "daily_stop"]
        assert found.halts() == [("soft", "daily_drawdown")]
        assert status_of(found, intent_id) == Status.OPENED
        room.price("1.09550")  # $2,300 + $25: 93%
        await found.round()
        assert await room.client.open_positions() == ()
        assert status_of(found, intent_id) == Status.CLOSED
        assert found.halts() == [("soft", "daily_drawdown")]
        (halt,) = found.reader.halts()
        assert halt.until == "2026-02-18T22:00:00.000Z"
        room.clock.ahead_s = 11 * 3_600  # after the reset
        assert found.halts() == []


async def test_maximum_limit_halts_until_the_operator_lifts_it(room: Room) -> None:
    with desk.a_desk(room.client, room.store) as found:
        await room.buy_for_an_intent(volume="5.00")
        await found.round()
        room.price("1.09300")  # $3,550 + $25 of $4,000
        await found.round()
        assert set(found.halts()) == {("soft", "daily_drawdown"), ("hard", "maximum_drawdown")}
        await found.round()
        assert len(room.store.sent(messages.RaiseHalt)) == 2


async def test_halt_that_the_operator_lifted_is_not_raised_again_at_the_same_level(room: Room) -> None:
    with desk.a_desk(room.client, room.store) as found:
        await room.buy_for_an_intent(volume="5.00")
        room.store.apply(desk.MONITOR, messages.StartDay(day=the_day(found, start_balance_cents=4_700_000)))
        room.price("1.09300")
        await found.round()
        assert found.halts() == [("hard", "maximum_drawdown")]
        room.store.lift_halts()
        await found.round()
        assert found.halts() == []
        room.price("1.10000")
        await found.round()
        room.price("1.09300")
        await found.round()
        assert found.halts() == [("hard", "maximum_drawdown")]


async def test_row_of_another_position_ends_nothing(room: Room) -> None:
    with desk.a_desk(room.client, room.store) as found:
        first_id, first = await room.buy_for_an_intent()
        _, second = await room.buy_for_an_intent(volume="2.00")
        await found.round()
        room.close(first_id)
        await found.round()
        assert (status_of(found, first), status_of(found, second)) == (Status.CLOSED, Status.OPENED)


async def test_flattening_goes_on_in_spite_of_errors_and_without_the_store(room: Room) -> None:
    with desk.a_desk(room.client, room.store) as found:
        await room.buy_for_an_intent(volume="5.00")
        await room.buy_for_an_intent(volume="0.10")
        await found.round()
        room.price("1.09550")
        room.store.is_away = True
        room.client.close_fails = 2
        await found.round()
        assert len(await room.client.open_positions()) == 2
        assert found.interval_s() == 2.0
        room.client.close_fails = 1
        await found.round()
        assert len(await room.client.open_positions()) == 1
        await found.round()
        assert await room.client.open_positions() == ()
        room.store.is_away = False
        await found.round()
        assert found.halts() == [("soft", "daily_drawdown")]
        assert found.reader.active_positions() == []


async def test_profit_beyond_the_best_day_level_is_taken(room: Room) -> None:
    with desk.a_desk(room.client, room.store) as found:
        await room.buy_for_an_intent(volume="5.00")
        await found.round()
        room.price("1.10290")  # 28 pips x $50 - $25 = $1,375: above $1,360
        await found.round()
        assert found.halts() == [("soft", "best_day")]
        assert len(await room.client.open_positions()) == 1
        room.price("1.10310")  # $1,475: above $1,440
        await found.round()
        assert await room.client.open_positions() == ()


async def test_deposit_is_no_profit_of_the_day(room: Room) -> None:
    with desk.a_desk(room.client, room.store) as found:
        await room.buy_for_an_intent()
        day = the_day(found, start_balance_cents=4_800_000)
        room.store.apply(desk.MONITOR, messages.StartDay(day=day))
        await found.round()
        assert found.halts() == []
        assert len(await room.client.open_positions()) == 1


@pytest.mark.parametrize(("policy", "events", "left"), [("alert", 1, 1), ("adopt", 0, 1), ("close", 1, 0)])
async def test_position_that_nobody_owns_is_treated_as_the_settings_say(
    room: Room, policy: str, events: int, left: int
) -> None:
    with desk.a_desk(room.client, room.store, orphans=policy) as found:
        await room.client.balance()
        await room.buy()
        await found.round()
        assert len(await room.client.open_positions()) == 1  # never on the word of a single look
        await found.round()
        await found.round()
        assert found.events() == ["orphan_position"] * events
        assert len(await room.client.open_positions()) == left


async def test_new_order_ends_the_flat_cadence(room: Room) -> None:
    with desk.a_desk(room.client, room.store) as found:
        await found.round()
        assert found.interval_s() == 300.0
        room.store.reserve()
        assert 60.0 <= found.interval_s() < 120.0


async def test_requests_the_store_did_not_take_are_counted_later(room: Room) -> None:
    with desk.a_desk(room.client, room.store) as found:
        room.store.is_away = True
        await found.round()
        await found.round()
        assert found.reader.requests("2026-02-18") == (0, 0)
        room.store.is_away = False
        await found.round()
        reads, writes = found.reader.requests("2026-02-18")
        assert (reads >= 10, writes) == (True, 0)


# ── the view that the executor's guard reads ────────────────────────────────


def the_day(found: Desk, *, start_balance_cents: int) -> Any:
    today = view.firm_day(found.rules, found.store.clock.now())
    return msgspec.convert(
        {
            "account_id": "PAPER-1", "day": today.day, "starts_at": iso(today.starts_at), "ends_at": iso(today.ends_at),
            "start_balance_cents": start_balance_cents, "initial_balance_cents": 5_000_000,
            "created_at": iso(today.starts_at),
        },
        view.AccountDay,
    )  # fmt: skip


async def look(room: Room, found: Desk, symbol: str | None = "EURUSD") -> view.View:
    return await view.account_view(
        room.client, found.reader, settings=found.settings, rules=found.rules, clock=room.clock, symbol=symbol
    )


async def test_view_of_a_fresh_account_starts_its_day(room: Room) -> None:
    with desk.a_desk(room.client, room.store) as found:
        seen = await look(room, found)
        assert seen.new_day is not None
        assert seen.account.day == seen.new_day
        kept = await view.record_day(seen, room.store, found.reader)
        assert (kept.new_day, kept.account.day) == (None, found.reader.account_day("2026-02-18"))
        assert (await look(room, found)).new_day is None


async def test_first_start_of_a_day_stands(room: Room) -> None:
    with desk.a_desk(room.client, room.store) as found:
        seen = await look(room, found)
        room.store.apply(desk.MONITOR, messages.StartDay(day=the_day(found, start_balance_cents=5_100_000)))
        kept = await view.record_day(seen, room.store, found.reader)
        assert kept.account.day is not None
        assert kept.account.day.start_balance_cents == 5_100_000


async def test_view_counts_positions_unknown_orders_and_lost_rows(room: Room) -> None:
    with desk.a_desk(room.client, room.store) as found:
        position_id, _ = await room.buy_for_an_intent(sl="1.09500", tp="1.11000")
        (risk,) = (await look(room, found)).account.positions
        # Bought at 1.10010: 51 pips + 5 pips gap x $10 + $10 commission.
        assert (risk.id, risk.loss_at_stop_cents, risk.profit_at_target_cents) == (position_id, 57_000, 99_000)
        room.store.reserve(a_plan(symbol="GBPUSD", broker_symbol="GBPUSD."))
        seen = await look(room, found)
        assert [plan.symbol for plan in seen.account.unresolved] == ["GBPUSD"]
        assert seen.baseline == (position_id,)
        room.close(position_id)
        room.client.hides_rows = True
        lost = await look(room, found)
        assert [plan.symbol for plan in lost.account.unresolved] == ["GBPUSD", "EURUSD"]
        room.client.hides_rows = False
        gone = await look(room, found)
        assert [plan.symbol for plan in gone.account.unresolved] == ["GBPUSD"]
        assert gone.account.realised_today_cents < 0


async def test_view_quotes_what_converts_the_currencies(room: Room) -> None:
    with desk.a_desk(room.client, room.store) as found:
        seen = await look(room, found, "EURGBP")
        assert set(seen.reading.quotes) == {"EURGBP", "EURUSD", "GBPUSD"}
        facts = view.trade_facts(
            seen, a_plan(symbol="EURGBP", volume=Decimal(1)), found_intent(), settings=found.settings, clock=room.clock
        )
        assert facts.session_open
        assert facts.margin_cents is not None
        assert facts.quote_age_s is not None
        assert abs(facts.quote_age_s) < 5


def found_intent() -> Any:
    from tests.kit.compliance import an_opened_intent

    return an_opened_intent()
