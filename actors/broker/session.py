"""Who we are at the broker: login, tokens, and the one account that the settings name.

Used by `broker.client`. Never logs a token, never picks "the only account": a broker may list another one tomorrow.
"""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec
from loguru import logger

from actors.broker import raw, transport
from actors.broker.errors import Unauthorised
from actors.broker.transport import Transport
from bus.clock import Clock
from config import settings

TOKEN_S = 900.0  # lifetime of a token. Source: Match-Trader's documentation
RENEW_S = 60.0  # a token with less than this left is renewed before the next request
REFUSED_PAUSE_S = 60.0  # wrong passwords in a row lock accounts
HOUR_S = 3_600.0
RENEWALS_PER_HOUR_MAX = 12  # after a 401. Logins at a token's end come on top, 4.3 an hour, and are never put off


class Session:
    """The login of one account, renewed by a new login when a request needs it."""

    def __init__(self, broker: settings.Broker, password: str, line: Transport, clock: Clock) -> None:
        self._broker = broker
        self._password = password
        self._line = line
        self._clock = clock
        self._renewing = asyncio.Lock()
        self._headers: dict[str, str] = {}
        self._prefix = ""
        self._expires_at = 0.0  # monotonic
        self._refused_until = 0.0  # monotonic
        self._refusal = ""
        self._renewed_at: deque[float] = deque(maxlen=RENEWALS_PER_HOUR_MAX)  # monotonic

    @property
    def headers(self) -> dict[str, str]:
        """The headers of an authorised request. Secrets: never log them."""
        return self._headers

    @property
    def prefix(self) -> str:
        """The path that all trading calls begin with; it holds the system's uuid."""
        return self._prefix

    def left_s(self) -> float:
        """Return how long the token is still valid, in seconds; 0 or less: log in first."""
        return self._expires_at - self._clock.monotonic()

    async def ensure(self) -> None:
        """Log in unless the token is good for another while. Raises as `login` does."""
        if self.left_s() < RENEW_S:
            await self.login(self._expires_at)

    async def login(self, seen_expiry: float | None = None) -> None:
        """Log in and pin the account. With `seen_expiry`, only if nobody renewed the token that expires then.

        Raises:
            Unauthorised: e-mail or password refused, or the account is not among this login's.
            Transient, Blocked, Refused: as any read.
        """
        async with self._renewing:
            if seen_expiry is not None and seen_expiry != self._expires_at:
                return
            if self._clock.monotonic() < self._refused_until:
                raise Unauthorised(f"{self._refusal}; not tried again within {REFUSED_PAUSE_S:.0f} s")
            try:
                await self._login()
            except Unauthorised as error:
                self._refused_until = self._clock.monotonic() + REFUSED_PAUSE_S
                self._refusal = str(error)
                raise

    async def renew(self, seen_expiry: float) -> None:
        """Log in because the broker refused the token that ends at `seen_expiry`, unless somebody has already.

        Bounded, so that a broker that refuses every token is not asked for a new one with every read; the old token
        stays in use then, and a login at its end is not put off.

        Raises:
            Unauthorised: too many tokens were refused within the hour, or as `login` does.
            Transient, Blocked, Refused: as any read.
        """
        now = self._clock.monotonic()
        if seen_expiry == self._expires_at:
            if len(self._renewed_at) == RENEWALS_PER_HOUR_MAX and now - self._renewed_at[0] < HOUR_S:
                raise Unauthorised(
                    f"the broker refused {RENEWALS_PER_HOUR_MAX} valid tokens within an hour (401); no new login for "
                    f"another {HOUR_S - now + self._renewed_at[0]:.0f} s, or until the token ends"
                )
            self._renewed_at.append(now)
        await self.login(seen_expiry)

    @property
    def expires_at(self) -> float:
        """When the token ends, on the monotonic clock. Identifies the token."""
        return self._expires_at

    async def _login(self) -> None:
        began = self._clock.monotonic()
        body = {"email": self._broker.email, "password": self._password, "brokerId": self._broker.broker_id}
        self._line.forget_cookies()
        path = self._broker.login_path
        try:
            answer = await self._line.read("POST", path, body=msgspec.json.encode(body))
        except Unauthorised as error:
            raise Unauthorised(
                f"login as {self._broker.email} was refused (401); check broker.email, broker.broker_id and the "
                f"password in {self._broker.password_env}"
            ) from error
        said = transport.decode(answer, raw.Login, f"POST {path}")
        account = self._pinned(said)
        cookies = {"co-auth": said.token} | self._line.cookies()
        self._headers = {
            "Auth-trading-api": account.trading_api_token,
            "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
        }
        self._prefix = f"/mtr-api/{account.offer.system.uuid}"
        # Counted from before the request: the token is never older than we think.
        self._expires_at = began + TOKEN_S
        logger.debug("Logged in to account {}", self._broker.account_id)

    def _pinned(self, said: raw.Login) -> raw.Account:
        accounts = said.accounts or said.trading_accounts
        for account in accounts:
            if str(account.trading_account_id) == self._broker.account_id:
                return account
        known = ", ".join(str(account.trading_account_id) for account in accounts) or "none"
        raise Unauthorised(
            f"broker.account_id {self._broker.account_id!r} is not among the accounts of this login: {known}"
        )
