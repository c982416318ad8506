"""The single gate before every order: all rules, all checks, all recorded. Pure; run by the executor.

Every check runs, in a fixed order, whether or not an earlier one failed. What is missing, stale or impossible
refuses; the guard never passes for lack of knowledge. It reads nothing itself and changes nothing. The checks stand in
`checks_account`, `checks_order` and `checks_limits`.
"""

from __future__ import annotations

from collections.abc import Callable

from actors.compliance import checks_account, checks_limits, checks_order
from actors.compliance.account import AccountView
from actors.compliance.case import Case, Check, GuardResult, TradeFacts
from actors.compliance.rulebook import RuleSet
from bus.records import OrderPlan

__all__ = ["CHECKS", "Case", "Check", "GuardResult", "TradeFacts", "check_all"]

CHECKS: tuple[Callable[[Case], Check], ...] = (
    checks_account.currency,
    checks_account.figures_fresh,
    checks_order.quote_fresh,
    checks_order.bars_fresh,
    checks_order.session_open,
    checks_account.halted,
    checks_order.intent_expired,
    checks_account.rules_current,
    checks_account.attested,
    checks_account.day_known,
    checks_account.account_sane,
    checks_order.stop_side,
    checks_order.volume,
    checks_account.position_without_stop,
    checks_account.unresolved,
    checks_account.positions,
    checks_account.lots,
    checks_limits.daily_drawdown,
    checks_limits.next_day_drawdown,
    checks_limits.max_drawdown,
    checks_limits.next_max_drawdown,
    checks_limits.peak_drawdown,
    checks_limits.best_day,
    checks_account.min_hold_share,
    checks_order.margin,
    checks_order.flat,
    checks_order.news,
    checks_account.requests,
)


def check_all(
    plan: OrderPlan,
    account: AccountView,
    rules: RuleSet,
    facts: TradeFacts,
    checks: tuple[Callable[[Case], Check], ...] = CHECKS,
) -> GuardResult:
    """Return whether this order may be sent now. Source: docs/compliance.md and the rule set's own sources."""
    case = Case(plan=plan, account=account, rules=rules, facts=facts)
    found = tuple(check(case) for check in checks)
    failed = next((check for check in found if not check.passed), None)
    return GuardResult(
        passed=failed is None,
        rule=failed.name if failed else None,
        reason=f"{failed.name}: {failed.text}" if failed else "all checks passed",
        checks=found,
    )
