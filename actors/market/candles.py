"""Bars of the broker's own candles, over whichever API the account is spoken to.

Runs in the scanner's child process, which logs in by itself and makes at most as many requests as the store has granted
to the scanner; it asks nobody for more. Only reads: no order can leave by this way.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from actors.broker.account import Account
from actors.broker.errors import BrokerError, Refused
from actors.market import granted
from actors.market.cache import Row
from actors.market.errors import BadBars, SourceAway
from actors.market.intervals import Interval
from config import settings


class Candles:
    """A `remote.Fetcher` on an account."""

    piece_bars = granted.PIECE_BARS

    def __init__(self, account: Account, broker: settings.Broker) -> None:
        self.name = granted.name_of(broker)
        self.origin = broker.base_url
        self._account = account

    async def fetch(self, symbol: str, interval: Interval, since: datetime, until: datetime) -> Sequence[Row]:
        """Return finished bars of a span, oldest first. Raises BadBars and SourceAway."""
        try:
            found = await self._account.candles(symbol, interval, since, until)
        except Refused as error:
            raise BadBars(symbol, f"{self.name}: {error}") from error
        except BrokerError as error:
            raise SourceAway(f"{self.name}: {error}") from error
        return [
            Row(int(one.at.timestamp()), float(one.open), float(one.high), float(one.low), float(one.close))
            for one in found
        ]
