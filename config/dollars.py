"""Money as people read it, and US dollars as whole millionths wherever prices of language models are added up. Pure.

Used by every process: prices of language models are far below a cent a call, an account is in cents.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

MICROS = 1_000_000


def amount(cents: int) -> str:
    """Return cents as an amount: -123456 becomes -1,234.56."""
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100:,}.{abs(cents) % 100:02d}"


def micros(given: str) -> int:
    """Return an amount in millionths of a dollar."""
    return int(Decimal(given) * MICROS)


def cost_micros(price_in: str | None, price_out: str | None, tokens_in: int, tokens_out: int) -> int:
    """Return the cost of a call in millionths of a dollar, rounded up; 0 where there is no price.

    Prices are dollars per million tokens, which is millionths of a dollar per token.
    """
    exact = Decimal(price_in or 0) * tokens_in + Decimal(price_out or 0) * tokens_out
    return int(exact.to_integral_value(ROUND_CEILING))


def text(given_micros: int) -> str:
    """Return millionths of a dollar for people, with four decimals, rounded up: `1.0235`."""
    return str((Decimal(given_micros) / MICROS).quantize(Decimal("0.0001"), ROUND_CEILING))
