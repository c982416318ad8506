"""A listening socket whose connections a test scripts byte by byte, for what `scripted` cannot answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Peer:
    """A listening socket whose connections a test scripts. `requests` are those that arrived whole."""

    port: int
    requests: int = 0
    connections: int = 0
    live: int = 0  # of the connections, those that have not ended


@contextlib.asynccontextmanager
async def a_peer(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """Serve on a free loopback port while the context lasts, with TLS where a context is given."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        peer.connections += 1
        peer.live += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await serve(reader, writer)
        writer.transport.abort()
        tasks.discard(task)
        peer.live -= 1

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    peer = Peer(server.sockets[0].getsockname()[1])
    try:
        yield peer
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def a_request(reader: asyncio.StreamReader) -> None:
    """Take one whole request."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    _, _, length = head.partition("content-length: ")
    await reader.readexactly(int(length.split("\r")[0] or "0"))


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a TCP reset."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
