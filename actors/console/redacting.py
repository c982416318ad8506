"""Settings and texts without what must not leave this machine: secrets, the account, addresses with a login in them.

Used by pilot for `config show` and `bundle`. Pure but for `masker`, which reads the secrets so that it knows them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from actors.analysts.masking import MASK, Masker
from config import entitled, load
from config.settings import Settings

Mask = Callable[[str], str]

# Whose account it is, and where. Shown to the operator, never in what is meant for others.
PRIVATE = frozenset({"broker.email", "broker.account_id", "broker.broker_id"})
_LOGIN = re.compile(r"(?<=://)[^/\s@]+@")  # user:password@ in an address
_BOT = re.compile(r"\b[0-9]{6,20}:[A-Za-z0-9_-]{20,100}")  # Telegram's token
_HEADER = re.compile(r"(?im)\b((?:set-)?cookie|authorization)(\s*[:=]\s*).+$")
_NAMED = re.compile(r"(?i)((?:password|passwd|secret|token|api[_-]?key)[\\\"']*\s*[:=]\s*[\\\"']*)([^\s\\\"',;}]+)")


def masker(settings: Settings | None) -> Mask:
    """Return what blots secrets out of a text: those that are set, those that look like one, and the account's name.

    Raises:
        ConfigError: `.env` can be read by others.
    """
    names = () if settings is None else secret_names(settings)
    known = set(load.secret_values(names))
    if settings is not None and settings.broker.is_live:
        known |= {settings.broker.email, settings.broker.account_id}
    blot = Masker(known | {json.dumps(one)[1:-1] for one in known})  # as they stand within JSON, too

    def mask(text: str) -> str:
        text = _BOT.sub(MASK, _LOGIN.sub(f"{MASK}@", blot(text)))
        return _NAMED.sub(lambda found: found[1] + MASK, _HEADER.sub(rf"\1\2{MASK}", text))

    return mask


def masked(found: Any, mask: Mask) -> Any:
    """Return plain values with every text in them masked, before JSON escapes anything."""
    if isinstance(found, str):
        return mask(found)
    if isinstance(found, dict):
        return {name: masked(value, mask) for name, value in found.items()}
    return [masked(value, mask) for value in found] if isinstance(found, list) else found


def secret_names(settings: Settings) -> tuple[str, ...]:
    """Return the names of all variables that may hold a secret under these settings."""
    return tuple(sorted(entitled.everything(settings)))


def flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Return every setting by its dotted name, in the order of config/settings.py."""
    found: dict[str, Any] = {}
    items = settings.items() if isinstance(settings, Mapping) else (
        (name, getattr(settings, name)) for name in settings.__struct_fields__
    )  # fmt: skip
    for name, value in items:
        if isinstance(value, msgspec.Struct) or (isinstance(value, Mapping) and value):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def shown(name: str, value: Any, *, redacted: bool) -> Any:
    """Return a setting as it may be shown: no login in an address; with `redacted`, nothing of whose account it is."""
    if redacted and name in PRIVATE and value:
        return MASK
    return _LOGIN.sub(f"{MASK}@", value) if isinstance(value, str) else value
