"""The paper account in the Trader API's JSON. Pure. Used by `trader_routes`.

The same figures as in `views`, in this API's names: what a position says there, it says here.
"""

from __future__ import annotations

from typing import Any

from actors.broker.paper import views
from actors.broker.paper.access import Access
from actors.broker.paper.values import Book, Holding, Market, Operation, Rules, Waiting

RENAMED = {"stopLoss": "slPrice", "takeProfit": "tpPrice"}


def account(access: Access, kept: Book, rules: Rules, market: Market, currency: str) -> dict[str, Any]:
    """Return whose account it is, and its worth."""
    return {"login": access.account_id, **views.balance(kept, rules, market, currency)}


def position(held: Holding, rules: Rules, market: Market) -> dict[str, Any]:
    """Return one open position. A stop that is not set is null."""
    said = {RENAMED.get(name, name): value for name, value in views.position(held, rules, market).items()}
    del said["openTimeMillis"]
    levels = {name: said[name] or None for name in RENAMED.values()}
    return said | levels | {"openTime": held.opened_ms, "comment": held.comment}


def operation(done: Operation) -> dict[str, Any]:
    """Return one row of the history."""
    said = views.operation(done)
    said["closingOrderId"] = said.pop("closingOrderID")
    del said["time"]
    return said | {"openTime": done.opened_ms, "closeTime": done.closed_ms, "comment": done.comment}


def order(waiting: Waiting) -> dict[str, Any]:
    """Return one order that waits for its price. A stop that is not set is null."""
    said = {RENAMED.get(name, name): value for name, value in views.order(waiting).items()}
    levels = {name: said[name] or None for name in RENAMED.values()}
    return said | levels | {"creationTime": waiting.created_ms}
