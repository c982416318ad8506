"""What every analyst is: a name, a start that may refuse, and one verdict for one intent.

Used by the llm process. An analyst proposes; `verdict.check` disposes. It never knows the account, a volume or a limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from actors.analysts.verdict import Verdict
from bus import messages
from bus.errors import NoAnswer, PilotError
from bus.records import TradeIntent

BACKSTOP_RATIO = 0.1  # of the time for a verdict, kept from the analyst, so that its own timers end first
BACKSTOP_S_MAX = 1.0

Ask = Callable[[messages.Command], Awaitable[messages.Ack]]
"""How an analyst talks to the store: `bus.link.Link.ask`."""


async def no_store(command: messages.Command) -> messages.Ack:
    """Stand in for the link where there is no store. Raises NoAnswer."""
    raise NoAnswer(f"there is no store to ask: {type(command).__name__}")


class AnalysisError(PilotError):
    """No verdict this time: the endpoint was away, too slow or broken. The intent may be tried again."""


class Unavailable(AnalysisError):
    """Nothing was asked: an endpoint is known to be away. The intent was not tried, and waits."""


class Analyst(Protocol):
    """One way to judge an intent."""

    name: str

    async def start(self) -> None:
        """Get ready to work.

        Raises:
            config.load.ConfigError: it cannot work with these settings. There is no fallback.
        """
        ...

    def is_available(self) -> bool:
        """Return whether a verdict can be had now. While not, the worker takes no intents, and they stay pending."""
        ...

    async def analyse(self, intent: TradeIntent, deadline_s: float) -> Verdict:
        """Return a verdict on the intent within `deadline_s` seconds. HOLD when there is no valid decision.

        Raises:
            Unavailable: nothing was tried, because what is needed is known to be away.
            AnalysisError: no verdict could be had; trying again later may help.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


async def verdict_within(limit_s: float, analyst: Analyst, intent: TradeIntent) -> Verdict:
    """Return an analyst's verdict on an intent within `limit_s` seconds; at most 0 is no time at all.

    The analyst is given a little less. Its own timer says which endpoint was silent, tells the breaker and settles the
    tokens; ours only breaks off, and is for an analyst that keeps no time.

    Raises:
        AnalysisError: no verdict, as `Analyst.analyse` says, or none in time.
    """
    limit_s = max(0.0, limit_s)
    try:
        async with asyncio.timeout(limit_s):
            return await analyst.analyse(intent, limit_s - min(BACKSTOP_RATIO * limit_s, BACKSTOP_S_MAX))
    except TimeoutError as error:
        raise AnalysisError(f"no verdict within {limit_s:.0f} s") from error
