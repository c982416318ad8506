"""Redis streams by hand: XADD, XREADGROUP and XACK with a consumer group for each of scan, analyse and execute.

An item leaves one stream and enters the next in one MULTI. Every write is on disk before it is answered.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.rivals import redis_server
from tests.bench.rivals.course import Rival, role
from tests.bench.rivals.lanes import Course, Lane, Phase, produce

STAGES = ("scan", "analyse", "execute")
GROUP = "g"
BLOCK_MS = 200
SURVIVES = "all: what was read and not acked stays pending until somebody claims it (XAUTOCLAIM, by hand)"


def rivals() -> tuple[Rival, ...]:
    return tuple(
        Rival(
            name=f"redis_{batch}",
            title=f"Redis streams by hand, {'batches of 256' if batch > 1 else 'one at a time'}",
            survives=SURVIVES,
            commands=lambda folder, batch=batch: [
                role("redis_streams", folder, what, str(batch)) for what in (*STAGES, "produce")
            ],
            missing=redis_server.missing,
            beside=redis_server.serving,
        )
        for batch in (256, 1)
    )


def stage(folder: Path, name: str, batch: int) -> None:
    """Take from one stream, do nothing, put into the next one, ack: both in one transaction."""
    import redis

    client = redis.Redis(port=redis_server.port_of(folder))
    _group(client, name)
    follower = dict(itertools.pairwise(STAGES)).get(name)
    course, lane = Course(folder), Lane(folder) if follower is None else None
    while course.phase is not Phase.STOP:
        found = client.xreadgroup(GROUP, name, {name: ">"}, count=batch, block=BLOCK_MS)
        if not found:
            continue
        items = found[0][1]
        with client.pipeline(transaction=True) as pipe:
            if follower is not None:
                for _, fields in items:
                    pipe.xadd(follower, fields)
            pipe.xack(name, GROUP, *(key for key, _ in items))
            pipe.execute()
        if lane is not None:
            for _, fields in items:
                lane.end(int(fields[b"at"]))


def source(folder: Path, batch: int) -> None:
    import redis

    client = redis.Redis(port=redis_server.port_of(folder))
    for name in STAGES:
        _group(client, name)

    def put(items: Sequence[int]) -> None:
        with client.pipeline(transaction=False) as pipe:
            for born in items:
                pipe.xadd(STAGES[0], {"at": born})
            pipe.execute()

    produce(folder, put, batch=batch)


def _group(client, name: str) -> None:  # type: ignore[no-untyped-def]
    import redis

    try:
        client.xgroup_create(name, GROUP, id="0", mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise


if __name__ == "__main__":
    where, what, many = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    source(where, many) if what == "produce" else stage(where, what, many)
