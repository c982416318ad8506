"""Which analyst the settings name. Used by the llm process.

Imports an analyst only when it is chosen: the offline one must not pay for an HTTP client.
"""

from __future__ import annotations

from actors.analysts.analyst import Analyst, Ask, no_store
from bus.clock import Clock
from config.load import ConfigError
from config.settings import Llm


def build(settings: Llm, clock: Clock, ask: Ask = no_store) -> Analyst:
    """Return the analyst that the settings name, not yet started; in shadow mode two in one. `ask` reaches the store.

    Raises:
        config.load.ConfigError: it cannot work with these settings.
    """
    if not settings.shadow:
        return _named(settings, clock, ask)
    if settings.analyst == "offline":
        raise ConfigError("llm.shadow was true with llm.analyst = 'offline'; name the analyst that is the shadow")
    from actors.analysts.offline import OfflineAnalyst
    from actors.analysts.shadow import ShadowAnalyst

    return ShadowAnalyst(OfflineAnalyst(), _named(settings, clock, ask), settings, clock)


def _named(settings: Llm, clock: Clock, ask: Ask) -> Analyst:
    """Return the analyst that `llm.analyst` names."""
    if settings.analyst == "offline":
        from actors.analysts.offline import OfflineAnalyst

        return OfflineAnalyst()
    if settings.analyst == "tradingagents":
        from actors.analysts.tradingagents import TradingAgentsAnalyst

        return TradingAgentsAnalyst(settings, clock)
    from actors.analysts import completers

    served, played = completers.build(settings, clock), completers.played(settings)
    if played.analyst == "panel":
        from actors.analysts.panel import PanelAnalyst

        return PanelAnalyst(played, clock, served, ask)
    from actors.analysts.openai import OpenAiAnalyst

    return OpenAiAnalyst(played, clock, served, ask)
