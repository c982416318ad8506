"""The dashboard process: the web page over the store's database, and the operator's orders from it.

Run as `python -m actors.dashboard`, at most one. Reads the database itself; never writes it, never talks to the broker.
Ends without harm: nothing that trades waits for it.
"""

from __future__ import annotations

import asyncio

from loguru import logger

from actors.compliance import rulebook
from actors.metrics import routes as measures
from actors.serving import server
from actors.web import door, routes
from actors.web.door import Door
from actors.web.hub import Hub
from actors.web.site import Site
from actors.web.views import Views
from bus import actor, messages
from bus.actor import BeatState
from bus.clock import Clock
from bus.link import Link
from bus.vocabulary import Role
from config import load
from config.settings import Settings

ANSWER_S = 5.0  # how long an operator's order waits for the store


class Dashboard(actor.Actor):
    """Serves the page and watches the database for all open ones."""

    role = Role.DASHBOARD
    announces_ready = True

    @classmethod
    def warm_up(cls, settings: Settings) -> None:
        rulebook.load(settings.compliance.rules)
        door.token_of(settings.dashboard)
        Site()

    def __init__(self, link: Link, settings: Settings, clock: Clock) -> None:
        super().__init__(link, settings, clock)
        chosen = settings.dashboard
        self._door = Door(chosen, door.token_of(chosen), clock)
        rules = rulebook.load(settings.compliance.rules)
        self._views = Views(settings, rules, Site(), self._door, clock)
        self._measures = measures.routes(
            settings, rules, clock, db_path=load.db_path(settings), backups=load.data_folder() / "backups"
        )
        self._hub = Hub(
            self._views.path, self._views.open_parts, clock, poll_s=chosen.poll_s, clients_max=chosen.clients_max
        )  # fmt: skip

    async def run(self) -> None:
        """Serve until asked to stop.

        Raises:
            ConfigError: the port is taken.
        """
        chosen = self.settings.dashboard
        bound = server.bind(chosen.host, chosen.port, setting="dashboard.port", change="dashboard.port")
        pages = routes.Pages(self._views, self._door, self._hub, self._tell, self.clock)
        application = routes.application(pages, self._door, more=self._measures)
        async with server.serving(application, bound, cuttable=True) as http:
            host = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
            acting = "" if self._door.has_token else f"; to act on it, set {chosen.token_env}"
            logger.info("Serves the dashboard on http://{}:{}{}", host, chosen.port, acting)
            self.link.ready()
            watch = asyncio.create_task(self._hub.run(self.link.sleep), name="watch")
            try:
                await asyncio.wait((watch, http), return_when=asyncio.FIRST_COMPLETED)
                if watch.done():
                    watch.result()
                if http.done():
                    http.result()
                    raise RuntimeError("the web server ended by itself")
            finally:
                watch.cancel()
                self._hub.close()  # before the server's end, which waits for open pages

    def beat(self) -> BeatState:
        """Say that the database is watched: progress is the number of looks."""
        return BeatState(progress=self._hub.looks)

    async def _tell(self, command: messages.Command) -> messages.Ack:
        return await self.link.ask(command, ANSWER_S)


if __name__ == "__main__":
    actor.main(Dashboard)
