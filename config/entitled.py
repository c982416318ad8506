"""Which secrets each process may hold: the names of variables, never a value.

Used by the supervisor, which leaves the others out of a child's environment, and by pilot, which masks them all. Pure.
`.env` stays readable for all of them: they run as one user. What is kept from a process is kept from what it starts,
from its dumps and from /proc.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from config.settings import Settings

TELEGRAM = ("PILOT_TELEGRAM_TOKEN", "PILOT_TELEGRAM_CHAT")
USUAL = frozenset((*TELEGRAM, "PILOT_ALERT_URLS", "PILOT_PING_URL"))  # whose names do not end like a secret's
ENDINGS = ("KEY", "PASSWORD", "SECRET", "TOKEN")


def names(settings: Settings) -> dict[str, frozenset[str]]:
    """Return the variables with secrets that each role needs. A role that is not named needs none."""
    broker = frozenset((settings.broker.secret_env,))
    endpoints = (one.api_key_env for one in (settings.llm, *settings.llm.endpoints.values()))
    return {
        "executor": broker,
        "monitor": broker,
        "scanner": frozenset((settings.scanner.twelvedata_key_env,)),
        "llm": frozenset((*endpoints, *settings.llm.tradingagents_env)),
        "alerts": frozenset((*TELEGRAM, settings.alerts.second_env, settings.alerts.ping_env)),
        "dashboard": frozenset((settings.dashboard.token_env,)),
    }


def everything(settings: Settings) -> frozenset[str]:
    """Return the names of all variables that may hold a secret under these settings."""
    both = (settings.broker.password_env, settings.broker.token_env)
    return frozenset(both).union(*names(settings).values())


def withheld(role: str, settings: Settings, environment: Iterable[str]) -> frozenset[str]:
    """Return those variables of an environment that hold a secret, by settings or by name, which the role needs not."""
    own, known = names(settings).get(role, frozenset()), everything(settings)
    return frozenset(
        name for name in environment if name not in own and (name in known or name.upper().endswith(ENDINGS))
    )


def of_role(role: str, settings: Settings, environment: Mapping[str, str]) -> dict[str, None]:
    """Return what a child of this role is to be started without, each name with None."""
    return dict.fromkeys(withheld(role, settings, environment))
