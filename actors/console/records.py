"""`pilot stats|journal|export`: what happened, counted, told and written out.

Used by pilot. Reads the database only: works while the pipeline is down, changes nothing. What takes time to load is
loaded by the command that needs it.
Exit codes: 0 done, 1 refused, 3 no database yet, 64 usage, 78 configuration.
"""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from actors.compliance import rulebook
from actors.compliance.rulebook import RuleSet
from actors.console import asking
from bus import failpoints
from bus.clock import SystemClock
from bus.vocabulary import ExitCode
from config.load import ConfigError
from config.settings import Settings

if TYPE_CHECKING:
    from actors.console.statistics import Statistics

DAYS_MAX = 3_660

app = typer.Typer(rich_markup_mode=None)


@app.command(epilog="Examples: pilot stats; pilot stats --days 90 --symbol EURUSD; pilot stats --json")
def stats(
    days: Annotated[int, typer.Option(min=1, max=DAYS_MAX, help="So many of the firm's days, today included.")] = 30,
    symbol: Annotated[str | None, typer.Option(help="Only this pair, such as EURUSD.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Count today's intents, results by symbol, and requests by day and process."""
    from actors.console import statistics

    now = SystemClock().now()
    with asking.database() as (settings, reader):
        pair = symbol.upper() if symbol else None
        found = statistics.of(reader, statistics.days_back(_rules(settings), now, days), pair)
    if as_json:
        asking.print_json(found)
    else:
        _show(found)


@app.command(epilog="Examples: pilot journal; pilot journal 2026-11-02 --csv --out 2026-11-02.csv")
def journal(
    day: Annotated[str | None, typer.Argument(metavar="[DATE]", help="The firm's day. Default: today.")] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Write Markdown, the default.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write CSV, a line for each intent.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a new file instead of printing.")] = None,
) -> None:
    """Tell one of the firm's days: each intent with its decisions, reasons and result."""
    from actors.console import journal as telling

    if as_markdown and as_csv:
        asking.fail("give either --markdown or --csv", ExitCode.USAGE)
    try:
        wanted = date.fromisoformat(day) if day is not None else None
    except ValueError:
        asking.fail(f"the day was {day!r}; allowed: YYYY-MM-DD", ExitCode.USAGE)
    if out is not None and out.exists():
        asking.fail(f"{out} exists; choose a new file: what is there is never changed", asking.REFUSED)
    with asking.database() as (settings, reader):
        rules = _rules(settings)
        named = telling.day_named(rules, wanted) if wanted else telling.day_at(rules, SystemClock().now())
        with reader.snapshot():
            text = (
                telling.as_csv(reader, named)
                if as_csv
                else telling.as_markdown(reader, named, settings.broker.account_id)
            )
    if out is None:
        sys.stdout.write(text)
    else:
        _keep(out, text)


@app.command(epilog="Examples: pilot export --csv ./export-2026-11; pilot export --parquet /srv/pilot/2026-11")
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that does not exist yet.")],
    as_csv: Annotated[bool, typer.Option("--csv", help="Write CSV.")] = False,
    as_parquet: Annotated[bool, typer.Option("--parquet", help="Write Parquet.")] = False,
) -> None:
    """Write all tables of intents, orders and the account, of one moment, into a new folder, whole or not at all."""
    from actors.console import export as writing

    if as_csv == as_parquet:
        asking.fail("give either --csv or --parquet", ExitCode.USAGE)
    with asking.database() as (_, reader):
        try:
            counts = writing.export(reader, folder.absolute(), "csv" if as_csv else "parquet")
        except writing.ExportRefused as error:
            asking.fail(str(error), asking.REFUSED)
    rows = "".join(f"  {table} {count:,}\n" for table, count in counts.items())
    sys.stdout.write(f"exported to {folder}:\n{rows}")


def _rules(settings: Settings) -> RuleSet:
    try:
        return rulebook.load(settings.compliance.rules)
    except ConfigError as error:
        asking.fail(str(error), ExitCode.CONFIG)


def _keep(out: Path, text: str) -> None:
    from actors.market import durable

    failpoints.reach("pilot.before_keep_journal")  # the journal of a day as a new file
    try:
        durable.write(out.absolute(), text.encode())
    except OSError as error:
        asking.fail(f"{out}: {error.strerror}", asking.REFUSED)
    failpoints.reach("pilot.after_keep_journal")
    sys.stdout.write(f"written: {out}\n")


def _show(found: Statistics) -> None:
    from actors.console import statistics_text

    statistics_text.show(found)
