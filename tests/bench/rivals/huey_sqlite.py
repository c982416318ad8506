"""huey with SQLite, every commit synced: three tasks that enqueue each other, polled every millisecond."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.rivals.course import Rival, role
from tests.bench.rivals.lanes import Lane, produce

POLL_S = 0.001
CONSUMERS = 2
SURVIVES = "what waits; a running task is lost: it is deleted when it is taken"


def rivals() -> tuple[Rival, ...]:
    return (
        Rival(
            name="huey", title="huey, SQLite, fsync, 1 ms poll", survives=SURVIVES,
            commands=lambda folder: [
                *(role("huey_sqlite", folder, "consume") for _ in range(CONSUMERS)),
                role("huey_sqlite", folder, "produce"),
            ],
            missing=lambda: "" if importlib.util.find_spec("huey") else "huey is not installed",
        ),
    )  # fmt: skip


def main(folder: Path, what: str) -> None:
    from huey import SqliteHuey

    queue = SqliteHuey(filename=str(folder / "huey.db"), fsync=True, results=False, timeout=30)
    lane = Lane(folder) if what == "consume" else None

    @queue.task(name="execute")
    def execute(born_ns: int) -> None:
        assert lane is not None
        lane.end(born_ns)

    @queue.task(name="analyse")
    def analyse(born_ns: int) -> None:
        execute(born_ns)

    @queue.task(name="scan")
    def scan(born_ns: int) -> None:
        analyse(born_ns)

    def put(items: Sequence[int]) -> None:
        for born in items:
            scan(born)

    if what == "produce":
        produce(folder, put, batch=1)
    else:
        queue.create_consumer(
            workers=1, worker_type="thread", initial_delay=POLL_S, max_delay=POLL_S, backoff=1.0, periodic=False,
            check_worker_health=False,
        ).run()  # fmt: skip
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
