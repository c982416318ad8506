"""What `pilot doctor` finds out about the project TradingAgents, when it is the analyst. Part of the command line.

Starts its interpreter once, with the variables that an analysis would get, and asks no model.
"""

from __future__ import annotations

from actors.analysts.tradingagents import TradingAgentsAnalyst
from actors.console import findings
from actors.console.findings import Finding
from bus.clock import Clock
from config.load import ConfigError
from config.settings import Settings


async def tradingagents(settings: Settings, clock: Clock) -> list[Finding]:
    """Say whether it is installed, or how to install it. Nothing to say when another analyst is set."""
    if settings.llm.analyst != "tradingagents":
        return []
    try:
        version = await TradingAgentsAnalyst(settings.llm, clock).version()
    except ConfigError as error:
        return [findings.fail("llm", str(error), "do as it says, or choose another llm.analyst")]
    return [findings.ok("llm", f"TradingAgents {version} in {settings.llm.tradingagents_python}")]
