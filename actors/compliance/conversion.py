"""From one currency to another by the broker's own quotes. Pure; used by sizing and by the view of the account.

Decimal throughout. A missing or impossible quote is a value (`NoRate`), never a guess and never 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Protocol

from msgspec import Struct

# Costs are rounded up and gains that protect us down, so that no rounding ever makes a risk look smaller.
UP = Context(prec=40, rounding=ROUND_CEILING)
DOWN = Context(prec=40, rounding=ROUND_FLOOR)


class TwoSided(Protocol):
    """A quote: what one gets for selling (`bid`) and pays for buying (`ask`)."""

    @property
    def bid(self) -> Decimal: ...
    @property
    def ask(self) -> Decimal: ...


class Rates(Struct, frozen=True):
    """The lowest and highest worth of one unit of a currency in another."""

    low: Decimal
    high: Decimal


class NoRate(Struct, frozen=True):
    """There is no usable quote between two currencies. `reason` says what was looked for."""

    reason: str


def is_usable(quote: TwoSided) -> bool:
    """Return whether both sides are finite, positive and the right way round."""
    return quote.bid.is_finite() and quote.ask.is_finite() and 0 < quote.bid <= quote.ask


def rates(from_currency: str, to_currency: str, quotes: Mapping[str, TwoSided]) -> Rates | NoRate:
    """Return what one unit of `from_currency` is worth in `to_currency`, by the direct pair or the inverse one.

    `quotes` is by our symbols, e.g. `USDJPY`. USDJPY at 150.00/150.02 makes one yen worth 1/150.02 .. 1/150.00 dollars.
    """
    if from_currency == to_currency:
        return Rates(Decimal(1), Decimal(1))
    direct, inverse = f"{from_currency}{to_currency}", f"{to_currency}{from_currency}"
    if (quote := quotes.get(direct)) is not None and is_usable(quote):
        return Rates(quote.bid, quote.ask)
    if (quote := quotes.get(inverse)) is not None and is_usable(quote):
        return Rates(DOWN.divide(Decimal(1), quote.ask), UP.divide(Decimal(1), quote.bid))
    return NoRate(f"no usable quote of {direct} or {inverse}")
