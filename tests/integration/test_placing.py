"""The executor's desk up to its order, over a real paper broker and a real store: what is not sent, and why.

What the broker's own ledger says it placed is the truth of every test; what was sent is counted at the client.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from actors.broker.wire import PendingOrder
from actors.desk import certificate, view
from actors.desk.patience import REST_S_MAX, RETRY_S, RETRY_S_MAX
from actors.desk.placing import LOOKS_MAX, RETRY_LOGIN_S
from bus import messages
from bus.clock import iso
from bus.vocabulary import Outcome
from tests.kit import execution
from tests.kit.compliance import D
from tests.kit.desk import EXECUTOR, MONITOR
from tests.kit.execution import Bench
from tests.kit.placing import assert_nothing_sent, assert_one, held_for_s, on, once, over_both_apis

CLOSED_PORT = "http://127.0.0.1:9"  # nothing listens on the discard port


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
