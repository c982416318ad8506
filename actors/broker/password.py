"""The secret of the broker's account: a password, or the Trader API's token. Used by executor and monitor at start.

Never logged, never kept elsewhere.
"""

from __future__ import annotations

from config import load
from config.settings import Broker, Settings

PAPER = "paper"


def password(settings: Settings) -> str:
    """Return the secret for `settings.broker`.

    Raises:
        config.load.ConfigError: a live account without its secret in the environment or in .env.
    """
    return secret_of(settings.broker)


def secret_of(broker: Broker) -> str:
    """Return the secret for these settings of a broker. Raises config.load.ConfigError as `password`."""
    return load.secret(broker.secret_env) if broker.is_live else PAPER
