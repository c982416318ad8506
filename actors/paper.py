"""The paper broker: a Match-Trader-compatible account on a loopback port, with simulated prices.

One process, in the paper profile only. Never talks to a real broker; its prices are a seeded walk, not a market.
"""

from __future__ import annotations

import os
from typing import ClassVar

from loguru import logger

from actors.broker.paper import routes, server
from actors.broker.paper.access import Access
from actors.broker.paper.faults import from_environment
from actors.broker.paper.venue import Venue
from bus import actor
from bus.clock import Clock
from bus.link import Link
from bus.vocabulary import Role
from config import load
from config.settings import Settings

FAULTS_ENV = "PILOT_PAPER_FAULTS"


class Paper(actor.Actor):
    """Serves the paper account and lets its time pass."""

    role: ClassVar[Role] = Role.PAPER
    announces_ready: ClassVar[bool] = True

    def __init__(self, link: Link, settings: Settings, clock: Clock) -> None:
        super().__init__(link, settings, clock)
        self._ticks = 0

    async def run(self) -> None:
        """Serve until asked to stop.

        Raises:
            ConfigError: the port is taken, or the account on disk is none of ours.
            OSError: the disk takes no more; what was not written was not answered.
        """
        paper = self.settings.paper
        bound = server.bind(paper.host, paper.port)  # before the files: a second paper broker must not touch them
        venue = Venue(paper, self.settings.symbols, load.data_folder() / "paper", self.clock)
        faults = from_environment(os.environ.get(FAULTS_ENV, ""), salt=str(venue.ledger.lines))
        application = routes.application(venue, Access(self.settings.broker, self.clock), faults)
        try:
            async with server.serving(application, bound, cuttable=faults is not None) as http:
                logger.info("Serves the paper account on http://{}:{}", paper.host, paper.port)
                if faults is not None:
                    logger.warning("Test controls are on ({})", FAULTS_ENV)
                self.link.ready()
                while not await self.link.sleep(paper.tick_s):
                    venue.tick()
                    self._ticks += 1
                    if venue.failed:
                        raise OSError(f"{venue.folder}: the disk refused a line; see the error above")
                    if http.done():
                        http.result()
                        raise RuntimeError("the web server ended by itself")
        finally:
            venue.close()

    def beat(self) -> actor.BeatState:
        """Say that time passes: progress is the number of ticks."""
        return actor.BeatState(progress=self._ticks)


if __name__ == "__main__":
    actor.main(Paper)
