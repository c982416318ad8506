"""The one poller of the bot: asks for what people wrote and hands it on, each thing at most once. Library of alerts.

An update is noted before it is looked at: a kill may lose a command, and people ask again, but none is run twice.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from loguru import logger

from actors.outbox.commands import Commands
from actors.outbox.notes import Notes
from actors.outbox.telegram import Conflict, Flooded, Telegram, TelegramError, Update
from bus import messages, runtime
from bus.clock import Clock
from bus.errors import LockHeld, NoAnswer
from bus.link import Link
from config.settings import Alerts

AGAIN_S, AGAIN_S_MAX = 1.0, 60.0  # after an answer that is none; doubled
CONFLICT_S, CONFLICT_S_MAX = 30.0, 300.0
LOCK_S = 30.0
ANSWER_S = 5.0


class Listening:
    """Polls for life. `commands` knows what things mean."""

    def __init__(
        self, telegram: Telegram, link: Link, *, commands: Commands, notes: Notes, lock: Path, settings: Alerts,
        clock: Clock,
    ) -> None:  # fmt: skip
        self._telegram = telegram
        self._link = link
        self._commands = commands
        self._notes = notes
        self._lock = lock
        self._settings = settings
        self._clock = clock
        self._failures = 0
        self._conflicts = 0

    async def run(self) -> None:
        """Poll until the process is asked to stop."""
        if not await self._is_locked():
            return
        while not self._link.stopping.is_set():
            wait_s = await self.poll()
            if wait_s and await self._link.sleep(wait_s):
                return

    async def poll(self) -> float:
        """Ask once and hand on what came; return how long to wait before the next time."""
        try:
            updates = await self._ask()
        except Conflict as error:
            return await self._conflict(error)
        except Flooded as error:
            return min(error.retry_after_s, self._settings.retry_after_s_max)
        except TelegramError as error:
            if not self._failures:
                logger.warning("What people write cannot be read: {}", error)
            self._failures += 1
            return min(AGAIN_S * 2.0 ** min(self._failures - 1, 16), AGAIN_S_MAX)
        self._failures = self._conflicts = 0
        for update in updates:
            if update.update_id < self._notes.next_update(self._clock.now()):
                continue
            self._notes.write_next_update(update.update_id + 1)
            await self._commands.take(update)
        return 0.0

    async def _ask(self) -> list[Update]:
        """Wait for updates, or for the end of the process. Raises TelegramError."""
        asking = asyncio.create_task(self._telegram.updates(self._notes.next_update(self._clock.now())))
        stopping = asyncio.create_task(self._link.stopping.wait())
        try:
            await asyncio.wait((asking, stopping), return_when=asyncio.FIRST_COMPLETED)
            return asking.result() if asking.done() else []
        finally:
            stopping.cancel()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _conflict(self, error: Conflict) -> float:
        """Say once that somebody else polls this bot, and leave it to them for longer and longer."""
        if not self._conflicts:
            said = f"Another program asks for this bot's updates ({error}): commands reach one of the two by chance"
            logger.error("{}", said)
            try:
                await self._link.ask(messages.Report(level="error", event="telegram_conflict", text=said), ANSWER_S)
            except NoAnswer as problem:
                logger.warning("Not reported: {}", problem)
        self._conflicts += 1
        return min(CONFLICT_S * 2.0 ** min(self._conflicts - 1, 8), CONFLICT_S_MAX)

    async def _is_locked(self) -> bool:
        """Take the poller's lock, however long that takes; False when asked to stop before."""
        is_said = False
        while True:
            try:
                runtime.acquire_lock(self._lock, self._link.peer.name)
                return True
            except LockHeld as error:
                if not is_said:
                    logger.error("Commands are not listened to: {}", error)
                is_said = True
            if await self._link.sleep(LOCK_S):
                return False
