"""Which analyst the settings name. Used by the llm process.

Imports an analyst only when it is chosen: the offline one must not pay for an HTTP client.
"""

from __future__ import annotations

from actors.analysts.analyst import Analyst, Ask, no_store
from bus.clock import Clock
from config.settings import Llm


def build(settings: Llm, clock: Clock, ask: Ask = no_store) -> Analyst:
    """Return the analyst that `llm.analyst` names, not yet started. `ask` reaches the store.

    Raises:
        config.load.ConfigError: it cannot work with these settings.
    """
    if settings.analyst == "openai":
        from actors.analysts import endpoints
        from actors.analysts.openai import OpenAiAnalyst

        return OpenAiAnalyst(settings, clock, endpoints.build(settings, clock), ask)
    if settings.analyst == "panel":
        from actors.analysts import endpoints
        from actors.analysts.panel import PanelAnalyst

        return PanelAnalyst(settings, clock, endpoints.build(settings, clock), ask)
    from actors.analysts.offline import OfflineAnalyst

    return OfflineAnalyst()
