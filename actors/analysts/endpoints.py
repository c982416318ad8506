"""The endpoints that the settings name: addresses and keys checked, then built. The one place where they are made.

Used by the llm process and by `pilot doctor`. Never sends a key without encryption to another machine.
"""

from __future__ import annotations

import ipaddress
import random
from urllib.parse import SplitResult, urlsplit

from actors.analysts import chat
from actors.analysts.breaker import Breaker
from actors.analysts.chat import Completer
from actors.analysts.service import Service
from bus.clock import Clock
from config import load
from config.load import ConfigError
from config.settings import Llm, LlmEndpoint

CALLS_A_SLOT = 2  # at once: a panel asks two roles at the same time
ONLY = "llm"  # the name of the one endpoint of the analyst `openai`


def build(settings: Llm, clock: Clock) -> dict[str, Completer]:
    """Return the endpoints that the analyst asks, by name, not yet started.

    Raises:
        ConfigError: an address, model or key is missing or cannot be right.
    """
    return {name: service(name, spec, settings, clock) for name, spec in specs(settings).items()}


def specs(settings: Llm) -> dict[str, LlmEndpoint]:
    """Return the settings of every endpoint that the analyst asks, by name; none for an analyst that asks none."""
    if settings.analyst == "openai":
        return {ONLY: settings}
    if settings.analyst != "panel" or settings.roles is None:
        return {}
    names = sorted({getattr(settings.roles, role) for role in settings.roles.__struct_fields__})
    return {name: settings.endpoints[name] for name in names}


def section_of(name: str, settings: Llm) -> str:
    """Return where an endpoint's settings stand."""
    return "llm" if settings.analyst == "openai" else f"llm.endpoints.{name}"


def service(name: str, spec: LlmEndpoint, settings: Llm, clock: Clock, *, backoff_s: float = chat.BACKOFF_S) -> Service:
    """Return one endpoint with its breaker. Raises ConfigError as `build` does."""
    section = section_of(name, settings)
    where = _checked_url(section, spec)
    if not spec.model.strip() or spec.model == "set-me":
        raise ConfigError(f"{section}.model was {spec.model!r}; an endpoint needs the model's name")
    endpoint = chat.Endpoint(
        spec, section=section, key=_key(spec, where), clock=clock, rng=random.Random(), backoff_s=backoff_s
    )
    breaker = Breaker(
        f"{section} at {where.netloc}",
        clock,
        failures_max=settings.breaker_failures_max,
        wait_s=settings.breaker_wait_s,
        wait_s_max=settings.breaker_wait_s_max,
    )
    # By default a call that hangs holds up its own slot and no other.
    connections_max = spec.connections_max or CALLS_A_SLOT * settings.slots
    return Service(endpoint, breaker, host=where.netloc, clock=clock, connections_max=connections_max)


def is_here(spec: LlmEndpoint) -> bool:
    """Return whether the endpoint is on this machine, where it may do without a key."""
    try:
        return _is_loopback(urlsplit(spec.base_url).hostname or "")
    except ValueError:
        return False


def _checked_url(section: str, spec: LlmEndpoint) -> SplitResult:
    """Return the parts of the address. Raises ConfigError for anything that is no plain http(s) address."""
    key, given = f"{section}.base_url", spec.base_url
    try:
        where = urlsplit(given)
        port_is_fine = where.port is None or where.port > 0
    except ValueError as error:
        raise ConfigError(f"{key} was {given!r}: {error}") from error
    if where.username or where.password:
        raise ConfigError(f"{key} holds a user name or password; put the key into {spec.api_key_env}")
    if where.scheme not in ("http", "https") or not where.hostname or not port_is_fine or where.query or where.fragment:
        raise ConfigError(f"{key} was {given!r}; allowed: http(s)://HOST[:PORT]/PATH, such as https://HOST/v1")
    if where.scheme == "http" and not _is_loopback(where.hostname):
        raise ConfigError(f"{key} was {given!r}; http is allowed only for this machine: use https")
    return where


def _key(spec: LlmEndpoint, where: SplitResult) -> str | None:
    """Return the key; None only for an endpoint on this machine that has none. Raises ConfigError."""
    load.env_file()  # a .env that others can read is an error even when the key could be done without
    try:
        key = load.secret(spec.api_key_env).strip()
    except ConfigError:
        if _is_loopback(where.hostname or ""):
            return None
        raise
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"secret {spec.api_key_env} holds characters that no HTTP header may carry")
    return key


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
