"""The guard's checks of the account and what is kept of it. Pure; see `guard` for their order."""

from __future__ import annotations

from decimal import Decimal

from actors.compliance import budget, rule_checks
from actors.compliance import day as firm_day
from actors.compliance.account import DayView
from actors.compliance.case import Case, Check, said
from actors.compliance.money import amount
from bus.clock import parse


def currency(case: Case) -> Check:
    """The account is in the currency that the rules are written in."""
    wanted, found = case.rules.account.currency, case.account.currency
    return said("currency", found == wanted, limit=wanted, found=found, text=f"account in {found}, rules for {wanted}")


def figures_fresh(case: Case) -> Check:
    """The account was read just now, by both clocks: the monotonic one stands still while a machine sleeps."""
    by_clock_s = case.facts.monotonic_s - case.account.figures_at_s
    by_wall_s = (case.facts.now - case.account.read_at).total_seconds()
    age_s, allowed_s = max(by_clock_s, by_wall_s), case.facts.figures_age_s_max
    fresh = min(by_clock_s, by_wall_s) >= 0 and age_s <= allowed_s
    text = f"account figures are {age_s:.1f} s old, at most {allowed_s:g} s allowed"
    if min(by_clock_s, by_wall_s) < 0:
        text = f"account figures are from the future: {by_clock_s:.1f} s old by one clock, {by_wall_s:.1f} s by another"
    return said("figures_fresh", fresh, limit=allowed_s, found=age_s, text=text)


def halted(case: Case) -> Check:
    """No halt stands."""
    standing = [
        halt
        for halt in case.account.halts
        if halt.lifted_at is None and (halt.until is None or parse(halt.until) > case.facts.now)
    ]
    text = "; ".join(f"{halt.kind} halt {halt.id} since {halt.raised_at}: {halt.reason}" for halt in standing)
    return said("halted", not standing, limit="no halt", found=len(standing), text=text or "no halt stands")


def rules_current(case: Case) -> Check:
    """The rule set's file is still the one that was loaded: edited rules hold only after a restart."""
    loaded, now = case.rules.fingerprint, case.facts.rules_hash
    text = f"rule set {case.rules.name}: loaded {loaded[:12] or 'without a file'}, its file now is "
    text += now[:12] if now else "not readable"
    passed = bool(loaded) and now == loaded
    return said("rules_current", passed, limit=loaded, found=now, text=text if passed else f"{text}; start again")


def attested(case: Case) -> Check:
    """Somebody compared these rules with the account's dashboard and has the firm's consent. Paper needs nobody."""
    if not case.facts.needs_attestation:
        return said("attested", True, limit="not needed", found="paper", text="a paper account needs no attestation")
    found = case.facts.attested
    text = found or f"nobody attested rule set {case.rules.name} for {case.account.account_id}: run `pilot attest`"
    return said("attested", bool(found), limit="attested", found=found, text=text)


def day_known(case: Case) -> Check:
    """By every reading of the reset it is known what the day that holds now started with."""
    known = {view.day.reset: view for view in case.account.days}
    problems = []
    for reading in firm_day.readings(case.rules):
        view = known.get(reading.label)
        if view is None:
            problems.append(f"what the day by {reading.label} started with is not known")
        elif problem := _day_problem(view, case):
            problems.append(problem)
    started = ", ".join(
        f"{view.day.day} ({view.day.reset}) {amount(view.day.start_balance_cents)}" for view in known.values()
    )
    text = "; ".join(problems) or f"the day started with: {started}"
    return said("day_known", not problems, limit="today's", found=started or "unknown", text=text)


def _day_problem(view: DayView, case: Case) -> str:
    day, now = view.day, case.facts.now
    said_day = f"day {day.day} ({day.reset}) from {day.starts_at} to {day.ends_at}"
    if not parse(day.starts_at) <= now < parse(day.ends_at):
        return f"{said_day} does not hold now, {now}"
    if day.account_id != case.account.account_id:
        return f"{said_day} belongs to account {day.account_id}"
    if day.initial_balance_cents != case.rules.account.initial_balance_cents:
        return f"{said_day} was recorded with an initial balance of {amount(day.initial_balance_cents)}"
    if not 0 < day.start_balance_cents <= day.reference_cents:
        return f"{said_day} started with {amount(day.start_balance_cents)}, reference {amount(day.reference_cents)}"
    return ""


def account_sane(case: Case) -> Check:
    """Balance and equity are above zero, and trades explain the balance."""
    account = case.account
    found = f"balance {amount(account.balance_cents)}, equity {amount(account.equity_cents)}"
    if account.unexplained_cents is None:
        text, passed = f"{found}; it cannot be said whether trades explain the balance", False
    else:
        text = f"{found}; {amount(account.unexplained_cents)} of the balance explained by no trade"
        passed = account.balance_cents > 0 and account.equity_cents > 0 and account.unexplained_cents == 0
    return said("account_sane", passed, limit="above 0, explained", found=found, text=text)


def position_without_stop(case: Case) -> Check:
    """Everything open or waiting has a stop that can be valued."""
    names = [f"{held.symbol} {held.id}" for held in case.account.positions if held.loss_at_stop_cents is None]
    names += [f"order {order.symbol} {order.id}" for order in case.account.pending if order.loss_cents is None]
    text = f"no bound on the loss of {', '.join(names)}" if names else "everything open or waiting has a stop"
    return said("position_without_stop", not names, limit=0, found=len(names), text=text)


def unresolved(case: Case) -> Check:
    """No order of the symbol has an unknown outcome: a second one could be taken for the first.

    Those of other symbols may go on; they count against every limit.
    """
    same = sum(1 for other in case.account.unresolved if other.symbol == case.plan.symbol)
    orders = "1 order" if same == 1 else f"{same} orders"
    text = f"{orders} of {case.plan.symbol} with an unknown outcome, {len(case.account.unresolved)} in all"
    return said("unresolved", same == 0, limit=0, found=same, text=text)


def positions(case: Case) -> Check:
    """With this order there are no more positions than allowed, whatever waits or is unknown counted as open."""
    account, allowed = case.account, case.rules.positions.open_max
    count = account.exposures + 1
    text = (
        f"{len(account.positions)} open, {len(account.pending)} waiting and {len(account.unresolved)} unresolved; "
        f"with this one {count} of {allowed}"
    )
    return said("positions", count <= allowed, limit=allowed, found=count, text=text)


def lots(case: Case) -> Check:
    """All positions together, this one included, have no more lots than allowed."""
    account, allowed = case.account, case.rules.positions.lots_max
    volumes = [held.volume for held in account.positions] + [order.volume for order in account.pending]
    total = sum((case.plan.volume, *volumes, *(plan.volume for plan in account.unresolved)), start=Decimal(0))
    text = f"{total} lots with this order; at most {allowed} allowed"
    return said("lots", total.is_finite() and total <= allowed, limit=allowed, found=total, text=text)


def min_hold_share(case: Case) -> Check:
    """Too few trades are held too short, even when this one and whatever else is young is stopped at once.

    A handful of trades has no meaningful share; below `trades_min` one early stop would lock the account for good.
    """
    hold, account = case.rules.hold, case.account
    if hold.seconds_min == 0:
        return said("min_hold_share", True, limit="none", found="none", text="there is no rule on how long to hold")
    young = account.trades_young + len(account.pending) + len(account.unresolved) + 1
    short, total = account.trades_short + young, account.trades_total + young
    possible = 0 <= account.trades_short <= account.trades_total and account.trades_young >= 0
    is_a_handful = total < hold.trades_min
    passed = possible and (is_a_handful or short < hold.short_share_max * total)
    text = f"{short} of {total} trades may be held under {hold.seconds_min} s, {young} of them not closed yet; "
    text += (
        f"counts from {hold.trades_min} trades on, not yet"
        if passed and is_a_handful
        else f"must stay below {hold.short_share_max} of them"
    )
    limit = f"below {hold.short_share_max} from {hold.trades_min} trades on"
    return said("min_hold_share", passed, limit=limit, found=f"{short}/{total}", text=text)


def requests(case: Case) -> Check:
    """Enough requests are left to look after this trade, with the reserve untouched, and to close everything then."""
    account, allowed = case.account, case.rules.requests
    used = account.reads_used + account.writes_used
    close_all, close_writes = rule_checks.flatten_needs(account.exposures + 1)
    trade, trade_writes = budget.REQUESTS_PER_TRADE, budget.WRITES_PER_TRADE
    passed = (
        used + trade <= allowed.per_day - allowed.reserve
        and used + trade + close_all <= allowed.per_day
        and account.writes_used + trade_writes <= allowed.writes_per_day - allowed.writes_reserve
        and account.writes_used + trade_writes + close_writes <= allowed.writes_per_day
    )
    text = (
        f"{used} requests used, {account.writes_used} of them writes; this trade needs {trade} with {trade_writes} "
        f"writes, closing everything {close_all} with {close_writes}; a day has {allowed.per_day} with a reserve of "
        f"{allowed.reserve}, and {allowed.writes_per_day} writes with a reserve of {allowed.writes_reserve}"
    )
    return said("requests", passed, limit=allowed.per_day - allowed.reserve, found=used + trade, text=text)
