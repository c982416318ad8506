"""Durable chains side by side on one machine in one run: ours, Redis streams, taskiq, huey, litequeue, raw SQL.

python -m tests.bench.standings [--laps N] [--only NAME,NAME] [--json]

Every rival takes each item through scan, analyse and execute with handlers that do nothing; nothing that is answered
may be lost with the power. All start once per lap, in turn, so that what else the machine does falls on all of them.
Ours is the whole life of an intent (propose, claim, decide, take, reserve, open, close: seven arrows, each with its row
in the hash-chained journal), through the product's own store, sockets and acks.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from config import load
from tests.bench import spread
from tests.bench.rivals import huey_sqlite, litequeue_sqlite, redis_streams, taskiq_streams
from tests.bench.rivals.course import Lap, Rival, Spent, run
from tests.bench.spread import Spread

LAPS = 3
LIFE_S_MAX = 300.0
OURS, WIDE, RAW, TASKIQ = "life", "life_wide", "raw_apsw", "taskiq"
RAW_BATCH = 64
PACED = ("--rate", "20", "--intents", "70")  # the first ten count for no latency
SURVIVES = "all: what is acked is on disk; a killed task is given to another after 1 s, an order is never sent twice"


class NotMeasured(Exception):
    """A run came to no figures, and why."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table; figures are None where there is nothing to measure, `missing` says why."""

    name: str
    title: str
    survives: str
    items_per_s: Spread | None = None
    p50_ms: Spread | None = None
    p99_ms: Spread | None = None
    missing: str = ""


class Standings(msgspec.Struct, frozen=True, kw_only=True):
    """The table, best first, and what was asked: ours against the others of the same run."""

    laps: int
    rows: tuple[Row, ...]
    ratios: dict[str, float]


def measure(laps: int = LAPS, *, only: frozenset[str] = frozenset(), say: Callable[[str], object]) -> Standings:
    """Run everybody `laps` times in turn; with `only` those of these names."""
    entries = [one for one in _entries() if not only or one[0].name in only]
    why = {rival.name: rival.missing() for rival, _ in entries}
    found: dict[str, list[Lap]] = {rival.name: [] for rival, _ in entries}
    for lap, (rival, go) in itertools.product(range(laps), entries):
        if why[rival.name]:
            continue
        say(f"lap {lap + 1} of {laps}: {rival.title}")
        try:
            found[rival.name].append(go())
        except (NotMeasured, TimeoutError, AssertionError, subprocess.TimeoutExpired) as error:
            why[rival.name] = f"{type(error).__name__}: {error}"[:200]
            say(f"left out from here on: {why[rival.name]}")
    rows = [_row(rival, found[rival.name], why[rival.name]) for rival, _ in entries]
    rows.sort(key=lambda row: -row.items_per_s.median if row.items_per_s else 0.0)
    return Standings(laps=laps, rows=tuple(rows), ratios=_ratios({row.name: row for row in rows}))


def _entries() -> Iterator[tuple[Rival, Callable[[], Lap]]]:
    for module in (redis_streams, taskiq_streams, huey_sqlite, litequeue_sqlite):
        for rival in module.rivals():
            yield rival, lambda rival=rival: run(rival, Spent())  # type: ignore[misc]
    yield Rival(name=WIDE, title="ours, whole life, unlimited credit", survives=SURVIVES), _wide
    yield Rival(name=OURS, title="ours, whole life, one order at a time", survives=SURVIVES), _one_at_a_time
    title = f"raw apsw: our SQL in one process, batches of {RAW_BATCH}"
    yield Rival(name=RAW, title=title, survives="what was committed"), _raw


def _life(*words: str) -> dict[str, Any]:
    """Run the bench of our own life as it is run by hand, and return its figures."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.life", "--json", "--brief", *words],
        cwd=load.ROOT, capture_output=True, text=True, timeout=LIFE_S_MAX, check=False,
    )  # fmt: skip
    if done.returncode:
        raise NotMeasured(f"tests.bench.life {' '.join(words)}: {done.stderr.strip()[-300:]}")
    found: dict[str, Any] = msgspec.json.decode(done.stdout.splitlines()[-1])
    return found


def _wide() -> Lap:
    full, paced = _life("--wide", "--intents", "6000"), _life("--wide", *PACED)
    return Lap(items_per_s=full["per_s"], p50_ms=paced["p50_ms"], p99_ms=paced["p99_ms"])


def _one_at_a_time() -> Lap:
    full, paced = _life("--intents", "600"), _life(*PACED)
    return Lap(items_per_s=full["per_s"], p50_ms=paced["p50_ms"], p99_ms=paced["p99_ms"])


def _raw() -> Lap:
    return Lap(items_per_s=_life("--raw", "--batch", str(RAW_BATCH), "--intents", "3200")["sql_per_s"])


def _row(rival: Rival, laps: list[Lap], missing: str) -> Row:
    return Row(
        name=rival.name,
        title=rival.title,
        survives=rival.survives,
        items_per_s=spread.of([lap.items_per_s for lap in laps]),
        p50_ms=spread.of([lap.p50_ms for lap in laps]),
        p99_ms=spread.of([lap.p99_ms for lap in laps]),
        missing=missing,
    )


def _ratios(rows: dict[str, Row]) -> dict[str, float]:
    """Return ours against the others, by `ours/other`."""
    found = {}
    for ours, other in itertools.product((WIDE, OURS), (TASKIQ, RAW, "redis_256", "redis_1", "huey", "litequeue")):
        mine, its = rows.get(ours), rows.get(other)
        if mine and its and mine.items_per_s and its.items_per_s:
            found[f"{ours}/{other}"] = round(mine.items_per_s.median / its.items_per_s.median, 3)
    return found


def markdown(found: Standings) -> str:
    """Return the table for docs/performance.md."""
    lines = [
        "| chain | items/s | p50 ms at 20/s | p99 ms at 20/s | what survives a kill and a loss of power |",
        "|---|---|---|---|---|",
    ]
    for row in found.rows:
        figures = [
            row.items_per_s.said() if row.items_per_s else f"not measured: {row.missing}",
            row.p50_ms.said(1) if row.p50_ms else "",
            row.p99_ms.said(1) if row.p99_ms else "",
        ]
        lines.append(f"| {row.title} | {' | '.join(figures)} | {row.survives} |")
    said = ", ".join(f"{name.replace('/', ' to ')} {ratio:.2f}" for name, ratio in found.ratios.items())
    return "\n".join([*lines, "", f"Ratios of the same run: {said}."])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.standings")
    parser.add_argument("--laps", type=int, default=LAPS)
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--json", action="store_true", help="only the JSON line")
    asked = parser.parse_args()
    only = frozenset(asked.only.split(",")) if asked.only else frozenset()
    found = measure(asked.laps, only=only, say=lambda text: sys.stderr.write(text + "\n"))
    if not asked.json:
        show(found)
    sys.stdout.write(msgspec.json.encode({"bench": "standings", **msgspec.to_builtins(found)}).decode() + "\n")


def show(found: Standings) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Items a second and latency, median of {found.laps} laps (lowest-highest)")
    for name in ("chain", "items/s", "p50 ms", "p99 ms", "survives"):
        table.add_column(name, justify="left" if name in ("chain", "survives") else "right", overflow="fold")
    for row in found.rows:
        table.add_row(
            row.title,
            row.items_per_s.said() if row.items_per_s else f"- {row.missing}",
            row.p50_ms.said(1) if row.p50_ms else "",
            row.p99_ms.said(1) if row.p99_ms else "",
            row.survives,
        )
    console = Console(width=max(120, Console().width))
    console.print(table)
    for name, ratio in found.ratios.items():
        console.print(f"{name:<24}{ratio:>8.2f}")


if __name__ == "__main__":
    main()
