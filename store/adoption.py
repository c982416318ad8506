"""Adopting a position: the intent, the order and the arrow of what is open at the broker and belongs to nobody.

Part of the store process; called by the writer inside a savepoint, so that all of it stands or none. Refuses while any
order is unresolved, for the position could be that order's, and a position without a stop.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from bus import clock, messages
from bus.messages import Peer
from bus.records import TradeIntent
from bus.vocabulary import Outcome, Status
from store import halts, intents, states
from store import owner as owners
from store.decisions import Refused
from store.halts import Answer

if TYPE_CHECKING:
    from store.writer import Writer

LATER = ("adopt later",)


def adopt(writer: Writer, sender: Peer, body: messages.Adopt) -> Answer:
    """Make an opened intent of a position that nobody owns. One that somebody owns is answered `already`."""
    key = states.ADOPTED + body.position_id
    owner = writer.db.execute(
        "SELECT id FROM intents WHERE position_id = ? OR idempotency_key = ? LIMIT 1", (body.position_id, key)
    ).get
    if owner is not None:
        return Outcome.ALREADY, f"position {body.position_id} belongs to intent {owner}", str(owner)
    if unresolved := writer.read.unresolved_orders():
        found = f"the order of intent {unresolved[0].intent_id} is unresolved"
        raise Refused(f"{found}: position {body.position_id} may be its", LATER)
    if body.plan.sl_price <= 0 or body.plan.volume <= 0:
        found = f"stop {body.plan.sl_price}, volume {body.plan.volume}"
        raise Refused(f"position {body.position_id} has {found}; allowed: above 0", LATER)
    try:
        opened_at = clock.parse(body.opened_at)
    except ValueError as error:
        raise Refused(f"opened_at of position {body.position_id}: {error}", LATER) from error
    owners.keep(writer.db, writer.gate.owner)
    intent = _intent(body, key, opened_at, writer.now)
    _write(writer, intent, body)
    plan = body.plan
    what = f"{plan.side} {plan.volume} {plan.symbol} at {plan.entry_price}"
    stops = f"SL {plan.sl_price}, TP {plan.tp_price or 'none'}"
    reason = f"position {body.position_id}, {what}, {stops}: {body.reason}"
    payload = {"loss_cents": plan.loss_cents, "opened_at": clock.iso(opened_at)}
    writer.decisions.journal.append(intent, "adopt", None, Status.OPENED, sender, 0, reason, payload, writer.now)
    halts.alert(writer, sender, "warning", "orphan_adopted", f"Adopted {reason}", intent.id)
    return Outcome.APPLIED, "", intent.id


def _intent(body: messages.Adopt, key: str, opened_at: datetime, now: datetime) -> TradeIntent:
    return TradeIntent(
        id=intents.new_id(now),
        created_at=clock.iso(now),
        trade_date=clock.iso(opened_at)[:10],
        symbol=body.plan.symbol,
        timeframe="-",
        suggested_side=body.plan.side,
        source="manual",
        status=Status.OPENED,
        idempotency_key=key,
        position_id=body.position_id,
        executed_at=clock.iso(opened_at),
    )


def _write(writer: Writer, intent: TradeIntent, body: messages.Adopt) -> None:
    """Write intent, decision and order. The order has no id: nobody of ours sent it."""
    intents.insert(writer.db, intent)
    plan = body.plan
    meta = {"adopted": True, "entry_price": str(plan.entry_price), "volume": str(plan.volume)}
    writer.db.execute(
        "INSERT INTO decisions (intent_id, created_at, executed_at, status, position_id, execution_meta) "
        "VALUES (?, ?, ?, 'opened', ?, ?)",
        (intent.id, intent.created_at, intent.executed_at, body.position_id, json.dumps(meta)),
    )
    writer.db.execute(
        "INSERT INTO orders (intent_id, status, plan, baseline, reserved_at, deadline_at, position_id, resolved_at, "
        "reason) VALUES (?1, 'opened', ?2, ?3, ?4, ?4, ?5, ?4, ?6)",
        (
            intent.id, msgspec.json.encode(plan).decode(), json.dumps([body.position_id]), intent.created_at,
            body.position_id, f"adopted: {body.reason}",
        ),
    )  # fmt: skip
