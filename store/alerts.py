"""The outbox of alerts: which arrow of an intent is told to people, and with which figures.

Part of the store process; called inside the transaction of the event, so that what happened and that it is to be told
are one commit. Delivers nothing: the alerts process does. The words of messages are its own; `text` is for logs.
"""

from __future__ import annotations

from typing import Any, TypeVar

import apsw
import msgspec
from msgspec import Struct, field

from bus.alerting import Data, Severity
from bus.records import TradeIntent, Transition

T = TypeVar("T")
TEXT_CHARS_MAX = 2_000
TOLD: dict[str, tuple[Severity, str]] = {
    "propose": ("info", "intent_created"),
    "reject": ("warning", "compliance_rejected"),
    "open": ("info", "trade_executed"),
    "fail": ("warning", "order_failed"),
    "lose_answer": ("error", "order_unknown"),
    "hand_over": ("warning", "order_recovered"),
    "exhaust": ("warning", "intent_failed"),
    "give_up": ("warning", "intent_failed"),
    "close": ("info", "position_closed"),
}
"""Arrow of an intent: level and event of its alert. Other arrows are told by nobody. An adoption tells for itself."""
_AFTER_THE_ORDER = frozenset({"open", "fail", "lose_answer", "hand_over", "close"})
_in_order = msgspec.json.Encoder(order="sorted").encode


# What is read of papers. Of any type: an analyst or a broker may have written them.
class _Signal(Struct, frozen=True):
    side_hint: Any = None


class _Plan(Struct, frozen=True):
    side: Any = None
    volume_lots: Any = field(default=None, name="volume")
    planned_price: Any = field(default=None, name="entry_price")
    sl_price: Any = None
    tp_price: Any = None
    loss_cents: Any = None
    profit_cents: Any = None


class _Fill(Struct, frozen=True):
    fill_price: Any = field(default=None, name="entry_price")
    filled_lots: Any = field(default=None, name="volume")


_signal = msgspec.json.Decoder(_Signal)
_plan = msgspec.json.Decoder(_Plan)
_fill = msgspec.json.Decoder(_Fill)


def write(
    db: apsw.Connection | apsw.Cursor, *, at: str, level: str, event: str, actor: str, text: str,
    intent_id: str | None = None, data: Data | None = None,
) -> None:  # fmt: skip
    """Write an event into the outbox, in the transaction of what happened."""
    db.execute(
        "INSERT INTO alerts (at, level, event, actor, intent_id, text, data) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (at, level, event, actor, intent_id, text, _in_order(data or {}).decode()),
    )


# ── arrows ──────────────────────────────────────────────────────────────────


def of_move(db: apsw.Cursor, move: Transition, intent: TradeIntent, payload: dict[str, Any]) -> None:
    """Write the alert of an arrow that people are told of. `intent` as before it; its rows stand as after it."""
    level, event = TOLD[move.event]
    words = f"{event.replace('_', ' ')}: {intent.symbol}"
    write(
        db, at=move.at, level=level, event=event, actor=move.actor, intent_id=move.intent_id,
        text=f"{words[0].upper()}{words[1:]}: {move.reason}"[:TEXT_CHARS_MAX],
        data={"reason": move.reason[:TEXT_CHARS_MAX], **_figures(db, move.event, intent), **payload},
    )  # fmt: skip


def _figures(db: apsw.Cursor, event: str, intent: TradeIntent) -> Data:
    """Return what is known of the intent at this arrow: signal, order and result, as far as there are any."""
    found: dict[str, Any] = {
        "symbol": intent.symbol, "side": intent.suggested_side, "score": intent.scanner_score,
        "confidence": intent.scanner_confidence, "timeframe": intent.timeframe, "source": intent.source,
        "side_hint": _read(_signal, intent.signal_json, _Signal()).side_hint,
    }  # fmt: skip
    rows = _papers(db, intent.id) if event in _AFTER_THE_ORDER else []
    for plan, meta, found["position_id"] in rows:
        for said in (_read(_plan, plan, _Plan()), _read(_fill, meta, _Fill())):
            found |= {name: value for name in said.__struct_fields__ if (value := getattr(said, name)) is not None}
    return {name: value for name, value in found.items() if value is not None}


def _papers(db: apsw.Cursor, intent_id: str) -> list[tuple[Any, ...]]:
    return db.execute(
        "SELECT o.plan, d.execution_meta, d.position_id FROM decisions d "
        "LEFT JOIN orders o ON o.intent_id = d.intent_id WHERE d.intent_id = ?",
        (intent_id,),
    ).fetchall()


def _read(decoder: msgspec.json.Decoder[T], text: object, nothing: T) -> T:
    """Return what a JSON object says, or `nothing` for anything else."""
    try:
        return decoder.decode(str(text))
    except msgspec.DecodeError:
        return nothing


# ── starting again ──────────────────────────────────────────────────────────


def recovered(db: apsw.Connection, at: str) -> None:
    """Tell what a store that was here before finds at its start. Orders without a known outcome make it a warning."""
    row = db.execute(
        "SELECT (SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'store_epoch'), "
        "(SELECT count(*) FROM intents WHERE status IN ('pending', 'claimed', 'ready_for_exec', 'executing')), "
        "(SELECT count(*) FROM intents WHERE status = 'opened'), "
        "(SELECT count(*) FROM orders WHERE status IN ('reserved', 'unknown')), "
        "(SELECT count(*) FROM halts WHERE lifted_at IS NULL AND (until IS NULL OR until > ?))",
        (at,),
    ).fetchone()
    names = ("epoch", "live_intents", "open_positions", "unresolved_orders", "halts")
    data: dict[str, Any] = dict(zip(names, row or (), strict=True))
    if data["epoch"] == 1:
        return
    found = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in data.items() if name != "epoch")
    write(
        db, at=at, level="warning" if data["unresolved_orders"] else "info", event="recovered", actor="store.1",
        text=f"The store started again (epoch {data['epoch']}): {found}", data=data,
    )  # fmt: skip
