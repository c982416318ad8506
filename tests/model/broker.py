"""A broker without a network for the store's machine: places an order or not, shows it late, closes it when it likes.

It keeps every request that it received: the truth of the test. It never looks whether it has had an order before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from actors.broker.wire import ClosedPosition, Position
from bus.records import OrderPlan

# What a request may take at most until it is seen or certainly lost. The quiet period is longer than both together.
PLACED_S_MAX = 4.0
SHOWN_S_MAX = 4.0
PROFIT_CENTS = 9_350  # of every position that ended


@dataclass
class Request:
    """One order that left. `fate`: flying, gone (never placed), hidden (placed, not shown yet), visible, closed."""

    intent_id: str
    incarnation: str
    plan: OrderPlan
    position_id: str
    sent_s: float
    fate: str = "flying"
    at: datetime | None = None  # when it was placed
    placed_s: float = 0.0
    closed_at: datetime | None = None

    @property
    def is_placed(self) -> bool:
        return self.fate in ("hidden", "visible", "closed")


@dataclass
class Broker:
    """All requests, oldest first. `changes` counts what happened, so that others see that something did."""

    requests: list[Request] = field(default_factory=list)
    changes: int = 0

    def post(self, intent_id: str, incarnation: str, plan: OrderPlan, now_s: float) -> Request:
        self.requests.append(Request(intent_id, incarnation, plan, f"p{len(self.requests) + 1}", now_s))
        self.changes += 1
        return self.requests[-1]

    def decide(self, request: Request, *, places: bool, now: datetime, now_s: float) -> None:
        request.fate, request.at, request.placed_s = ("hidden" if places else "gone"), now, now_s
        self.changes += 1

    def show(self, request: Request) -> None:
        request.fate = "visible"
        self.changes += 1

    def close(self, request: Request, now: datetime) -> None:
        request.fate, request.closed_at = "closed", now
        self.changes += 1

    def pass_time(self, now: datetime, now_s: float) -> None:
        """Do what cannot be put off any longer."""
        for request in self.requests:
            if request.fate == "flying" and now_s - request.sent_s >= PLACED_S_MAX:
                self.decide(request, places=False, now=now, now_s=now_s)
            elif request.fate == "hidden" and now_s - request.placed_s >= SHOWN_S_MAX:
                self.show(request)

    def baseline(self) -> tuple[str, ...]:
        return tuple(request.position_id for request in self.requests if request.fate in ("visible", "closed"))

    def open_positions(self) -> tuple[Position, ...]:
        return tuple(_position(request) for request in self.requests if request.fate == "visible")

    def closed_positions(self) -> tuple[ClosedPosition, ...]:
        return tuple(_row(request) for request in self.requests if request.fate == "closed")


def _position(request: Request) -> Position:
    plan = request.plan
    assert request.at is not None
    return Position(
        id=request.position_id, symbol=plan.symbol, broker_symbol=plan.broker_symbol, side=plan.side,
        volume=plan.volume, open_price=plan.entry_price, sl_price=plan.sl_price, tp_price=plan.tp_price,
        opened_at=request.at, current_price=plan.entry_price, swap_cents=0, commission_cents=0, profit_cents=0,
        net_profit_cents=0,
    )  # fmt: skip


def _row(request: Request) -> ClosedPosition:
    plan = request.plan
    assert request.at is not None and request.closed_at is not None
    return ClosedPosition(
        id=request.position_id, symbol=plan.symbol, broker_symbol=plan.broker_symbol, side=plan.side,
        volume=plan.volume, open_price=plan.entry_price, close_price=Decimal("1.09510"), opened_at=request.at,
        closed_at=request.closed_at, net_profit_cents=PROFIT_CENTS, profit_cents=PROFIT_CENTS, swap_cents=0,
        commission_cents=0, reason="tp",
    )  # fmt: skip
