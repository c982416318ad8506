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
        from actors.analysts import endpoints
        from actors.analysts.openai import OpenAiAnalyst

        return OpenAiAnalyst(settings, clock, endpoints.build(settings, clock)[endpoints.ONLY])
    from actors.analysts.offline import OfflineAnalyst

    return OfflineAnalyst()
