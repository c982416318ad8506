"""Requests to the broker for candles, asked of the store before the child process may make them.

Used by the scanner only. Granted counts as used, whatever happens: a kill between grant and fetch leaves the store's
count too high, never too low. What was not used is given back after the child has said so, and only then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from loguru import logger
from msgspec import Struct

from bus import messages
from bus.clock import Clock
from bus.errors import NoAnswer
from bus.vocabulary import Outcome
from config.settings import Settings

READS_MAX = 10_000  # of one grant
ANSWER_S = 10.0

Ask = Callable[[messages.Command, float], Awaitable["messages.Ack | None"]]


class Grant(Struct, frozen=True):
    """What was granted, of which day of the firm's."""

    day: str = ""
    reads: int = 0


class Grants:
    """Asks and gives back. The rule set is read when the first request is asked for."""

    def __init__(self, ask: Ask, settings: Settings, clock: Clock) -> None:
        self._ask = ask
        self._settings = settings
        self._clock = clock

    async def take(self, reads: int) -> Grant:
        """Return a grant of exactly `reads` requests, or one of none: then no candle may be asked for."""
        if not reads:
            return Grant()
        grant = Grant(self._today(), min(reads, READS_MAX))
        try:
            ack = await self._ask(self._wish(grant), ANSWER_S)
        except NoAnswer as error:
            logger.warning("The store granted no requests for candles: {}", error)
            return Grant()
        if ack is None:
            return Grant()
        if ack.outcome is not Outcome.APPLIED:
            logger.warning("The store granted no requests for candles: {}", ack.reason)
            return Grant()
        return grant

    async def give_back(self, grant: Grant, used: int) -> None:
        """Tell the store what was not used; what it does not hear counts as used."""
        left = grant.reads - used
        if left <= 0:
            return
        try:
            ack = await self._ask(messages.ReturnRequests(day=grant.day, reads=left, writes=0), ANSWER_S)
        except NoAnswer as error:
            logger.warning("{} unused requests count as used: {}", left, error)
            return
        if ack is not None and ack.outcome is not Outcome.APPLIED:
            logger.warning("{} unused requests count as used: {}", left, ack.reason)

    def _wish(self, grant: Grant) -> messages.GrantRequests:
        """Ask for no request that orders and their positions may need today."""
        kept = self._settings.monitor.requests_kept_for_trades
        return messages.GrantRequests(day=grant.day, reads=grant.reads, writes=0, kept=kept)

    def _today(self) -> str:
        from actors.compliance import day, rulebook

        rules = rulebook.load(self._settings.compliance.rules)
        return day.firm_days(rules, self._clock.now())[0].day
