"""The requests to the broker that were granted for candles: how many they are, and that no more are made.

Used by the scanner, which asks the store for them, and by its child process, which makes them. Imports nothing heavy.
"""

from __future__ import annotations

from actors.broker.errors import BudgetSpent
from config import settings

PIECE_BARS = 700  # the Trader API answers with 750 at most; the Platform API names no limit
OVERHEAD_READS = 4  # login, instruments, and both again after a token that is refused


class Granted:
    """The requests that were granted, as a `broker.transport.Budget`: reads only, none beyond the number."""

    def __init__(self, reads: int) -> None:
        self._reads = reads
        self.used = 0

    async def pay_read(self) -> None:
        if self.used >= self._reads:
            raise BudgetSpent(f"the {self._reads} requests granted for candles are used up")
        self.used += 1

    async def pay_write(self) -> None:
        raise BudgetSpent("nothing is granted for a write: candles are read only")

    def pay_order(self) -> None:
        raise BudgetSpent("nothing is granted for an order: candles are read only")


def name_of(broker: settings.Broker) -> str:
    """Return the source's name: the paper broker's candles are simulated, and say so."""
    return "broker" if broker.is_live else "paper"
