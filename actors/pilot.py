"""`pilot`: the operator's command line. Reads the database itself, asks the store for every change.

Reading works while the pipeline is down. Never writes to the database; only `doctor` asks the broker, and reads.
Exit codes: 0 done, 1 refused or not found, 3 no database yet, 64 usage, 69 the store did not answer, 75 too many
operators at once, 77 the broker refused the login (doctor), 78 configuration.
"""

from __future__ import annotations

import os
import sys
from datetime import date as calendar_date
from typing import Annotated, NoReturn

import typer
from loguru import logger

from actors.console import analysts_report, asking, doctor, finding, rules, steer, tables, text, trade
from bus import messages
from bus.clock import SystemClock, iso
from bus.records import TradeIntent
from bus.vocabulary import ExitCode, Status
from config import load
from config.load import ConfigError
from store.queries import Reader

ROWS_MAX = 1_000
CLICK_USAGE = 2
POSITION_ID_CHARS_MAX = 64
DOUBT_CHARS_MAX = 300

app = typer.Typer(
    name="pilot",
    help="Look at the pipeline and steer it. Reading works while it is down.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(rules.app)
app.add_typer(steer.app)
app.add_typer(trade.app)
app.add_typer(analysts_report.app)
app.command(epilog="Examples: pilot doctor; pilot --profile ./mine.toml doctor --json")(doctor.doctor)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.callback()
def options(
    ctx: typer.Context,
    profile: Annotated[str | None, typer.Option(help="Settings to use. Default: PILOT_PROFILE, else paper.")] = None,
) -> None:
    """Look at the pipeline and steer it. Reading works while it is down."""
    asking.profile["name"] = profile
    if ctx.invoked_subcommand == "doctor":
        return  # it says what is wrong with .env among everything else
    try:
        os.environ.update(load.env_file())  # as the supervisor and honcho do it
    except ConfigError as error:
        asking.fail(str(error), ExitCode.CONFIG)


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show processes, intents, positions, account and halts."""
    now = SystemClock().now()
    with asking.database() as (settings, reader):
        sample = reader.last_equity()
        found = tables.Overview(
            profile=settings.profile,
            database=str(load.db_path(settings)),
            counts=reader.status_counts(),
            workers=reader.workers(),
            halts=reader.halts(iso(now)),
            unresolved_orders=reader.unresolved_orders(),
            positions=reader.active_positions(),
            equity=sample,
            requests=reader.requests(sample.day) if sample else None,
            models=reader.llm_day(now.date().isoformat()),
        )
    if as_json:
        asking.print_json(found)
    else:
        tables.show_overview(tables.console(sys.stdout), found, now, settings.bus.dead_s)


@app.command()
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


@app.command()
def show(intent_id: finding.IntentId, as_json: AsJson = False) -> None:
    """Show one intent: every field, every transition with its reason, the checks, the order."""
    with asking.database() as (_, reader):
        story = finding.story(reader, finding.full_id(reader, intent_id))
    if as_json:
        asking.print_json(story)
    else:
        tables.show_story(tables.console(sys.stdout), story)


@app.command()
def cancel(
    intent_id: finding.IntentId,
    reason: Annotated[str, typer.Option(help="Why. It stands in the journal for good.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take back an intent that no order was reserved for."""
    why = asking.need(reason, "--reason")
    with asking.database() as (_, reader):
        full_id = finding.full_id(reader, intent_id)
        intent = finding.story(reader, full_id).intent
    what = f"{full_id} {intent.symbol} {intent.suggested_side or '-'} ({intent.status})"
    asking.consent(f"Cancel {what}?", yes=yes, otherwise="nothing was cancelled")
    ack = asking.ask(messages.Cancel(intent_id=full_id, operator=asking.operator(), reason=why))
    asking.tell(ack, f"{full_id} {intent.symbol}")


@app.command()
def resolve(
    intent_id: finding.IntentId,
    reason: Annotated[str, typer.Option(help="How you know. It stands in the journal for good.")],
    position: Annotated[str | None, typer.Option(metavar="ID", help="The order became this position.")] = None,
    absent: Annotated[bool, typer.Option("--absent", help="The order is nowhere at the broker.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Say what became of an order that the executor cannot tell. Look at the broker first: nothing checks your word."""
    wanted = position.strip() if position is not None else None
    if (wanted is not None) == absent:
        asking.fail("give either --position ID or --absent", ExitCode.USAGE)
    if wanted is not None and not 0 < len(wanted) <= POSITION_ID_CHARS_MAX:
        asking.fail(f"--position was {wanted!r}; allowed: 1 to {POSITION_ID_CHARS_MAX} characters", ExitCode.USAGE)
    why = asking.need(reason, "--reason")
    with asking.database() as (_, reader):
        full_id = finding.full_id(reader, intent_id)
        story = finding.story(reader, full_id)
    what = f"position {wanted}" if wanted else "no position at the broker"
    asking.consent(f"{_order_text(story)} is {what}?", yes=yes, otherwise="nothing was changed")
    ack = asking.ask(
        messages.Resolve(intent_id=full_id, operator=asking.operator(), position_id=wanted, reason=why)
    )  # fmt: skip
    asking.tell(ack, f"{full_id} {story.intent.symbol}")


# ── reading ─────────────────────────────────────────────────────────────────


def _row(reader: Reader, intent: TradeIntent) -> tables.Row:
    moves = reader.transitions(intent.id)
    last = moves[-1] if moves else None
    return tables.Row(
        intent=intent, updated_at=last.at if last else intent.created_at, reason=last.reason if last else ""
    )


def _order_text(story: tables.Story) -> str:
    """Return an intent's order in one line, with what is open about it."""
    intent, order = story.intent, story.order
    if order is None:
        return f"{intent.id} {intent.symbol} ({intent.status}, no order)"
    plan = order.plan
    doubt = f": {text.line(order.reason, DOUBT_CHARS_MAX)}" if order.reason else ""
    return (
        f"{intent.id} {plan.side} {plan.volume} {plan.symbol} SL {plan.sl_price} TP {plan.tp_price}, "
        f"reserved {order.reserved_at} ({order.status}{doubt})"
    )


def _is_date(given: str) -> bool:
    try:
        return calendar_date.fromisoformat(given).isoformat() == given
    except ValueError:
        return False


def main() -> NoReturn:
    """Run one command and exit with its code."""
    logger.remove()  # the store and the bus log; here only the answer counts
    try:
        app()
    except SystemExit as end:
        sys.exit(ExitCode.USAGE if end.code == CLICK_USAGE else end.code)
    sys.exit(ExitCode.OK)


if __name__ == "__main__":
    main()
