"""Where secrets may be sent: encrypted, or to this machine only. Pure; used when settings are read."""

from __future__ import annotations

from urllib.parse import urlsplit

from config.settings import Settings

HERE = ("127.0.0.1", "::1", "localhost")


def refusal(found: Settings) -> str:
    """Return why the broker's address is not allowed, or "". No setting turns the check of certificates off."""
    given = found.broker.base_url
    try:
        where = urlsplit(given)
        host, is_login = where.hostname or "", "@" in where.netloc
    except ValueError as error:
        return f"broker.base_url was {given!r}: {error}"
    if is_login:
        return "broker.base_url holds a login; allowed: an address alone, the password stands in the environment"
    if found.broker.is_live and where.scheme != "https" and host not in HERE:
        return (
            f"broker.base_url was {given!r}; allowed for a live account: https://..., or plain http to this machine "
            "only: the password would leave unencrypted"
        )
    return ""
