"""One fixed alert of every event that has words of its own, and an answer to every command, for the golden texts.

`python -m tests.kit.alert_examples` writes the texts that are missing; it never changes one. To change a text on
purpose, remove its file first.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path

from actors.console.room import Budget, LimitRoom, Room
from actors.console.why import Fact, Why
from actors.outbox import digest, wording
from bus.alerting import Data, Severity
from bus.records import Halt, Order
from bus.vocabulary import OrderStatus
from store.outbox import Alert
from store.results import Result
from tests.kit.builders import a_plan
from tests.kit.golden import INTENT

FOLDER = Path(__file__).parent.parent / "unit" / "golden_alerts"
AT = "2026-11-02T06:00:12.345Z"
ORDER = {
    "symbol": "EURUSD", "side": "BUY", "volume_lots": "0.10", "planned_price": "1.08510", "sl_price": "1.08010",
    "tp_price": "1.09510", "loss_cents": 5_000, "profit_cents": 10_000, "timeframe": "D1", "source": "scanner",
}  # fmt: skip
FILLED = ORDER | {"fill_price": "1.08512", "filled_lots": "0.10", "position_id": "p1"}
LEVEL = {
    "limit": "daily 00:00 Europe/Athens", "loss_cents": 125_001, "limit_cents": 200_000, "floor_cents": 4_800_000,
    "value_cents": 4_874_999,
}  # fmt: skip
DAY = {
    "day": "2026-11-02", "reset": "00:00 Europe/Athens", "start_balance_cents": 5_000_000, "opened": 6, "trades": 4,
    "wins": 1, "net_profit_cents": -154_105, "largest_loss_cents": -77_750, "requests": 1_480, "writes": 17,
    "llm_calls": 6, "llm_cost_micros": 123_456, "balance_cents": 4_845_895, "equity_cents": 4_850_000,
    "sampled_at": "2026-11-02T21:59:58.000Z", "daily_room_cents": 45_895, "maximum_room_cents": 145_895,
}  # fmt: skip


def _alert(
    event: str, level: Severity, data: Data, intent_id: str | None = None, text: str = "as told"
) -> Alert:  # fmt: skip
    return Alert(seq=7, at=AT, level=level, event=event, actor="store.1", text=text, intent_id=intent_id, data=data)


ALERTS: dict[str, Alert] = {
    "intent_created": _alert("intent_created", "info", {
        "symbol": "EURUSD", "score": 0.42, "confidence": "high", "side_hint": "BUY", "timeframe": "D1", "reason": "bar",
    }, "0123456789abcdef"),
    "trade_executed": _alert("trade_executed", "info", FILLED | {"reason": "position p1"}, "0123456789abcdef"),
    "trade_executed_jpy": _alert("trade_executed", "info", FILLED | {
        "symbol": "USDJPY", "side": "SELL", "fill_price": "151.204", "sl_price": "151.700", "tp_price": "0",
    }),
    "compliance_rejected": _alert("compliance_rejected", "warning", {
        "symbol": "EURUSD", "side": "SELL", "reason": "daily_drawdown: worst case 47,900.00, must stay above 48,200.00",
    }, "0123456789abcdef"),
    "order_failed": _alert("order_failed", "warning", ORDER | {"reason": "not enough margin"}),
    "order_unknown": _alert("order_unknown", "error", ORDER | {"reason": "ReadTimeout"}),
    "order_recovered": _alert("order_recovered", "warning", ORDER | {"reason": "lease for executor.1"}),
    "intent_failed": _alert("intent_failed", "warning", {"symbol": "EURUSD", "reason": "analysis failed 3 times: x"}),
    "position_closed": _alert("position_closed", "info", FILLED | {
        "net_profit_cents": -5_012, "close_price": "1.08010", "reason": "stop loss, net -50.12",
    }, "0123456789abcdef"),
    "halt": _alert("halt", "error", {
        "kind": "hard", "until": None, "flatten": True, "reason": "max_drawdown: equity 46,100.00, floor 46,000.00",
    }),
    "halt_soft": _alert("halt", "error", {
        "kind": "soft", "until": "2026-11-02T22:00:00.000Z", "flatten": False, "reason": "daily_drawdown: x",
    }),
    "daily_warn_50": _alert("daily_warn_50", "warning", LEVEL | {"level": "warn_50", "is_back": False}),
    "daily_ok": _alert("daily_ok", "info", LEVEL | {"level": "ok", "is_back": True}),
    "maximum_breach": _alert("maximum_breach", "error", LEVEL | {
        "limit": "maximum", "level": "breach", "is_back": False, "value_cents": 4_700_000,
    }),
    "recovered": _alert("recovered", "warning", {
        "epoch": 4, "live_intents": 2, "open_positions": 3, "unresolved_orders": 1, "halts": 0,
    }),
    "daily_summary": _alert("daily_summary", "info", DAY),
    "daily_summary_without_a_reading": _alert("daily_summary", "info", {
        name: value for name, value in DAY.items() if name not in
        ("balance_cents", "equity_cents", "sampled_at", "daily_room_cents", "maximum_room_cents")
    } | {"trades": 0, "wins": 0}),
    "alert_backlog": _alert("alert_backlog", "error", {"waiting": 12, "waited_s": 901, "problem": "502 Bad Gateway"}),
    "process_given_up": _alert("process_given_up", "error", {}, None, "llm.2 ended with code 1: given up."),
    "orphan_position": _alert("orphan_position", "error", {}, None, "Position <7> belongs to no intent & nobody"),
    "unknown_event": _alert("something_new", "info", {}, None, "of a newer version"),
}  # fmt: skip
ROOM = Room(
    account_id="PAPER-1", rules="e8-signature-50k", currency="USD", at=AT, age_s=4, balance_cents=4_845_895,
    equity_cents=4_850_000, margin_cents=0, narrowest=None, best_day=None, unknown=("what Friday was is not known",),
    limits=(
        LimitRoom(
            name="daily 00:00 Europe/Athens", kind="daily", reference_cents=5_000_000, limit_cents=200_000,
            floor_cents=4_800_000, stop_cents=4_830_000, flatten_cents=4_810_000, value_cents=4_845_895,
            loss_cents=154_105, room_cents=45_895, used_percent=77, level="warn_50", ends_at=None,
        ),
    ),
    budget=Budget(
        day="2026-11-02", reads=1_463, writes=17, per_day=2_000, reserve=200, writes_per_day=100, left=320, resets_at=AT
    ),
)  # fmt: skip
HALT = Halt(id=4, kind="hard", reason="operator: me: holiday", raised_by="pilot.1", raised_at=AT)
OPEN = Order(
    intent_id=INTENT.id, status=OrderStatus.OPENED, plan=a_plan(tp_price=Decimal(0)), baseline=(), reserved_at=AT,
    deadline_at=AT,
)  # fmt: skip


def texts() -> dict[str, str]:
    """Return every text by its name, as plain text."""
    found = {name: wording.of(one, "USD") for name, one in ALERTS.items()}
    many = [ALERTS["compliance_rejected"]] * 40
    old = [ALERTS["intent_created"], ALERTS["intent_created"], ALERTS["position_closed"]]
    one = Result(trades=3, wins=2, net_profit_cents=1_234, largest_loss_cents=-500)
    none = Result(trades=0, wins=0, net_profit_cents=0, largest_loss_cents=0)
    counts = {"opened": 1, "pending": 2, "closed": 40}
    found |= {
        "many": wording.of_many(many, "USD"),
        "old": wording.of_old(old, "USD"),
        "answer_status": wording.status(
            profile="paper", account_id="PAPER-1", alive=["store.1", "executor.1"], counts=counts, halts=[HALT],
            unresolved=1, room=ROOM,
        ),
        "answer_profit": wording.profit([("Today (2026-11-02)", one), ("7 days", none)], "USD"),
        "answer_orders": wording.orders(
            opened=[(INTENT, OPEN)], unresolved=[OPEN], live=[INTENT], currency="USD"
        ),
        "answer_orders_none": wording.orders(opened=[], unresolved=[], live=[], currency="USD"),
        "answer_why": wording.why(Why(
            symbol="EURUSD", intent_id=INTENT.id, verdict="held", said="The analyst decided HOLD.",
            facts=(Fact("decided", "06:00 by llm.1"),),
        )),
        "answer_why_of_what": wording.why_of_what(3),
        "answer_help": wording.help_text(known=False),
        "confirm_pause": wording.confirm("pause", [], 60.0),
        "confirm_resume": wording.confirm("resume", [HALT.reason], 60.0),
        "confirm_flatten": wording.confirm("flatten", [], 60.0),
        "done": wording.done("resume", [
            wording.answered("applied", "lifted 1 of 1 halts"), wording.answered("already", ""),
            wording.answered("refused", "the order behind this halt is not settled"), wording.not_answered(5.0),
        ]),
        "left_alone": wording.left_alone("flatten"),
        "nothing_to_resume": wording.nothing_to_resume(),
        "too_old": wording.too_old("pause", 390.0),
        "not_readable": wording.not_readable("damaged"),
    }  # fmt: skip
    plain = {name: digest.as_plain(words) + "\n" for name, words in found.items()}
    return plain | {
        "html": digest.as_html(found["orphan_position"]) + "\n", "bare": wording.bare(3, 9) + "\n",
        "again": wording.AGAIN + "\n", "expired": f"{wording.EXPIRED}\n{wording.yes('pause')}\n{wording.NO}\n",
    }  # fmt: skip


def write_missing() -> list[str]:
    """Write the texts that have no file; return their names."""
    written = [name for name in texts() if not (FOLDER / f"{name}.txt").exists()]
    for name in written:
        (FOLDER / f"{name}.txt").write_text(texts()[name], encoding="utf-8")
    return written


if __name__ == "__main__":
    sys.stdout.write(f"written: {', '.join(write_missing()) or 'nothing'}\n")
