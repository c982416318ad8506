"""The account as broker and store show it, joined into what the guard reads. Library of executor and monitor.

Reads only, except that `record_day` asks the store to keep a day's start. What cannot be known is None in the view,
and the guard lets nothing pass that needs it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

import msgspec
from loguru import logger
from msgspec import Struct

from actors.broker.wire import Balance, ClosedPosition, Instrument, Position, Quote
from actors.compliance import day as days
from actors.compliance import sizing
from actors.compliance.account import AccountView
from actors.compliance.day import FirmDay
from actors.compliance.guard import TradeFacts
from actors.compliance.rulebook import RuleSet
from actors.compliance.sizing import Costs
from bus import messages
from bus.clock import Clock, iso, parse
from bus.records import AccountDay, Order, OrderPlan, TradeIntent
from config.settings import Settings
from store.queries import Reader

CLOCK_SKEW_S = 60.0  # rows stamped by a broker whose clock runs ahead of ours are asked for, too
SESSION_AGE_S_MAX = 60.0  # how old the broker's word on open sessions may be


class Counted(Protocol):
    """Requests made since they were last taken."""

    @property
    def reads(self) -> int: ...
    @property
    def writes(self) -> int: ...


class Broker(Protocol):
    """What the view needs of `broker.client.BrokerClient`. Every call may raise a BrokerError."""

    @property
    def requests(self) -> Counted: ...
    async def balance(self) -> Balance: ...
    async def instruments(self, age_s_max: float = ...) -> dict[str, Instrument]: ...
    async def quotes(self, symbols: Iterable[str]) -> dict[str, Quote]: ...
    async def open_positions(self) -> tuple[Position, ...]: ...
    async def closed_positions(self, since: datetime, until: datetime) -> tuple[ClosedPosition, ...]: ...


class Asker(Protocol):
    """What `record_day` needs of the link to the store."""

    async def ask(self, command: messages.Command, deadline_s: float | None = None) -> messages.Ack: ...


class Reading(Struct, frozen=True, kw_only=True):
    """What the broker said in one look, and when it was asked."""

    now: datetime
    figures_at_s: float
    day: FirmDay
    positions: tuple[Position, ...]
    balance: Balance
    closed: tuple[ClosedPosition, ...]  # of the day, and as far back as holding times are counted
    instruments: dict[str, Instrument]
    quotes: dict[str, Quote]
    requests_used: int  # by this process, not yet reported
    is_settled: bool  # the balance was the same before and after the history was read


class View(Struct, frozen=True, kw_only=True):
    """One look at the account. `account` goes to the guard, the rest is what the order is planned with."""

    account: AccountView
    reading: Reading
    new_day: AccountDay | None  # rebuilt just now and not in the store yet: see `record_day`
    day_unknown: str  # why the day's start is not known; empty when it is

    @property
    def baseline(self) -> tuple[str, ...]:
        """Return the ids of the positions that exist before an order is reserved."""
        return tuple(sorted(position.id for position in self.reading.positions))


def firm_day(rules: RuleSet, now: datetime) -> FirmDay:
    """Return the firm's day that holds `now`."""
    return days.firm_day(now, rules.reset_time, rules.zone)


def costs(settings: Settings, rules: RuleSet) -> Costs:
    """Return what is added to every loss."""
    return Costs(
        gap_pips=Decimal(str(settings.executor.gap_allowance_pips)),
        commission_per_lot_cents=rules.costs.commission_per_lot_cents,
    )


async def account_view(
    client: Broker, reader: Reader, *, settings: Settings, rules: RuleSet, clock: Clock, symbol: str | None = None
) -> View:
    """Read the account now and return it; `symbol` is the one to be traded. Four to seven requests.

    Raises:
        BrokerError: something could not be read. Nothing is known then; "no answer" is never "no positions".
        store.connection.DatabaseRefused: the store's file cannot be read.
    """
    # The store is read after the broker: an order that the broker shows is then known to the store as well.
    reading = await look(client, reader, settings=settings, rules=rules, clock=clock, symbol=symbol)
    return assemble(reading, reader, settings=settings, rules=rules)


async def look(
    client: Broker, reader: Reader, *, settings: Settings, rules: RuleSet, clock: Clock, symbol: str | None = None
) -> Reading:
    """Ask the broker for everything a view needs. Positions come before the balance: one that closes in between then
    counts twice rather than not at all.

    Raises:
        BrokerError: something could not be read.
    """
    now, figures_at_s = clock.now(), clock.monotonic()
    today = firm_day(rules, now)
    positions = await client.open_positions()
    balance = await client.balance()
    since = min(today.starts_at, now - timedelta(days=rules.hold.history_days))
    closed = await client.closed_positions(since, now + timedelta(seconds=CLOCK_SKEW_S))
    is_settled = True
    if reader.account_day(today.day, settings.broker.account_id) is None:
        # Rebuilding the day's start joins balance and history: a close between the two would falsify it.
        again = await client.balance()
        is_settled = again.balance_cents == balance.balance_cents
    instruments = await client.instruments(SESSION_AGE_S_MAX)
    traded = {symbol} if symbol else set[str]()
    wanted = _quotes_wanted(traded | {position.symbol for position in positions}, instruments, balance.currency)
    return Reading(
        now=now,
        figures_at_s=figures_at_s,
        day=today,
        positions=positions,
        balance=balance,
        closed=closed,
        instruments=instruments,
        quotes=await client.quotes(wanted) if wanted else {},
        requests_used=client.requests.reads + client.requests.writes,
        is_settled=is_settled,
    )


def assemble(reading: Reading, reader: Reader, *, settings: Settings, rules: RuleSet) -> View:
    """Join what the broker said with what the store knows."""
    account_id, today = settings.broker.account_id, reading.day
    unresolved = tuple(order.plan for order in reader.unresolved_orders())
    unseen = tuple(order.plan for order in unseen_orders(reader, reading.positions, reading.closed))
    day, new_day, day_unknown = reader.account_day(today.day, account_id), None, ""
    if day is None:
        found = start_of_day(reading, rules, account_id, is_complete=not unseen)
        if isinstance(found, AccountDay):
            day = new_day = found
        else:
            day_unknown = found
    reads, writes = reader.requests(today.day)
    short, total = days.held_short(reading.closed, rules.hold.seconds_min)
    account = AccountView(
        account_id=account_id,
        currency=reading.balance.currency,
        balance_cents=reading.balance.balance_cents,
        equity_cents=reading.balance.equity_cents,
        free_margin_cents=reading.balance.free_margin_cents,
        figures_at_s=reading.figures_at_s,
        day=day,
        positions=tuple(
            sizing.position_risk(
                position,
                contract=_contract(reading.instruments.get(position.symbol)),
                quotes=reading.quotes,
                account_currency=reading.balance.currency,
                costs=costs(settings, rules),
            )
            for position in reading.positions
        ),
        unresolved=(*unresolved, *unseen),
        realised_today_cents=_realised_cents(reading, day),
        trades_short=short,
        trades_total=total,
        requests_used=reads + writes + reading.requests_used,
        halts=tuple(reader.halts(iso(reading.now))),
    )
    return View(account=account, reading=reading, new_day=new_day, day_unknown=day_unknown)


def start_of_day(reading: Reading, rules: RuleSet, account_id: str, *, is_complete: bool) -> AccountDay | str:
    """Return what the firm's day started with, rebuilt from the balance and the history, or why it cannot be said.

    `is_complete` is False while a position of ours is neither open nor in the history: its row is still to come.
    """
    if not reading.is_settled:
        return "the balance changed while the history was read"
    if not is_complete:
        return "a position is neither open nor in the history yet"
    start_cents = days.start_balance_cents(
        reading.balance.balance_cents,
        starts_at=reading.day.starts_at,
        closed=reading.closed,
        open_positions=reading.positions,
        commission_booked=rules.costs.commission_booked,
    )
    if start_cents <= 0:
        return f"rebuilding gave a balance of {start_cents} cents"
    return AccountDay(
        account_id=account_id,
        day=reading.day.day,
        starts_at=iso(reading.day.starts_at),
        ends_at=iso(reading.day.ends_at),
        start_balance_cents=start_cents,
        initial_balance_cents=rules.account.initial_balance_cents,
        created_at=iso(reading.now),
    )


async def record_day(view: View, link: Asker, reader: Reader, *, deadline_s: float | None = None) -> View:
    """Have the store keep a day's start that was rebuilt just now; return the view with the day that stands.

    The first start of a day stands, whoever sent it. Without one in the store the day stays unknown.

    Raises:
        NoAnswer: the store did not answer within `deadline_s`.
    """
    if view.new_day is None:
        return view
    await link.ask(messages.StartDay(day=view.new_day), deadline_s)
    stands = reader.account_day(view.new_day.day, view.new_day.account_id)
    if stands is None:
        logger.error("The store did not keep the start of day {}", view.new_day.day)
    account = msgspec.structs.replace(
        view.account, day=stands, realised_today_cents=_realised_cents(view.reading, stands)
    )
    return msgspec.structs.replace(view, account=account, new_day=None)


def trade_facts(view: View, plan: OrderPlan, intent: TradeIntent, *, settings: Settings, clock: Clock) -> TradeFacts:
    """Return what the guard needs beside plan and account. Call it right before the guard: it takes the time.

    Raises:
        KeyError: the plan's symbol is not among the instruments of the view.
    """
    now = clock.now()
    instrument, quotes = view.reading.instruments[plan.symbol], view.reading.quotes
    # A quote that is ahead of us is as suspicious as an old one: the one furthest away counts.
    ages_s = [(now - quote.at).total_seconds() for quote in quotes.values()]
    return TradeFacts(
        now=now,
        monotonic_s=clock.monotonic(),
        quote_age_s=max(ages_s, key=abs) if plan.symbol in quotes else None,
        quote_age_s_max=settings.executor.quote_age_s_max,
        session_open=instrument.session_open,
        expires_at=parse(intent.expires_at) if intent.expires_at else None,
        volume_min=instrument.volume_min,
        volume_max=instrument.volume_max,
        volume_step=instrument.volume_step,
        margin_cents=sizing.margin_cents(plan.volume, instrument, quotes, view.account.currency),
    )


def unseen_orders(reader: Reader, positions: Iterable[Position], closed: Iterable[ClosedPosition]) -> tuple[Order, ...]:
    """Return the orders of opened intents whose position is neither open nor in the history.

    A list can lag the event: such a position counts like an order with an unknown outcome, not like nothing.
    """
    seen = {position.id for position in positions} | {row.id for row in closed}
    missing = [intent for intent in reader.active_positions() if intent.position_id not in seen]
    found = (reader.order(intent.id) for intent in missing)
    return tuple(order for order in found if order is not None)


def _realised_cents(reading: Reading, day: AccountDay | None) -> int:
    """Return the day's closed profit: what the history says or what the balance gained, whichever is more.

    The history may lag by seconds, the balance may hold a withdrawal; more profit is the stricter reading.
    """
    by_rows = days.realised_cents(reading.closed, reading.day.starts_at)
    return by_rows if day is None else max(by_rows, reading.balance.balance_cents - day.start_balance_cents)


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
