"""The line to the broker as it can really be: names, handshakes, bodies, connections that go wrong; real sockets.

What a broker says is in test_broker_reads.py and test_broker_writes.py; here it is how it gets to us.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import ssl
import subprocess
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors.broker.client import BrokerClient
from actors.broker.errors import BrokerError, NotSent, Refused, Transient, UnknownOutcome, Unreadable
from actors.broker.transport import BODY_BYTES_MAX, Transport
from tests.kit import cards, scripted
from tests.kit.cards import WRITES, WriteCard
from tests.kit.eventually import eventually_async
from tests.kit.paper import Counting
from tests.kit.peers import a_peer, a_request, reset
from tests.kit.scripted import reply, scene

OK = {"status": "OK", "orderId": "W99"}
each_write = pytest.mark.parametrize("card", WRITES.values(), ids=WRITES)


def leads_to(client: BrokerClient, url: str, **changes: float) -> None:
    """Let a client that is logged in find the broker somewhere else from now on."""
    broker = scripted.Server().settings(base_url=url, **changes)
    client._line = Transport(broker, Counting())


@contextlib.asynccontextmanager
async def at(url: str, **changes: float) -> AsyncIterator[BrokerClient]:
    """Yield a client that is logged in, and whose requests go to `url`."""
    async with scene() as (_, client, _clock):
        await client.login()
        await client._line.close()
        leads_to(client, url, **changes)
        yield client


async def both(client: BrokerClient, read: type[BrokerError], write: type[BrokerError]) -> str:
    """Check what a read and every kind of write become; return what the read said."""
    with pytest.raises(read) as caught:
        await client.balance()
    assert type(caught.value) is read
    for card in WRITES.values():
        with pytest.raises(write) as refused:
            await card.write(client)
        assert type(refused.value) is write
    return str(caught.value)


# ── before a connection ─────────────────────────────────────────────────────


async def test_a_name_that_nobody_knows_is_certainly_not_sent() -> None:
    async with at("http://broker.invalid:9", connect_timeout_s=5.0) as client:
        said = await both(client, Transient, NotSent)
        assert "ConnectError" in said


async def test_a_port_where_nobody_listens_is_certainly_not_sent() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        async with at(f"http://127.0.0.1:{free.getsockname()[1]}") as client:
            assert "ConnectError" in await both(client, Transient, NotSent)


async def test_a_connection_that_is_never_accepted_is_certainly_not_sent_and_given_up_in_time() -> None:
    with contextlib.ExitStack() as sockets:
        full = sockets.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        async with at(f"http://127.0.0.1:{full.getsockname()[1]}", connect_timeout_s=0.1) as client:
            began = asyncio.get_running_loop().time()
            assert "ConnectTimeout" in await both(client, Transient, NotSent)
            assert asyncio.get_running_loop().time() - began < 0.1 * 20


# ── TLS ─────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """Return a server's context with a certificate that nobody signed but itself."""
    folder: Path = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem",
        ],
        check=True, capture_output=True, timeout=20,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


async def test_a_certificate_nobody_vouches_for_gets_no_request_at_all(tls: ssl.SSLContext) -> None:
    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await a_request(reader)
        peer.requests += 1

    async with a_peer(serve, tls) as peer, at(f"https://127.0.0.1:{peer.port}", connect_timeout_s=2.0) as client:
        assert "CERTIFICATE_VERIFY_FAILED" in await both(client, Transient, NotSent)
        assert peer.requests == 0


async def test_a_broker_that_speaks_no_tls_gets_no_request_at_all() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert not (await reader.read(5)).startswith((b"GET", b"POST"))
        peer.requests += 1
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with a_peer(serve) as peer, at(f"https://127.0.0.1:{peer.port}", connect_timeout_s=2.0) as client:
        await both(client, Transient, NotSent)
        assert peer.requests == 1 + len(WRITES)


async def test_a_handshake_that_is_never_answered_is_given_up_as_not_sent() -> None:
    async def serve(_: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async with a_peer(serve) as peer, at(f"https://127.0.0.1:{peer.port}", connect_timeout_s=0.1) as client:
        assert "ConnectTimeout" in await both(client, Transient, NotSent)


# ── the connection ends ─────────────────────────────────────────────────────


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("is_before", [True, False], ids=["before the request is read", "after it"])
async def test_a_connection_that_ends_once_made_leaves_a_write_unknown(said: bytes, how: str, is_before: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not is_before:
            await a_request(reader)
        writer.write(said)
        await writer.drain()
        if how == "reset":
            reset(writer)
        else:
            writer.close()

    async with a_peer(serve) as peer, at(f"http://127.0.0.1:{peer.port}") as client:
        await both(client, Transient, UnknownOutcome)
        assert peer.connections == 1 + len(WRITES), "nothing is sent a second time"


@pytest.mark.parametrize(
    "ending", [b'5\r\n{"a":\r\n', b"zz\r\n", b"5\r\n{}"], ids=["no last chunk", "no length", "half a chunk"]
)
async def test_a_chunked_body_without_its_end_is_no_answer(ending: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await a_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + ending)
        await writer.drain()

    async with a_peer(serve) as peer, at(f"http://127.0.0.1:{peer.port}") as client:
        await both(client, Transient, UnknownOutcome)


# ── slow ────────────────────────────────────────────────────────────────────


async def test_a_body_byte_by_byte_is_given_up_at_the_deadline_of_the_whole_exchange() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await a_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    loop = asyncio.get_running_loop()
    async with a_peer(serve) as peer:
        async with at(f"http://127.0.0.1:{peer.port}", connect_timeout_s=0.05, request_timeout_s=0.1) as client:
            began = loop.time()
            assert "TimeoutError" in await both(client, Transient, UnknownOutcome)
            assert loop.time() - began < 0.3 * (1 + len(WRITES)) + 2


async def test_a_slow_body_within_the_deadline_is_taken() -> None:
    body = json.dumps(cards.BALANCE).encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await a_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        for byte in body:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.001)

    async with a_peer(serve) as peer, at(f"http://127.0.0.1:{peer.port}", request_timeout_s=2.0) as client:
        assert (await client.balance()).balance_cents == 5_000_000


# ── compressed ──────────────────────────────────────────────────────────────


def packed(said: object) -> bytes:
    return gzip.compress(json.dumps(said).encode())


async def test_a_compressed_answer_is_read_and_nothing_else_is_asked_for() -> None:
    async with scene() as (server, client, _):
        server.on("/balance", reply(200, packed(cards.BALANCE), Content_Encoding="gzip"))
        assert (await client.balance()).balance_cents == 5_000_000
        assert server.asked[-1].headers["accept-encoding"] == "gzip"
        for card in WRITES.values():
            server.on(card.path, reply(200, packed(OK), Content_Encoding="GZIP"))
            assert await card.write(client) == card.result
            assert server.asked[-1].headers["accept-encoding"] == "gzip"


BROKEN = {
    "no gzip": (b"{}", "gzip"),
    "cut off": (packed(cards.BALANCE | OK)[:-9], "gzip"),
    "another sum": (packed(cards.BALANCE | OK)[:-8] + b"\0" * 8, "gzip"),
    "more behind": (packed(cards.BALANCE | OK) + b"{}", "gzip"),
    "another packing": (json.dumps(cards.BALANCE | OK).encode(), "br"),
    "packed twice": (gzip.compress(packed(cards.BALANCE | OK)), "gzip, gzip"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_compressed_answer_that_is_broken_is_no_answer(name: str) -> None:
    body, encoding = BROKEN[name]
    async with scene() as (server, client, _):
        for path in ("/balance", *(card.path for card in WRITES.values())):
            server.on(path, reply(200, body, Content_Encoding=encoding))
        assert "DecodingError" in await both(client, Transient, UnknownOutcome)


async def test_a_bomb_is_not_unpacked_beyond_the_limit() -> None:
    packing = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    bomb = b"".join([*(packing.compress(b" " * 1_000_000) for _ in range(200)), packing.flush()])
    assert len(bomb) < BODY_BYTES_MAX, "small enough to be received"
    card = WRITES["open"]
    async with scene(request_timeout_s=5.0) as (server, client, _):
        await client.login()
        server.on("/balance", reply(200, bomb, Content_Encoding="gzip"))
        server.on(card.path, reply(200, bomb, Content_Encoding="gzip"))
        tracemalloc.start()
        try:
            with pytest.raises(Transient, match="TooLarge"):
                await client.balance()
            with pytest.raises(UnknownOutcome, match="TooLarge"):
                await card.write(client)
            assert tracemalloc.get_traced_memory()[1] < 6 * BODY_BYTES_MAX
        finally:
            tracemalloc.stop()


async def test_an_empty_body_that_is_said_to_be_compressed_is_no_answer() -> None:
    async with scene() as (server, client, _):
        for path in ("/balance", *(card.path for card in WRITES.values())):
            server.on(path, reply(200, b"", Content_Encoding="gzip"))
        await both(client, Transient, UnknownOutcome)


# ── large, and elsewhere ────────────────────────────────────────────────────


async def test_a_body_without_end_is_cut_at_the_limit_and_its_connection_closed() -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await a_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b" " * 65_536)
            await writer.drain()
            sent += 65_536

    async with a_peer(serve) as peer:
        async with at(f"http://127.0.0.1:{peer.port}", request_timeout_s=5.0) as client:
            assert "TooLarge" in await both(client, Transient, UnknownOutcome)
    assert sent < 4 * BODY_BYTES_MAX * (1 + len(WRITES))


async def test_headers_without_end_are_no_answer() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await a_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-More: " + b"x" * 60_000 + b"\r\n")
            await writer.drain()

    async with a_peer(serve) as peer, at(f"http://127.0.0.1:{peer.port}", request_timeout_s=5.0) as client:
        await both(client, Transient, UnknownOutcome)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed_and_takes_no_secret_elsewhere(status: int) -> None:
    async def serve(_: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0)

    async with a_peer(serve) as elsewhere, scene() as (server, client, _):
        for path in ("/balance", *(card.path for card in WRITES.values())):
            server.on(path, reply(status, b"", Location=f"http://127.0.0.1:{elsewhere.port}/"))
        assert "check broker.base_url" in await both(client, Refused, UnknownOutcome)
        assert elsewhere.connections == 0


# ── connections ─────────────────────────────────────────────────────────────


@each_write
async def test_reads_share_a_connection_and_every_write_has_one_of_its_own(card: WriteCard) -> None:
    async with scene() as (server, client, _):
        server.on("/balance", reply(200, cards.BALANCE))
        server.on(card.path, reply(200, OK))
        for _ in range(3):
            await client.balance()
        assert server.connections == 1
        for number in range(1, 4):
            await card.write(client)
            await client.balance()
            assert server.connections == 1 + number


async def test_a_shared_connection_that_the_broker_closed_fails_one_read_at_most_and_no_write() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await a_request(reader)
        writer.write(reply(200, cards.BALANCE | OK))
        await writer.drain()

    async with a_peer(serve) as peer, at(f"http://127.0.0.1:{peer.port}") as client:
        failed = 0
        for card in WRITES.values():
            try:
                await client.balance()
            except Transient:
                failed += 1
            assert await card.write(client) == card.result
        assert failed <= 1


@pytest.mark.parametrize("header", ["", "Connection: close\r\n", "Keep-Alive: timeout=1\r\n"])
async def test_idle_connection_that_the_broker_closed_fails_no_later_read(header: str) -> None:
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await a_request(reader)
        writer.write(reply(200, cards.BALANCE).replace(b"\r\n\r\n", f"\r\n{header}\r\n".encode(), 1))
        await writer.drain()
        writer.close()  # as a server does with a connection that was idle for too long
        await writer.wait_closed()
        closed.set()

    async with a_peer(serve) as peer, at(f"http://127.0.0.1:{peer.port}") as client:
        for number in range(1, 4):
            closed.clear()
            await client.balance()
            await closed.wait()
            await asyncio.sleep(0.01)  # the end of the connection is on its way to us
            assert peer.connections == number


@each_write
async def test_write_leaves_the_shared_connection_of_reads_alone_and_ends_its_own(card: WriteCard) -> None:
    async with scene() as (server, client, _):
        server.on("/balance", reply(200, cards.BALANCE))
        server.on(card.path, reply(200, OK))
        await client.balance()
        before = server.connections
        await card.write(client)
        await client.balance()
        await client.balance()
        assert server.connections == before + 1


async def test_failed_exchanges_leave_no_connection_open() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await a_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        await reader.read()  # until the client hangs up

    async with a_peer(serve) as peer:
        async with at(f"http://127.0.0.1:{peer.port}", request_timeout_s=0.05) as client:
            await both(client, Transient, UnknownOutcome)
            await eventually_async(lambda: peer.live == 0)
            assert peer.connections == 1 + len(WRITES)


async def test_an_answer_that_is_no_json_stays_a_reads_own_error() -> None:
    async with scene() as (server, client, _):
        server.on("/balance", reply(200, gzip.compress(b"<html>"), "text/html", Content_Encoding="gzip"))
        with pytest.raises(Unreadable, match="<html>"):
            await client.balance()
