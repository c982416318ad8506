"""The one place that chooses how a broker is spoken to. Used by executor, monitor and doctor at start.

Imports only the client that is chosen: start-up time bounds recovery.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from actors.broker import raw
from actors.broker.account import Account
from actors.broker.transport import Budget
from bus.clock import Clock
from config import settings


def account(broker: settings.Broker, secret: str, clock: Clock, budget: Budget) -> Account:
    """Return the account of these settings, over their API. `secret` is the password, or the Trader API's token.

    Raises:
        config.load.ConfigError: PILOT_READONLY is neither 0 nor 1, or the token cannot stand in a header.
    """
    return _client(broker)(broker, secret, clock, budget)


def warm_up(broker: settings.Broker) -> None:
    """Load the client of these settings, and what reads its answers, as a spare does before its turn."""
    _client(broker)
    for kind in raw.Said.__subclasses__():
        msgspec.json.Decoder(kind)  # what it learns of a type, it keeps with the type


def _client(broker: settings.Broker) -> Callable[[settings.Broker, str, Clock, Budget], Account]:
    if broker.api == "trader":
        from actors.broker.trader.client import TraderClient

        return TraderClient
    from actors.broker.client import BrokerClient

    return BrokerClient
