"""`pilot analysts report`: what each analyst's verdicts were worth, each figure with its 95 % interval and its n.

Used by pilot. Reads the database and the scanner's bars; changes nothing, asks nobody. Says nothing of the future.
Exit codes: 0 done, 3 no database yet, 64 usage, 78 configuration.
"""

from __future__ import annotations

import sys
from datetime import date
from typing import Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from actors.console import analysts, asking, later_bars, measures, tables, text
from actors.console.analysts import Comparison, Group, Report
from actors.console.measures import Calibration, Mean, Share
from bus.clock import SystemClock
from bus.vocabulary import ExitCode

EVER = "0001-01-01"
SINCE = "Decided on this UTC day or later, YYYY-MM-DD. Default: all."
CHARS_MAX = 400
SMALL = "n too small to tell"

app = typer.Typer(
    name="analysts",
    help="Look at what the analysts decided and what came of it. Changes nothing.",
    epilog="Example: pilot analysts report",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def options() -> None:
    """Look at what the analysts decided and what came of it. Changes nothing."""


@app.command(
    epilog="Examples: pilot analysts report; pilot analysts report --since 2026-10-01; pilot analysts report --json"
)
def report(
    since: Annotated[str, typer.Option(metavar="DATE", help=SINCE, show_default=False)] = EVER,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Measure hit rate, R, cost, agreement and calibration of each analyst, and of shadows beside those who traded."""
    try:
        first = date.fromisoformat(since)
    except ValueError:
        asking.fail(f"--since was {since!r}; allowed: YYYY-MM-DD", ExitCode.USAGE)
    now = SystemClock().now()
    with asking.database() as (settings, reader):
        found = analysts.report(
            reader.analysed(first.isoformat()),
            since=first.isoformat(),
            bars_of=lambda symbols: later_bars.read(settings.scanner, symbols, now.date()),
        )
    if as_json:
        asking.print_json(found)
    else:
        show(tables.console(sys.stdout), found)


def show(out: Console, found: Report) -> None:
    """Print the report, useful at 80 columns."""
    if not found.decisions:
        out.print("no decisions")
        return
    out.print(
        _said(f"{found.decisions} decisions. 95 % intervals in brackets: Wilson's of shares, Student's of means.")
    )
    out.print(_said(f"Simulated: {found.bars}. Past figures; no edge is claimed."))
    if found.unreadable:
        out.print(_said(f"{found.unreadable} decisions have no figures in the journal and are left out."))
    for group in found.groups:
        _group(out, group)
    for one in found.comparisons:
        _comparison(out, one)


def _group(out: Console, group: Group) -> None:
    out.print()
    kind = "shadow, not traded: " if group.is_shadow else ""
    out.print(Text(text.line(f"{kind}{group.analyst}", CHARS_MAX), "bold"))
    silent = f", {group.no_verdict} without a verdict" if group.no_verdict else ""
    rows = [
        ("decisions", f"{group.decisions}, {group.refused} refused by a check{silent}"),
        ("HOLD", _share(group.hold)),
        ("agrees with scanner", _share(group.agreement)),
    ]
    if not group.is_shadow:
        rows += [("hit rate, traded", _share(group.hit_rate)), ("mean R, traded", _mean(group.mean_r, "R"))]
    rows += [
        ("hit rate, simulated", f"{_share(group.simulated_hit_rate)}; {group.simulated_open} still open"),
        ("mean R, simulated", _mean(group.simulated_r, "R")),
        ("tokens a decision", _mean(group.tokens, "", digits=0) if group.tokens.n else "none counted"),
        ("cost a decision", _cost(group)),
        ("confidence", _brier(group)),
    ]
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    out.print(table)
    if group.calibration.n:
        out.print(_bins(group.calibration))


def _comparison(out: Console, one: Comparison) -> None:
    out.print()
    out.print(Text(text.line(f"{one.shadow} (shadow) minus {one.traded}", CHARS_MAX), "bold"))
    said = f"{_mean(one.difference_r, 'R')}; per signal, both simulated, HOLD counts 0"
    out.print(Padding(_said(said), (0, 0, 0, 1)))


def _bins(found: Calibration) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=True)
    for title in ("said", "on average", "was right"):
        table.add_column(title, no_wrap=title != "was right", overflow="fold")
    for one in found.bins:
        if one.right.n:
            average = f"{one.confidence:.2f}" if one.confidence is not None else "-"
            table.add_row(f"{one.from_:.1f} to {one.to:.1f}", average, Text(_share(one.right)))
    return table


def _brier(group: Group) -> str:
    found = group.calibration
    if found.brier is None or found.brier_base is None:
        return f"nothing to compare ({group.calibrated_on})"
    return (
        f"Brier score {found.brier:.3f} (always saying the hit rate: {found.brier_base:.3f}), n {found.n}, "
        f"{group.calibrated_on}{_small(found.n)}"
    )


def _cost(group: Group) -> str:
    if group.cost_usd.n:
        rest = f"; {group.unpriced} without a price" if group.unpriced else ""
        return f"{_mean(group.cost_usd, 'USD', digits=4)}{rest}"
    return "prices not known: tokens only" if group.unpriced else "none"


def _share(found: Share) -> str:
    if found.value is None or found.low is None or found.high is None:
        return "none yet, n 0"
    return (
        f"{100 * found.value:.1f} % [{100 * found.low:.1f} .. {100 * found.high:.1f}], "
        f"{found.hits} of {found.n}{_small(found.n)}"
    )


def _mean(found: Mean, unit: str, *, digits: int = 2) -> str:
    if found.value is None:
        return "none yet, n 0"
    sign = "+" if unit == "R" else ""
    named = f" {unit}" if unit else ""
    if found.low is None or found.high is None:
        return f"{found.value:{sign}.{digits}f}{named} [no interval from one], n 1, {SMALL}"
    return (
        f"{found.value:{sign}.{digits}f}{named} [{found.low:{sign}.{digits}f} .. {found.high:{sign}.{digits}f}], "
        f"n {found.n}{_small(found.n)}"
    )


def _small(n: int) -> str:
    return f", {SMALL}" if n < measures.SMALL_N else ""


def _said(said: str) -> Text:
    return Text(text.line(said, CHARS_MAX * 4))
