"""What every analyst is: a name, a start that may refuse, and one verdict for one intent.

Used by the llm process. An analyst proposes; `verdict.check` disposes. It never knows the account, a volume or a limit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from actors.analysts.verdict import Verdict
from bus import messages
from bus.errors import NoAnswer, PilotError
from bus.records import TradeIntent

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
