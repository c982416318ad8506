"""An order with a key: repeated while it might be opened for the first time, too, and then only looked for.

What the paper broker's own ledger says it placed is the truth of every test; what was sent is counted at the client.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from actors.broker.errors import KeyConflict, NotSent, Refused, UnknownOutcome
from actors.broker.wire import OpenRequest
from actors.desk.allowance import Allowance, Block
from actors.desk.repeating import REPEATS_MAX
from bus import messages
from bus.clock import iso
from bus.vocabulary import Outcome
from tests.kit import execution
from tests.kit.desk import EXECUTOR, MONITOR
from tests.kit.execution import QUIET_S, Bench

LOST = ("lose_answer_reset", "html_200", "redirect", "ok_without_order_id", "json_500", "401_placed")
NEVER_PLACED = ("drop_unplaced", "html_400", "401_once", "status_503", "429")


def a_bench(tmp_path: Path, **more: Any) -> Any:
    return execution.a_bench(tmp_path, api="trader", **more)


def keys(bench: Bench) -> set[str]:
    return {one.idempotency_key for one in bench.client.opens}


def assert_one(bench: Bench, work: messages.Execute, status: str, *, sends: int) -> None:
    """Check how the intent ended, that all sends were one request, and that broker and store agree."""
    assert bench.status(work) == status
    assert len(bench.client.opens) == sends
    assert len(set(map(repr, bench.client.opens))) <= 1, "a repetition differs from the order"
    intent, order = bench.reader.intent(work.intent.id), bench.reader.order(work.intent.id)
    assert intent is not None and order is not None
    assert keys(bench) <= {order.idempotency_key}
    assert [row["position_id"] for row in bench.placed()] == ([intent.position_id] if intent.position_id else [])


def at_each(act: Callable[[int], None]) -> Callable[[OpenRequest], None]:
    """Return a hook that is called with the number of the send, from 1."""
    count = [0]

    def hook(_: OpenRequest) -> None:
        count[0] += 1
        act(count[0])

    return hook


# ── the key ─────────────────────────────────────────────────────────────────


async def test_key_and_comment_are_on_disk_before_anything_is_sent(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        seen: list[Any] = []
        work = bench.store.take()
        bench.client.before_open = lambda request: seen.append((request, bench.reader.order(work.intent.id)))
        await bench.place(work)
        ((request, order),) = seen
        assert request.idempotency_key == order.idempotency_key and len(request.idempotency_key) == 36
        assert request.comment == work.intent.id
        assert order.figures_mark.endswith(f" {execution.BOOT}")
        assert_one(bench, work, "opened", sends=1)


async def test_each_order_has_a_key_of_its_own_and_over_the_platform_api_none(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        await bench.place()
        await bench.place(symbol="GBPUSD")
        assert len(keys(bench)) == 2
    (tmp_path / "other").mkdir()
    async with execution.a_bench(tmp_path / "other") as bench:
        work = await bench.place()
        order = bench.reader.order(work.intent.id)
        assert order is not None and (order.idempotency_key, order.figures_mark) == (None, None)


# ── repeated at once ────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", LOST)
async def test_lost_answer_is_known_by_one_repetition_and_nothing_is_placed_twice(tmp_path: Path, fault: str) -> None:
    async with a_bench(tmp_path) as bench:
        await bench.broker.fault(fault)
        work = await bench.place()
        assert_one(bench, work, "opened", sends=2)
        events = [move.event for move in bench.reader.transitions(work.intent.id)]
        assert events[-3:] == ["reserve", "lose_answer", "open"]


@pytest.mark.parametrize("fault", NEVER_PLACED)
async def test_order_that_never_arrived_is_opened_by_its_repetition(tmp_path: Path, fault: str) -> None:
    async with a_bench(tmp_path) as bench:
        await bench.broker.fault(fault)
        assert_one(bench, await bench.place(), "opened", sends=2)


async def test_broker_that_never_answers_is_asked_so_often_and_then_only_looked_at(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        began_s = bench.clock.monotonic()
        await bench.broker.fault("drop_unplaced", times=50)
        work = await bench.place()
        assert_one(bench, work, "failed", sends=1 + REPEATS_MAX)
        assert "looks that started after the quiet period" in bench.reason(work)
        assert bench.clock.monotonic() - began_s >= QUIET_S
        assert [wait_s for wait_s in bench.slept_s if wait_s in (0.5, 1.0, 2.0)] == [0.5, 1.0, 2.0]


async def test_quiet_period_begins_at_the_last_repetition(tmp_path: Path) -> None:
    async with a_bench(tmp_path, quiet_s=5.0) as bench:
        sent_s: list[float] = []
        bench.client.after_open = lambda: sent_s.append(bench.clock.monotonic())
        await bench.broker.fault("drop_unplaced", times=50)
        await bench.place()
        assert bench.clock.monotonic() - sent_s[-1] >= 5.0


async def test_order_that_is_placed_late_is_under_way_for_its_repetitions_and_then_found(tmp_path: Path) -> None:
    async with a_bench(tmp_path, quiet_s=2.0) as bench:
        bench.is_real_time = True
        await bench.broker.fault("place_late", seconds=0.2)
        work = await bench.place()
        assert bench.status(work) == "opened"
        assert len(bench.placed()) == 1


async def test_refusal_of_a_repetition_proves_nothing(tmp_path: Path) -> None:
    """The first request was placed; the margin it took is what the repetition lacks."""
    async with a_bench(tmp_path) as bench:
        await bench.broker.fault("lose_answer_reset")
        await bench.broker.fault("reject_200")
        work = await bench.place()
        assert_one(bench, work, "opened", sends=2)


async def test_refusal_of_the_first_request_is_final(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        await bench.broker.fault("reject_200")
        work = await bench.place()
        assert_one(bench, work, "failed", sends=1)
        assert "TRADE_DISABLED" in bench.reason(work)


async def test_repetition_that_finds_no_connection_is_repeated_and_the_first_one_stays_unknown(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:

        def cut(number: int) -> None:
            if number == 2:
                raise NotSent("no connection")

        await bench.broker.fault("lose_answer_reset")
        bench.client.before_open = at_each(cut)
        assert_one(bench, await bench.place(), "opened", sends=3)


# ── not repeated ────────────────────────────────────────────────────────────


def passes(bench: Bench, seconds: float) -> Callable[[int], None]:
    """Return an act that lets time pass during the first request, whose answer is then lost."""

    def act(number: int) -> None:
        if number == 1:
            bench.clock.ahead_s += seconds
            raise UnknownOutcome("timeout")

    return act


async def test_order_is_not_opened_on_figures_that_grew_old(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        bench.client.before_open = at_each(passes(bench, 15.0))
        work = await bench.place()
        assert_one(bench, work, "failed", sends=1)


async def test_figures_grow_old_between_two_repetitions(tmp_path: Path) -> None:
    async with a_bench(tmp_path, figures_age_s_max=4.0) as bench:

        def slow(number: int) -> None:
            bench.clock.ahead_s += 1.8
            raise UnknownOutcome("timeout")

        bench.client.before_open = at_each(slow)
        assert_one(bench, await bench.place(), "failed", sends=2)


async def test_figures_are_as_old_as_the_wall_clock_says_when_the_machine_slept(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        now = bench.clock.now

        def sleep(_: int) -> None:
            bench.clock.now = lambda: now() + timedelta(seconds=20)  # type: ignore[method-assign]
            raise UnknownOutcome("timeout")

        bench.client.before_open = at_each(sleep)
        assert_one(bench, await bench.place(), "failed", sends=1)


async def test_figures_are_as_old_as_the_monotonic_clock_says_when_the_wall_clock_was_set_back(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        now = bench.clock.now

        def set_back(_: int) -> None:
            bench.clock.now = lambda: now() - timedelta(seconds=30)  # type: ignore[method-assign]
            bench.clock.ahead_s += 16.0
            raise UnknownOutcome("timeout")

        bench.client.before_open = at_each(set_back)
        work = await bench.place()
        assert len(bench.client.opens) == 1
        assert bench.placed() == [] and bench.status(work) == "failed"


@pytest.mark.parametrize("retry_s", [0.0, 0.1])
async def test_repetitions_can_be_bounded_and_forbidden(tmp_path: Path, retry_s: float) -> None:
    async with a_bench(tmp_path, keyed_retry_s=retry_s) as bench:
        await bench.broker.fault("lose_answer_reset")
        assert_one(bench, await bench.place(), "opened", sends=1)


async def test_halt_that_was_raised_meanwhile_forbids_the_repetition(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        halt = messages.RaiseHalt(level="hard", reason="max_drawdown: too much")
        await bench.broker.fault("drop_unplaced")
        bench.client.after_open = lambda: bench.store.apply(MONITOR, halt)
        assert_one(bench, await bench.place(), "failed", sends=1)


async def test_lease_that_is_gone_forbids_the_repetition(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        work = bench.store.take()

        def take_away() -> None:
            bench.desk._holds = lambda _: False

        await bench.broker.fault("drop_unplaced")
        bench.client.after_open = take_away
        await bench.place(work)
        assert (len(bench.client.opens), bench.placed()) == (1, [])


async def test_intent_that_expired_meanwhile_is_not_repeated(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        work = bench.store.take()
        soon = iso(bench.clock.now() + timedelta(seconds=1))
        work = structs.replace(work, intent=structs.replace(work.intent, expires_at=soon))

        def expire() -> None:
            bench.clock.ahead_s += 1.0

        await bench.broker.fault("drop_unplaced")
        bench.client.after_open = expire
        await bench.place(work)
        assert (len(bench.client.opens), bench.placed()) == (1, [])


async def test_work_that_comes_late_repeats_no_order_that_was_settled_since(tmp_path: Path) -> None:
    """The same work a second time, after its order failed: nobody would own what a repetition opens."""
    async with a_bench(tmp_path) as bench:
        work = await lost_and_stopped(bench, placed=False)
        order = bench.reader.order(work.intent.id)
        assert order is not None
        failed = messages.OrderFailed(intent_id=work.intent.id, epoch=work.epoch, reason="test: settled")
        assert bench.store.apply(EXECUTOR, failed).outcome is Outcome.APPLIED
        await bench.a_desk().settle(work, order)
        assert (len(bench.client.opens), bench.placed()) == (1, [])


async def test_process_that_is_to_stop_repeats_nothing_and_its_next_life_looks(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        work = await lost_and_stopped(bench, placed=True)
        assert len(bench.client.opens) == 1
        bench.pass_time(16.0)
        await bench.settle(work, bench.a_desk())
        assert_one(bench, work, "opened", sends=1)


async def test_requests_for_repetitions_are_granted_with_the_trade_and_never_from_the_reserve(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        asked: list[messages.GrantRequests] = []

        async def grant(command: messages.Command, deadline_s: float | None = None) -> messages.Ack:
            assert isinstance(command, messages.GrantRequests)
            asked.append(command)
            is_fine = command.purpose == "work" and len(asked) == 1
            return messages.Ack(id="1", outcome=Outcome.APPLIED if is_fine else Outcome.REFUSED)

        bench.allowance = Allowance(grant, bench.clock, bench._today, block=Block())
        bench.desk = bench.a_desk()
        await bench.broker.fault("lose_answer_reset")
        work = await bench.place()
        assert_one(bench, work, "opened", sends=2)
        assert asked[0].writes == 4 + REPEATS_MAX


async def test_next_life_without_a_grant_repeats_nothing(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        work = await lost_and_stopped(bench, placed=True)

        async def refuse(command: messages.Command, deadline_s: float | None = None) -> messages.Ack:
            assert isinstance(command, messages.GrantRequests) and command.purpose == "work"
            return messages.Ack(id="1", outcome=Outcome.REFUSED)

        bench.allowance = Allowance(refuse, bench.clock, bench._today, block=Block())
        await bench.settle(work, bench.a_desk())
        assert_one(bench, work, "opened", sends=1)


# ── the next life ───────────────────────────────────────────────────────────


async def lost_and_stopped(bench: Bench, *, placed: bool) -> messages.Execute:
    """Lose an answer and stop at once, as a kill would leave it. The position shows only afterwards."""
    if placed:
        await bench.broker.fault("hide_position", seconds=5.0, then="lose_answer_reset")
    else:
        await bench.broker.fault("drop_unplaced")
    bench.client.after_open = bench.stopping.set
    work = await bench.place()
    bench.client.after_open = lambda: None
    bench.stopping.clear()
    assert bench.order_status(work) == "unknown"
    bench.pass_time(5.0)
    return work


@pytest.mark.parametrize("placed", [True, False])
async def test_next_life_repeats_with_the_same_key_while_the_figures_are_young(tmp_path: Path, placed: bool) -> None:
    async with a_bench(tmp_path) as bench:
        work = await lost_and_stopped(bench, placed=placed)
        await bench.settle(work, bench.a_desk())
        assert_one(bench, work, "opened", sends=2)


async def test_next_life_repeats_nothing_on_old_figures(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        work = await lost_and_stopped(bench, placed=False)
        bench.pass_time(15.0)
        await bench.settle(work, bench.a_desk())
        assert_one(bench, work, "failed", sends=1)


async def test_next_life_after_a_boot_repeats_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_bench(tmp_path) as bench:
        work = await lost_and_stopped(bench, placed=False)
        monkeypatch.setattr(execution, "BOOT", "another-boot")
        await bench.settle(work, bench.a_desk())
        assert_one(bench, work, "failed", sends=1)


async def test_order_that_was_sent_without_a_key_is_never_sent_with_one(tmp_path: Path) -> None:
    """The profile was changed to the Trader API while an order of the Platform API was unresolved."""
    async with a_bench(tmp_path) as bench:
        work = await lost_and_stopped(bench, placed=True)
        order = bench.reader.order(work.intent.id)
        assert order is not None
        await bench.a_desk().settle(work, structs.replace(order, idempotency_key=None, figures_mark=None))
        assert_one(bench, work, "opened", sends=1)


# ── what a keyed answer may bring ───────────────────────────────────────────


@pytest.mark.parametrize("is_first", [True, False])
async def test_objection_to_the_key_halts_and_is_only_looked_after(tmp_path: Path, is_first: bool) -> None:
    async with a_bench(tmp_path) as bench:

        def object_to_it(number: int) -> None:
            if is_first or number == 2:
                raise KeyConflict("409, idempotency-key-conflict: it is another order's")

        if not is_first:
            await bench.broker.fault("lose_answer_reset")
        bench.client.before_open = at_each(object_to_it)
        work = await bench.place()
        assert_one(bench, work, "failed" if is_first else "opened", sends=1 if is_first else 2)
        assert any(reason.startswith("order_key: ") for reason in bench.halts())


async def test_two_positions_for_one_key_halt_the_account(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        await bench.broker.fault("place_twice")
        work = bench.store.take()
        bench.client.after_open = lambda: None
        bench.is_real_time = False
        await until_halted(bench, work)
        assert (len(bench.placed()), bench.order_status(work)) == (2, "unknown")
        assert any("its comment is on 1000001, 1000002" in reason for reason in bench.halts())


async def test_repetition_that_names_a_position_of_another_intent_halts(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:
        first = await bench.place()
        owned = bench.reader.intent(first.intent.id)
        assert owned is not None

        async def named(order: OpenRequest) -> str:
            bench.client.opens.append(order)
            if len(bench.client.opens) == 2:
                raise UnknownOutcome("timeout")
            return str(owned.position_id)

        bench.client.open_position = named  # type: ignore[method-assign]
        work = bench.store.take("EURUSD")
        work = bench.store.take("GBPUSD") if work.intent.id == first.intent.id else work
        await until_halted(bench, work)
        assert bench.order_status(work) == "unknown"
        assert any("which is another position" in reason for reason in bench.halts())


async def until_halted(bench: Bench, work: messages.Execute) -> None:
    """Place an intent whose order cannot be told, and stop once the account is halted."""
    sleep = bench.sleep

    async def stop_when_halted(seconds: float) -> bool:
        if bench.halts():
            bench.stopping.set()
        return await sleep(seconds)

    bench.sleep = stop_when_halted  # type: ignore[method-assign]
    bench.desk = bench.a_desk()
    await bench.place(work)


async def test_repetition_that_is_refused_in_earnest_leaves_no_order(tmp_path: Path) -> None:
    async with a_bench(tmp_path) as bench:

        def refuse(number: int) -> None:
            raise UnknownOutcome("timeout") if number == 1 else Refused("no")

        bench.client.before_open = at_each(refuse)
        assert_one(bench, await bench.place(), "failed", sends=2)
