"""Who we are at the broker: login, tokens, and the one account that the settings name.

Used by `broker.client`. Never logs a token, never picks "the only account": a broker may list another one tomorrow. A
token near its end is refreshed, at most so often an hour as brokers are said to allow; where that fails, or does not
keep the account's own token alive, a new login does it.
"""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec
from loguru import logger

from actors.broker import raw, transport
from actors.broker.errors import Blocked, BudgetSpent, Refused, Transient, Unauthorised, Unreadable
from actors.broker.transport import Transport
from bus.clock import Clock
from config import load, settings

TOKEN_S = 900.0  # lifetime of a token. Source: Match-Trader's documentation
RENEW_S = 60.0  # a token with less than this left is renewed before the next request
LAST_S = 15.0  # and one that may not be refreshed any more: a login is put off until this little is left
REFUSED_PAUSE_S = 60.0  # wrong passwords in a row lock accounts
HOUR_S = 3_600.0
RENEWALS_PER_HOUR_MAX = 12  # after a 401. Logins at a token's end come on top, 4.3 an hour, and are never put off


PROOF_S = 10.0  # how long past its end a token must work to have been kept alive: clocks, and the way there and back
REFRESH_PATH = "/manager/refresh-token"
TOKEN_COOKIE = "co-auth"  # noqa: S105  # its name, not its value


class Session:
    """The login of one account, renewed when a request needs it."""

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
        self._cookies: dict[str, str] = {}
        self._refreshes_max = broker.refreshes_per_hour_max
        self._refreshed_at: deque[float] = deque(maxlen=self._refreshes_max)  # monotonic
        line.hide(password)
        # Whether a refresh keeps the account's own token alive is not documented. Until a read has shown it, that one
        # ends when the login's does.
        self._is_proven = False
        self._certain_until = 0.0  # monotonic

    @property
    def headers(self) -> dict[str, str]:
        """The headers of an authorised request. Secrets: never log them."""
        return self._headers

    @property
    def prefix(self) -> str:
        """The path that all trading calls begin with; it holds the system's uuid."""
        return self._prefix

    def left_s(self) -> float:
        """Return how long the token is valid as far as is certain, in seconds; 0 or less: read the account first."""
        return min(self._expires_at, self._certain_until) - self._clock.monotonic()

    def worked(self) -> None:
        """Note that the broker took the token just now: past the login's end that proves what a refresh does."""
        if self._is_in_doubt and self._clock.monotonic() >= self._certain_until + PROOF_S:
            self._is_proven = True
            self._certain_until = self._expires_at

    @property
    def _is_in_doubt(self) -> bool:
        return self._certain_until < self._expires_at

    async def ensure(self) -> None:
        """Have a token that is good for another while: refreshed, or from a new login. Raises as `login` does."""
        seen_expiry = self._expires_at
        now = self._clock.monotonic()
        if self._is_in_doubt and -LAST_S < now - self._certain_until < PROOF_S:
            # Neither would a read prove anything now, nor may an order rest on it.
            await self.login(seen_expiry)
            return
        left_s = seen_expiry - now
        if left_s >= RENEW_S or (left_s >= LAST_S and self._refreshes_max and not self._may_refresh()):
            return
        if left_s <= 0 or not self._may_refresh() or not await self._refresh(seen_expiry):
            await self.login(seen_expiry)

    def _may_refresh(self) -> bool:
        if not self._refreshes_max:
            return False
        is_full = len(self._refreshed_at) == self._refreshes_max
        return not is_full or self._clock.monotonic() - self._refreshed_at[0] >= HOUR_S

    async def _refresh(self, seen_expiry: float) -> bool:
        """Ask for more time for this token; return whether it has some, by whoever asked. Every try counts.

        Raises:
            BudgetSpent: no request is left to us.
        """
        async with self._renewing:
            if seen_expiry != self._expires_at:
                return True
            began = self._clock.monotonic()
            self._refreshed_at.append(began)
            before, headers = self._line.cookies(), {"Cookie": self._headers["Cookie"]}
            try:
                answer = await self._line.read("POST", REFRESH_PATH, headers=headers)
                said = transport.decode(answer, raw.Refreshed, REFRESH_PATH) if answer.body.strip() else raw.Refreshed()
                listed = said.accounts or said.trading_accounts
                trading_token = self._pinned(listed).trading_api_token if listed else self._headers["Auth-trading-api"]
                _check(*filter(None, (said.token, trading_token)), where=REFRESH_PATH)
            except BudgetSpent:
                raise
            except (Unauthorised, Refused, Blocked, Unreadable, Transient) as error:
                logger.warning("The token was not refreshed, logging in anew: {}", error)
                return False
            fresh = {name: value for name, value in self._line.cookies().items() if before.get(name) != value}
            token = {TOKEN_COOKIE: said.token} if said.token else {}
            self._take(trading_token, self._cookies | token | fresh)
            self._expires_at = began + TOKEN_S
            if listed or self._is_proven:
                self._certain_until = self._expires_at
            logger.debug("Refreshed the token of account {}", self._broker.account_id)
            return True

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
            if self._is_in_doubt and now >= self._certain_until:
                logger.warning("A refresh does not keep this broker's tokens alive; logging in instead from now on")
                self._refreshes_max = 0
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
        account = self._pinned(said.accounts or said.trading_accounts)
        _check(said.token, account.trading_api_token, where=f"POST {path}")
        self._take(account.trading_api_token, {TOKEN_COOKIE: said.token} | self._line.cookies())
        self._prefix = f"/mtr-api/{account.offer.system.uuid}"
        # Counted from before the request: the token is never older than we think.
        self._expires_at = self._certain_until = began + TOKEN_S
        logger.debug("Logged in to account {}", self._broker.account_id)

    def _take(self, trading_token: str, cookies: dict[str, str]) -> None:
        self._cookies = cookies
        # Other cookies are mostly no secrets, and a short one would blot out every figure of what the broker says.
        others = (value for name, value in cookies.items() if name != TOKEN_COOKIE)
        long = (value for value in others if len(value) >= load.SECRET_CHARS_MIN)
        self._line.hide(self._password, trading_token, cookies[TOKEN_COOKIE], *long)
        self._headers = {
            "Auth-trading-api": trading_token,
            "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
        }

    def _pinned(self, accounts: tuple[raw.Account, ...]) -> raw.Account:
        for account in accounts:
            if str(account.trading_account_id) == self._broker.account_id:
                return account
        known = ", ".join(str(account.trading_account_id) for account in accounts) or "none"
        raise Unauthorised(
            f"broker.account_id {self._broker.account_id!r} is not among the accounts of this login: {known}"
        )


def _check(*tokens: str, where: str) -> None:
    """Raise Unreadable when one of them cannot stand in a header: every later request would fail with it."""
    if not all(raw.HEADER_VALUE.fullmatch(token) for token in tokens):
        raise Unreadable(f"{where}: a token that is no printable ASCII")
