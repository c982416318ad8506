"""Daily and maximum loss limits: floors, room and the ladder of levels. Pure; used by executor and monitor.

All money is in cents. Floors and levels are rounded up to the cent, so that rounding never gives room away; a level is
reached at equality. Source of the conventions: docs/decisions.md.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from enum import IntEnum
from typing import Literal

import msgspec
from msgspec import Struct

from actors.compliance import day as firm_day
from actors.compliance import marks as trailing
from actors.compliance.money import amount
from actors.compliance.rulebook import MeasuredOn, RuleSet
from bus.records import AccountDay, AccountMark

WARN_RATIOS = (Decimal("0.50"), Decimal("0.80"))
HYSTERESIS_RATIO = Decimal("0.05")


class Level(IntEnum):
    """How much of a limit is used up. Higher is worse; the names are what the database and the log say."""

    OK = 0
    WARN_50 = 1
    WARN_80 = 2
    STOP = 3  # no new orders
    FLATTEN = 4  # every position is closed
    BREACH = 5

    @property
    def label(self) -> str:
        """Return the name as the database says it: `ok`, `warn_50`, `warn_80`, `stop`, `flatten`, `breach`."""
        return self.name.lower()


class Limit(Struct, frozen=True, kw_only=True):
    """One loss limit: `amount_cents` (exact, may hold parts of a cent) below `reference_cents`.

    `name` is `daily <reset label>`, `next_day`, `maximum` or `next_maximum`. `breach_at` tells whether reaching the
    floor is a breach already; whatever is done before that is the same for both.
    """

    name: str
    reference_cents: int
    amount_cents: Decimal
    stop_ratio: Decimal
    flatten_ratio: Decimal
    measured_on: MeasuredOn
    breach_at: Literal["reach", "below"] = "reach"
    rises: bool = False  # the reference may still rise before the worst comes: of the next day, or of what trails

    @property
    def floor_cents(self) -> int:
        """Return the value that is a breach when reached, or, with `below`, the last one that is none."""
        return self.at_ratio_cents(Decimal(1))

    @property
    def stop_cents(self) -> int:
        """Return the value that every worst case must stay strictly above: floor + (1 - stop_ratio) x amount."""
        return self.at_ratio_cents(self.stop_ratio)

    def at_ratio_cents(self, ratio: Decimal) -> int:
        """Return the value at which this part of the limit is used up, rounded up to the cent."""
        return int((self.reference_cents - ratio * self.amount_cents).to_integral_value(ROUND_CEILING))

    def loss_cents(self, value_cents: int) -> int:
        """Return the loss against this limit. Never negative."""
        return max(0, self.reference_cents - value_cents)

    def room_cents(self, value_cents: int) -> int:
        """Return how much may still be lost before the floor. Never negative."""
        return max(0, value_cents - self.floor_cents)

    def level(self, value_cents: int) -> Level:
        """Return the highest level reached by this value, equality included."""
        ladder = (*WARN_RATIOS, self.stop_ratio, self.flatten_ratio)
        is_breach = value_cents < self.floor_cents + (self.breach_at == "reach")
        reached = [*(value_cents <= self.at_ratio_cents(ratio) for ratio in ladder), is_breach]
        return Level(max((step for step, hit in enumerate(reached, start=1) if hit), default=0))

    def next_level(self, value_cents: int, before: Level) -> Level:
        """Return the level for events: it rises at once and falls only 5% of the limit below the step it leaves.

        Without this a value that swings around a step would report it again and again.
        """
        now = self.level(value_cents)
        if now >= before:
            return now
        margin = int((HYSTERESIS_RATIO * self.amount_cents).to_integral_value(ROUND_CEILING))
        return max(now, min(before, self.level(value_cents - margin)))


def lines(
    rules: RuleSet,
    *,
    days: tuple[AccountDay, ...],
    marks: tuple[AccountMark, ...],
    balance_cents: int,
    equity_cents: int,
) -> tuple[Limit, ...] | str:
    """Return every loss limit that counts now, or why one of them cannot be said.

    In this order: `daily <reset>` for each reading of the reset, `next_day` (the daily limit if the day turned now),
    `maximum`, and `next_maximum` (the maximum if the day ended now) where it trails the day's end. The daily ones
    are missing when there is no daily limit. `days` are the days that hold now.
    """
    found: list[Limit] = []
    if rules.daily.kind != "none":
        by_reset = {day.reset: day for day in days}
        for moment in firm_day.readings(rules):
            if (day := by_reset.get(moment.label)) is None:
                return f"what the day by {moment.label} started with is not known"
            if day.initial_balance_cents != rules.account.initial_balance_cents:
                kept, said = amount(day.initial_balance_cents), amount(rules.account.initial_balance_cents)
                return f"day {day.day} was kept for an initial balance of {kept}; the rules say {said}"
            found.append(daily(rules, day.reference_cents, name=f"daily {moment.label}"))
        next_cents = next_reference_cents(rules, balance_cents, equity_cents)
        found.append(msgspec.structs.replace(daily(rules, next_cents, name="next_day"), rises=True))
    kind = trailing.kind_of(rules)
    if kind is None:
        return (*found, maximum(rules))
    mark = next((mark for mark in marks if mark.kind == kind), None)
    if mark is None:
        return f"the highest {kind} so far, which the maximum loss trails, is not known"
    present_cents = {"closed_balance": balance_cents, "equity": equity_cents}.get(kind, mark.value_cents)
    reference_cents = max(mark.value_cents, present_cents)
    found.append(maximum(rules, reference_cents))
    if kind == "day_end_balance":
        found.append(maximum(rules, max(reference_cents, balance_cents), name="next_maximum"))
    return tuple(found)


def next_reference_cents(rules: RuleSet, balance_cents: int, equity_cents: int) -> int:
    """Return what the daily loss would be counted from if the day turned now."""
    return balance_cents if rules.daily.reference == "balance" else max(balance_cents, equity_cents)


def daily(rules: RuleSet, reference_cents: int, name: str = "daily") -> Limit:
    """Return the day's limit, counted down from the reference. Its floor is set anew each day and can fall then."""
    base_cents = rules.account.initial_balance_cents if rules.daily.base == "initial" else reference_cents
    return Limit(
        name=name,
        reference_cents=reference_cents,
        amount_cents=rules.daily.ratio * base_cents,
        stop_ratio=rules.safety.stop_ratio,
        flatten_ratio=rules.safety.flatten_ratio,
        measured_on=rules.daily.measured_on,
        breach_at=rules.daily.breach_at,
    )


def maximum(rules: RuleSet, highest_cents: int | None = None, name: str = "maximum") -> Limit:
    """Return the maximum limit, counted from the highest value so far or (None, static) from the initial balance.

    Its floor never moves down: a mark only rises. With `lock_at` = initial it rises no further than to the initial
    balance; parts of a cent are rounded up there, too.
    """
    initial_cents = rules.account.initial_balance_cents
    amount_cents = rules.maximum.ratio * initial_cents
    # No mark below the initial balance: the account was worth that once.
    reference_cents = initial_cents if highest_cents is None else max(highest_cents, initial_cents)
    if rules.maximum.lock_at == "initial":
        reference_cents = min(reference_cents, int((initial_cents + amount_cents).to_integral_value(ROUND_CEILING)))
    return Limit(
        name=name,
        reference_cents=reference_cents,
        amount_cents=amount_cents,
        stop_ratio=rules.safety.stop_ratio,
        flatten_ratio=rules.safety.flatten_ratio,
        measured_on=rules.maximum.measured_on,
        breach_at=rules.maximum.breach_at,
        rises=highest_cents is not None,
    )


def measured_cents(balance_cents: int, equity_cents: int, measured_on: MeasuredOn) -> int:
    """Return the value that a limit looks at."""
    return equity_cents if measured_on == "equity" else min(balance_cents, equity_cents)
