"""The password of the broker's account. Used by executor and monitor at start; never logged, never kept elsewhere."""

from __future__ import annotations

from config import load
from config.settings import Settings

PAPER = "paper"


def password(settings: Settings) -> str:
    """Return the password for `settings.broker`.

    Raises:
        config.load.ConfigError: a live account without its secret in the environment or in .env.
    """
    return PAPER if settings.broker.kind == "paper" else load.secret(settings.broker.password_env)
