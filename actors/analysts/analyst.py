"""What every analyst is: a name, a start that may refuse, and one verdict for one intent.

Used by the llm process. An analyst proposes; `verdict.check` disposes. It never knows the account, a volume or a limit.
"""

from __future__ import annotations

from typing import Protocol

from actors.analysts.verdict import Verdict
from bus.errors import PilotError
from bus.records import TradeIntent


class AnalysisError(PilotError):
    """No verdict this time: the endpoint was away, too slow or broken. The intent may be tried again."""


class Analyst(Protocol):
    """One way to judge an intent."""

    name: str

    async def start(self) -> None:
        """Get ready to work.

        Raises:
            config.load.ConfigError: it cannot work with these settings. There is no fallback.
        """
        ...

    async def analyse(self, intent: TradeIntent, deadline_s: float) -> Verdict:
        """Return a verdict on the intent within `deadline_s` seconds. HOLD when there is no valid decision.

        Raises:
            AnalysisError: no verdict could be had; trying again later may help.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
