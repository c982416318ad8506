"""A broker with orders that wait for their price, over a real socket: they are cancelled, filled instead, or left.

async with waiting.a_room(tmp_path) as room:
    room.broker.wait("o1")
    room.broker.on_cancel = ["lose"]
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from actors.broker.client import BrokerClient
from actors.compliance import day as days
from actors.desk.allowance import Allowance, Block
from bus.clock import iso
from tests.kit import scripted
from tests.kit.compliance import the_rules
from tests.kit.desk import Shifted, StoreHere
from tests.kit.scripted import CLOSE, reply
from tests.kit.watching import NOON, Room

# What a cancel does: as it should; done, but the answer is lost; not done and no answer; filled just before; nothing.
Cancel = Literal["ok", "lose", "drop", "fill", "ignore"]


@dataclass
class WaitingBroker:
    """Account, positions and waiting orders. `on_cancel` is used up one by one; then all goes as it should."""

    now: Any
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    positions: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    on_cancel: list[Cancel] = field(default_factory=list)
    fills_on_close: list[str] = field(default_factory=list)
    cancels: list[str] = field(default_factory=list)
    hides_orders: bool = False

    def wait(self, order_id: str) -> None:
        self.orders[order_id] = {
            "id": order_id, "symbol": "EURUSD.", "volume": "0.10", "type": "LIMIT", "side": "BUY",
            "activationPrice": "1.05", "stopLoss": "1.04", "takeProfit": "0",
        }  # fmt: skip

    def open(self, position_id: str) -> None:
        self.positions[position_id] = {
            "id": position_id, "symbol": "EURUSD.", "volume": "0.10", "side": "BUY", "openTime": iso(self.now()),
            "openPrice": "1.1", "currentPrice": "1.1", "profit": "0", "netProfit": "0", "stopLoss": "1.0",
        }  # fmt: skip

    def fill(self, order_id: str) -> None:
        del self.orders[order_id]
        self.open(order_id)

    def answer(self, path: str, body: bytes) -> bytes:
        end = path.rpartition("/")[2]
        said = json.loads(body) if body else {}
        if end == "active-orders":
            return reply(503) if self.hides_orders else reply(200, {"orders": list(self.orders.values())})
        if end == "open-positions":
            return reply(200, {"positions": list(self.positions.values())})
        if end == "balance":
            return reply(200, dict.fromkeys(("balance", "equity", "freeMargin"), "50000") | {
                "margin": "0", "currency": "USD",
            })  # fmt: skip
        if end == "closed-positions":
            return reply(200, {"operations": self.rows})
        if end == "close":
            del self.positions[said["positionId"]]
            for order_id in self.fills_on_close:
                self.fill(order_id)
            self.fills_on_close.clear()
            return reply(200, {"status": "OK"})
        assert end == "cancel", path
        return self._cancel(said["id"])

    def _cancel(self, order_id: str) -> bytes:
        self.cancels.append(order_id)
        how = self.on_cancel.pop(0) if self.on_cancel else "ok"
        if how == "fill":
            self.fill(order_id)
            return reply(200, {"status": "REJECTED", "errorMessage": "no such order"})
        if how in ("ok", "lose"):
            del self.orders[order_id]
        return CLOSE if how in ("lose", "drop") else reply(200, {"status": "OK"})


@dataclass
class WaitingRoom(Room):
    """A room whose broker is the one of this module."""

    broker: WaitingBroker  # type: ignore[assignment]


@contextlib.asynccontextmanager
async def a_room(folder: Path) -> AsyncIterator[WaitingRoom]:
    """Open a room at noon of a Wednesday, with nothing open and nothing waiting."""
    clock, rules = Shifted(NOON), the_rules()
    async with scripted.serving() as server:
        broker = WaitingBroker(clock.now)
        whole_answer = server.answer

        def answer(path: str) -> bytes:
            if path.endswith(("/mtr-login", "/effective-instruments")):
                return whole_answer(path)
            return broker.answer(path.partition("?")[0], server.asked[-1].body)

        server.answer = answer  # type: ignore[method-assign]
        with contextlib.closing(StoreHere(folder / "decisions.db", clock)) as store:
            allowance = Allowance(
                store.ask, clock, lambda: days.firm_days(rules, clock.now()), block=Block(reads=4, writes=1),
                answer_s=0.05,
            )  # fmt: skip
            async with BrokerClient(server.settings(account_id="7"), "paper", clock, allowance) as client:
                yield WaitingRoom(broker, client, store, clock, allowance, None)  # type: ignore[arg-type]
