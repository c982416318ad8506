"""litequeue with SQLite, every commit synced: a file for each of three queues, polled every millisecond."""

from __future__ import annotations

import importlib.util
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.rivals.course import Rival, role
from tests.bench.rivals.lanes import Course, Lane, Phase, produce

STAGES = ("scan", "analyse", "execute")
POLL_S = 0.001
SURVIVES = "all, but a task whose process was killed stays locked until somebody retries it by hand"


def rivals() -> tuple[Rival, ...]:
    return (
        Rival(
            name="litequeue", title="litequeue, SQLite, synchronous FULL, 1 ms poll", survives=SURVIVES,
            commands=lambda folder: [role("litequeue_sqlite", folder, what) for what in (*STAGES, "produce")],
            missing=lambda: "" if importlib.util.find_spec("litequeue") else "litequeue is not installed",
        ),
    )  # fmt: skip


def _queue(folder: Path, name: str):  # type: ignore[no-untyped-def]
    import litequeue

    end_s = time.monotonic() + 10
    while True:
        try:
            found = litequeue.LiteQueue(folder / f"{name}.db", timeout=30)
            found.conn.execute("PRAGMA synchronous = FULL")
            return found
        except litequeue.sqlite3.OperationalError:  # two processes make the file at once
            if time.monotonic() > end_s:
                raise
            time.sleep(0.01)


def stage(folder: Path, name: str) -> None:
    """Take, do nothing, put into the next queue, mark as done: three commits, for the queues are files of their own."""
    mine, follower = _queue(folder, name), dict(itertools.pairwise(STAGES)).get(name)
    following = _queue(folder, follower) if follower else None
    course, lane = Course(folder), Lane(folder) if follower is None else None
    while course.phase is not Phase.STOP:
        item = mine.pop()
        if item is None:
            time.sleep(POLL_S)
            continue
        if following is not None:
            following.put(item.data)
        mine.done(item.message_id)
        if lane is not None:
            lane.end(int(item.data))


def source(folder: Path) -> None:
    queue = _queue(folder, STAGES[0])

    def put(items: Sequence[int]) -> None:
        for born in items:
            queue.put(str(born))

    produce(folder, put, batch=1)


if __name__ == "__main__":
    where, what = Path(sys.argv[1]), sys.argv[2]
    source(where) if what == "produce" else stage(where, what)
