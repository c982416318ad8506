"""`pilot rules`: the rule sets of `config/rules`, what they say, where that comes from, and whether it can be trusted.

Used by pilot. Reads files only: no database, no store, no broker. Never changes a set.
Exit codes: 0 done, 1 valid but somebody should look (check), 64 usage, 78 a set or the profile is refused.
"""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from msgspec import Struct
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from actors.compliance import best_day, drawdown, rulebook
from actors.compliance.drawdown import Limit
from actors.compliance.money import amount
from actors.compliance.rulebook import RuleSet
from actors.console import tables, text
from bus.clock import SystemClock
from bus.vocabulary import ExitCode
from config import load
from config.load import ConfigError

WARNED = 1
CHARS_MAX = 2_000
REFUSING = {"cap", "evaluation_share", "raises_target"}  # scopes of the best day that refuse an order

app = typer.Typer(
    name="rules",
    help="Look at the firms' rules: sets under config/rules, or a file of yours. Changes nothing.",
    epilog="Example: pilot rules list",
    no_args_is_help=True,
    rich_markup_mode=None,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Wanted = Annotated[
    str | None,
    typer.Argument(metavar="[NAME|FILE]", help="A set under config/rules, or a .toml file. Default: the active one."),
]


class Value(Struct, frozen=True, kw_only=True):
    """One value of a set, with where it comes from."""

    key: str
    value: str
    confidence: str
    verified_on: date
    source: str


class Figures(Struct, frozen=True, kw_only=True):
    """One loss limit in cents, for an account that stands at its initial balance."""

    limit: str
    reference_cents: int
    stop_cents: int
    flatten_cents: int
    floor_cents: int
    breach_at: str


class Shown(Struct, frozen=True, kw_only=True):
    """A set as `pilot rules show` prints it.

    `best_day_*`: the profit of a day in cents, for an account that stands at its initial balance; None when nothing is
    refused, or closed, for it.
    """

    name: str
    title: str
    is_active: bool
    file: str
    fingerprint: str
    verified_on: date
    age_days: int
    warnings: list[str]
    currency: str
    limits: list[Figures]
    best_day: str
    best_day_cap_cents: int | None
    best_day_stop_cents: int | None
    best_day_flatten_cents: int | None
    values: list[Value]


class Listed(Struct, frozen=True, kw_only=True):
    """A set in a list; `refused` is why it cannot be used, "" when it can."""

    name: str
    title: str = ""
    daily: str = ""
    maximum: str = ""
    best_day: str = ""
    age_days: int | None = None
    is_active: bool = False
    refused: str = ""


@app.command("list", epilog="Example: pilot rules list --json")
def list_sets(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List every set under config/rules: limits, age, and which one is active (*). A refused one ends with 78."""
    active, today = _active(ctx), SystemClock().now().date()
    files = {path.resolve(): path.stem for path in load.RULES.glob("*.toml")}
    names = sorted({**files, _file(active): files.get(_file(active), active)}.values())
    found = [_listed(name, active, today) for name in names]
    if as_json:
        _print_json(found)
    else:
        _show_list(tables.console(sys.stdout), found)
    if any(one.refused for one in found):
        raise typer.Exit(ExitCode.CONFIG)


@app.command(epilog="Examples: pilot rules show; pilot rules show ftmo-2step; pilot rules show ./mine.toml --json")
def show(ctx: typer.Context, name: Wanted = None, as_json: AsJson = False) -> None:
    """Show a set: every value with source, date and confidence, and the levels in money."""
    active = _active(ctx)
    wanted = name or active
    found = _shown(_load(wanted), wanted, active, SystemClock().now().date())
    if as_json:
        _print_json(found)
    else:
        _show_set(tables.console(sys.stdout), found)


@app.command(epilog="Examples: pilot rules check; pilot rules check ftmo-2step && echo trusted")
def check(ctx: typer.Context, name: Wanted = None) -> None:
    """Say whether a set is valid. Exit code 0: valid; 1: valid, but somebody should look; 78: refused, with the key."""
    wanted = name or _active(ctx)
    rules = _load(wanted)
    out = tables.console(sys.stdout)
    out.print(Text(f"valid: {rules.name}, {len(rules.sources)} values, sha256 {rules.fingerprint[:12]}"))
    warnings = rules.warnings(SystemClock().now().date())
    for warning in warnings:
        out.print(Text(f"warning: {text.line(warning, CHARS_MAX)}"))
    if warnings:
        raise typer.Exit(WARNED)


# ── reading ─────────────────────────────────────────────────────────────────


def _active(ctx: typer.Context) -> str:
    """Return what the profile says: a set's name or a path."""
    try:
        return load.settings(ctx.find_root().params.get("profile")).compliance.rules
    except ConfigError as error:
        _fail(str(error))


def _file(name: str) -> Path:
    return (Path(name) if name.endswith(".toml") else load.RULES / f"{name}.toml").resolve()


def _load(name: str) -> RuleSet:
    try:
        return rulebook.load(name, load.RULES)
    except ConfigError as error:
        _fail(str(error))


def _listed(name: str, active: str, today: date) -> Listed:
    try:
        rules = rulebook.load(name, load.RULES)
    except ConfigError as error:
        return Listed(name=name, is_active=_file(name) == _file(active), refused=text.line(str(error), CHARS_MAX))
    return Listed(
        name=rules.name,
        title=rules.title,
        daily=_daily(rules),
        maximum=f"{_percent(rules.maximum.ratio)} {_words(rules.maximum.mode)}",
        best_day=_best_day(rules),
        age_days=(today - rules.verified_on).days,
        is_active=_file(name) == _file(active),
    )


def _shown(rules: RuleSet, wanted: str, active: str, today: date) -> Shown:
    scope = rules.best_day.scope
    return Shown(
        name=rules.name,
        title=rules.title,
        is_active=_file(wanted) == _file(active),
        file=str(_file(wanted)),
        fingerprint=rules.fingerprint,
        verified_on=rules.verified_on,
        age_days=(today - rules.verified_on).days,
        warnings=rules.warnings(today),
        currency=rules.account.currency,
        limits=[_figures(limit) for limit in _limits(rules)],
        best_day=_best_day(rules),
        best_day_cap_cents=best_day.cap_cents(rules) if scope in REFUSING else None,
        best_day_stop_cents=best_day.stop_cents(rules) if scope in REFUSING else None,
        best_day_flatten_cents=best_day.flatten_cents(rules) if scope == "cap" else None,
        values=[
            Value(
                key=key,
                value=_said(value),
                confidence=rules.sources[key].confidence,
                verified_on=rules.sources[key].verified_on,
                source=rules.sources[key].source,
            )
            for key, value in rulebook.values(rules).items()
        ],
    )


def _limits(rules: RuleSet) -> list[Limit]:
    """Return the loss limits of an account that stands at its initial balance and was never higher."""
    initial_cents = rules.account.initial_balance_cents
    daily = [] if rules.daily.kind == "none" else [drawdown.daily(rules, initial_cents)]
    return [*daily, drawdown.maximum(rules, initial_cents)]


def _figures(limit: Limit) -> Figures:
    return Figures(
        limit=limit.name,
        reference_cents=limit.reference_cents,
        stop_cents=limit.stop_cents,
        flatten_cents=limit.at_ratio_cents(limit.flatten_ratio),
        floor_cents=limit.floor_cents,
        breach_at=limit.breach_at,
    )


# ── words ───────────────────────────────────────────────────────────────────


def _percent(ratio: Any) -> str:
    return f"{(ratio * 100).normalize():f}%"


def _words(value: str) -> str:
    return value.replace("_", " ")


def _daily(rules: RuleSet) -> str:
    if rules.daily.kind == "none":
        return "none"
    return f"{_percent(rules.daily.ratio)} of {rules.daily.base}, {_words(rules.daily.kind)}"


def _best_day(rules: RuleSet) -> str:
    return (
        "none" if rules.best_day.scope == "none" else f"{_percent(rules.best_day.ratio)} {_words(rules.best_day.scope)}"
    )


def _said(value: Any) -> str:
    """Return a value as one would write it by hand."""
    if isinstance(value, tuple):
        return ", ".join(one.label if isinstance(one, rulebook.Moment) else str(one) for one in value) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


# ── printing ────────────────────────────────────────────────────────────────


def _show_list(out: Console, found: list[Listed]) -> None:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for title in ("", "set", "daily loss", "maximum loss", "best day", "age"):
        table.add_column(title, overflow="fold", no_wrap=title in ("set", "age"))
    for one in found:
        mark = "*" if one.is_active else ""
        if one.refused:
            table.add_row(mark, Text(one.name), Text("refused"))
            continue
        age = f"{one.age_days}d" + ("!" if (one.age_days or 0) > rulebook.STALE_DAYS else "")
        table.add_row(mark, Text(one.name), Text(one.daily), Text(one.maximum), Text(one.best_day), age)
    out.print(table)
    for one in found:
        if one.refused:
            out.print(Text(f"refused: {one.refused}", "bold red"))
    out.print(Text(f"* active   ! older than {rulebook.STALE_DAYS} days: compare it with the account's dashboard"))


def _show_set(out: Console, found: Shown) -> None:
    out.print(Text(text.line(found.title, CHARS_MAX)))
    out.print(Text(f"{found.name}{', active' if found.is_active else ''}"), soft_wrap=True)
    out.print(Text(f"{found.file}, sha256 {found.fingerprint[:12]}"), soft_wrap=True)
    out.print(Text(f"checked last on {found.verified_on}, {found.age_days} days ago"))
    for warning in found.warnings:
        out.print(Text(f"warning: {text.line(warning, CHARS_MAX)}", "yellow"))
    out.print(Text(f"\nLevels in {found.currency} of an account at its initial balance", "bold"))
    table = Table(box=None, padding=(0, 2, 0, 2), pad_edge=False)
    table.add_column("")
    for title in ("reference", "no new order", "all closed", "breach"):
        table.add_column(title, justify="right")
    for limit in found.limits:
        cents = (limit.reference_cents, limit.stop_cents, limit.flatten_cents, limit.floor_cents)
        table.add_row(f"  {limit.limit}", *(amount(one) for one in cents))
    if found.best_day_cap_cents is not None:
        profits = (0, found.best_day_stop_cents, found.best_day_flatten_cents, found.best_day_cap_cents)
        table.add_row("  best day", *("-" if one is None else f"+{amount(one)}" for one in profits))
    out.print(table)
    if found.best_day_cap_cents is None:
        out.print(Text(f"  best day: {found.best_day}; no order is refused for it"))
    section = ""
    for value in found.values:
        table_name, _, key = value.key.partition(".")
        if table_name != section:
            section = table_name
            out.print(Text(f"\n{section}", "bold"))
        out.print(Text(f"  {key:<24} {text.line(value.value, CHARS_MAX)}"))
        origin = f"{value.confidence}, {value.verified_on}: {text.line(value.source, CHARS_MAX)}"
        out.print(Padding(Text(origin, "dim"), (0, 0, 0, 6)))


def _print_json(found: Any) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n")


def _fail(message: str) -> NoReturn:
    tables.console(sys.stderr).print(f"pilot: {text.line(message, CHARS_MAX)}", soft_wrap=True)
    raise typer.Exit(ExitCode.CONFIG)
