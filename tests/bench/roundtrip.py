"""How long an order takes against the paper broker, real processes and sockets: median and 99th percentile in ms.

`python -m tests.bench.roundtrip`. "Recorded" is from the commit of the reservation to the commit that says the position
was seen, by the store's journal; "POST" is the request alone, from a client beside the pipeline.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import statistics
import subprocess
import sys
import time
from decimal import Decimal

from actors.broker.client import BrokerClient
from actors.broker.wire import OpenRequest
from bus.clock import SystemClock, parse
from bus.vocabulary import Status
from config import load, settings
from tests.chaos.figures import Tally
from tests.chaos.rig import Rig, rigged
from tests.kit import pipeline
from tests.kit.eventually import eventually
from tests.kit.paper import Counting

ORDERS = 120
POSTS = 200
TRADED_S = 300.0
LOTS = Decimal("0.01")


def recorded_ms(rig: Rig) -> list[float]:
    """Trade `ORDERS` intents one after the other; return for each how long from its reservation until it was opened."""
    if not rig.begin():
        raise SystemExit(f"the pipeline does not start: {rig.tally.findings}")
    rig.feed(ORDERS)
    if not rig.wait(lambda: rig.run.counts().get(Status.OPENED, 0) >= ORDERS, TRADED_S):
        raise SystemExit(f"not all orders were opened within {TRADED_S:g} s: {rig.run.counts()}")
    found = []
    with rig.run.reader() as reader:
        for intent in reader.intents(status=Status.OPENED, limit=10 * ORDERS):
            at = {move.event: parse(move.at) for move in reader.transitions(intent.id)}
            found.append((at["open"] - at["reserve"]).total_seconds() * 1_000)
    return found


def post_ms() -> list[float]:
    """Send `POSTS` orders to a paper broker of its own; return how long each took."""
    with pipeline.running() as run:
        process = subprocess.Popen(
            [sys.executable, "-m", "actors.paper"], cwd=load.ROOT, env=run.env, stdout=subprocess.DEVNULL
        )
        try:
            eventually(lambda: _listens(run.port), 20)
            return asyncio.run(_posts(run.url))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


async def _posts(url: str) -> list[float]:
    async with BrokerClient(settings.Broker(base_url=url), "paper", SystemClock(), Counting()) as client:
        quote = (await client.quotes(["EURUSD"]))["EURUSD"]
        far = round(quote.bid - Decimal("0.05"), 5)
        order = OpenRequest(broker_symbol="EURUSD.", side="BUY", volume=LOTS, sl_price=far, tp_price=Decimal(0))
        found = []
        for _ in range(POSTS):
            begun_s = time.perf_counter()
            await client.open_position(order)
            found.append((time.perf_counter() - begun_s) * 1_000)
        return found


def figures(found: list[float]) -> dict[str, float]:
    return {
        "orders": len(found),
        "median_ms": round(statistics.median(found), 1),
        "p99_ms": round(statistics.quantiles(found, n=100)[98], 1),
    }


def main() -> None:
    with rigged(Tally()) as rig:
        recorded = figures(recorded_ms(rig))
    said = {"recorded": recorded, "post": figures(post_ms())}
    sys.stdout.write(f"{'':<12}{'orders':>8}{'median ms':>12}{'p99 ms':>10}\n")
    for name, row in said.items():
        sys.stdout.write(f"{name:<12}{row['orders']:>8.0f}{row['median_ms']:>12.1f}{row['p99_ms']:>10.1f}\n")
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
