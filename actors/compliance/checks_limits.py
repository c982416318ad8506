"""The guard's checks of the loss limits and the best day, each in its worst case. Pure; see `guard` for their order.

The worst values and levels of the loss limits travel with the reservation, and the store works them out again.
`peak_drawdown` stands beside them: it needs what positions can win, which a certificate does not hold.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from actors.compliance import best_day as profit
from actors.compliance import day as firm_day
from actors.compliance import drawdown
from actors.compliance import marks as trailing
from actors.compliance.account import peak_cents, worst_cents
from actors.compliance.case import Case, Check, said
from actors.compliance.drawdown import Limit
from actors.compliance.money import amount


def limits(case: Case) -> tuple[Limit, ...] | str:
    """Return every loss limit that counts now, or why one of them cannot be said."""
    account = case.account
    return drawdown.lines(
        case.rules,
        days=tuple(view.day for view in account.days),
        marks=account.marks,
        balance_cents=account.balance_cents,
        equity_cents=account.equity_cents,
    )


def daily_drawdown(case: Case) -> Check:
    """The worst case stays above the stop level of the day, by every reading of the reset."""
    return _above("daily_drawdown", case, lambda limit: limit.name.startswith("daily "))


def next_day_drawdown(case: Case) -> Check:
    """The worst case stays above the stop level that the day would have if it turned now.

    A position may be carried over the reset, and profit made today does not lower tomorrow's floor.
    """
    return _above("next_day_drawdown", case, lambda limit: limit.name == "next_day")


def max_drawdown(case: Case) -> Check:
    """The worst case stays above the stop level of the maximum loss."""
    return _above("max_drawdown", case, lambda limit: limit.name == "maximum")


def next_max_drawdown(case: Case) -> Check:
    """The worst case stays above the stop level of a maximum loss that trails the day's end, if the day ended now."""
    return _above("next_max_drawdown", case, lambda limit: limit.name == "next_maximum")


def peak_drawdown(case: Case) -> Check:
    """The worst case stays above the stop levels of limits whose reference floats up with equity before it comes.

    Every target may be reached before every stop: the reference of the next day, or the mark that the maximum trails,
    is then the highest equity possible.
    """
    found = limits(case)
    if isinstance(found, str):
        return said("peak_drawdown", False, limit="known limits", found="unknown", text=found)
    by_name = {limit.name: limit for limit in found}
    peak = peak_cents(case.account, case.plan)
    checked: list[Limit] = []
    holds_equity = case.rules.daily.reference == "higher_of_balance_and_equity"
    if holds_equity and (next_day := by_name.get("next_day")) is not None:
        if peak is None:
            return _no_peak("the day's reference")
        at_the_peak = drawdown.daily(case.rules, max(next_day.reference_cents, peak), name="next_day")
        checked.append(msgspec.structs.replace(at_the_peak, rises=True))
    kind = trailing.kind_of(case.rules)
    if kind == "equity" and peak is None:
        return _no_peak("the mark that the maximum trails")
    if kind == "equity" and peak is not None:
        mark_cents = max((mark.value_cents for mark in case.account.marks if mark.kind == kind), default=0)
        checked.append(drawdown.maximum(case.rules, max(mark_cents, peak)))
    return _all_above("peak_drawdown", case, tuple(checked))


def best_day(case: Case) -> Check:
    """The day cannot end with more profit than one day may have, by every reading of the reset."""
    rules, account, plan = case.rules, case.account, case.plan
    if rules.best_day.scope == "none":
        return said("best_day", True, limit="none", found="none", text="there is no rule on the best day")
    if len(account.days) < len(firm_day.readings(rules)):
        text = "what was closed today is not known by every reading of the reset"
        return said("best_day", False, limit="known day", found="unknown", text=text)
    order_cents = profit.profit_cents_of(plan.profit_cents, plan.loss_cents, has_target=plan.tp_price != 0)
    highest = profit.highest_cents(account, order_cents)
    allowed = profit.allowed_cents(rules, account.balance_cents - rules.account.initial_balance_cents)
    if allowed is None:
        text = f"the day could end with {amount(highest)}; a share at payout is no breach, and no refusal would cure it"
        return said("best_day", True, limit="recorded only", found=highest, text=text)
    text = f"the day could end with {amount(highest)}; at most {amount(allowed)} allowed ({rules.best_day.scope})"
    return said("best_day", highest <= allowed, limit=allowed, found=highest, text=text)


# ── inside ──────────────────────────────────────────────────────────────────


def _above(name: str, case: Case, is_meant: Callable[[Limit], bool]) -> Check:
    found = limits(case)
    if isinstance(found, str):
        return said(name, False, limit="known limits", found="unknown", text=found)
    return _all_above(name, case, tuple(limit for limit in found if is_meant(limit)))


def _all_above(name: str, case: Case, meant: tuple[Limit, ...]) -> Check:
    """Return whether the worst case stays strictly above every limit's stop level; the tightest one is told."""
    if not meant:
        return said(name, True, limit="none", found="none", text="the rules have no such limit")
    order_cents = max(0, case.plan.loss_cents)
    worsts: list[tuple[int, Limit]] = []
    for limit in meant:
        worst = worst_cents(case.account, order_cents, limit)
        if worst is None:
            text = "the worst case has no bound: a position or a waiting order has no stop that can be valued"
            return said(name, False, limit=limit.stop_cents, found="unbounded", text=text)
        worsts.append((worst, limit))
    worst, limit = min(worsts, key=lambda one: one[0] - one[1].stop_cents)
    text = (
        f"worst case {amount(worst)}; must stay above {amount(limit.stop_cents)}, {limit.name} "
        f"({limit.stop_ratio} of {amount(int(limit.amount_cents))} below {amount(limit.reference_cents)})"
    )
    return said(name, worst > limit.stop_cents, limit=limit.stop_cents, found=worst, text=text)


def _no_peak(what: str) -> Check:
    text = f"{what} holds equity, and a position or order without a target has no highest one"
    return said("peak_drawdown", False, limit="a target", found="unbounded", text=text)
