"""The guard's checks of the order itself and of the moment it would be sent at. Pure; see `guard` for their order."""

from __future__ import annotations

from actors.compliance import flat as flat_times
from actors.compliance import news as calendars
from actors.compliance import sizing
from actors.compliance.case import Case, Check, said
from actors.compliance.conversion import NoRate
from actors.compliance.money import amount


def quote_fresh(case: Case) -> Check:
    """Every quote that the order or the account is valued with is fresh, and none is from the future."""
    age_s, allowed_s = case.facts.quote_age_s, case.facts.quote_age_s_max
    # A quote from the future is as unusable as an old one: one of the two clocks is wrong.
    fresh = age_s is not None and -allowed_s <= age_s <= allowed_s
    text = (
        "there is no quote"
        if age_s is None
        else f"the oldest quote is {age_s:.1f} s old, at most {allowed_s:g} s allowed"
    )
    return said("quote_fresh", fresh, limit=allowed_s, found=age_s, text=text)


def bars_fresh(case: Case) -> Check:
    """The bars that the intent rests on are recent. An operator's own intent rests on none."""
    age_days, allowed = case.facts.bar_age_days, case.facts.bar_age_days_max
    if allowed is None:
        return said("bars_fresh", True, limit="none", found="none", text="the intent rests on no bars")
    if age_days is None:
        return said(
            "bars_fresh", False, limit=allowed, found="unknown", text="the intent does not say what bars it rests on"
        )
    age = "1 day" if age_days == 1 else f"{age_days} days"
    text = f"the newest bar is {age} old; allowed 0 to {allowed} (scanner.bar_age_days_max)"
    return said("bars_fresh", 0 <= age_days <= allowed, limit=allowed, found=age_days, text=text)


def session_open(case: Case) -> Check:
    """The instrument can be traded now, and today is no holiday of the settings."""
    if case.facts.holiday:
        text = f"{case.facts.holiday} is one of compliance.holidays: no new order"
        return said("session_open", False, limit="open", found="holiday", text=text)
    found = "open" if case.facts.session_open else "closed"
    text = f"the session of {case.plan.symbol} is {found}"
    return said("session_open", case.facts.session_open, limit="open", found=found, text=text)


def intent_expired(case: Case) -> Check:
    """The intent still holds."""
    expires_at, now = case.facts.expires_at, case.facts.now
    text = "the intent has no expiry" if expires_at is None else f"the intent expires at {expires_at}, now is {now}"
    return said("intent_expired", expires_at is not None and now < expires_at, limit=expires_at, found=now, text=text)


def stop_side(case: Case) -> Check:
    """Stop and target stand on their sides of the entry, and the stop costs something."""
    plan = case.plan
    problem = sizing.wrong_side(plan.side, plan.entry_price, plan.sl_price, plan.tp_price)
    if not problem and plan.loss_cents <= 0:
        problem = f"a loss of {amount(plan.loss_cents)} at the stop is impossible"
    text = problem or f"stop {plan.sl_price} and target {plan.tp_price} are on their sides of {plan.entry_price}"
    return said("stop_side", not problem, limit="protects", found=plan.sl_price, text=text)


def volume(case: Case) -> Check:
    """The broker takes this volume."""
    low, high, step = case.facts.volume_min, case.facts.volume_max, case.facts.volume_step
    found = case.plan.volume
    fits = found.is_finite() and step > 0 and found > 0 and low <= found <= high and found % step == 0
    text = f"{found} lots; allowed {low} to {high} in steps of {step}"
    return said("volume", fits, limit=f"{low}..{high} by {step}", found=found, text=text)


def margin(case: Case) -> Check:
    """There is margin for the order, as far as the instrument's leverage is known; the broker refuses otherwise."""
    needed, free = case.facts.margin_cents, case.account.free_margin_cents
    if needed is None:
        return said("margin", True, limit="not known", found=free, text="the instrument's leverage is not known")
    if isinstance(needed, NoRate):
        return said("margin", False, limit="unknown", found=free, text=needed.reason)
    if free is None:
        return said("margin", False, limit=needed, found="unknown", text="the account's free margin is not known")
    text = f"needs {amount(needed)}, free {amount(free)}"
    return said("margin", free >= needed, limit=needed, found=free, text=text)


def flat(case: Case) -> Check:
    """No position has to be closed again soon: by the day's or Friday's flat time."""
    now, lead_s = case.facts.now, case.facts.flat_lead_s
    inside = flat_times.window_at(case.rules, now)
    if inside is not None:
        text = f"no position may be open from {inside.starts_at} to {inside.ends_at}; now is {now}"
        return said("flat", False, limit=inside.ends_at, found=now, text=text)
    coming = flat_times.next_window(case.rules, now)
    if coming is None:
        return said("flat", True, limit="none", found=now, text="there is no time to be flat by")
    left_s = (coming.starts_at - now).total_seconds()
    text = (
        f"no position may be open from {coming.starts_at} on, in {left_s:.0f} s; an order needs more than {lead_s:g} s"
    )
    return said("flat", left_s > lead_s, limit=lead_s, found=left_s, text=text)


def news(case: Case) -> Check:
    """No high-impact news of either currency is near. Without a calendar that covers now, nothing passes."""
    minutes = case.rules.news.window_minutes
    if minutes == 0:
        return said("news", True, limit="none", found="none", text="there is no rule on news")
    if isinstance(case.facts.calendar, str):
        return said("news", False, limit=f"{minutes} min", found="unknown", text=case.facts.calendar)
    problem = calendars.problem(case.facts.calendar, case.plan.symbol, case.facts.now, minutes)
    text = problem or f"no high-impact news of {case.plan.symbol} within {minutes} min"
    return said("news", not problem, limit=f"{minutes} min", found=problem or "none", text=text)
