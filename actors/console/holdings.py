"""What is open, and what the firm's day brought so far, from the store's records alone.

Used by pilot, the page, the figures and the alerts: `open_positions` and `today` return values, print nothing and ask
no broker. The profit of a position that is still open is known to the broker only; the account's equity holds it.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from msgspec import Struct

from actors.compliance import day as firm_days
from actors.compliance.rulebook import RuleSet
from bus.clock import iso
from bus.records import Closing
from bus.vocabulary import Side, Source
from store import past
from store.queries import Reader


class OpenPosition(Struct, frozen=True, kw_only=True):
    """One open position of an intent. `loss_cents` is its worst loss at the stop, `closing` the order to close it."""

    intent_id: str
    position_id: str
    symbol: str
    side: Side
    volume: Decimal
    entry_price: Decimal
    sl_price: Decimal
    tp_price: Decimal  # 0: none
    loss_cents: int
    profit_cents: int  # at the target
    opened_at: str
    source: Source
    closing: Closing | None


class Today(Struct, frozen=True, kw_only=True):
    """The firm's day so far, by the rule set's own reading of the reset. Counts of intents; money of closed positions.

    `net_profit_cents` holds swap and commission. `gained` and `lost` count closed positions above and below 0.
    """

    day: str
    starts_at: str
    ends_at: str
    proposed: int
    opened: int
    closed: int
    gained: int
    lost: int
    net_profit_cents: int


def open_positions(reader: Reader) -> tuple[OpenPosition, ...]:
    """Return the open positions of intents, the oldest first."""
    found = []
    for intent in reader.active_positions():
        order = reader.order(intent.id)
        if order is None or intent.position_id is None:
            continue  # the schema lets no intent be opened without
        plan = order.plan
        found.append(
            OpenPosition(
                intent_id=intent.id,
                position_id=intent.position_id,
                symbol=intent.symbol,
                side=plan.side,
                volume=plan.volume,
                entry_price=plan.entry_price,
                sl_price=plan.sl_price,
                tp_price=plan.tp_price,
                loss_cents=plan.loss_cents,
                profit_cents=plan.profit_cents,
                opened_at=intent.executed_at or order.reserved_at,
                source=intent.source,
                closing=reader.closing(intent.id),
            )
        )
    return tuple(found)


def today(reader: Reader, rules: RuleSet, now: datetime) -> Today:
    """Return what the firm's day brought so far."""
    day = firm_days.firm_days(rules, now)[0]
    since, until = iso(day.starts_at), iso(day.ends_at)
    profits = [one.net_profit_cents or 0 for one in past.closed_between(reader, since, until)]
    return Today(
        day=day.day,
        starts_at=since,
        ends_at=until,
        proposed=len(past.proposed_between(reader, since, until)),
        opened=len(past.opened_between(reader, since, until)),
        closed=len(profits),
        gained=sum(1 for cents in profits if cents > 0),
        lost=sum(1 for cents in profits if cents < 0),
        net_profit_cents=sum(profits),
    )
