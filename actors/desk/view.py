"""The account as broker and store show it, joined into what the guard reads. Library of the executor.

Reads only, except that `record` asks the store to keep what was rebuilt. What cannot be known is missing in the view,
and the guard lets nothing pass that needs it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Protocol
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from actors.broker.wire import Balance, ClosedPosition, Instrument, PendingOrder, Position, Quote
from actors.compliance import day as firm_days
from actors.compliance import news, sizing
from actors.compliance.account import AccountView, PendingRisk, PositionRisk
from actors.compliance.guard import TradeFacts
from actors.compliance.money import amount
from actors.compliance.rulebook import RuleSet
from actors.compliance.sizing import Costs
from actors.desk import days, lots
from actors.desk.days import Asker, Days, Kept
from bus.clock import Clock, iso, parse
from bus.records import AccountMark, Order, OrderPlan, TradeIntent
from config import load
from config.settings import Settings
from store.queries import Reader

SESSION_AGE_S_MAX = 60.0  # how old the broker's word on open sessions may be


class Broker(Protocol):
    """What the view needs of a `broker.account.Account`. Every call may raise a BrokerError."""

    async def balance(self) -> Balance: ...
    async def instruments(self, age_s_max: float = ...) -> dict[str, Instrument]: ...
    async def quotes(self, symbols: Iterable[str]) -> dict[str, Quote]: ...
    async def open_positions(self) -> tuple[Position, ...]: ...
    async def pending_orders(self) -> tuple[PendingOrder, ...]: ...
    async def closed_positions(self, since: datetime, until: datetime) -> tuple[ClosedPosition, ...]: ...


class Reading(Struct, frozen=True, kw_only=True):
    """What the broker said in one look, and when it was asked."""

    version: int  # of the store's account, before the broker was asked
    now: datetime
    figures_at_s: float  # monotonic
    pending: tuple[PendingOrder, ...]
    positions: tuple[Position, ...]
    balance: Balance
    closed: tuple[ClosedPosition, ...]
    closed_since: datetime  # how far back they go
    instruments: dict[str, Instrument]
    quotes: dict[str, Quote]
    is_settled: bool  # the balance was the same before and after the history was read


class View(Struct, frozen=True, kw_only=True):
    """One look at the account. `account` goes to the guard, the rest is what the order is planned with."""

    account: AccountView
    reading: Reading
    unresolved: tuple[Order, ...]  # those of `account.unresolved`, in the same order
    closed: tuple[str, ...]  # positions of opened intents that the history shows closed
    found: Days

    @property
    def baseline(self) -> tuple[str, ...]:
        """Return the ids of the positions that exist before an order is reserved."""
        return tuple(sorted(position.id for position in self.reading.positions))

    @property
    def unsettled(self) -> str:
        """Return why the account is to be read again before anything is said of it; empty when it is not.

        A list can lag an event by seconds. What stays so is the monitor's to halt for.
        """
        if not self.reading.is_settled:
            return "the balance changed while the account was read"
        cents = self.found.unexplained_cents
        return f"{amount(cents)} of the balance are explained by no trade" if cents else ""


def costs(settings: Settings, rules: RuleSet, symbol: str) -> Costs:
    """Return what is added to every loss on an instrument."""
    executor = settings.executor
    gap_pips = executor.gap_allowance_pips_by_symbol.get(symbol, executor.gap_allowance_pips)
    return Costs(
        gap_pips=Decimal(str(gap_pips)),
        commission_per_lot_cents=rules.costs.commission_per_lot_cents,
        swap_per_lot_cents=rules.costs.swap_per_lot_cents,
    )


async def account_view(
    client: Broker, reader: Reader, *, settings: Settings, rules: RuleSet, clock: Clock, symbol: str | None = None
) -> View:
    """Read the account now and return it; `symbol` is the one to be traded. Five to seven requests.

    Raises:
        BrokerError: something could not be read. Nothing is known then; "no answer" is never "no positions".
        store.connection.DatabaseRefused: the store's file cannot be read.
    """
    # The store is read after the broker: an order that the broker shows is then known to the store as well. Its version
    # is read before: whatever is written from now on makes the store refuse the figures.
    reading = await look(client, reader, settings=settings, rules=rules, clock=clock, symbol=symbol)
    return assemble(reading, reader, settings=settings, rules=rules)


async def look(
    client: Broker, reader: Reader, *, settings: Settings, rules: RuleSet, clock: Clock, symbol: str | None = None
) -> Reading:
    """Ask the broker for everything a view needs. Waiting orders come before positions, and these before the balance:
    what is filled or closed in between then counts twice rather than not at all.

    Raises:
        BrokerError: something could not be read.
    """
    version = reader.account_version()
    now, figures_at_s = clock.now(), clock.monotonic()
    since = days.history_since(rules, now=now, kept=days.kept(reader, settings.broker.account_id))
    pending = await client.pending_orders()
    positions = await client.open_positions()
    balance = await client.balance()
    closed = await client.closed_positions(since, days.history_until(since, now))
    # Balance and history are joined: a close between the two would falsify what is made of both.
    again = await client.balance()
    instruments = await client.instruments(SESSION_AGE_S_MAX)
    traded = {symbol} if symbol else set[str]()
    held = {position.symbol for position in positions} | {order.symbol for order in pending}
    wanted = _quotes_wanted(traded | held, instruments, balance.currency)
    return Reading(
        version=version,
        now=now,
        figures_at_s=figures_at_s,
        pending=pending,
        positions=positions,
        balance=balance,
        closed=closed,
        closed_since=since,
        instruments=instruments,
        quotes=await client.quotes(wanted) if wanted else {},
        is_settled=again.balance_cents == balance.balance_cents,
    )


def assemble(reading: Reading, reader: Reader, *, settings: Settings, rules: RuleSet) -> View:
    """Join what the broker said with what the store knows."""
    account_id, kept = settings.broker.account_id, days.kept(reader, settings.broker.account_id)
    shown, opened = {position.id for position in reading.positions}, reader.active_positions()
    closed = lots.ended(reader, (intent for intent in opened if intent.position_id not in shown), reading.closed)
    unseen = unseen_orders(reader, opened, shown | closed)
    unresolved = (*reader.unresolved_orders(), *unseen)
    found = days.assess(
        rules,
        kept=kept,
        now=reading.now,
        balance_cents=reading.balance.balance_cents,
        equity_cents=reading.balance.equity_cents,
        positions=reading.positions,
        closed=reading.closed,
        since=reading.closed_since,
        is_settled=reading.is_settled,
        is_complete=not unseen,
    )
    short, total = firm_days.held_short(reading.closed, rules.hold.seconds_min)
    first, *others = firm_days.firm_days(rules, reading.now)
    used = [reader.requests(key) for key in (first.day, *(f"{day.day} {day.reset}" for day in others))]
    account = AccountView(
        account_id=account_id,
        currency=reading.balance.currency,
        balance_cents=reading.balance.balance_cents,
        equity_cents=reading.balance.equity_cents,
        free_margin_cents=reading.balance.free_margin_cents,
        figures_at_s=reading.figures_at_s,
        read_at=reading.now,
        version=reading.version,
        days=found.known,
        marks=found.marks if is_to_be_recorded(found, kept, reading) else _still_known(found, kept),
        unexplained_cents=found.unexplained_cents,
        positions=_position_risks(reading, settings, rules),
        pending=_pending_risks(reading, settings, rules),
        unresolved=tuple(order.plan for order in unresolved),
        trades_short=short,
        trades_total=total,
        trades_young=sum(
            1
            for position in reading.positions
            if (reading.now - position.opened_at).total_seconds() < rules.hold.seconds_min
        ),
        reads_used=max(reads for reads, _ in used),
        writes_used=max(writes for _, writes in used),
        halts=tuple(reader.halts(iso(reading.now))),
    )
    return View(account=account, reading=reading, unresolved=unresolved, closed=tuple(sorted(closed)), found=found)


def is_to_be_recorded(found: Days, kept: Kept, reading: Reading) -> bool:
    """Return whether the store must learn of days or marks before it can judge figures made with them.

    A mark that only the balance or equity of this moment raises it works out for itself.
    """
    if found.record is not None:
        return True
    present = {"closed_balance": reading.balance.balance_cents, "equity": reading.balance.equity_cents}
    known = {mark.kind: mark.value_cents for mark in kept.marks}

    def is_news(mark: AccountMark) -> bool:
        before = known.get(mark.kind)
        return before is None or mark.value_cents > max(before, present.get(mark.kind, before))

    return any(is_news(mark) for mark in found.marks)


def _still_known(found: Days, kept: Kept) -> tuple[AccountMark, ...]:
    """Return the store's marks but those that nobody watched: what is not in `found` is not known any more."""
    known = {mark.kind for mark in found.marks}
    return tuple(mark for mark in kept.marks if mark.kind in known)


async def record(view: View, link: Asker, reader: Reader, *, deadline_s: float | None = None) -> bool:
    """Have the store keep what it does not know yet; return whether it was told. Then look again.

    Raises:
        NoAnswer: the store did not answer within `deadline_s`.
    """
    kept = days.kept(reader, view.account.account_id)
    if not is_to_be_recorded(view.found, kept, view.reading):
        return False
    return await days.record(view.found, link, deadline_s)


def trade_facts(
    view: View,
    plan: OrderPlan,
    intent: TradeIntent,
    reader: Reader,
    *,
    settings: Settings,
    rules: RuleSet,
    clock: Clock,
) -> TradeFacts:
    """Return what the guard needs beside plan and account. Call it right before the guard: it takes the time.

    Reads the rule set's file and the news calendar anew: what was edited meanwhile must not be missed.

    Raises:
        KeyError: the plan's symbol is not among the instruments of the view.
        DatabaseRefused: the store's file cannot be read.
    """
    executor = settings.executor
    calendar = news.load(settings.compliance.news_calendar) if rules.news.window_minutes else ""
    rules_hash = _rules_hash(settings)
    attestation = reader.attestation(settings.broker.account_id, rules.fingerprint)
    now = clock.now()
    instrument, quotes = view.reading.instruments[plan.symbol], view.reading.quotes
    # A quote that is ahead of us is as suspicious as an old one: the one furthest away counts.
    ages_s = [(now - quote.at).total_seconds() for quote in quotes.values()]
    return TradeFacts(
        now=now,
        monotonic_s=clock.monotonic(),
        # The licence may be used until its end, and the figures must be young then, too.
        figures_age_s_max=max(0.0, executor.figures_age_s_max - executor.licence_s),
        quote_age_s=max(ages_s, key=abs) if plan.symbol in quotes else None,
        quote_age_s_max=executor.quote_age_s_max,
        bar_age_days=_bar_age_days(intent, now),
        bar_age_days_max=None if intent.source == "manual" else settings.scanner.bar_age_days_max,
        session_open=instrument.session_open,
        holiday=_holiday(settings, rules, now),
        expires_at=parse(intent.expires_at) if intent.expires_at else None,
        volume_min=instrument.volume_min,
        volume_max=instrument.volume_max,
        volume_step=instrument.volume_step,
        margin_cents=sizing.margin_cents(plan.volume, instrument, quotes, view.account.currency),
        rules_hash=rules_hash,
        needs_attestation=settings.broker.is_live,
        attested=f"attested by {attestation.operator} at {attestation.at}" if attestation else None,
        calendar=calendar,
        flat_lead_s=executor.flat_lead_s,
    )


def unseen_orders(reader: Reader, opened: Iterable[TradeIntent], seen: set[str]) -> tuple[Order, ...]:
    """Return the orders of opened intents whose position is neither open nor closed in whole by the history.

    A list can lag the event: such a position counts like an order with an unknown outcome, not like nothing.
    """
    missing = [intent for intent in opened if intent.position_id not in seen]
    found = (reader.order(intent.id) for intent in missing)
    return tuple(order for order in found if order is not None)


# ── inside ──────────────────────────────────────────────────────────────────


class _Bars(Struct, frozen=True):
    """What is needed of an intent's signal."""

    bar_time: str


def _bar_age_days(intent: TradeIntent, now: datetime) -> int | None:
    """Return the age of the newest bar that the intent rests on, or None when it does not say."""
    try:
        bar = date.fromisoformat(msgspec.json.decode(intent.signal_json, type=_Bars).bar_time[:10])
    except (msgspec.DecodeError, ValueError):
        return None
    return (now.date() - bar).days


def _holiday(settings: Settings, rules: RuleSet, now: datetime) -> str:
    """Return the holiday that it is now in UTC or in any zone that the firm's day may begin in, or ""."""
    zones = (UTC, *(ZoneInfo(reading.tz) for reading in firm_days.readings(rules)))
    dates = {now.astimezone(zone).date().isoformat() for zone in zones}
    return next((day for day in settings.compliance.holidays if day in dates), "")


def _rules_hash(settings: Settings) -> str | None:
    try:
        return load.rules_file(settings.compliance.rules).fingerprint
    except load.ConfigError:
        return None


def _position_risks(reading: Reading, settings: Settings, rules: RuleSet) -> tuple[PositionRisk, ...]:
    return tuple(
        sizing.position_risk(
            position,
            contract=_contract(reading.instruments.get(position.symbol)),
            quotes=reading.quotes,
            account_currency=reading.balance.currency,
            costs=costs(settings, rules, position.symbol),
        )
        for position in reading.positions
    )


def _pending_risks(reading: Reading, settings: Settings, rules: RuleSet) -> tuple[PendingRisk, ...]:
    return tuple(
        sizing.pending_risk(
            order,
            contract=_contract(reading.instruments.get(order.symbol)),
            quotes=reading.quotes,
            account_currency=reading.balance.currency,
            costs=costs(settings, rules, order.symbol),
        )
        for order in reading.pending
    )


def _quotes_wanted(symbols: set[str], instruments: dict[str, Instrument], currency: str) -> list[str]:
    """Return the symbols to be quoted: these, and the pairs that convert their currencies into the account's."""
    traded = [instruments[symbol] for symbol in symbols if symbol in instruments]
    currencies = {name for found in traded for name in (found.base_currency, found.quote_currency)} - {currency}
    pairs = {pair for name in currencies for pair in (f"{name}{currency}", f"{currency}{name}")}
    return sorted({found.symbol for found in traded} | (pairs & instruments.keys()))


def _contract(instrument: Instrument | None) -> Instrument | None:
    """Return the instrument when a gap in pips can be valued on it, else None: then its loss has no bound."""
    if instrument is None:
        return None
    try:
        return instrument if instrument.pip > 0 else None
    except ValueError:
        return None
