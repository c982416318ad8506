"""The outbox of alerts: which arrow of an intent is told to people, and with which figures.

Part of the store process; called inside the transaction of the event, so that what happened and that it is to be told
are one commit. Delivers nothing: the alerts process does. The words of messages are its own; `text` is for logs.
"""

from __future__ import annotations

import json
from typing import Any

import apsw
import msgspec

from bus.alerting import Data, Severity
from bus.records import Transition

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
_PLAIN = ("symbol", "side", "score", "confidence", "timeframe", "source", "position_id")
_OF_SIGNAL = {"side_hint": "side_hint"}
_OF_PLAN = {
    "side": "side", "volume_lots": "volume", "planned_price": "entry_price", "sl_price": "sl_price",
    "tp_price": "tp_price", "loss_cents": "loss_cents", "profit_cents": "profit_cents",
}  # fmt: skip
_OF_FILL = {"fill_price": "entry_price", "filled_lots": "volume"}


def write(
    db: apsw.Connection, *, at: str, level: str, event: str, actor: str, text: str, intent_id: str | None = None,
    data: Data | None = None,
) -> None:  # fmt: skip
    """Write an event into the outbox, in the transaction of what happened."""
    db.execute(
        "INSERT INTO alerts (at, level, event, actor, intent_id, text, data) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (at, level, event, actor, intent_id, text, json.dumps(data or {}, sort_keys=True)),
    )


# ── arrows ──────────────────────────────────────────────────────────────────


def of_move(db: apsw.Connection, move: Transition) -> None:
    """Write the alert of an arrow, if it is one that people are told of. The row of the intent stands as after it."""
    if (told := TOLD.get(move.event)) is None:
        return
    level, event = told
    data = _figures(db, move)
    words = f"{event.replace('_', ' ')}: {data['symbol']}"
    write(
        db, at=move.at, level=level, event=event, actor=move.actor, intent_id=move.intent_id,
        text=f"{words[0].upper()}{words[1:]}: {move.reason}"[:TEXT_CHARS_MAX], data=data,
    )  # fmt: skip


def _figures(db: apsw.Connection, move: Transition) -> Data:
    """Return what is known of the intent at this arrow: signal, order and result, as far as there are any."""
    row = db.execute(
        "SELECT i.symbol, i.suggested_side, i.scanner_score, i.scanner_confidence, i.timeframe, i.source, "
        "d.position_id, i.signal_json, o.plan, d.execution_meta "
        "FROM intents i LEFT JOIN orders o ON o.intent_id = i.id LEFT JOIN decisions d ON d.intent_id = i.id "
        "WHERE i.id = ?",
        (move.intent_id,),
    ).fetchone()
    assert row is not None, "an arrow belongs to an intent"
    *plain, signal, plan, meta = row
    found: dict[str, Any] = dict(zip(_PLAIN, plain, strict=True))
    # Read here and not by SQLite: its JSON functions read the whole text again for every name.
    for text, names in ((signal, _OF_SIGNAL), (plan, _OF_PLAN), (meta, _OF_FILL)):
        said = _object(text)
        found |= {name: said[key] for name, key in names.items() if said.get(key) is not None}
    known = {name: value for name, value in found.items() if value is not None}
    return {"reason": move.reason[:TEXT_CHARS_MAX], **known, **_object(move.payload)}


def _object(text: object) -> dict[str, Any]:
    """Return a JSON object, or an empty one for anything else: an analyst or a broker may have written it."""
    try:
        found = msgspec.json.decode(str(text))
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


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
