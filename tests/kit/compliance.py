"""Builders of rules, accounts, plans, positions and quotes; the numbers are the blueprint's."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from actors.broker.wire import Balance, ClosedPosition, Instrument, Position, Quote
from actors.compliance import day as firm_day
from actors.compliance import rulebook
from actors.compliance.account import AccountView, DayView, PendingRisk, PositionRisk
from actors.compliance.guard import TradeFacts
from actors.compliance.rulebook import RuleSet
from bus.clock import iso
from bus.records import AccountDay, Halt, Order, OrderPlan, TradeIntent
from bus.vocabulary import OrderStatus, Status

NOW = datetime(2026, 2, 16, 9, 30, tzinfo=UTC)  # a Monday, 11:30 in Athens
DAY_STARTS = datetime(2026, 2, 15, 22, 0, tzinfo=UTC)
DAY_ENDS = datetime(2026, 2, 16, 22, 0, tzinfo=UTC)
ACCOUNT_ID = "PAPER-1"


def D(text: str | int) -> Decimal:
    return Decimal(text)


@functools.cache
def the_rules(name: str = "e8-signature-50k") -> RuleSet:
    return rulebook.load(name)


def a_plan(**changed: Any) -> OrderPlan:
    """One lot of EURUSD bought at 1.1000 with a stop 25 pips away: $250 at risk, $500 to win."""
    plan = OrderPlan(
        symbol="EURUSD", broker_symbol="EURUSD.", side="BUY", volume=D("1.00"), sl_price=D("1.0975"),
        tp_price=D("1.1050"), entry_price=D("1.1000"), loss_cents=25_000, profit_cents=50_000,
    )  # fmt: skip
    return msgspec.structs.replace(plan, **changed)


def a_day(start_balance_cents: int = 5_000_000, **changed: Any) -> AccountDay:
    day = AccountDay(
        account_id=ACCOUNT_ID, day="2026-02-16", reset="00:00 Europe/Athens", starts_at=iso(DAY_STARTS),
        ends_at=iso(DAY_ENDS), start_balance_cents=start_balance_cents, reference_cents=start_balance_cents,
        initial_balance_cents=5_000_000, created_at=iso(DAY_STARTS),
    )  # fmt: skip
    return msgspec.structs.replace(day, **changed)


def the_days(
    start_cents: int = 5_000_000, realised_cents: int = 0, *, rules: RuleSet | None = None, now: datetime = NOW
) -> tuple[DayView, ...]:
    """The days that hold `now`, one per reading of the reset, all with the same start."""
    found = rules or the_rules()
    return tuple(
        DayView(
            day=a_day(
                start_cents, day=day.day, reset=day.reset, starts_at=iso(day.starts_at), ends_at=iso(day.ends_at),
                initial_balance_cents=found.account.initial_balance_cents,
            ),
            realised_cents=realised_cents,
        )
        for day in firm_day.firm_days(found, now)
    )  # fmt: skip


def an_account(**changed: Any) -> AccountView:
    """A flat account at the day's start. `starts_cents`, `realised_cents`: the same by every reading of the reset."""
    account = AccountView(
        account_id=ACCOUNT_ID, currency="USD", balance_cents=5_000_000, equity_cents=5_000_000,
        free_margin_cents=5_000_000, figures_at_s=1_000.0, read_at=NOW - timedelta(seconds=1), version=1,
        days=the_days(changed.pop("starts_cents", 5_000_000), changed.pop("realised_cents", 0)), marks=(),
        unexplained_cents=0, positions=(), pending=(), unresolved=(), trades_short=0, trades_total=0, trades_young=0,
        reads_used=80, writes_used=20, halts=(),
    )  # fmt: skip
    if "balance_cents" in changed:
        changed.setdefault("equity_cents", changed["balance_cents"])
    return msgspec.structs.replace(account, **changed)


def a_risk(loss_cents: int | None = 25_000, profit_cents: int = 50_000, **changed: Any) -> PositionRisk:
    risk = PositionRisk(
        id="P-1", symbol="GBPUSD", side="BUY", volume=D("1.00"), loss_at_stop_cents=loss_cents,
        profit_at_target_cents=profit_cents, has_target=True, net_profit_cents=0,
    )  # fmt: skip
    return msgspec.structs.replace(risk, **changed)


def a_pending_risk(loss_cents: int | None = 25_000, profit_cents: int = 50_000, **changed: Any) -> PendingRisk:
    risk = PendingRisk(
        id="O-1", symbol="GBPUSD", side="BUY", volume=D("1.00"), loss_cents=loss_cents, profit_cents=profit_cents,
        has_target=True,
    )  # fmt: skip
    return msgspec.structs.replace(risk, **changed)


def the_facts(**changed: Any) -> TradeFacts:
    facts = TradeFacts(
        now=NOW, monotonic_s=1_001.0, figures_age_s_max=13.0, quote_age_s=1.0, quote_age_s_max=30.0, bar_age_days=1,
        bar_age_days_max=4, session_open=True, expires_at=NOW + timedelta(hours=1), volume_min=D("0.01"),
        volume_max=D("50"), volume_step=D("0.01"), margin_cents=220_000, rules_hash=the_rules().fingerprint,
        needs_attestation=False, attested=None, calendar="no calendar", flat_lead_s=1_800.0,
    )  # fmt: skip
    return msgspec.structs.replace(facts, **changed)


def a_halt(**changed: Any) -> Halt:
    halt = Halt(id=1, kind="soft", reason="daily_drawdown: loss", raised_by="monitor.1", raised_at=iso(NOW))
    return msgspec.structs.replace(halt, **changed)


def an_instrument(symbol: str = "EURUSD", **changed: Any) -> Instrument:
    instrument = Instrument(
        symbol=symbol, broker_symbol=f"{symbol}.", base_currency=symbol[:3], quote_currency=symbol[3:],
        price_precision=3 if symbol.endswith("JPY") else 5, volume_min=D("0.01"), volume_max=D("50"),
        volume_step=D("0.01"), contract_size=D(100_000), leverage=D(50), session_open=True, stops_level=D(0),
    )  # fmt: skip
    return msgspec.structs.replace(instrument, **changed)


def a_quote(symbol: str = "EURUSD", bid: str = "1.09990", ask: str = "1.10000", at: datetime = NOW) -> Quote:
    return Quote(symbol=symbol, bid=D(bid), ask=D(ask), at=at)


def a_position(**changed: Any) -> Position:
    position = Position(
        id="P-1", symbol="EURUSD", broker_symbol="EURUSD.", side="BUY", volume=D("1.00"), open_price=D("1.1000"),
        sl_price=D("1.0975"), tp_price=D("1.1050"), opened_at=NOW - timedelta(hours=1), current_price=D("1.1000"),
        swap_cents=0, commission_cents=-500, profit_cents=0, net_profit_cents=-500,
    )  # fmt: skip
    return msgspec.structs.replace(position, **changed)


def a_row(**changed: Any) -> ClosedPosition:
    row = ClosedPosition(
        id="P-1", symbol="EURUSD", broker_symbol="EURUSD.", side="BUY", volume=D("1.00"), open_price=D("1.1000"),
        close_price=D("1.1050"), opened_at=NOW - timedelta(hours=1), closed_at=NOW - timedelta(minutes=5),
        net_profit_cents=49_500, profit_cents=50_000, swap_cents=0, commission_cents=-500, reason="TP",
    )  # fmt: skip
    return msgspec.structs.replace(row, **changed)


def a_balance(balance_cents: int = 5_000_000, **changed: Any) -> Balance:
    balance = Balance(
        balance_cents=balance_cents, equity_cents=changed.pop("equity_cents", balance_cents), margin_cents=0,
        free_margin_cents=balance_cents, currency="USD",
    )  # fmt: skip
    return msgspec.structs.replace(balance, **changed)


def an_opened_intent(**changed: Any) -> TradeIntent:
    intent = TradeIntent(
        id="intent-1", created_at=iso(NOW - timedelta(hours=2)), trade_date="2026-02-16", symbol="EURUSD",
        status=Status.OPENED, position_id="P-1", executed_at=iso(NOW - timedelta(hours=1)),
        expires_at=iso(NOW + timedelta(hours=1)),
    )  # fmt: skip
    return msgspec.structs.replace(intent, **changed)


def an_order(**changed: Any) -> Order:
    order = Order(
        intent_id="intent-1", status=OrderStatus.OPENED, plan=a_plan(), baseline=(), reserved_at=iso(NOW),
        deadline_at=iso(NOW + timedelta(minutes=1)), position_id="P-1",
    )  # fmt: skip
    return msgspec.structs.replace(order, **changed)
