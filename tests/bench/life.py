"""Intents through the whole life, per second, and how long the scanner's signal takes to the executor's POST.

python -m tests.bench.life [--intents N] [--analysts K] [--batch B] [--rate R] [--wide] [--raw] [--json]

Propose, claim, decide, take, reserve, open, close: real processes on the product's sockets, `synchronous = FULL`, acks
after the commit, and at the end the store's own verification of chain, states and orders.

default   the product's store: one order at a time, each with a certificate that holds
--wide    the same without these two rules of one account (`tests.bench.life_store`): what the store itself can do
--rate R  R intents a second, for the latency; without it as fast as they are answered
--raw     the same writer in this process, without sockets: blocks of B intents, five commits each; and the same SQL
          again without the writer, as it was recorded
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bus.clock import SystemClock
from config import load
from store import connection, verify
from store.queries import NoDatabase, Reader
from tests.bench import life_actors, life_raw
from tests.kit import gate
from tests.kit.eventually import eventually

CLIENTS = ("monitor", "executor", "llm", "scanner")
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
DEADLINE_S = 600.0
START_S = 60.0


class LifeFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What one run came to. Latencies in milliseconds, from the scanner's send to the executor's POST."""

    intents: int
    seconds: float
    per_s: float
    p50_ms: float
    p99_ms: float
    refused: int  # commands that were refused and asked again
    cpu_s_per_1000: dict[str, float]  # user and system time, by process
    commits: int
    commit_ms: float  # one commit on average, its fsync included


def run(
    intents: int, *, analysts: int = 1, batch: int = 256, rate: float = 0.0, wide: bool = False, in_flight: int = 256,
    keep: Path | None = None,
) -> LifeFigures:  # fmt: skip
    """Take `intents` through the whole life with real processes and return the figures. `keep`: for its database.

    Raises SystemExit when an intent is lost, doubled or unclosed, or when the store's verification finds anything.
    """
    with _folders(batch) as (folder, env):
        plan = life_actors.Plan(folder=str(folder), intents=intents, in_flight=in_flight, rate=rate, is_wide=wide)
        env |= {life_actors.PLAN_ENV: msgspec.json.encode(plan).decode()}
        _prepare(folder)
        processes: dict[str, subprocess.Popen[bytes]] = {}
        try:
            processes["store"] = _start(env, "tests.bench.life_store" if wide else "store")
            for name in CLIENTS:
                for slot in range(1, 1 + (analysts if name == "llm" else 1)):
                    process = _start(env | {"PILOT_SLOT": str(slot)}, "tests.bench.life_actors", name)
                    processes[f"{name}.{slot}" if slot > 1 else name] = process
            reader = eventually(lambda: _reader(folder), START_S)
            eventually(lambda: len(reader.workers()) >= len(processes) - 1, START_S)
            before = {name: _cpu_s(process.pid) for name, process in processes.items()}
            plan.begin.touch()
            _wait_for_all(reader, intents, processes)
            after = {name: _cpu_s(process.pid) for name, process in processes.items()}
        finally:
            for name in reversed(processes):
                processes[name].terminate()
                processes[name].wait(30)
        _verify(reader, intents)
        if keep is not None:
            shutil.copy(_database(folder), keep)
        spent = {name: 1_000 * (after[name] - before[name]) / intents for name in processes}
        return _figures(folder, intents, spent, reader)


def _figures(folder: Path, intents: int, spent: dict[str, float], reader: Reader) -> LifeFigures:
    said = {name: msgspec.json.decode((folder / f"{name}.json").read_bytes()) for name in CLIENTS}
    sent, posted, closed = (said[name]["seen"] for name in ("scanner", "executor", "monitor"))
    seconds = max(closed.values()) - min(sent.values())
    waits_ms = sorted(1_000 * (posted[key] - begun) for key, begun in sent.items())
    commits, commit_us = _commits(reader)
    return LifeFigures(
        intents=intents,
        seconds=round(seconds, 3),
        per_s=round(intents / seconds, 1),
        p50_ms=round(statistics.median(waits_ms), 2),
        p99_ms=round(waits_ms[int(len(waits_ms) * 0.99)], 2),
        refused=sum(one["refused"] for one in said.values()),
        cpu_s_per_1000={name: round(value, 3) for name, value in spent.items()},
        commits=commits,
        commit_ms=round(commit_us / 1_000, 3),
    )


def _commits(reader: Reader) -> tuple[int, float]:
    """Return how many commits the store has told of, and how long one took on average in microseconds."""
    rows = reader._db.execute("SELECT counts, sum_us FROM tallies WHERE name = 'store_commit'").fetchall()
    counts = sum(sum(msgspec.json.decode(str(row[0]))) for row in rows)
    return counts, sum(int(str(row[1])) for row in rows) / max(1, counts)


def _wait_for_all(reader: Reader, intents: int, processes: dict[str, subprocess.Popen[bytes]]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while (found := reader.status_counts()).get("closed", 0) < intents:
        dead = [name for name, process in processes.items() if process.poll() is not None]
        if dead or time.monotonic() > deadline_s:
            raise SystemExit(f"not all intents were closed: {found}; ended: {dead}")
        time.sleep(0.2)
    time.sleep(0.1)  # the last answers


def _verify(reader: Reader, intents: int) -> None:
    found = verify.verify_chain(reader) + verify.verify_orders(reader)
    arrows = reader._db.execute("SELECT count(*), count(DISTINCT intent_id) FROM transitions").fetchone()
    if found or arrows != (7 * intents, intents) or reader.status_counts() != {"closed": intents}:
        raise SystemExit(f"{arrows} arrows of {intents} intents, {reader.status_counts()}: {found[:5]}")


# ── processes and folders ───────────────────────────────────────────────────


@contextlib.contextmanager
def _folders(batch: int) -> Iterator[tuple[Path, dict[str, str]]]:
    folder = Path(tempfile.mkdtemp(prefix="pl", dir="/tmp"))
    (folder / "run").mkdir(mode=0o700)
    (folder / "bench.toml").write_text(f"[store]\nbatch_max = {batch}\n")
    own = {
        "PILOT_DATA": str(folder / "data"), "PILOT_RUN": str(folder / "run"),
        "PILOT_PROFILE": str(folder / "bench.toml"),
    }  # fmt: skip
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    try:
        yield folder, env | own
    finally:
        shutil.rmtree(folder)


def _database(folder: Path) -> Path:
    return folder / "data" / "decisions.db"


def _prepare(folder: Path) -> None:
    """Make the database with the days that the certificates need."""
    db = connection.open_writer(_database(folder))
    gate.keep_days(db, gate.a_gate(), datetime.now(UTC))
    db.close()


def _reader(folder: Path) -> Reader | None:
    try:
        return Reader(_database(folder))
    except NoDatabase:
        return None


def _start(env: dict[str, str], module: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments], cwd=load.ROOT, env=env, stdout=subprocess.DEVNULL
    )  # fmt: skip


def _cpu_s(pid: int) -> float:
    """Return the user and system time of a process so far. Source: proc(5), stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.life")
    parser.add_argument("--intents", type=int, default=0)
    parser.add_argument("--analysts", type=int, default=1)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--wide", action="store_true")
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.raw:
        found: msgspec.Struct = life_raw.run(asked.intents or 5_000, min(asked.batch, 256), SystemClock())
    else:
        count = asked.intents or (300 if asked.rate else 5_000 if asked.wide else 1_000)
        found = run(count, analysts=asked.analysts, batch=asked.batch, rate=asked.rate, wide=asked.wide)
    told = msgspec.to_builtins(found)
    if asked.json:
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
        return
    for name, value in told.items():
        sys.stdout.write(f"{name:<16}{value}\n")


if __name__ == "__main__":
    main()
