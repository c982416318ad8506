"""Prove that the journal is whole and that the rows say what it says. Read-only; for the janitor, `pilot` and tests.

Never repairs: a finding means that another program wrote, or that the file is damaged.
"""

from __future__ import annotations

from collections.abc import Iterator

from bus.records import Transition
from store import states
from store.journal import GENESIS, chain_hash
from store.queries import Reader

FINDINGS_MAX = 100


def verify_chain(reader: Reader) -> list[str]:
    """Return what is wrong with the journal, at most FINDINGS_MAX sentences; empty when every hash holds."""
    found: list[str] = []
    seq, head = 0, GENESIS
    last: dict[str, str] = {}
    with reader.snapshot():
        for move in reader.journal():
            found.extend(_faults(move, seq, head, last.get(move.intent_id)))
            if len(found) >= FINDINGS_MAX:
                break
            seq, head = move.seq, move.hash
            last[move.intent_id] = move.to_status
        else:
            for intent_id, status in reader.statuses():
                if last.get(intent_id) != status:
                    found.append(f"intent {intent_id} is {status}, but its journal ends with {last.get(intent_id)}")
    return found[:FINDINGS_MAX]


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
