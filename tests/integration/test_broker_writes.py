"""Every way a broker can answer a write, over a real socket: what the client then says it knows."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from actors.broker import wire
from actors.broker.client import BrokerClient
from actors.broker.errors import (
    BrokerError,
    BudgetSpent,
    NotSent,
    Refused,
    Transient,
    UnknownOutcome,
)
from bus.clock import SystemClock
from tests.kit import scripted
from tests.kit.paper import Counting
from tests.kit.scripted import CLOSE, HANG, NESTED, RESET, reply, scene

D = Decimal
HTML = b"<!DOCTYPE html><html><body>\n  Attention   Required!</body></html>"
ORDER = wire.OpenRequest(broker_symbol="EURUSD.", side="BUY", volume=D("0.10"), sl_price=D("1.09"), tp_price=D(0))
HELD = wire.Position(
    id="p1", symbol="EURUSD", broker_symbol="EURUSD.", side="BUY", volume=D("0.10"), open_price=D("1.1"),
    sl_price=None, tp_price=None, opened_at=datetime(2026, 2, 16, tzinfo=UTC), current_price=D("1.1"), swap_cents=0,
    commission_cents=0, profit_cents=0, net_profit_cents=0,
)  # fmt: skip


# ── writes ──────────────────────────────────────────────────────────────────

UNKNOWN = [
    HANG, RESET, CLOSE,
    b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",  # cut off
    b"\x00\x01 no http\r\n\r\n",
    reply(200), reply(204), reply(202, {"status": "PENDING"}), reply(200, HTML, "text/html"), reply(200, b'{"status":'),
    reply(200, NESTED), reply(400, NESTED),
    reply(200, b"[]"), reply(200, b"null"), reply(200, {}), reply(200, {"status": "ok", "orderId": "1"}),
    reply(200, {"status": "OK"}), reply(200, {"status": "OK", "orderId": None}),
    reply(200, {"status": "OK", "orderId": ""}),
    reply(200, {"status": "OK", "orderId": "1", "errorCode": "UNKNOWN_ERROR"}),
    reply(200, {"status": "REJECTED", "orderId": "1"}),
    reply(200, b" " * 5_000_000),
    reply(301, b"", Location="/elsewhere"), reply(302, b"", Location="/elsewhere"), reply(307, b"", Location="/x"),
    reply(400, HTML, "text/html"), reply(400), reply(400, {"status": "OK", "orderId": "1"}),
    reply(401, {"error": "unauthorized"}), reply(403, HTML, "text/html"), reply(403, {"error": "forbidden"}),
    reply(404, b"{}"), reply(408), reply(409, {}), reply(429, {"error": "too many"}, Retry_After="1"),
    reply(429, {"status": "REJECTED"}), reply(401, {"status": "REJECTED"}), reply(503, {"status": "REJECTED"}),
    reply(503, {"status": "OK", "orderId": "1"}),
    reply(500, {}), reply(502, HTML, "text/html"), reply(503), reply(504, HTML, "text/html"),
]  # fmt: skip


@pytest.mark.parametrize("answer", UNKNOWN, ids=lambda answer: answer[:40].decode("latin1").split("\r")[0])
async def test_an_open_without_a_certain_answer_has_an_unknown_outcome_and_is_sent_once(answer: bytes) -> None:
    async with scene() as (server, client, _):
        server.on("/position/open", answer)
        await client.login()
        with pytest.raises(UnknownOutcome):
            await client.open_position(ORDER)
        assert server.count("/position/open") == 1
        assert server.count("/elsewhere") == 0


@pytest.mark.parametrize("answer", [HANG, RESET, reply(200), reply(200, {}), reply(502, HTML, "text/html"), reply(401)])
async def test_an_edit_or_close_without_a_certain_answer_has_an_unknown_outcome(answer: bytes) -> None:
    async with scene() as (server, client, _):
        server.on("/position/edit", answer)
        server.on("/position/close", answer)
        with pytest.raises(UnknownOutcome):
            await client.edit_position(HELD, D("1.09"), D(0))
        with pytest.raises(UnknownOutcome):
            await client.close_position(HELD)
        assert (server.count("/position/edit"), server.count("/position/close")) == (1, 1)


@pytest.mark.parametrize(
    "answer",
    [
        reply(200, {"status": "REJECTED", "nativeCode": "NO_MONEY", "errorMessage": "not enough", "orderId": None}),
        reply(400, {"status": "REJECTED", "nativeCode": "NO_MONEY", "errorMessage": "not enough"}),
        reply(400, {"errorMessage": "NO_MONEY not enough"}),
    ],
)
async def test_a_rejected_order_is_refused_with_the_brokers_words(answer: bytes) -> None:
    async with scene() as (server, client, _):
        server.on("/position/open", answer)
        await client.login()
        with pytest.raises(Refused, match=r"NO_MONEY.*not enough"):
            await client.open_position(ORDER)
        assert server.count("/position/open") == 1


async def test_an_order_without_a_login_is_not_sent() -> None:
    async with scene() as (server, client, _):
        with pytest.raises(NotSent, match="expired"):
            await client.open_position(ORDER)
        assert server.asked == []


async def test_an_order_with_an_expired_token_is_not_sent_and_does_not_log_in() -> None:
    async with scene() as (server, client, clock):
        await client.login()
        clock.ahead_s = 901
        with pytest.raises(NotSent):
            await client.open_position(ORDER)
        assert server.count("/mtr-login") == 1
        assert server.count("/position/open") == 0


async def test_what_cannot_be_paid_for_is_never_sent() -> None:
    class Spent(Counting):
        async def pay_write(self) -> None:
            raise BudgetSpent("none left")

        def pay_order(self) -> None:
            raise BudgetSpent("none left for an order")

    async with scripted.serving() as server:
        async with BrokerClient(server.settings(), "secret", SystemClock(), budget := Spent()) as client:
            await client.login()
            with pytest.raises(NotSent, match="none left for an order"):
                await client.open_position(ORDER)
            with pytest.raises(NotSent, match="none left"):
                await client.close_position(HELD)
            with pytest.raises(NotSent, match="none left"):
                await client.edit_position(HELD, D("1.0"), D("1.2"))
        assert (len(server.asked), budget.reads) == (1, 1)


async def test_a_refused_connection_is_certainly_not_sent() -> None:
    clock = SystemClock()
    async with scripted.serving() as server:
        client = BrokerClient(server.settings(), "secret", clock, server.budget)
        await client.login()
    with pytest.raises(NotSent, match="Connect"):
        await client.open_position(ORDER)
    with pytest.raises(Transient):
        await client.balance()
    await client.__aexit__(None, None, None)


async def test_a_connection_that_nobody_accepts_is_certainly_not_sent() -> None:
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    address = full.getsockname()
    fillers = [socket.socket() for _ in range(4)]
    try:
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        async with scene() as (_, client, _clock):
            await client.login()
            client._line._base_url = f"http://127.0.0.1:{address[1]}"
            with pytest.raises(NotSent, match="ConnectTimeout"):
                await client.open_position(ORDER)
    finally:
        for one in (full, *fillers):
            one.close()


async def test_a_reset_in_the_middle_of_a_large_request_has_an_unknown_outcome() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    cutter = await asyncio.start_server(cut, "127.0.0.1", 0)
    async with scene() as (_, client, _clock):
        await client.login()
        client._line._base_url = f"http://127.0.0.1:{cutter.sockets[0].getsockname()[1]}"
        with pytest.raises(UnknownOutcome):
            await client._line.write("/position/open", b" " * 20_000_000, headers={})
    cutter.close()


async def test_an_answer_that_drips_without_end_is_given_up_as_unknown() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
            for _ in range(200):
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()

    dripper = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with scene(connect_timeout_s=0.1, request_timeout_s=0.1) as (_, client, _clock):
        await client.login()
        client._line._base_url = f"http://127.0.0.1:{dripper.sockets[0].getsockname()[1]}"
        began = asyncio.get_running_loop().time()
        with pytest.raises(UnknownOutcome, match="TimeoutError"):
            await client.open_position(ORDER)
        assert asyncio.get_running_loop().time() - began < 1.5
    dripper.close()


@pytest.mark.parametrize(
    ("raised", "known"),
    [
        (httpx.ConnectError("x"), NotSent),
        (httpx.ConnectTimeout("x"), NotSent),
        (httpx.PoolTimeout("x"), NotSent),
        (httpx.UnsupportedProtocol("x"), NotSent),
        (httpx.WriteError("x"), UnknownOutcome),
        (httpx.WriteTimeout("x"), UnknownOutcome),
        (httpx.ReadError("x"), UnknownOutcome),
        (httpx.ReadTimeout("x"), UnknownOutcome),
        (httpx.CloseError("x"), UnknownOutcome),
        (httpx.RemoteProtocolError("x"), UnknownOutcome),
        (httpx.LocalProtocolError("x"), UnknownOutcome),
        (httpx.DecodingError("x"), UnknownOutcome),
        (httpx.TooManyRedirects("x"), UnknownOutcome),
        (httpx.ProxyError("x"), UnknownOutcome),
        (TimeoutError(), UnknownOutcome),
        (UnicodeError("x"), UnknownOutcome),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.__name__,
)
async def test_only_errors_of_connecting_mean_that_nothing_was_sent(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, known: type[BrokerError]
) -> None:
    async def fail(*_: Any, **__: Any) -> Any:
        raise raised

    async with scene() as (_, client, _clock):
        await client.login()
        monkeypatch.setattr(client._line, "_exchange", fail)
        with pytest.raises(known):
            await client.open_position(ORDER)


async def test_a_header_that_cannot_be_made_is_certainly_not_sent_and_a_read_may_be_tried_again() -> None:
    async with scene() as (server, client, _clock):
        await client.login()
        client._session._headers["Cookie"] = "owner=J\u00fcrgen"
        with pytest.raises(NotSent, match="a header is not ASCII"):
            await client.open_position(ORDER)
        with pytest.raises(Transient, match="a header is not ASCII"):
            await client.balance()
        assert [one.path for one in server.asked] == ["/manager/mtr-login"]


async def test_an_opened_order_gives_its_id_also_when_the_broker_says_it_as_a_number() -> None:
    async with scene() as (server, client, _):
        server.on("/position/open", reply(200, {"status": "OK", "orderId": 4711, "nativeCode": None}))
        await client.login()
        assert await client.open_position(ORDER) == "4711"


async def test_every_write_has_a_connection_of_its_own_and_our_honest_name() -> None:
    async with scene() as (server, client, _):
        server.on("/position/open", reply(200, {"status": "OK", "orderId": "1"}))
        await client.login()
        before = server.connections
        await client.open_position(ORDER)
        await client.open_position(ORDER)
        assert server.connections == before + 2
        sent = server.asked[-1]
        assert sent.headers["user-agent"].startswith("prop-firm-pilot/")
        assert sent.headers["auth-trading-api"] == "trading-token"
        assert sent.headers["cookie"] == "co-auth=cookie; rt=refresh"
        assert sent.path == f"/mtr-api/{scripted.SYSTEM}/position/open"
        assert sent.body == wire.open_request(ORDER)


async def test_an_edit_sends_the_full_context_and_a_close_the_side_of_the_position() -> None:
    async with scene() as (server, client, _):
        server.on("/position/edit", reply(200, {"status": "OK", "orderId": "p1"}))
        server.on("/position/close", reply(200, {"status": "OK", "orderId": "9"}))
        await client.edit_position(HELD, D("1.09000"), D(0))
        await client.close_position(HELD)
        assert server.asked[-2].body == (
            b'{"id":"p1","instrument":"EURUSD.","orderSide":"BUY","volume":0.10,"slPrice":1.09000,"tpPrice":0,'
            b'"isMobile":false}'
        )
        assert server.asked[-1].body == (
            b'{"positionId":"p1","instrument":"EURUSD.","orderSide":"BUY","volume":"0.10"}'
        )


@pytest.mark.parametrize("login", [reply(401, {}), reply(503), HANG, reply(200, HTML, "text/html")])
async def test_an_edit_or_close_that_cannot_log_in_is_not_sent(login: bytes) -> None:
    async with scene() as (server, client, _):
        server.on("/mtr-login", login)
        with pytest.raises(NotSent):
            await client.close_position(HELD)
        assert server.count("/position/close") == 0
