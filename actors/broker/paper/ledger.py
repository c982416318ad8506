"""The paper broker's own record of every order it received and what became of it: the truth of every test.

Run by the paper process; nobody else writes it. One JSON object a line in `ledger.jsonl`, appended and on disk before
anything is answered; a line that a kill took is written at the next start. Every line has `kind` and `at` (UTC).
Prices and volumes are decimal strings, money is cents, a stop or target of "0" is none.

    received   an order arrived. `receipt` counts them; symbol, side, volume, sl_price, tp_price as asked (missing where
               the request said nothing readable). Written first, whatever then happens to the request
    late       a misbehaving broker will carry `receipt` out at `due_ms` (epoch), also after a restart
    rejected   `receipt` came to nothing: code, message
    placed     `receipt` came to be position_id: symbol, side, volume, price, sl_price, tp_price as they are, which is
               not always as asked
    edited     position_id has sl_price and tp_price from now on
    closed     position_id, or volume of it, is closed: symbol, side, volume, price, closing_order_id, reason (SL, TP,
               MANUAL, STOP_OUT), net_profit_cents (profit, commission, swap)
    waiting    `receipt` waits for its price as order_id: kind_of (LIMIT, STOP), symbol, side, volume, activation_price,
               sl_price, tp_price. Its position will have its id: a placed line with the same receipt
    changed    order_id has activation_price, sl_price and tp_price from now on
    cancelled  order_id is gone: reason (MANUAL, or why it could not be filled)
    rolled     swaps were booked up to the calendar's until_ms for so many nights: swap_cents by position
    fault      a request of kind `on` suffered the misbehaviour `fault`; receipt is 0 unless it was an order
    carried    the first line of a file whose older lines were put aside: what it needs of them

Lines of the account's events have `event`, the number of theirs. `call` in a received line is `pending` where the
order was to wait. A position exists when and only when there is a placed line; an order without one opened nothing
(yet, if it waits or is late).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from actors.broker.paper.journal import Journal
from actors.broker.paper.values import (
    Cancelled,
    Changed,
    Closed,
    Created,
    Edited,
    Event,
    Opened,
    Order,
    Rejected,
    Rolled,
)
from bus import clock as clocks
from bus.clock import Clock

KIND_OF: dict[type[Event], str] = {
    Opened: "placed", Edited: "edited", Closed: "closed", Created: "waiting", Changed: "changed",
    Cancelled: "cancelled", Rolled: "rolled",
}  # fmt: skip
EVENTS = frozenset(KIND_OF.values())


class Late(Struct, frozen=True):
    """An order that is to be carried out at a wall time."""

    receipt: int
    due_ms: int
    order: Order


class Ledger:
    """The file. Every method that notes returns after its line is on disk, or raises OSError."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock = clock
        self._journal: Journal[dict[str, Any]] = Journal(path, dict[str, Any])
        self.lines = 0
        self._receipts = 0
        self._events = 0  # how many of the account's events have their line
        self._late: dict[int, Late] = {}  # by receipt: neither came to be nor to nothing
        for line in self._journal.read():
            self._count(line)

    @property
    def failed(self) -> bool:
        """Whether the disk refused a line."""
        return self._journal.failed

    def close(self) -> None:
        """Close the file."""
        self._journal.close()

    def received(self, asked: dict[str, Any]) -> int:
        """Note that an order arrived and return its receipt."""
        receipt = self._receipts + 1
        self._note("received", receipt=receipt, **asked)
        return receipt

    def late(self, late: Late) -> None:
        """Note that an order will be carried out later."""
        self._note("late", receipt=late.receipt, due_ms=late.due_ms, order=late.order)

    def rejected(self, receipt: int, refusal: Rejected) -> None:
        """Note that an order came to nothing."""
        self._note("rejected", receipt=receipt, code=refusal.code, message=refusal.message)

    def fault(self, name: str, on: str, receipt: int) -> None:
        """Note that a request was misled."""
        self._note("fault", fault=name, on=on, receipt=receipt)

    def event(self, event: Event) -> None:
        """Note what happened to a position, an order, or all of them."""
        self._note(KIND_OF[type(event)], event=self._events + 1, **_fields(event))

    def repair(self, events: Iterable[Event], before: int) -> None:
        """Note what happened when a kill came before its line. `before` events came before the first of `events`."""
        for number, event in enumerate(events, start=before + 1):
            if number > self._events:
                self._events = number - 1
                self.event(event)

    def waiting(self) -> list[Late]:
        """Return the late orders that neither came to be nor to nothing."""
        return list(self._late.values())

    def put_aside_if_full(self, bytes_max: int, parts_max: int) -> None:
        """Begin a new file when this one is too large."""
        if not self._journal.is_full(bytes_max):
            return
        carried = {
            "at": clocks.iso(self._clock.now()), "kind": "carried", "receipts": self._receipts, "events": self._events,
            "lines": self.lines, "late": self.waiting(),
        }  # fmt: skip
        self._journal.rotate(carried, parts_max)
        self.lines += 1

    def _note(self, kind: str, **fields: Any) -> None:
        line = {"at": clocks.iso(self._clock.now()), "kind": kind} | fields
        self._journal.append(line)
        self._count(line)

    def _count(self, line: dict[str, Any]) -> None:
        """Take a line into account, just written or read."""
        kind, receipt = line.get("kind"), line.get("receipt", 0)
        self.lines += 1
        if kind == "carried":
            self._receipts, self._events = line["receipts"], line["events"]
            self.lines = line["lines"] + 1
            self._late = {one.receipt: one for one in msgspec.convert(line["late"], list[Late])}
        elif kind == "received":
            self._receipts += 1
        elif kind == "late":
            self._late[receipt] = msgspec.convert(line, Late)
        elif kind in EVENTS:
            self._events = line.get("event", self._events + 1)
        if kind in ("placed", "rejected"):
            self._late.pop(receipt, None)


def _fields(event: Event) -> dict[str, Any]:
    if isinstance(event, Opened):
        held = event.holding
        return {
            "receipt": event.receipt, "position_id": held.id, "symbol": held.symbol, "side": held.side,
            "volume": held.volume, "price": held.open_price, "sl_price": held.sl_price, "tp_price": held.tp_price,
        }  # fmt: skip
    if isinstance(event, Edited):
        return {"position_id": event.id, "sl_price": event.sl_price, "tp_price": event.tp_price}
    if isinstance(event, Closed):
        done = event.operation
        return {
            "position_id": done.id, "symbol": done.symbol, "side": done.side, "volume": done.volume,
            "price": done.close_price, "closing_order_id": done.closing_order_id, "reason": done.reason,
            "net_profit_cents": done.net_profit_cents,
        }  # fmt: skip
    if isinstance(event, Created):
        order = event.order
        return {
            "receipt": order.receipt, "order_id": order.id, "kind_of": order.kind, "symbol": order.symbol,
            "side": order.side, "volume": order.volume, "activation_price": order.activation_price,
            "sl_price": order.sl_price, "tp_price": order.tp_price,
        }  # fmt: skip
    if isinstance(event, Changed):
        return {
            "order_id": event.id, "activation_price": event.activation_price, "sl_price": event.sl_price,
            "tp_price": event.tp_price,
        }  # fmt: skip
    if isinstance(event, Cancelled):
        return {"order_id": event.id, "reason": event.reason}
    return {"until_ms": event.until_ms, "nights": event.nights, "swap_cents": event.swap_cents}
