"""taskiq with Redis streams: three tasks that kick each other, one worker of two processes, 64 concurrent producers."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from tests.bench.rivals import redis_server
from tests.bench.rivals.course import Rival, role
from tests.bench.rivals.lanes import PACED_PER_S, UNDER_WAY_MAX, Course, Lane, Phase

PRODUCERS = 64
WORKERS = 2
SURVIVES = "all: acked when it is done; a killed task is taken over after idle_timeout, 600 s unless set"
TASKIQ = Path(sys.executable).with_name("taskiq")


def rivals() -> tuple[Rival, ...]:
    return (
        Rival(
            name="taskiq", title=f"taskiq + Redis streams, {PRODUCERS} concurrent producers", survives=SURVIVES,
            commands=lambda folder: [
                [
                    str(TASKIQ), "worker", "tests.bench.rivals.taskiq_tasks:broker", "--workers", str(WORKERS),
                    "--log-level", "ERROR", "--shutdown-timeout", "1",
                ],
                role("taskiq_streams", folder),
            ],
            missing=lambda: redis_server.missing() or ("" if TASKIQ.exists() else "taskiq is not installed"),
            beside=redis_server.serving,
        ),
    )  # fmt: skip


async def source(folder: Path) -> None:
    """Kick new items from 64 coroutines at full speed, and from one at a set pace."""
    from tests.bench.rivals.taskiq_tasks import broker, scan

    course, lane, produced = Course(folder), Lane(folder, "produced"), 0
    await broker.startup()

    async def kick() -> None:
        nonlocal produced
        produced += 1
        lane.add()
        await scan.kiq(time.monotonic_ns())

    async def producer(number: int) -> None:
        due_s = 0.0
        while (phase := course.phase) is not Phase.STOP:
            if phase is Phase.FULL and produced - course.finished() < UNDER_WAY_MAX:
                await kick()
            elif phase is Phase.PACED and number == 0:
                due_s = max(due_s + 1 / PACED_PER_S, time.monotonic() - 1 / PACED_PER_S)
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                await kick()
            else:
                await asyncio.sleep(0.05)

    await asyncio.gather(*(producer(number) for number in range(PRODUCERS)))
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(source(Path(os.environ["RIVAL_FOLDER"])))
