"""Watches the endpoints that an analyst needs: probes those that are away, and tells people when it begins and ends.

Used by the llm process, as a task beside the analyses. An analyst cannot decide while one endpoint that it needs is
away: there is no second choice, and a panel without one of its voices is another panel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from loguru import logger

from actors.analysts.analyst import Ask
from actors.analysts.chat import Completer
from actors.console import text
from bus import messages
from bus.errors import NoAnswer

LOOK_S = 0.25
TEXT_CHARS_MAX = 500


class Watch:
    """The endpoints by name. `ask` tells the store."""

    def __init__(self, endpoints: Mapping[str, Completer], ask: Ask) -> None:
        self._endpoints = endpoints
        self._ask = ask
        self._was_available = True
        self._looking: asyncio.Task[None] | None = None
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._telling: asyncio.Task[None] | None = None  # a store that is away must not stop the probes

    def is_available(self) -> bool:
        """Return whether all of them let calls through."""
        return all(endpoint.is_available() for endpoint in self._endpoints.values())

    def start(self) -> None:
        """Begin to look. Call inside the running loop."""
        self._looking = asyncio.create_task(self._look(), name="watch endpoints")

    async def close(self) -> None:
        """Stop looking. A report under way is dropped: it says nothing that the log does not."""
        tasks = [task for task in (self._looking, self._telling, *self._probes.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            for name, endpoint in self._endpoints.items():
                if not endpoint.is_available() and (name not in self._probes or self._probes[name].done()):
                    self._probes[name] = asyncio.create_task(endpoint.probe(), name=f"probe {name}")
            is_told = self._telling is None or self._telling.done()
            if self.is_available() is not self._was_available and is_told:
                self._was_available = not self._was_available
                self._telling = asyncio.create_task(self._tell(self._was_available), name="report endpoints")
            await asyncio.sleep(LOOK_S)

    async def _tell(self, is_back: bool) -> None:
        away = ", ".join(name for name, endpoint in self._endpoints.items() if not endpoint.is_available())
        said = "all endpoints are back" if is_back else f"away: {away}; intents wait until they expire"
        logger.warning("Language models: {}", said)
        report = messages.Report(
            level="info" if is_back else "error",
            event="llm_back" if is_back else "llm_away",
            text=text.line(f"Language models: {said}", TEXT_CHARS_MAX),
        )
        try:
            await self._ask(report)
        except NoAnswer:
            logger.debug("The store was not told: {}", said)
