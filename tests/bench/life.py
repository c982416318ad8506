"""Intents through the whole life, per second, and how long the scanner's signal takes to the executor's POST.

python -m tests.bench.life [--intents N] [--analysts K] [--batch B] [--rate R] [--wide] [--raw] [--database PATH]
                           [--brief] [--json]

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
from store import connection, states
from store.queries import Reader
from tests.bench import filled, life_actors, life_raw, processes
from tests.kit import gate
from tests.kit.eventually import eventually

CLIENTS = ("monitor", "executor", "llm", "scanner")
DEADLINE_S = 900.0
SLOWEST_PER_S = 100  # beyond that deadline
NOTED_MAX = 20_000  # intents whose moments are written down
START_S = 60.0
TOLD_S = 15.0  # within which the store has told how many commits it made
WARM_UP = 10  # first intents that no latency counts
# Every intent takes these once; the others twice when its lease was lost, which is told and no failure.
ONCE = ("propose", "decide_trade", "reserve", "open", "close")
AGAIN = frozenset({"claim", "take", "lose_lease", "recycle", "release", "retry", "return"})


class LifeFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What one run came to. Latencies in milliseconds, from the scanner's send to the executor's POST."""

    intents: int
    seconds: float
    per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    refused: int  # commands that were refused and asked again
    retried: int  # claims and takes beyond one an intent: a client did not beat in time, or was late
    cpu_s_per_1000: dict[str, float]  # user and system time, by process
    memory_mb: dict[str, float]  # at the end, by process: shared pages are divided among those who share them
    grown_mb: dict[str, float]  # since all were ready and nothing was done yet
    bytes_each: float  # what the database file grew by, for each intent: recorded answers are a part of it
    commits: int  # of the store since its start, with those of beats; 0: not waited for
    commit_ms: float  # one commit on average, its fsync included


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the processes had used at one moment, by name."""

    cpu_s: dict[str, float]
    memory_mb: dict[str, float]

    @classmethod
    def of(cls, running: dict[str, subprocess.Popen[bytes]]) -> _Seen:
        return cls(
            cpu_s={name: processes.cpu_s(one.pid) for name, one in running.items()},
            memory_mb={name: processes.memory(one.pid).proportional_mb for name, one in running.items()},
        )


def run(
    intents: int, *, analysts: int = 1, batch: int = 256, rate: float = 0.0, wide: bool = False, in_flight: int = 256,
    database: Path | None = None, is_counting: bool = True,
) -> LifeFigures:  # fmt: skip
    """Take `intents` through the whole life with real processes and return the figures.

    With `database` in that one, which stays; else in a fresh one. With `is_counting` the store is given time to tell
    how many commits it made.

    Raises SystemExit when an intent is lost, doubled or unclosed, or when the store's verification finds anything.
    """
    with _folders(batch, database) as (folder, path, env):
        first_seq = _prepare(path)
        size = path.stat().st_size
        plan = life_actors.Plan(
            folder=str(folder), intents=intents, in_flight=in_flight, rate=rate, is_wide=wide,
            every=-(-intents // NOTED_MAX), mark=f"{first_seq}",
        )  # fmt: skip
        env |= {life_actors.PLAN_ENV: msgspec.json.encode(plan).decode()}
        running: dict[str, subprocess.Popen[bytes]] = {}
        try:
            running["store"] = _start(env, "tests.bench.life_store" if wide else "store")
            for name in CLIENTS:
                for slot in range(1, 1 + (analysts if name == "llm" else 1)):
                    process = _start(env | {"PILOT_SLOT": str(slot)}, "tests.bench.life_actors", name)
                    running[f"{name}.{slot}" if slot > 1 else name] = process
            reader = Reader(path)
            wanted = {process.pid for name, process in running.items() if name != "store"}
            eventually(lambda: wanted <= {worker.pid for worker in reader.workers()}, START_S)
            before = _Seen.of(running)
            plan.begin.touch()
            _wait_for_all(reader, first_seq, intents, running)
            after = _Seen.of(running)
            commits = _commits(reader) if is_counting else (0, 0.0)
            reader.close()  # else the store cannot take its log into the database
        finally:
            for name in reversed(running):
                running[name].terminate()
                running[name].wait(30)
        retried = verify_lives(path, first_seq, intents)
        grown = (path.stat().st_size - size) / intents
        return _figures(folder, intents, before, after, commits, retried, grown)


def _figures(
    folder: Path, intents: int, before: _Seen, after: _Seen, commits: tuple[int, float], retried: int, grown: float
) -> LifeFigures:  # fmt: skip
    said = {name: msgspec.json.decode((folder / f"{name}.json").read_bytes()) for name in CLIENTS}
    sent, posted, closed = (said[name]["seen"] for name in ("scanner", "executor", "monitor"))
    seconds = max(closed.values()) - min(sent.values())
    counted = sorted(sent, key=lambda key: sent[key])[WARM_UP if len(sent) > 2 * WARM_UP else 0 :]
    waits_ms = sorted(1_000 * (posted[key] - sent[key]) for key in counted)
    return LifeFigures(
        intents=intents,
        seconds=round(seconds, 3),
        per_s=round(intents / seconds, 1),
        p50_ms=round(statistics.median(waits_ms), 2),
        p90_ms=round(waits_ms[int(len(waits_ms) * 0.9)], 2),
        p99_ms=round(waits_ms[int(len(waits_ms) * 0.99)], 2),
        refused=sum(one["refused"] for one in said.values()),
        retried=retried,
        cpu_s_per_1000={
            name: round(1_000 * (used - before.cpu_s[name]) / intents, 3) for name, used in after.cpu_s.items()
        },
        memory_mb={name: round(held, 1) for name, held in after.memory_mb.items()},
        grown_mb={name: round(held - before.memory_mb[name], 1) for name, held in after.memory_mb.items()},
        bytes_each=round(grown),
        commits=commits[0],
        commit_ms=round(commits[1] / 1_000, 3),
    )


def _commits(reader: Reader) -> tuple[int, float]:
    """Return how many commits the store has made, and how long one took on average in microseconds.

    It tells every few seconds: the next time that it does, all of this run's are in it.
    """

    def told() -> tuple[int, int]:
        rows = reader._db.execute("SELECT counts, sum_us FROM tallies WHERE name = 'store_commit'").fetchall()
        return sum(sum(msgspec.json.decode(str(row[0]))) for row in rows), sum(int(str(row[1])) for row in rows)

    known = told()
    eventually(lambda: told() != known, TOLD_S, step_s=0.1)
    count, sum_us = told()
    return count, sum_us / max(1, count)


def _wait_for_all(reader: Reader, seq: int, intents: int, running: dict[str, subprocess.Popen[bytes]]) -> None:
    """Wait until so many intents were closed after `seq`. Only what is new is read: a long past must not slow this."""
    deadline_s, ended = time.monotonic() + max(DEADLINE_S, intents / SLOWEST_PER_S), dict[str, int]()
    while ended.get("closed", 0) < intents:
        for number, status in reader._db.execute(
            "SELECT seq, to_status FROM transitions WHERE seq > ? ORDER BY seq", (seq,)
        ):
            seq = int(str(number))
            if status in states.FINAL:
                ended[str(status)] = ended.get(str(status), 0) + 1
        dead = [name for name, process in running.items() if process.poll() is not None]
        if dead or time.monotonic() > deadline_s or sum(ended.values()) > ended.get("closed", 0):
            raise SystemExit(f"not all of {intents} intents were closed: {ended}; processes that ended: {dead}")
        time.sleep(0.1)
    time.sleep(0.1)  # the last answers


def verify_lives(path: Path, first_seq: int, intents: int) -> int:
    """Return how many claims and takes there were beyond one an intent, after `first_seq`.

    Raises SystemExit when an intent was lost, doubled or left open, or when chain, states or orders do not hold.
    """
    reader = Reader(path)
    try:
        counted = {
            str(event): (int(str(all_of)), int(str(intents_of)))
            for event, all_of, intents_of in reader._db.execute(
                "SELECT event, count(*), count(DISTINCT intent_id) FROM transitions WHERE seq > ? GROUP BY event",
                (first_seq,),
            )
        }
        arrows = sum(all_of for all_of, _ in counted.values())
        found = filled.since(reader, first_seq + 1, arrows + 1)
    finally:
        reader.close()
    found += [f"{event}: {counted.get(event)}" for event in ONCE if counted.get(event) != (intents, intents)]
    found += [
        f"{event}: {counted.get(event)}" for event in ("claim", "take") if counted.get(event, (0, 0))[1] != intents
    ]
    found += [f"{event}: {counted[event]}" for event in counted.keys() - AGAIN - set(ONCE)]
    if found:
        raise SystemExit(f"{arrows} arrows of {intents} intents, and they do not hold: {found[:5]}")
    return sum(counted[event][0] - intents for event in ("claim", "take"))


# ── processes and folders ───────────────────────────────────────────────────


@contextlib.contextmanager
def _folders(batch: int, database: Path | None) -> Iterator[tuple[Path, Path, dict[str, str]]]:
    """Yield a folder of this run, the path of its database, and the environment of its processes."""
    folder = Path(tempfile.mkdtemp(prefix="pl", dir="/tmp"))
    (folder / "run").mkdir(mode=0o700)
    path = database or folder / "data" / "decisions.db"
    (folder / "bench.toml").write_text(f'[store]\nbatch_max = {batch}\ndb_path = "{path}"\n')
    own = {
        "PILOT_DATA": str(folder / "data"), "PILOT_RUN": str(folder / "run"),
        "PILOT_PROFILE": str(folder / "bench.toml"),
    }  # fmt: skip
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    try:
        yield folder, path, env | own
    finally:
        shutil.rmtree(folder)


def _prepare(path: Path) -> int:
    """Make the database with the days that the certificates need; return the end of its journal."""
    db = connection.open_writer(path)
    try:
        gate.keep_days(db, gate.a_gate(), datetime.now(UTC))
        return int(str(db.execute("SELECT coalesce(max(seq), 0) FROM transitions").get))
    finally:
        db.close()


def _start(env: dict[str, str], module: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments], cwd=load.ROOT, env=env, stdout=subprocess.DEVNULL
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.life")
    parser.add_argument("--intents", type=int, default=0)
    parser.add_argument("--analysts", type=int, default=1)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--wide", action="store_true")
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--database", type=Path, help="a database of this version that is to be used, and stays")
    parser.add_argument("--brief", action="store_true", help="do not wait until the store has told of its commits")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.raw:
        found: msgspec.Struct = life_raw.run(asked.intents or 5_000, min(asked.batch, 256), SystemClock())
    else:
        count = asked.intents or (300 if asked.rate else 5_000 if asked.wide else 1_000)
        found = run(
            count, analysts=asked.analysts, batch=asked.batch, rate=asked.rate, wide=asked.wide,
            database=asked.database and asked.database.resolve(), is_counting=not asked.brief,
        )  # fmt: skip
    told = msgspec.to_builtins(found)
    if asked.json:
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
        return
    for name, value in told.items():
        sys.stdout.write(f"{name:<16}{value}\n")


if __name__ == "__main__":
    main()
