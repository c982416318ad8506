"""Money as the guard says it: the same words as everywhere, under the name its room knows. Pure."""

from __future__ import annotations

from config import dollars

amount = dollars.amount
