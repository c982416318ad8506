"""`pilot scan`: one ranking by hand, or an evaluation of the ranking on bars it had not seen. Proposes nothing.

Used by pilot. Takes the bars that are at hand: files, and what the scanner has kept of broker and Twelve Data; asks no
network, takes no lock, saves no model, so that it works beside the pipeline and while it is down.
Exit codes: 0 done, 1 no ranking (the reason says why), 64 usage, 78 configuration.
"""

from __future__ import annotations

import os
import sys
from datetime import date
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from actors.console import asking, tables, text
from actors.market.intervals import Interval
from actors.market.job import Failed, Ranked, ScanJob
from bus.clock import SystemClock
from bus.vocabulary import ExitCode
from config import load
from config.load import ConfigError
from config.settings import Settings

CHARS_MAX = 400
TIMEFRAMES: dict[str, Interval] = {"D1": "D1", "H4": "H4", "H1": "H1"}
NOTHING = "Nothing was proposed. A ranking orders candidates; no edge is promised."

AsOf = Annotated[
    str | None, typer.Option("--as-of", metavar="DATE", help="Rank as on this day, YYYY-MM-DD: no later bar is seen.")
]


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """A ranking by hand as JSON. `proposed` is always 0: it says so to whoever reads only this."""

    proposed: int
    as_of: str | None
    timeframe: str
    ranking: Ranked


app = typer.Typer(rich_markup_mode=None)


@app.command(epilog="Examples: pilot scan; pilot scan --as-of 2024-06-03; pilot scan --evaluate")
def scan(
    as_of: AsOf = None,
    timeframe: Annotated[str, typer.Option(help="D1, H4 or H1.")] = "D1",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    evaluate: Annotated[bool, typer.Option("--evaluate", help="Measure the ranking instead; takes minutes.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where --evaluate writes. Default: reports in the data folder."),
    ] = None,
    cost_bp: Annotated[
        float, typer.Option("--cost-bp", min=0, max=100, help="Cost of one replaced pick, in basis points.")
    ] = 1.0,
) -> None:
    """Rank the pairs once, by hand, and show it. Proposes nothing, trades nothing."""
    interval = TIMEFRAMES.get(timeframe.upper())
    if interval is None:
        asking.fail(f"--timeframe was {timeframe!r}; allowed: {', '.join(TIMEFRAMES)}", ExitCode.USAGE)
    if out is not None and not evaluate:
        asking.fail("--out goes with --evaluate only", ExitCode.USAGE)
    now = SystemClock().now()
    day = _day(as_of, now.date())
    try:
        settings = load.settings(asking.profile["name"])
    except ConfigError as error:
        asking.fail(str(error), ExitCode.CONFIG)
    job = a_job(settings, interval, today=(day or now.date()).isoformat(), now="" if day else now.isoformat())
    job = msgspec.structs.replace(job, as_of=day.isoformat() if day else None)
    # As in the scanner's child process: set before numpy and OpenMP read it.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    if evaluate:
        from actors.console import evaluation

        evaluation.run(job, out or load.data_folder() / "reports", cost_bp=cost_bp, as_json=as_json)
        return
    found = _ranked(job)
    if as_json:
        asking.print_json(Looked(proposed=0, as_of=job.as_of, timeframe=interval, ranking=found))
    else:
        show(tables.console(sys.stdout), found, interval)


def a_job(settings: Settings, interval: Interval, *, today: str, now: str) -> ScanJob:
    """Return the scan that the scanner would do, by hand."""
    return ScanJob(
        symbols=settings.symbols,
        scanner=settings.scanner,
        today=today,
        models_folder=str(load.data_folder() / "models"),
        timeframe=interval,
        now=now,
        bars_folder=str(load.data_folder() / "bars"),
        holidays=settings.compliance.holidays,
        broker=settings.broker,
        by_hand=True,
    )


def _day(given: str | None, today: date) -> date | None:
    if given is None:
        return None
    try:
        found = date.fromisoformat(given)
    except ValueError:
        found = None
    if found is None or found.isoformat() != given or found > today:
        asking.fail(f"--as-of was {given!r}; allowed: YYYY-MM-DD, up to today", ExitCode.USAGE)
    return found


def _ranked(job: ScanJob) -> Ranked:
    from actors.market import scan as scanning

    found = scanning.scan(job)
    if isinstance(found, Failed):
        code = ExitCode.CONFIG if found.kind == "configuration" else asking.REFUSED
        asking.fail(f"no ranking: {found.reason}", code)
    assert isinstance(found, Ranked), "a job without a last scan is neither skipped nor a training"
    return found


def show(out: Console, found: Ranked, interval: Interval) -> None:
    """Print a ranking, useful at 80 columns."""
    source = found.signals[0].source
    out.print(Text(f"{found.pairs} pairs, {interval} bar of {found.bar_time}, {source}", "bold"))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("pair")
    table.add_column("hint")
    for title in ("score", "gap", "to first out"):
        table.add_column(title, justify="right")
    table.add_column("clear")
    for title in ("close", "pips a bar"):
        table.add_column(title, justify="right")
    for one in found.signals:
        table.add_row(
            one.symbol, one.side_hint, f"{one.score:+.4f}", f"{one.score_gap:.4f}", f"{one.drop_distance:.4f}",
            one.confidence, f"{one.close:.5f}", f"{one.volatility_pips:.1f}",
        )  # fmt: skip
    out.print(table)
    made = "as it is" if found.trained_s is None else f"trained for this in {found.trained_s:.1f} s, not saved"
    lines = [
        f"Net dollar side of these: {found.net_usd:+d}.",
        f"Model {found.model_id}, {made}; rank correlation on unseen bars {found.rank_ic:+.3f}.",
        *(f"Passed over {one.symbol}: {one.reason}" for one in found.same_bets),
        *(f"Left out {one.symbol}: {one.reason}" for one in found.left_out),
        *found.notes,
        NOTHING,
    ]
    for said in lines:
        out.print(Text(text.line(said, CHARS_MAX)))
