"""How many lots our positions were opened with, and which of them the history shows closed in whole.

Library of executor and monitor. Reads only. A position that is closed in parts has rows in the history while it is
open: only rows that add up to what was opened are its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec
from msgspec import Struct

from actors.broker import reconcile
from actors.broker.wire import ClosedPosition
from bus.records import TradeIntent
from store.queries import Reader


class _Fill(Struct, frozen=True):
    """What is needed of a decision's `execution_meta`."""

    volume: Decimal | None = None


def filled(reader: Reader, intent_id: str) -> Decimal | None:
    """Return what an intent's position was seen to hold when it was opened, in lots; None: nobody said."""
    decision = reader.decision(intent_id)
    try:
        return msgspec.json.decode(decision.execution_meta, type=_Fill).volume if decision else None
    except msgspec.DecodeError:
        return None


def opened(reader: Reader, intent_id: str) -> Decimal | None:
    """Return what an intent's position was opened with, in lots: what was filled, else planned; None: not known."""
    lots = filled(reader, intent_id)
    if lots is None and (order := reader.order(intent_id)) is not None:
        lots = order.plan.volume
    return lots


def ended(reader: Reader, intents: Iterable[TradeIntent], rows: Sequence[ClosedPosition]) -> frozenset[str]:
    """Return the positions of these intents whose rows add up to what was opened. Not for those that are open."""
    closed = {row.id: row.volume for row in reconcile.whole(rows)}
    return frozenset(
        intent.position_id
        for intent in intents
        if intent.position_id in closed and closed[intent.position_id] >= (opened(reader, intent.id) or 0)
    )
