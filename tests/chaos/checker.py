"""What must hold whatever was killed: one named check each over the three histories. Pure; used by every chaos run.

A check yields one sentence per violation and never stops at the first. Some hold only once the pipeline has come to
rest; the others hold at any moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal

from msgspec import Struct

from bus.records import Order
from bus.vocabulary import OrderStatus, Status
from store import states
from tests.chaos.histories import Fingerprint, Histories

Category = Literal["lost", "doubled", "illegal"]
STORE = "store.1"
OPERATOR = ("pilot.", "dashboard.")

# Which arrows an applied command leaves. PositionClosed apart: an order found in the history opens and closes at once.
EFFECTS: dict[str, tuple[str, ...]] = {
    "Propose": ("propose",),
    "Decide": ("decide_trade", "decide_hold"),
    "AnalysisFailed": ("retry", "exhaust"),
    "Release": ("release", "return"),
    "Reject": ("reject",),
    "ReserveOrder": ("reserve",),
    "OrderOpened": ("open",),
    "OrderFailed": ("fail",),
    "OrderUnknown": ("lose_answer",),
    "Adopt": ("adopt",),
    "Cancel": ("cancel",),
    "Invalidate": ("cancel",),
}
TABLES = {"RaiseHalt": "halts", "Report": "alerts", "StartDay": "account_days", "SampleEquity": "equity_samples"}
LEASED = ("claim", "take", "hand_over")  # a new epoch for a new holder
ENDED = (*states.FINAL, Status.OPENED)


class Finding(Struct, frozen=True):
    """One violation."""

    check: str
    category: Category
    text: str


def check(found: Histories, *, at_rest: bool) -> list[Finding]:
    """Return everything that does not hold. With `at_rest` also what must hold once nothing is under way any more."""
    return [
        Finding(name, category, text)
        for name, (category, needs_rest, holds) in CHECKS.items()
        if at_rest or not needs_rest
        for text in holds(found)
    ]


def unknown_left(found: Histories) -> int:
    """Return how many orders nobody knows the outcome of."""
    return sum(order.status in (OrderStatus.RESERVED, OrderStatus.UNKNOWN) for order in found.orders)


# ── acked means durable ─────────────────────────────────────────────────────


def acked_is_recorded(found: Histories) -> Iterator[str]:
    recorded = {command.id: command for command in found.commands}
    for ack in found.acks:
        command = recorded.get(ack["id"])
        if command is None:
            yield f"{ack['kind'] or 'a command'} {ack['id']} of {ack['sender']} was acked {ack['outcome']} and is gone"
        elif (command.outcome, command.intent_id) != (ack["outcome"], ack["intent_id"]):
            yield f"{command.kind} {ack['id']} was acked {ack['outcome']} but is recorded as {command.outcome}"


def acked_has_effect(found: Histories) -> Iterator[str]:
    """An applied command left its arrow, and an applied command without an intent its row."""
    arrows = Counter((move.intent_id, move.event) for move in found.journal)
    acked = {ack["id"]: ack for ack in found.acks if ack["outcome"] == "applied"}.values()
    for (kind, intent_id), times in Counter((ack["kind"], ack["intent_id"]) for ack in acked).items():
        events = (*EFFECTS.get(kind, ()), *(("close",) if kind == "PositionClosed" else ()))
        seen = sum(arrows[intent_id, event] for event in events)
        if events and seen < times:
            yield f"{kind} of intent {intent_id} was acked {times} times, the journal has {seen}"
    for kind, table in TABLES.items():
        times = sum(ack["kind"] == kind for ack in acked)
        wanted = min(times, 1) if kind == "SampleEquity" else times  # samples of one instant replace each other
        if found.rows.get(table, 0) < wanted:
            yield f"{kind} was acked {times} times, {table} has {found.rows.get(table, 0)} rows"


def command_is_applied_once(found: Histories) -> Iterator[str]:
    """As many arrows as applied commands: a resend changed nothing, and nothing changed without a command."""
    commands: Counter[tuple[str | None, tuple[str, ...]]] = Counter()
    for command in found.commands:
        if command.outcome == "applied" and command.kind in EFFECTS:
            commands[command.intent_id, EFFECTS[command.kind]] += 1
    arrows: Counter[tuple[str | None, tuple[str, ...]]] = Counter()
    for move in found.journal:
        events = next((events for events in EFFECTS.values() if move.event in events), None)
        if events is not None and not _is_apart(move.actor):
            arrows[move.intent_id, events] += 1
    for key in sorted(commands.keys() | arrows.keys(), key=str):
        intent_id, events = key
        if commands[key] != arrows[key] and events != ("cancel",):
            yield f"intent {intent_id}: {commands[key]} commands for {arrows[key]} arrows {'/'.join(events)}"


def _is_apart(actor: str) -> bool:
    """Return whether this is the store itself or the operator: they hold no lease."""
    return actor == STORE or actor.startswith(OPERATOR)


# ── one order an intent ─────────────────────────────────────────────────────


def intent_has_one_order(found: Histories) -> Iterator[str]:
    for name, keys in (
        ("orders", Counter(order.intent_id for order in found.orders)),
        ("reservations", Counter(move.intent_id for move in found.journal if move.event == "reserve")),
        ("openings", Counter(move.intent_id for move in found.journal if move.event == "open")),
        ("closings", Counter(move.intent_id for move in found.journal if move.event == "close")),
    ):
        yield from (f"intent {intent_id} has {times} {name}" for intent_id, times in keys.items() if times > 1)


def order_was_reserved_and_sent_once(found: Histories) -> Iterator[str]:
    """The broker received no order without a reservation, and none more often than reserved."""
    reserved = Counter(_fingerprint(order) for order in found.orders)
    for order, times in Counter(found.received).items():
        if times > reserved[order]:
            text = " ".join(str(part) for part in order)
            yield f"the broker received {text} {times} times; reserved {reserved[order]} times"


def key_is_one_order(found: Histories) -> Iterator[str]:
    """Every key that the broker received is a reserved order's, with that very order, and placed at most once."""
    reserved = {order.idempotency_key: _fingerprint(order) for order in found.orders if order.idempotency_key}
    for key, order in dict.fromkeys(found.keyed):
        if reserved.get(key) != order:
            yield f"the broker received key {key} with {order}; reserved: {reserved.get(key, 'no such key')}"
    yield from (
        f"the order with key {key} was placed {times} times"
        for key, times in Counter(found.placed_keys).items()
        if times > 1
    )


def _fingerprint(order: Order) -> Fingerprint:
    plan = order.plan
    return plan.broker_symbol, str(plan.side), plan.volume, plan.sl_price, plan.tp_price


def position_has_one_owner(found: Histories) -> Iterator[str]:
    owned = Counter(order.position_id for order in found.orders if order.position_id is not None)
    yield from (f"position {key} belongs to {times} orders" for key, times in owned.items() if times > 1)
    placed = Counter(found.placed_ids)
    yield from (f"the ledger placed {key} {times} times" for key, times in placed.items() if times > 1)


def owned_position_exists(found: Histories) -> Iterator[str]:
    placed = {position.position_id for position in found.placed}
    for order in found.orders:
        if order.position_id is not None and order.position_id not in placed:
            yield f"intent {order.intent_id} owns position {order.position_id}, which the broker never placed"


# ── the end of every order and intent ───────────────────────────────────────


def position_is_known(found: Histories) -> Iterator[str]:
    """Every position is owned, or the account is halted and an alert says so."""
    owned = {order.position_id for order in found.orders}
    is_told = any(halt.kind == "hard" for halt in found.halts) and "halt" in found.alerts
    for position_id in dict.fromkeys((*found.placed_ids, *(position.position_id for position in found.placed))):
        if position_id not in owned and not is_told:
            yield f"position {position_id} is at the broker, no intent owns it, and the account is not halted"


def failed_order_never_existed(found: Histories) -> Iterator[str]:
    """Halted or not: what was called absent must have been so, as long as the broker kept within the quiet period."""
    owned = {order.position_id for order in found.orders}
    failed = {_fingerprint(order): order.intent_id for order in found.orders if order.status == OrderStatus.FAILED}
    for position_id, order in found.asked.items():
        if position_id not in owned and order in failed:
            yield f"the order of intent {failed[order]} ended failed, but position {position_id} came from it"


def position_has_its_stop(found: Histories) -> Iterator[str]:
    for position in found.placed:
        if position.is_open and not position.sl_price:
            yield f"position {position.position_id} is open without a stop"


def intent_ends_or_lives(found: Histories) -> Iterator[str]:
    """Nobody waits for ever: final, opened, held by a live process, or shut in by a halt that says why."""
    alive = {worker.incarnation for worker in found.workers}
    for intent in found.intents:
        if intent.status in ENDED:
            continue
        if intent.status in (Status.CLAIMED, Status.EXECUTING):
            if intent.claim_incarnation not in alive:
                yield f"intent {intent.id} is {intent.status}, held by {intent.claim_worker_id}, which is dead"
        elif not found.halts:
            yield f"intent {intent.id} is {intent.status} and nobody takes it"


def closed_at_the_broker_is_closed_here(found: Histories) -> Iterator[str]:
    status = {intent.id: intent.status for intent in found.intents}
    ended = {position.position_id for position in found.placed if not position.is_open}
    for order in found.orders:
        if order.position_id in ended and status.get(order.intent_id) != Status.CLOSED:
            found_status = status.get(order.intent_id)
            yield f"position {order.position_id} is closed, but intent {order.intent_id} is {found_status}"


def profits_equal_the_brokers(found: Histories) -> Iterator[str]:
    earned = {position.position_id: position for position in found.placed}
    for decision in found.decisions:
        position = earned.get(decision.position_id or "")
        if decision.net_profit_cents is None or position is None:
            continue
        if (position.is_open, position.net_profit_cents) != (False, decision.net_profit_cents):
            yield (
                f"intent {decision.intent_id} closed with {decision.net_profit_cents} cents; the broker has "
                f"{position.net_profit_cents}{', still open' if position.is_open else ''}"
            )


def requests_are_counted(found: Histories) -> Iterator[str]:
    by_hand = sum(move.event == "adopt" for move in found.journal)  # somebody else's order, one each
    if found.writes_counted < found.writes_received - by_hand:
        yield f"{found.writes_counted} writes were granted; the broker received {found.writes_received}"


# ── the journal ─────────────────────────────────────────────────────────────


def transitions_are_legal(found: Histories) -> Iterator[str]:
    """Replay the journal through the table of arrows, and compare its end with the rows."""
    status: dict[str, Status | None] = {}
    for move in found.journal:
        before = status.get(move.intent_id)
        after = states.target(move.event, before)
        if (before, after) != (move.from_status, move.to_status):
            yield f"seq {move.seq}: {before} -> {move.to_status} by {move.event} is no arrow"
        status[move.intent_id] = Status(move.to_status)
    for intent in found.intents:
        if status.get(intent.id) != intent.status:
            yield f"intent {intent.id} is {intent.status}; its journal ends with {status.get(intent.id)}"


def fencing_numbers_grow(found: Histories) -> Iterator[str]:
    epochs: dict[str, int] = {}
    for move in found.journal:
        wanted = epochs.get(move.intent_id, 0) + (move.event in LEASED)
        if move.epoch != wanted:
            yield f"seq {move.seq}: {move.event} of intent {move.intent_id} has epoch {move.epoch}, not {wanted}"
        epochs[move.intent_id] = move.epoch


def only_the_holder_acts(found: Histories) -> Iterator[str]:
    holder: dict[str, str] = {}
    theirs = {event for events in EFFECTS.values() for event in events} - {"propose", "cancel", "adopt"}
    for move in found.journal:
        if move.event in LEASED:
            holder[move.intent_id] = move.incarnation
        elif move.event in theirs and holder.get(move.intent_id) != move.incarnation and not _is_apart(move.actor):
            yield f"seq {move.seq}: {move.actor} did {move.event} without the lease of intent {move.intent_id}"


def chain_is_whole(found: Histories) -> Iterator[str]:
    yield from found.chain


CHECKS: dict[str, tuple[Category, bool, Callable[[Histories], Iterator[str]]]] = {
    "acked is recorded": ("lost", False, acked_is_recorded),
    "acked has its effect": ("lost", False, acked_has_effect),
    "a command is applied once": ("doubled", False, command_is_applied_once),
    "an intent has one order": ("doubled", False, intent_has_one_order),
    "an order was reserved, and sent once": ("doubled", False, order_was_reserved_and_sent_once),
    "a key is one order": ("doubled", False, key_is_one_order),
    "a position has one owner": ("doubled", False, position_has_one_owner),
    "an owned position exists": ("illegal", True, owned_position_exists),
    "a position is known": ("lost", True, position_is_known),
    "a failed order never existed": ("lost", True, failed_order_never_existed),
    "a position has its stop": ("illegal", True, position_has_its_stop),
    "an intent ends or lives": ("lost", True, intent_ends_or_lives),
    "closed at the broker is closed here": ("lost", True, closed_at_the_broker_is_closed_here),
    "profits equal the broker's": ("lost", True, profits_equal_the_brokers),
    "requests are counted": ("illegal", True, requests_are_counted),
    "transitions are legal": ("illegal", False, transitions_are_legal),
    "fencing numbers grow": ("illegal", False, fencing_numbers_grow),
    "only the holder acts": ("illegal", False, only_the_holder_acts),
    "the hash chain is whole": ("illegal", False, chain_is_whole),
}
