"""The executor's desk over a real paper broker and a real store: each order at most once, and we always find out.

What the broker's own ledger says it placed is the truth of every test; what was sent is counted at the client.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from actors.broker.client import BrokerClient
from actors.broker.errors import Refused, UnknownOutcome
from actors.broker.wire import OpenRequest, PendingOrder
from actors.desk import certificate, view
from actors.desk.patience import REST_S_MAX, RETRY_S, RETRY_S_MAX
from actors.desk.placing import LOOKS_MAX, RETRY_LOGIN_S
from bus import messages
from bus.clock import iso, parse
from bus.vocabulary import Outcome
from tests.kit import execution
from tests.kit.compliance import D
from tests.kit.desk import EXECUTOR, MONITOR
from tests.kit.eventually import eventually_async
from tests.kit.execution import QUIET_S, Bench

CLOSED_PORT = "http://127.0.0.1:9"  # nothing listens on the discard port


@pytest.fixture(params=["platform", "trader"])
def an_api(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every bench of the test speak one API, and in a second run the other."""
    monkeypatch.setattr(execution, "API", request.param)


over_both_apis = pytest.mark.usefixtures("an_api")


def assert_nothing_sent(bench: Bench) -> None:
    assert bench.client.opens == []
    assert bench.placed() == []


def assert_one(bench: Bench, work: messages.Execute, status: str) -> None:
    """Check that one order was sent, how it ended, and that store and broker agree on its position."""
    assert len(bench.client.opens) == 1
    assert bench.status(work) == status
    intent = bench.reader.intent(work.intent.id)
    assert intent is not None
    owned = [str(row["position_id"]) for row in bench.placed()]
    assert owned == ([intent.position_id] if intent.position_id else [])


def once(act: Callable[[], Any]) -> Callable[..., None]:
    """Return a hook that acts the first time only."""
    left = [act]

    def hook(*_: Any) -> None:
        if left:
            left.pop()()

    return hook


def on(kind: type, act: Callable[[], Any]) -> Callable[[messages.Command], None]:
    """Return a hook that acts at every command of one kind."""
    return lambda command: act() if isinstance(command, kind) else None


def held_for_s(bench: Bench, work: messages.Execute) -> float:
    """Return how long the intent that was given back is held back."""
    intent = bench.reader.intent(work.intent.id)
    assert intent is not None and intent.not_before is not None
    return (parse(intent.not_before) - bench.clock.now()).total_seconds()


# ── before the reservation: nothing is traded ───────────────────────────────


@over_both_apis
@pytest.mark.parametrize(("symbol", "rule"), [("AUDUSD", "symbol"), ("XAUUSD", "symbol"), ("USDCHF", "quote_missing")])
async def test_symbol_the_broker_does_not_know_or_quote_is_rejected(tmp_path: Path, symbol: str, rule: str) -> None:
    async with execution.a_bench(tmp_path) as bench:
        bench.client.no_quote_of = "USDCHF"
        work = await bench.place(symbol=symbol)
        assert bench.status(work) == "rejected"
        assert bench.reason(work).startswith(f"{rule}: ")
        intent = bench.reader.intent(work.intent.id)
        assert intent is not None and '"passed":false' in intent.compliance_snapshot
        assert_nothing_sent(bench)


@over_both_apis
@pytest.mark.parametrize(
    "call", ["instruments", "pending_orders", "open_positions", "balance", "closed_positions", "quotes"]
)
async def test_read_that_brings_a_page_is_tried_again_later_and_nothing_is_traded(tmp_path: Path, call: str) -> None:
    async with execution.a_bench(tmp_path) as bench:
        bench.client.html_on = call
        work = await bench.place()
        assert bench.client.html_on == "", "the page was never asked for"
        assert bench.status(work) == "ready_for_exec"
        assert "expected JSON, found text/html" in bench.reason(work)
        assert RETRY_S - 2 < held_for_s(bench, work) <= RETRY_S
        assert_nothing_sent(bench)

        bench.pass_time(RETRY_S)
        assert_one(bench, await bench.place(bench.store.given()), "opened")


async def test_login_that_brings_a_page_is_tried_again_later(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path, logged_in=False) as bench:
        await bench.broker.fault("html_200", on="login")
        work = await bench.place()
        assert bench.status(work) == "ready_for_exec"
        assert_nothing_sent(bench)


@over_both_apis
async def test_content_network_that_blocks_us_is_not_hammered(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        await bench.broker.fault("html_403", on="read")
        work = await bench.place()
        assert bench.status(work) == "ready_for_exec"
        assert RETRY_LOGIN_S - 2 < held_for_s(bench, work) <= RETRY_LOGIN_S
        assert_nothing_sent(bench)


async def test_while_the_broker_asks_for_a_pause_no_other_intent_asks_it_anything(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        bench.client.asks_for_s = 1_800.0
        first = await bench.place()
        left_s = 1_800.0
        assert left_s - 2 < held_for_s(bench, first) <= left_s
        asked = len(bench.client.order_of_calls)
        bench.store.ready()
        second = await bench.place(bench.store.given())
        assert second.intent.id != first.intent.id
        assert left_s - 2 < held_for_s(bench, second) <= left_s
        assert len(bench.client.order_of_calls) == asked
        bench.pass_time(left_s)
        assert_one(bench, await bench.place(bench.store.given()), "opened")


async def test_short_outage_puts_aside_what_was_tried_and_not_the_whole_queue(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        bench.client.is_down = True
        began_s, waits_s = bench.clock.monotonic(), []
        for _ in range(4):
            bench.store.ready()
        for _ in range(4):
            work = await bench.place(bench.store.given())
            waits_s.append(round(held_for_s(bench, work), -1))
        assert waits_s == [RETRY_S] * 4, "an outage makes nobody wait for the failures of others"
        assert bench.clock.monotonic() - began_s >= 1 + 2 + 4 + 8, "and is not met by the next at once"


async def test_broker_that_is_away_holds_the_intent_back_longer_and_longer(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        bench.client.is_down = True
        work, waits_s, rests_s = bench.store.take(), [], []
        for _ in range(7):
            bench.slept_s.clear()
            await bench.place(work)
            rests_s.append(round(max(bench.slept_s)))
            waits_s.append(round(held_for_s(bench, work), -1))
            bench.pass_time(held_for_s(bench, work))
            work = bench.store.given()
        assert waits_s == [10, 20, 40, 80, 160, RETRY_S_MAX, RETRY_S_MAX]
        assert rests_s == [1, 2, 4, 8, 16, 32, REST_S_MAX]
        bench.client.is_down = False
        assert_one(bench, await bench.place(work), "opened")


async def test_store_that_does_not_keep_the_day_is_no_reason_to_trade_without_it(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        bench.store.silent = {messages.StartDay: 1}
        work = await bench.place()
        assert bench.status(work) == "ready_for_exec"
        assert_nothing_sent(bench)


@pytest.mark.parametrize("stops_at", ["delay", "look"])
async def test_process_that_is_to_stop_begins_no_order(tmp_path: Path, stops_at: str) -> None:
    async with execution.a_bench(tmp_path) as bench:
        work = bench.store.take()
        if stops_at == "delay":
            bench.stopping.set()
        else:
            bench.store.after = on(messages.StartDay, bench.stopping.set)
        await bench.place(work)
        assert bench.status(work) == "ready_for_exec"
        assert bench.reason(work) == "stopping"
        assert bench.reader.order(work.intent.id) is None
        assert_nothing_sent(bench)


async def test_random_delay_comes_before_anything_is_read(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path, random_delay_s_max=600.0) as bench:
        read_before: list[list[str]] = []
        sleep = bench.desk._sleep

        async def noting(seconds: float) -> bool:
            read_before.append(list(bench.client.order_of_calls))
            return await sleep(seconds)

        bench.desk._sleep = noting
        work = await bench.place()
        assert read_before[0] == []
        assert 0 < bench.slept_s[0] <= 600
        assert_one(bench, work, "opened")


async def test_between_the_last_read_and_the_order_nothing_waits(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path, random_delay_s_max=600.0) as bench:
        await bench.place()
        calls = bench.client.order_of_calls
        assert calls[calls.index("POST") - 1] in ("quotes", "instruments")
        assert bench.slept_s[1:] == [0]  # one question whether to stop, before the guard


# ── the account as it is read ───────────────────────────────────────────────


def pending(**changes: Any) -> PendingOrder:
    usual: dict[str, Any] = {
        "id": "O-1", "symbol": "EURUSD", "broker_symbol": "EURUSD.", "kind": "LIMIT", "side": "BUY",
        "volume": D("0.10"), "activation_price": D("1.09000"), "sl_price": D("1.08500"), "tp_price": D("1.10000"),
    }  # fmt: skip
    return PendingOrder(**(usual | changes))


@pytest.mark.parametrize(("changes", "rule"), [
    ({"sl_price": None}, "position_without_stop"), ({"symbol": "EURXXX"}, "position_without_stop"),
    ({"volume": D("9.90")}, "lots"),
])  # fmt: skip
async def test_order_that_waits_at_the_broker_counts(tmp_path: Path, changes: dict[str, Any], rule: str) -> None:
    async with execution.a_bench(tmp_path) as bench:
        bench.client.waiting = (pending(**changes),)
        work = await bench.place()
        assert bench.status(work) == "rejected"
        assert bench.reason(work).startswith(f"{rule}: ")
        assert_nothing_sent(bench)


async def test_harmless_waiting_order_travels_with_the_certificate(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        bench.client.waiting = (pending(),)
        work = await bench.place()
        assert_one(bench, work, "opened")
        found = bench.store.sent(messages.ReserveOrder)[0].certificate
        # 50 pips, 5 of gap at the filling and 5 at the stop: $60, and 0.10 lots of $40 for commission and swap.
        assert [(loss.id, loss.loss_cents) for loss in found.pending] == [("O-1", 6_400)]
        assert [line.name for line in found.lines] == [
            "daily 00:00 Europe/Athens", "daily 17:00 America/New_York", "next_day", "maximum",
        ]  # fmt: skip


async def test_balance_that_moves_while_it_is_read_is_read_again_later(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        bench.client.balance_moves = [0, 100]
        work = await bench.place()
        assert bench.status(work) == "ready_for_exec"
        assert "the balance changed while the account was read" in bench.reason(work)
        assert RETRY_S - 2 < held_for_s(bench, work) <= RETRY_S
        assert_nothing_sent(bench)

        bench.pass_time(RETRY_S)
        assert_one(bench, await bench.place(bench.store.given()), "opened")


async def test_balance_that_no_trade_explains_is_read_again_later(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        assert_one(bench, await bench.place(), "opened")
        bench.client.balance_moves = [-100_000] * 10
        work = await bench.place(symbol="GBPUSD")
        assert bench.status(work) == "ready_for_exec"
        assert "explained by no trade" in bench.reason(work)
        assert len(bench.client.opens) == 1

        bench.client.balance_moves = []
        bench.pass_time(RETRY_S)
        await bench.place(bench.store.given())
        assert bench.status(work) == "opened"


async def test_balance_that_no_trade_explains_is_rejected_once_the_account_is_halted(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        assert_one(bench, await bench.place(), "opened")
        work = bench.store.take("GBPUSD")
        bench.store.apply(MONITOR, messages.RaiseHalt(level="hard", reason="account: the balance differs"))
        bench.client.balance_moves = [-100_000] * 10
        await bench.place(work)
        assert (bench.status(work), bench.reason(work).partition(":")[0]) == ("rejected", "halted")
        snapshot = json.loads(bench.reader.intent(work.intent.id).compliance_snapshot)  # type: ignore[union-attr]
        assert {"halted", "account_sane"} <= {one["name"] for one in snapshot["checks"] if not one["passed"]}
        assert len(bench.client.opens) == 1


async def test_rule_set_that_was_edited_meanwhile_is_not_traded_by(tmp_path: Path, monkeypatch: Any) -> None:
    async with execution.a_bench(tmp_path) as bench:
        monkeypatch.setattr(view, "_rules_hash", lambda settings: "0" * 64)
        work = await bench.place()
        assert (bench.status(work), bench.reason(work).partition(":")[0]) == ("rejected", "rules_current")
        assert_nothing_sent(bench)


# ── the reservation and its licence ─────────────────────────────────────────


def change_the_account(bench: Bench) -> None:
    """Write a halt and lift it: figures from before are overtaken."""
    halt = messages.RaiseHalt(level="soft", reason="test: a moment", until=iso(bench.clock.now() + timedelta(hours=1)))
    assert bench.store.apply(MONITOR, halt).outcome is Outcome.APPLIED
    bench.store.lift_halts()


async def test_account_that_changed_since_it_was_read_is_read_again_at_once(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        bench.store.before = on(messages.ReserveOrder, once(lambda: change_the_account(bench)))
        work = await bench.place()
        assert_one(bench, work, "opened")
        assert len(bench.store.sent(messages.ReserveOrder)) == 2
        assert bench.halts() == []


async def test_account_that_never_stops_changing_is_given_back(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        bench.store.before = on(messages.ReserveOrder, lambda: change_the_account(bench))
        work = await bench.place()
        assert len(bench.store.sent(messages.ReserveOrder)) == LOOKS_MAX
        assert (bench.status(work), bench.order_status(work)) == ("ready_for_exec", "none")
        assert_nothing_sent(bench)


@over_both_apis
@pytest.mark.parametrize("field", ["balance_cents", "order_loss_cents"])
async def test_certificate_that_does_not_add_up_sends_nothing_and_halts(
    tmp_path: Path, monkeypatch: Any, field: str
) -> None:
    true = certificate.certificate

    def tampered(*given: Any) -> Any:
        found = true(*given)
        return structs.replace(found, **{field: getattr(found, field) + 1})

    async with execution.a_bench(tmp_path) as bench:
        monkeypatch.setattr(certificate, "certificate", tampered)
        work = await bench.place()
        assert_nothing_sent(bench)
        assert bench.order_status(work) == "none"
        assert [reason.partition(":")[0] for reason in bench.halts()] == ["certificate"]


@over_both_apis
async def test_figures_that_grew_old_until_the_order_send_nothing(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path, figures_age_s_max=3.0, licence_s=2.0) as bench:

        def pass_two_seconds() -> None:
            bench.clock.ahead_s += 1.9

        reads = on(messages.ReserveOrder, pass_two_seconds)
        bench.store.before = bench.store.after = reads  # 3.8 s: but the licence is only 1.9 s old after the answer
        work = await bench.place()
        assert_nothing_sent(bench)
        assert "not sent" in bench.reason(work)


@over_both_apis
async def test_licence_that_grew_old_sends_nothing_and_fails_the_order(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:

        def freeze() -> None:
            bench.clock.ahead_s += 3.0

        bench.store.after = on(messages.ReserveOrder, freeze)
        work = await bench.place()
        assert_nothing_sent(bench)
        assert bench.status(work) == "failed"
        assert bench.reason(work).startswith("not sent: the licence was 3.")
        assert bench.order_status(work) == "failed"


@over_both_apis
async def test_licence_is_as_old_as_the_wall_clock_says_when_the_machine_slept(tmp_path: Path) -> None:
    """The monotonic clock stands still while a machine is suspended."""
    async with execution.a_bench(tmp_path) as bench:
        now = bench.clock.now

        def suspend() -> None:
            bench.clock.now = lambda: now() + timedelta(seconds=10)  # type: ignore[method-assign]

        bench.store.after = on(messages.ReserveOrder, suspend)
        work = await bench.place()
        assert_nothing_sent(bench)
        assert "not sent: the licence was" in bench.reason(work)


@over_both_apis
@pytest.mark.parametrize("is_applied", [False, True])
async def test_reservation_without_an_answer_sends_nothing(tmp_path: Path, is_applied: bool) -> None:
    async with execution.a_bench(tmp_path) as bench:
        bench.store.silent, bench.store.applies_silently = {messages.ReserveOrder: 1}, is_applied
        work = await bench.place()
        assert_nothing_sent(bench)
        if is_applied:
            assert (bench.status(work), bench.order_status(work)) == ("failed", "failed")
        else:
            assert (bench.status(work), bench.order_status(work)) == ("ready_for_exec", "none")
        assert ("ReserveOrder", bench.settings.executor.licence_s) in bench.store.deadlines_s


@over_both_apis
async def test_halt_that_was_raised_during_the_look_sends_nothing(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        halt = messages.RaiseHalt(level="hard", reason="max_drawdown: too much")
        bench.store.before = on(messages.ReserveOrder, once(lambda: bench.store.apply(MONITOR, halt)))
        work = await bench.place()
        assert_nothing_sent(bench)
        assert (bench.status(work), bench.order_status(work)) == ("ready_for_exec", "none")
        assert "halted: max_drawdown" in bench.reason(work)


@over_both_apis
async def test_lease_that_is_gone_sends_nothing(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        work = bench.store.take()
        away = messages.Release(intent_id=work.intent.id, epoch=work.epoch)
        bench.store.before = on(messages.ReserveOrder, once(lambda: bench.store.apply(EXECUTOR, away)))
        await bench.place(work)
        assert_nothing_sent(bench)
        assert bench.order_status(work) == "none"


@over_both_apis
async def test_work_that_comes_again_after_its_end_sends_nothing(tmp_path: Path) -> None:
    async with execution.a_bench(tmp_path) as bench:
        work = await bench.place()
        await bench.place(work)
        assert_one(bench, work, "opened")


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
