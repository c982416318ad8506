"""The single gate before every order: all rules, all checks, all recorded. Pure; run by the executor.

Every check runs, in a fixed order, whether or not an earlier one failed. What is missing, stale or impossible
refuses; the guard never passes for lack of knowledge. It reads nothing itself and changes nothing.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec
from msgspec import Struct

from actors.compliance import best_day, budget, drawdown, sizing
from actors.compliance.account import AccountView, worst_cents
from actors.compliance.conversion import NoRate
from actors.compliance.drawdown import Limit
from actors.compliance.money import amount
from actors.compliance.rulebook import RuleSet
from bus.clock import parse
from bus.records import OrderPlan

FIGURES_AGE_S_MAX = 15.0


class TradeFacts(Struct, frozen=True, kw_only=True):
    """What the guard needs beside plan and account. None: not known."""

    now: datetime
    monotonic_s: float  # the same moment on the clock that `figures_at_s` was read from
    quote_age_s: float | None  # age of the oldest quote the plan or the account was valued with
    quote_age_s_max: float
    session_open: bool
    expires_at: datetime | None
    volume_min: Decimal
    volume_max: Decimal
    volume_step: Decimal
    margin_cents: int | NoRate | None = None  # None: the leverage is not known, margin is left to the broker
    requests_needed: int = budget.REQUESTS_PER_TRADE


class Check(Struct, frozen=True, kw_only=True):
    """One rule's result: what was found, what is allowed, and a sentence for people."""

    name: str
    passed: bool
    limit: str
    found: str
    text: str


class GuardResult(Struct, frozen=True, kw_only=True):
    """The verdict. `rule` is the first check that failed, None when all passed."""

    passed: bool
    rule: str | None
    reason: str
    checks: tuple[Check, ...]

    def snapshot(self) -> str:
        """Return all checks as JSON, for `compliance_snapshot`."""
        return msgspec.json.encode(self).decode()


def check_all(plan: OrderPlan, account: AccountView, rules: RuleSet, facts: TradeFacts) -> GuardResult:
    """Return whether this order may be sent now. Source: blueprint section 14 and the rule set's own sources."""
    checks = (
        _currency(account, rules),
        _figures_fresh(account, facts),
        _quote_fresh(facts),
        _session_open(plan, facts),
        _halted(account, facts),
        _intent_expired(facts),
        _day_known(account, rules, facts),
        _stop_side(plan),
        _volume(plan, facts),
        _position_without_stop(account),
        _unresolved(plan, account),
        _positions(account, rules),
        _daily_drawdown(plan, account, rules),
        _next_day_drawdown(plan, account, rules),
        _max_drawdown(plan, account, rules),
        _best_day(plan, account, rules),
        _min_hold_share(account, rules),
        _margin(account, facts),
        _request_budget(account, rules, facts),
    )
    failed = next((check for check in checks if not check.passed), None)
    return GuardResult(
        passed=failed is None,
        rule=failed.name if failed else None,
        reason=f"{failed.name}: {failed.text}" if failed else "all checks passed",
        checks=checks,
    )


def _check(name: str, passed: bool, *, limit: object, found: object, text: str) -> Check:
    return Check(name=name, passed=passed, limit=str(limit), found=str(found), text=text)


def _currency(account: AccountView, rules: RuleSet) -> Check:
    wanted, found = rules.account.currency, account.currency
    return _check(
        "currency", found == wanted, limit=wanted, found=found, text=f"account in {found}, rules for {wanted}"
    )


def _figures_fresh(account: AccountView, facts: TradeFacts) -> Check:
    age_s = facts.monotonic_s - account.figures_at_s
    text = f"account figures are {age_s:.1f} s old, at most {FIGURES_AGE_S_MAX:.0f} s allowed"
    return _check("figures_fresh", 0 <= age_s <= FIGURES_AGE_S_MAX, limit=FIGURES_AGE_S_MAX, found=age_s, text=text)


def _quote_fresh(facts: TradeFacts) -> Check:
    age_s, allowed_s = facts.quote_age_s, facts.quote_age_s_max
    # A quote from the future is as unusable as an old one: one of the two clocks is wrong.
    fresh = age_s is not None and -allowed_s <= age_s <= allowed_s
    said = (
        "there is no quote"
        if age_s is None
        else f"the oldest quote is {age_s:.1f} s old, at most {allowed_s:g} s allowed"
    )
    return _check("quote_fresh", fresh, limit=allowed_s, found=age_s, text=said)


def _session_open(plan: OrderPlan, facts: TradeFacts) -> Check:
    found = "open" if facts.session_open else "closed"
    return _check(
        "session_open", facts.session_open, limit="open", found=found, text=f"the session of {plan.symbol} is {found}"
    )


def _halted(account: AccountView, facts: TradeFacts) -> Check:
    standing = [
        halt
        for halt in account.halts
        if halt.lifted_at is None and (halt.until is None or parse(halt.until) > facts.now)
    ]
    said = "; ".join(f"{halt.kind} halt {halt.id} since {halt.raised_at}: {halt.reason}" for halt in standing)
    return _check("halted", not standing, limit="no halt", found=len(standing), text=said or "no halt stands")


def _intent_expired(facts: TradeFacts) -> Check:
    expires_at = facts.expires_at
    said = (
        "the intent has no expiry" if expires_at is None else f"the intent expires at {expires_at}, now is {facts.now}"
    )
    return _check(
        "intent_expired",
        expires_at is not None and facts.now < expires_at,
        limit=expires_at,
        found=facts.now,
        text=said,
    )


def _day_known(account: AccountView, rules: RuleSet, facts: TradeFacts) -> Check:
    day = account.day
    if day is None:
        return _check(
            "day_known", False, limit="known", found="unknown", text="what the firm's day started with is not known"
        )
    within = parse(day.starts_at) <= facts.now < parse(day.ends_at)
    same = day.account_id == account.account_id
    initial = day.initial_balance_cents == rules.account.initial_balance_cents
    said = f"day {day.day} from {day.starts_at} to {day.ends_at} started with {amount(day.start_balance_cents)}"
    if not within:
        said += f", but now is {facts.now}"
    if not same:
        said += f", but belongs to account {day.account_id}"
    if not initial:
        said += f", but was recorded with an initial balance of {amount(day.initial_balance_cents)}"
    return _check("day_known", within and same and initial, limit="today's", found=day.day, text=said)


def _stop_side(plan: OrderPlan) -> Check:
    problem = sizing.wrong_side(plan.side, plan.entry_price, plan.sl_price, plan.tp_price)
    if not problem and plan.loss_cents <= 0:
        problem = f"a loss of {plan.loss_cents} cents at the stop is impossible"
    said = problem or f"stop {plan.sl_price} and target {plan.tp_price} are on their sides of {plan.entry_price}"
    return _check("stop_side", not problem, limit="protects", found=plan.sl_price, text=said)


def _volume(plan: OrderPlan, facts: TradeFacts) -> Check:
    low, high, step = facts.volume_min, facts.volume_max, facts.volume_step
    volume = plan.volume
    fits = volume.is_finite() and step > 0 and volume > 0 and low <= volume <= high and volume % step == 0
    said = f"{volume} lots; allowed {low} to {high} in steps of {step}"
    return _check("volume", fits, limit=f"{low}..{high} by {step}", found=volume, text=said)


def _position_without_stop(account: AccountView) -> Check:
    open_ended = [
        f"{position.symbol} {position.id}" for position in account.positions if position.loss_at_stop_cents is None
    ]
    said = f"no bound on the loss of {', '.join(open_ended)}" if open_ended else "every open position has a stop"
    return _check("position_without_stop", not open_ended, limit=0, found=len(open_ended), text=said)


def _unresolved(plan: OrderPlan, account: AccountView) -> Check:
    # A second order of the symbol could be taken for the first one. Others go on; they count against every limit.
    same = sum(1 for other in account.unresolved if other.symbol == plan.symbol)
    said = f"{same} order of {plan.symbol} with an unknown outcome, {len(account.unresolved)} in all"
    return _check("unresolved", same == 0, limit=0, found=same, text=said)


def _positions(account: AccountView, rules: RuleSet) -> Check:
    count, allowed = len(account.positions) + len(account.unresolved) + 1, rules.positions.open_max
    said = f"{len(account.positions)} open and {len(account.unresolved)} unresolved; with this one {count} of {allowed}"
    return _check("positions", count <= allowed, limit=allowed, found=count, text=said)


def _daily_drawdown(plan: OrderPlan, account: AccountView, rules: RuleSet) -> Check:
    if account.day is None:
        return _unknown_day("daily_drawdown")
    return _strictly_above("daily_drawdown", drawdown.daily(rules, account.day.start_balance_cents), plan, account)


def _next_day_drawdown(plan: OrderPlan, account: AccountView, rules: RuleSet) -> Check:
    # A position may be carried over the reset, and profit made today does not lower tomorrow's floor.
    return _strictly_above("next_day_drawdown", drawdown.daily(rules, account.balance_cents), plan, account)


def _max_drawdown(plan: OrderPlan, account: AccountView, rules: RuleSet) -> Check:
    return _strictly_above("max_drawdown", drawdown.maximum(rules), plan, account)


def _strictly_above(name: str, limit: Limit, plan: OrderPlan, account: AccountView) -> Check:
    worst = worst_cents(account, max(0, plan.loss_cents), limit.measured_on)
    if worst is None:
        text = "the worst case has no bound: a position has no stop that can be valued"
        return _check(name, False, limit=limit.stop_cents, found="unbounded", text=text)
    text = (
        f"worst case {amount(worst)}; must stay above {amount(limit.stop_cents)} "
        f"({limit.stop_ratio} of {amount(int(limit.amount_cents))} below {amount(limit.reference_cents)})"
    )
    return _check(name, worst > limit.stop_cents, limit=limit.stop_cents, found=worst, text=text)


def _best_day(plan: OrderPlan, account: AccountView, rules: RuleSet) -> Check:
    if account.day is None:
        return _unknown_day("best_day")
    order_cents = best_day.profit_cents_of(plan.profit_cents, plan.loss_cents, has_target=plan.tp_price != 0)
    highest, allowed = best_day.highest_cents(account, order_cents), best_day.stop_cents(rules)
    cap = amount(rules.best_day_cap_cents())
    text = f"the day could end with {amount(highest)}; at most {amount(allowed)} allowed (cap {cap})"
    return _check("best_day", highest <= allowed, limit=allowed, found=highest, text=text)


def _min_hold_share(account: AccountView, rules: RuleSet) -> Check:
    short, total, allowed = account.trades_short, account.trades_total, rules.hold.short_share_max
    # A handful of trades has no meaningful share; below this number one early stop would lock the account for good.
    passed = 0 <= short <= total and (total < rules.hold.trades_min or short < allowed * total)
    text = f"{short} of {total} trades held under {rules.hold.seconds_min} s; must stay below {allowed} of them"
    return _check("min_hold_share", passed, limit=allowed, found=f"{short}/{total}", text=text)


def _margin(account: AccountView, facts: TradeFacts) -> Check:
    needed, free = facts.margin_cents, account.free_margin_cents
    if needed is None:
        return _check("margin", True, limit="not known", found=free, text="the instrument's leverage is not known")
    if isinstance(needed, NoRate):
        return _check("margin", False, limit="unknown", found=free, text=needed.reason)
    if free is None:
        return _check("margin", False, limit=needed, found="unknown", text="the account's free margin is not known")
    return _check(
        "margin", free >= needed, limit=needed, found=free, text=f"needs {amount(needed)}, free {amount(free)}"
    )


def _request_budget(account: AccountView, rules: RuleSet, facts: TradeFacts) -> Check:
    used, needed = account.requests_used, facts.requests_needed
    allowed = rules.requests.per_day - rules.requests.reserve
    text = (
        f"{used} requests used today, {needed} needed; at most {allowed} with the reserve of {rules.requests.reserve}"
    )
    return _check(
        "request_budget", budget.is_enough(rules, used, needed), limit=allowed, found=used + needed, text=text
    )


def _unknown_day(name: str) -> Check:
    return _check(name, False, limit="known day", found="unknown", text="what the firm's day started with is not known")
