"""Our writes without us: one life's INSERTs and UPDATEs, recorded from the store itself, replayed in one process.

No message, no socket, no read, no check, no decision: what is left is SQLite, its triggers, the journal's hash and the
disk. Each step of `batch` lives is one commit, with `synchronous = FULL` as in the store.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
from loguru import logger

from bus.vocabulary import Role
from store import connection
from store.journal import GENESIS, chain_hash
from tests.bench.rivals.course import Lap, Rival
from tests.kit.builders import a_peer
from tests.kit.store import StoreHarness

BATCH = 256
TABLES = ("intents", "decisions", "orders", "transitions", "commands")
WRITES = ("INSERT", "UPDATE", "DELETE")
Step = list[tuple[str, tuple[Any, ...]]]


def rival(batch: int = BATCH) -> Rival:
    """Return the row of the table; `lap` measures it, for it has no processes of its own."""
    return Rival(
        name=f"raw_apsw_{batch}",
        title=f"raw apsw: our writes alone, in one process, commits of {batch}",
        survives="what was committed",
    )


def lap(seconds: float, batch: int = BATCH) -> Lap:
    """Replay whole lives for some seconds; return how many a second."""
    with tempfile.TemporaryDirectory(prefix="ppr-raw-", dir="/tmp") as folder:
        db = connection.open_writer(Path(folder) / "decisions.db")
        steps, old = recorded(Path(folder) / "recorded.db")
        try:
            lives, count = replay(db, steps, old, batch), 0
            next(lives)
            began_s = time.perf_counter()
            while time.perf_counter() - began_s < seconds:
                count += next(lives)
            return Lap(items_per_s=count / (time.perf_counter() - began_s))
        finally:
            db.close()


def recorded(path: Path) -> tuple[list[Step], dict[str, str]]:
    """Run one life through the store's own writer; return its statements by commit, and its opaque values by name."""
    logger.disable("store")
    db = connection.open_writer(path)
    try:
        store, steps, step = StoreHarness(db), [], []  # type: ignore[var-annotated]

        def trace(_: apsw.Cursor, sql: str, bindings: Any) -> bool:
            nonlocal step
            if sql.startswith("COMMIT"):
                steps.append(step)
                step = []
            elif sql.startswith(WRITES) and any(f" {table}" in sql for table in TABLES):
                step.append((sql, tuple(bindings or ())))
            return True

        db.exec_trace = trace
        intent = store.closed(a_peer(Role.EXECUTOR), position_id="recorded-position")
        db.exec_trace = None
        return [one for one in steps if one], {
            "id": intent.id,
            "key": intent.idempotency_key,
            "position": "recorded-position",
        }
    finally:
        db.close()
        logger.enable("store")


def replay(db: apsw.Connection, steps: list[Step], old: dict[str, str], batch: int) -> Iterator[int]:
    """Replay `batch` lives at a time for ever, one commit for each step of all of them; yield how many that were."""
    seq, head = 0, GENESIS
    commands = itertools.count(1)
    for round_ in itertools.count(1):
        lives = [{value: f"{name}-{round_:06d}-{number:05d}" for name, value in old.items()} for number in range(batch)]
        for step in steps:
            db.execute("BEGIN IMMEDIATE")
            for life in lives:
                for sql, bindings in step:
                    given = [life.get(one, one) if isinstance(one, str) else one for one in bindings]
                    if sql.startswith("INSERT INTO transitions"):
                        row = (seq + 1, *given[1:11], head)
                        seq, head = seq + 1, chain_hash(row)
                        given = [*row, head]
                    elif sql.startswith("INSERT INTO commands"):
                        given[0] = f"raw-{next(commands)}"
                    db.execute(sql, given).fetchall()
            db.execute("COMMIT")
        yield batch
