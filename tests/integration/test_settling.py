"""The executor's desk after its order, over a real paper broker and a real store: we always find out.

What the broker's own ledger says it placed is the truth of every test; what was sent is counted at the client.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actors.broker.client import BrokerClient
from actors.broker.errors import NotSent, Refused, UnknownOutcome
from actors.broker.wire import OpenRequest
from bus import messages
from bus.vocabulary import Outcome
from tests.kit import execution
from tests.kit.compliance import D
from tests.kit.eventually import eventually_async
from tests.kit.execution import QUIET_S, Bench
from tests.kit.placing import assert_one, on, once, over_both_apis

CLOSED_PORT = "http://127.0.0.1:9"  # nothing listens on the discard port


# ── the answer ──────────────────────────────────────────────────────────────


@over_both_apis
async def test_order_the_broker_takes_is_opened_with_what_was_filled(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        work = await bench.place(side="SELL")
        assert_one(bench, work, "opened")
        order, decision = bench.reader.order(work.intent.id), bench.reader.decision(work.intent.id)
        assert order is not None and decision is not None
        assert order.plan.loss_cents <= 25_000  # 0.5 % of 50,000
        assert f'"planned_volume": "{order.plan.volume}"' in decision.execution_meta
        assert [move.event for move in bench.reader.transitions(work.intent.id)][-2:] == ["reserve", "open"]
        assert bench.halts() == []


async def test_order_the_broker_rejects_fails_with_its_words_and_is_not_looked_for(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        await bench.broker.fault("reject_200")
        work = await bench.place()
        assert_one(bench, work, "failed")
        assert bench.reason(work) == "broker refused: TRADE_DISABLED: trading is disabled"
        assert bench.client.order_of_calls[-1] == "POST"


async def test_broker_that_refuses_in_a_million_words_is_quoted_in_short(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:

        def refuse(_: OpenRequest) -> None:
            raise Refused("no " * 300_000)

        bench.client.before_open = refuse
        work = await bench.place()
        assert bench.status(work) == "failed"
        assert len(bench.reason(work)) == 1_000


@over_both_apis
async def test_request_that_found_no_connection_is_not_sent(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:

        def cut(_: OpenRequest) -> None:
            bench.client._line._base_url = CLOSED_PORT

        bench.client.before_open = cut
        work = await bench.place()
        assert_one(bench, work, "failed")
        assert bench.reason(work).startswith("not sent: POST")
        assert "ConnectError" in bench.reason(work)


async def test_expired_token_is_not_sent_and_not_renewed(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:

        def expire(_: OpenRequest) -> None:
            bench.client._session._expires_at = bench.clock.monotonic()

        bench.client.before_open = expire
        work = await bench.place()
        assert bench.status(work) == "failed"
        assert "the token has expired" in bench.reason(work)
        assert bench.placed() == []


@pytest.mark.parametrize(
    "fault", ["lose_answer_reset", "lose_answer_timeout", "html_200", "redirect", "ok_without_order_id"]
)
async def test_lost_answer_to_an_order_that_was_placed_is_found_and_never_sent_again(
    tmp_path: Path, fault: str
) -> None:
    async with execution.a_bench(tmp_path) as bench:
        await bench.broker.fault(fault)
        work = await bench.place()
        assert_one(bench, work, "opened")
        events = [move.event for move in bench.reader.transitions(work.intent.id)]
        assert events[-3:] == ["reserve", "lose_answer", "open"]


@pytest.mark.parametrize("fault", ["drop_unplaced", "html_400", "401_once"])
async def test_lost_answer_to_an_order_that_was_not_placed_fails_after_the_quiet_period(
    tmp_path: Path, fault: str
) -> None:
    async with execution.a_bench(tmp_path) as bench:
        began_s = bench.clock.monotonic()
        await bench.broker.fault(fault)
        work = await bench.place()
        assert bench.clock.monotonic() - began_s >= QUIET_S
        assert_one(bench, work, "failed")
        assert "looks that started after the quiet period" in bench.reason(work)


async def test_order_that_is_placed_late_within_the_quiet_period_is_found(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        bench.is_real_time = True
        await bench.broker.fault("place_late", seconds=QUIET_S - 0.15)
        assert_one(bench, await bench.place(), "opened")


def lose_answer(bench: Bench, *, placed_after_s: float | None, hangs_s: float = 0.0) -> None:
    """Have the next order time out after `hangs_s` of the clock, and be placed so many real seconds later, or never."""
    late: list[asyncio.Task[str]] = []

    async def place_late(request: OpenRequest, after_s: float) -> str:
        await asyncio.sleep(after_s)
        return await BrokerClient.open_position(bench.client, request)

    def hang(request: OpenRequest) -> None:
        if placed_after_s is not None:
            late.append(asyncio.create_task(place_late(request, placed_after_s)))
        bench.clock.ahead_s += hangs_s
        raise UnknownOutcome("POST /position/open: ReadTimeout")

    bench.client.before_open = hang


async def test_quiet_period_begins_when_the_request_can_no_longer_leave(tmp_path: Path) -> None:
    """The request hangs for minutes; the order is placed after it was given up."""
    async with execution.a_bench(tmp_path) as bench:
        bench.is_real_time = True
        lose_answer(bench, placed_after_s=0.2, hangs_s=10 * QUIET_S)
        assert_one(bench, await bench.place(), "opened")


async def stopped_after_a_lost_answer(bench: Bench, *, placed_after_s: float | None) -> messages.Execute:
    """Lose an answer and stop while the order is looked for. The order is placed so many seconds later, or never."""
    lose_answer(bench, placed_after_s=placed_after_s)
    bench.client.after_open = bench.stopping.set
    work = await bench.place()
    bench.client.after_open = lambda: None
    bench.stopping.clear()
    assert (bench.status(work), bench.order_status(work)) == ("executing", "unknown")
    return work


async def test_new_life_waits_the_whole_quiet_period_from_its_own_birth(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        bench.is_real_time = True
        work = await stopped_after_a_lost_answer(bench, placed_after_s=0.2)
        bench.clock.ahead_s += 3_600  # the order is old; who sent it may have died just now
        await bench.settle(work, bench.a_desk())
        assert_one(bench, work, "opened")


async def test_stop_while_an_order_is_looked_for_leaves_it_to_the_next_life(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        work = await stopped_after_a_lost_answer(bench, placed_after_s=None)
        assert len(bench.reader.unresolved_orders()) == 1
        await bench.settle(work, bench.a_desk())
        assert_one(bench, work, "failed")


async def test_broker_that_is_away_after_the_order_is_waited_for(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        await bench.broker.fault("lose_answer_reset")
        bench.client.after_open = lambda: setattr(bench.client, "is_down", True)
        placing = asyncio.create_task(bench.place())
        await eventually_async(lambda: bench.client.order_of_calls.count("open_positions") > 4)
        bench.clock.ahead_s += 10 * QUIET_S
        await eventually_async(lambda: bench.client.order_of_calls.count("open_positions") > 8)
        assert len(bench.reader.unresolved_orders()) == 1
        bench.client.is_down = False
        assert_one(bench, await placing, "opened")


async def test_store_that_is_away_does_not_keep_us_from_looking_after_the_order(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        bench.store.silent = {messages.OrderUnknown: 1}
        await bench.broker.fault("lose_answer_reset")
        work = await bench.place()
        assert_one(bench, work, "opened")
        assert [move.event for move in bench.reader.transitions(work.intent.id)][-2:] == ["reserve", "open"]


async def test_position_that_closed_before_we_looked_is_opened_and_closed_with_its_result(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        await bench.broker.fault("lose_answer_reset")
        bench.client.after_open = lambda: bench.broker.venue.close_position(bench.broker.venue.book.holdings[0].id)
        work = await bench.place()
        assert_one(bench, work, "closed")
        decision = bench.reader.decision(work.intent.id)
        assert decision is not None
        assert (decision.close_reason, decision.net_profit_cents) == (
            "MANUAL", bench.broker.venue.book.history[0].net_profit_cents
        )  # fmt: skip


@over_both_apis
async def test_position_that_shows_late_is_found_by_the_id_the_broker_gave(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        await bench.broker.fault("hide_position", seconds=0.3)
        assert_one(bench, await bench.place(), "opened")


async def test_equal_position_of_the_baseline_is_not_taken_for_the_order(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        first = await bench.place()
        position_id = str(bench.placed()[0]["position_id"])
        second = bench.store.take()
        # The next order is made to equal the first one's position, as if its plan had not been made unique.
        original = bench.desk._order

        def equal(work: messages.Execute, plan: Any, seen: Any) -> Any:
            return original(work, bench.reader.order(first.intent.id).plan, seen)  # type: ignore[union-attr]

        bench.desk._order = equal  # type: ignore[method-assign]
        await bench.broker.fault("drop_unplaced")
        await bench.place(second)
        order = bench.reader.order(second.intent.id)
        assert order is not None and order.baseline == (position_id,)
        assert bench.status(second) == "failed"


# ── the operator ────────────────────────────────────────────────────────────


async def waits_for_the_operator(bench: Bench, work: messages.Execute) -> asyncio.Task[messages.Execute]:
    """Start placing and return once the account is halted because of it."""
    placing = asyncio.create_task(bench.place(work))
    await eventually_async(lambda: bench.halts() or placing.done())
    assert not placing.done()
    assert bench.order_status(work) == "unknown"
    return placing


@over_both_apis
@pytest.mark.parametrize("is_position", [True, False])
async def test_accepted_order_that_is_never_shown_halts_and_waits_for_the_operator(
    tmp_path: Path, is_position: bool
) -> None:
    async with execution.a_bench(tmp_path) as bench:
        work = bench.store.take()
        await bench.broker.fault("hide_position", seconds=3_600)
        placing = await waits_for_the_operator(bench, work)
        position_id = str(bench.placed()[0]["position_id"])
        assert position_id in bench.halts()[0] and work.intent.id in bench.halts()[0]
        assert bench.resolve(work, None).outcome is Outcome.REFUSED  # it may still come

        bench.clock.ahead_s += 300
        assert bench.resolve(work, position_id if is_position else None).outcome is Outcome.APPLIED
        await placing  # it lets go
        assert bench.halts() == []
        assert bench.status(work) == ("opened" if is_position else "failed")
        assert len(bench.client.opens) == 1


async def test_twin_of_the_order_halts_and_neither_is_taken_until_the_operator_says_which(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        work = bench.store.take()
        await bench.broker.fault("lose_answer_reset")

        bench.client.after_open = bench.twin
        placing = await waits_for_the_operator(bench, work)
        ids = [str(row["position_id"]) for row in bench.placed()]
        assert len(ids) == 2 and all(one in bench.halts()[0] for one in ids)
        assert bench.resolve(work, ids[1]).outcome is Outcome.APPLIED
        await placing
        intent = bench.reader.intent(work.intent.id)
        assert intent is not None and (intent.status, intent.position_id) == ("opened", ids[1])


async def test_operators_word_ends_the_search_while_the_broker_is_away(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        work = bench.store.take()
        await bench.broker.fault("lose_answer_reset")
        bench.client.after_open = lambda: setattr(bench.client, "is_down", True)
        placing = asyncio.create_task(bench.place(work))
        await eventually_async(lambda: bench.order_status(work) == "unknown")
        bench.clock.ahead_s += 300
        assert bench.resolve(work, str(bench.placed()[0]["position_id"])).outcome is Outcome.APPLIED
        await placing
        assert bench.status(work) == "opened"


async def test_stop_while_the_operator_is_awaited_ends_the_wait_and_the_next_life_waits_again(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        work = bench.store.take()
        await bench.broker.fault("hide_position", seconds=3_600)
        placing = await waits_for_the_operator(bench, work)
        bench.stopping.set()
        await placing
        bench.stopping.clear()
        assert len(bench.reader.unresolved_orders()) == 1 and len(bench.halts()) == 1


async def test_position_that_another_intent_owns_is_left_to_the_operator(tmp_path: Path) -> None:
    """Two intents and one position: the store refuses, and nobody guesses."""
    async with execution.a_bench(tmp_path) as bench:
        work = bench.store.take()

        def steal() -> None:  # between the look and the record
            position_id = bench.broker.venue.book.holdings[0].id
            bench.store._db.execute("DROP TRIGGER orders_begin_reserved")
            bench.store._db.execute(
                "INSERT INTO orders (intent_id, plan, baseline, reserved_at, deadline_at) "
                "SELECT 'other', plan, baseline, reserved_at, deadline_at FROM orders WHERE intent_id = ?",
                (work.intent.id,)
            )  # fmt: skip
            bench.store._db.execute(
                "UPDATE orders SET status = 'opened', position_id = ? WHERE intent_id = 'other'", (position_id,)
            )

        bench.store._db.pragma("foreign_keys", False)
        bench.store.before = on(messages.OrderOpened, once(steal))
        placing = await waits_for_the_operator(bench, work)
        assert "could not be recorded" in bench.halts()[0]
        bench.stopping.set()
        await placing


# ── the stop ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("also", ["", "lose_answer_reset"])
async def test_stop_that_the_broker_ignored_is_set_before_the_position_counts_as_opened(
    tmp_path: Path, also: str
) -> None:
    async with execution.a_bench(tmp_path) as bench:
        await bench.broker.fault("ignore_stop")
        if also:

            def lose() -> None:
                raise UnknownOutcome("POST /position/open: ReadError")

            bench.client.after_open = lose
        stops: list[Any] = []
        bench.store.before = on(
            messages.OrderOpened, lambda: stops.append(bench.broker.venue.book.holdings[0].sl_price)
        )
        work = await bench.place()
        assert_one(bench, work, "opened")
        order = bench.reader.order(work.intent.id)
        assert order is not None and stops == [order.plan.sl_price]
        assert bench.broker.venue.book.holdings[0].tp_price == order.plan.tp_price


@over_both_apis
async def test_position_that_takes_no_stop_is_closed_and_the_intent_ends_with_its_result(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        await bench.broker.fault("ignore_stop")
        await bench.broker.fault("status_503", on="edit", times=10)
        work = await bench.place()
        assert_one(bench, work, "closed")
        assert bench.broker.venue.book.holdings == ()


@over_both_apis
async def test_position_that_takes_neither_stop_nor_close_halts_and_is_tried_for_ever(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        await bench.broker.fault("ignore_stop")
        await bench.broker.fault("status_503", on="edit", times=6)
        await bench.broker.fault("status_503", on="close", times=5)
        work = await bench.place()
        assert "has no stop, takes none and cannot be closed" in bench.halts()[0]
        assert_one(bench, work, "closed")  # in the second round


@over_both_apis
async def test_position_whose_stop_cannot_be_sent_halts_and_gets_it_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with execution.a_bench(tmp_path) as bench:
        await bench.broker.fault("ignore_stop")
        edit = bench.client.edit_position

        async def until_halted(*args: Any) -> None:
            if not bench.halts():
                raise NotSent("no connection")
            await edit(*args)

        monkeypatch.setattr(bench.client, "edit_position", until_halted)
        assert_one(bench, await bench.place(), "opened")
        assert "is without its stop" in bench.halts()[0] and len(bench.halts()) == 1


@over_both_apis
async def test_position_that_vanishes_after_an_edit_is_the_operators_and_is_closed_when_it_comes_back(
    tmp_path: Path,
) -> None:
    async with execution.a_bench(tmp_path) as bench:
        await bench.broker.fault("naked")
        await bench.broker.fault("positions_vanish", skip=3, times=30)
        work = await bench.place()
        (halt,) = bench.halts()
        assert halt.startswith(f"order of intent {work.intent.id} is ambiguous: position")
        assert_one(bench, work, "closed")
        assert bench.broker.venue.book.holdings == ()


@over_both_apis
async def test_silent_store_does_not_keep_us_from_a_naked_position(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        bench.store.silent = {messages.RaiseHalt: 1}
        await bench.broker.fault("ignore_stop")
        await bench.broker.fault("status_503", on="edit", times=4)
        await bench.broker.fault("status_503", on="close", times=5)
        assert_one(bench, await bench.place(), "opened")


@over_both_apis
async def test_target_that_the_broker_ignored_is_set(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:

        def lose_target() -> None:
            held = bench.broker.venue.book.holdings[0]
            bench.broker.venue.edit_position(held.id, held.sl_price, D(0))

        bench.client.after_open = lose_target
        work = await bench.place()
        assert_one(bench, work, "opened")
        order = bench.reader.order(work.intent.id)
        assert order is not None and bench.broker.venue.book.holdings[0].tp_price == order.plan.tp_price
