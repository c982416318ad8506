"""Analysts in pods of their own, where the store listens for other hosts: what their manifest needs to know.

Used by `supervisor export kubernetes`. Gives them the profile of the pipeline, but for where the store is.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from config.load import ConfigError
from config.settings import Settings
from supervisor import formation, needs

SERVICE = "prop-firm-pilot-store"
LISTEN = re.compile(r"(?m)^listen\s*=.*$")


def listen(settings: Settings) -> str:
    """Return where the store listens for analysts on other hosts; empty when it does not."""
    return settings.bus.listen


def port(settings: Settings) -> int:
    """Return the port it listens at."""
    return int(listen(settings).rpartition(":")[2])


def facts(settings: Settings, profile_text: str, *, analysts: int) -> dict[str, Any]:
    """Return what the templates need. Raises ConfigError when the profile cannot be turned into the analysts'."""
    folder = Path(settings.bus.keys)
    return {
        "store_port": port(settings),
        "keys": folder,
        "keys_mount": folder.parent,
        "analysts_profile": profile_of_analysts(profile_text, port(settings)),
        "analysts_granted": needs.of_analysts(settings),
        "analysts_egress": needs.ports_of(needs.endpoints(settings)),
        "analysts_min": max(1, analysts),
        "analysts_max": formation.LLM_MAX,
    }


def profile_of_analysts(text: str, store_port: int) -> str:
    """Return a profile that calls the store instead of listening. Raises ConfigError when it is not plainly that."""
    address = f"tcp://{SERVICE}:{store_port}"
    changed, count = LISTEN.subn(f'store = "{address}"', text)
    if count == 1:
        before, after = tomllib.loads(text), tomllib.loads(changed)
        before.get("bus", {}).pop("listen", None)
        if after.get("bus", {}).pop("store", None) == address and before == after:
            return changed
    raise ConfigError('bus.listen: `listen = "tcp://..."` must stand once, below [bus], on a line of its own')
