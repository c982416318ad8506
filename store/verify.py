"""Prove that the journal is whole and that the rows say what it says. Read-only; for the janitor, `pilot` and tests.

Never repairs: a finding means that another program wrote, or that the file is damaged.
"""

from __future__ import annotations

from collections.abc import Iterator

from bus.records import Transition
from bus.vocabulary import OrderStatus, Status
from store import archived, states
from store.journal import GENESIS, chain_hash
from store.queries import OrderVerdict, Reader

FINDINGS_MAX = 100


def verify_chain(reader: Reader, *, through_archives: bool = True) -> list[str]:
    """Return what is wrong with the journal, at most FINDINGS_MAX sentences; empty when every hash holds.

    Goes through the archives first, where they lie beside the database; else it begins at the last anchor. So it does
    after one that cannot be read, which is a finding that begins with its name, and without `through_archives`.
    """
    with reader.snapshot():
        found = archived.faults(reader)
        is_cut = bool(archived.missing(reader)) if through_archives else bool(archived.anchors(reader))
        if not is_cut:
            try:
                _follow(reader, found, is_cut=False)
            except archived.Unreadable as error:
                found.append(str(error))
                is_cut = True
        if is_cut:
            _follow(reader, found, is_cut=True)
    return found[:FINDINGS_MAX]


def verify_orders(reader: Reader) -> list[str]:
    """Return what is wrong between intents, orders and decisions, at most FINDINGS_MAX sentences.

    Source: the state machine. What waits has no order, what is executing at most one without an outcome, what is open
    or closed an opened one with the same position, and what failed at most a failed one.
    """
    with reader.snapshot():
        rows = reader.verdicts()
    return [fault for row in rows for fault in _order_faults(row)][:FINDINGS_MAX]


def _follow(reader: Reader, found: list[str], *, is_cut: bool) -> None:
    """Add to `found` what is wrong from the beginning on, or from the last anchor. Raises archived.Unreadable."""
    last: dict[str, str] = {}
    known = archived.anchors(reader)
    cut_seq, cut_hash = (known[-1].through_seq, known[-1].through_hash) if known else (0, GENESIS)
    seq, head = (cut_seq, cut_hash) if is_cut else (0, GENESIS)
    for move in _moves(reader, is_cut=is_cut):
        before = last.get(move.intent_id)
        if is_cut and move.intent_id not in last and move.from_status is not None:
            before = move.from_status  # what it was before the cut, the archive knows
        if move.seq == cut_seq + 1 and cut_seq and move.prev_hash != cut_hash:
            found.append(f"seq {move.seq} does not follow the anchor at {cut_seq}")
        found.extend(_faults(move, seq, head, before))
        if len(found) >= FINDINGS_MAX:
            return
        seq, head = move.seq, move.hash
        last[move.intent_id] = move.to_status
    for intent_id, status in reader.statuses():
        if last.get(intent_id) != status:
            found.append(f"intent {intent_id} is {status}, but its journal ends with {last.get(intent_id)}")


def _moves(reader: Reader, *, is_cut: bool) -> Iterator[Transition]:
    if not is_cut:
        yield from archived.journal(reader)
    yield from reader.journal()


def _order_faults(row: OrderVerdict) -> Iterator[str]:
    if row.status not in _ORDERS:
        yield f"the order of {row.intent_id} belongs to no intent"
        return
    if row.order_status not in _ORDERS[row.status]:
        found = f"an order that is {row.order_status}" if row.order_status else "no order"
        yield f"intent {row.intent_id} is {row.status} and has {found}"
    if row.order_status == OrderStatus.OPENED and row.order_position_id != row.position_id:
        yield f"intent {row.intent_id} has position {row.position_id}, its order {row.order_position_id}"
    if row.decision_status != row.status:
        yield f"intent {row.intent_id} is {row.status}, its decision {row.decision_status or 'is missing'}"


_NONE: frozenset[str | None] = frozenset({None})
_ORDERS: dict[str | None, frozenset[str | None]] = {
    Status.PENDING: _NONE,
    Status.CLAIMED: _NONE,
    Status.READY_FOR_EXEC: _NONE,
    Status.TIMED_OUT: _NONE,
    Status.EXECUTING: _NONE | {OrderStatus.RESERVED, OrderStatus.UNKNOWN},
    Status.REJECTED: _NONE,
    Status.CANCELLED: _NONE,
    Status.FAILED: _NONE | {OrderStatus.FAILED},
    Status.OPENED: frozenset({OrderStatus.OPENED}),
    Status.CLOSED: frozenset({OrderStatus.OPENED}),
}


def _faults(move: Transition, seq: int, head: str, status: str | None) -> Iterator[str]:
    if move.seq != seq + 1:
        yield f"seq {seq + 1} is missing: {move.seq} follows {seq}"
    if move.prev_hash != head:
        yield f"seq {move.seq} does not follow the hash of {seq}"
    row = tuple(getattr(move, name) for name in Transition.__struct_fields__ if name != "hash")
    if chain_hash(row) != move.hash:
        yield f"seq {move.seq} was changed: its hash does not hold"
    if move.from_status != status:
        yield f"seq {move.seq} begins at {move.from_status}, but intent {move.intent_id} was {status}"
    if (move.event, move.from_status, move.to_status) not in states.ARROWS:
        yield f"seq {move.seq} is no arrow: {move.from_status} -> {move.to_status} by {move.event}"
