"""What the monitor tells the store, each with a deadline: a store that is away must not hold up the watch."""

from __future__ import annotations

from loguru import logger

from bus import messages
from bus.alerting import Data
from bus.alerting import Severity as Severity
from bus.errors import NoAnswer
from bus.link import Link
from bus.vocabulary import Outcome

ANSWER_S = 1.0  # prices go on while the store is waited for; a store that restarts is back in half of that
SILENT_ANSWER_S = 0.5  # once it did not answer, until it does


class Teller:
    """Sends commands that may fail now: they are made again from what a later poll sees."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._is_silent = False
        self._told: set[str] = set()  # what people are told once

    async def tell(self, command: messages.Command) -> bool:
        """Send a command; return whether what it says now stands in the store. False: say it again later."""
        try:
            ack = await self._link.ask(command, SILENT_ANSWER_S if self._is_silent else ANSWER_S)
        except NoAnswer as error:
            if not self._is_silent:
                logger.warning("The store does not answer; going on without it: {}", error)
            self._is_silent = True
            return False
        if self._is_silent:
            logger.info("The store answers again")
            self._is_silent = False
        if ack.outcome in (Outcome.APPLIED, Outcome.ALREADY):
            return True
        logger.error("The store did not take {}: {} {}", type(command).__name__, ack.outcome, ack.reason)
        return False

    async def report(
        self, level: Severity, event: str, text: str, intent_id: str | None = None, data: Data | None = None
    ) -> bool:
        """Tell people, in the log and in the store. Return whether the store has it."""
        logger.log(level.upper(), "{}", text)
        return await self.tell(
            messages.Report(level=level, event=event, text=text, intent_id=intent_id, data=data or {})
        )

    async def once(self, key: str, level: Severity, event: str, text: str, intent_id: str | None = None) -> None:
        """Tell people, once as long as nobody forgets the key."""
        if key not in self._told and await self.report(level, event, text, intent_id):
            self._told.add(key)

    def forget(self, prefix: str) -> None:
        """Have everything told again whose key begins so."""
        self._told = {key for key in self._told if not key.startswith(prefix)}
