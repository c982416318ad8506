"""The journal of one firm's day as Markdown or CSV: each intent with its decisions, reasons and result.

Used by `pilot journal`. Reads only; makes text. Times carry their zone, that of the firm's reset; money is exact to
the cent. What others wrote into a reason is shown as text, whatever it is.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import date, datetime
from zoneinfo import ZoneInfo

from actors.compliance import day as firm_day
from actors.compliance.day import FirmDay
from actors.compliance.money import amount
from actors.compliance.rulebook import RuleSet
from actors.console import cells
from bus.clock import iso, parse
from store import statistics
from store.queries import Reader
from store.statistics import Entry

REASON_CHARS_MAX = 2_000
COLUMNS = (
    "day", "intent_id", "symbol", "status", "begun_at", "side", "sl_pips", "tp_pips", "decision_reason", "end_reason",
    "volume", "entry_price", "sl_price", "tp_price", "worst_loss", "position_id", "opened_at", "closed_at",
    "net_profit", "r", "close_reason", "close_ordered_by", "close_order_reason",
)  # fmt: skip


def day_named(rules: RuleSet, day: date) -> FirmDay:
    """Return the firm's day of that date, by the usual reading of its reset."""
    moment = datetime.combine(day, rules.reset_time, tzinfo=rules.zone)
    return firm_day.day_of(firm_day.readings(rules)[0], moment)


def day_at(rules: RuleSet, now: datetime) -> FirmDay:
    """Return the firm's day that holds a moment, by the usual reading of its reset."""
    return firm_day.day_of(firm_day.readings(rules)[0], now)


def as_csv(reader: Reader, day: FirmDay) -> str:
    """Return the day as CSV: a header, then a line for each intent of which the day has a record."""
    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\n")
    lines.writerow(COLUMNS)
    zone = _zone(day)
    for entry in _entries(reader, day):
        lines.writerow(map(cells.cell, _row(entry, day, zone)))
    return written.getvalue()


def as_markdown(reader: Reader, day: FirmDay, account_id: str) -> str:
    """Return the day as Markdown: what the account did, a table of the results, and each intent's arrows."""
    zone, entries = _zone(day), list(_entries(reader, day))
    lines = [
        f"# Journal of {day.day}",
        "",
        f"From {_time(iso(day.starts_at), zone)} to {_time(iso(day.ends_at), zone)} (reset {day.reset}).",
        "",
        *_account(reader, day, account_id),
        *_halts(reader, day, zone),
        "## Results",
        "",
        *_table(entries),
        "",
    ]
    for entry in entries:
        lines += _story(entry, zone)
    return "\n".join(lines).rstrip() + "\n"


def _entries(reader: Reader, day: FirmDay) -> Iterator[Entry]:
    return statistics.entries(reader, iso(day.starts_at), iso(day.ends_at))


# ── lines ───────────────────────────────────────────────────────────────────


def _row(entry: Entry, day: FirmDay, zone: ZoneInfo) -> tuple[int | float | str | None, ...]:
    plan, closing = entry.plan, entry.closing
    return (
        day.day, entry.intent_id, entry.symbol, entry.status, _time(entry.begun_at, zone), entry.side, entry.sl_pips,
        entry.tp_pips, _decision(entry), entry.failure_reason,
        str(plan.volume) if plan else None, str(plan.entry_price) if plan else None,
        str(plan.sl_price) if plan else None, str(plan.tp_price) if plan else None,
        cells.plain_amount(plan.loss_cents) if plan else None, entry.position_id,
        _time(entry.opened_at, zone), _time(entry.closed_at, zone), cells.plain_amount(entry.net_profit_cents),
        _r(entry), entry.close_reason, closing.operator if closing else None, closing.reason if closing else None,
    )  # fmt: skip


def _account(reader: Reader, day: FirmDay, account_id: str) -> list[str]:
    lines = []
    started = reader.account_day(day.day, account_id, day.reset)
    if started is not None:
        lines.append(f"- Balance at the start: {amount(started.start_balance_cents)}")
    found = statistics.equity_between(reader, iso(day.starts_at), iso(day.ends_at))
    if found is not None:
        sample, low_cents = found
        lines.append(
            f"- Last reading: balance {amount(sample.balance_cents)}, equity {amount(sample.equity_cents)}, "
            f"loss of the day {amount(sample.daily_loss_cents)}, level {sample.level}"
        )
        lines.append(f"- Lowest equity seen: {amount(low_cents)}")
    reads, writes = reader.requests(day.day)
    lines.append(f"- Requests to the broker: {reads + writes}, of these {writes} writes")
    return [*lines, ""]


def _halts(reader: Reader, day: FirmDay, zone: ZoneInfo) -> list[str]:
    found = statistics.halts_between(reader, iso(day.starts_at), iso(day.ends_at))
    if not found:
        return []
    lines = ["## Halts", ""]
    for halt in found:
        lifted = (
            f"; lifted {_time(halt.lifted_at, zone)} by {_said(halt.lifted_by)}: {_said(halt.lift_reason)}"
            if halt.lifted_at
            else ""
        )
        lines.append(
            f"- {_time(halt.raised_at, zone)} {halt.kind}, by {_said(halt.raised_by)}: {_said(halt.reason)}{lifted}"
        )
    return [*lines, ""]


def _table(entries: list[Entry]) -> list[str]:
    if not entries:
        return ["No intent has a record of this day."]
    lines = ["| intent | symbol | side | status | net profit | R |", "|---|---|---|---|---|---|"]
    for entry in entries:
        money = "" if entry.net_profit_cents is None else amount(entry.net_profit_cents)
        lines.append(
            f"| {_said(entry.intent_id[:8])} | {_said(entry.symbol)} | {entry.side or ''} | {entry.status} | {money} "
            f"| {_r(entry) or ''} |"
        )
    closed = [entry for entry in entries if any(arrow.event == "close" for arrow in entry.arrows)]
    total = amount(sum(entry.net_profit_cents or 0 for entry in closed))
    return [*lines, "", f"Closed in this day: {len(closed)}, net {total}."]


def _story(entry: Entry, zone: ZoneInfo) -> list[str]:
    lines = [f"## {_said(entry.symbol)} {_said(entry.intent_id)}: {entry.status}", ""]
    if entry.plan is not None:
        plan = entry.plan
        lines += [
            f"{plan.side} {plan.volume} {_said(plan.symbol)} at {plan.entry_price}, SL {plan.sl_price}, "
            f"TP {plan.tp_price}, worst loss {amount(plan.loss_cents)}.",
            "",
        ]
    if (closing := entry.closing) is not None:
        lines += [
            f"Operator {_said(closing.operator)} ordered it closed {_time(closing.asked_at, zone)}: "
            f"{_said(closing.reason)}.",
            "",
        ]
    for arrow in entry.arrows:
        lines.append(
            f"- {_time(arrow.at, zone)} {arrow.event}: {arrow.from_status or 'new'} to {arrow.to_status}, "
            f"by {_said(arrow.actor)}: {_said(arrow.reason)}"
        )
    return [*lines, ""]


# ── words ───────────────────────────────────────────────────────────────────


def _decision(entry: Entry) -> str:
    """Return the analyst's reason; nothing when it decided on another day."""
    return next((arrow.reason for arrow in entry.arrows if arrow.event in ("decide_trade", "decide_hold")), "")


def _r(entry: Entry) -> str | None:
    """Return the result in multiples of the worst loss, rounded to hundredths, halves away from zero."""
    if entry.plan is None or entry.net_profit_cents is None or entry.plan.loss_cents <= 0:
        return None
    net, loss = entry.net_profit_cents, entry.plan.loss_cents
    hundredths = (200 * abs(net) + loss) // (2 * loss)
    return f"{'-' if net < 0 and hundredths else ''}{hundredths // 100}.{hundredths % 100:02d}"


def _said(text_given: str | None) -> str:
    return cells.markdown(text_given or "", REASON_CHARS_MAX)


def _time(at: str | None, zone: ZoneInfo) -> str:
    """Return a time with the offset of the zone, to the second; nothing for None."""
    return "" if at is None else parse(at).astimezone(zone).isoformat(timespec="seconds")


def _zone(day: FirmDay) -> ZoneInfo:
    return ZoneInfo(day.reset.partition(" ")[2])
