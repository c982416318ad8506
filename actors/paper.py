"""The paper broker: a Match-Trader-compatible account on a loopback port, with simulated prices or played bars.

One process, in the paper profile only; with arguments a test server of its own that needs no other process (`--help`).
Never talks to a real broker; its prices are no market.
"""

from __future__ import annotations

import os
import sys
from typing import ClassVar

from loguru import logger

from actors.broker.paper import hosting
from actors.broker.paper.access import Access
from actors.broker.paper.faults import from_environment
from actors.broker.paper.venue import Venue
from actors.serving import server
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
            LockHeld: the account on disk is served by another process.
            OSError: the disk takes no more; what was not written was not answered.
        """
        paper = self.settings.paper
        bound = server.bind(paper.host, paper.port)  # before the files: a second paper broker must not touch them
        folder = load.data_folder() / "paper"
        hosting.own(folder)
        venue = Venue(paper, self.settings.symbols, folder, self.clock)
        faults = from_environment(os.environ.get(FAULTS_ENV, ""), salt=str(venue.ledger.lines))

        def ready() -> None:
            logger.info("Serves the paper account on http://{}:{}", paper.host, paper.port)
            self.link.ready()

        access = Access(self.settings.broker, self.clock)
        await hosting.host(bound, venue, access, faults, sleep=self.link.sleep, ready=ready, ticked=self._ticked)

    def beat(self) -> actor.BeatState:
        """Say that time passes: progress is the number of ticks."""
        return actor.BeatState(progress=self._ticks)

    def _ticked(self) -> None:
        self._ticks += 1


if __name__ == "__main__":
    if sys.argv[1:]:
        from actors.broker.paper import alone  # only here: under the supervisor its imports would delay the start

        alone.main(sys.argv[1:])
    actor.main(Paper)
