"""`pilot account|positions|alerts`: the account against its rules, what is open, what happened. Of the command line.

Reads the database only, so that all work with the pipeline down. Exit codes: those of pilot.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated

import typer
from msgspec import Struct
from rich.console import Console

from actors.compliance import rulebook
from actors.console import asking, holdings, overview, room, tables, text
from actors.console.holdings import OpenPosition, Today
from actors.console.options import AsJson
from actors.console.room import Room
from actors.console.tables import cell
from bus.clock import SystemClock
from bus.records import AccountDay, AccountMark, Attestation
from bus.vocabulary import ExitCode
from config import dollars
from config.load import ConfigError
from store import past

ROWS_MAX = 1_000
DAYS_SHOWN = 6
LEVELS = ("info", "warning", "error")
ALERT_STYLES = {"warning": "yellow", "error": "bold red"}

app = typer.Typer(rich_markup_mode=None)


class Account(Struct, frozen=True, kw_only=True):
    """The account against its rules: `days` are the newest starts of days, `attestation` the operator's word for it."""

    room: Room
    today: Today
    days: list[AccountDay]
    marks: list[AccountMark]
    attestation: Attestation | None


@app.command(epilog="Examples: pilot account; pilot account --json | jq .room.limits")
def account(as_json: AsJson = False) -> None:
    """Show the day's start, floors, marks, room to each limit, best day and the day's requests."""
    now = SystemClock().now()
    with asking.database() as (settings, reader):
        try:
            rules = rulebook.load(settings.compliance.rules)
        except ConfigError as error:
            asking.fail(str(error), ExitCode.CONFIG)
        account_id = settings.broker.account_id
        found = Account(
            room=room.of(reader, rules, account_id, now),
            today=holdings.today(reader, rules, now),
            days=reader.account_days(account_id, DAYS_SHOWN),
            marks=reader.account_marks(account_id),
            attestation=reader.attestation(account_id, rules.fingerprint),
        )
    if as_json:
        asking.print_json(found)
    else:
        _show_account(tables.console(sys.stdout), found, now)


@app.command(epilog="Examples: pilot positions; pilot positions --json")
def positions(as_json: AsJson = False) -> None:
    """List the open positions of intents. A position of nobody is the monitor's to report: pilot alerts."""
    with asking.database() as (_, reader):
        found = holdings.open_positions(reader)
    if as_json:
        asking.print_json(found)
    else:
        _show_positions(tables.console(sys.stdout), found, SystemClock().now())


@app.command(epilog="Examples: pilot alerts; pilot alerts --level error --limit 5; pilot alerts --json")
def alerts(
    level: Annotated[str | None, typer.Option(metavar="|".join(LEVELS), help="Only this level.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=ROWS_MAX, help="At most so many, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List what people were told, newest first."""
    if level is not None and level not in LEVELS:
        asking.fail(f"--level was {level!r}; allowed: {', '.join(LEVELS)}", ExitCode.USAGE)
    with asking.database() as (_, reader):
        found = past.alerts(reader, level=level, limit=limit)
    if as_json:
        asking.print_json(found)
        return
    out, now = tables.console(sys.stdout), SystemClock().now()
    for one in found:
        about = f" ({one.intent_id})" if one.intent_id else ""
        head = f"{one.at} {one.level} {one.event} by {one.actor}, {text.age(one.at, now)} ago{about}"
        out.print(cell(head, ALERT_STYLES.get(one.level, "")))
        out.print(cell(f"  {text.line(one.text, tables.CELL_CHARS_MAX * 4)}"), soft_wrap=False)
    if not found:
        out.print("no alerts")


def _show_account(out: Console, found: Account, now: datetime) -> None:
    seen = found.room
    out.print(cell(f"account {seen.account_id} under {seen.rules}, {seen.currency}"))
    if seen.at is not None and seen.balance_cents is not None and seen.equity_cents is not None:
        balance, equity = dollars.amount(seen.balance_cents), dollars.amount(seen.equity_cents)
        out.print(cell(f"read {seen.at}, {text.age(seen.at, now)} ago: balance {balance}, equity {equity}"))
    for one in seen.unknown:
        out.print(cell(f"NOT KNOWN: {one}", "yellow"))
    out.print(cell(f"today    {overview.today_line(found.today)}, until {found.today.ends_at}"))
    if seen.limits:
        out.print()
        table = tables.grid("limit", "level", "used", "lost", "room", "stop at", "floor")
        for limit in seen.limits:
            table.add_row(
                cell(limit.name), cell(limit.level, tables.LEVEL_STYLES.get(limit.level, "green")),
                f"{limit.used_percent}%", dollars.amount(limit.loss_cents), dollars.amount(limit.room_cents),
                dollars.amount(limit.stop_cents), dollars.amount(limit.floor_cents),
            )  # fmt: skip
        out.print(table)
    out.print()
    if (best := seen.best_day) is not None:
        most = (
            "nothing is refused for it"
            if best.stop_cents is None
            else f"no order above {dollars.amount(best.stop_cents)}"
        )
        out.print(cell(f"best day ({best.scope}): {dollars.amount(best.profit_cents)} today, {most}"))
    out.print(cell(f"requests {overview.budget_line(seen.budget)}, reset {seen.budget.resets_at}"))
    for day in found.days:
        start, reference = dollars.amount(day.start_balance_cents), dollars.amount(day.reference_cents)
        out.print(cell(f"day {day.day} ({day.reset}) started with {start}, counted from {reference}"))
    for mark in found.marks:
        out.print(cell(f"highest {mark.kind} {dollars.amount(mark.value_cents)} at {mark.at}"))
    if (word := found.attestation) is not None:
        out.print(cell(f"attested {word.at} by {word.operator}: {text.line(word.text, tables.CELL_CHARS_MAX)}"))


def _show_positions(out: Console, found: tuple[OpenPosition, ...], now: datetime) -> None:
    if not found:
        out.print("no open positions")
        return
    table = tables.grid("id", "position", "symbol", "side", "lots", "entry", "SL", "TP", "at risk", "age")
    short = tables.short_ids([one.intent_id for one in found])
    for one in found:
        table.add_row(
            short[one.intent_id], cell(one.position_id), cell(one.symbol), one.side, str(one.volume),
            str(one.entry_price), str(one.sl_price), str(one.tp_price or "-"), dollars.amount(one.loss_cents),
            text.age(one.opened_at, now),
        )  # fmt: skip
    out.print(table)
    for one in found:
        if one.closing is not None:
            out.print(
                cell(f"{one.symbol} {one.position_id}: {one.closing.operator} has it closed: {one.closing.reason}")
            )
