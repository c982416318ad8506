"""A real paper broker for tests: in this event loop, over a real socket, on a free port.

    async with paper.running(tmp_path) as broker:
        async with broker.client() as client: ...

`broker.venue` is its inside, `broker.fault(...)`, `broker.price(...)` and `broker.close(...)` are its test controls.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import httpx

from actors.broker import factory
from actors.broker.account import Account
from actors.broker.client import BrokerClient
from actors.broker.paper import answers, routes
from actors.broker.paper.access import Access
from actors.broker.paper.faults import Faults
from actors.broker.paper.venue import Venue
from actors.broker.wire import ClosedPosition, OpenRequest
from actors.serving import server
from bus.clock import Clock, SystemClock
from config import settings

SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "USDCHF", "EURGBP")
TICK_S = 0.02
# Without swaps: what a test expects must not depend on whether a rollover passes while it runs.
USUAL: dict[str, Any] = {"tick_s": TICK_S, "swap_buy_points": 0.0, "swap_sell_points": 0.0}


class Counting:
    """A budget that is never spent, and counts what was paid: for tests of the client alone."""

    def __init__(self) -> None:
        self.reads = 0
        self.writes = 0

    async def pay_read(self) -> None:
        self.reads += 1

    async def pay_write(self) -> None:
        self.writes += 1

    def pay_order(self) -> None:
        self.writes += 1


class RunningPaper:
    """One paper broker that is being served."""

    def __init__(self, venue: Venue, broker: settings.Broker, clock: Clock) -> None:
        self.budget = Counting()
        self.venue = venue
        self.settings = broker
        self.url = broker.base_url
        self._clock = clock

    def client(self, password: str = "paper", **changes: Any) -> BrokerClient:
        """Return a client of this broker; `changes` are settings, such as `account_id`."""
        return BrokerClient(changed(self.settings, **changes), password, self._clock, self.budget)

    def account(self, api: str) -> Account:
        """Return a client over this API."""
        return factory.account(changed(self.settings, paper_api=api), "paper", self._clock, self.budget)

    async def fault(self, fault: str, **more: Any) -> None:
        """Order a misbehaviour: `on`, `times`, `seconds` as in actors/broker/paper/faults.py."""
        await self._control("/paper/faults", {"fault": fault, **more})

    async def price(self, symbol: str, bid: str, *, hold: bool = True) -> None:
        """Set the bid of a pair (the broker's symbol, EURUSD.) and hold all prices there."""
        await self._control("/paper/price", {"symbol": symbol, "bid": bid, "hold": hold})

    async def close(self, position_id: str) -> None:
        """Close a position as its owner might by hand."""
        await self._control("/paper/close", {"position_id": position_id})

    async def _control(self, path: str, body: dict[str, Any]) -> None:
        async with browser(self.url) as control:
            answer = await control.post(path, json=body)
            assert answer.status_code == 200, answer.text


def browser(url: str) -> httpx.AsyncClient:
    """Return a plain HTTP client of a local broker, for what `BrokerClient` does not do."""
    return httpx.AsyncClient(base_url=url, trust_env=False, verify=False)


def changed(broker: settings.Broker, **changes: Any) -> settings.Broker:
    """Return the settings with some values changed."""
    return settings.Broker(**{name: getattr(broker, name) for name in broker.__struct_fields__} | changes)


@contextlib.asynccontextmanager
async def running(
    folder: Path, *, clock: Clock | None = None, symbols: tuple[str, ...] = SYMBOLS, controls: bool = True,
    port: int = 0, die: Callable[[], None] = answers.die, api: str = "platform", **paper: Any
) -> AsyncIterator[RunningPaper]:  # fmt: skip
    """Serve a paper broker on a port (0: any free one) while the context lasts.

    `paper` are its settings, such as `speed`; `die` is called where a fault would end the process.
    """
    clock = clock or SystemClock()
    bound = server.bind("127.0.0.1", port)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    broker = settings.Broker(base_url=url, request_timeout_s=0.5, paper_api=cast(Any, api))
    venue = Venue(settings.Paper(**USUAL | paper), symbols, folder, clock)
    faults = Faults() if controls else None
    app = routes.application(venue, Access(broker, clock), faults, die=die)
    try:
        async with server.serving(app, bound, cuttable=controls):
            ticks = asyncio.create_task(_ticking(venue))
            try:
                yield RunningPaper(venue, broker, clock)
            finally:
                ticks.cancel()
    finally:
        venue.close()


async def _ticking(venue: Venue) -> None:
    while True:
        await asyncio.sleep(venue.settings.tick_s)
        venue.tick()


def an_order(**changes: Any) -> OpenRequest:
    """Return an order of a tenth of a lot EURUSD with stop and target."""
    return OpenRequest(
        **{
            "broker_symbol": "EURUSD.", "side": "BUY", "volume": Decimal("0.10"), "sl_price": Decimal("1.09000"),
            "tp_price": Decimal("1.12000"),
        }
        | changes
    )  # fmt: skip


async def history(client: Account) -> tuple[ClosedPosition, ...]:
    """Return what was closed within the last hour."""
    now = datetime.now(UTC)
    return await client.closed_positions(now - timedelta(hours=1), now + timedelta(hours=1))


def ledger(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of the broker's ledger, oldest first."""
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
