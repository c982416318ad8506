"""Halts: latched in the database, and lifted by their time or by the operator only. And what happens, told as alerts.

Part of the store process; called by the writer inside a savepoint. The reason of a halt begins with its key:
`max_drawdown: equity 46,100.00, floor 46,000.00`. The same key stands once a kind.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal

from loguru import logger

from bus import clock, messages
from bus.alerting import Data
from bus.messages import Peer
from bus.records import Halt
from bus.vocabulary import Outcome
from store import alerts
from store.decisions import Refused

if TYPE_CHECKING:
    from store.writer import Writer

Answer = tuple[Outcome, str, str | None]  # outcome, reason, intent id
Kind = Literal["soft", "hard"]


def alert(
    writer: Writer, sender: Peer, level: str, event: str, text: str, intent_id: str | None = None,
    data: Data | None = None,
) -> None:  # fmt: skip
    """Write an event into the outbox, in the transaction of what happened. `data`: what a message is made of."""
    alerts.write(
        writer.db, at=clock.iso(writer.now), level=level, event=event, actor=sender.name, text=text,
        intent_id=intent_id, data=data,
    )  # fmt: skip


def report(writer: Writer, sender: Peer, body: messages.Report) -> Answer:
    alert(writer, sender, body.level, body.event, body.text, body.intent_id, body.data)
    return Outcome.APPLIED, "", None


# ── raising ─────────────────────────────────────────────────────────────────


def key_of(reason: str) -> str:
    """Return what tells two halts apart: the words before the first colon."""
    return reason.partition(":")[0]


def raise_halt(writer: Writer, sender: Peer, body: messages.RaiseHalt) -> Answer:
    if body.level == "hard":
        return latch(writer, sender, "hard", body.reason, None, flatten=body.flatten)
    return latch(writer, sender, "soft", body.reason, _end_of(body.until, writer.now), flatten=body.flatten)


def latch(
    writer: Writer, sender: Peer, kind: Kind, reason: str, until: str | None, *, flatten: bool = False
) -> Answer:  # fmt: skip
    """Stop new orders, and with `flatten` have everything closed. The same key and kind stands once.

    One that closes everything is new on top of one that does not, and so is one that lasts longer: two readings of the
    reset end the same pause at two times.
    """
    for halt in writer.read.halts(clock.iso(writer.now)):
        if (halt.kind, key_of(halt.reason)) == (kind, key_of(reason)) and _covers(halt, until, flatten=flatten):
            return Outcome.ALREADY, f"halt {halt.id} stands: {halt.reason}", None
    writer.db.execute(
        "INSERT INTO halts (kind, reason, raised_by, raised_at, until, flatten) VALUES (?, ?, ?, ?, ?, ?)",
        (kind, reason, sender.name, clock.iso(writer.now), until, int(flatten)),
    )
    ends = f" until {until}" if until else ""
    closes = ", closing every position" if flatten else ""
    data: Data = {"kind": kind, "until": until, "flatten": flatten, "reason": reason}
    alert(writer, sender, "error", "halt", f"{kind} halt{ends}{closes}: {reason}", data=data)
    logger.error("Halted ({}{}{}): {}", kind, ends, closes, reason)
    return Outcome.APPLIED, "", None


def _covers(halt: Halt, until: str | None, *, flatten: bool) -> bool:
    """Return whether a standing halt stops and closes as much, and for as long, as a new one of its kind would."""
    lasts = halt.until is None or (until is not None and halt.until >= until)
    return lasts and (halt.flatten or not flatten)


def _end_of(until: str | None, now: datetime) -> str:
    """Return the end of a soft halt in the one form in which times are compared as text. Raises Refused."""
    try:
        moment = clock.parse(until or "")
    except ValueError as error:
        raise Refused(f"a soft halt needs `until`, a time with its zone: {error}", ("raise a hard halt",)) from error
    if moment <= now:
        raise Refused(f"until was {clock.iso(moment)}; it must lie after now, {clock.iso(now)}", ("raise a hard halt",))
    return clock.iso(moment)


# ── the operator ────────────────────────────────────────────────────────────


def pause(writer: Writer, sender: Peer, body: messages.Pause) -> Answer:
    """Stop new orders until a time, or (None) until `resume`."""
    reason = f"operator: {body.operator}: {reason_of(body.reason)}"
    if body.until is None:
        return latch(writer, sender, "hard", reason, None)
    return latch(writer, sender, "soft", reason, _end_of(body.until, writer.now))


def flatten(writer: Writer, sender: Peer, body: messages.Flatten) -> Answer:
    """Have the monitor close every position; nothing new is opened until `resume`."""
    reason = f"flatten: operator {body.operator}: {reason_of(body.reason)}"
    return latch(writer, sender, "hard", reason, None, flatten=True)


def resume(writer: Writer, sender: Peer, body: messages.Resume) -> Answer:
    """Lift the halts that an operator may lift: not those of orders that must be settled first.

    Raises:
        Refused: no reason, no such halt, or none but those of such orders.
    """
    reason = reason_of(body.reason)
    standing = writer.read.halts(clock.iso(writer.now))
    asked = [halt for halt in standing if body.halt_id in (None, halt.id)]
    if not asked:
        return Outcome.ALREADY, _not_standing(writer, body.halt_id), None
    unsettled = tuple(ambiguity(order.intent_id) for order in writer.read.unresolved_orders())
    may = [halt for halt in asked if not halt.reason.startswith(unsettled or ("\0",))]
    if not may:
        raise Refused("the order behind this halt is not settled", ("resolve",))
    for halt in may:
        _lift(writer, halt, body.operator, reason)
    lifted = "; ".join(f"halt {halt.id} ({halt.reason})" for halt in may)
    alert(writer, sender, "warning", "resumed", f"operator {body.operator} lifted {lifted}: {reason}")
    left = len(standing) - len(may)
    rest = f"; {left} still {'stands' if left == 1 else 'stand'}" if left else ""
    return Outcome.APPLIED, f"lifted {len(may)} of {len(standing)} halts{rest}", None


def _not_standing(writer: Writer, halt_id: int | None) -> str:
    if halt_id is None:
        return "no halt stands"
    halt = writer.read.halt(halt_id)
    if halt is None:
        raise Refused(f"there is no halt {halt_id}")
    if halt.lifted_at is None:
        return f"halt {halt_id} ended at {halt.until}"
    return f"halt {halt_id} was lifted at {halt.lifted_at} by {halt.lifted_by}: {halt.lift_reason}"


def reason_of(text: str) -> str:
    """Return the operator's reason, or raise Refused: it stands in the record for good."""
    if not text.strip():
        raise Refused("a reason is needed; it stands in the record for good")
    return text.strip()


# ── halts of one order ──────────────────────────────────────────────────────


def ambiguity(intent_id: str) -> str:
    """Return how the reason begins of the halt that an ambiguous order raises."""
    return f"order of intent {intent_id} is ambiguous:"


def lift_ambiguity(writer: Writer, intent_id: str, operator: str, reason: str) -> None:
    """Lift what was raised for an order that is settled now."""
    for halt in writer.read.halts():
        if halt.kind == "hard" and halt.reason.startswith(ambiguity(intent_id)):
            _lift(writer, halt, operator, reason)


def _lift(writer: Writer, halt: Halt, operator: str, reason: str) -> None:
    writer.db.execute(
        "UPDATE halts SET lifted_at = ?, lifted_by = ?, lift_reason = ? WHERE id = ?",
        (clock.iso(writer.now), operator, reason, halt.id),
    )
