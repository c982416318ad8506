"""What grows with the work that is done: time of an intent, of a start, of what is read, size and memory.

python -m tests.bench.growth [--finished 0,100000,1000000] [--analysts 1,3,8,32] [--batches 1,64,256] [--json]

By finished intents: the real writer over a database with such a past, in a process of its own, so that its memory is
its own. By analysts and by batch: whole lives with real processes on a fresh database. A past is made once and kept.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from loguru import logger

from bus.clock import SystemClock, iso
from config import load
from store import board, connection, decisions, gauges, verify
from store.queries import Reader
from tests.bench import filled, life_raw
from tests.bench.life_actors import CAPACITY

BLOCK = 64
BLOCKS = 12
SINGLES = 150
READS = 5
LIFE_S_MAX = 120.0


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """One store with a past of `finished` intents. Times of what is read are medians in milliseconds."""

    finished: int
    per_s: float
    cpu_ms_each: float  # of an intent's whole life, in batches of 64
    p50_ms: float  # of a whole life of seven commits, one intent at a time
    p99_ms: float
    open_ms: float
    reads_ms: dict[str, float]
    bytes_each: float
    store_mb: float  # resident size of the process that writes
    verify_s: float


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """All curves."""

    sizes: tuple[Size, ...]
    analysts: dict[str, float]  # intents a second, by number of analysts
    batches: dict[str, float]  # intents a second, by batch of the store

    def ratio(self) -> float:
        """Return the CPU time of an intent with the longest past over that with the shortest."""
        return self.sizes[-1].cpu_ms_each / self.sizes[0].cpu_ms_each if self.sizes else 1.0


def size(finished: int) -> Size:
    """Measure one store. Run in a process of its own."""
    logger.remove()
    decisions.ORDERS_AT_ONCE = CAPACITY
    with tempfile.TemporaryDirectory(prefix="ppg-", dir="/tmp") as folder:
        path = Path(folder) / "decisions.db"
        if finished:
            filled.copy(finished, path)
        before = path.stat().st_size if finished else 0
        began_s = time.perf_counter()
        connection.open_writer(path).close()
        open_ms = 1_000 * (time.perf_counter() - began_s)
        raw = life_raw.Raw(path, SystemClock(), BLOCK)
        raw.block(-1)
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        for number in range(BLOCKS):
            raw.block(number)
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        raw.db.close()
        singles = _singles(path)
        reads = _reads(path)
        began_s = time.perf_counter()
        if finished <= 100_000:
            reader = Reader(path)
            assert verify.verify_chain(reader) + verify.verify_orders(reader) == []
            reader.close()
        return Size(
            finished=finished,
            per_s=round(BLOCK * BLOCKS / wall_s, 1),
            cpu_ms_each=round(1_000 * cpu_s / (BLOCK * BLOCKS), 4),
            p50_ms=round(statistics.median(singles), 3),
            p99_ms=round(statistics.quantiles(singles, n=100)[98], 3),
            open_ms=round(open_ms, 2),
            reads_ms=reads,
            bytes_each=round(before / finished, 1) if finished else 0.0,
            store_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024, 1),
            verify_s=round(time.perf_counter() - began_s, 3),
        )


def _singles(path: Path) -> list[float]:
    raw, found = life_raw.Raw(path, SystemClock(), 1), []
    for number in range(SINGLES):
        began_s = time.perf_counter()
        raw.block(1_000_000 + number)
        found.append(1_000 * (time.perf_counter() - began_s))
    raw.db.close()
    return found


def _reads(path: Path) -> dict[str, float]:
    """Return how long what is read at each poll, page, scrape or command takes."""
    now = SystemClock().now()
    with board.opened(path) as page, gauges.opened(path) as metrics:
        reader = page
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


def _alone(finished: int) -> Size:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.growth", "--one", str(finished)],
        cwd=load.ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"a past of {finished}: {done.stderr[-2_000:]}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Size)


def _lives(**changes: int) -> float | None:
    """Return intents a second of whole lives with real processes; None when a run came to no figures."""
    words = [word for name, value in changes.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.life", "--wide", "--json", "--intents", "2000", *words],
        cwd=load.ROOT, capture_output=True, text=True, check=False, timeout=LIFE_S_MAX,
    )  # fmt: skip
    if done.returncode:
        sys.stderr.write(f"not measured: {words}: {done.stderr.strip()[-300:]}\n")
        return None
    found: dict[str, Any] = msgspec.json.decode(done.stdout.splitlines()[-1])
    return float(found["per_s"])


def measure(finished: list[int], analysts: list[int], batches: list[int]) -> Growth:
    logger.remove()
    sizes = []
    for count in finished:
        sys.stderr.write(f"a past of {count:,} intents\n")
        if count:
            filled.database(count)
        sizes.append(_alone(count))
    by_analysts = {str(count): _lives(analysts=count) for count in analysts}  # each starts as many processes
    by_batch = {str(batch): _lives(batch=batch) for batch in batches}
    return Growth(
        sizes=tuple(sizes),
        analysts={name: value for name, value in by_analysts.items() if value is not None},
        batches={name: value for name, value in by_batch.items() if value is not None},
    )


def markdown(found: Growth) -> str:
    """Return the tables for docs/performance.md."""
    heads = [f"{one.finished:,}" for one in found.sizes]
    lines = [f"| finished intents before | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]

    def row(title: str, figure: Callable[[Size], str]) -> None:
        lines.append(f"| {title} | {' | '.join(figure(one) for one in found.sizes)} |")

    row("intents/s through the writer, batches of 64", lambda one: f"{one.per_s:,.0f}")
    row("CPU ms of an intent's life", lambda one: f"{one.cpu_ms_each:.3f}")
    row("one life alone, commit by commit, p50 / p99 ms", lambda one: f"{one.p50_ms:.1f} / {one.p99_ms:.1f}")
    row("opening the database, ms", lambda one: f"{one.open_ms:.1f}")
    for name in found.sizes[0].reads_ms if found.sizes else ():
        row(f"{name}, ms", lambda one, name=name: f"{one.reads_ms[name]:.2f}")  # type: ignore[misc]
    row("bytes of the database per intent", lambda one: f"{one.bytes_each:,.0f}" if one.bytes_each else "")
    row("resident size of the writing process, MB", lambda one: f"{one.store_mb:.0f}")
    lines += ["", f"CPU time of an intent, longest past to shortest: {found.ratio():.2f}.", ""]
    for title, values in (("analysts", found.analysts), ("batch of the store", found.batches)):
        said = ", ".join(f"{name}: {value:,.0f}" for name, value in values.items())
        lines.append(f"Whole lives a second with real processes, by {title}: {said or 'not measured'}.")
    return "\n".join(lines)


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.growth")
    parser.add_argument("--finished", type=numbers, default=[0, 100_000])
    parser.add_argument("--analysts", type=numbers, default=[1, 3, 8, 32])
    parser.add_argument("--batches", type=numbers, default=[1, 64, 256])
    parser.add_argument("--json", action="store_true", help="only the JSON line")
    parser.add_argument("--one", type=int, default=-1, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one >= 0:
        os.environ.pop("PILOT_FAILPOINTS", None)
        sys.stdout.write(msgspec.json.encode(size(asked.one)).decode() + "\n")
        return
    found = measure(asked.finished, asked.analysts, asked.batches)
    if not asked.json:
        sys.stdout.write(markdown(found) + "\n")
    sys.stdout.write(msgspec.json.encode({"bench": "growth", **msgspec.to_builtins(found)}).decode() + "\n")


if __name__ == "__main__":
    main()
