"""What a day whose start is not known began with at least, so that what is open is watched all the same.

Library of the monitor. In memory only and never told the store: no order may rest on it. It holds no figure that can be
above the firm's own, for with such a one everything would be closed for nothing; what is left is dropped as soon as the
true start is known. Source: docs/decisions.md, "Unknown is strict for the monitor".
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from actors.compliance import day as firm_day
from actors.compliance import marks as trailing
from actors.compliance.day import FirmDay
from actors.compliance.money import amount
from actors.compliance.rulebook import RuleSet
from actors.desk.days import SEEN_S, Days, Kept
from bus.clock import iso, parse
from bus.records import AccountDay, AccountMark, EquitySample

CLOSE_S = trailing.UNWATCHED_S_MAX  # two looks so far apart hide no results on both sides of a reset
APART_MAX = timedelta(days=1)


class Glance(Struct, frozen=True, kw_only=True):
    """What the account was at one moment."""

    at: datetime
    balance_cents: int
    equity_cents: int
    positions: int


class Provisional:
    """Remembers the last look, and the least that days and their ends can have had. One account, one monitor."""

    def __init__(self, rules: RuleSet, account_id: str) -> None:
        self._rules = rules
        self._account_id = account_id
        self._last: Glance | None = None
        self._days: dict[tuple[str, str], AccountDay] = {}  # by day and reading
        self._day_end_cents = 0  # the highest balance at a reset while the mark is not known

    @property
    def has_looked(self) -> bool:
        return self._last is not None

    def begin(self, sample: EquitySample | None, kept: Kept) -> None:
        """Take the store's last sample for the last look, if it is of a day that this account had."""
        if sample is None or not any(day.starts_at <= sample.at < day.ends_at for day in kept.days):
            return
        self._last = Glance(
            at=parse(sample.at),
            balance_cents=sample.balance_cents,
            equity_cents=sample.equity_cents,
            positions=sample.positions,
        )

    def look(self, now: Glance) -> None:
        """Remember a look. The first one after a reset says what the new day began with at least."""
        before, self._last = self._last, now
        if before is None:
            return
        for day in firm_day.firm_days(self._rules, now.at):
            if before.at < day.starts_at and (rise_cents := _rise(before, now)) is not None:
                is_seen = (now.at - day.starts_at).total_seconds() <= SEEN_S
                equity_cents = now.equity_cents - rise_cents if is_seen else 0
                self._keep(day, now.balance_cents - rise_cents, equity_cents, now.at)

    def days(self, found: Days, now: datetime) -> tuple[AccountDay, ...]:
        """Return the days that hold now and are not known, as they are watched by. Empty when all are known."""
        current = firm_day.firm_days(self._rules, now)
        for day, least_cents in found.at_least.items():
            if day in current and least_cents > 0:
                self._keep(day, least_cents, 0, now)
        # A true start replaces the provisional one, and stands in for itself should the store not have got it.
        known = {(view.day.day, view.day.reset): view.day for view in found.known}
        kept = self._days | known
        self._days = {key: kept[key] for day in current if (key := (day.day, day.reset)) in kept}
        return tuple(day for key, day in self._days.items() if key not in known)

    def marks(self, found: Days, stored: Iterable[AccountMark]) -> tuple[AccountMark, ...]:
        """Return the marks to judge by: while one is not known, what the store has of it, and day ends since."""
        kind = trailing.kind_of(self._rules)
        if not found.unknown:
            self._day_end_cents = 0
            return found.marks
        of_kind = [mark for mark in (*stored, *found.marks) if mark.kind == kind]
        if not of_kind:
            return found.marks
        mark = max(of_kind, key=lambda one: one.value_cents)
        if kind == "day_end_balance":
            mark = msgspec.structs.replace(mark, value_cents=max(mark.value_cents, self._day_end_cents))
        return (*(other for other in found.marks if other.kind != kind), mark)

    def _keep(self, day: FirmDay, balance_cents: int, equity_cents: int, now: datetime) -> None:
        """Keep the highest start found of a day: each one is a least, so that the highest says most."""
        self._day_end_cents = max(self._day_end_cents, balance_cents)
        reference_cents = balance_cents
        if self._rules.daily.reference != "balance":
            reference_cents = max(balance_cents, equity_cents)
        before = self._days.get((day.day, day.reset))
        if before is not None and before.reference_cents >= reference_cents:
            return
        self._days[day.day, day.reset] = AccountDay(
            account_id=self._account_id,
            day=day.day,
            reset=day.reset,
            starts_at=iso(day.starts_at),
            ends_at=iso(day.ends_at),
            start_balance_cents=balance_cents,
            reference_cents=reference_cents,
            initial_balance_cents=self._rules.account.initial_balance_cents,
            created_at=iso(now),
            note="provisional",
        )


def text_of(days: tuple[AccountDay, ...]) -> str:
    """Return what people are told of provisional days; empty without any."""
    if not days:
        return ""
    starts = ", ".join(f"{amount(day.reference_cents)} ({day.reset})" for day in days)
    return f"; limits are watched by a provisional start of {starts}, and nothing is opened"


def _rise(before: Glance, now: Glance) -> int | None:
    """Return by how much the balance may have risen since a reset between two looks; None: cannot be said.

    The lower of both balances was there at the reset if at most one position was closed in between. Where more may
    have been, or the looks are far apart, losses before it and gains after it could hide each other.
    """
    apart = now.at - before.at
    if apart > APART_MAX:
        return None
    rise_cents = now.balance_cents - before.balance_cents
    is_close = apart.total_seconds() <= CLOSE_S and before.positions - now.positions <= 1
    return max(0, rise_cents) if is_close or rise_cents == 0 else None
