"""What the monitor tells the store, each with a deadline: a store that is away must not hold up the watch."""

from __future__ import annotations

from loguru import logger

from bus import messages
from bus.errors import NoAnswer
from bus.link import Link
from bus.vocabulary import Outcome

ANSWER_S = 5.0


class Teller:
    """Sends commands that may fail now: they are made again from what a later poll sees."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._is_silent = False

    async def tell(self, command: messages.Command) -> bool:
        """Send a command; return whether what it says now stands in the store. False: say it again later."""
        try:
            ack = await self._link.ask(command, ANSWER_S)
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
