"""The paper broker as a real process: killed, started again, refused its port, ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from actors.broker.client import BrokerClient
from actors.broker.errors import BrokerError, UnknownOutcome
from actors.broker.wire import OpenRequest
from bus.clock import SystemClock
from bus.vocabulary import ExitCode
from config import load, settings
from tests.kit.paper import Counting, RunningPaper

ORDER = OpenRequest(
    broker_symbol="EURUSD.", side="BUY", volume=Decimal("0.10"), sl_price=Decimal("1.05"), tp_price=Decimal("1.20")
)
START_S = 15.0


@dataclass
class House:
    """A profile, a data folder, and the processes that were started in them."""

    folder: Path
    port: int
    run_folder: str
    processes: list[subprocess.Popen[bytes]]

    @property
    def broker(self) -> settings.Broker:
        return settings.Broker(base_url=f"http://127.0.0.1:{self.port}", request_timeout_s=2.0)

    def start(self) -> subprocess.Popen[bytes]:
        with (self.folder / "out.log").open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "actors.paper"],
                cwd=load.ROOT,
                env=os.environ
                | {
                    "PILOT_DATA": str(self.folder / "data"), "PILOT_RUN": self.run_folder, "PILOT_PAPER_FAULTS": "1",
                    "PILOT_PROFILE": str(self.folder / "test.toml"),
                },
                stdout=out,
                stderr=out,
            )  # fmt: skip
        self.processes.append(process)
        return process

    async def ready(self, client: BrokerClient) -> None:
        """Wait until the broker answers."""
        until = time.monotonic() + START_S
        while True:
            try:
                await client.login()
                return
            except BrokerError:
                if time.monotonic() > until:
                    raise AssertionError((self.folder / "out.log").read_text()) from None
                await asyncio.sleep(0.02)

    def control(self) -> RunningPaper:
        return RunningPaper(None, self.broker, SystemClock())  # type: ignore[arg-type]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "test.toml").write_text(f'symbols = ["EURUSD", "USDJPY"]\nscanner.top_k = 1\n[paper]\nport = {port}\n')
    with tempfile.TemporaryDirectory(prefix="run-") as run_folder:
        made = House(tmp_path, port, run_folder, [])
        yield made
        for process in made.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait(5)


async def test_a_killed_broker_has_lost_no_order_that_it_answered(house: House) -> None:
    answered: set[str] = set()
    async with BrokerClient(house.broker, "paper", SystemClock(), Counting()) as client:
        for round_number in range(2):
            process = house.start()
            await house.ready(client)
            await house.control().price("EURUSD.", "1.10000")

            async def order_until_gone() -> None:
                with contextlib.suppress(BrokerError):
                    while True:
                        answered.add(await client.open_position(ORDER))

            orders = asyncio.create_task(order_until_gone())
            while len(answered) < 5 * (round_number + 1):
                await asyncio.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            process.wait(5)
            await orders
        house.start()
        await house.ready(client)
        there = {one.id for one in await client.open_positions()}
        balance = await client.balance()
    assert answered <= there
    assert len(there) <= len(answered) + 2  # at most the one of each round whose answer the kill took
    assert balance.balance_cents == 5_000_000
    lines = (house.folder / "data" / "paper" / "ledger.jsonl").read_text().splitlines()
    placed = [json.loads(line)["position_id"] for line in lines if '"placed"' in line]
    assert sorted(placed) == sorted(there)


@pytest.mark.parametrize(("point", "there"), [("paper.before_record", 0), ("paper.after_record", 1)])
async def test_a_broker_killed_around_its_record_knows_the_order_or_does_not(
    house: House, monkeypatch: pytest.MonkeyPatch, point: str, there: int
) -> None:
    armed = house.folder / "points"
    armed.mkdir()
    monkeypatch.setenv("PILOT_FAILPOINTS", str(armed))
    async with BrokerClient(house.broker, "paper", SystemClock(), Counting()) as client:
        process = house.start()
        await house.ready(client)
        await house.control().price("EURUSD.", "1.10000")
        (armed / point).write_text("kill")
        with pytest.raises(UnknownOutcome):
            await client.open_position(ORDER)
        assert process.wait(5) == -signal.SIGKILL
        house.start()
        await house.ready(client)
        assert len(await client.open_positions()) == there


async def test_a_taken_port_ends_with_the_configuration_code_and_says_which(house: House) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", house.port))
        taken.listen()
        process = house.start()
        assert await asyncio.to_thread(process.wait, START_S) == ExitCode.CONFIG
    assert f"paper.port {house.port}" in (house.folder / "out.log").read_text()
    assert not (house.folder / "data" / "paper").exists()


async def test_a_broker_that_is_asked_to_stop_ends_at_once_with_code_0(house: House) -> None:
    async with BrokerClient(house.broker, "paper", SystemClock(), Counting()) as client:
        process = house.start()
        await house.ready(client)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert await asyncio.to_thread(process.wait, START_S) == ExitCode.OK
        assert time.monotonic() - began < 3
    assert "Simulates the prices of 2 pairs" in (house.folder / "out.log").read_text()
