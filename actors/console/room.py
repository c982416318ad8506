"""How much room the account has to each of its limits, in money and percent, from the store's records alone.

Used by pilot, the page, the figures and the alerts: `of` returns values, prints nothing and asks no broker. The figures
are the gate's own functions over the newest reading of the account, so they are as old as that reading: see `age_s`.
Never decides whether a trade passes: the guard reads the account anew for that.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from actors.compliance import best_day, budget
from actors.compliance import day as firm_days
from actors.compliance import marks as trailing
from actors.compliance.rulebook import RuleSet
from actors.watch import ladder
from actors.watch.ladder import Standing
from bus.clock import iso, parse
from bus.records import AccountDay, EquitySample
from store.queries import Reader


class LimitRoom(Struct, frozen=True, kw_only=True):
    """One loss limit now. `room_cents` is what may still be lost before its floor, never negative.

    `used_percent` is the loss in percent of the limit, rounded down; `stop_cents` is the value below which no order
    passes, `flatten_cents` the one at which everything is closed. `ends_at` is the day's end, None for the maximum.
    """

    name: str
    kind: str  # daily or maximum
    reference_cents: int
    limit_cents: int
    floor_cents: int
    stop_cents: int
    flatten_cents: int
    value_cents: int
    loss_cents: int
    room_cents: int
    used_percent: int
    level: str
    ends_at: str | None


class BestDay(Struct, frozen=True, kw_only=True):
    """The day's profit against the best-day rule: equity less the day's start balance, by the highest reading.

    `stop_cents` is the profit beyond which no order passes; None: nothing is refused for it (`scope`).
    """

    scope: str
    profit_cents: int
    stop_cents: int | None
    cap_cents: int | None
    room_cents: int | None


class Budget(Struct, frozen=True, kw_only=True):
    """The requests to the broker of one day, by the reading of the reset that has used most. Granted counts as used."""

    day: str
    reads: int
    writes: int
    per_day: int
    reserve: int
    writes_per_day: int
    left: int  # the reserve taken off
    resets_at: str


class Room(Struct, frozen=True, kw_only=True):
    """The account against its rules. Without a reading of it (`at` None) there are no limits.

    `unknown` says what cannot be said, one sentence each; `narrowest` is the limit with least room, None without any.
    """

    account_id: str
    rules: str
    currency: str
    at: str | None
    age_s: int | None
    balance_cents: int | None
    equity_cents: int | None
    margin_cents: int | None
    limits: tuple[LimitRoom, ...]
    narrowest: LimitRoom | None
    best_day: BestDay | None
    budget: Budget
    unknown: tuple[str, ...]


def of(reader: Reader, rules: RuleSet, account_id: str, now: datetime) -> Room:
    """Return the room of one account under one rule set at `now`."""
    sample = reader.last_equity()
    days, unknown = _days(reader, rules, account_id, now)
    limits: tuple[LimitRoom, ...] = ()
    if sample is None:
        unknown.append("the account was not read yet")
    else:
        marks = tuple(reader.account_marks(account_id))
        kind = trailing.kind_of(rules)
        if kind is not None and not any(mark.kind == kind for mark in marks):
            unknown.append(f"the highest {kind} so far is not known: the maximum is counted from the initial balance")
        found = ladder.standings(
            rules, days=days, marks=marks, balance_cents=sample.balance_cents, equity_cents=sample.equity_cents
        )
        limits = tuple(_limit(standing) for standing in found)
    return Room(
        account_id=account_id,
        rules=rules.name,
        currency=rules.account.currency,
        at=sample.at if sample else None,
        age_s=max(0, int((now - parse(sample.at)).total_seconds())) if sample else None,
        balance_cents=sample.balance_cents if sample else None,
        equity_cents=sample.equity_cents if sample else None,
        margin_cents=sample.margin_cents if sample else None,
        limits=limits,
        narrowest=min(limits, key=lambda one: one.room_cents, default=None),
        best_day=_best_day(rules, days, sample),
        budget=requests(reader, rules, now),
        unknown=tuple(unknown),
    )


def requests(reader: Reader, rules: RuleSet, now: datetime) -> Budget:
    """Return the requests of today, by the reading of the reset that has used most."""
    first, *others = firm_days.firm_days(rules, now)
    # As the store counts them: the usual reading under its date, every other one under its date and label.
    keys = [(first, first.day), *((day, f"{day.day} {day.reset}") for day in others)]
    day, key, (reads, writes) = max(
        ((day, key, reader.requests(key)) for day, key in keys), key=lambda one: sum(one[2])
    )  # fmt: skip
    limits = rules.requests
    return Budget(
        day=key,
        reads=reads,
        writes=writes,
        per_day=limits.per_day,
        reserve=limits.reserve,
        writes_per_day=limits.writes_per_day,
        left=budget.left(rules, reads + writes),
        resets_at=iso(day.ends_at),
    )


def _days(reader: Reader, rules: RuleSet, account_id: str, now: datetime) -> tuple[tuple[AccountDay, ...], list[str]]:
    """Return the days that hold now and are known, and a sentence for each reading whose day is not."""
    known, unknown = [], []
    for reading in firm_days.readings(rules):
        day = reader.account_day_at(account_id, reading.label, iso(now))
        if day is None:
            unknown.append(f"what the day by {reading.label} started with is not known")
        else:
            known.append(day)
    return tuple(known), unknown


def _limit(standing: Standing) -> LimitRoom:
    limit, value_cents = standing.limit, standing.value_cents
    limit_cents = int(limit.amount_cents)
    return LimitRoom(
        name=limit.name,
        kind=standing.kind,
        reference_cents=limit.reference_cents,
        limit_cents=limit_cents,
        floor_cents=limit.floor_cents,
        stop_cents=limit.stop_cents,
        flatten_cents=limit.at_ratio_cents(limit.flatten_ratio),
        value_cents=value_cents,
        loss_cents=standing.loss_cents,
        room_cents=limit.room_cents(value_cents),
        used_percent=100 * standing.loss_cents // max(1, limit_cents),
        level=standing.level.label,
        ends_at=None if standing.ends_at is None else iso(standing.ends_at),
    )


def _best_day(rules: RuleSet, days: tuple[AccountDay, ...], sample: EquitySample | None) -> BestDay | None:
    if sample is None or not days or rules.best_day.scope == "none":
        return None
    profit_cents = max(sample.equity_cents - day.start_balance_cents for day in days)
    # All profit so far is not in the store; without it the bound is the stricter one.
    stop_cents = best_day.allowed_cents(rules, 0)
    return BestDay(
        scope=rules.best_day.scope,
        profit_cents=profit_cents,
        stop_cents=stop_cents,
        cap_cents=best_day.cap_cents(rules),
        room_cents=None if stop_cents is None else max(0, stop_cents - profit_cents),
    )
