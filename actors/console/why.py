"""Why a pair or an intent was traded or not, from the store's records alone: a paragraph, then the facts it rests on.

Used by pilot, the page and the alerts: `of_symbol` and `of_intent` return values, print nothing, ask nobody and guess
nothing. What the records do not say is said to be so.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from actors.compliance import day as firm_days
from actors.compliance.day import FirmDay
from actors.compliance.money import amount
from actors.compliance.rulebook import RuleSet
from actors.console import checks, processes, tables, text
from bus.clock import iso
from bus.records import Closing, DecisionRecord, Halt, Order, TradeIntent, Transition, Worker
from bus.vocabulary import OrderStatus, State, Status
from config.settings import Settings
from store import past
from store.queries import Reader

REASON_CHARS_MAX = 400
SHOWN_MAX = 10

Verdict = Literal[
    "no_intent", "pending", "claimed", "ready", "executing", "unresolved", "rejected", "held", "expired", "cancelled",
    "failed", "opened", "closed",
]  # fmt: skip


class Fact(Struct, frozen=True):
    """One thing that the records say."""

    name: str
    value: str


class Why(Struct, frozen=True, kw_only=True):
    """An answer: `said` is the paragraph for people, `facts` what it rests on, `intent_id` None without an intent."""

    symbol: str
    intent_id: str | None
    verdict: Verdict
    said: str
    facts: tuple[Fact, ...]


class Moment(Struct, frozen=True, kw_only=True):
    """What every answer looks at: the records, the settings and the time."""

    reader: Reader
    settings: Settings
    now: datetime

    def alive(self, role: str) -> list[Worker]:
        """Return the processes of a role that were heard of lately and did not end."""
        found = processes.seen(self.reader.workers(), self.now, self.settings.bus.dead_s)
        return [one for one in found if one.role == role and one.state not in (processes.SILENT, State.STOPPED)]

    def halts(self) -> list[Halt]:
        return self.reader.halts(iso(self.now))


def of_symbol(reader: Reader, symbol: str, *, settings: Settings, rules: RuleSet, now: datetime) -> Why:
    """Return why a pair was traded today or not: by its newest intent that is of the firm's day or still lives."""
    found = reader.intents(symbol=symbol, limit=SHOWN_MAX)
    today = firm_days.firm_days(rules, now)[0]
    begun = iso(today.starts_at)
    ended = (Status.CLOSED, Status.CANCELLED, Status.FAILED, Status.REJECTED)
    for intent in found:
        if intent.trade_date == today.day or intent.created_at >= begun or intent.status not in ended:
            return of_intent(reader, intent, settings=settings, now=now)
    at = Moment(reader=reader, settings=settings, now=now)
    return _no_intent(at, symbol, today, found[0] if found else None)


def of_intent(reader: Reader, intent: TradeIntent, *, settings: Settings, now: datetime) -> Why:
    """Return why an intent was traded or not, or what it waits for."""
    at = Moment(reader=reader, settings=settings, now=now)
    moves = reader.transitions(intent.id)
    decision, order = reader.decision(intent.id), reader.order(intent.id)
    facts = [
        Fact("intent", f"{intent.id} {intent.status}, source {intent.source}"),
        Fact("proposed", f"{intent.created_at}: {_reason(moves[0]) if moves else 'its journal is missing'}"),
    ]
    verdict, said, more = _answer(at, intent, moves, decision, order)
    if decided := next((move for move in reversed(moves) if move.event.startswith("decide_")), None):
        facts.append(Fact("decided", f"{decided.at} by {decided.actor}: {_reason(decided)}"))
    facts += more
    if intent.status in (Status.PENDING, Status.READY_FOR_EXEC) and intent.expires_at:
        facts.append(Fact("expires", intent.expires_at))
    if moves:
        facts.append(Fact("last arrow", f"{moves[-1].at} {moves[-1].event} by {moves[-1].actor}: {_reason(moves[-1])}"))
    return Why(symbol=intent.symbol, intent_id=intent.id, verdict=verdict, said=said, facts=tuple(facts))


Answer = tuple[Verdict, str, list[Fact]]


def _answer(
    at: Moment, intent: TradeIntent, moves: list[Transition], decision: DecisionRecord | None, order: Order | None
) -> Answer:
    match intent.status:
        case Status.PENDING | Status.TIMED_OUT:
            return _pending(at, intent, moves)
        case Status.CLAIMED:
            return _claimed(at, intent)
        case Status.READY_FOR_EXEC:
            return _ready(at, intent, moves)
        case Status.EXECUTING:
            return _executing(at, intent, order)
        case Status.REJECTED:
            return _rejected(intent, moves)
        case Status.FAILED:
            return _failed(intent, decision)
        case Status.CANCELLED:
            return _cancelled(at, intent, moves)
        case Status.OPENED:
            return _opened(at, intent, order)
        case Status.CLOSED:
            return _closed(at, intent, decision, order)


# ── before anybody decided ──────────────────────────────────────────────────


def _no_intent(at: Moment, symbol: str, today: FirmDay, last: TradeIntent | None) -> Why:
    begun = iso(today.starts_at)
    facts, why = [], []
    if symbol not in at.settings.symbols:
        why.append(f"{symbol} is not among the settings' symbols")
        facts.append(Fact("symbols", ", ".join(at.settings.symbols)))
    proposed = past.proposed_between(at.reader, begun, iso(at.now + timedelta(seconds=1)))
    pairs = list(dict.fromkeys(one.symbol for one in proposed if one.source == "scanner"))
    told = past.alerts_of(at.reader, "scanner", begun)
    if pairs:
        why.append(f"the scanner proposed {', '.join(pairs[:SHOWN_MAX])} instead")
        facts.append(Fact("proposed today", ", ".join(pairs)))
    elif not at.alive("scanner"):
        why.append("the scanner proposed nothing today and is not running")
    elif told:
        why.append(f"the scanner proposed nothing today and reported: {text.line(told[0].text, REASON_CHARS_MAX)}")
    else:
        why.append("the scanner runs and proposed nothing today: no new bar, or its next scan is still to come")
    facts += [Fact("scanner said", f"{one.at} {one.event}: {text.line(one.text, REASON_CHARS_MAX)}") for one in told]
    if last is not None:
        facts.append(Fact("last intent", f"{last.id} of {last.trade_date}, {last.status}"))
    said = f"No intent of {symbol} today, {today.day} ({today.reset}): {'; '.join(why)}."
    return Why(symbol=symbol, intent_id=None, verdict="no_intent", said=said, facts=tuple(facts))


def _pending(at: Moment, intent: TradeIntent, moves: list[Transition]) -> Answer:
    analysts = at.alive("llm")
    facts = [Fact("analysts", _workers(analysts) or "none is running")]
    ahead = [one for one in at.reader.pending_intents() if one.created_at < intent.created_at]
    if intent.not_before and intent.not_before > iso(at.now):
        why = f"the last try failed, it is tried again after {intent.not_before}: {_reason(moves[-1])}"
    elif not analysts:
        why = "no analyst is running"
    elif any(worker.capacity > worker.holding for worker in analysts):
        why = "an analyst has room: it is claimed within a second or two"
    else:
        why = "every analyst is busy"
    if ahead:
        why += f"; {len(ahead)} older {'intents wait' if len(ahead) > 1 else 'intent waits'} before it"
        facts.append(Fact("before it", ", ".join(f"{one.symbol} {one.id[:8]}" for one in ahead[:SHOWN_MAX])))
    return "pending", f"{intent.symbol} waits for an analyst since {intent.created_at}: {why}.", facts


def _claimed(at: Moment, intent: TradeIntent) -> Answer:
    holder = intent.claim_worker_id or "nobody"
    lives = any(worker.name == holder for worker in at.alive("llm"))
    state = "" if lives else ", which was not heard of lately: it is taken back soon"
    said = f"{intent.symbol} is with {holder} since {intent.claim_ts}, attempt {intent.attempts}{state}."
    return "claimed", said, [Fact("holder", f"{holder}, epoch {intent.epoch}")]


# ── decided, not yet ordered ────────────────────────────────────────────────


def _ready(at: Moment, intent: TradeIntent, moves: list[Transition]) -> Answer:
    halts, unresolved = at.halts(), at.reader.unresolved_orders()
    facts = [*_halted(halts), *(Fact("unresolved order", one.intent_id) for one in unresolved)]
    executors = at.alive("executor")
    if halts:
        why = f"trading is halted: {text.line(halts[0].reason, REASON_CHARS_MAX)}"
    elif unresolved:
        why = f"the order of intent {unresolved[0].intent_id} is not settled, and orders go one after the other"
    elif not executors:
        why = "no executor is running"
    elif intent.not_before and intent.not_before > iso(at.now):
        why = f"the executor gave it back and looks again after {intent.not_before}: {_reason(moves[-1])}"
    else:
        why = "the executor takes it as soon as it is free"
    facts.append(Fact("executor", _workers(executors) or "none is running"))
    return "ready", f"{intent.symbol} {intent.suggested_side} is decided and not opened yet: {why}.", facts


def _executing(at: Moment, intent: TradeIntent, order: Order | None) -> Answer:
    side = intent.suggested_side
    if order is None:
        said = f"{intent.symbol} {side} is with {intent.claim_worker_id} since {intent.claim_ts}; nothing was sent yet."
        return "executing", said, []
    facts = [_planned(order), *_halted(at.halts())]
    if order.status is OrderStatus.UNKNOWN:
        said = (
            f"The answer to the order of {intent.symbol} {side} was lost: {text.line(order.reason, REASON_CHARS_MAX)}. "
            f"It is looked for; absence counts only after {order.deadline_at}."
        )
        return "unresolved", said, facts
    return (
        "executing",
        f"The order of {intent.symbol} {side} was reserved at {order.reserved_at} and is under way.",
        facts,
    )


# ── ended without a trade ───────────────────────────────────────────────────


def _rejected(intent: TradeIntent, moves: list[Transition]) -> Answer:
    verdict = tables.compliance_of(intent.compliance_snapshot)
    failed = [check for check in verdict.checks if not check.passed] if verdict else []
    facts = [Fact(f"check {one.name}", _checked(one)) for one in failed]
    names = ", ".join(one.name for one in failed[:SHOWN_MAX])
    reason = _reason(moves[-1]) if moves else intent.execution_error or "not recorded"
    said = f"The gate refused {intent.symbol} {intent.suggested_side}: {reason}"
    return "rejected", f"{said} ({names})." if names else f"{said}.", facts


def _failed(intent: TradeIntent, decision: DecisionRecord | None) -> Answer:
    reason = (decision.failure_reason if decision else "") or intent.execution_error or "not recorded"
    said = f"{intent.symbol} failed and no position was opened: {text.line(reason, REASON_CHARS_MAX)}."
    return "failed", said, [Fact("attempts", str(intent.attempts))]


def _cancelled(at: Moment, intent: TradeIntent, moves: list[Transition]) -> Answer:
    last = moves[-1] if moves else None
    reason = _reason(last) if last else "not recorded"
    if last is not None and last.event == "decide_hold":
        return "held", f"{last.actor} looked at {intent.symbol} and held: {reason}.", []
    if last is None or last.event not in ("expire", "give_up"):
        by = f" by {last.actor}" if last else ""
        return "cancelled", f"{intent.symbol} was taken back{by}: {reason}.", []
    stood = past.halts_between(at.reader, intent.created_at, last.at)
    waited = _waited(moves)
    why = f"; meanwhile trading was halted: {text.line(stood[0].reason, REASON_CHARS_MAX)}" if stood else ""
    why += f"; before that: {waited}" if waited else ""
    return "expired", f"{intent.symbol} was not opened in time: {reason}{why}.", _halted(stood)


def _waited(moves: list[Transition]) -> str:
    """Return why the intent last went back to wait, or nothing."""
    back = [move for move in moves if move.event in ("return", "release", "retry", "lose_lease")]
    return _reason(back[-1]) if back else ""


# ── traded ──────────────────────────────────────────────────────────────────


def _opened(at: Moment, intent: TradeIntent, order: Order | None) -> Answer:
    said = f"{intent.symbol} is open since {intent.executed_at} as position {intent.position_id}"
    facts = [] if order is None else [_planned(order)]
    if (closing := at.reader.closing(intent.id)) is not None:
        said += f"; operator {closing.operator} ordered it closed: {_asked(closing)}"
        facts.append(_ordered(closing))
    return "opened", f"{said}.", facts


def _closed(at: Moment, intent: TradeIntent, decision: DecisionRecord | None, order: Order | None) -> Answer:
    facts = [] if order is None else [_planned(order)]
    if (closing := at.reader.closing(intent.id)) is not None:
        facts.append(_ordered(closing))
    if decision is None or decision.net_profit_cents is None:
        return (
            "closed",
            f"{intent.symbol} was traded as position {intent.position_id}; how it ended is not recorded.",
            facts,
        )
    money = f"{'+' if decision.net_profit_cents >= 0 else ''}{amount(decision.net_profit_cents)}"
    said = (
        f"{intent.symbol} was traded as position {intent.position_id} and closed at {decision.closed_at} by "
        f"{text.line(decision.close_reason, REASON_CHARS_MAX)}, net {money}"
    )
    if closing is not None:  # its stop or target may have been faster
        said += f"; operator {closing.operator} had ordered it closed: {_asked(closing)}"
    return "closed", f"{said}.", [*facts, Fact("net profit", money)]


# ── pieces ──────────────────────────────────────────────────────────────────


def _reason(move: Transition) -> str:
    return text.line(move.reason, REASON_CHARS_MAX).rstrip(".") or "no reason was given"


def _checked(check: tables.Check) -> str:
    found, limit = (checks.figure(check.name, value) for value in (check.found, check.limit))
    return f"found {found}, limit {limit}: {text.line(check.text, REASON_CHARS_MAX)}"


def _planned(order: Order) -> Fact:
    plan = order.plan
    target = plan.tp_price or "none"
    figures = f"{plan.side} {plan.volume} {plan.symbol} at {plan.entry_price}, SL {plan.sl_price}, TP {target}"
    return Fact("order", f"{figures}, {amount(plan.loss_cents)} at risk, {order.status}")


def _ordered(closing: Closing) -> Fact:
    return Fact("close ordered", f"{closing.asked_at} by {closing.operator}: {_asked(closing)}")


def _asked(closing: Closing) -> str:
    return text.line(closing.reason, REASON_CHARS_MAX).rstrip(".")


def _halted(halts: list[Halt]) -> list[Fact]:
    return [
        Fact(
            f"halt {one.id}",
            f"{one.kind}, by {one.raised_by} at {one.raised_at}: {text.line(one.reason, REASON_CHARS_MAX)}",
        )
        for one in halts[:SHOWN_MAX]
    ]


def _workers(found: list[Worker]) -> str:
    return ", ".join(f"{one.name} {one.state}, holds {one.holding} of {one.capacity}" for one in found)
