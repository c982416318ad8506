"""One batch of messages, one transaction, then the answers: the store's decisions without its sockets and clocks.

Part of the store process. A command is applied in a savepoint together with its recorded answer, so that a resend gets
the same answer and changes nothing. Nothing is returned for sending before it is committed.
"""

from __future__ import annotations

import collections
import functools
import itertools
import json
import os
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import apsw
import msgspec
from loguru import logger

from bus import clock, messages, tallies
from bus.failpoints import reach
from bus.messages import Ack, Beat, Envelope, FromStore, Peer
from bus.records import AccountDay, AccountMark, EquitySample, Order, TradeIntent, Worker
from bus.vocabulary import Outcome, Role, State, Status
from config.settings import Bus, Llm, Store
from store import alerts, commands, decisions, halts, owner
from store import tallies as kept
from store.certificate import Gate
from store.commands import Stale
from store.daily import Summaries
from store.decisions import STORE, DecisionStore, Refused
from store.recovery import Changes, Lease, Registry
from store.rows import columns
from store.wallclock import WallClock

if TYPE_CHECKING:
    import loguru

Send = tuple[Peer, FromStore]
MOVES_TOLD_MAX = 16  # arrows that are logged one by one when there is time; of more the sum
TALLIES_S = 5.0  # how often the store writes what it measured of itself


class Writer:
    """The store's decisions. `step` is the only way in; everything it returns is durable already."""

    def __init__(
        self, db: apsw.Connection, settings: Store, bus: Bus, gate: Gate, *, now: datetime, now_s: float,
        llm: Llm | None = None, symbols: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.db, self._cursor = db, db.cursor()  # a new one each time costs a tenth of a statement
        self.settings = settings
        self.gate = gate
        self.llm = llm or Llm()  # for the limits of its calls
        self.symbols = frozenset(symbols)  # what the operator may submit a trade of
        self.now, self.now_s = now, now_s
        self._started_at = clock.iso(now)
        reach("store.before_epoch")  # counting this life of the store
        with db:
            db.execute(
                "INSERT INTO meta VALUES ('store_epoch', '1') "
                "ON CONFLICT (key) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)"
            )
            db.execute("INSERT OR REPLACE INTO meta VALUES ('store_started_at', ?)", (clock.iso(now),))
            alerts.recovered(db, clock.iso(now))
            owner.learn(db, gate.owner)
        reach("store.after_epoch")
        self.decisions = DecisionStore(
            db,
            claim_ttl_minutes=settings.claim_ttl_minutes,
            attempts_max=settings.attempts_max,
            backoff_s=settings.retry_backoff_s,
        )
        self.read = self.decisions.read
        self.epoch = self.read.store_epoch()
        self.registry = Registry(beat_s=bus.beat_s, dead_s=bus.dead_s, now_s=now_s)
        self.sends: list[Send] = []
        self.tallies = tallies.Tallies()
        self._tallies_due_s = now_s
        self._wall_clock = WallClock(db, now_s=now_s)
        self._summaries = Summaries()
        self._load_leases()

    # ── one batch ───────────────────────────────────────────────────────────

    def step(self, envelopes: Sequence[Envelope], now: datetime, now_s: float, *, tick: bool = False) -> list[Send]:
        """Apply a batch in one transaction and return what is to be sent, in order.

        With `tick` the periodic work is done, too. Raises apsw.Error when the commit fails: then nothing happened,
        nothing may be sent, and the senders will resend.
        """
        self.now, self.now_s, self.sends = now, now_s, []
        # Deaths last: what the dead one sent while it lived counts.
        ordered = sorted(envelopes, key=lambda one: isinstance(one.body, messages.ChildExited))
        self.db.execute("BEGIN IMMEDIATE")
        try:
            self._look_at_the_clock(tick=tick)
            for envelope in ordered:
                self._take(envelope)
            if tick:
                self._tick()
            self._assign()
            if envelopes:
                reach("store.before_commit")  # the commit of one batch
            began_s = tallies.began_s()
            self.db.execute("COMMIT")
            self.tallies.observe(tallies.Name.STORE_COMMIT, tallies.began_s() - began_s)
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            self._taken_back()
            self._load_leases()
            raise
        if envelopes:
            reach("store.after_commit")
        self._wall_clock.keep(now, now_s)
        return _work_first(self.sends)

    def _look_at_the_clock(self, *, tick: bool) -> None:
        """Move what waits when the wall clock was set back, before anything is decided by it."""
        back = self._wall_clock.turned_back(self.now, self.now_s)
        if back:
            moved = self._wall_clock.move(back)
            self.decisions.at_hand.forget()
            text = f"the wall clock went back by {back.total_seconds():.0f} s: {moved} waiting intents moved with it"
            halts.alert(self, STORE, "warning", "clock", text)
            logger.warning("{}", text[0].upper() + text[1:])
        if back or tick:
            self._wall_clock.write(self.now)

    @property
    def untold(self) -> int:
        """How many arrows are committed and not logged."""
        return len(self.decisions.journal.moves)

    def log_moves(self) -> None:
        """Tell what was committed, one line an arrow; of many the sum, for a line takes longer than an arrow.

        Nothing is lost with it: the journal has them all. Call while it is quiet: no answer must wait for it. Each line
        carries the moment of its arrow.
        """
        moves, self.decisions.journal.moves = self.decisions.journal.moves, []
        if len(moves) > MOVES_TOLD_MAX:
            counted = collections.Counter(move.event for move in moves)
            told = ", ".join(f"{count} {event}" for event, count in counted.items())
            logger.info("{} arrows, {} to {} of the journal: {}", len(moves), moves[0].seq, moves[-1].seq, told)
            return
        for move in moves:
            logger.bind(intent_id=move.intent_id).patch(functools.partial(_at, move.at)).info(
                "{} -> {} ({}) by {}: {}",
                move.from_status or "new", move.to_status, move.event, move.actor, move.reason,
            )  # fmt: skip

    def _take(self, envelope: Envelope) -> None:
        if isinstance(envelope.body, Beat):
            if not self.registry.is_dead(envelope.sender.incarnation):
                self._beat(envelope.sender, envelope.body)
            return
        self.sends.append((envelope.sender, self._recorded(envelope) or self._apply(envelope)))

    def _recorded(self, envelope: Envelope) -> Ack | None:
        rows = self._cursor.execute(
            "SELECT outcome, reason, allowed, intent_id FROM commands WHERE id = ?", (envelope.id,)
        ).fetchall()
        if not rows:
            return None
        outcome, reason, allowed, intent_id = rows[0]
        answer = {"outcome": outcome, "reason": reason, "allowed": json.loads(str(allowed)), "intent_id": intent_id}
        return msgspec.convert({"kind": "Ack", "id": envelope.id, **answer}, Ack)

    def _apply(self, envelope: Envelope) -> Ack:
        """Apply one new command in a savepoint and record its answer."""
        body = envelope.body
        try:
            outcome, reason, intent_id = self._handle(envelope.sender, body)
            ack = Ack(id=envelope.id, outcome=outcome, reason=reason, intent_id=intent_id)
        except Stale as stale:
            ack = Ack(id=envelope.id, outcome=Outcome.STALE, reason=str(stale))
        except Refused as refused:
            ack = Ack(id=envelope.id, outcome=Outcome.REFUSED, reason=str(refused), allowed=refused.allowed)
            if refused.halt:  # after the savepoint, which took all else back
                halts.latch(self, envelope.sender, "hard", refused.halt, None)
        except apsw.ConstraintError as error:
            ack = Ack(id=envelope.id, outcome=Outcome.REFUSED, reason=f"the database refused it: {error}")
        if ack.outcome in (Outcome.STALE, Outcome.REFUSED):
            self._taken_back()
            logger.warning(
                "Answered {} of {} {}: {}", type(body).__name__, envelope.sender.name, ack.outcome, ack.reason
            )
        self._cursor.execute(
            "INSERT INTO commands VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                envelope.id, clock.iso(self.now), envelope.sender.name, type(body).__name__, str(ack.outcome),
                ack.reason, json.dumps(ack.allowed) if ack.allowed else "[]", ack.intent_id,
            ),
        )  # fmt: skip
        return ack

    def _taken_back(self) -> None:
        """Read anew what was remembered of the transaction, after a rollback."""
        self.decisions.journal.reload()
        self.decisions.at_hand.forget()

    def _handle(self, sender: Peer, body: messages.Message) -> halts.Answer:
        """Carry out a command whole or not at all."""
        self._cursor.execute("SAVEPOINT command")
        try:
            answer = commands.HANDLERS[type(body)](self, sender, body)
        except BaseException:
            if self.db.in_transaction:  # after some errors SQLite has rolled back itself
                self._cursor.execute("ROLLBACK TO command")
                self._cursor.execute("RELEASE command")
            raise
        self._cursor.execute("RELEASE command")
        return answer

    # ── beats, deaths and leases ────────────────────────────────────────────

    def _beat(self, peer: Peer, beat: Beat) -> None:
        changes = self.registry.beat(
            peer, beat, now_s=self.now_s, at=clock.iso(self.now), store_epoch=self.epoch
        )  # fmt: skip
        if changes.welcome:
            self.sends.append((peer, messages.Welcome(store_epoch=self.epoch)))
        for intent_id, epoch in changes.withdraw:
            self.sends.append((peer, messages.Withdraw(intent_id=intent_id, epoch=epoch, reason="not your lease")))
        self._carry_out(changes, peer)

    def _tick(self) -> None:
        self._carry_out(self.registry.tick(self.now_s), None)
        for intent in self.decisions.recycle_expired_claims(self.now):
            self.drop(intent.id, "held too long")
        self.decisions.expire(self.now)
        self._summaries.tick(self)
        self._write_workers()

    def _carry_out(self, changes: Changes, peer: Peer | None) -> None:
        for lease, reason in changes.lost:
            self.lose(lease, reason)
        for lease in changes.hand_over:
            if lease.has_order and peer is not None:
                self._hand_over(lease, peer)
            else:
                self.executor_died(lease, "its executor was replaced; nothing was reserved")
        for lease in changes.resend:
            intent = self.decisions.at_hand.get(lease.intent_id)
            if intent is not None and peer is not None:
                lease.sends, lease.sent_s = lease.sends + 1, self.now_s
                self._send_work(peer, intent, self.read.order(intent.id))

    def lose(self, lease: Lease, reason: str) -> None:
        intent = self.decisions.at_hand.get(lease.intent_id)
        self.drop(lease.intent_id, reason)
        if intent is not None and intent.status == Status.CLAIMED:
            self.decisions.lose_lease(intent, reason, self.now)

    def executor_died(self, lease: Lease, reason: str) -> None:
        intent = self.decisions.at_hand.get(lease.intent_id)
        if intent is not None:
            self.registry.leases.pop(lease.intent_id, None)
            self.decisions.executor_died(intent, reason, self.now)

    def _hand_over(self, lease: Lease, peer: Peer) -> None:
        intent = self.decisions.at_hand.get(lease.intent_id)
        if intent is not None:
            self._grant(self.decisions.hand_over(intent, peer, self.now), peer)

    def drop(self, intent_id: str, reason: str) -> None:
        """Forget a lease and tell its holder, if it lives."""
        lease = self.registry.leases.pop(intent_id, None)
        holder = self.registry.peer_of(lease.incarnation) if lease else None
        if lease is not None and holder is not None:
            self.sends.append((holder, messages.Withdraw(intent_id=intent_id, epoch=lease.epoch, reason=reason)))

    def _assign(self) -> None:
        """Give work to whoever has credit, oldest first: claimed in this transaction, sent after it."""
        for peer in self.registry.free_slots(Role.LLM, self.now_s):
            intent = self.decisions.claim_next_pending(peer, self.now)
            if intent is None:
                break
            self._grant(intent, peer)
        # One order at a time: an intent that is executing, an unresolved order or a halt keeps the gate shut.
        executing = sum(1 for lease in self.registry.leases.values() if lease.role is Role.EXECUTOR)
        free = itertools.islice(
            self.registry.free_slots(Role.EXECUTOR, self.now_s), max(0, decisions.ORDERS_AT_ONCE - executing)
        )
        for peer in free:
            if self.decisions.order_in_the_way() or self.read.halts(clock.iso(self.now)):
                return
            intent = self.decisions.mark_executing(peer, self.now)
            if intent is None:
                return
            self._grant(intent, peer)

    def _grant(self, intent: TradeIntent, peer: Peer) -> None:
        order = self.read.order(intent.id) if intent.status == Status.EXECUTING else None
        self.registry.leases[intent.id] = Lease(
            intent.id, intent.epoch, peer.role, peer.incarnation, self.now_s, has_order=order is not None
        )
        self._send_work(peer, intent, order)

    def _send_work(self, peer: Peer, intent: TradeIntent, order: Order | None) -> None:
        if intent.status == Status.EXECUTING:
            # The analyst's papers stay in the database: with them the frame might be larger than a mailbox takes.
            slim = msgspec.structs.replace(intent, agent_risk_report="", agent_state_json="", compliance_snapshot="")
            self.sends.append((peer, messages.Execute(intent=slim, epoch=intent.epoch, order=order)))
        else:
            lease_s = 60.0 * intent.claim_ttl_minutes
            self.sends.append((peer, messages.Analyse(intent=intent, epoch=intent.epoch, lease_s=lease_s)))

    def _load_leases(self) -> None:
        """Read the leases from the rows: at start, and after a rollback."""
        self.registry.leases.clear()
        rows = self.db.execute(
            "SELECT i.id, i.epoch, i.claim_incarnation, i.status, o.intent_id IS NOT NULL FROM intents i "
            "LEFT JOIN orders o ON o.intent_id = i.id WHERE i.status IN ('claimed', 'executing')"
        ).fetchall()
        for intent_id, epoch, incarnation, status, has_order in rows:
            role = Role.EXECUTOR if status == "executing" else Role.LLM
            self.registry.leases[str(intent_id)] = Lease(
                str(intent_id), int(str(epoch)), role, str(incarnation), self.now_s,
                has_order=bool(has_order),
            )  # fmt: skip

    def left(self, peer: Peer) -> None:
        """Write that a process ended in order; nothing when another one has its slot already."""
        self.db.execute(
            "UPDATE workers SET state = ?, holding = 0 WHERE name = ? AND incarnation = ?",
            (str(State.STOPPED), peer.name, peer.incarnation),
        )

    def end(self, now: datetime, now_s: float) -> None:
        """Write the last beats, and that the store ended in order: so nobody takes what stands there for the present.

        Raises apsw.Error when that cannot be committed: nothing depends on it.
        """
        self.now, self.now_s = now, now_s
        reach("store.before_end")  # writing down that this life of the store ended in order
        with self.db:
            self._write_workers(State.STOPPED)
        reach("store.after_end")

    def _write_workers(self, state: State = State.READY) -> None:
        """Write what the beats said, and the store's own line, at most once a tick."""
        for seen in self.registry.peers.values():
            if not seen.is_dirty:
                continue
            seen.is_dirty = False
            worker = Worker(
                name=seen.peer.name, role=str(seen.peer.role), incarnation=seen.peer.incarnation, pid=seen.beat.pid,
                state=str(seen.beat.state), capacity=seen.beat.capacity, holding=len(seen.beat.holding),
                progress=seen.beat.progress, started_at=seen.started_at, last_beat_at=seen.last_beat_at,
            )  # fmt: skip
            self.insert("INSERT OR REPLACE INTO workers", worker)
            kept.keep(self.db, worker.name, worker.incarnation, seen.beat.tallies)
        self._write_store(state)
        if self.now_s >= self._tallies_due_s:  # it changes with every commit, this one included
            self._tallies_due_s = self.now_s + TALLIES_S
            kept.keep(self.db, STORE.name, f"epoch {self.epoch}", self.tallies.told())

    def _write_store(self, state: State) -> None:
        worker = Worker(
            name=STORE.name, role=str(Role.STORE), incarnation=f"epoch {self.epoch}", pid=os.getpid(), state=str(state),
            capacity=0, holding=0, progress=0, started_at=self._started_at, last_beat_at=clock.iso(self.now),
        )  # fmt: skip
        self.insert("INSERT OR REPLACE INTO workers", worker)

    def insert(self, verb: str, record: Worker | AccountDay | AccountMark | EquitySample) -> None:
        names = record.__struct_fields__
        values = tuple(getattr(record, name) for name in names)
        self.db.execute(f"{verb} ({columns(type(record))}) VALUES ({', '.join('?' * len(names))})", values)


def _at(moment: str, record: loguru.Record) -> None:
    """Give a line of the log the moment of what it tells, in the class that loguru formats."""
    record["time"] = type(record["time"]).fromisoformat(moment).astimezone()


def _work_first(sends: list[Send]) -> list[Send]:
    """Return them with those first who are given work: others only learn what they know. Each one's own order stays."""
    given = {peer.incarnation for peer, message in sends if isinstance(message, (messages.Analyse, messages.Execute))}
    return sorted(sends, key=lambda send: send[0].incarnation not in given) if given else sends
