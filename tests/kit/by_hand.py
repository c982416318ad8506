"""What the account's owner does beside the pipeline: another client with another login, and no intent.

position_id = by_hand.buy(run.url)
order_id = by_hand.leave_order(run.url)
"""

from __future__ import annotations

import asyncio
import socket
from decimal import Decimal
from urllib.parse import urlsplit

from actors.broker.client import BrokerClient
from actors.broker.wire import OpenRequest, PendingRequest
from bus.clock import SystemClock
from config import settings
from tests.kit.eventually import eventually
from tests.kit.paper import Counting

SYMBOL = "EURUSD"
FAR = Decimal("0.01")  # 100 pips to the stop


def wait_listens(url: str, deadline_s: float = 20.0) -> None:
    """Wait until somebody listens there: after a start the monitor may be ready before its broker is.

    Raises:
        AssertionError: nobody did within the deadline.
    """
    place = urlsplit(url)

    def listens() -> bool:
        try:
            with socket.create_connection((str(place.hostname), int(place.port or 0)), 1.0):
                return True
        except OSError:
            return False

    eventually(listens, deadline_s)


def buy(url: str, volume: str = "0.07") -> str:
    """Buy EURUSD with a stop and without a target at the paper broker; return the position's id. Not inside a loop.

    Raises:
        BrokerError: it could not be bought.
    """

    async def bought() -> str:
        async with BrokerClient(settings.Broker(base_url=url), "paper", SystemClock(), Counting()) as client:
            quote = (await client.quotes([SYMBOL]))[SYMBOL]
            request = OpenRequest(
                broker_symbol=f"{SYMBOL}.",
                side="BUY",
                volume=Decimal(volume),
                sl_price=round(quote.bid - FAR, 5),
                tp_price=Decimal(0),
            )
            return await client.open_position(request)

    wait_listens(url)
    return asyncio.run(bought())


def leave_order(url: str, volume: str = "0.07") -> str:
    """Leave an order to buy EURUSD far below the market; return its id. Not inside a loop.

    Raises:
        BrokerError: it was not taken.
    """

    async def left() -> str:
        async with BrokerClient(settings.Broker(base_url=url), "paper", SystemClock(), Counting()) as client:
            quote = (await client.quotes([SYMBOL]))[SYMBOL]
            request = PendingRequest(
                broker_symbol=f"{SYMBOL}.",
                kind="LIMIT",
                side="BUY",
                volume=Decimal(volume),
                activation_price=round(quote.bid - 5 * FAR, 5),
                sl_price=round(quote.bid - 6 * FAR, 5),
                tp_price=Decimal(0),
            )
            return await client.create_pending(request)

    wait_listens(url)
    return asyncio.run(left())
