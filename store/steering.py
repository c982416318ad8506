"""What the operator has done to the account by hand, through the same gate as everything: a trade, and the end of one.

Part of the store process; called by the writer inside a savepoint. Sends nothing to a broker and skips no check: what
is submitted waits for the executor like a scanner's trade, what is to be closed is closed by the monitor.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from bus import clock, messages
from bus.messages import Peer
from bus.records import TradeIntent
from bus.vocabulary import Outcome, Source, Status
from store import halts, intents, states
from store.decisions import Refused
from store.halts import Answer

if TYPE_CHECKING:
    from store.writer import Writer

MANUAL: Source = "manual"


def close(writer: Writer, sender: Peer, body: messages.Close) -> Answer:
    """Record that the operator has the position of one intent closed; the monitor carries it out.

    Raises:
        Refused: no such intent, no reason, or it has no open position.
    """
    reason, intent = halts.reason_of(body.reason), writer.decisions.at_hand.get(body.intent_id)
    if intent is None:
        raise Refused(f"there is no intent {body.intent_id}")
    if intent.status == Status.CLOSED:
        return Outcome.ALREADY, f"position {intent.position_id} is closed", intent.id
    if intent.status != Status.OPENED:
        raise Refused(f"intent {intent.id} is {intent.status}: it has no open position", states.allowed(intent.status))
    if (ordered := writer.read.closing(intent.id)) is not None:
        return Outcome.ALREADY, f"{ordered.operator} ordered it at {ordered.asked_at}: {ordered.reason}", intent.id
    writer.db.execute(
        "INSERT INTO closings (intent_id, operator, reason, asked_at) VALUES (?, ?, ?, ?)",
        (intent.id, body.operator, reason, clock.iso(writer.now)),
    )
    what = f"position {intent.position_id} of {intent.symbol}"
    halts.alert(
        writer, sender, "warning", "close_ordered", f"operator {body.operator} has {what} closed: {reason}", intent.id
    )
    return Outcome.APPLIED, "", intent.id


def submit(writer: Writer, sender: Peer, body: messages.Submit) -> Answer:
    """Propose, claim and decide a trade of the operator's, in one commit: the arrows of every trade, in the same order.

    From then on it is any intent that is ready: halts, expiry, the guard and the store's own gate count as always.

    Raises:
        Refused: no reason, or a symbol that is not traded here.
    """
    reason = halts.reason_of(body.reason)
    if body.symbol not in writer.symbols:
        known = ", ".join(sorted(writer.symbols)) or "none"
        raise Refused(f"symbol was {body.symbol}; traded here: {known}")
    key = f"{body.symbol}:{MANUAL}:{body.key}:{MANUAL}"
    if intents.is_known(writer.db, key):
        known_id = writer.db.execute("SELECT id FROM intents WHERE idempotency_key = ?", (key,)).get
        return Outcome.ALREADY, "submitted before", None if known_id is None else str(known_id)
    said = f"operator {body.operator}: {reason}"
    intent = _intent(writer, body, key)
    intents.insert_pending(writer.db, intent)
    payload = {"symbol": intent.symbol}
    writer.decisions.journal.append(intent, "propose", None, Status.PENDING, sender, 0, said, payload, writer.now)
    claimed = writer.decisions.lease(intent, "claim", sender, writer.now)
    verdict = messages.Decide(
        intent_id=intent.id, epoch=claimed.epoch, side=body.side, sl_pips=body.sl_pips, tp_pips=body.tp_pips,
        risk_report=said, reason=said,
    )  # fmt: skip
    writer.decisions.decide(claimed, verdict, sender, writer.now)
    standing = writer.read.halts(clock.iso(writer.now))
    waits = f"a halt stands, it waits until {intent.expires_at} at most: {standing[0].reason}" if standing else ""
    return Outcome.APPLIED, waits, intent.id


def _intent(writer: Writer, body: messages.Submit, key: str) -> TradeIntent:
    return TradeIntent(
        id=intents.new_id(writer.now),
        created_at=clock.iso(writer.now),
        trade_date=writer.now.date().isoformat(),
        symbol=body.symbol,
        timeframe="-",
        source=MANUAL,
        claim_ttl_minutes=writer.settings.claim_ttl_minutes,
        expires_at=clock.iso(writer.now + timedelta(minutes=body.ttl_minutes)),
        idempotency_key=key,
    )
