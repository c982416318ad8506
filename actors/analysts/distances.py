"""Stop and target from the volatility, for analysts that give only a side. Used by the llm process. Pure."""

from __future__ import annotations

PIPS_MIN = 0.1


def pips(volatility_pips: float, multiple: float) -> float:
    """Return a distance of `multiple` volatilities in pips, to a tenth of a pip and never 0."""
    return max(PIPS_MIN, round(multiple * volatility_pips, 1))
