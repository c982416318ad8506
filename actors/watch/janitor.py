"""The monitor's upkeep: sweeps of the store, backups of its database and integrity checks. Never touches the broker.

Copies are made in threads: neither beats nor sweeps wait for them, nor does the store. A second folder that hangs, such
as one on a network, holds up only itself.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

from loguru import logger

from bus import messages
from bus.clock import Clock
from bus.errors import NoAnswer
from bus.failpoints import reach
from bus.link import Link
from bus.vocabulary import Outcome
from config.settings import Settings
from store import backup
from store.queries import DatabaseRefused

ANSWER_S = 30.0
OVERDUE = 2.0  # cadences: a backup that is older is told


class Janitor:
    """Sweeps on its cadence, and makes a backup when the newest one is old enough."""

    def __init__(self, link: Link, settings: Settings, clock: Clock, *, db_path: Path, folder: Path) -> None:
        self._link = link
        self._settings = settings
        self._clock = clock
        self._db_path = db_path
        self._folder = folder
        second = settings.monitor.backup_second_folder
        self._second = Path(second) if second else None
        self._copying: asyncio.Task[None] | None = None  # into the second folder
        self._second_at = clock.now()  # of the newest copy there that is known; it gets as much time as if just made
        self._overdue: set[Path] = set()  # folders of which that was told
        self._refused = False  # the last sweep, and that was told

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
            swept = await self._link.ask(messages.Sweep(), ANSWER_S)
        except NoAnswer as error:
            logger.warning("The store did not sweep: {}", error)
            return
        reach("monitor.after_sweep")
        await self._tell_refused(swept)
        if self.is_backup_due():
            await self._back_up()
        self._copy_to_second()
        await self._tell_overdue()

    async def _tell_refused(self, swept: messages.Ack) -> None:
        """Tell once that the store refuses to sweep, until it sweeps again: it would grow unseen."""
        is_new = swept.outcome != Outcome.APPLIED and not self._refused
        self._refused = swept.outcome != Outcome.APPLIED
        if is_new:
            await self._tell("sweep_refused", f"the store cleans nothing up: {swept.reason}")

    def is_backup_due(self) -> bool:
        """Return whether the newest backup is older than the interval, or there is none."""
        age_s = backup.age_s(self._folder, self._clock.now())
        return age_s is None or age_s >= self._settings.monitor.backup_interval_s

    def _copy_to_second(self) -> None:
        """Begin to copy the newest backup to the second folder, unless a copy is under way."""
        if self._copying is not None:
            if not self._copying.done():
                return
            self._copying.result()  # what nobody expected ends the process, as anywhere
        made = backup.newest(self._clock.now(), self._folder)
        if self._second is None or made is None:
            return
        self._copying = asyncio.create_task(self._keep_second(*made, self._second), name="second backup")

    async def _keep_second(self, made_at: datetime, made: Path, folder: Path) -> None:
        kept = self._settings.monitor.backups_kept
        try:
            is_new = await asyncio.to_thread(backup.keep_second, made, folder, kept)
        except backup.BackupFailed as error:
            await self._tell("backup_failed", str(error))
            return
        self._second_at = made_at
        if is_new:
            logger.info("Copied {} to {}", made.name, folder)

    async def _tell_overdue(self) -> None:
        """Tell once of each folder whose newest backup is older than two cadences. Never touches the second folder."""
        now, limit_s = self._clock.now(), OVERDUE * self._settings.monitor.backup_interval_s
        ages: dict[Path, float | None] = {self._folder: backup.age_s(self._folder, now)}
        self._second_at = min(self._second_at, now)  # it may be from the future, as the clock had it
        if self._second is not None:
            ages[self._second] = (now - self._second_at).total_seconds()
        for folder, age_s in ages.items():
            if age_s is None or age_s <= limit_s:
                self._overdue.discard(folder)
            elif folder not in self._overdue:
                self._overdue.add(folder)
                text = f"the newest good backup in {folder} is {age_s / 3_600:.1f} hours old; one is made every "
                await self._tell("backup_overdue", f"{text}{limit_s / OVERDUE / 3_600:.1f}")

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
