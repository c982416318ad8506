"""`pilot pause|resume|flatten|halts|attest|day`: the operator's hand on the brake, and his word where nobody knows.

Used by pilot. Every change is asked of the store and recorded with the operator's name and reason. Never talks to the
broker: closing positions is the monitor's work.
Exit codes: those of pilot.
"""

from __future__ import annotations

import sys
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer
from rich.text import Text

from actors.compliance import day as firm_day
from actors.compliance import marks as trailing
from actors.compliance import rulebook
from actors.compliance.money import amount
from actors.compliance.rulebook import RuleSet
from actors.console import asking, tables, text
from actors.console.options import AsJson, Reason, Yes
from bus import messages
from bus.clock import SystemClock, iso, parse
from bus.records import AccountDay, AccountMark, Halt
from bus.vocabulary import ExitCode, Outcome
from config.load import ConfigError
from config.settings import Settings
from store.queries import Reader

CENTS_MAX = 10_000_000_000
REASON_CHARS_MAX = 300

app = typer.Typer(rich_markup_mode=None)


@app.command(epilog='Examples: pilot pause --reason holiday; pilot pause --until 2026-11-03T07:00Z --reason "payrolls"')
def pause(
    reason: Reason,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When it ends by itself, with its zone. Default: at `pilot resume`."),
    ] = None,
    yes: Yes = False,
) -> None:
    """Stop new orders. What is open stays open, and is watched."""
    why, end = asking.need(reason, "--reason"), _end_of(until)
    lasts = f"until {end}" if end else "until `pilot resume`"
    asking.consent(f"Stop new orders {lasts}?", yes=yes, otherwise="nothing was stopped")
    ack = asking.ask(messages.Pause(operator=asking.operator(), reason=why, until=end))
    asking.tell(ack, f"no new orders {lasts}")


@app.command(epilog='Examples: pilot resume --reason "looked at it"; pilot resume --halt 4 --reason "false alarm"')
def resume(
    reason: Reason,
    halt: Annotated[int | None, typer.Option(metavar="N", help="Only this halt. Default: all that stand.")] = None,
    yes: Yes = False,
) -> None:
    """Lift halts. A halt of an order that is not settled needs `pilot resolve` first."""
    why = asking.need(reason, "--reason")
    with asking.database() as (_, reader):
        standing = [one for one in reader.halts(iso(SystemClock().now())) if halt in (None, one.id)]
    lines = "; ".join(_line_of(one) for one in standing)
    if standing:
        asking.consent(f"Lift {lines}?", yes=yes, otherwise="nothing was lifted")
    ack = asking.ask(messages.Resume(operator=asking.operator(), reason=why, halt_id=halt))
    asking.tell(ack, "resume")


@app.command(epilog='Example: pilot flatten --reason "firm announced maintenance"')
def flatten(reason: Reason, yes: Yes = False) -> None:
    """Close every position and stop new orders until `pilot resume`. The monitor does it, even without the executor."""
    why = asking.need(reason, "--reason")
    with asking.database() as (_, reader):
        known = len(reader.active_positions())
    what = f"Close every position of the account ({known} of ours are open) and stop new orders?"
    asking.consent(what, yes=yes, otherwise="nothing was closed")
    ack = asking.ask(messages.Flatten(operator=asking.operator(), reason=why))
    asking.tell(ack, "every position will be closed", "see `pilot status`")


@app.command(epilog="Example: pilot halts --json")
def halts(as_json: AsJson = False) -> None:
    """List the halts that stand, each with its number, its reason and when it ends."""
    with asking.database() as (_, reader):
        found = reader.halts(iso(SystemClock().now()))
    if as_json:
        asking.print_json(found)
        return
    out = tables.console(sys.stdout)
    for halt in found:
        out.print(Text(_line_of(halt), "bold red"), soft_wrap=True)
        out.print(Text(f"  raised {halt.raised_at} by {text.line(halt.raised_by, REASON_CHARS_MAX)}"), soft_wrap=True)
    if not found:
        out.print("no halt stands")


@app.command(
    epilog='Example: pilot attest --text "compared with the dashboard on 2026-11-02; E8 support allowed EAs, #123"'
)
def attest(
    text_given: Annotated[
        str, typer.Option("--text", help="What you compared, and who at the firm allowed EAs. It stands for good.")
    ],
    yes: Yes = False,
) -> None:
    """Record that you compared the rule set with the account's dashboard and that the firm allows trading by EA.

    Live trading starts only after this, and only for this account under exactly this rule set: one changed byte asks
    for it again.
    """
    said = asking.need(text_given, "--text")
    with asking.database() as (settings, _):
        rules = _rules(settings)
    account_id = settings.broker.account_id
    out = tables.console(sys.stderr)
    out.print(Text(f"account {account_id} ({settings.broker.kind}), rule set {rules.name}: {rules.title}"))
    out.print(Text(f"sha256 {rules.fingerprint}"), soft_wrap=True)
    for warning in rules.warnings(SystemClock().now().date()):
        out.print(Text(f"warning: {text.line(warning, 2_000)}", "yellow"), soft_wrap=True)
    out.print(Text("every value: pilot rules show; what to compare: docs/compliance.md"))
    question = (
        f"Are these the rules of account {account_id} on the firm's dashboard today, and does the firm allow it to be "
        "traded by a custom EA?"
    )
    asking.consent(question, yes=yes, otherwise="nothing was attested")
    ack = asking.ask(
        messages.Attest(
            operator=asking.operator(), account_id=account_id, rules=rules.name, rules_hash=rules.fingerprint, text=said
        )
    )  # fmt: skip
    asking.tell(ack, f"account {account_id} under {rules.name} {rules.fingerprint[:12]}")


@app.command(
    epilog='Examples: pilot day --balance 50123.45 --reason "dashboard"; '
    'pilot day --balance 50123.45 --reference 50200.00 --mark 51000.00 --reason "dashboard"'
)
def day(
    reason: Reason,
    balance: Annotated[str | None, typer.Option(metavar="MONEY", help="What the firm's day started with.")] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="MONEY", help="What its loss is counted from, where that was higher.")
    ] = None,
    mark: Annotated[
        str | None, typer.Option(metavar="MONEY", help="The highest value so far that the maximum loss trails.")
    ] = None,
    reset: Annotated[
        str | None, typer.Option(metavar="LABEL", help='Only this reading of the reset, e.g. "00:00 Europe/Athens".')
    ] = None,
    yes: Yes = False,
) -> None:
    """Say what today's firm day started with, when nobody can know it: `pilot status` shows that trading waits for it.

    Read it from the firm's dashboard. A day that is known already stays as it is.
    """
    why = asking.need(reason, "--reason")
    if balance is None and mark is None:
        asking.fail("give --balance, --mark or both", ExitCode.USAGE)
    with asking.database() as (settings, reader):
        rules = _rules(settings)
        commands = _declarations(
            settings, rules, reader, why, _cents(balance, "--balance"), _cents(reference, "--reference"),
            _cents(mark, "--mark"), reset,
        )  # fmt: skip
    said = "; ".join(_said(command) for command in commands)
    asking.consent(f"{said}?", yes=yes, otherwise="nothing was declared")
    answers = [(command, asking.ask(command)) for command in commands]
    for command, ack in sorted(answers, key=lambda one: one[1].outcome is Outcome.REFUSED):
        asking.tell(ack, _said(command))


# ── plumbing ────────────────────────────────────────────────────────────────


def _end_of(until: str | None) -> str | None:
    """Return the end of a pause as the store writes it."""
    if until is None:
        return None
    try:
        moment = parse(until)
    except ValueError as error:
        asking.fail(f"--until was {until!r}: {error}; allowed: such as 2026-11-03T07:00Z", ExitCode.USAGE)
    if moment <= (now := SystemClock().now()):
        asking.fail(f"--until was {until!r}; it must lie after now, {iso(now)}", ExitCode.USAGE)
    return iso(moment)


def _line_of(halt: Halt) -> str:
    ends = f"until {halt.until}" if halt.until else "until lifted"
    closes = ", closing every position" if halt.flatten else ""
    return f"halt {halt.id} ({halt.kind}, {ends}{closes}): {text.line(halt.reason, REASON_CHARS_MAX)}"


def _rules(settings: Settings) -> RuleSet:
    try:
        return rulebook.load(settings.compliance.rules)
    except ConfigError as error:
        asking.fail(str(error), ExitCode.CONFIG)


def _cents(given: str | None, option: str) -> int | None:
    """Return an amount of money in cents. Ends the command for anything that is not one."""
    if given is None:
        return None
    try:
        cents = Decimal(given.replace(",", "")) * 100
    except InvalidOperation:
        cents = Decimal(0)
    if not (cents.is_finite() and cents == cents.to_integral_value() and 0 < cents <= CENTS_MAX):
        asking.fail(f"{option} was {given!r}; allowed: an amount above 0 such as 50123.45", ExitCode.USAGE)
    return int(cents)


def _declarations(
    settings: Settings, rules: RuleSet, reader: Reader, reason: str, balance_cents: int | None,
    reference_cents: int | None, mark_cents: int | None, reset: str | None,
) -> list[messages.DeclareDay]:  # fmt: skip
    """Return what to declare: a command for each reading of the reset whose day is not known, and the mark."""
    now, operator = SystemClock().now(), asking.operator()
    days = [found for found in firm_day.firm_days(rules, now) if reset in (None, found.reset)]
    if not days:
        known = ", ".join(moment.label for moment in firm_day.readings(rules))
        asking.fail(f"--reset was {reset!r}; allowed: {known}", ExitCode.USAGE)
    if balance_cents is not None and reference_cents is None and rules.daily.reference != "balance":
        asking.fail("--reference is missing: this firm counts from the higher of balance and equity", ExitCode.USAGE)
    marks = _marks(settings, rules, mark_cents, now)
    kept = {found: reader.account_day(found.day, settings.broker.account_id, found.reset) for found in days}
    declared = [
        messages.DeclareDay(operator=operator, reason=reason, marks=marks, day=stands or AccountDay(
            account_id=settings.broker.account_id, day=found.day, reset=found.reset, starts_at=iso(found.starts_at),
            ends_at=iso(found.ends_at), start_balance_cents=balance_cents or 0,
            reference_cents=reference_cents or balance_cents or 0,
            initial_balance_cents=rules.account.initial_balance_cents, created_at=iso(now),
            note=text.line(f"operator {operator}: {reason}", REASON_CHARS_MAX),
        ))
        for found, stands in kept.items()
        if (stands is None and balance_cents is not None) or (stands is not None and marks)
    ]  # fmt: skip
    if not declared:
        what = "; ".join(_known(stands) for stands in kept.values() if stands) or "give --balance for a day not known"
        asking.fail(f"nothing to declare: {what}", asking.REFUSED)
    return declared


def _marks(settings: Settings, rules: RuleSet, cents: int | None, now: datetime) -> tuple[AccountMark, ...]:
    if cents is None:
        return ()
    kind = trailing.kind_of(rules)
    if kind is None:
        asking.fail(f"--mark: the maximum loss of {rules.name} trails nothing", ExitCode.USAGE)
    return (
        AccountMark(
            account_id=settings.broker.account_id, kind=kind, value_cents=cents, at=iso(now), known_until=iso(now)
        ),
    )


def _known(day: AccountDay) -> str:
    start, reference = amount(day.start_balance_cents), amount(day.reference_cents)
    return f"day {day.day} ({day.reset}) started with {start}, counted from {reference}"


def _said(command: messages.DeclareDay) -> str:
    marks = "".join(f", highest {mark.kind} {amount(mark.value_cents)}" for mark in command.marks)
    return f"{_known(command.day)}{marks}"
