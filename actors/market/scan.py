"""One scan: bars -> checks -> columns -> model -> ranking. The scanner's child process: `python -m actors.market.scan`.

Reads a `ScanJob` as one line on standard input and writes a `ScanResult` to standard output. Standard input stays open
as the lifeline: its end means the scanner is gone, and this process ends at once. Never proposes, never trades.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from datetime import date
from typing import TYPE_CHECKING, NoReturn

import msgspec

from actors.market.errors import BadBars, ScanError
from actors.market.job import Failed, LeftOut, ScanJob, ScanResult, Skipped
from bus import failpoints
from config.load import ConfigError

if TYPE_CHECKING:
    from actors.market.bars import Bars
    from config.settings import Scanner

JOB_BYTES_MAX = 1_000_000
HISTORY_BARS_MAX = 20_000  # read when a day of the past is asked for


def main() -> None:
    """Do the one scan that standard input asks for."""
    # Two cores are shared by all processes; set before numpy and OpenMP read it.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    # Whatever a library prints goes to the error stream; the result has its channel to itself.
    channel = os.dup(1)
    os.dup2(2, 1)
    job = msgspec.json.decode(_read_line(0), type=ScanJob)
    threading.Thread(target=_end_with_parent, name="lifeline", daemon=True).start()
    result = msgspec.json.encode(scan(job))
    failpoints.reach("scan.before_result")  # the child's answer to the scanner
    with os.fdopen(channel, "wb") as out:
        out.write(result)
    failpoints.reach("scan.after_result")
    sys.stderr.flush()


def _read_line(descriptor: int) -> bytes:
    """Read one byte after the other up to the end of line: nothing behind it may be taken."""
    line = bytearray()
    while len(line) < JOB_BYTES_MAX and (byte := os.read(descriptor, 1)) not in (b"", b"\n"):
        line += byte
    return bytes(line)


def _end_with_parent() -> NoReturn:
    while os.read(0, 1):
        pass
    os._exit(1)


def scan(job: ScanJob) -> ScanResult:
    """Return the ranking of the newest common bar, or that it was done already, or why there is none."""
    left_out: list[LeftOut] = []
    try:
        return _scan(job, left_out)
    except ScanError as error:
        return Failed(reason=error.reason, kind="transient" if error.transient else "final", left_out=tuple(left_out))
    except ConfigError as error:
        return Failed(reason=str(error), kind="configuration", left_out=tuple(left_out))


def _scan(job: ScanJob, left_out: list[LeftOut]) -> ScanResult:
    # numpy and LightGBM are imported here and below, after the thread limits stand in the environment.
    from actors.market import rating, training

    wanted = job.scanner
    notes: list[str] = []
    good = good_bars(job, left_out, notes)
    if len(good) <= wanted.top_k:
        why = "; ".join(f"{out.symbol}: {out.reason}" for out in left_out)
        raise ScanError(
            f"{len(good)} of {len(job.symbols)} symbols have usable bars; top {wanted.top_k} needs at least "
            f"{wanted.top_k + 1}. {why}",
            # Files that are written one after the other lag behind each other for a moment.
            transient=wanted.feed == "csv",
        )
    if job.train:
        return training.trained(job, good, notes)
    bar_time = good[0].bar_time
    fingerprint = scan_fingerprint(job, bar_time)
    if fingerprint == job.done:
        return Skipped(fingerprint=fingerprint, bar_time=bar_time)
    return rating.ranked(job, good, fingerprint=fingerprint, left_out=left_out, notes=notes)


def good_bars(job: ScanJob, left_out: list[LeftOut], notes: list[str]) -> list[Bars]:
    """Return the newest bars of every symbol that passes the checks; the others are added to `left_out`.

    All end on the same day. Raises ConfigError and ScanError of the feed.
    """
    from actors.market import bars, feeds

    wanted, today = job.scanner, date.fromisoformat(job.today)
    last_day = date.fromisoformat(job.as_of) if job.as_of else None
    window = window_bars(wanted)
    feed = feeds.build(wanted, HISTORY_BARS_MAX if last_day else window)
    good: list[Bars] = []
    for symbol in job.symbols:
        try:
            everything = feed.bars(symbol)
            seen = everything.until(last_day) if last_day else everything
            found, cut = bars.without_unfinished(seen, today)
            found = found.tail(window)
            bars.check(found, today=today, age_days_max=wanted.bar_age_days_max, bars_min=wanted.history_bars_min)
        except BadBars as error:
            left_out.append(LeftOut(error.symbol, error.reason))
            continue
        if cut:
            notes.append(f"{symbol}: the bar of {today} may not be finished and was not used")
        good.append(found)
    current, late = bars.on_one_day(good)
    left_out.extend(LeftOut(error.symbol, error.reason) for error in late)
    return current


def window_bars(wanted: Scanner) -> int:
    """Return how many of the newest bars a scan needs."""
    from actors.market import features, momentum

    if wanted.model == "momentum":
        return momentum.window("D1")
    return wanted.train_bars_max + features.LOOKBACK


def scan_fingerprint(job: ScanJob, bar_time: str) -> str:
    """Return what makes a scan a new one: the day of the newest bar, the symbols, the settings, the model's making.

    Values of bars are left out on purpose: a revised price or a late symbol must not make a second scan of one day,
    which could propose more than `top_k` trades of it.
    """
    from actors.market import features, model, panel

    settings = msgspec.structs.replace(job.scanner, interval_s=1.0, retrain_days=1)  # they change no ranking
    making = (model.FORMAT, features.COLUMNS, features.TREND_FLAT, panel.HORIZON_BARS, model.PARAMETERS, model.ROUNDS)
    about = (bar_time, sorted(job.symbols), settings, making)
    return hashlib.sha256(msgspec.json.encode(about)).hexdigest()


if __name__ == "__main__":
    main()
