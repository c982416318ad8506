"""Logins and tokens of the paper broker: as the real one, 15 minutes, one account, lost at a restart.

Run by the paper broker through `routes` and `trader_routes`. Any password, and any bearer token, but the empty one is
right: there is nothing to protect here.
"""

from __future__ import annotations

import secrets
import uuid
from collections import OrderedDict

from msgspec import Struct

from bus.clock import Clock
from config import settings

TOKEN_S = 900.0
LOGINS_MAX = 256  # the oldest login gives way


class Login(Struct):
    """One login: its cookie, its trading token, and until when (monotonic) both are good."""

    cookie: str
    token: str
    expires_at: float


class Access:
    """Who may use the account."""

    def __init__(self, broker: settings.Broker, clock: Clock) -> None:
        self.account_id = broker.account_id
        self.broker_id = broker.broker_id
        self.email = broker.email
        # The same at every start, as a real system's is.
        self.system_uuid = str(uuid.uuid5(uuid.NAMESPACE_URL, f"paper:{broker.account_id}"))
        self.paths = broker.trader
        self._is_bearer_revoked = False
        self._clock = clock
        self._logins: OrderedDict[str, Login] = OrderedDict()

    def login(self, email: str, password: str, broker_id: str) -> Login | None:
        """Return a new login, or None when e-mail, password or broker id are wrong."""
        if (email, broker_id) != (self.email, self.broker_id) or not password:
            return None
        made = Login(secrets.token_hex(16), secrets.token_hex(16), self._clock.monotonic() + TOKEN_S)
        self._logins[made.cookie] = made
        while len(self._logins) > LOGINS_MAX:
            self._logins.popitem(last=False)
        return made

    def refresh(self, cookie: str) -> Login | None:
        """Return the login of a cookie with its time renewed, or None when it is not valid."""
        found = self._valid(cookie)
        if found is not None:
            found.expires_at = self._clock.monotonic() + TOKEN_S
        return found

    def allows(self, cookie: str, token: str) -> bool:
        """Return whether cookie and token belong together and are still good."""
        found = self._valid(cookie)
        return found is not None and secrets.compare_digest(found.token.encode(), token.encode())

    def allows_bearer(self, header: str) -> bool:
        """Return whether an Authorization header is good. A revoked token is refused once: nobody could renew it."""
        was_revoked, self._is_bearer_revoked = self._is_bearer_revoked, False
        kind, _, token = header.partition(" ")
        return kind == "Bearer" and bool(token.strip()) and not was_revoked

    def revoke(self) -> None:
        """Forget all logins, as a restart does."""
        self._logins.clear()
        self._is_bearer_revoked = True

    def _valid(self, cookie: str) -> Login | None:
        found = self._logins.get(cookie)
        return found if found is not None and found.expires_at > self._clock.monotonic() else None
