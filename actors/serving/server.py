"""A web server inside somebody else's event loop: a bound socket, no signal handlers, an orderly end.

Run by the paper and the dashboard process, whose loops also send beats, and by tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from config.load import ConfigError

BACKLOG = 128
CONNECTIONS_MAX = 64
KEEP_ALIVE_S = 30
STOP_S = 1
TICK_S = 0.1  # uvicorn counts ten to a second
TICKS_MAX = 864_000


class Server(uvicorn.Server):
    """uvicorn, leaving signals to the process that runs it, and ending as soon as it is told to."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._told_to_end = asyncio.Event()

    def end(self) -> None:
        """End once the requests at work are answered."""
        self.should_exit = True
        self._told_to_end.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        """Tick as uvicorn does, for the Date header, without sleeping through the end."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks = (ticks + 1) % TICKS_MAX
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._told_to_end.wait(), TICK_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Do as uvicorn does; its pause for connections to end is left out where there is none."""
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for listener in self.servers:
            listener.close()
        for bound in sockets or ():
            bound.close()


class ExposedProtocol(H11Protocol):
    """Shows each request its connection, so that a test's fault can cut it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


def bind(
    host: str, port: int, *, setting: str = "paper.port", change: str = "paper.port and broker.base_url"
) -> socket.socket:
    """Return a socket bound to an address; port 0 takes any free one. `setting` and `change` are named when it fails.

    Raises:
        ConfigError: the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio switches Nagle's delay (40 ms a request) off only where it is.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # Connections of the last life may still wait for their end; a listener on the port refuses us all the same.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"{setting} {port} on {host} cannot be used ({error.strerror}); end the program that has it, "
            f"or set {change} to another one"
        ) from error
    bound.listen(BACKLOG)
    return bound


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, bound: socket.socket, *, cuttable: bool = False) -> AsyncIterator[asyncio.Task[None]]:
    """Serve `app` on a bound socket while the context lasts; yields the server's task, which ends only by an error."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        http=ExposedProtocol if cuttable else "h11",
        ws="none",
        loop="asyncio",
        server_header=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
    )
    server = Server(config)
    task = asyncio.create_task(server.serve(sockets=[bound]), name="http")
    try:
        yield task
    finally:
        server.end()
        await asyncio.wait((task,), timeout=2 * STOP_S)
        task.cancel()
        bound.close()
