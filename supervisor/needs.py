"""What a profile needs of the place where it runs: secrets, ports, files.

Used by `supervisor export`. Knows the names of secrets, and of a value at most the port; asks no network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from msgspec import Struct

from config.load import ConfigError
from config.settings import LlmEndpoint, Settings

LOOPBACK = ("127.0.0.1", "::1", "localhost")
TELEGRAM = ("PILOT_TELEGRAM_TOKEN", "PILOT_TELEGRAM_CHAT")
HTTPS = 443
# What an address means that names no port. apprise has schemes with defaults of their own: those are the operator's.
PORTS = {"http": 80, "https": HTTPS, "json": 80, "jsons": HTTPS, "xml": 80, "xmls": HTTPS, "form": 80, "forms": HTTPS}


class Secrets(Struct, frozen=True, kw_only=True):
    """Names of secrets. Without a `required` one nothing starts; of the others, `used` are set where this was asked."""

    required: tuple[str, ...]
    used: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def granted(self) -> tuple[str, ...]:
        """What is handed to the processes."""
        return self.required + self.used

    def without(self, names: Iterable[str]) -> Secrets:
        """Return these except `names`, which others get."""
        left = set(names)
        return Secrets(
            required=tuple(name for name in self.required if name not in left),
            used=tuple(name for name in self.used if name not in left),
            unused=tuple(name for name in self.unused if name not in left),
        )


def secrets(settings: Settings, is_set: Callable[[str], bool]) -> Secrets:
    """Return the names of this profile's secrets. `is_set` says of one that may be left out whether it is there."""
    page, alerts = settings.dashboard, settings.alerts
    required = [settings.broker.secret_env] if settings.broker.is_live else []
    required += of_analysts(settings)
    if "twelvedata" in settings.scanner.sources:
        required.append(settings.scanner.twelvedata_key_env)
    if not is_loopback(page.host):
        required.append(page.token_env)
    others = [name for name in (page.token_env, *TELEGRAM, alerts.second_env, alerts.ping_env) if name not in required]
    return Secrets(
        required=tuple(dict.fromkeys(required)),
        used=tuple(name for name in others if is_set(name)),
        unused=tuple(name for name in others if not is_set(name)),
    )


def of_analysts(settings: Settings) -> tuple[str, ...]:
    """Return the names of the secrets that an analyst cannot do without. A model on the same machine needs none."""
    names = [
        spec.api_key_env for spec in endpoints(settings) if not is_loopback(urlsplit(spec.base_url).hostname or "")
    ]
    if settings.llm.analyst == "tradingagents":
        names += settings.llm.tradingagents_env
    return tuple(dict.fromkeys(names))


def endpoints(settings: Settings) -> tuple[LlmEndpoint, ...]:
    """Return the endpoints of language models that are asked."""
    llm = settings.llm
    if llm.analyst == "openai":
        return (llm,)
    if llm.analyst != "panel" or llm.roles is None:
        return ()
    return tuple(
        llm.endpoints[name] for name in sorted({getattr(llm.roles, role) for role in llm.roles.__struct_fields__})
    )


def is_loopback(host: str) -> bool:
    """Return whether this name means the machine itself."""
    return host in LOOPBACK


def ports_out(settings: Settings, value_of: Callable[[str], str]) -> tuple[int, ...]:
    """Return the ports that the pipeline asks on other machines, in order: https, and whatever the addresses say.

    `value_of` gives the value of a secret, or nothing: some are addresses, and only their ports leave this function.
    """
    alerts, scanner = settings.alerts, settings.scanner
    return ports_of(
        (
            settings.broker.base_url,
            *addresses_of(endpoints(settings)),
            alerts.telegram_url,
            *([scanner.twelvedata_url] if "twelvedata" in scanner.sources else []),
            *value_of(alerts.second_env).split(),
            *value_of(alerts.ping_env).split(),
        )
    )


def addresses_of(asked: Iterable[LlmEndpoint]) -> tuple[str, ...]:
    """Return the addresses of language models."""
    return tuple(one.base_url for one in asked)


def ports_of(addresses: Iterable[str]) -> tuple[int, ...]:
    """Return https and the ports of these addresses, but for those on the machine itself."""
    return tuple(sorted({HTTPS, *(port for one in addresses if (port := _port(one)))}))


def _port(address: str) -> int:
    """Return the port of an address on another machine; 0 when it names none and its scheme is none of http's."""
    try:
        parts = urlsplit(address)
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        return 0  # whoever uses the address refuses it
    return 0 if is_loopback(parts.hostname or "") else port


def check_inside_image(settings: Settings) -> None:
    """Refuse settings that name files of this machine: an image does not hold them.

    Raises:
        ConfigError: names the first such setting.
    """
    named = {
        "compliance.rules": settings.compliance.rules if settings.compliance.rules.endswith(".toml") else "",
        "scanner.csv_path": settings.scanner.csv_path,
        "scanner.parquet_path": settings.scanner.parquet_path,
        "paper.bars_path": settings.paper.bars_path,
        "llm.roles_folder": settings.llm.roles_folder,
        "llm.briefing_path": settings.llm.briefing_path,
        "llm.replay_path": settings.llm.replay_path,
        "llm.tradingagents_python": settings.llm.tradingagents_python,
    }
    for key, path in named.items():
        if path:
            raise ConfigError(
                f"{key} was {path!r}; a container has no such file. Allowed: what lies under config/ in the image "
                "(build one of your own), or `supervisor export systemd`"
            )
    for spec in endpoints(settings):
        if is_loopback(urlsplit(spec.base_url).hostname or ""):
            raise ConfigError(
                f"the language model's base_url was {spec.base_url!r}; inside a container that is the container "
                "itself. Allowed: an https address"
            )
