"""Daily and maximum loss limits: floors, room and the ladder of levels. Pure; used by executor and monitor.

All money is in cents. Floors and levels are rounded up to the cent, so that rounding never gives room away; a level is
reached at equality. Source of the conventions: docs/decisions.md.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from enum import IntEnum
from typing import Literal

from msgspec import Struct

from actors.compliance.rulebook import MeasuredOn, RuleSet

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
    """One loss limit: `amount_cents` (exact, may hold parts of a cent) below `reference_cents`."""

    name: Literal["daily", "maximum"]
    reference_cents: int
    amount_cents: Decimal
    stop_ratio: Decimal
    flatten_ratio: Decimal
    measured_on: MeasuredOn

    @property
    def floor_cents(self) -> int:
        """Return the value that is a breach when reached."""
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
        ladder = (*WARN_RATIOS, self.stop_ratio, self.flatten_ratio, Decimal(1))
        reached = [value_cents <= self.at_ratio_cents(ratio) for ratio in ladder]
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


def daily(rules: RuleSet, start_balance_cents: int) -> Limit:
    """Return the day's limit. Its floor is set anew each day and can be lower than yesterday's."""
    return Limit(
        name="daily",
        reference_cents=start_balance_cents,
        amount_cents=rules.daily.ratio * start_balance_cents,
        stop_ratio=rules.safety.stop_ratio,
        flatten_ratio=rules.safety.flatten_ratio,
        measured_on=rules.daily.measured_on,
    )


def maximum(rules: RuleSet) -> Limit:
    """Return the maximum limit. Its floor never moves down."""
    initial_cents = rules.account.initial_balance_cents
    return Limit(
        name="maximum",
        reference_cents=initial_cents,
        amount_cents=rules.maximum.ratio * initial_cents,
        stop_ratio=rules.safety.stop_ratio,
        flatten_ratio=rules.safety.flatten_ratio,
        measured_on=rules.maximum.measured_on,
    )


def measured_cents(balance_cents: int, equity_cents: int, measured_on: MeasuredOn) -> int:
    """Return the value that a limit looks at."""
    return equity_cents if measured_on == "equity" else min(balance_cents, equity_cents)
