"""The size of a pip. Used by scanner and llm. Pure."""

from __future__ import annotations

from actors.market.errors import BadBars

METALS = frozenset({"XAU", "XAG", "XPT", "XPD"})


def pip(symbol: str) -> float:
    """Return the size of a pip as a price: 0.01 for pairs quoted in JPY, else 0.0001.

    Raises:
        BadBars: a metal, which has no standard pip.
    """
    if symbol[:3] in METALS:
        raise BadBars(symbol, "metals have no standard pip; only FX pairs can be ranked")
    return 0.01 if symbol.endswith("JPY") else 0.0001
