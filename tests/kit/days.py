"""An account whose whole life is known, the broker's view of it, and a system that looks at it now and then.

The figures are added up forwards, from the initial balance; the product works backwards from the balance now.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from actors.broker.wire import ClosedPosition, Position
from actors.compliance.rulebook import Moment, RuleSet
from actors.desk import days
from actors.desk.days import Days, Kept
from bus.records import AccountDay
from tests.kit.compliance import ACCOUNT_ID, a_position, a_row, the_rules

INITIAL_CENTS = 5_000_000
NEW_YORK = Moment(time="17:00", tz="America/New_York")


def rules_with(**tables: dict[str, Any]) -> RuleSet:
    """Return the default rules with some values changed, by table. One reading of the reset unless `also` is given."""
    changed: dict[str, dict[str, Any]] = {"reset": {"also": ()}}
    for name, values in tables.items():
        changed[name] = {**changed.get(name, {}), **values}
    rules = the_rules()
    return msgspec.structs.replace(
        rules,
        **{name: msgspec.structs.replace(getattr(rules, name), **values) for name, values in changed.items()},
    )


class Leg(Struct, frozen=True, kw_only=True):
    """One closing of a position, whole or partial. Commission is 0 or below."""

    closed_at: datetime
    gross_cents: int
    commission_cents: int


class Trade(Struct, frozen=True, kw_only=True):
    """One position; its legs close all of it."""

    id: str
    opened_at: datetime
    legs: tuple[Leg, ...]


class Life(Struct, frozen=True, kw_only=True):
    """All that ever happens on an account. `flows` are deposits and withdrawals."""

    trades: tuple[Trade, ...] = ()
    booked: str = "close"
    flows: tuple[tuple[datetime, int], ...] = ()
    initial_cents: int = INITIAL_CENTS

    def bookings(self) -> list[tuple[datetime, int]]:
        found = list(self.flows)
        for trade in self.trades:
            for leg in trade.legs:
                at = trade.opened_at if self.booked == "open" else leg.closed_at
                found += [(at, leg.commission_cents), (leg.closed_at, leg.gross_cents)]
        return found

    def balance_cents(self, now: datetime, *, with_now: bool = True) -> int:
        """Return the balance with all that is stamped up to now; `with_now` False: before what is stamped at now."""
        done = [cents for at, cents in self.bookings() if at < now or (with_now and at == now)]
        return self.initial_cents + sum(done)

    def held(self, now: datetime) -> tuple[Position, ...]:
        found = []
        for trade in self.trades:
            left = [leg for leg in trade.legs if leg.closed_at > now]
            if trade.opened_at <= now and left:
                commission_cents = sum(leg.commission_cents for leg in left)
                found.append(a_position(id=trade.id, opened_at=trade.opened_at, commission_cents=commission_cents))
        return tuple(found)

    def rows(self, since: datetime, now: datetime, rng: random.Random | None = None) -> tuple[ClosedPosition, ...]:
        """Return the history, in any order and with doubled rows if `rng` is given."""
        rows = [
            a_row(
                id=trade.id, opened_at=trade.opened_at, closed_at=leg.closed_at, profit_cents=leg.gross_cents,
                commission_cents=leg.commission_cents, net_profit_cents=leg.gross_cents + leg.commission_cents,
            )
            for trade in self.trades for leg in trade.legs if since <= leg.closed_at <= now
        ]  # fmt: skip
        if rng is not None and rows:
            rows += [msgspec.structs.replace(row) for row in rng.sample(rows, k=len(rows) // 2)]
            rng.shuffle(rows)
        return tuple(rows)


class Watcher:
    """A system with its store: looks at the account, keeps what it finds."""

    def __init__(self, rules: RuleSet, life: Life, rng: random.Random | None = None) -> None:
        self.rules, self.life, self.rng = rules, life, rng
        self.kept = Kept(account_id=ACCOUNT_ID)

    def look(self, now: datetime, *, floating_cents: int = 0, **changed: Any) -> Days:
        """Look once and keep what was found."""
        since = days.history_since(self.rules, now=now, kept=self.kept)
        balance_cents = self.life.balance_cents(now)
        given: dict[str, Any] = {
            "balance_cents": balance_cents,
            "equity_cents": balance_cents + floating_cents,
            "positions": self.life.held(now),
            "closed": self.life.rows(since, now, self.rng),
            "since": since,
        }
        found = days.assess(self.rules, kept=self.kept, now=now, **{**given, **changed})
        self.keep(found)
        return found

    def keep(self, found: Days) -> None:
        """Do what the store does: the first start of a day stands, marks never fall."""
        if found.record is not None:
            self.add_days((*found.record.earlier, found.record.day))
        marks = {mark.kind: mark for mark in (*self.kept.marks, *found.marks)}
        self.kept = msgspec.structs.replace(self.kept, marks=tuple(marks.values()))

    def add_days(self, new: Iterable[AccountDay]) -> None:
        known = {(day.reset, day.day) for day in self.kept.days}
        fresh = tuple(day for day in new if (day.reset, day.day) not in known)
        self.kept = msgspec.structs.replace(self.kept, days=(*self.kept.days, *fresh))

    @property
    def starts(self) -> dict[tuple[str, str], int]:
        return {(day.reset, day.day): day.start_balance_cents for day in self.kept.days}

    @property
    def peak_cents(self) -> int | None:
        return self.kept.marks[0].value_cents if self.kept.marks else None
