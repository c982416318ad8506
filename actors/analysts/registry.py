"""Which analyst the settings name. Used by the llm process.

Imports an analyst only when it is chosen: the offline one must not pay for an HTTP client.
"""

from __future__ import annotations

from actors.analysts.analyst import Analyst
from bus.clock import Clock
from config.settings import Llm


def build(settings: Llm, clock: Clock) -> Analyst:
    """Return the analyst that `llm.analyst` names, not yet started. Raises config.load.ConfigError."""
    if settings.analyst == "openai":
        import random

        from actors.analysts.openai import OpenAiAnalyst

        return OpenAiAnalyst(settings, clock, random.Random())
    if settings.analyst == "tradingagents":
        from actors.analysts.tradingagents import TradingAgentsAnalyst

        return TradingAgentsAnalyst(settings, clock)
    from actors.analysts.offline import OfflineAnalyst

    return OfflineAnalyst()
