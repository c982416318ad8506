"""The open pages: one look at the database for all of them, changed parts sent to each, slow ones dropped.

Library of the dashboard. Holds nothing that grows: of each part of a page only its newest text waits for a client.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
from loguru import logger

from bus.clock import Clock, iso
from store.board import Board, trouble
from store.queries import DatabaseRefused

LOOK_AT_LEAST_S = 1.0  # what depends on time alone: who is silent, which halt has ended
BUSY_PART = 0.25  # of the time, at most, goes into looking and filling in pages, however many are open
TICK_S = 5.0  # an open page hears of us at least so often

Parts = dict[str, str]
Render = Callable[[str], Parts]  # the parts of a page by its address; raises DatabaseRefused


class Client:
    """One open page. Changes wait here until they are sent, the newest text of each part once."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.is_over = False
        self._waiting: Parts = {}
        self._wanted = asyncio.Event()

    def begin(self, parts: Parts) -> None:
        """Take a whole page that was read before whatever waits here already."""
        self.offer(parts | self._waiting)

    def offer(self, parts: Parts) -> None:
        self._waiting.update(parts)
        self._wanted.set()

    def close(self) -> None:
        self.is_over = True
        self._wanted.set()

    async def next(self) -> Parts:
        """Return what has changed since the last call; nothing after a while without a change."""
        try:
            async with asyncio.timeout(TICK_S):
                await self._wanted.wait()
        except TimeoutError:
            pass
        self._wanted.clear()
        found, self._waiting = self._waiting, {}
        return found


class Hub:
    """Watches the database and tells the open pages."""

    def __init__(self, path: Path, render: Render, clock: Clock, *, poll_s: float, clients_max: int) -> None:
        self.clients: set[Client] = set()
        self.looks = 0
        self._path = path
        self._render = render
        self._clock = clock
        self._poll_s = poll_s
        self._clients_max = clients_max
        self._shown: dict[str, Parts] = {}
        self._board: Board | None = None
        self._file = (0, 0)
        self._seen: tuple[int, int, int] | None = None
        self._rendered_s = float("-inf")
        self._is_over = False

    async def run(self, sleep: Callable[[float], Awaitable[bool]]) -> None:
        """Look again and again until `sleep` says that the process ends, then end all open pages."""
        took_s = 0.0
        try:
            while not await sleep(max(self._poll_s, took_s / BUSY_PART)):
                began_s = self._clock.monotonic()
                await self.look()
                took_s = self._clock.monotonic() - began_s
        finally:
            self.close()

    async def look(self) -> None:
        """Look once; when something was committed, or a second has passed, tell the pages what has changed."""
        self.looks += 1
        if not self.clients:  # four looks a second for nobody would be a third of what the idle process costs
            self._leave()
            return
        seen = await asyncio.to_thread(self._version)
        now_s = self._clock.monotonic()
        is_due = seen != self._seen or now_s - self._rendered_s >= LOOK_AT_LEAST_S
        if not is_due:
            return
        self._seen, self._rendered_s = seen, now_s
        for address in {client.address for client in self.clients}:
            parts = await asyncio.to_thread(self._render, address)
            shown = self._shown.get(address, {})
            changed = {name: text for name, text in parts.items() if shown.get(name) != text}
            self._shown[address] = parts
            if changed:
                for client in self.clients:
                    if client.address == address:
                        client.offer(changed)
        self._forget()

    async def follow(self, address: str, version: str) -> AsyncIterator[dict[str, str]]:
        """Yield the events of one page: `hello`, then `parts` whenever some have changed, or `tick`.

        Ends when too many pages are open, and with the process.
        """
        if self.is_full:
            return
        client = Client(address)
        self.clients.add(client)
        try:
            yield self._event("hello", {"version": version})
            client.begin(await asyncio.to_thread(self._render, address))
            while not client.is_over:
                parts = await client.next()
                if client.is_over:
                    return
                yield self._event("parts", {"parts": parts}) if parts else self._event("tick", {})
        finally:
            self.clients.discard(client)
            self._forget()

    @property
    def is_full(self) -> bool:
        return self._is_over or len(self.clients) >= self._clients_max

    def close(self) -> None:
        """End all open pages and the connection to the database."""
        self._is_over = True
        for client in self.clients:
            client.close()
        self._leave()

    def _leave(self) -> None:
        """Close the database. The next look opens it anew, and takes whatever it finds for changed."""
        if self._board is not None:
            self._board.close()
            self._board = None
        self._seen = None

    def _event(self, name: str, data: dict[str, object]) -> dict[str, str]:
        text = msgspec.json.encode({"now": iso(self._clock.now())} | data).decode()
        return {"event": name, "data": text}

    def _forget(self) -> None:
        """Keep what was shown only for pages that are open."""
        wanted = {client.address for client in self.clients}
        self._shown = {address: parts for address, parts in self._shown.items() if address in wanted}

    def _version(self) -> tuple[int, int, int] | None:
        """Return what changes with every commit, and with another file in the database's place; None without one."""
        try:
            stat = self._path.stat()
            file = (stat.st_dev, stat.st_ino)
            if self._board is not None and self._file != file:
                self._board.close()
                self._board = None
            with trouble(self._path):
                if self._board is None:
                    self._board, self._file = Board(self._path), file
                return (*file, self._board.data_version())
        except (OSError, DatabaseRefused) as error:
            logger.debug("No database to watch: {}", error)
            return None
