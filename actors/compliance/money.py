"""Money as the guard says it: the same words as everywhere, under the name its room knows. Pure."""

from __future__ import annotations

from config import dollars

amount = dollars.amount

CHECKS_IN_CENTS = frozenset(
    {
        "daily_drawdown", "next_day_drawdown", "max_drawdown", "next_max_drawdown", "peak_drawdown", "best_day",
        "margin",
    }
)  # fmt: skip
"""The checks whose `limit` and `found`, where they are whole numbers, are cents."""
