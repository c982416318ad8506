"""Every event that people are told of leaves its alert in the same commit, with figures; days are summed up once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import apsw
import pytest

from bus import messages
from bus.clock import iso, parse
from bus.vocabulary import Role
from store import alerts, states
from store.outbox import Outbox
from tests.kit import builders
from tests.kit.gate import keep_days
from tests.kit.store import StoreHarness

EXECUTOR = builders.a_peer(Role.EXECUTOR)
MONITOR = builders.a_peer(Role.MONITOR)


def told(store: StoreHarness, event: str) -> list[dict[str, Any]]:
    """Return the figures of the alerts of one event."""
    rows = store.db.execute("SELECT data, level, intent_id, text FROM alerts WHERE event = ? ORDER BY seq", (event,))
    return [{**json.loads(str(data)), "_level": level, "_id": id_, "_text": text} for data, level, id_, text in rows]


def test_every_arrow_that_is_told_exists() -> None:
    assert set(alerts.TOLD) <= {event for event, _, _ in states.ARROWS}


def test_a_trade_is_told_from_the_intent_to_its_result() -> None:
    store = StoreHarness()
    intent = store.closed(EXECUTOR)
    (created,), (executed,), (closed,) = (
        told(store, event) for event in ("intent_created", "trade_executed", "position_closed")
    )
    assert (created["symbol"], created["side_hint"], created["score"], created["confidence"]) == (
        "EURUSD", "BUY", 0.42, "high",
    )  # fmt: skip
    assert (executed["side"], executed["volume_lots"], executed["loss_cents"], executed["sl_price"]) == (
        "BUY", "0.10", 5_000, "1.08010",
    )  # fmt: skip
    result = builders.a_result()
    assert (closed["net_profit_cents"], closed["close_price"]) == (result.net_profit_cents, result.close_price)
    assert {one["_id"] for one in (created, executed, closed)} == {intent.id}
    assert {one["_level"] for one in (created, executed, closed)} == {"info"}


@pytest.mark.parametrize(
    ("event", "make"),
    [
        ("compliance_rejected", lambda lease: messages.Reject(**lease, reason="too much", compliance_snapshot="{}")),
        ("order_failed", lambda lease: messages.OrderFailed(**lease, reason="too much")),
        ("order_unknown", lambda lease: messages.OrderUnknown(**lease, reason="too much")),
    ],
)
def test_what_ends_or_endangers_an_order_is_told_with_its_reason(event: str, make: Any) -> None:
    store = StoreHarness()
    intent = store.executing(EXECUTOR) if event == "compliance_rejected" else store.reserved(EXECUTOR)
    assert told(store, event) == []
    store.tell(EXECUTOR, make({"intent_id": intent.id, "epoch": intent.epoch}))
    (found,) = told(store, event)
    assert (found["symbol"], found["side"], found["reason"]) == ("EURUSD", "BUY", "too much")
    assert found["_level"] == ("error" if event == "order_unknown" else "warning")


def test_what_is_refused_or_sent_again_tells_nothing_more() -> None:
    store = StoreHarness()
    intent = store.reserved(EXECUTOR)
    failed = messages.OrderFailed(intent_id=intent.id, epoch=intent.epoch, reason="no")
    store.tell(EXECUTOR, failed, "id-1")
    before = store.db.execute("SELECT count(*) FROM alerts").get
    assert store.tell(EXECUTOR, failed, "id-1").outcome == "applied"
    assert store.tell(EXECUTOR, failed, "id-2").outcome in ("refused", "stale")
    assert store.db.execute("SELECT count(*) FROM alerts").get == before


def test_an_order_that_a_new_executor_takes_over_and_a_new_start_are_told() -> None:
    store = StoreHarness()
    store.reserved(EXECUTOR)
    assert told(store, "recovered") == [], "the first start recovers nothing"
    store.restart()
    (found,) = told(store, "recovered")
    assert (found["epoch"], found["unresolved_orders"], found["live_intents"], found["_level"]) == (2, 1, 1, "warning")
    store.beat(builders.a_peer(Role.EXECUTOR), seen_store_epoch=0)
    store.beat(builders.a_peer(Role.EXECUTOR))
    assert [one["symbol"] for one in told(store, "order_recovered")] == ["EURUSD"]


def test_alerts_of_before_are_behind_the_cursor_of_an_old_database(tmp_path: Path) -> None:
    from store import connection

    path = tmp_path / "decisions.db"
    old = apsw.Connection(str(path))
    scripts = [one for one in connection._migrations() if one.name < "0008"]
    for script in scripts:
        old.execute(script.read_text())
    old.pragma("application_id", connection.APPLICATION_ID)
    old.pragma("user_version", len(scripts))
    for _ in range(3):
        old.execute("INSERT INTO alerts (at, level, event, actor, text) VALUES ('t', 'error', 'halt', 'm', 'x')")
    old.close()
    db = connection.open_writer(path)
    outbox = Outbox(path)
    assert (outbox.cursor(), outbox.pending(10)) == (3, [])
    alerts.write(db, at="2026-11-02T06:00:00.000Z", level="info", event="new", actor="m", text="x")
    assert [one.event for one in outbox.pending(10)] == ["new"]
    outbox.close()
    db.close()


# ── the summary of a day ────────────────────────────────────────────────────


def close_one(store: StoreHarness, bar_time: str, cents: int, closed_at: str) -> None:
    intent = store.opened(EXECUTOR, bar_time, bar_time=bar_time)
    result = messages.PositionResult(closed_at=closed_at, net_profit_cents=cents, close_price="1.1", reason="stop")
    body = messages.PositionClosed(intent_id=intent.id, position_id=bar_time, result=result)
    assert store.tell(MONITOR, body).outcome == "applied"


def test_a_day_is_summed_up_once_from_the_rows_alone_and_right_to_the_cent() -> None:
    store = StoreHarness()
    first = store.gate.rules.readings[0]
    day = first.day_of(store.clock.now())
    starts_at, ends_at = first.span_of(day)
    keep_days(store.db, store.gate, store.clock.now())
    cents = (1_234, -777, 3, -2_001)
    for number, net in enumerate(cents):
        close_one(store, f"2026-10-1{number}", net, iso(store.clock.now()))
    close_one(store, "2026-10-20", 99_999, iso(ends_at))  # the first moment of the next day
    close_one(store, "2026-10-21", -99_999, "2026-10-31T12:00:00.000Z")
    sample = builders.a_sample(at=iso(store.clock.now()), balance_cents=4_998_459, equity_cents=4_990_000)
    store.tell(MONITOR, messages.SampleEquity(sample=sample))
    store.db.execute("INSERT INTO api_usage VALUES (?, 'monitor.1 x', 41, 7)", (day,))
    store.db.execute(
        "INSERT INTO llm_usage (day, endpoint, actor, calls, cost_micros) VALUES (?, 'llm', 'llm.1', 6, 123456)", (day,)
    )
    store.tick((ends_at - store.clock.now()).total_seconds() + 299)
    assert told(store, "daily_summary") == [], "what comes late has five minutes"
    look(store, 60)
    look(store, 30)
    store.tick(60)
    (found,) = told(store, "daily_summary")
    wanted = {
        "day": day, "trades": 4, "wins": 2, "net_profit_cents": sum(cents), "largest_loss_cents": -2_001, "opened": 6,
        "requests": 48, "writes": 7, "llm_calls": 6, "llm_cost_micros": 123_456, "balance_cents": 4_998_459,
        "equity_cents": 4_990_000, "start_balance_cents": 5_000_000,
    }  # fmt: skip
    assert {name: found[name] for name in wanted} == wanted
    rules = store.gate.rules
    room_cents = 4_990_000 - 5_000_000 + int(rules.maximum.ratio * 5_000_000)
    assert found["maximum_room_cents"] == room_cents
    store.restart()
    for _ in range(5):
        store.tick(60)
    assert len(told(store, "daily_summary")) == 1
    assert parse(iso(starts_at)) < parse(iso(ends_at))


def look(store: StoreHarness, later_s: float) -> None:
    """Look at the account as the monitor does, so much later."""
    store.tick(later_s)
    store.tell(MONITOR, messages.SampleEquity(sample=builders.a_sample(at=iso(store.clock.now()))))


def test_a_day_waits_for_what_closed_while_nobody_looked() -> None:
    store = StoreHarness()
    day = store.gate.rules.readings[0].day_of(store.clock.now())
    _, ends_at = store.gate.rules.readings[0].span_of(day)
    keep_days(store.db, store.gate, store.clock.now())
    intent, closed_at = store.opened(EXECUTOR), iso(store.clock.now())
    store.tick((ends_at - store.clock.now()).total_seconds() + 3_600)  # the machine was off over the reset
    store.restart()
    store.tick()
    assert told(store, "daily_summary") == [], "the position has closed, and nobody has looked"
    look(store, 1)
    store.tick(60)
    assert told(store, "daily_summary") == [], "what the first look found closed is told after its sample"
    result = messages.PositionResult(closed_at=closed_at, net_profit_cents=-1_234, close_price="1.1", reason="stop")
    store.tell(
        MONITOR, messages.PositionClosed(intent_id=intent.id, position_id=intent.position_id or "", result=result)
    )
    look(store, 1)
    store.tick(60)
    (found,) = told(store, "daily_summary")
    assert (found["day"], found["trades"], found["net_profit_cents"]) == (day, 1, -1_234)


def test_a_day_is_told_in_the_end_although_nobody_looks() -> None:
    store = StoreHarness()
    keep_days(store.db, store.gate, store.clock.now())
    _, ends_at = store.gate.rules.readings[0].span_of(store.gate.rules.readings[0].day_of(store.clock.now()))
    store.tick((ends_at - store.clock.now()).total_seconds() + 6 * 3_600 - 60)
    assert told(store, "daily_summary") == []
    store.tick(90)
    assert len(told(store, "daily_summary")) == 1


def test_a_day_that_ended_long_ago_is_not_told_any_more() -> None:
    store = StoreHarness()
    keep_days(store.db, store.gate, store.clock.now())
    store.tick(9 * 86_400)
    assert told(store, "daily_summary") == []
