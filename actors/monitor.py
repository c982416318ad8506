"""The monitor process: watches equity and positions, closes intents whose position has closed, keeps the house clean.

Run as `python -m actors.monitor`, exactly one. Never opens an order; works with the executor dead. Its own login at the
broker, its own client.
"""

from __future__ import annotations

import asyncio

from loguru import logger

from actors.broker import factory
from actors.broker.password import password
from actors.compliance import day as days
from actors.compliance import rulebook
from actors.desk import entering
from actors.desk.allowance import Allowance, Block
from actors.watch.janitor import Janitor
from actors.watch.poll import REQUESTS_PER_POLL, Watch
from bus import actor
from bus.actor import BeatState
from bus.clock import Clock
from bus.link import Link
from bus.vocabulary import Role
from config import load
from config.settings import Settings

BLOCK = Block(reads=8, writes=1)  # a few polls; a kill wastes no more
UPKEEP_S_MAX = 5.0  # how long the upkeep waits for the first look, whatever keeps that


class Monitor(actor.Actor):
    """Two jobs side by side: the watch over the account, and the janitor."""

    role = Role.MONITOR

    @classmethod
    def warm_up(cls, settings: Settings) -> None:
        entering.warm_up(settings)

    def __init__(self, link: Link, settings: Settings, clock: Clock) -> None:
        super().__init__(link, settings, clock)
        self._rules = rules = rulebook.load(settings.compliance.rules)
        self._allowance = Allowance(link.ask, clock, lambda: days.firm_days(rules, clock.now()), block=BLOCK)
        self._client = factory.account(settings.broker, password(settings), clock, self._allowance)
        self._watch = Watch(
            self._client,
            link,
            allowance=self._allowance,
            settings=settings,
            rules=rules,
            clock=clock,
            db_path=load.db_path(settings),
        )
        self._janitor = Janitor(
            link, settings, clock, db_path=load.db_path(settings), folder=load.data_folder() / "backups"
        )

    async def run(self) -> None:
        try:
            async with self._client, asyncio.TaskGroup() as jobs:
                entry = await entering.begin(self._client, self._allowance, 1 + REQUESTS_PER_POLL)
                self.warn_of_the_rules()  # while the store is asked
                jobs.create_task(self._watch.run(entry), name="watch")
                jobs.create_task(self._keep_house(), name="janitor")
        except BaseExceptionGroup as died:
            if (wrong := died.subgroup(load.ConfigError)) is not None:
                raise load.ConfigError(str(wrong.exceptions[0])) from died
            raise
        finally:
            await self._allowance.close()

    def warn_of_the_rules(self) -> None:
        """Say what is doubtful of the rule set: its age, and what nobody has confirmed."""
        for warning in self._rules.warnings(self.clock.now().date()):
            logger.warning("Rule set {}: {}", self._rules.name, warning)

    async def _keep_house(self) -> None:
        """Begin the upkeep once the account was looked at: that must not wait for a sweep's commit."""
        looked = asyncio.create_task(self._watch.looked.wait())
        stopping = asyncio.create_task(self.link.stopping.wait())
        await asyncio.wait((looked, stopping), timeout=UPKEEP_S_MAX, return_when=asyncio.FIRST_COMPLETED)
        for task in (looked, stopping):
            task.cancel()
        await self._janitor.run()

    def beat(self) -> BeatState:
        return BeatState(progress=self._watch.polls)


if __name__ == "__main__":
    actor.main(Monitor)
