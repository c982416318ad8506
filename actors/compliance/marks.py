"""The highest value of the account so far, which a trailing maximum loss is counted from. Pure.

Used by executor and monitor through `actors.desk.days`. A mark only rises. What cannot be known is a reason, never a
guess: a peak of equity that nobody watched is not in any history.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from actors.compliance import day as firm_day
from actors.compliance.ledger import ClosedRow, OpenRow, Past
from actors.compliance.rulebook import RuleSet
from bus.clock import iso, parse
from bus.records import AccountDay, AccountMark, MarkKind

UNWATCHED_S_MAX = 360.0  # how long trades may go unwatched between two looks; the cadence without positions is 300 s
ROW_SKEW = timedelta(seconds=60)  # rows may be stamped by a clock that runs behind ours
KINDS: dict[str, MarkKind] = {
    "trailing_day_end": "day_end_balance",
    "trailing_closed": "closed_balance",
    "trailing_intraday": "equity",
}


def kind_of(rules: RuleSet) -> MarkKind | None:
    """Return which mark the maximum loss trails, or None when its floor is static."""
    return KINDS.get(rules.maximum.mode)


def first(rules: RuleSet, account_id: str, at: datetime) -> AccountMark | None:
    """Return the mark of an account that was worth its initial balance at `at`, or None when the floor is static."""
    if (kind := kind_of(rules)) is None:
        return None
    initial_cents = rules.account.initial_balance_cents
    return AccountMark(account_id=account_id, kind=kind, value_cents=initial_cents, at=iso(at), known_until=iso(at))


def raised(mark: AccountMark, value_cents: int, at: datetime, known_until: datetime) -> AccountMark:
    """Return the mark raised to a value reached at `at`, if it is higher, and known up to now. It never falls."""
    until = max(mark.known_until, iso(known_until))
    if value_cents <= mark.value_cents:
        return msgspec.structs.replace(mark, known_until=until)
    # A row may be stamped by a clock that runs ahead of ours; nothing was reached later than it is known.
    return msgspec.structs.replace(mark, value_cents=value_cents, at=min(iso(at), until), known_until=until)


def after_day_ends(
    mark: AccountMark, rules: RuleSet, past: Past, days: Iterable[AccountDay], now: datetime, until: datetime
) -> AccountMark:
    """Return the mark with the balance at every reset since it was last known, by every reading; known `until` then.

    A day ends with the balance that the next one starts with. `past` must reach back as far; `days` are starts that
    were recorded, and count as well.
    """
    found = mark
    for reading in firm_day.readings(rules):
        for turned in firm_day.days_of(reading, parse(mark.known_until) - ROW_SKEW, now):
            found = raised(found, past.balance_cents(turned.starts_at), turned.starts_at, until)
    for day in days:
        if (starts_at := parse(day.starts_at)) <= now:
            found = raised(found, day.start_balance_cents, starts_at, until)
    return raised(found, found.value_cents, until, until)


def after_closings(mark: AccountMark, past: Past, balance_cents: int, until: datetime) -> AccountMark:
    """Return the mark with the balance after every result since it was last known, and with the balance now.

    `past` must reach back as far.
    """
    found = mark
    for moment, peak_cents in past.peaks(parse(mark.known_until) - ROW_SKEW):
        found = raised(found, peak_cents, moment, until)
    return raised(found, balance_cents, until, until)


def after_look(
    mark: AccountMark,
    *,
    equity_cents: int,
    now: datetime,
    positions: Iterable[OpenRow],
    closed: Iterable[ClosedRow],
) -> AccountMark | str:
    """Return the mark with the equity now, or why there may have been a higher one that nobody saw.

    Without an open position equity is the balance, and needs no watching. `closed` must reach back to `known_until`.
    """
    since = parse(mark.known_until)
    spans = [(max(since, position.opened_at), now) for position in positions]
    spans += [(max(since, row.opened_at), row.closed_at) for row in closed if row.closed_at > since]
    if spans:
        unwatched_s = (max(end for _, end in spans) - min(start for start, _ in spans)).total_seconds()
        if unwatched_s > UNWATCHED_S_MAX:
            return (
                f"equity was not watched for {unwatched_s:.0f} s of open trades since {mark.known_until}; "
                f"allowed {UNWATCHED_S_MAX:.0f}"
            )
    return raised(mark, equity_cents, now, now)
