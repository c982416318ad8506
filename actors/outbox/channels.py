"""Where people are told: the bot and its chat, the second channel, the address of the dead-man ping.

Used by the alerts process and by `pilot doctor`. Everything here is a secret and is read from the environment; what is
wrong is said by the name of its variable, never by its value.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from msgspec import Struct

from config import load
from config.load import ConfigError
from config.settings import Alerts

TOKEN, CHAT = "PILOT_TELEGRAM_TOKEN", "PILOT_TELEGRAM_CHAT"
TOKEN_SHAPE = re.compile(r"[0-9]{3,20}:[A-Za-z0-9_-]{20,100}")
CHAT_SHAPE = re.compile(r"-?[0-9]{1,20}|@[A-Za-z][A-Za-z0-9_]{3,31}")
ADDRESS_SHAPE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://\S{1,2000}")
ADDRESSES_MAX = 10
HERE = ("127.0.0.1", "::1", "localhost")


class Bot(Struct, frozen=True):
    """A Telegram bot and the one chat that it talks to."""

    url: str
    token: str
    chat: str

    @property
    def is_group(self) -> bool:
        """Whether Telegram limits it as a group or channel."""
        return self.chat.startswith(("-", "@"))


class Channels(Struct, frozen=True, kw_only=True):
    """What is set up. Each part that is not is None or empty."""

    bot: Bot | None = None
    second: tuple[str, ...] = ()
    ping: str = ""

    @property
    def tells(self) -> bool:
        """Whether anybody can be told."""
        return self.bot is not None or bool(self.second)

    @property
    def secrets(self) -> frozenset[str]:
        """What must never be written down."""
        bot = () if self.bot is None else (self.bot.token, self.bot.token.partition(":")[2])
        return frozenset(filter(None, (*bot, *self.second, self.ping)))


def read(alerts: Alerts) -> Channels:
    """Return the channels of the environment and `.env`.

    Raises:
        ConfigError: half of the two for Telegram, something that cannot be what it should be, or a token that would
            leave unencrypted.
    """
    return Channels(
        bot=_bot(alerts), second=second(alerts.second_env), ping=ping(alerts.ping_env)
    )  # fmt: skip


def _bot(alerts: Alerts) -> Bot | None:
    token, chat = load.optional_secret(TOKEN), load.optional_secret(CHAT)
    if not token and not chat:
        return None
    for name, value, other in ((TOKEN, token, CHAT), (CHAT, chat, TOKEN)):
        if not value:
            raise ConfigError(f"{other} is set and {name} is not: set {name}, or take {other} out")
    if not TOKEN_SHAPE.fullmatch(token):
        raise ConfigError(f"{TOKEN} is no bot's token, such as 123456:ABC...: take the one that @BotFather gave you")
    if not CHAT_SHAPE.fullmatch(chat):
        raise ConfigError(f"{CHAT} is no chat's id, such as 123456789 or -1001234567890")
    if is_open(alerts.telegram_url):
        raise ConfigError(f"alerts.telegram_url was {alerts.telegram_url!r}: the token would leave unencrypted")
    return Bot(alerts.telegram_url, token, chat)


def is_open(url: str) -> bool:
    """Return whether what is sent there leaves the machine unencrypted."""
    where = urlsplit(url)
    return where.scheme != "https" and where.hostname not in HERE


def second(name: str) -> tuple[str, ...]:
    """Return the addresses of the second channel, as apprise writes them, separated by blanks or line feeds.

    Raises:
        ConfigError: one is no address, or there are too many.
    """
    found = tuple(load.optional_secret(name).split())
    for place, address in enumerate(found, start=1):
        if not ADDRESS_SHAPE.fullmatch(address):
            raise ConfigError(f"{name}: address {place} of {len(found)} is none, such as mailto://...")
    if len(found) > ADDRESSES_MAX:
        raise ConfigError(f"{name}: {len(found)} addresses; allowed {ADDRESSES_MAX}")
    return found


def ping(name: str) -> str:
    """Return the address of the dead-man ping, or nothing. Raises ConfigError when it is no https address."""
    found = load.optional_secret(name).strip()
    if not found:
        return ""
    try:
        where = urlsplit(found)
        is_address = where.scheme in ("http", "https") and bool(where.hostname) and not re.search(r"\s", found)
    except ValueError:
        is_address = False
    if not is_address:
        raise ConfigError(f"{name} is no address, such as https://hc-ping.com/...")
    if is_open(found):
        raise ConfigError(f"{name}: the address itself is the secret, and would leave unencrypted: use https://")
    return found
