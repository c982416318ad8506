"""The store's writer and what is read, without sockets, over one database. Run by `tests.bench.growth`, by itself.

python -m tests.bench.alone DATABASE: a process of its own, so that neither caches nor memory of another are measured.
The database gets some hundred intents more.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from loguru import logger

from bus.clock import SystemClock, iso
from store import board, connection, decisions, gauges
from store.queries import Reader
from tests.bench import life_raw
from tests.bench.life_actors import CAPACITY
from tests.kit import builders

BLOCK = 64
BLOCKS = 12
SINGLES = 150
READS = 5
IDS_OF_AN_ARROW = 100  # more than anybody makes


class Alone(msgspec.Struct, frozen=True, kw_only=True):
    """One writer over one database. Times of what is read are medians in milliseconds."""

    per_s: float  # whole lives in batches of 64
    cpu_ms_each: float  # of one such life
    p50_ms: float  # of a whole life of five batches, one intent at a time
    p99_ms: float
    open_ms: float
    reads_ms: dict[str, float]


FIGURES = tuple(name for name in Alone.__struct_fields__ if name != "reads_ms")


def measure(path: Path) -> Alone:
    """Measure over the database at `path`, which is made when it is not there."""
    logger.remove()
    decisions.ORDERS_AT_ONCE = CAPACITY
    began_s = time.perf_counter()
    connection.open_writer(path).close()
    open_ms = 1_000 * (time.perf_counter() - began_s)
    first = _first(path)
    # An earlier run's ids of commands would get that run's answers.
    builders._numbers = itertools.count(first * IDS_OF_AN_ARROW)
    raw = life_raw.Raw(path, SystemClock(), BLOCK)
    raw.block(first)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    for number in range(first + 1, first + 1 + BLOCKS):
        raw.block(number)
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    raw.db.close()
    singles = singles_ms(path, SINGLES)
    return Alone(
        per_s=round(BLOCK * BLOCKS / wall_s, 1),
        cpu_ms_each=round(1_000 * cpu_s / (BLOCK * BLOCKS), 4),
        p50_ms=round(statistics.median(singles), 3),
        p99_ms=round(statistics.quantiles(singles, n=100)[98], 3),
        open_ms=round(open_ms, 2),
        reads_ms=_reads(path),
    )


def singles_ms(path: Path, count: int) -> list[float]:
    """Return the times of whole lives, one after the other: five commits each, and nobody else."""
    raw, found, first = life_raw.Raw(path, SystemClock(), 1), [], _first(path)
    for number in range(first, first + count):
        began_s = time.perf_counter()
        raw.block(number)
        found.append(1_000 * (time.perf_counter() - began_s))
    raw.db.close()
    return found


def _first(path: Path) -> int:
    """Return a number of a block that no earlier run in this database can have had: the journal grows by more."""
    reader = Reader(path)
    try:
        return 1 + int(str(reader._db.execute("SELECT coalesce(max(seq), 0) FROM transitions").get))
    finally:
        reader.close()


def middle(runs: Sequence[Alone]) -> Alone:
    """Return the median of each figure."""
    plain = {name: statistics.median(getattr(run, name) for run in runs) for name in FIGURES}
    reads = {name: statistics.median(run.reads_ms[name] for run in runs) for name in runs[0].reads_ms}
    return Alone(**plain, reads_ms=reads)


def _reads(path: Path) -> dict[str, float]:
    """Return how long what is read at each poll, page, scrape or command takes."""
    now = SystemClock().now()
    with board.opened(path) as page, gauges.opened(path) as metrics:
        reader: Reader = page
        asked: dict[str, Callable[[], object]] = {
            "page of intents": lambda: page.page(),
            "board": lambda: [page.column(status) for status in ("pending", "opened", "closed")],
            "decisions of today": lambda: page.verdicts_since(iso(now), 20),
            "counts by status": reader.status_counts,
            "oldest of each status": metrics.oldest,
            "alerts by level": metrics.alert_counts,
            "a page of the journal": lambda: metrics.arrows(0),
            "open positions": reader.active_positions,
            "owners of positions": lambda: reader.owned_position_ids(["p-1"]),
            "an intent by its id": lambda: reader.intent_ids("abc"),
        }
        return {name: round(_median_ms(ask), 3) for name, ask in asked.items()}


def _median_ms(ask: Callable[[], object]) -> float:
    found = []
    for _ in range(READS):
        began_s = time.perf_counter()
        ask()
        found.append(1_000 * (time.perf_counter() - began_s))
    return statistics.median(found)


if __name__ == "__main__":
    os.environ.pop("PILOT_FAILPOINTS", None)
    sys.stdout.write(msgspec.json.encode(measure(Path(sys.argv[1]))).decode() + "\n")
