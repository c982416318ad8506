"""One scan: bars -> checks -> columns -> model -> ranking. The scanner's child process: `python -m actors.market.scan`.

Reads a `ScanJob` as one line on standard input and writes a `ScanResult` to standard output. Standard input stays open
as the lifeline: its end means the scanner is gone, and this process ends at once. Never proposes, never trades.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Literal, NoReturn

import msgspec

from actors.market.errors import ScanError
from actors.market.job import Failed, ScanJob, ScanResult, Skipped
from bus import failpoints
from config.load import ConfigError

if TYPE_CHECKING:
    from actors.market.gather import Gathering

JOB_BYTES_MAX = 1_000_000
TRAINING_NICENESS = 10  # two cores are shared with the executor, and a new model can wait


def main() -> None:
    """Do the one scan that standard input asks for."""
    # Two cores are shared by all processes; set before numpy and OpenMP read it.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    # Whatever a library prints goes to the error stream; the result has its channel to itself.
    channel = os.dup(1)
    os.dup2(2, 1)
    job = msgspec.json.decode(_read_line(0), type=ScanJob)
    if job.train:
        os.nice(TRAINING_NICENESS)
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
    # Here and below: numpy and LightGBM are imported after the thread limits stand in the environment.
    from actors.market import gather, windows

    gathering = gather.Gathering(job, windows.bars(job.scanner, job.timeframe))
    left_out = gathering.left_out
    result: ScanResult
    try:
        result = _scan(job, gathering)
    except ScanError as error:
        kind: Literal["transient", "final"] = "transient" if error.transient else "final"
        result = Failed(reason=error.reason, kind=kind, left_out=tuple(left_out))
    except ConfigError as error:
        result = Failed(reason=str(error), kind="configuration", left_out=tuple(left_out))
    return msgspec.structs.replace(result, fetched=gathering.fetched)


def _scan(job: ScanJob, gathering: Gathering) -> ScanResult:
    from actors.market import rating, training

    notes, left_out = gathering.notes, gathering.left_out
    good = gathering.bars()
    if job.train:
        return training.trained(job, good, notes)
    bar_time = good[0].bar_time
    fingerprint = scan_fingerprint(job, bar_time)
    if is_done(job, fingerprint, bar_time):
        return Skipped(fingerprint=fingerprint, bar_time=bar_time)
    return rating.ranked(job, good, fingerprint=fingerprint, left_out=left_out, notes=notes)


def is_done(job: ScanJob, fingerprint: str, bar_time: str) -> bool:
    """Return whether this bar, or a newer one under the same settings, was scanned before.

    A source that takes over may be a bar behind the one that failed: going back would trade the same hours twice.
    """
    if fingerprint == job.done:
        return True
    is_older = bool(job.done_bar_time) and bar_time < job.done_bar_time
    return is_older and scan_fingerprint(job, job.done_bar_time) == job.done


def scan_fingerprint(job: ScanJob, bar_time: str) -> str:
    """Return what makes a scan a new one: the day of the newest bar, the symbols, the settings, the model's making.

    Values of bars are left out on purpose: a revised price or a late symbol must not make a second scan of one day,
    which could propose more than `top_k` trades of it.
    """
    from actors.market import features, model, panel

    # Cadence and training change no ranking, and neither do the other timeframes.
    settings = msgspec.structs.replace(
        job.scanner, interval_s=1.0, settle_s=0.0, timeframes=(job.timeframe,), retrain_days=1
    )
    making = (model.FORMAT, features.COLUMNS, features.TREND_FLAT, panel.HORIZON_BARS, model.PARAMETERS, model.ROUNDS)
    about = (bar_time, sorted(job.symbols), settings, making)
    return hashlib.sha256(msgspec.json.encode(about)).hexdigest()


if __name__ == "__main__":
    main()
