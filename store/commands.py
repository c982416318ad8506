"""What each command does: one function per message, called by the writer inside a savepoint.

Part of the store process. A function returns what to answer, or raises `Stale` (lease gone) or `Refused` (not allowed).
Here are those of intents and orders; those of the account and of halts have rooms of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from bus import clock, messages
from bus.messages import Peer
from bus.records import Order, TradeIntent
from bus.vocabulary import OrderStatus, Outcome, Role, Status
from store import account, adoption, deliveries, elsewhere, halts, owner, states, steering, tallies, tokens
from store.decisions import Refused
from store.halts import Answer

if TYPE_CHECKING:
    from store.writer import Writer

PRUNED_MAX = 5_000


class Stale(Exception):
    """The sender does not hold this lease (any more)."""


def held(writer: Writer, sender: Peer, intent_id: str, epoch: int) -> TradeIntent:
    """Return the intent when `sender`, on this very host, holds its lease in this epoch. Raises Stale otherwise."""
    intent = writer.decisions.at_hand.get(intent_id)
    if intent is None:
        raise Stale(f"there is no intent {intent_id}")
    host = (intent.claim_worker_id or "").partition("@")[2]
    if (intent.epoch, intent.claim_incarnation, host) != (epoch, sender.incarnation, sender.host):
        raise Stale(
            f"{sender.name} held epoch {epoch}; the intent is {intent.status} in epoch {intent.epoch}, "
            f"last held by {intent.claim_worker_id or 'nobody'}"
        )
    return intent


def _known(writer: Writer, intent_id: str) -> TradeIntent:
    intent = writer.decisions.at_hand.get(intent_id)
    if intent is None:
        raise Refused(f"there is no intent {intent_id}")
    return intent


def _done(writer: Writer, intent_id: str) -> Answer:
    """Forget the lease of an intent that its holder has finished with."""
    writer.registry.leases.pop(intent_id, None)
    return Outcome.APPLIED, "", intent_id


# ── scanner and operator ────────────────────────────────────────────────────


def propose(writer: Writer, sender: Peer, body: messages.Propose) -> Answer:
    if body.expires_at is not None and body.expires_at <= clock.iso(writer.now):
        raise Refused(f"it came too late: it was to be traded before {body.expires_at}")
    intent = writer.decisions.insert_intent(body, sender, writer.now)
    if intent is None:
        return Outcome.ALREADY, "this pair, bar and source were proposed before", None
    return Outcome.APPLIED, "", intent.id


def cancel(writer: Writer, sender: Peer, body: messages.Cancel | messages.Invalidate) -> Answer:
    intent = _known(writer, body.intent_id)
    if intent.status == Status.CANCELLED:
        return Outcome.ALREADY, "cancelled before", intent.id
    by = f"{body.operator}: " if isinstance(body, messages.Cancel) else ""
    writer.decisions.mark_cancelled(intent, by + body.reason, sender, writer.now)
    writer.drop(intent.id, "cancelled")
    return Outcome.APPLIED, "", intent.id


def resolve(writer: Writer, sender: Peer, body: messages.Resolve) -> Answer:
    """Take the operator's word for what became of an unresolved order, and lift the halt that was raised for it.

    Refused while the executor may still find out, or the request may still be on its way: an order that is called
    absent and arrives after all would be a position that nobody owns.
    """
    intent, order, now = _known(writer, body.intent_id), writer.read.order(body.intent_id), clock.iso(writer.now)
    if order is not None and _is_settled_so(order, body.position_id):
        halts.lift_ambiguity(writer, intent.id, body.operator, body.reason)
        return Outcome.ALREADY, f"the order is {order.status} already", intent.id
    if order is None or order.status not in (OrderStatus.RESERVED, OrderStatus.UNKNOWN):
        found = "has no order" if order is None else f"has an order that is {order.status}"
        raise Refused(f"intent {intent.id} is {intent.status} and {found}", states.allowed(intent.status))
    is_ambiguous = any(halt.reason.startswith(halts.ambiguity(intent.id)) for halt in writer.read.halts(now))
    if now <= order.deadline_at and (body.position_id is None or not is_ambiguous):
        raise Refused(f"the order may still be on its way; ask again after {order.deadline_at}")
    said = f"operator {body.operator}: {body.reason}"
    if body.position_id is None:
        writer.decisions.mark_failed(intent, said, sender, writer.now)
    else:
        writer.decisions.mark_opened(
            intent, order_id=body.position_id, position_id=body.position_id,
            execution_meta=json.dumps({"resolved_by": body.operator}), closed=None, by=sender, now=writer.now,
            note=f", {said}",
        )  # fmt: skip
    halts.lift_ambiguity(writer, intent.id, body.operator, body.reason)
    what = f"position {body.position_id}" if body.position_id else "no position"
    halts.alert(writer, sender, "warning", "order_resolved", f"Order of intent {intent.id}: {what}; {said}", intent.id)
    writer.drop(intent.id, "settled by the operator")
    return Outcome.APPLIED, "", intent.id


def _is_settled_so(order: Order, position_id: str | None) -> bool:
    """Return whether the order ended as the operator says."""
    if position_id is None:
        return order.status == OrderStatus.FAILED
    return order.status == OrderStatus.OPENED and order.position_id == position_id


# ── analysts ────────────────────────────────────────────────────────────────


def decide(writer: Writer, sender: Peer, body: messages.Decide) -> Answer:
    intent = held(writer, sender, body.intent_id, body.epoch)
    writer.decisions.decide(intent, body, sender, writer.now)
    return _done(writer, intent.id)


def analysis_failed(writer: Writer, sender: Peer, body: messages.AnalysisFailed) -> Answer:
    intent = held(writer, sender, body.intent_id, body.epoch)
    writer.decisions.mark_analysis_failed(intent, body.error, sender, writer.now)
    return _done(writer, intent.id)


def release(writer: Writer, sender: Peer, body: messages.Release) -> Answer:
    intent = held(writer, sender, body.intent_id, body.epoch)
    writer.decisions.release(intent, body.reason, body.retry_after_s, sender, writer.now)
    return _done(writer, intent.id)


# ── executor ────────────────────────────────────────────────────────────────


def reject(writer: Writer, sender: Peer, body: messages.Reject) -> Answer:
    intent = held(writer, sender, body.intent_id, body.epoch)
    writer.decisions.mark_rejected(intent, body.reason, body.compliance_snapshot, sender, writer.now)
    return _done(writer, intent.id)


def reserve_order(writer: Writer, sender: Peer, body: messages.ReserveOrder) -> Answer:
    intent = held(writer, sender, body.intent_id, body.epoch)
    if body.idempotency_key and writer.read.has_key(body.idempotency_key):
        raise Refused("another order carries this key", ("release",))
    writer.decisions.reserve_order(intent, body, sender, writer.now, gate=writer.gate)
    owner.keep(writer.db, writer.gate.owner)
    if lease := writer.registry.leases.get(intent.id):
        lease.has_order = True
    return Outcome.APPLIED, "", intent.id


def order_opened(writer: Writer, sender: Peer, body: messages.OrderOpened) -> Answer:
    intent = held(writer, sender, body.intent_id, body.epoch)
    writer.decisions.mark_opened(
        intent, order_id=body.order_id, position_id=body.position_id, execution_meta=body.execution_meta,
        closed=body.closed, by=sender, now=writer.now,
    )  # fmt: skip
    return _done(writer, intent.id)


def order_failed(writer: Writer, sender: Peer, body: messages.OrderFailed) -> Answer:
    intent = held(writer, sender, body.intent_id, body.epoch)
    writer.decisions.mark_failed(intent, body.reason, sender, writer.now)
    return _done(writer, intent.id)


def order_unknown(writer: Writer, sender: Peer, body: messages.OrderUnknown) -> Answer:
    intent = held(writer, sender, body.intent_id, body.epoch)
    writer.decisions.mark_unknown(intent, body.reason, sender, writer.now)
    if body.ambiguous:
        halts.latch(writer, sender, "hard", f"{halts.ambiguity(intent.id)} {body.reason}", None)
    return Outcome.APPLIED, "", intent.id


# ── monitor ─────────────────────────────────────────────────────────────────


def position_closed(writer: Writer, sender: Peer, body: messages.PositionClosed) -> Answer:
    intent = _known(writer, body.intent_id)
    if intent.position_id != body.position_id:
        raise Refused(f"intent {intent.id} has position {intent.position_id}, not {body.position_id}")
    if intent.status == Status.CLOSED:
        return Outcome.ALREADY, "closed before", intent.id
    writer.decisions.mark_closed(intent, body.result, sender, writer.now)
    return Outcome.APPLIED, "", intent.id


def sweep(writer: Writer, sender: Peer, body: messages.Sweep) -> Answer:
    """Expire, recycle and clean up; bounded, so that a large backlog takes several rounds."""
    now, settings = writer.now, writer.settings
    expired = writer.decisions.expire(now)
    recycled = writer.decisions.recycle_expired_claims(now)
    for intent in recycled:
        writer.drop(intent.id, "held too long")
    cleaned = writer.decisions.cleanup_old_intents(settings.intent_retention_days, now)
    pruned = elsewhere.forget(writer)
    for table, column, days in (
        ("commands", "at", settings.command_retention_days),
        ("equity_samples", "at", settings.sample_retention_days),
    ):
        limit = clock.iso(now - timedelta(days=days))
        key = "id" if table == "commands" else "at"
        writer.db.execute(
            f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE {column} < ? LIMIT ?)",
            (limit, PRUNED_MAX),
        )
        pruned += writer.db.changes()
    return (
        Outcome.APPLIED,
        f"{expired} expired, {len(recycled)} recycled, {cleaned} removed, {pruned} rows pruned",
        None,
    )


# ── supervisor ──────────────────────────────────────────────────────────────


def child_exited(writer: Writer, sender: Peer, body: messages.ChildExited) -> Answer:
    """Free what a certainly dead process held. An order it reserved stays so until its successor reconciles it."""
    tallies.count_exit(writer.db, body.peer, body.status, clock.iso(writer.now))
    if tallies.was_wanted(body.status):
        writer.left(body.peer)
    leases = writer.registry.bury(body.peer.incarnation)
    for lease in leases:
        if lease.role is not Role.EXECUTOR:
            writer.lose(lease, f"{body.peer.name} died: {body.status}")
        elif not lease.has_order:
            writer.executor_died(lease, f"{body.peer.name} died: {body.status}; nothing was reserved")
    return Outcome.APPLIED, f"{len(leases)} leases looked at", None


HANDLERS: dict[type, Callable[[Writer, Peer, Any], Answer]] = {
    messages.Propose: propose,
    messages.Invalidate: cancel,
    messages.Cancel: cancel,
    messages.Resolve: resolve,
    messages.Decide: decide,
    messages.AnalysisFailed: analysis_failed,
    messages.Release: release,
    messages.Reject: reject,
    messages.ReserveOrder: reserve_order,
    messages.OrderOpened: order_opened,
    messages.OrderFailed: order_failed,
    messages.OrderUnknown: order_unknown,
    messages.PositionClosed: position_closed,
    messages.Adopt: adoption.adopt,
    messages.StartDay: account.start_day,
    messages.RaiseMarks: account.raise_marks,
    messages.GrantRequests: account.grant_requests,
    messages.ReturnRequests: account.return_requests,
    messages.ReserveTokens: tokens.reserve_tokens,
    messages.SettleTokens: tokens.settle_tokens,
    messages.Pause: halts.pause,
    messages.Resume: halts.resume,
    messages.Flatten: halts.flatten,
    messages.Close: steering.close,
    messages.Submit: steering.submit,
    messages.DeclareDay: account.declare_day,
    messages.Attest: account.attest,
    messages.SampleEquity: account.sample_equity,
    messages.CountRequests: account.count_requests,
    messages.RaiseHalt: halts.raise_halt,
    messages.Report: halts.report,
    messages.AlertsDelivered: deliveries.delivered,
    messages.Sweep: sweep,
    messages.ChildExited: child_exited,
}
assert set(HANDLERS) == set(messages.Command.__args__), "every command has one handler"
