"""The best-day rule: how much profit one day may have. Pure; used by executor and monitor. All money is in cents.

By scope, with `ratio` and `target` of the rule set (the lowest target of its phases, since nobody tells us the phase):
- `cap`: no day above ratio x target. Source: blueprint section 14; $1,600 on $50,000.
- `evaluation_share`: when the target is reached, no day above ratio x total profit, net of losing days. A day within
  ratio x target is within that share for certain; a larger total allows more. Source: FTMO 1-Step, facts of the set.
- `raises_target`: a day above ratio x target raises the target. The same bound keeps it where it is.
- `payout_share`: the same share when a payout is asked for. Recorded, never refused: it is no breach but a reason to
  wait with the payout, and only more profit on other days cures it, which a refusal would prevent.
Exactly the ratio is within the rule; our own stop and flatten levels lie below.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal

from actors.compliance.account import AccountView
from actors.compliance.rulebook import RuleSet

NEAR_RATIO = Decimal("0.80")


def cap_cents(rules: RuleSet) -> int:
    """Return ratio x target, by the phase with the lowest target, rounded down."""
    return min(rules.best_day_cap_cents(phase) for phase in range(len(rules.target.ratios)))


def stop_cents(rules: RuleSet) -> int:
    """Return the profit of a day beyond which no order passes: stop_ratio x cap, rounded down."""
    return _part_cents(rules, rules.safety.stop_ratio)


def flatten_cents(rules: RuleSet) -> int:
    """Return the profit of a day at which every position is closed: flatten_ratio x cap, rounded down."""
    return _part_cents(rules, rules.safety.flatten_ratio)


def near_cents(rules: RuleSet) -> int:
    """Return the profit of a day from which on it is worth asking for the history: 80% of the cap, rounded down."""
    return _part_cents(rules, NEAR_RATIO)


def allowed_cents(rules: RuleSet, total_cents: int) -> int | None:
    """Return the profit that a day may end with at most, or None when nothing is refused for it.

    `total_cents` is all profit since the beginning, net of losing days, today's included.
    """
    scope = rules.best_day.scope
    if scope in ("none", "payout_share"):
        return None
    if scope == "cap":
        return stop_cents(rules)
    share = rules.safety.stop_ratio * rules.best_day.ratio * total_cents
    return max(stop_cents(rules), int(share.to_integral_value(ROUND_FLOOR)))


def highest_cents(account: AccountView, order_profit_cents: int) -> int:
    """Return the highest profit a day can end with: all targets hit, no stop, every order filled that may be.

    By the reading of the reset with the most profit so far. A loss so far makes no room: positions may be carried over
    the reset and hit their targets in a day that begins with nothing.
    """
    realised_cents = max((view.realised_cents for view in account.days), default=0)
    positions_cents = sum(max(0, position.profit_at_target_cents) for position in account.positions)
    pending_cents = sum(max(0, order.profit_cents) for order in account.pending)
    unresolved_cents = sum(
        profit_cents_of(plan.profit_cents, plan.loss_cents, has_target=plan.tp_price != 0)
        for plan in account.unresolved
    )
    return max(0, realised_cents) + positions_cents + pending_cents + unresolved_cents + max(0, order_profit_cents)


def profit_cents_of(profit_cents: int, loss_cents: int, *, has_target: bool = True) -> int:
    """Return what an order counts against the best day. Without a target: twice its risk, at least."""
    return max(0, profit_cents) if has_target else max(0, profit_cents, 2 * loss_cents)


def _part_cents(rules: RuleSet, ratio: Decimal) -> int:
    return int((ratio * cap_cents(rules)).to_integral_value(ROUND_FLOOR))
