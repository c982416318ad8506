"""What the operator sees of records, among them text that tries to be more than text."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest

from actors.compliance import guard
from actors.console import overview, processes, tables
from actors.console.holdings import OpenPosition
from actors.console.overview import Overview
from actors.console.processes import NotRunning
from actors.console.tables import Row, Story
from bus import clock
from bus.records import DecisionRecord, EquitySample, Halt, LlmDay, Order, OrderPlan, Transition, Worker
from bus.vocabulary import OrderStatus, Status
from tests.kit.analysis import an_intent
from tests.kit.compliance import a_plan, an_account, the_facts, the_rules

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
EVIL = "bad\x1b]0;title\x07\x1b[31m [bold]x[/bold] :smile: \nforged"


def ago(seconds: float) -> str:
    return clock.iso(NOW - timedelta(seconds=seconds))


def a_transition(**changes: object) -> Transition:
    usual: dict[str, object] = {
        "seq": 1, "intent_id": "0123456789abcdef", "at": ago(60), "event": "propose", "from_status": None,
        "to_status": "pending", "actor": "scanner.1", "incarnation": "0" * 12, "epoch": 0, "reason": "",
        "payload": "{}", "prev_hash": "", "hash": "",
    }  # fmt: skip
    return Transition(**(usual | changes))  # type: ignore[arg-type]


def an_order(**changes: object) -> Order:
    plan = OrderPlan(
        symbol="EURUSD", broker_symbol="EURUSD.", side="BUY", volume=Decimal("0.41"), sl_price=Decimal("1.07910"),
        tp_price=Decimal("1.09710"), entry_price=Decimal("1.08510"), loss_cents=24_600, profit_cents=49_200,
    )  # fmt: skip
    usual: dict[str, object] = {
        "intent_id": "0123456789abcdef", "status": OrderStatus.UNKNOWN, "plan": plan, "baseline": ("P1", "P2"),
        "reserved_at": ago(5), "deadline_at": ago(-55),
    }  # fmt: skip
    return Order(**(usual | changes))  # type: ignore[arg-type]


def a_story(**changes: object) -> Story:
    usual: dict[str, object] = {
        "intent": an_intent(), "decision": None, "order": None, "transitions": [a_transition()], "compliance": None,
        "closing": None,
    }  # fmt: skip
    return Story(**(usual | changes))  # type: ignore[arg-type]


def a_position() -> OpenPosition:
    return OpenPosition(
        intent_id="0" * 16, position_id="P9", symbol="EURUSD", side="BUY", volume=Decimal("0.10"),
        entry_price=Decimal("1.1"), sl_price=Decimal("1.09"), tp_price=Decimal("1.12"), loss_cents=1_000,
        profit_cents=2_000, opened_at=ago(60), source="scanner", closing=None,
    )  # fmt: skip


def an_overview(**changes: object) -> Overview:
    usual: dict[str, object] = {
        "profile": "paper", "database": "/data/decisions.db", "counts": {}, "workers": [], "halts": [],
        "not_running": None, "is_watched": True,
        "unresolved_orders": [], "positions": [], "equity": None, "requests": None,
    }  # fmt: skip
    return Overview(**(usual | changes))  # type: ignore[arg-type]


def a_worker(name: str, silent_s: float, **changes: object) -> Worker:
    usual: dict[str, object] = {
        "name": name, "role": name.partition(".")[0], "incarnation": "0" * 12, "pid": 7, "state": "ready",
        "capacity": 2, "holding": 1, "progress": 5, "started_at": ago(500), "last_beat_at": ago(silent_s),
    }  # fmt: skip
    return Worker(**(usual | changes))  # type: ignore[arg-type]


@pytest.fixture
def out(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    monkeypatch.setenv("COLUMNS", "80")
    return io.StringIO()


def lines(out: io.StringIO) -> list[str]:
    found = out.getvalue().splitlines()
    assert all(len(line) <= 80 for line in found), max(found, key=len)
    assert "\x1b" not in out.getvalue() and "\x07" not in out.getvalue()
    return found


def test_hostile_text_is_shown_as_text_everywhere(out: io.StringIO) -> None:
    console = tables.console(out)
    intent = an_intent(
        agent_risk_report=EVIL, agent_state_json=msgspec.json.encode({EVIL: EVIL}).decode(), execution_error=EVIL,
        compliance_snapshot=EVIL,
    )  # fmt: skip
    compliance = tables.Compliance(reason=EVIL, checks=(tables.Check(EVIL, False, EVIL, EVIL, EVIL),))
    tables.show_story(console, a_story(intent=intent, transitions=[a_transition(reason=EVIL)], compliance=compliance))
    tables.show_intents(console, [Row(intent=intent, updated_at=EVIL, reason=EVIL)], NOW)
    overview.show(console, an_overview(unresolved_orders=[an_order(reason=EVIL)]), NOW)
    shown = "\n".join(lines(out))
    assert "[bold]x[/bold]" in shown
    assert ":smile:" in shown


@pytest.mark.parametrize("bad", ["nonsense", "[1]", '{"checks": 3}', "[" * 100_000])
def test_a_snapshot_of_another_shape_is_no_verdict(bad: str) -> None:
    assert tables.compliance_of(bad) is None


@pytest.mark.parametrize("bad", ["nonsense", "[1]", "[" * 1_000])
def test_a_signal_that_is_no_object_is_shown_as_it_is(out: io.StringIO, bad: str) -> None:
    tables.show_story(tables.console(out), a_story(intent=an_intent(signal_json=bad)))
    assert any(bad[:60] in line for line in lines(out))


def test_a_failed_check_is_shown_with_limit_and_found(out: io.StringIO) -> None:
    check = {"name": "daily_drawdown", "passed": False, "limit": "2125.00", "found": "2300.00", "text": "too much"}
    snapshot = {"passed": False, "rule": "daily_drawdown", "reason": "too much", "checks": [check]}
    found = tables.compliance_of(msgspec.json.encode(snapshot).decode())
    tables.show_story(tables.console(out), a_story(compliance=found))
    shown = " ".join(lines(out))
    for expected in ("Compliance: refused, too much", "daily_drawdown", "NO", "2125.00", "2300.00"):
        assert expected in shown


CHECKED = guard.check_all(
    a_plan(), an_account(balance_cents=4_812_500, realised_cents=86_001), the_rules(), the_facts(rules_hash="0" * 64)
)


@pytest.mark.parametrize("columns", [80, 100, 140])
def test_every_check_has_its_verdict_name_and_reason_whole(
    monkeypatch: pytest.MonkeyPatch, out: io.StringIO, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    found = tables.compliance_of(CHECKED.snapshot())
    assert found is not None
    tables.show_story(tables.console(out), a_story(compliance=found))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= columns
    shown = " ".join(text[text.index("Compliance: refused, ") :].split())
    for check in found.checks:
        said = " ".join(f"{'ok' if check.passed else 'NO'} {check.name}: {check.text}".split())
        assert f"{said} limit " in shown.replace("(limit ", "limit "), check.name
    for expected in (
        "limit 47,875.00, found 47,875.00",  # daily_drawdown
        "limit 1,360.00, found 1,360.01",  # best_day
        "limit 2,200.00, found ",  # margin
        f"limit {the_rules().fingerprint[:12]}, found {'0' * 12}",
        "NO daily_drawdown", "NO best_day", "ok positions", "limit 3, found 1",
    ):  # fmt: skip
        assert expected in shown, expected
    assert "0" * 13 not in shown and "4787500" not in shown


def test_figures_stand_beside_a_check_where_there_is_room(monkeypatch: pytest.MonkeyPatch, out: io.StringIO) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    tables.show_story(tables.console(out), a_story(compliance=tables.compliance_of(CHECKED.snapshot())))
    assert any("ok  currency: " in line and "   (limit USD, found USD)" in line for line in out.getvalue().splitlines())


def test_the_order_and_the_decision_are_shown_with_every_field(out: io.StringIO) -> None:
    decision = DecisionRecord(intent_id="0123456789abcdef", created_at=ago(60), order_id="O-7")
    tables.show_story(tables.console(out), a_story(order=an_order(), decision=decision))
    shown = " ".join(lines(out))
    for expected in ("unknown", "EURUSD.", "0.41", "1.07910", "P1, P2", "O-7"):
        assert expected in shown


def test_halts_unknown_orders_and_silent_workers_stand_out(out: io.StringIO) -> None:
    halt = Halt(id=1, kind="hard", reason="maximum drawdown", raised_by="monitor.1", raised_at=ago(300))
    equity = EquitySample(
        at=ago(30), day="2026-11-02", balance_cents=5_000_000, equity_cents=4_987_605, margin_cents=0, positions=1,
        daily_loss_cents=12_395, max_loss_cents=12_395,
    )  # fmt: skip
    found = an_overview(
        workers=processes.seen([a_worker("llm.1", 9), a_worker("llm.2", 1), a_worker("store.1", 1)], NOW, 5),
        halts=[halt],
        unresolved_orders=[an_order()], equity=equity, requests=(120, 6), counts={"opened": 1, "pending": 2},
        positions=(a_position(),),
        models=LlmDay(day="2026-11-02", calls=12, tokens=3_400, cost_micros=12_345, reserved_tokens=600, refusals=1),
    )  # fmt: skip
    overview.show(tables.console(out), found, NOW)
    shown = " ".join(" ".join(lines(out)).split())
    assert "NOT RUNNING" not in shown and "NOT WATCHED" not in shown
    for expected in (
        "HALTED (hard) by monitor.1, 5m ago, until it is lifted: maximum drawdown",
        "ORDER UNKNOWN: 0123456789abcdef BUY 0.41 EURUSD",
        "llm.1 silent 7 9s", "llm.2 ready 7 1s", "balance 50,000.00 equity 49,876.05 loss today 123.95",
        "126 on 2026-11-02 (6 writes)",
        "12 calls, 3,400 tokens, $0.0124 on 2026-11-02 (UTC), reserved 600 and $0.0000; 1 refused",
        "opened 1 pending 2", "EURUSD BUY 0.10 P9",
    ):  # fmt: skip
        assert expected in shown


@pytest.mark.parametrize(
    ("workers", "since", "states"),
    [
        ([], None, []),
        ([a_worker("llm.1", 1)], "up", ["ready"]),  # of an older version: it wrote no line of the store
        ([a_worker("llm.1", 9)], ago(9), ["silent"]),
        ([a_worker("llm.1", 1), a_worker("store.1", 1)], "up", ["ready", "ready"]),
        ([a_worker("llm.1", 9), a_worker("store.1", 1)], "up", ["silent", "ready"]),
        ([a_worker("llm.1", 9, state="draining"), a_worker("store.1", 1)], "up", ["stopped", "ready"]),
        ([a_worker("llm.1", 1, state="draining"), a_worker("store.1", 1)], "up", ["draining", "ready"]),
        ([a_worker("llm.1", 1, state="stopped"), a_worker("store.1", 1)], "up", ["stopped", "ready"]),
        ([a_worker("llm.1", 1), a_worker("store.1", 9)], ago(9), ["silent", "silent"]),
        ([a_worker("llm.1", -90), a_worker("store.1", -90)], ago(-90), ["silent", "silent"]),  # the clock went back
        ([a_worker("llm.1", 1), a_worker("store.1", 0, state="stopped")], ago(0), ["silent", "stopped"]),
        ([a_worker("llm.1", 1, state="draining"), a_worker("store.1", 0, state="stopped")], ago(0), ["stopped"] * 2),
    ],
)  # fmt: skip
def test_who_runs_goes_by_the_stores_last_word(workers: list[Worker], since: str | None, states: list[str]) -> None:
    found = processes.not_running(workers, NOW, 5)
    assert "up" if found is None else found.since == since
    assert (found is None) == (since == "up")
    assert [one.state for one in processes.seen(workers, NOW, 5)] == states


@pytest.mark.parametrize(
    ("down", "said"),
    [
        (NotRunning(since=None, in_order=False), "NOT RUNNING: no process was ever heard"),
        (NotRunning(since=ago(9), in_order=False), f"NOT RUNNING since {ago(9)} (9s): its store has written nothing"),
        (NotRunning(since=ago(9), in_order=True), f"NOT RUNNING since {ago(9)} (9s): stopped in order. Below is what"),
    ],
)  # fmt: skip
def test_that_nothing_runs_stands_on_top_of_what_was_known_then(out: io.StringIO, down: NotRunning, said: str) -> None:
    halt = Halt(id=1, kind="hard", reason="x", raised_by="monitor.1", raised_at=ago(300))
    equity = EquitySample(
        at=ago(30), day="2026-11-02", balance_cents=5_000_000, equity_cents=5_000_000, margin_cents=0, positions=0,
        daily_loss_cents=0, max_loss_cents=0,
    )  # fmt: skip
    found = an_overview(not_running=down, is_watched=False, halts=[halt], equity=equity)
    overview.show(tables.console(out), found, NOW)
    shown = " ".join(" ".join(lines(out)[1:]).split())
    assert shown.startswith(said)
    assert "level ok (30s ago, NOT WATCHED now)" in shown


@pytest.mark.parametrize("reason", ["a reason much longer than the terminal is wide " * 3, "x" * 200])
def test_ids_and_statuses_are_whole_whatever_the_reason(out: io.StringIO, reason: str) -> None:
    rows = [
        Row(intent=an_intent(id=name, status=Status.READY_FOR_EXEC), updated_at=ago(60), reason=reason)
        for name in ("0123456789abcdef", "0123456789ffffff")
    ]
    tables.show_intents(tables.console(out), rows, NOW)
    first, second = lines(out)[1:]
    assert first.split()[:4] == ["0123456789a", "EURUSD", "-", "ready_for_exec"]
    assert second.split()[0] == "0123456789f"
    assert first.rstrip().endswith("…")
