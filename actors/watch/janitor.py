"""The monitor's upkeep: sweeps of the store, backups of its database and integrity checks. Never touches the broker."""

from __future__ import annotations

import asyncio
from pathlib import Path

from loguru import logger

from bus import messages
from bus.clock import Clock
from bus.errors import NoAnswer
from bus.failpoints import reach
from bus.link import Link
from config.settings import Settings
from store import backup
from store.queries import DatabaseRefused

ANSWER_S = 30.0


class Janitor:
    """Sweeps on its cadence, and makes a backup when the newest one is old enough."""

    def __init__(self, link: Link, settings: Settings, clock: Clock, *, db_path: Path, folder: Path) -> None:
        self._link = link
        self._settings = settings
        self._clock = clock
        self._db_path = db_path
        self._folder = folder

    async def run(self) -> None:
        """Make rounds until the process is asked to stop."""
        while not self._link.stopping.is_set():
            await self.round()
            if await self._link.sleep(self._settings.monitor.janitor_interval_s):
                return

    async def round(self) -> None:
        """Sweep once, and back up when it is time. What fails is told and tried again in the next round."""
        reach("monitor.before_sweep")  # asking the store for its periodic cleaning
        try:
            await self._link.ask(messages.Sweep(), ANSWER_S)
        except NoAnswer as error:
            logger.warning("The store did not sweep: {}", error)
            return
        reach("monitor.after_sweep")
        if self.is_backup_due():
            await self._back_up()

    def is_backup_due(self) -> bool:
        """Return whether the newest backup is older than the interval, or there is none."""
        made_at = [path.stat().st_mtime for path in self._folder.glob("decisions-*.db")]
        age_s = self._clock.now().timestamp() - max(made_at, default=0.0)
        return age_s >= self._settings.monitor.backup_interval_s

    async def _back_up(self) -> None:
        kept = self._settings.monitor.backups_kept
        reach("monitor.before_backup")  # copy, check and keep the database
        try:
            # In a thread: a large database must not hold up the beats.
            made = await asyncio.to_thread(backup.backup, self._db_path, self._folder, kept, self._clock)
            verdict = await asyncio.to_thread(backup.integrity, self._db_path)
        except (backup.BackupFailed, DatabaseRefused) as error:
            await self._tell("backup_failed", str(error))
            return
        reach("monitor.after_backup")
        if verdict == "ok":
            logger.info("Backed up the decision store to {} ({:,} bytes); integrity ok", made, made.stat().st_size)
        else:
            await self._tell("integrity_failed", f"{self._db_path.name}: {verdict}; restore {made}")

    async def _tell(self, event: str, text: str) -> None:
        logger.error("{}: {}", event, text)
        try:
            await self._link.ask(messages.Report(level="error", event=event, text=text), ANSWER_S)
        except NoAnswer as error:
            logger.warning("The store did not take the report of {}: {}", event, error)
