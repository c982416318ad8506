"""Who may do what on the page: the token, signed sessions, one-time forms, the names it may be asked for under.

Library of the dashboard. The token is compared in constant time and never leaves this file: cookies and forms are
signed with a key derived from it. Without a token nobody can act.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict, deque

import msgspec
from itsdangerous import BadData, URLSafeTimedSerializer
from msgspec import Struct
from starlette.requests import HTTPConnection

from bus.clock import Clock
from config import load
from config.load import ConfigError
from config.settings import Dashboard

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN_CHARS_MIN = 16
OPERATOR_CHARS_MAX = 40
WRONG_MAX = 5  # wrong tokens from one address within
WRONG_WINDOW_S = 60.0
ADDRESSES_MAX = 256
USED_FORMS_MAX = 1_000


class Session(Struct, frozen=True, kw_only=True):
    """An operator who has shown the token. `id` tells two sessions of one name apart."""

    id: str
    operator: str


class Form(Struct, frozen=True, kw_only=True):
    """What one form is good for: one action on one thing, once, by one session."""

    id: str
    session: str
    action: str
    about: str


class TooManyWrong(Exception):
    """So many wrong tokens came from one address that it has to wait."""


class Door:
    """Knows the token, if there is one, and everybody who came in with it."""

    def __init__(self, settings: Dashboard, token: str, clock: Clock) -> None:
        self._settings = settings
        self._token = _digest(token) if token else b""
        key = hmac.new(token.encode(), b"prop-firm-pilot dashboard", hashlib.sha256).digest()
        self._sessions = URLSafeTimedSerializer(key, salt="session")
        self._forms = URLSafeTimedSerializer(key, salt="form")
        self._clock = clock
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()
        self._used: OrderedDict[str, None] = OrderedDict()
        names = {settings.host, *settings.hosts} | (set(LOOPBACK) if is_loopback(settings.host) else set())
        self._hosts = frozenset(names)

    @property
    def has_token(self) -> bool:
        return bool(self._token)

    @property
    def guards_reading(self) -> bool:
        """Whether the token is needed for looking, too: whenever others than this machine can ask."""
        return not is_loopback(self._settings.host)

    @property
    def cookie(self) -> str:
        """Return the cookie's name; cookies of one host are shared by its ports."""
        return f"pilot_{self._settings.port}"

    # ── hosts and origins ───────────────────────────────────────────────────

    def knows_host(self, header: str) -> bool:
        """Return whether the page may be asked for under this Host. Any other one may be a rebound name."""
        return host_of(header) in self._hosts

    def is_ours(self, connection: HTTPConnection) -> bool:
        """Return whether a form was sent by a page of ours: same origin, by the browser's own word.

        Our pages send no referrer, and then a browser says `Origin: null`; it still says where the form came from.
        """
        origin, site = connection.headers.get("origin", ""), connection.headers.get("sec-fetch-site", "")
        if site and site != "same-origin":
            return False
        if origin in ("", "null"):
            return site == "same-origin"
        scheme, _, rest = origin.partition("://")
        return scheme in ("http", "https") and rest == connection.headers.get("host", "")

    # ── sessions ────────────────────────────────────────────────────────────

    def enter(self, operator: str, token: str, address: str) -> str | None:
        """Return the cookie of a new session, or None for a wrong token.

        Raises:
            TooManyWrong: this address has given too many wrong ones; it is not even looked at.
        """
        if not self.is_right(token, address):
            return None
        return self._sessions.dumps([secrets.token_hex(8), operator])

    def is_right(self, token: str, address: str) -> bool:
        """Return whether this is the token. Wrong ones are counted by address. Raises TooManyWrong."""
        now_s = self._clock.monotonic()
        wrong = self._wrong.setdefault(address, deque(maxlen=WRONG_MAX))
        while len(self._wrong) > ADDRESSES_MAX:
            self._wrong.popitem(last=False)
        while wrong and now_s - wrong[0] > WRONG_WINDOW_S:
            wrong.popleft()
        if len(wrong) >= WRONG_MAX:
            raise TooManyWrong
        if self.has_token and hmac.compare_digest(_digest(token), self._token):
            return True
        wrong.append(now_s)
        return False

    def session(self, connection: HTTPConnection) -> Session | None:
        """Return the session of a request's cookie; None for none, a forged or an old one."""
        if not self.has_token:
            return None
        try:
            found = self._sessions.loads(connection.cookies.get(self.cookie, ""), max_age=int(self._settings.session_s))
            session_id, operator = msgspec.convert(found, tuple[str, str])
        except (BadData, msgspec.ValidationError):
            return None
        return Session(id=session_id, operator=operator)

    # ── forms ───────────────────────────────────────────────────────────────

    def form(self, session: Session, action: str, about: str = "") -> str:
        """Return the token of a form that does one action on one thing, once."""
        form = Form(id=secrets.token_hex(8), session=session.id, action=action, about=about)
        return str(self._forms.dumps(msgspec.to_builtins(form)))

    def refusal_of(self, given: str, session: Session, action: str, about: str) -> str:
        """Return why a form's token does not count, else an empty text: then it is used up."""
        try:
            form = msgspec.convert(self._forms.loads(given, max_age=int(self._settings.form_s)), Form)
        except (BadData, msgspec.ValidationError):
            return "This form is too old, or none of ours."
        if (form.session, form.action, form.about) != (session.id, action, about):
            return "This form was made for something else."
        if form.id in self._used:
            return "This form was sent already; it does nothing twice."
        self._used[form.id] = None
        while len(self._used) > USED_FORMS_MAX:
            self._used.popitem(last=False)
        return ""


def token_of(settings: Dashboard) -> str:
    """Return the operator's token, empty when there is none.

    Raises:
        ConfigError: it is too short, or the host is not loopback and there is none or no name to ask for.
    """
    try:
        token = load.secret(settings.token_env).strip()
    except ConfigError:
        token = ""
    if token and len(token) < TOKEN_CHARS_MIN:
        raise ConfigError(
            f"{settings.token_env} has {len(token)} characters; allowed: {TOKEN_CHARS_MIN} or more "
            '(python -c "import secrets; print(secrets.token_urlsafe(24))" makes one)'
        )
    if is_loopback(settings.host):
        return token
    if not token:
        raise ConfigError(
            f"dashboard.host was {settings.host!r}; without a token in {settings.token_env} only {', '.join(LOOPBACK)} "
            "are allowed: anybody who reaches that address could look at the account"
        )
    if settings.host in ("0.0.0.0", "::") and not settings.hosts:  # noqa: S104 - refused
        raise ConfigError(f"dashboard.hosts is empty; host {settings.host} needs the names that browsers will ask for")
    return token


def is_loopback(host: str) -> bool:
    return host in LOOPBACK


def host_of(header: str) -> str:
    """Return the name in a Host header, without its port; IPv6 without brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


def _digest(token: str) -> bytes:
    # Of one length, so that comparing says nothing about the token's.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
