"""What grows with the work that is done: throughput and latency of whole lives, reads, size and memory.

python -m tests.bench.growth [--finished 0,100000,1000000] [--analysts 1,3,8,32] [--batches 1,16,64,256] [--laps 3]
                             [--seconds 20] [--json]

By finished intents: one database for each size, a copy of a past that is made once and kept. Over each the writer
alone, whole lives by real processes at full speed and at 20 a second, and in the end the whole idle pipeline. By
analysts and by batch: whole lives on a fresh database. Laps go in turn: what else the machine does falls on all.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
from loguru import logger

from config import load
from store import connection
from tests.bench import alone, filled, idle, life, spread
from tests.bench.alone import Alone
from tests.bench.idle import Idle
from tests.bench.life import LifeFigures
from tests.bench.spread import Spread

LAPS = 3
PACE_PER_S = 20.0
FULL = {"wide": 2_000, "one at a time": 600}  # intents of a run, by kind
PACED = 110  # the first ten count for no latency
ALONE_S_MAX = 600.0
GOAL_RATIO = 1.2


class Lives(msgspec.Struct, frozen=True, kw_only=True):
    """Whole lives by real processes over one database: at full speed, and latencies in milliseconds at 20 a second."""

    per_s: Spread | None
    cpu_ms_each: Spread | None  # of the store process at full speed
    p50_ms: Spread | None
    p90_ms: Spread | None
    p99_ms: Spread | None
    bytes_each: Spread | None  # what the file grew by, recorded answers included
    retried: int  # claims and takes beyond one an intent, in all laps


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """One database with a past of `finished` intents. `bytes_each`: of its file, not vacuumed; 0.0: it has no past."""

    finished: int
    bytes_each: float
    alone: Alone
    lives: dict[str, Lives]  # "wide": what the store can do; "one at a time": the product
    idle: Idle | None = None  # the product's processes over it; None: not asked for


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """All curves, and the runs that came to no figures: `failed` must be empty."""

    laps: int
    sizes: tuple[Size, ...]
    analysts: dict[str, Spread]  # intents a second, by number of analysts
    batches: dict[str, Spread]  # intents a second, by batch of the store
    failed: tuple[str, ...]

    def ratios(self) -> dict[str, float]:
        """Return what the longest past costs over the shortest: above 1 is slower, whatever is measured."""
        if len(self.sizes) < 2:
            return {}
        first, last = self.sizes[0], self.sizes[-1]
        found = {"CPU of an intent, writer alone": last.alone.cpu_ms_each / first.alone.cpu_ms_each}
        for kind in FULL:
            old, new = first.lives.get(kind), last.lives.get(kind)
            if old and new and old.per_s and new.per_s:
                found[f"time of an intent, {kind}"] = old.per_s.median / new.per_s.median
            if old and new and old.cpu_ms_each and new.cpu_ms_each:
                found[f"CPU of the store, {kind}"] = new.cpu_ms_each.median / old.cpu_ms_each.median
            if old and new and old.p50_ms and new.p50_ms:
                found[f"p50 at 20/s, {kind}"] = new.p50_ms.median / old.p50_ms.median
        return {name: round(ratio, 3) for name, ratio in found.items()}


class _Runs:
    """Whole lives, and why those that came to nothing did."""

    def __init__(self, laps: int, say: Callable[[str], object]) -> None:
        self._laps = laps
        self._say = say
        self.failed: list[str] = []

    def one(self, what: str, intents: int, **asked: Any) -> LifeFigures | None:
        self._say(f"{what}\n")
        try:
            return life.run(intents, is_counting=False, **asked)
        except (SystemExit, AssertionError, subprocess.TimeoutExpired) as error:
            self.failed.append(f"{what}: {str(error)[:300]}")
            self._say(f"failed: {self.failed[-1]}\n")
            return None

    def over(self, paths: dict[int, Path]) -> dict[int, dict[str, Lives]]:
        """Return the lives over each database, by its size and by kind."""
        full: dict[tuple[int, str], list[LifeFigures]] = {(count, kind): [] for count in paths for kind in FULL}
        paced: dict[tuple[int, str], list[LifeFigures]] = {key: [] for key in full}
        for lap in range(1, self._laps + 1):
            for (count, kind), at_full in full.items():
                where: dict[str, Any] = {"database": paths[count], "wide": kind == "wide"}
                said = f"lap {lap} of {self._laps}, past of {count:,}, {kind}"
                if found := self.one(f"{said}, full speed", FULL[kind], **where):
                    at_full.append(found)
                if found := self.one(f"{said}, {PACE_PER_S:.0f}/s", PACED, rate=PACE_PER_S, **where):
                    paced[count, kind].append(found)
        return {
            count: {kind: _lives(full[count, kind], paced[count, kind]) for kind in FULL} for count in paths
        }  # fmt: skip

    def idle(self, count: int, path: Path, seconds: float) -> Idle | None:
        """Return what the idle pipeline costs over one database; None when it did not come to rest."""
        what = f"the idle pipeline over a past of {count:,}"
        self._say(f"{what}\n")
        try:
            return idle.measure(seconds, path)
        except (AssertionError, httpx.HTTPError) as error:
            self.failed.append(f"{what}: {type(error).__name__}: {str(error)[:300]}")
            self._say(f"failed: {self.failed[-1]}\n")
            return None

    def by(self, name: str, values: list[int]) -> dict[str, Spread]:
        """Return intents a second on a fresh database, by one of the words of `life.run`."""
        found: dict[int, list[float | None]] = {value: [] for value in values}
        for lap in range(1, self._laps + 1):
            for value, rates in found.items():
                said = f"lap {lap} of {self._laps}, {name} {value}"
                done = self.one(said, FULL["wide"], wide=True, **{name: value})
                rates.append(done.per_s if done else None)
        spreads = {str(value): spread.of(rates) for value, rates in found.items()}
        return {value: known for value, known in spreads.items() if known}


def _lives(full: list[LifeFigures], paced: list[LifeFigures]) -> Lives:
    return Lives(
        per_s=spread.of([one.per_s for one in full]),
        cpu_ms_each=spread.of([one.cpu_s_per_1000["store"] for one in full]),
        p50_ms=spread.of([one.p50_ms for one in paced]),
        p90_ms=spread.of([one.p90_ms for one in paced]),
        p99_ms=spread.of([one.p99_ms for one in paced]),
        bytes_each=spread.of([one.bytes_each for one in full]),
        retried=sum(one.retried for one in (*full, *paced)),
    )


def measure(
    finished: list[int], analysts: list[int], batches: list[int], *, laps: int, seconds: float,
    say: Callable[[str], object],
) -> Growth:  # fmt: skip
    """Measure everything. Raises filled.NoRoom before anything was made."""
    logger.remove()
    runs = _Runs(laps, say)
    made = [count for count in set(finished) if not filled.place_of(count).exists()]
    filled.room_for(sum(set(finished)) + sum(made), Path(tempfile.gettempdir()))  # each is kept, and copied
    with tempfile.TemporaryDirectory(prefix="ppg-") as folder:
        paths = {count: Path(folder) / f"{count}.db" for count in sorted(set(finished))}
        for count, path in paths.items():
            say(f"a past of {count:,} intents\n")
            filled.copy(count, path) if count else connection.open_writer(path).close()
        sizes = {count: path.stat().st_size / count if count else 0.0 for count, path in paths.items()}
        writers: dict[int, list[Alone]] = {count: [] for count in paths}
        for lap, (count, path) in itertools.product(range(1, laps + 1), paths.items()):
            say(f"lap {lap} of {laps}, past of {count:,}, writer alone\n")
            writers[count].append(_alone(path))
        lives = runs.over(paths)
        held = {count: runs.idle(count, path, seconds) for count, path in paths.items()} if seconds else {}
    return Growth(
        laps=laps,
        sizes=tuple(
            Size(
                finished=count, bytes_each=round(sizes[count]), alone=alone.middle(writers[count]), lives=lives[count],
                idle=held.get(count),
            )
            for count in paths
        ),
        analysts=runs.by("analysts", analysts),
        batches=runs.by("batch", batches),
        failed=tuple(runs.failed),
    )  # fmt: skip


def _alone(path: Path) -> Alone:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.alone", str(path)],
        cwd=load.ROOT, capture_output=True, text=True, check=False, timeout=ALONE_S_MAX,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"the writer alone over {path}: {done.stderr[-2_000:]}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Alone)


def markdown(found: Growth) -> str:
    """Return the tables for docs/performance.md."""
    heads = [f"{one.finished:,}" for one in found.sizes]
    lines = [f"| finished intents before | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]

    def row(title: str, figure: Callable[[Size], str]) -> None:
        lines.append(f"| {title} | {' | '.join(figure(one) for one in found.sizes)} |")

    def spreads(kind: str, title: str, figure: Callable[[Lives], Spread | None], digits: int) -> None:
        row(f"{kind}: {title}", lambda size: known.said(digits) if (known := figure(size.lives[kind])) else "failed")

    for kind in FULL:
        spreads(kind, "whole lives/s", lambda lives: lives.per_s, 0)
        spreads(kind, "CPU ms of the store for each", lambda lives: lives.cpu_ms_each, 2)
        spreads(kind, "p50 ms at 20/s", lambda lives: lives.p50_ms, 1)
        spreads(kind, "p90 ms at 20/s", lambda lives: lives.p90_ms, 1)
        spreads(kind, "p99 ms at 20/s", lambda lives: lives.p99_ms, 1)
    row("writer alone: lives/s in batches of 64", lambda one: f"{one.alone.per_s:,.0f}")
    row("writer alone: CPU ms of a life", lambda one: f"{one.alone.cpu_ms_each:.3f}")
    row(
        "writer alone: one life at a time, p50 / p99 ms", lambda one: f"{one.alone.p50_ms:.1f} / {one.alone.p99_ms:.1f}"
    )
    row("opening the database, ms", lambda one: f"{one.alone.open_ms:.1f}")
    for name in found.sizes[0].alone.reads_ms if found.sizes else ():
        row(f"{name}, ms", lambda one, name=name: f"{one.alone.reads_ms[name]:.2f}")  # type: ignore[misc]
    row("bytes of the file for each finished intent", lambda one: f"{one.bytes_each:,.0f}" if one.finished else "")
    spreads("wide", "bytes that a new intent adds", lambda lives: lives.bytes_each, 0)
    for name in next((_held(size) for size in found.sizes if size.idle), {}):
        row(f"idle pipeline: {name}, MB (CPU %)", lambda one, name=name: _held(one).get(name, ""))  # type: ignore[misc]
    row("the dashboard's page / a scrape, ms", _asked)
    ratios = ", ".join(f"{name} {ratio:.2f}" for name, ratio in found.ratios().items())
    lines += ["", f"Longest past over none, above 1 is slower: {ratios or 'one size only'}.", ""]
    for title, values in (("analysts", found.analysts), ("batch of the store", found.batches)):
        said = ", ".join(f"{name}: {value.said()}" for name, value in values.items())
        lines.append(f"Whole lives a second with real processes, by {title}: {said or 'not measured'}.")
    retried = sum(lives.retried for size in found.sizes for lives in size.lives.values())
    lines += ["", f"Median (lowest-highest) of {found.laps} laps. Leases that were lost and taken again: {retried}."]
    return "\n".join(lines + [f"Failed: {one}" for one in found.failed])


def _held(size: Size) -> dict[str, str]:
    if size.idle is None:
        return {}
    found = {one.name: f"{one.proportional_mb:.0f} ({one.cpu_percent:.2f})" for one in size.idle.processes}
    return found | {"all but paper": f"{size.idle.held_mb():.0f} ({size.idle.without_paper_percent:.2f})"}


def _asked(size: Size) -> str:
    return f"{size.idle.page_ms:,.0f} / {size.idle.scrape_ms:,.0f}" if size.idle else ""


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.growth")
    parser.add_argument("--finished", type=numbers, default=[0, 100_000])
    parser.add_argument("--analysts", type=numbers, default=[1, 3, 8, 32])
    parser.add_argument("--batches", type=numbers, default=[1, 16, 64, 256])
    parser.add_argument("--laps", type=int, default=LAPS)
    parser.add_argument("--seconds", type=float, default=20.0, help="of the idle pipeline over each; 0: without it")
    parser.add_argument("--json", action="store_true", help="only the JSON line")
    asked = parser.parse_args()
    began_s = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - began_s:6.0f} s  {text}")

    try:
        found = measure(
            asked.finished, asked.analysts, asked.batches, laps=asked.laps, seconds=asked.seconds, say=say
        )  # fmt: skip
    except filled.NoRoom as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if not asked.json:
        sys.stdout.write(markdown(found) + "\n")
        for name, ratio in found.ratios().items():
            if ratio > GOAL_RATIO:
                sys.stdout.write(f"over the goal of {GOAL_RATIO}: {name}\n")
    told = {"bench": "growth", **msgspec.to_builtins(found), "ratios": found.ratios()}
    sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
    return 1 if found.failed else 0


if __name__ == "__main__":
    sys.exit(main())
