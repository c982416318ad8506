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
               MANUAL, STOP_OUT), net_profit_cents (profit and commission)
    fault      a request of kind `on` suffered the misbehaviour `fault`; receipt is 0 unless it was an order

A position exists when and only when there is a placed line; an order without one opened nothing (yet, if it is late).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from actors.broker.paper.book import Closed, Edited, Event, Opened, Order, Rejected
from actors.broker.paper.journal import Journal
from bus import clock as clocks
from bus.clock import Clock

KIND_OF = {Opened: "placed", Edited: "edited", Closed: "closed"}


class Late(Struct, frozen=True):
    """An order that is to be carried out at a wall time."""

    receipt: int
    due_ms: int
    order: Order


class Ledger:
    """The file. Every method returns after its line is on disk, or raises OSError."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock = clock
        self._journal: Journal[dict[str, Any]] = Journal(path, dict[str, Any])
        lines = self._journal.read()
        self.lines = len(lines)
        self._receipts = sum(1 for line in lines if line.get("kind") == "received")

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
        self._receipts = receipt
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
        """Note what happened to a position."""
        self._note(KIND_OF[type(event)], **_fields(event))

    def repair(self, events: Iterable[Event]) -> None:
        """Note what happened when a kill came before its line. `events` are all of the account's, in order."""
        happened = list(events)
        lines = self._journal.read()
        for kind, name in KIND_OF.items():
            noted = sum(1 for line in lines if line.get("kind") == name)
            for event in [one for one in happened if isinstance(one, kind)][noted:]:
                self.event(event)

    def waiting(self) -> list[Late]:
        """Return the late orders that neither came to be nor to nothing."""
        lines = self._journal.read()
        done = {line.get("receipt") for line in lines if line.get("kind") in ("placed", "rejected")}
        late = [msgspec.convert(line, Late) for line in lines if line.get("kind") == "late"]
        return [one for one in late if one.receipt not in done]

    def _note(self, kind: str, **fields: Any) -> None:
        self._journal.append({"at": clocks.iso(self._clock.now()), "kind": kind} | fields)
        self.lines += 1


def _fields(event: Event) -> dict[str, Any]:
    if isinstance(event, Opened):
        held = event.holding
        return {
            "receipt": event.receipt, "position_id": held.id, "symbol": held.symbol, "side": held.side,
            "volume": held.volume, "price": held.open_price, "sl_price": held.sl_price, "tp_price": held.tp_price,
        }  # fmt: skip
    if isinstance(event, Edited):
        return {"position_id": event.id, "sl_price": event.sl_price, "tp_price": event.tp_price}
    done = event.operation
    return {
        "position_id": done.id, "symbol": done.symbol, "side": done.side, "volume": done.volume,
        "price": done.close_price, "closing_order_id": done.closing_order_id, "reason": done.reason,
        "net_profit_cents": done.net_profit_cents,
    }  # fmt: skip
