"""The one place that chooses how a broker is spoken to. Used by executor, monitor and doctor at start."""

from __future__ import annotations

from actors.broker.account import Account
from actors.broker.client import BrokerClient
from actors.broker.trader.client import TraderClient
from actors.broker.transport import Budget
from bus.clock import Clock
from config import settings


def account(broker: settings.Broker, secret: str, clock: Clock, budget: Budget) -> Account:
    """Return the account of these settings, over their API. `secret` is the password, or the Trader API's token.

    Raises:
        config.load.ConfigError: PILOT_READONLY is neither 0 nor 1.
    """
    if broker.api == "trader":
        return TraderClient(broker, secret, clock, budget)
    return BrokerClient(broker, secret, clock, budget)
