"""The view that the executor's guard reads: over a real paper broker and a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from actors.desk import view
from tests.kit import watching
from tests.kit.compliance import a_plan, an_opened_intent
from tests.kit.watching import Room, Watched


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with watching.a_room(tmp_path) as found:
        yield found


async def look(room: Room, found: Watched, symbol: str | None = "EURUSD") -> view.View:
    return await view.account_view(
        room.client, found.reader, settings=found.settings, rules=found.rules, clock=room.clock, symbol=symbol
    )


async def test_view_of_a_fresh_account_starts_its_day_and_the_first_start_stands(room: Room) -> None:
    with room.watched() as found:
        seen = await look(room, found)
        assert len(seen.account.days) == 2  # one per reading of the reset
        assert await view.record(seen, room.store, found.reader)
        kept = {day.reset: day for day in found.reader.account_days("PAPER-1")}
        assert {one.day.reset: one.day for one in seen.account.days} == kept
        again = await look(room, found)
        assert {one.day.reset: one.day for one in again.account.days} == kept


async def test_view_counts_positions_unknown_orders_and_lost_rows(room: Room) -> None:
    with room.watched() as found:
        position_id, _ = await room.buy_for_an_intent(sl="1.09500", tp="1.11000")
        (risk,) = (await look(room, found)).account.positions
        # Bought at 1.10010: 51 pips + 5 pips gap x $10 + $10 commission + $30 swap.
        assert (risk.id, risk.loss_at_stop_cents, risk.profit_at_target_cents) == (position_id, 60_000, 99_000)
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
        assert all(one.realised_cents < 0 for one in gone.account.days)


@pytest.mark.parametrize("filled", ["1.00", ""])
async def test_view_counts_a_position_as_closed_only_with_all_its_rows(room: Room, filled: str) -> None:
    with room.watched() as found:
        execute, position_id = room.store.reserve(), await room.buy()
        room.store.opened(execute, position_id, filled)  # "": by its plan
        await room.cut(position_id, "0.60")
        room.client.hides_positions = True
        hidden = await look(room, found)
        assert (hidden.closed, [plan.symbol for plan in hidden.account.unresolved]) == ((), ["EURUSD"])
        room.close(position_id)
        gone = await look(room, found)
        assert (gone.closed, gone.account.unresolved) == ((position_id,), ())


async def test_view_quotes_what_converts_the_currencies(room: Room) -> None:
    with room.watched() as found:
        seen = await look(room, found, "EURGBP")
        assert set(seen.reading.quotes) == {"EURGBP", "EURUSD", "GBPUSD"}
        facts = view.trade_facts(
            seen, a_plan(symbol="EURGBP", volume=Decimal(1)), an_opened_intent(), found.reader,
            settings=found.settings, rules=found.rules, clock=room.clock,
        )  # fmt: skip
        assert facts.session_open
        assert facts.margin_cents is not None
        assert facts.quote_age_s is not None
        assert abs(facts.quote_age_s) < 5
