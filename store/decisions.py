"""The life of an intent: every arrow of the state machine as one method that changes the rows and writes the journal.

Run by the store process inside its transaction. Decides nothing about sockets or processes; never commits.
Names are the blueprint's (section 5.2).
"""

from __future__ import annotations

import functools
import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import apsw
import msgspec

from bus import clock
from bus.messages import Decide, Peer, PositionResult, Propose, ReserveOrder
from bus.records import TradeIntent
from bus.vocabulary import Role, Status
from store import figures, intents, states
from store.at_hand import AtHand
from store.journal import Journal
from store.queries import Reader

if TYPE_CHECKING:
    from store.certificate import Gate

STORE = Peer(Role.STORE, 1, "0" * 12)
BATCH_MAX = 500
ORDERS_AT_ONCE = 1  # what one order does to the account must be known before the next is judged
SIGNAL_CHARS_MAX = 100_000


class Refused(Exception):
    """The change is not allowed now. `allowed` lists the events that were; `halt`: why all trading must stop, too."""

    def __init__(self, reason: str, allowed: tuple[str, ...] = (), *, halt: str = "") -> None:
        super().__init__(reason)
        self.allowed = allowed
        self.halt = halt


class DecisionStore:
    """All changes of intents, decisions and orders. Every method records who did it, when and why."""

    def __init__(self, db: apsw.Connection, *, claim_ttl_minutes: int, attempts_max: int, backoff_s: float) -> None:
        self._connection, self._db = db, db.cursor()  # one cursor: a new one each time costs a tenth of a statement
        self._claim_ttl_minutes = claim_ttl_minutes
        self._attempts_max = attempts_max
        self._backoff_s = backoff_s
        self.read = Reader.over(db)
        self.journal = Journal(db)
        self.at_hand = AtHand(self.read)

    # ── proposing and deciding ──────────────────────────────────────────────

    def insert_intent(self, proposed: Propose, by: Peer, now: datetime) -> TradeIntent | None:
        """Insert a pending intent; None when its idempotency key is known already (the same pair, bar and source).

        Raises:
            Refused: the signal is too long to be handed on in one message.
        """
        signal = proposed.signal
        signal_json = msgspec.json.encode(signal).decode()
        if len(signal_json) > SIGNAL_CHARS_MAX:
            raise Refused(f"the signal has {len(signal_json)} characters; allowed: {SIGNAL_CHARS_MAX}")
        key = f"{signal.symbol}:{signal.timeframe}:{signal.bar_time}:{proposed.source}"
        if intents.is_known(self._db, key):
            return None
        intent = TradeIntent(
            id=intents.new_id(now),
            created_at=clock.iso(now),
            trade_date=proposed.trade_date,
            symbol=signal.symbol,
            timeframe=signal.timeframe,
            scanner_score=signal.score,
            scanner_confidence=signal.confidence,
            scanner_score_gap=signal.score_gap,
            scanner_drop_distance=signal.drop_distance,
            scanner_topk_spread=signal.topk_spread,
            signal_json=signal_json,
            source=proposed.source,
            claim_ttl_minutes=self._claim_ttl_minutes,
            expires_at=min(clock.iso(now + timedelta(minutes=proposed.ttl_minutes)), proposed.expires_at or "9"),
            idempotency_key=key,
        )
        intents.insert_pending(self._db, intent)
        self.at_hand.keep(intent)
        why = f"{signal.source} bar {signal.bar_time}, score {signal.score:.4f}, {signal.confidence} confidence"
        self.journal.append(intent, "propose", None, Status.PENDING, by, 0, why, {"symbol": signal.symbol}, now)
        return intent

    def claim_next_pending(self, worker: Peer, now: datetime) -> TradeIntent | None:
        """Claim the oldest pending intent that may be tried now for `worker`, with the next epoch; None without one."""
        intent = self._next(Status.PENDING, now)
        return self.lease(intent, "claim", worker, now) if intent else None

    def decide(self, intent: TradeIntent, verdict: Decide, by: Peer, now: datetime) -> None:
        """Record a verdict: ready_for_exec for BUY and SELL (SL and TP needed, in pips), cancelled for HOLD."""
        side, sl_pips, tp_pips = verdict.side, verdict.sl_pips, verdict.tp_pips
        holds = side == "HOLD"
        if not holds and not (sl_pips and tp_pips and sl_pips > 0 and tp_pips > 0):
            raise Refused(f"{side} needs sl_pips and tp_pips above 0; found {sl_pips} and {tp_pips}", ("decide HOLD",))
        columns = {
            "suggested_side": side,
            "suggested_sl_pips": None if holds else sl_pips,
            "suggested_tp_pips": None if holds else tp_pips,
            "agent_risk_report": verdict.risk_report,
            "agent_state_json": verdict.state_json,
            "attempts": 0,
        }
        why = f": {verdict.reason}" if verdict.reason else ""
        kept = figures.of(intent.signal_json, verdict.state_json)
        record = {"decided_at": clock.iso(now)}
        if holds:
            self._end(intent, "decide_hold", by, now, f"analyst decided HOLD{why}", columns, kept, record)
        else:
            what = f"{side}, SL {sl_pips:g} pips, TP {tp_pips:g} pips{why}"
            self._move(intent, "decide_trade", by, now, what, kept, columns, record)

    def mark_analysis_failed(self, intent: TradeIntent, error: str, by: Peer, now: datetime) -> Status:
        """Give the intent another try after a backoff that doubles, or end it when its attempts are used up."""
        if intent.attempts >= self._attempts_max:
            return self._end(intent, "exhaust", by, now, f"analysis failed {intent.attempts} times: {error}")
        wait_s = self._backoff_s * 2 ** (intent.attempts - 1)
        columns = {"not_before": clock.iso(now + timedelta(seconds=wait_s))}
        return self._move(intent, "retry", by, now, f"attempt {intent.attempts} failed: {error}", columns=columns)

    def release(self, intent: TradeIntent, reason: str, retry_after_s: float, by: Peer, now: datetime) -> Status:
        """Take a lease back unused; the attempt does not count. Refused once an order was reserved."""
        event = "return" if intent.status == Status.EXECUTING else "release"
        not_before = clock.iso(now + timedelta(seconds=retry_after_s)) if retry_after_s else None
        columns = {"attempts": max(intent.attempts - 1, 0), "not_before": not_before}
        return self._move(intent, event, by, now, reason, columns=columns)

    def lose_lease(self, intent: TradeIntent, reason: str, now: datetime) -> Status:
        """Take a claim from a holder that is dead or silent: timed_out, then pending again, or cancelled at the end."""
        self._move(intent, "lose_lease", STORE, now, reason)
        lost = self.at_hand.after(intent)
        if intent.attempts >= self._attempts_max:
            return self._end(lost, "give_up", STORE, now, f"{intent.attempts} attempts were lost; the last: {reason}")
        if intent.expires_at and intent.expires_at <= clock.iso(now):
            return self._end(lost, "give_up", STORE, now, f"expired; {reason}")
        return self._move(lost, "recycle", STORE, now, "another analyst may try")

    # ── executing ───────────────────────────────────────────────────────────

    def mark_executing(self, executor: Peer, now: datetime) -> TradeIntent | None:
        """Take the oldest intent that is ready for execution for `executor`, with the next epoch; None without one."""
        intent = self._next(Status.READY_FOR_EXEC, now)
        return self.lease(intent, "take", executor, now) if intent else None

    def hand_over(self, intent: TradeIntent, executor: Peer, now: datetime) -> TradeIntent:
        """Give an executing intent whose order is unresolved to a new executor, which reconciles and never sends."""
        return self.lease(intent, "hand_over", executor, now)

    def executor_died(self, intent: TradeIntent, reason: str, now: datetime) -> Status:
        """Put an executing intent without a reserved order back (nothing was sent), or end it after its attempts."""
        if intent.attempts >= self._attempts_max:
            return self._end(intent, "exhaust", STORE, now, f"{intent.attempts} executors died over it; {reason}")
        return self._move(intent, "return", STORE, now, reason)

    def reserve_order(
        self, intent: TradeIntent, asked: ReserveOrder, by: Peer, now: datetime, *, gate: Gate
    ) -> None:  # fmt: skip
        """Write the one order of this intent. The answer to this, once committed, is the licence to send it once.

        Raises:
            Refused: not executing, reserved before, a halt stands, another order is unresolved, the intent expired, or
                its certificate does not hold.
        """
        self._may(intent, "reserve")
        if self._order_status(intent.id) is not None:
            raise Refused("an order was reserved for this intent before", ("reconcile",))
        if halts := self.read.halts(clock.iso(now)):
            raise Refused(f"halted: {halts[0].reason}", ("release", "reject"))
        if unresolved := self.order_in_the_way():
            raise Refused(f"the order of intent {unresolved} is unresolved", ("release",))
        if intent.expires_at and intent.expires_at <= clock.iso(now):
            raise Refused(f"expired at {intent.expires_at}", ("reject",))
        gate.check(asked, self.read, now)
        self._db.execute(
            "INSERT INTO orders (intent_id, status, plan, baseline, reserved_at, deadline_at, idempotency_key, "
            "figures_mark) VALUES (?, 'reserved', ?, ?, ?, ?, ?, ?)",
            (
                intent.id, msgspec.json.encode(asked.plan).decode(), json.dumps(asked.baseline), clock.iso(now),
                asked.deadline_at, asked.idempotency_key or None, asked.figures_mark or None,
            ),
        )  # fmt: skip
        plan, snapshot = asked.plan, {"compliance_snapshot": asked.compliance_snapshot}
        what = f"{plan.side} {plan.volume} {plan.broker_symbol} SL {plan.sl_price} TP {plan.tp_price}"
        self._move(intent, "reserve", by, now, what, columns=snapshot, record=snapshot)

    def mark_rejected(self, intent: TradeIntent, reason: str, snapshot: str, by: Peer, now: datetime) -> Status:
        """End an intent that the guard refused. Refused itself once an order was reserved."""
        checks = {"compliance_snapshot": snapshot}
        return self._end(intent, "reject", by, now, reason, checks, record=checks)

    def mark_unknown(self, intent: TradeIntent, reason: str, by: Peer, now: datetime) -> None:
        """Record that the answer to the order was lost."""
        self._unresolved(intent)
        self._db.execute("UPDATE orders SET status = 'unknown', reason = ? WHERE intent_id = ?", (reason, intent.id))
        self._move(intent, "lose_answer", by, now, reason)

    def mark_opened(
        self,
        intent: TradeIntent,
        *,
        order_id: str,
        position_id: str,
        execution_meta: str,
        closed: PositionResult | None,
        by: Peer,
        now: datetime,
        note: str = "",
    ) -> None:
        """Record the position of a reserved order; with `closed` its end, too, in the same commit. `note`: who says so.

        Raises:
            Refused: nothing is reserved, or that position belongs to another intent.
        """
        self._unresolved(intent)
        owner = self._db.execute("SELECT intent_id FROM orders WHERE position_id = ?", (position_id,)).get
        if owner is not None:
            raise Refused(f"position {position_id} belongs to intent {owner}", ("lose_answer",))
        at = clock.iso(now)
        self._db.execute(
            "UPDATE orders SET status = 'opened', order_id = ?, position_id = ?, resolved_at = ? WHERE intent_id = ?",
            (order_id, position_id, at, intent.id),
        )
        new = {"order_id": order_id, "position_id": position_id, "execution_meta": execution_meta}
        self._move(
            intent, "open", by, now, f"position {position_id}{note}",
            columns={"position_id": position_id, "executed_at": at}, record={"executed_at": at, **new},
        )  # fmt: skip
        if closed is not None:
            self.mark_closed(self.at_hand.after(intent), closed, by, now)

    def mark_failed(self, intent: TradeIntent, reason: str, by: Peer, now: datetime) -> Status:
        """End an intent whose reserved order certainly does not exist at the broker."""
        self._unresolved(intent)
        self._db.execute(
            "UPDATE orders SET status = 'failed', resolved_at = ?, reason = ? WHERE intent_id = ?",
            (clock.iso(now), reason, intent.id),
        )
        return self._end(intent, "fail", by, now, reason)

    def mark_closed(self, intent: TradeIntent, result: PositionResult, by: Peer, now: datetime) -> Status:
        """Record how the position of an opened intent ended."""
        self._may(intent, "close")
        record = {
            "closed_at": result.closed_at, "net_profit_cents": result.net_profit_cents, "close_reason": result.reason,
        }  # fmt: skip
        money = f"{result.net_profit_cents / 100:+.2f}"
        payload = {"net_profit_cents": result.net_profit_cents, "close_price": result.close_price}
        return self._move(intent, "close", by, now, f"{result.reason}, net {money}", payload, record=record)

    # ── ending early, upkeep ────────────────────────────────────────────────

    def mark_cancelled(self, intent: TradeIntent, reason: str, by: Peer, now: datetime) -> Status:
        """Take back an intent that no order was reserved for. Refused with what was allowed otherwise."""
        return self._end(intent, "cancel", by, now, reason)

    def expire(self, now: datetime) -> int:
        """Cancel what waited past its `expires_at`. Returns how many, at most BATCH_MAX."""
        found = self.read.select(
            TradeIntent, "intents WHERE status IN ('pending', 'ready_for_exec') AND expires_at <= ? LIMIT ?",
            clock.iso(now), BATCH_MAX,
        )  # fmt: skip
        for intent in found:
            self._end(intent, "expire", STORE, now, f"expired at {intent.expires_at} as {intent.status}")
        return len(found)

    def recycle_expired_claims(self, now: datetime) -> list[TradeIntent]:
        """Take back claims older than their `claim_ttl_minutes` by the wall clock. Returns them as they were."""
        found = self.read.select(
            TradeIntent,
            "intents WHERE status = 'claimed' AND unixepoch(claim_ts) + 60 * claim_ttl_minutes <= ? LIMIT ?",
            int(now.timestamp()), BATCH_MAX,
        )  # fmt: skip
        for intent in found:
            self.lose_lease(intent, f"held longer than {intent.claim_ttl_minutes} minutes", now)
        return found

    def cleanup_old_intents(self, retention_days: int, now: datetime) -> int:
        """Delete intents that ended without an order before the retention; journal, keys and all that traded stay."""
        limit = clock.iso(now - timedelta(days=retention_days))
        never = ", ".join(f"'{status}'" for status in sorted(states.NEVER_TRADED))
        rows = self._db.execute(
            f"SELECT id, idempotency_key, status FROM intents WHERE status IN ({never}) AND created_at < ? "
            "AND id NOT IN (SELECT intent_id FROM orders) LIMIT ?",
            (limit, BATCH_MAX),
        ).fetchall()
        for intent_id, key, status in rows:
            # Known already when a restored backup holds what was cleaned up since it was made.
            retired = (key, intent_id, status, clock.iso(now))
            self._db.execute("INSERT OR IGNORE INTO retired_keys VALUES (?, ?, ?, ?)", retired)
            self._db.execute("DELETE FROM decisions WHERE intent_id = ?", (intent_id,))
            self._db.execute("DELETE FROM intents WHERE id = ?", (intent_id,))
        return len(rows)

    # ── leases ──────────────────────────────────────────────────────────────

    def lease(self, intent: TradeIntent, event: str, holder: Peer, now: datetime) -> TradeIntent:
        """Give `intent` to `holder` with the next epoch, and return it as it is then."""
        at = clock.iso(now)
        columns: dict[str, Any] = {
            "claim_worker_id": holder.name,
            "claim_incarnation": holder.incarnation,
            "claim_ts": at,
            "epoch": intent.epoch + 1,
            "attempts": intent.attempts + 1,
        }
        record = {"claimed_at": at} if event == "claim" else None
        self._move(intent, event, holder, now, f"lease for {holder.name}", columns=columns, record=record)
        return self.at_hand.after(intent)

    # ── plumbing ────────────────────────────────────────────────────────────

    def _next(self, status: Status, now: datetime) -> TradeIntent | None:
        """Return the oldest intent in this status that may be tried now."""
        found = self._db.execute(
            "SELECT id FROM intents WHERE status = ?1 AND (not_before IS NULL OR not_before <= ?2) "
            "AND (expires_at IS NULL OR expires_at > ?2) ORDER BY created_at, rowid LIMIT 1",
            (str(status), clock.iso(now)),
        ).get
        return None if found is None else self.at_hand.get(str(found))

    def order_in_the_way(self) -> str | None:
        """Return the intent of an unresolved order when no other may be reserved beside it."""
        rows = self._db.execute(
            "SELECT intent_id FROM orders WHERE status IN ('reserved', 'unknown') LIMIT 1 OFFSET ?",
            (ORDERS_AT_ONCE - 1,),
        ).fetchall()
        return str(rows[0][0]) if rows else None

    def _may(self, intent: TradeIntent, event: str) -> Status:
        target = states.target(event, intent.status)
        if target is None:
            raise Refused(f"an intent that is {intent.status} cannot {event}", states.allowed(intent.status))
        return target

    def _unresolved(self, intent: TradeIntent) -> None:
        if intent.status != Status.EXECUTING or self._order_status(intent.id) is None:
            raise Refused(f"nothing is reserved for this intent ({intent.status})", states.allowed(intent.status))

    def _order_status(self, intent_id: str) -> str | None:
        found: str | None = self._db.execute("SELECT status FROM orders WHERE intent_id = ?", (intent_id,)).get
        return found

    def _end(
        self,
        intent: TradeIntent,
        event: str,
        by: Peer,
        now: datetime,
        reason: str,
        columns: dict[str, Any] | None = None,
        payload: dict[str, Any] | None = None,
        record: dict[str, Any] | None = None,
    ) -> Status:
        """Move to a final status and keep the reason where the blueprint wants it."""
        columns, record = {"execution_error": reason, **(columns or {})}, {"failure_reason": reason, **(record or {})}
        return self._move(intent, event, by, now, reason, payload, columns, record)

    def _move(
        self,
        intent: TradeIntent,
        event: str,
        by: Peer,
        now: datetime,
        reason: str,
        payload: dict[str, Any] | None = None,
        columns: dict[str, Any] | None = None,
        record: dict[str, Any] | None = None,
    ) -> Status:
        """Take one arrow: change the row, its decision (`record`) and the journal together. Returns the new status."""
        target = self._may(intent, event)
        changes: dict[str, Any] = {"status": str(target), **(columns or {})}
        if target not in (Status.CLAIMED, Status.EXECUTING):
            changes["claim_incarnation"] = None
        self._db.execute(
            _update("intents", "id = ? AND status = ? AND epoch = ?", *changes),
            (*changes.values(), intent.id, str(intent.status), intent.epoch),
        )
        if self._connection.changes() != 1:
            raise Refused(f"intent {intent.id} is no longer {intent.status} in epoch {intent.epoch}")
        noted = {"status": str(target), **(record or {})}
        self._db.execute(_update("decisions", "intent_id = ?", *noted), (*noted.values(), intent.id))
        epoch = changes.get("epoch", intent.epoch)
        self.journal.append(intent, event, intent.status, target, by, epoch, reason, payload, now)
        self.at_hand.keep(msgspec.structs.replace(intent, **{**changes, "status": target}))
        return target


@functools.lru_cache(maxsize=64)  # one text a statement, so that SQLite's own cache of prepared ones finds it
def _update(table: str, where: str, *names: str) -> str:
    return f"UPDATE {table} SET {', '.join(f'{name} = ?' for name in names)} WHERE {where}"
