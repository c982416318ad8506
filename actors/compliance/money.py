"""Money as people read it. Pure."""

from __future__ import annotations


def amount(cents: int) -> str:
    """Return cents as an amount: -123456 becomes -1,234.56."""
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100:,}.{abs(cents) % 100:02d}"
