"""Valid messages and records with one line each. Whatever a test is about, it gives by keyword."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

import msgspec

from bus import messages
from bus.messages import Envelope, Held, Peer
from bus.records import (
    AccountDay,
    AccountMark,
    Certificate,
    EquitySample,
    LossLine,
    OrderPlan,
    Signal,
    TradeIntent,
)
from bus.vocabulary import Role, State

_numbers = itertools.count(1)


def a_peer(role: Role = Role.LLM, slot: int = 1, incarnation: str | None = None) -> Peer:
    """Return a peer; a new incarnation every time unless one is given."""
    return Peer(role, slot, incarnation or f"{next(_numbers):012x}")


def a_signal(**changes: Any) -> Signal:
    """Return a signal of EURUSD. A different `symbol` or `bar_time` makes a different intent of it."""
    usual: dict[str, Any] = {
        "symbol": "EURUSD", "timeframe": "D1", "bar_time": "2026-10-30", "score": 0.42, "confidence": "high",
        "score_gap": 0.1, "drop_distance": 0.2, "topk_spread": 0.3, "side_hint": "BUY", "close": 1.0851,
        "volatility_pips": 40.0, "source": "ecb", "model_id": "m1", "features": {"ret_5": 0.004},
    }  # fmt: skip
    return Signal(**(usual | changes))


def a_propose(**changes: Any) -> messages.Propose:
    """Return a proposal. Keywords of `Propose` go there, all others into its signal."""
    own = {name: changes.pop(name) for name in ("trade_date", "source", "ttl_minutes", "expires_at") if name in changes}
    return messages.Propose(**({"trade_date": "2026-11-02"} | own), signal=changes.pop("signal", a_signal(**changes)))


def a_plan(**changes: Any) -> OrderPlan:
    """Return the plan of a BUY of 0.10 lots EURUSD."""
    usual: dict[str, Any] = {
        "symbol": "EURUSD", "broker_symbol": "EURUSD.", "side": "BUY", "volume": Decimal("0.10"),
        "sl_price": Decimal("1.08010"), "tp_price": Decimal("1.09510"), "entry_price": Decimal("1.08510"),
        "loss_cents": 5_000, "profit_cents": 10_000,
    }  # fmt: skip
    return OrderPlan(**(usual | changes))


def a_reservation(intent: TradeIntent, **changes: Any) -> messages.ReserveOrder:
    """Return the request for the licence to send the order of `intent`."""
    usual: dict[str, Any] = {
        "intent_id": intent.id, "epoch": intent.epoch, "plan": a_plan(symbol=intent.symbol), "baseline": ("p0",),
        "deadline_at": "2026-11-02T06:02:00.000Z", "compliance_snapshot": '{"passed": true}',
        "certificate": a_certificate(),
    }  # fmt: skip
    return messages.ReserveOrder(**(usual | changes))


def a_result(**changes: Any) -> messages.PositionResult:
    """Return the end of a position that hit its target."""
    usual: dict[str, Any] = {
        "closed_at": "2026-11-02T09:00:00.000Z", "net_profit_cents": 9_350, "close_price": "1.09510", "reason": "tp",
    }  # fmt: skip
    return messages.PositionResult(**(usual | changes))


def a_day(**changes: Any) -> AccountDay:
    """Return the start of a firm's day."""
    usual: dict[str, Any] = {
        "account_id": "PAPER-1", "day": "2026-11-02", "starts_at": "2026-11-01T22:00:00.000Z",
        "ends_at": "2026-11-02T22:00:00.000Z", "start_balance_cents": 5_000_000, "initial_balance_cents": 5_000_000,
        "created_at": "2026-11-02T06:00:00.000Z", "reset": "00:00 Europe/Athens", "reference_cents": 5_000_000,
    }  # fmt: skip
    return AccountDay(**(usual | changes))


def a_mark(**changes: Any) -> AccountMark:
    """Return the highest balance at the end of a day."""
    usual: dict[str, Any] = {
        "account_id": "PAPER-1", "kind": "day_end_balance", "value_cents": 5_120_000,
        "at": "2026-11-01T22:00:00.000Z", "known_until": "2026-11-02T06:00:00.000Z",
    }  # fmt: skip
    return AccountMark(**(usual | changes))


def a_certificate(**changes: Any) -> Certificate:
    """Return the guard's figures for `a_plan` on a flat account of 50,000."""
    loss_cents = a_plan().loss_cents
    daily = LossLine(
        name="daily 00:00 Europe/Athens", reference_cents=5_000_000, amount_cents=Decimal(250_000),
        stop_cents=4_787_500, measured_cents=5_000_000, worst_cents=5_000_000 - loss_cents,
        measured_on="lower_of_balance_and_equity",
    )  # fmt: skip
    maximum = msgspec.structs.replace(daily, name="maximum", amount_cents=Decimal(400_000), stop_cents=4_660_000)
    usual: dict[str, Any] = {
        "rules": "e8-signature-50k", "rules_hash": "0" * 64, "account_id": "PAPER-1", "account_version": 1,
        "read_at": "2026-11-02T06:00:00.000Z", "balance_cents": 5_000_000, "equity_cents": 5_000_000,
        "positions": (), "pending": (), "unresolved": (), "closed": (),
        "order_loss_cents": loss_cents, "lines": (daily, maximum),
    }  # fmt: skip
    return Certificate(**(usual | changes))


def a_sample(**changes: Any) -> EquitySample:
    """Return one reading of a flat account."""
    usual: dict[str, Any] = {
        "at": "2026-11-02T06:00:00.000Z", "day": "2026-11-02", "balance_cents": 5_000_000, "equity_cents": 5_000_000,
        "margin_cents": 0, "positions": 0, "daily_loss_cents": 0, "max_loss_cents": 0,
    }  # fmt: skip
    return EquitySample(**(usual | changes))


def a_beat(*held: TradeIntent | Held, **changes: Any) -> messages.Beat:
    """Return a beat of a ready actor with one slot that holds `held`."""
    holding = tuple(one if isinstance(one, Held) else Held(one.id, one.epoch) for one in held)
    usual: dict[str, Any] = {"pid": 4_242, "state": State.READY, "capacity": 1, "seen_store_epoch": 1}
    return messages.Beat(**(usual | changes), holding=holding)


def an_envelope(sender: Peer, body: messages.Beat | messages.Command, command_id: str | None = None) -> Envelope:
    """Return a frame's content; a command gets a new id unless one is given."""
    if isinstance(body, messages.Beat):
        return Envelope(sender=sender, body=body)
    return Envelope(sender=sender, body=body, id=command_id or f"c-{next(_numbers):08d}")
