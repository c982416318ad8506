"""The real planning, sizing and guard, asked about the world. The only room of the proof that knows the product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, Literal

import msgspec

from actors.broker.wire import Instrument, Position, Quote
from actors.compliance import day, marks, sizing
from actors.compliance.account import AccountView, DayView, PendingRisk
from actors.compliance.guard import CHECKS, Case, Check, GuardResult, TradeFacts, check_all
from actors.compliance.news import Calendar, Event
from actors.compliance.rulebook import RuleSet
from actors.compliance.sizing import Costs, Unsized
from actors.desk import planning
from bus.clock import iso
from bus.records import AccountDay, AccountMark, Halt, OrderPlan, TradeIntent
from tests.proof.world import CONTRACT, Held, Pair, World

ACCOUNT_ID = "PROOF-1"
VOLUME_STEP = Decimal("0.01")
MONOTONIC_S = 1_000.0
FLAT_LEAD_S = 1_800.0


@dataclass
class Unknown:
    """An order of ours whose outcome is not known: `held` is its position, None when it does not exist."""

    plan: OrderPlan
    held: Held | None


@dataclass
class Gate:
    """How the product is set up, and what it knows beside the world. `view` and `facts` replace what it would see."""

    rules: RuleSet
    gap_pips: int = 5
    leverage: Decimal | None = Decimal(100)
    jitter: Decimal = Decimal(0)
    checks: tuple[Callable[[Case], Check], ...] = CHECKS
    unknown: list[Unknown] = field(default_factory=list)
    view: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    asked: int = 0

    def copy(self) -> Gate:
        return Gate(**{**vars(self), "unknown": list(self.unknown)})

    def costs(self) -> Costs:
        rules = self.rules.costs
        return Costs(
            gap_pips=Decimal(self.gap_pips),
            commission_per_lot_cents=rules.commission_per_lot_cents,
            swap_per_lot_cents=rules.swap_per_lot_cents,
        )

    def plan(
        self, world: World, symbol: str, side: Literal["BUY", "SELL"], *, sl_pips: float, tp_pips: float, risk: Decimal
    ) -> OrderPlan | Unsized:
        """Return the order the product would send."""
        intent = TradeIntent(
            id="intent", created_at=iso(world.now), trade_date="2026-03-09", symbol=symbol, suggested_side=side,
            suggested_sl_pips=sl_pips, suggested_tp_pips=tp_pips,
        )  # fmt: skip
        quotes = {name: quote_of(pair, world.now) for name, pair in world.pairs.items()}
        instruments = {name: instrument_of(pair, self.leverage) for name, pair in world.pairs.items()}
        account = SimpleNamespace(
            balance_cents=world.balance, equity_cents=world.equity, currency="USD",
            unresolved=tuple(order.plan for order in self.unknown),
        )  # fmt: skip
        reading = SimpleNamespace(instruments=instruments, quotes=quotes, positions=self.positions(world))
        looked: Any = SimpleNamespace(account=account, reading=reading)
        return planning.order_plan(intent, looked, risk_ratio=risk, jitter_ratio=self.jitter, costs=self.costs())

    def ask(self, world: World, plan: OrderPlan) -> GuardResult:
        """Return the verdict of the real guard."""
        self.asked += 1
        seen = self.account(world)
        return check_all(plan, seen, self.rules, self.trade_facts(world, plan), self.checks)

    # ── what the product sees ───────────────────────────────────────────────

    def positions(self, world: World) -> tuple[Position, ...]:
        return tuple(position_of(world, held) for held in world.held if held.shown)

    def account(self, world: World) -> AccountView:
        firm, now = world.firm, world.now
        quotes = {name: quote_of(pair, now) for name, pair in world.pairs.items()}
        risks = tuple(
            sizing.position_risk(
                position, contract=instrument_of(world.pairs[position.symbol], self.leverage), quotes=quotes,
                account_currency="USD", costs=self.costs(),
            )
            for position in self.positions(world)
        )  # fmt: skip
        days = tuple(self.day_view(world, index, found) for index, found in enumerate(day.firm_days(self.rules, now)))
        kind = marks.kind_of(self.rules)
        mark = AccountMark(
            account_id=ACCOUNT_ID, kind=kind or "equity", value_cents=firm.mark_cents, at=iso(now), known_until=iso(now)
        )
        young = sum(1 for held in world.held if held.shown and self.is_young(world, held))
        seen = {
            "account_id": ACCOUNT_ID, "currency": "USD", "balance_cents": world.balance, "equity_cents": world.equity,
            "free_margin_cents": world.equity - self.margin(world), "figures_at_s": MONOTONIC_S - 1.0,
            "read_at": now - timedelta(seconds=1), "version": 1, "days": days, "marks": () if kind is None else (mark,),
            "unexplained_cents": 0, "positions": risks, "pending": self.pending(world, quotes),
            "unresolved": tuple(order.plan for order in self.unknown), "trades_short": world.firm.short,
            "trades_total": world.firm.trades, "trades_young": young,
            "reads_used": 100, "writes_used": 20, "halts": (),
        }  # fmt: skip
        return AccountView(**{**seen, **self.view})

    def pending(self, world: World, quotes: dict[str, Quote]) -> tuple[PendingRisk, ...]:
        found = []
        for order in world.waiting:
            pair = world.pairs[order.symbol]
            seen: Any = SimpleNamespace(
                id=order.id, symbol=order.symbol, side=order.side, volume=Decimal(order.lots100) / 100,
                activation_price=pair.price(order.at + (pair.spread if order.side == "BUY" else 0)),
                sl_price=None if order.sl is None else pair.price(order.sl),
                tp_price=None if order.tp is None else pair.price(order.tp),
            )  # fmt: skip
            contract = instrument_of(pair, self.leverage)
            found.append(
                sizing.pending_risk(seen, contract=contract, quotes=quotes, account_currency="USD", costs=self.costs())
            )
        return tuple(found)

    def is_young(self, world: World, held: Held) -> bool:
        return (world.now - held.opened_at).total_seconds() < self.rules.hold.seconds_min

    def day_view(self, world: World, index: int, found: Any) -> DayView:
        kept = world.firm.days[index]
        record = AccountDay(
            account_id=ACCOUNT_ID, day=found.day, reset=kept.label, starts_at=iso(found.starts_at),
            ends_at=iso(found.ends_at), start_balance_cents=kept.start_cents, reference_cents=kept.reference_cents,
            initial_balance_cents=self.rules.account.initial_balance_cents, created_at=iso(found.starts_at),
        )  # fmt: skip
        return DayView(day=record, realised_cents=kept.realised_cents)

    def margin(self, world: World) -> int:
        if self.leverage is None:
            return 0
        needed = Decimal(0)
        for held in world.held:
            upper, lower = world.rate(held.symbol[:3], high=True)
            needed += Decimal(held.lots100 * CONTRACT * upper) / lower / self.leverage
        return int(needed) + 1

    def trade_facts(self, world: World, plan: OrderPlan) -> TradeFacts:
        instrument = instrument_of(world.pairs[plan.symbol], self.leverage)
        quotes = {name: quote_of(pair, world.now) for name, pair in world.pairs.items()}
        seen = {
            "now": world.now, "monotonic_s": MONOTONIC_S, "figures_age_s_max": 15.0, "quote_age_s": 1.0,
            "quote_age_s_max": 30.0, "bar_age_days": 0, "bar_age_days_max": 4, "session_open": True,
            "expires_at": world.now + timedelta(hours=1), "volume_min": instrument.volume_min,
            "volume_max": instrument.volume_max, "volume_step": instrument.volume_step,
            "margin_cents": sizing.margin_cents(plan.volume, instrument, quotes, "USD"),
            "rules_hash": self.rules.fingerprint, "needs_attestation": False, "attested": None,
            "calendar": self.calendar(world), "flat_lead_s": FLAT_LEAD_S,
        }  # fmt: skip
        return TradeFacts(**{**seen, **self.facts})

    def calendar(self, world: World) -> Calendar:
        day = timedelta(days=1)
        events = tuple(
            Event(at=at, currency=currency, impact="high", title="rates") for at, currency in world.firm.news
        )
        return Calendar(since=world.now - day, until=world.now + day, events=events)


def quote_of(pair: Pair, at: datetime) -> Quote:
    return Quote(symbol=pair.symbol, bid=pair.price(pair.bid), ask=pair.price(pair.ask), at=at)


def instrument_of(pair: Pair, leverage: Decimal | None) -> Instrument:
    return Instrument(
        symbol=pair.symbol, broker_symbol=f"{pair.symbol}.", base_currency=pair.symbol[:3],
        quote_currency=pair.symbol[3:], price_precision=pair.digits, volume_min=VOLUME_STEP, volume_max=Decimal(50),
        volume_step=VOLUME_STEP, contract_size=Decimal(CONTRACT), leverage=leverage, session_open=True,
        stops_level=Decimal(0),
    )  # fmt: skip


def position_of(world: World, held: Held) -> Position:
    pair = world.pairs[held.symbol]
    gross = world.gross(held)
    return Position(
        id=held.id, symbol=held.symbol, broker_symbol=f"{held.symbol}.", side=held.side,
        volume=Decimal(held.lots100) / 100, open_price=pair.price(held.open),
        sl_price=None if held.sl is None else pair.price(held.sl),
        tp_price=None if held.tp is None else pair.price(held.tp), opened_at=held.opened_at,
        current_price=pair.price(pair.bid if held.side == "BUY" else pair.ask), swap_cents=held.swap,
        commission_cents=-held.commission, profit_cents=gross, net_profit_cents=gross + held.swap - held.commission,
    )  # fmt: skip


def halt(**changed: Any) -> Halt:
    at = "2026-03-09T08:00:00.000Z"
    standing = Halt(id=1, kind="soft", reason="daily_drawdown: loss", raised_by="monitor.1", raised_at=at)
    return msgspec.structs.replace(standing, **changed)
