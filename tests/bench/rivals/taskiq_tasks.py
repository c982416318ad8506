"""The three tasks of the chain, as taskiq's worker imports them: each does nothing and kicks the next one."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from taskiq_redis import RedisStreamBroker

from tests.bench.rivals import redis_server
from tests.bench.rivals.lanes import Lane

FOLDER = Path(os.environ["RIVAL_FOLDER"])
broker = RedisStreamBroker(
    f"redis://127.0.0.1:{redis_server.port_of(FOLDER)}", consumer_id="0", max_connection_pool_size=256
)


@cache
def lane() -> Lane:
    return Lane(FOLDER)


@broker.task
async def scan(born_ns: int) -> None:
    await analyse.kiq(born_ns)


@broker.task
async def analyse(born_ns: int) -> None:
    await execute.kiq(born_ns)


@broker.task
async def execute(born_ns: int) -> None:
    lane().end(born_ns)
