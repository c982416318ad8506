"""Analysts in pods of their own, where the store listens for other hosts: what their manifest needs to know.

Used by `supervisor export kubernetes`. Gives them the profile of the pipeline, but for where the store is.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from config.load import ConfigError
from config.settings import Settings
from supervisor import formation, needs

SERVICE = "prop-firm-pilot-store"
PLAIN_PATH = re.compile(r"(/[A-Za-z0-9_-][A-Za-z0-9._-]*){2,}")  # it stands in a shell's command
OF_THE_IMAGE = ("/bin", "/dev", "/lib", "/lib64", "/opt/prop-firm-pilot", "/proc", "/sbin", "/sys", "/usr")
OF_THE_POD = ("/given", "/run/secrets", "/tmp")  # noqa: S108 - a place of mounts
LISTEN = re.compile(r"(?m)^listen\s*=.*$")


def listen(settings: Settings) -> str:
    """Return where the store listens for analysts on other hosts; empty when it does not."""
    return settings.bus.listen


def port(settings: Settings) -> int:
    """Return the port it listens at."""
    return int(listen(settings).rpartition(":")[2])


def facts(settings: Settings, profile_text: str, *, analysts: int, mounts: Iterable[str]) -> dict[str, Any]:
    """Return what the templates need. `mounts`: where the pods of the pipeline have other volumes.

    Raises:
        ConfigError: the profile cannot be turned into the analysts', or the folder of keys would hide another one.
    """
    folder = _keys(settings.bus.keys, (*mounts, *OF_THE_IMAGE, *OF_THE_POD))
    return {
        "store_port": port(settings),
        "keys": folder,
        "keys_mount": folder.parent,
        "analysts_profile": profile_of_analysts(profile_text, port(settings)),
        "analysts_granted": needs.of_analysts(settings),
        "analysts_egress": needs.ports_of(needs.addresses_of(needs.endpoints(settings))),
        "analysts_min": max(1, analysts),
        "analysts_max": formation.LLM_MAX,
    }


def _keys(given: str, taken: Iterable[str]) -> Path:
    """Return the folder of keys. A volume is mounted above it: only what it makes in there has an owner and 0700."""
    folder = Path(given)
    mount = folder.parent
    others = [Path(one) for one in taken]
    if not PLAIN_PATH.fullmatch(given) or any(mount.is_relative_to(one) or one.is_relative_to(mount) for one in others):
        raise ConfigError(
            f"bus.keys was {given!r}; allowed in a pod: /keys/pilot, or another plain path whose folder above is no "
            "part of the system, the program or another volume, and holds none: a volume of its own is mounted there"
        )
    return folder


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
