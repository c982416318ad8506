"""What the firm's days started with and how high the account has been: kept, or rebuilt from the history.

Library of executor and monitor. All but `kept` and `record` are pure. Who reads the history seldom may hand in the same
rows again: a balance that they do not explain shows in `unexplained_cents`, and then they must be read anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Protocol

from msgspec import Struct

from actors.broker.reading import HISTORY_PIECE
from actors.compliance import day as firm_day
from actors.compliance import ledger
from actors.compliance import marks as trailing
from actors.compliance.account import DayView
from actors.compliance.day import FirmDay
from actors.compliance.ledger import ClosedRow, OpenRow, Past
from actors.compliance.money import amount
from actors.compliance.rulebook import Moment, RuleSet
from actors.desk.settling import HISTORY_MARGIN_S
from bus import messages
from bus.clock import iso, parse
from bus.records import AccountDay, AccountMark
from store.queries import Reader

SEEN_S = 10.0  # equity looked at so soon after the reset counts as that of the reset
SLEPT_DAYS_MAX = 366  # further back nothing is rebuilt
KEPT_DAYS = 1_500  # a year of days by four readings
AHEAD = timedelta(seconds=HISTORY_MARGIN_S)
AHEAD_MIN = timedelta(hours=12)


class Asker(Protocol):
    """What `record` needs of the link to the store."""

    async def ask(self, command: messages.Command, deadline_s: float | None = None) -> messages.Ack: ...


class Kept(Struct, frozen=True, kw_only=True):
    """What the store knows of one account: its days of every reading and its marks."""

    account_id: str
    days: tuple[AccountDay, ...] = ()
    marks: tuple[AccountMark, ...] = ()


class Days(Struct, frozen=True, kw_only=True):
    """The days that hold now, one per reading of the reset that is known, and the marks, raised to now.

    `unexplained_cents`: balance now, less what the newest known day and the history make of it, beyond what commission
    and swap explain. None: cannot be said. It may be a row that the history still lacks (seconds to two minutes), a
    deposit or a withdrawal: while it is not 0 nothing new is recorded, and nothing may be traded.
    """

    known: tuple[DayView, ...]
    marks: tuple[AccountMark, ...]
    record: messages.StartDay | None  # days to be kept that the store does not know of; marks included
    raised: messages.RaiseMarks | None  # marks that are higher than the store knows, or new to it
    unknown: str  # why a day or mark is not known; empty when all are
    unexplained_cents: int | None
    at_least: dict[FirmDay, int] = {}  # what days that are not known began with at least, in cents


class Look(Struct, frozen=True, kw_only=True):
    """The account at one moment, and its history since `since`."""

    now: datetime
    balance_cents: int
    equity_cents: int
    positions: tuple[OpenRow, ...]
    closed: tuple[ClosedRow, ...]
    since: datetime
    until: datetime
    past: Past


def kept(reader: Reader, account_id: str) -> Kept:
    """Return what the store knows. Raises DatabaseRefused when its file cannot be read."""
    return Kept(
        account_id=account_id,
        days=tuple(reader.account_days(account_id, KEPT_DAYS)),
        marks=tuple(reader.account_marks(account_id)),
    )


def history_since(rules: RuleSet, *, now: datetime, kept: Kept) -> datetime:
    """Return how far back the history must be read for `assess` and for counting how long trades were held.

    That is back to the newest known start of a day by each reading, to where the mark is known, and, for an account
    whose mark was never known, for a year.
    """
    moments = [
        now - timedelta(days=rules.hold.history_days),
        *(day.starts_at for day in firm_day.firm_days(rules, now)),
    ]
    moments += [parse(base.starts_at) for base in _bases(rules, kept, now).values()]
    if (kind := trailing.kind_of(rules)) is not None:
        mark = _mark(kept, kind)
        moments.append(now - timedelta(days=SLEPT_DAYS_MAX) if mark is None else parse(mark.known_until))
        moments += [parse(base.starts_at) for base in _before_mark(kept, mark)]
    return max(min(moments) - trailing.ROW_SKEW, now - timedelta(days=SLEPT_DAYS_MAX))


def history_until(since: datetime, now: datetime) -> datetime:
    """Return up to when the history is read: beyond our now, for what is stamped later has happened all the same.

    By two days; by less, down to half a day, where that spares a request: it is asked for in pieces.
    """
    room = HISTORY_PIECE - (now - since)
    return now + (room if AHEAD_MIN <= room < AHEAD else AHEAD)


def assess(
    rules: RuleSet,
    *,
    kept: Kept,
    now: datetime,
    balance_cents: int,
    equity_cents: int,
    positions: Iterable[OpenRow],
    closed: Iterable[ClosedRow],
    since: datetime,
    until: datetime | None = None,
    is_settled: bool = True,
    is_complete: bool = True,
) -> Days:
    """Join figures, history and what the store knows. Pure. `closed` holds every row since `since`, in any order.

    `until` is when the history was read, None: now. Two results that add up to nothing may have come since, so marks of
    the balance are known no longer than to there.
    `is_settled`: the balance was the same before and after the history was read. `is_complete` is False while a
    position of ours is neither open nor in the history: its row is still to come. Then nothing is rebuilt.
    """
    held, rows = tuple(positions), ledger.distinct(closed)
    look = Look(
        now=now, balance_cents=balance_cents, equity_cents=equity_cents, positions=held, closed=rows, since=since,
        until=min(now, until or now),
        past=ledger.past(balance_cents, closed=rows, open_positions=held, booked=rules.costs.commission_booked),
    )  # fmt: skip
    stored = _stored(rules, kept, now)
    doubt = _doubt(rules, look, kept, is_settled=is_settled, is_complete=is_complete)
    unexplained_cents = None if doubt else _unexplained(rules, look, kept)
    if unexplained_cents:
        doubt = f"{amount(unexplained_cents)} of the balance are explained by no trade: a deposit or a withdrawal?"
    if doubt:
        missing = len(stored) < len(firm_day.readings(rules)) or trailing.kind_of(rules) is not None
        return Days(
            known=tuple(_view(day, look) for day in stored.values()),
            marks=kept.marks,
            record=None,
            raised=None,
            unknown=doubt if missing else "",
            unexplained_cents=unexplained_cents,
            at_least={} if unexplained_cents is None else _at_least(rules, look, kept, stored, unexplained_cents),
        )
    return _rebuilt(rules, look, kept, stored)


async def record(found: Days, link: Asker, deadline_s: float | None = None) -> bool:
    """Tell the store what was found, if anything; return whether it was told.

    Read `kept` and assess again then: the first start of a day stands, whoever sent it.

    Raises:
        NoAnswer: the store did not answer within `deadline_s`.
    """
    command = found.record or found.raised
    if command is None:
        return False
    await link.ask(command, deadline_s)
    return True


# ── what is in doubt ────────────────────────────────────────────────────────


def _doubt(rules: RuleSet, look: Look, kept: Kept, *, is_settled: bool, is_complete: bool) -> str:
    """Return why nothing can be said of the account's past; empty when it can."""
    if look.balance_cents <= 0:
        return f"the balance is {amount(look.balance_cents)}"
    if not is_settled:
        return "the balance changed while the history was read"
    if not is_complete:
        return "a position is neither open nor in the history yet"
    needed = history_since(rules, now=look.now, kept=kept)
    if look.since > needed + trailing.ROW_SKEW:
        return f"the history was read from {iso(look.since)} only; needed from {iso(needed)}"
    return ""


def _unexplained(rules: RuleSet, look: Look, kept: Kept) -> int:
    """Return what the balance holds beyond the newest known start of a day by each reading and the rows since.

    The largest of the readings; 0 when no day is known to begin with.
    """
    found = [_unexplained_since(base, rules, look) for base in _bases(rules, kept, look.now).values()]
    return max(found, key=abs, default=0)


def _unexplained_since(base: AccountDay, rules: RuleSet, look: Look) -> int:
    return ledger.unexplained_cents(
        base.start_balance_cents,
        look.balance_cents,
        starts_at=parse(base.starts_at),
        closed=look.closed,
        open_positions=look.positions,
        booked=rules.costs.commission_booked,
    )


# ── rebuilding ──────────────────────────────────────────────────────────────


def _rebuilt(rules: RuleSet, look: Look, kept: Kept, stored: dict[str, AccountDay]) -> Days:
    """Return the days and marks, those rebuilt that the store does not know of."""
    today: dict[str, AccountDay] = dict(stored)
    reasons: list[str] = []
    new: list[AccountDay] = []
    earlier: list[AccountDay] = []
    for reading in firm_day.readings(rules):
        if reading.label in stored:
            continue
        *slept, current = _missing(reading, rules, look, kept)  # never empty: the day that holds now is not stored
        earlier += [_day(rules, look, kept.account_id, day) for day in slept]
        made = _today(rules, look, kept.account_id, current)
        if isinstance(made, str):
            reasons.append(made)
        elif made.start_balance_cents <= 0:
            reasons.append(f"rebuilding day {made.day} gave a balance of {amount(made.start_balance_cents)}")
        else:
            new.append(made)
            today[reading.label] = made
    mark = _marked(rules, look, kept, (*earlier, *new))
    marks = kept.marks
    if isinstance(mark, str):
        reasons.append(mark)
        marks = tuple(other for other in kept.marks if other.kind != trailing.kind_of(rules))
    elif mark is not None:
        marks = (*(other for other in kept.marks if other.kind != mark.kind), mark)
    rose = tuple(other for other in marks if _rose(kept, other))
    ordered = sorted(
        (day for day in (*earlier, *new) if day.start_balance_cents > 0), key=lambda day: (day.starts_at, day.reset)
    )
    return Days(
        known=tuple(_view(today[each.label], look) for each in firm_day.readings(rules) if each.label in today),
        marks=marks,
        record=messages.StartDay(day=ordered[-1], earlier=tuple(ordered[:-1]), marks=rose) if ordered else None,
        raised=messages.RaiseMarks(marks=rose) if rose else None,
        unknown="; ".join(reasons),
        unexplained_cents=0,
        at_least=_at_least(rules, look, kept, today, 0),
    )


def _at_least(
    rules: RuleSet, look: Look, kept: Kept, known: dict[str, AccountDay], unexplained_cents: int
) -> dict[FirmDay, int]:
    """Return the least balance that each day that is not known can have begun with.

    What no trade explains may have come after the reset (a deposit), and with it what costs might have explained, or
    gone before it (a withdrawal).
    """
    later_cents = 0
    if unexplained_cents > 0:
        since = min(parse(base.starts_at) for base in _bases(rules, kept, look.now).values())
        found = (*look.positions, *(row for row in look.closed if row.closed_at >= since))
        later_cents = unexplained_cents + sum(abs(one.commission_cents) + abs(one.swap_cents) for one in found)
    return {
        day: look.past.least_cents(day.starts_at) - later_cents
        for day in firm_day.firm_days(rules, look.now)
        if day.reset not in known
    }


def _missing(reading: Moment, rules: RuleSet, look: Look, kept: Kept) -> tuple[FirmDay, ...]:
    """Return the days that the store does not know of, oldest first; the last one holds now."""
    base = _bases(rules, kept, look.now).get(reading.label)
    if base is None:
        return (firm_day.day_of(reading, look.now),)
    return firm_day.days_of(reading, parse(base.starts_at), look.now) or (firm_day.day_of(reading, look.now),)


def _today(rules: RuleSet, look: Look, account_id: str, current: FirmDay) -> AccountDay | str:
    """Return what the day that holds now started with, or why what its loss is counted from cannot be said.

    Where that is the higher of balance and equity, equity at the reset is the balance without an open position; with
    one it must have been seen. Source: docs/decisions.md, "Rebuild after a slept reset".
    """
    if rules.daily.kind == "none" or rules.daily.reference == "balance" or not _is_carried(look, current):
        return _day(rules, look, account_id, current)
    late_s = (look.now - current.starts_at).total_seconds()
    if late_s > SEEN_S:
        return (
            f"equity at the reset of {iso(current.starts_at)} ({current.reset}) was not seen: a position was open, and "
            f"the first look came {late_s:.0f} s later; allowed {SEEN_S:.0f}"
        )
    return _day(rules, look, account_id, current, equity_cents=look.equity_cents)


def _is_carried(look: Look, day: FirmDay) -> bool:
    """Return whether a position was open when the day began."""
    rows = [row for row in look.closed if row.closed_at >= day.starts_at]
    return any(found.opened_at < day.starts_at for found in (*rows, *look.positions))


def _day(rules: RuleSet, look: Look, account_id: str, day: FirmDay, equity_cents: int = 0) -> AccountDay:
    start_cents = look.past.balance_cents(day.starts_at)
    is_seen = (look.now - day.starts_at).total_seconds() <= SEEN_S
    return AccountDay(
        account_id=account_id, day=day.day, reset=day.reset, starts_at=iso(day.starts_at), ends_at=iso(day.ends_at),
        start_balance_cents=start_cents, reference_cents=max(start_cents, equity_cents),
        initial_balance_cents=rules.account.initial_balance_cents, created_at=iso(look.now),
        note="seen at the reset" if is_seen else "rebuilt from the history",
    )  # fmt: skip


def _marked(rules: RuleSet, look: Look, kept: Kept, new: tuple[AccountDay, ...]) -> AccountMark | str | None:
    """Return the mark raised to now, or why it is not known; None when the floor is static."""
    if (kind := trailing.kind_of(rules)) is None:
        return None
    mark = _mark(kept, kind) or _first_mark(rules, look, kept.account_id)
    if isinstance(mark, str):
        return mark
    if mark.known_until < iso(look.since):  # as text: it is kept in milliseconds
        return f"the highest {kind} is known until {mark.known_until} only; the history was read from {iso(look.since)}"
    for base in _before_mark(kept, mark):
        # A cash flow that the operator has settled since: with it, the balance does not lead back to earlier results.
        if cents := _unexplained_since(base, rules, look):
            return f"{amount(cents)} since {mark.known_until} hide how high the {kind} was; the operator must say it"
    if kind == "day_end_balance":
        return trailing.after_day_ends(mark, rules, look.past, (*kept.days, *new), look.now, look.until)
    if kind == "closed_balance":
        return trailing.after_closings(mark, look.past, look.balance_cents, look.until)
    return trailing.after_look(
        mark, equity_cents=look.equity_cents, now=look.now, positions=look.positions, closed=look.closed
    )


def _first_mark(rules: RuleSet, look: Look, account_id: str) -> AccountMark | str:
    """Return the mark of an account whose whole life is in the history, or why it cannot be said."""
    initial_cents, kind = rules.account.initial_balance_cents, trailing.kind_of(rules)
    has_traded = bool(look.closed or look.positions)
    if has_traded and kind == "equity":
        return "the account has traded before, and the highest equity is in no history; the operator must say it"
    begun_with = {curve.at(look.since) for curve in look.past.curves}
    mark = trailing.first(rules, account_id, look.since)
    if mark is None or initial_cents not in begun_with:
        return (
            f"the history since {iso(look.since)} leads back to {amount(min(begun_with))}, not to the initial "
            f"{amount(initial_cents)}: the highest {kind} before is not known; the operator must say it"
        )
    return mark


# ── what the store knows ────────────────────────────────────────────────────


def _bases(rules: RuleSet, kept: Kept, now: datetime) -> dict[str, AccountDay]:
    """Return the newest known day of each reading that is not too long ago; by the reading's label."""
    labels = {reading.label for reading in firm_day.readings(rules)}
    oldest, newest = iso(now - timedelta(days=SLEPT_DAYS_MAX)), iso(now)
    days = [day for day in kept.days if day.reset in labels and oldest < day.starts_at <= newest]
    return {day.reset: day for day in sorted(days, key=lambda day: day.starts_at)}


def _stored(rules: RuleSet, kept: Kept, now: datetime) -> dict[str, AccountDay]:
    """Return the days that hold now and that the store knows, by the reading's label."""
    today = {(day.reset, day.day) for day in firm_day.firm_days(rules, now)}
    found = {day.reset: day for day in kept.days if (day.reset, day.day) in today}
    return {each.label: found[each.label] for each in firm_day.readings(rules) if each.label in found}


def _mark(kept: Kept, kind: str) -> AccountMark | None:
    return next((mark for mark in kept.marks if mark.kind == kind), None)


def _before_mark(kept: Kept, mark: AccountMark | None) -> tuple[AccountDay, ...]:
    """Return the newest day that began before the mark was last known, if there is one."""
    days = [day for day in kept.days if mark is not None and day.starts_at <= mark.known_until]
    return tuple(sorted(days, key=lambda day: day.starts_at)[-1:])


def _rose(kept: Kept, mark: AccountMark) -> bool:
    known = _mark(kept, mark.kind)
    return known is None or mark.value_cents > known.value_cents


def _view(day: AccountDay, look: Look) -> DayView:
    """Return the day with its closed profit: what the history says or the balance gained, whichever is more.

    The history may lag by seconds, the balance may hold a withdrawal; more profit is the stricter reading.
    """
    by_rows_cents = ledger.realised_cents(look.closed, parse(day.starts_at))
    return DayView(day=day, realised_cents=max(by_rows_cents, look.balance_cents - day.start_balance_cents))
