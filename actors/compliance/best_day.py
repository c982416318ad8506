"""The best-day rule: how much profit one day may have. Pure; used by executor and monitor. All money is in cents.

Scope `cap`: no day above ratio x profit target. Exactly the cap is within the rule; our own stop and flatten levels
lie below.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal

from actors.compliance.account import AccountView
from actors.compliance.rulebook import RuleSet

NEAR_RATIO = Decimal("0.80")


def stop_cents(rules: RuleSet) -> int:
    """Return the profit of a day beyond which no order passes: stop_ratio x cap, rounded down."""
    return _part_cents(rules, rules.safety.stop_ratio)


def flatten_cents(rules: RuleSet) -> int:
    """Return the profit of a day at which every position is closed: flatten_ratio x cap, rounded down."""
    return _part_cents(rules, rules.safety.flatten_ratio)


def near_cents(rules: RuleSet) -> int:
    """Return the profit of a day from which on it is worth asking for the history: 80% of the cap, rounded down."""
    return _part_cents(rules, NEAR_RATIO)


def highest_cents(account: AccountView, order_profit_cents: int) -> int:
    """Return the highest profit the day can end with: all targets hit, no stop, every unresolved order exists."""
    positions_cents = sum(max(0, position.profit_at_target_cents) for position in account.positions)
    unresolved_cents = sum(profit_cents_of(plan.profit_cents, plan.loss_cents) for plan in account.unresolved)
    return account.realised_today_cents + positions_cents + unresolved_cents + max(0, order_profit_cents)


def profit_cents_of(profit_cents: int, loss_cents: int, *, has_target: bool = True) -> int:
    """Return what an order counts against the best day. Without a target: twice its risk, at least."""
    return max(0, profit_cents) if has_target else max(0, profit_cents, 2 * loss_cents)


def _part_cents(rules: RuleSet, ratio: Decimal) -> int:
    return int((ratio * rules.best_day_cap_cents()).to_integral_value(ROUND_FLOOR))
