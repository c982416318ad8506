"""What must hold in the store's machine: the checker of the chaos runs, and truths that only a test's broker knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from store import verify
from tests.chaos import checker
from tests.chaos.histories import Command, Fingerprint, Histories, Placed
from tests.kit.store import StoreHarness
from tests.model.broker import PROFIT_CENTS, Broker, Request

TABLES = ("halts", "alerts", "account_days", "equity_samples")


def findings(store: StoreHarness, broker: Broker, acks: list[dict[str, Any]], *, at_rest: bool) -> Iterator[str]:
    """Yield one sentence for everything that does not hold."""
    found = histories(store, broker, acks)
    yield from (f"{one.check}: {one.text}" for one in checker.check(found, at_rest=at_rest))
    yield from truths(found, broker)
    yield from leases(store)


def truths(found: Histories, broker: Broker) -> Iterator[str]:
    """Compare each order with what really became of it."""
    sent: dict[str, list[Request]] = {}
    for request in broker.requests:
        sent.setdefault(request.intent_id, []).append(request)
    orders = {order.intent_id: order for order in found.orders}
    for intent_id, (first, *more) in sent.items():
        order = orders.get(intent_id)
        if more:
            yield f"{intent_id} was sent {1 + len(more)} times"
        if order is None:
            yield f"{intent_id} was sent and has no order"
        elif order.status == "failed" and first.fate != "gone":
            yield f"the order of {intent_id} failed, but its request is {first.fate}"
        elif order.status == "opened" and order.position_id != first.position_id:
            yield f"{intent_id} owns {order.position_id}; its order became {first.position_id}"
    for order in found.orders:
        if order.status == "opened" and order.intent_id not in sent:
            yield f"{order.intent_id} owns a position, but was never sent"


def leases(store: StoreHarness) -> Iterator[str]:
    """Compare the leases in the store's memory with its rows: one live lease an intent, one intent executing."""
    held = [intent for intent in store.read.live_intents() if intent.status in ("claimed", "executing")]
    rows = sorted((intent.id, intent.epoch, intent.claim_incarnation) for intent in held)
    known = sorted((one.intent_id, one.epoch, one.incarnation) for one in store.writer.registry.leases.values())
    if rows != known:
        yield f"the leases {known} are not the rows {rows}"
    executing = [intent.id for intent in held if intent.status == "executing"]
    if len(executing) > 1:
        yield f"{executing} are executing at once"


def histories(store: StoreHarness, broker: Broker, acks: list[dict[str, Any]]) -> Histories:
    """Return the three histories as the checker of the chaos runs wants them."""
    db, read = store.db, store.read
    intents = tuple(read.intents())
    rows: list[Any] = db.execute("SELECT id, sender, kind, outcome, intent_id FROM commands").fetchall()
    placed = [request for request in broker.requests if request.is_placed]
    return Histories(
        intents=intents,
        decisions=tuple(one for intent in intents if (one := read.decision(intent.id)) is not None),
        orders=tuple(read.orders()),
        journal=tuple(read.journal()),
        chain=tuple(verify.verify_chain(read)),
        commands=tuple(Command(*row) for row in rows),
        halts=tuple(read.halts()),
        alerts=tuple(event for _, _, event, _ in read.alerts()),
        rows={table: int(str(db.execute(f"SELECT count(*) FROM {table}").get)) for table in TABLES},  # noqa: S608
        workers=tuple(read.workers()),
        writes_counted=len(broker.requests),
        received=tuple(_fingerprint(request) for request in broker.requests),
        placed=tuple(_placed(request) for request in placed),
        placements=tuple({"position_id": request.position_id} for request in placed),
        acks=tuple(acks),
    )


def _placed(request: Request) -> Placed:
    is_open = request.fate != "closed"
    return Placed(request.position_id, request.plan.sl_price, is_open, 0 if is_open else PROFIT_CENTS)


def _fingerprint(request: Request) -> Fingerprint:
    plan = request.plan
    return plan.broker_symbol, plan.side, plan.volume, plan.sl_price, plan.tp_price
