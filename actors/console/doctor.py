"""`pilot doctor`: look at everything that must be right before an account is traded, and say how to put it right.

Used by pilot. Writes nothing to the broker, never tries a refused password twice, shows no secret. Works with the
pipeline down or running; its requests are not granted by the store, so it makes few and says how many.
Exit codes: 0 nothing failed (there may be warnings), 69 broker, language model or Telegram unreachable, 77 login or
account refused, 78 a setting, file, secret, clock or rule is wrong. Of several classes the highest.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

import typer
from msgspec import Struct
from rich.console import Console
from rich.table import Table
from rich.text import Text

from actors.broker.password import PAPER
from actors.compliance import day as days
from actors.compliance.rulebook import RuleSet
from actors.console import asking, findings, foreign, machine, outside, tables, telegram
from actors.console.findings import UNREACHABLE, Finding
from bus.clock import Clock, SystemClock
from config import load
from config.load import ConfigError
from config.settings import Settings
from store import owner
from store.queries import DatabaseRefused, NoDatabase, Reader

# What comes first must be right before what follows means anything. Checks of one name keep their order.
ORDER = (
    "python", "sqlite", "packages", "disk", "clock", "data", "run", "database", ".env", "settings", "read-only",
    "secrets", "broker", "login", "account", "symbols", "prices", "sessions", "rules", "attested", "balance",
    "positions", "requests", "llm", "telegram", "alerts",
)  # fmt: skip
app = typer.Typer(rich_markup_mode=None)
STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


class Report(Struct, frozen=True, kw_only=True):
    """What was found, in the order of the checks. `requests` is how many of them went to the broker."""

    exit_code: int
    requests: int
    findings: list[Finding]


class Known(Struct, frozen=True, kw_only=True):
    """What the database says of the account. `left` requests until the reset, beside the reserve for closing."""

    found: list[Finding]
    owned_ids: frozenset[str] = frozenset()
    left: int | None = None  # None: not known


@app.command(epilog="Examples: pilot doctor; pilot --profile ./mine.toml doctor --json")
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Check machine, secrets, broker, rules, language model and Telegram; say how to put right what is wrong."""
    report = asyncio.run(examine(asking.profile["name"], SystemClock()))
    if as_json:
        asking.print_json(report)
    else:
        show(tables.console(sys.stdout), report)
    if report.exit_code:
        raise typer.Exit(report.exit_code)


async def examine(profile: str | None, clock: Clock) -> Report:
    """Make every check that can be made, in order."""
    found = [machine.env_file()]
    if found[0].state == "ok":
        os.environ.update(load.env_file())  # as the supervisor and honcho do it
    settings, said = machine.settings(profile)
    found = [*machine.versions(), *machine.packages(), *machine.folders(settings), *found, *said, machine.read_only()]
    if settings is None:
        return _report(found, (), 0)
    rules, said = machine.rules(settings, clock.now().date())
    secrets, of_secrets = machine.secrets(settings)
    known = _known(settings, rules, clock.now())
    found += [*said, *of_secrets, *known.found]
    visit = outside.Visit(
        settings, rules, secrets.get(settings.broker.secret_env, PAPER), clock=clock, owned_ids=known.owned_ids
    )
    if (reason := _why_not_asked(found, known)) is None:
        await visit.make()
        found += visit.found
    else:
        found.append(findings.warn("broker", f"not asked: {reason}", "put that right, then run it again"))
    found += await outside.language_model(settings, clock)
    found += await foreign.tradingagents(settings, clock)
    token, chat = (secrets.get(name, "") for name in (telegram.TOKEN, telegram.CHAT))
    found += await telegram.check(settings.alerts.telegram_url, token, chat)
    found += telegram.others(settings.alerts)
    return _report(found, secrets.values(), visit.requests)


def _report(found: list[Finding], secrets: Iterable[str], requests: int) -> Report:
    """Return the findings in their order, without secrets that somebody quoted back."""
    hidden = tuple(secrets)
    shown = [findings.without_secrets(one, hidden) for one in found]
    shown.sort(key=lambda one: ORDER.index(one.check))
    return Report(exit_code=findings.exit_code(shown), requests=requests, findings=shown)


def _why_not_asked(found: list[Finding], known: Known) -> str | None:
    """Return why the broker must not be asked now, or None."""
    if wrong := [one.check for one in found if one.state == "fail" and one.check in ("settings", "secrets", ".env")]:
        return f"a login with wrong {' and '.join(dict.fromkeys(wrong))} may lock the account"
    if known.left is not None and known.left < outside.REQUESTS_MAX:
        return "the requests that are left today are for closing"
    return None


def _known(settings: Settings, rules: RuleSet | None, now: datetime) -> Known:
    """Return what the database says: requests of today, our positions, and who attested the rules."""
    try:
        reader = Reader(load.db_path(settings))
    except NoDatabase:
        fix = "start the pipeline once: supervisor --monitor-only"
        return Known(found=[findings.warn("database", "there is none yet: nothing is counted or attested", fix)])
    except DatabaseRefused as error:
        fix = "see docs/operations.md, The database is damaged"
        return Known(found=[findings.fail("database", str(error), fix)])
    except ConfigError:
        return Known(found=[])  # the data folder: told by its own check
    try:
        if why := reader.foreign_to(owner.of_settings(settings.broker)):
            return Known(found=[findings.fail("database", why, "see docs/runbook.md, Exit code 78")])
        owned_ids = frozenset(one.position_id for one in reader.active_positions() if one.position_id)
        if rules is None:
            return Known(found=[], owned_ids=owned_ids)
        left, used = _requests(reader, rules, now)
        return Known(found=[used, *_attested(reader, settings, rules)], owned_ids=owned_ids, left=left)
    except DatabaseRefused as error:
        return Known(found=[findings.fail("database", str(error), "see docs/operations.md")])
    finally:
        reader.close()


def _requests(reader: Reader, rules: RuleSet, now: datetime) -> tuple[int, Finding]:
    """Return the requests left by the reading of the firm's day that has most behind it, and the line that says so."""
    first, *others = days.firm_days(rules, now)
    used = max(sum(reader.requests(key)) for key in (first.day, *(f"{one.day} {one.reset}" for one in others)))
    left = max(0, rules.requests.per_day - rules.requests.reserve - used)
    said = f"{used} of {rules.requests.per_day} granted today; {left} left beside {rules.requests.reserve} for closing"
    if left < outside.REQUESTS_MAX:
        return left, findings.fail("requests", said, "wait for the firm's reset", UNREACHABLE)
    return left, findings.ok("requests", said)


def _attested(reader: Reader, settings: Settings, rules: RuleSet) -> list[Finding]:
    if not settings.broker.is_live:
        return []
    found = reader.attestation(settings.broker.account_id, rules.fingerprint)
    if found is None:
        said = f"nobody attested {rules.name} as it stands for {settings.broker.account_id}: every order is refused"
        return [findings.warn("attested", said, "compare it with the dashboard, then run: pilot attest")]
    return [findings.ok("attested", f"by {found.operator} at {found.at}")]


# ── printing ────────────────────────────────────────────────────────────────


def show(out: Console, report: Report) -> None:
    """Print a line for each finding, with its fix below, and what it all means."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in report.findings:
        table.add_row(Text(one.state, STYLES[one.state]), Text(one.check), Text(one.found))
        if one.fix:
            table.add_row("", "", Text(f"-> {one.fix}", "bold"))
    out.print(table)
    counts = {state: sum(1 for one in report.findings if one.state == state) for state in STYLES}
    asked = f"{report.requests} request{'s' * (report.requests != 1)} went to the broker"
    warned = f"{counts['warn']} warning{'s' * (counts['warn'] != 1)}"
    out.print(Text(f"\n{counts['fail']} failed, {warned}, {counts['ok']} well. {asked}; the store did not count them."))
