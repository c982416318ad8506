"""`pilot scan --evaluate`: the ranking measured on bars it had not seen, as a page and as JSON.

Used by pilot, in its own process; the scanner has no part in it. Says on the terminal's error side how far it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from actors.console import asking
from actors.market import durable
from actors.market.errors import ScanError
from actors.market.figures import Evaluation
from actors.market.job import ScanJob
from bus import failpoints
from bus.clock import SystemClock, iso
from bus.vocabulary import ExitCode
from config.load import ConfigError


def run(job: ScanJob, folder: Path, *, cost_bp: float, as_json: bool) -> None:
    """Measure, write both files, and say where they are and what they say in short."""
    from actors.market import report

    try:
        found = measured(job, cost_bp=cost_bp)
    except ScanError as error:
        asking.fail(f"no evaluation: {error}", asking.REFUSED)
    except ConfigError as error:
        asking.fail(str(error), ExitCode.CONFIG)
    _progress("pictures")
    name = f"evaluation-{found.timeframe}-{found.source}-{found.last_bar.replace(':', '')}"
    page, figures = folder / f"{name}.html", folder / f"{name}.json"
    content = msgspec.json.format(msgspec.json.encode(found), indent=2)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        failpoints.reach("pilot.before_write_report")  # the page and the figures of an evaluation
        durable.write(page, report.page(found).encode())
        durable.write(figures, content)
        failpoints.reach("pilot.after_write_report")
    except OSError as error:
        asking.fail(f"the report cannot be written: {error}", asking.REFUSED)
    sys.stderr.write("\n")
    if as_json:
        sys.stdout.write(content.decode() + "\n")
        return
    for one in found.methods:
        sys.stdout.write(
            f"{one.name:<12} rank IC {one.rank_ic:+.4f} (t {one.t:+.2f})  hit rate {one.hit_rate:.1%}  "
            f"net {one.net_bp:+.2f} bp (t {one.net_t:+.2f})\n"
        )
    sys.stdout.write(f"{found.note}\nWritten: {page}\n         {figures}\n")


def measured(job: ScanJob, *, cost_bp: float) -> Evaluation:
    """Return the figures on all bars at hand. Raises ScanError, ConfigError."""
    from actors.market import evaluate, gather, model, walk_forward, windows

    model.require_lightgbm()
    gathering = gather.Gathering(job, windows.HISTORY_BARS_MAX)
    good = gathering.bars()
    wanted = job.scanner
    return evaluate.evaluation(
        good,
        effort=walk_forward.Effort(wanted.train_bars_max, wanted.seeds, _progress),
        top_k=wanted.top_k,
        cost_bp=cost_bp,
        made_at=iso(SystemClock().now()),
        left_out=[f"{out.symbol}: {out.reason}" for out in gathering.left_out],
    )


def _progress(what: str) -> None:
    """Say what is being done, in one line on a terminal."""
    begin, end = ("\r\x1b[K", "") if sys.stderr.isatty() else ("", "\n")
    sys.stderr.write(f"{begin}{what} ...{end}")
    sys.stderr.flush()
