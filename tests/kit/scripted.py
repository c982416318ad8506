"""A server that answers with exactly the bytes a test wants, over a real socket, and remembers what it was asked.

    async with scripted.serving() as server:
        server.on("/position/open", scripted.reply(502, b"<html>", "text/html"))

An answer is bytes; `HANG` (never answer), `RESET` (TCP reset after the request) and `CLOSE` (orderly end without
an answer) stand for what is none. Login and instruments are answered by themselves unless a test says otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from actors.broker.client import BrokerClient
from actors.broker.trader.client import TraderClient
from config import settings
from tests.kit.held_clock import HeldClock
from tests.kit.paper import Counting

HANG, RESET, CLOSE = b"HANG", b"RESET", b"CLOSE"
NESTED = b'{"x":' + b"[" * 100_000  # deeper than any parser goes
SYSTEM = "5f0e9a52-0000-4000-8000-000000000001"


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """The script: per path a list of answers, the last one for ever."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    answers: dict[str, list[bytes]] = field(default_factory=dict)
    connections: int = 0
    budget: Counting = field(default_factory=Counting)

    def on(self, path_end: str, *answers: bytes) -> None:
        """Answer requests whose path ends so with these, in turn."""
        self.answers[path_end] = list(answers)

    def count(self, path_end: str) -> int:
        """Return how many requests with this path arrived."""
        return sum(1 for one in self.asked if one.path.partition("?")[0].endswith(path_end))

    def settings(self, **changes: Any) -> settings.Broker:
        """Return the broker settings that lead here."""
        return settings.Broker(
            **{
                "base_url": f"http://127.0.0.1:{self.port}", "connect_timeout_s": 5.0, "request_timeout_s": 1.5,
                "account_id": "7", "broker_id": "2", "email": "a@b.example",
            }
            | changes
        )  # fmt: skip

    def answer(self, path: str) -> bytes:
        for path_end, waiting in self.answers.items():
            if path.partition("?")[0].endswith(path_end):
                return waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return reply(404, b"{}")


def reply(
    status: int, body: bytes | dict[str, Any] | list[Any] = b"", kind: str = "application/json", **headers: str
) -> bytes:
    """Return a whole HTTP answer. Header names are written with `_` for `-`."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n{more}\r\n"
    return head.encode() + content


def a_login(account: str | int = "7", *, name: str = "accounts", token: str = "trading-token") -> dict[str, Any]:
    """Return a login's answer with another account listed first."""
    system = {"uuid": SYSTEM, "name": "s", "demo": False, "active": True}
    other = {"tradingAccountId": "1", "tradingApiToken": "of-another", "offer": {"uuid": "o", "system": system}}
    return {"email": "a@b.example", "token": "cookie", name: [other, other | {
        "tradingAccountId": account, "tradingApiToken": token,
    }], "selectedAccount": other}  # fmt: skip


def an_instrument(**changes: Any) -> dict[str, Any]:
    """Return one row of effective-instruments, with numbers as strings where brokers do that."""
    return {
        "symbol": "EURUSD.", "alias": "Euro", "type": "FOREX", "baseCurrency": "EUR", "quoteCurrency": "USD",
        "pricePrecision": 5, "volumeMin": "0.01", "volumeMax": 50, "volumeStep": "0.01", "contractSize": 100000,
        "sessionOpen": True, "leverage": "50", "stopsLevel": 0, "tradingHours": [],
    } | changes  # fmt: skip


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """Serve the script on a free loopback port while the context lasts."""
    script = Server()
    script.on("/mtr-login", reply(200, a_login(), Set_Cookie="rt=refresh; Path=/; HttpOnly"))
    script.on("/effective-instruments", reply(200, [an_instrument()]))
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        script.connections += 1
        try:
            while await _one(script, reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def trader_scene(**changes: Any) -> AsyncIterator[tuple[Server, TraderClient, HeldClock]]:
    """Serve the script and yield it with a client of the Trader API, whose instruments are answered by themselves."""
    clock = HeldClock()
    async with serving() as server:
        server.on("/v1/instruments", reply(200, {"instruments": [an_instrument()]}))
        patient = server.settings(**{"connect_timeout_s": 5.0, "request_timeout_s": 1.5} | changes)
        async with TraderClient(patient, "s3cret-token", clock, server.budget) as client:
            yield server, client, clock


@contextlib.asynccontextmanager
async def scene(**changes: Any) -> AsyncIterator[tuple[Server, BrokerClient, HeldClock]]:
    """Serve the script and yield it with a client of it; `changes` are the client's settings."""
    clock = HeldClock()
    async with serving() as server:
        async with BrokerClient(server.settings(**changes), "secret", clock, server.budget) as client:
            yield server, client, clock


async def _one(script: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Take one request and answer it. Returns whether the connection lives on."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, path, _ = lines[0].split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    script.asked.append(Asked(method, path, headers, body))
    answer = script.answer(path)
    if answer == HANG:
        await asyncio.sleep(30)
        return False
    if answer == RESET:
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return False
    if answer == CLOSE:
        return False
    writer.write(answer)
    await writer.drain()
    return True
