"""`pilot intents|show|why`: what was proposed and what became of it. Part of the operator's command line.

Reads the database only, so that all work with the pipeline down. Exit codes: those of pilot.
"""

from __future__ import annotations

import re
import sys
from datetime import date as calendar_date
from typing import Annotated

import typer

from actors.compliance import rulebook
from actors.console import asking, finding, tables
from actors.console import why as reasons
from actors.console.options import AsJson
from bus.clock import SystemClock
from bus.records import TradeIntent
from bus.vocabulary import ExitCode, Status
from store.queries import Reader

ROWS_MAX = 1_000
PAIR, HEX = re.compile(r"[A-Z]{6}"), re.compile(r"[0-9A-F]+")  # a word that may begin an id is one

app = typer.Typer(rich_markup_mode=None)


@app.command(epilog="Examples: pilot intents; pilot intents --status rejected --symbol EURUSD; pilot intents --json")
def intents(
    only: Annotated[Status | None, typer.Option("--status", help="Only this status.")] = None,
    date: Annotated[str | None, typer.Option(help="Only this trade date, YYYY-MM-DD.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Only this pair, such as EURUSD.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=ROWS_MAX, help="At most so many, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List intents, newest first."""
    if date is not None and not _is_date(date):
        asking.fail(f"--date was {date!r}; allowed: YYYY-MM-DD", ExitCode.USAGE)
    with asking.database() as (_, reader):
        pair = symbol.upper() if symbol else None
        found = reader.intents(status=only, date=date, symbol=pair, limit=limit)
        rows = [_row(reader, intent) for intent in found]
    if as_json:
        asking.print_json(rows)
    else:
        tables.show_intents(tables.console(sys.stdout), rows, SystemClock().now())


@app.command(epilog="Examples: pilot show 3f2a91c0; pilot show 3f2a --json | jq .compliance")
def show(intent_id: finding.IntentId, as_json: AsJson = False) -> None:
    """Show one intent: every field, every transition with its reason, the checks, the order."""
    with asking.database() as (_, reader):
        story = finding.story(reader, finding.full_id(reader, intent_id))
    if as_json:
        asking.print_json(story)
    else:
        tables.show_story(tables.console(sys.stdout), story)


@app.command(epilog="Examples: pilot why EURUSD; pilot why 3f2a91c0; pilot why GBPUSD --json")
def why(
    asked: Annotated[str, typer.Argument(metavar="SYMBOL|ID", help="A pair, or an intent's id or its beginning.")],
    as_json: AsJson = False,
) -> None:
    """Say why a pair or an intent was traded or not, or what it waits for, from the records only."""
    now = SystemClock().now()
    with asking.database() as (settings, reader):
        pair = asked.upper()
        if pair in settings.symbols or (PAIR.fullmatch(pair) and not HEX.fullmatch(pair)):
            found = reasons.of_symbol(
                reader, pair, settings=settings, rules=rulebook.load(settings.compliance.rules), now=now
            )
        else:
            intent = finding.intent(reader, finding.full_id(reader, asked))
            found = reasons.of_intent(reader, intent, settings=settings, now=now)
    if as_json:
        asking.print_json(found)
        return
    out = tables.console(sys.stdout)
    out.print(tables.cell(found.said))
    for fact in found.facts:
        out.print(tables.cell(f"  {fact.name}: {fact.value}", "dim"))


def _row(reader: Reader, intent: TradeIntent) -> tables.Row:
    moves = reader.transitions(intent.id)
    last = moves[-1] if moves else None
    return tables.Row(
        intent=intent, updated_at=last.at if last else intent.created_at, reason=last.reason if last else ""
    )


def _is_date(given: str) -> bool:
    try:
        return calendar_date.fromisoformat(given).isoformat() == given
    except ValueError:
        return False
