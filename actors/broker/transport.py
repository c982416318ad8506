"""One HTTP exchange with the broker, paid for, limited in size and time, its failures sorted into our errors.

Used by `broker.session` and `broker.client`. Never repeats a request, never follows a redirect, never reads proxy
settings from the environment: the way to the account is the one in the settings.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import anyio.lowlevel
import httpx
import msgspec
from loguru import logger
from msgspec import Struct

from actors.broker import raw
from actors.broker.errors import (
    Blocked,
    BudgetSpent,
    NotSent,
    Refused,
    Transient,
    Unauthorised,
    UnknownOutcome,
    Unreadable,
)
from bus import failpoints, masking, tallies
from config import load, settings

BODY_BYTES_MAX = 4_194_304  # as sent, and again once unpacked
QUOTED_CHARS = 80
RETRY_AFTER_S_MAX = 3_600.0
REHEARSALS = 12  # Python makes its short cuts for what has run eight times
REHEARSED = [(b"Content-Type", b"application/json"), (b"Content-Length", b"2"), (b"Set-Cookie", b"a=b; Path=/")]

T = TypeVar("T")


def warm_up(broker: settings.Broker) -> None:
    """Load what the first request would load, without making one. Not inside a running loop."""

    async def rehearse() -> None:
        import httpcore  # as httpx does: when it is used

        async with httpx.AsyncClient(verify=_tls(broker.base_url), follow_redirects=False, trust_env=False):
            await anyio.lowlevel.checkpoint()  # httpx connects through anyio, which loads its asyncio half when used
        # Below it, one exchange with bytes in memory; above it, one with an answer that is made here.
        said = [b"HTTP/1.1 200 OK\r\n", *(b"%s: %s\r\n" % field for field in REHEARSED), b"\r\n{}"]
        for _ in range(REHEARSALS):
            async with httpcore.AsyncConnectionPool(network_backend=httpcore.AsyncMockBackend(list(said))) as pool:
                await pool.request("POST", "http://in-memory/", content=b"{}")
        answer = httpx.Response(200, headers=REHEARSED, content=b"{}")
        async with httpx.AsyncClient(
            transport=httpx.MockTransport(lambda _: answer), follow_redirects=False, trust_env=False
        ) as client:
            for _ in range(REHEARSALS):
                async with client.stream(
                    "POST", "http://in-memory/", headers={"Cookie": "a=b"}, content=b"{}"
                ) as response:
                    await response.aread()

    _version()
    asyncio.run(rehearse())


@functools.cache
def _tls(base_url: str) -> ssl.SSLContext:
    """Return what checks the broker's certificate. Made once: certificates of all authorities are read for it."""
    if base_url.startswith("https:"):
        return httpx.create_ssl_context(trust_env=False)
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody: without TLS it is never asked


@functools.cache
def _version() -> str:
    """Return our version as it is installed. importlib.metadata would tell it, too, after loading for 20 ms."""
    found = (path.name for place in sys.path for path in Path(place).glob("prop_firm_pilot-*.dist-info"))
    return next(found, "-unknown.").removesuffix(".dist-info").partition("-")[2]


class Budget(Protocol):
    """What requests are paid from, each before it leaves: logins and those that fail, too. See `desk.allowance`.

    All raise BudgetSpent when there is nothing to pay with; then nothing may leave.
    """

    async def pay_read(self) -> None:
        """Pay for a request that changes nothing. May wait for more to be granted."""

    async def pay_write(self) -> None:
        """Pay for a change or a close of a position. May wait for more to be granted."""

    def pay_order(self) -> None:
        """Pay for an order from what is held now: an order waits for nothing."""


class Answer(Struct, frozen=True):
    """What came back. `body` is at most `BODY_BYTES_MAX` long, else the exchange failed."""

    status: int
    content_type: str
    retry_after: str
    date: str
    body: bytes
    hidden: tuple[str, ...] = ()  # forms of our secrets: a broker may send back what it was sent

    @property
    def is_html(self) -> bool:
        return "html" in self.content_type.lower() or self.body.lstrip()[:1] == b"<"

    def quoted(self) -> str:
        """Return the beginning of the body for an error message, on one line."""
        # Masked before it is cut: half a secret would pass.
        text = " ".join(self.masked(self.body.decode("utf-8", "replace"))[: 4 * QUOTED_CHARS].split())[:QUOTED_CHARS]
        return repr(text) if text else "an empty body"

    def masked(self, text: str) -> str:
        """Return text of this answer without our secrets."""
        return masking.over(text, self.hidden)


Judge = Callable[[Answer, str], None]


class TooLarge(httpx.TransportError):
    """The body was longer than we read."""


class Unbuilt(httpx.TransportError):
    """The request has text that no header can carry. Nothing was sent: it was never made."""


NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, Unbuilt)


class Transport:
    """The connection to one broker. Reads share connections, a write always opens its own.

    Under `PILOT_READONLY=1`, as it stood when this was made, nothing is ever written: whoever asks gets NotSent.
    Making one raises config.load.ConfigError when that variable is neither 0 nor 1.
    """

    def __init__(self, broker: settings.Broker, budget: Budget) -> None:
        self._budget = budget
        self._is_read_only = load.is_read_only()
        if self._is_read_only:
            logger.warning("{} is set: no order, no change and no close leaves for the broker", load.READ_ONLY)
        self.dated = ""  # the Date header of the newest answer to a read; "" when it had none
        self._base_url = broker.base_url.rstrip("/")
        self._timeout = httpx.Timeout(broker.request_timeout_s, connect=broker.connect_timeout_s)
        # The timeouts above are per step; a broker that sends one byte a second must not hold us for ever.
        self._deadline_s = 2 * broker.connect_timeout_s + 2 * broker.request_timeout_s
        self._verify = _tls(broker.base_url)
        self._hidden: tuple[str, ...] = ()
        self._reads = self._client()

    def hide(self, *secrets: str) -> None:
        """Never show these in an error, in whatever form they come back. Replaces those of before."""
        self._hidden = masking.forms(secrets)

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._base_url,
            timeout=self._timeout,
            verify=self._verify,
            follow_redirects=False,
            trust_env=False,
            headers={
                "User-Agent": f"prop-firm-pilot/{_version()}",
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
            },
        )

    async def close(self) -> None:
        """Close the shared connections."""
        await self._reads.aclose()

    def forget_cookies(self) -> None:
        """Drop all cookies: a new login starts clean."""
        self._reads.cookies.clear()

    def cookies(self) -> dict[str, str]:
        """Return the cookies the broker set, but those that no header can carry. Secrets: never log them."""
        found = {cookie.name: cookie.value or "" for cookie in self._reads.cookies.jar}
        return {name: value for name, value in found.items() if raw.HEADER_VALUE.fullmatch(f"{name}={value}")}

    async def read(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        judge: Judge | None = None,
    ) -> Answer:
        """Return a 2xx answer to a request that changes nothing. `judge` sorts others as its API has it, or passes.

        Raises:
            Transient: no connection, no answer in time, 408, 429 or 5xx; BudgetSpent: nothing was asked.
            Unauthorised: 401.
            Blocked: 403 with a page.
            Refused: any other answer.
        """
        await self._budget.pay_read()
        failpoints.reach("broker.before_read")  # one HTTP request that changes nothing (executor and monitor)
        try:
            answer = await self._exchange(self._reads, method, path, headers, body)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, TimeoutError) as error:
            raise Transient(f"{method} {path}: {self._named(error)}") from None
        failpoints.reach("broker.after_read")
        self.dated = answer.date
        if judge is not None:
            judge(answer, f"{method} {path}")
        return _checked_read(answer, f"{method} {path}")

    async def write(
        self, path: str, body: bytes, *, headers: dict[str, str], is_order: bool = False, may_say_nothing: bool = False
    ) -> raw.Written:
        """POST once, on a connection of its own, and return the broker's OK. An order waits for no grant.

        With `may_say_nothing`, a 2xx without a body returns a `Written` without a status: the caller has to look.
        Only three answers are certain: status OK, status REJECTED, and 400 in JSON. All others, 401, 403 and 429
        among them, may come from a proxy that had passed the order on, and nothing in the broker's documents says
        otherwise; taking them for "not done" would gain one minute and risk an order nobody knows of.

        Raises:
            NotSent: PILOT_READONLY is set, no connection was made, or no request is left to us.
            Refused: the broker said no.
            UnknownOutcome: everything else; also when this call is cancelled, the order may exist.
        """
        answer = await self.change("POST", path, body, headers=headers, is_order=is_order)
        if may_say_nothing and 200 <= answer.status < 300 and not answer.body.strip():
            return raw.Written()
        return _checked_write(answer, f"POST {path}")

    async def change(
        self, method: str, path: str, body: bytes | None, *, headers: dict[str, str], is_order: bool = False
    ) -> Answer:
        """Send a request that changes something once, on a connection of its own; return whatever was answered.

        Raises:
            NotSent: PILOT_READONLY is set, no connection was made, or no request is left to us.
            UnknownOutcome: no answer came; also when this call is cancelled, it may have been carried out.
        """
        where = f"{method} {path}"
        if self._is_read_only:  # before anything is paid: no later line may leave
            raise NotSent(f"{where}: {load.READ_ONLY} is set; unset it and start this process again to trade")
        async with self._client() as fresh:
            await self._pay(where, is_order=is_order)
            failpoints.reach("broker.before_write")  # one POST: an order, an edit or a close (executor, monitor)
            try:
                answer = await self._exchange(fresh, method, path, headers, body)
            except NOTHING_SENT as error:
                raise NotSent(f"{where}: {self._named(error)}") from None
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, TimeoutError) as error:
                raise UnknownOutcome(f"{where}: {self._named(error)}") from None
        failpoints.reach("broker.after_write")
        return answer

    async def _pay(self, where: str, *, is_order: bool) -> None:
        try:
            if is_order:
                self._budget.pay_order()
            else:
                await self._budget.pay_write()
        except BudgetSpent as error:
            raise NotSent(f"{where}: {error}") from error

    async def _exchange(
        self, client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str] | None, body: bytes | None
    ) -> Answer:
        sent = dict(headers or {})
        if body is not None:
            sent["Content-Type"] = "application/json"
        kind, outcome, began_s = ("read" if client is self._reads else "write"), "none", tallies.began_s()
        try:
            request = _built(client, method, path, sent, body)
            async with (
                asyncio.timeout(self._deadline_s),
                contextlib.aclosing(await client.send(request, stream=True)) as response,
            ):
                received = bytearray()
                async for chunk in response.aiter_raw():
                    received += chunk
                    if len(received) > BODY_BYTES_MAX:
                        raise TooLarge(f"more than {BODY_BYTES_MAX} bytes")
                outcome = "ok" if response.is_success else "refused"
                return Answer(
                    response.status_code,
                    response.headers.get("content-type", ""),
                    response.headers.get("retry-after", ""),
                    response.headers.get("date", ""),
                    _unpacked(bytes(received), response.headers.get("content-encoding", "")),
                    self._hidden,
                )
        finally:
            tallies.since(tallies.Name(f"broker_{kind}_{outcome}"), began_s)

    def _named(self, error: Exception) -> str:
        """Return what went wrong; httpx often leaves the text empty, and may quote a header."""
        said = masking.over(str(error), self._hidden)
        return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _built(
    client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str], body: bytes | None
) -> httpx.Request:
    try:
        return client.build_request(method, path, headers=headers, content=body)
    except UnicodeError as error:  # its text quotes what may be a secret
        raise Unbuilt("a header is not ASCII") from error


def decode(answer: Answer, kind: type[T], where: str) -> T:
    """Return a read's body as `kind`. Raises Unreadable naming the field, or quoting what is no JSON."""
    try:
        return msgspec.json.decode(answer.body, type=kind, strict=False)
    except msgspec.ValidationError as error:
        raise Unreadable(f"{where}: {answer.masked(str(error))}; the body began with {answer.quoted()}") from error
    except raw.UNDECODABLE as error:
        raise Unreadable(
            f"{where}: expected JSON, found {answer.content_type or 'no type'}: {answer.quoted()}"
        ) from error


def _unpacked(body: bytes, encoding: str) -> bytes:
    """Return the body without its compression; never more than the limit, however small it arrived.

    Raises:
        TooLarge: it unpacks to more than `BODY_BYTES_MAX`.
        httpx.DecodingError: it is no gzip, its end is missing, or it is packed in a way we did not ask for.
    """
    if encoding.lower() in ("", "identity"):
        return body
    if encoding.lower() not in ("gzip", "x-gzip"):
        raise httpx.DecodingError(f"content-encoding was {encoding[:40]!r}; asked for gzip")
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        unpacked = unpacking.decompress(body, BODY_BYTES_MAX + 1)
    except zlib.error as error:
        raise httpx.DecodingError(f"said to be gzip: {error}") from error
    if len(unpacked) > BODY_BYTES_MAX:
        raise TooLarge(f"unpacks to more than {BODY_BYTES_MAX} bytes")
    if not unpacking.eof or unpacking.unused_data:
        raise httpx.DecodingError("said to be gzip, but ends too early or too late")
    return unpacked


def _checked_read(answer: Answer, where: str) -> Answer:
    status = answer.status
    if 200 <= status < 300:
        return answer
    said = f"{where}: {status}, {answer.quoted()}"
    if status == 401:
        raise Unauthorised(said)
    if status == 403 and answer.is_html:
        raise Blocked(f"{said}; blocked by the content network in front of the broker, not by the broker")
    if status in (408, 429) or status >= 500:
        raise Transient(said, _seconds(answer.retry_after))
    if 300 <= status < 400:
        raise Refused(f"{said}; the address moved: check broker.base_url")
    raise Refused(said)


def _checked_write(answer: Answer, where: str) -> raw.Written:
    if answer.status != 400 and not 200 <= answer.status < 300:
        raise UnknownOutcome(f"{where}: {answer.status}, {answer.quoted()}")
    try:
        said = msgspec.json.decode(answer.body, type=raw.Written)
    except raw.UNDECODABLE as error:
        raise UnknownOutcome(f"{where}: {answer.status}, expected JSON, found {answer.quoted()}") from error
    if said.status == "REJECTED" or answer.status == 400:
        if said.order_id or said.status == "OK":
            raise UnknownOutcome(f"{where}: {answer.status}, refused and accepted at once: {answer.quoted()}")
        raise Refused(answer.masked(said.reason()))
    if said.status != "OK" or said.error_code:
        raise UnknownOutcome(f"{where}: {answer.status}, neither OK nor REJECTED: {answer.quoted()}")
    return said


def _seconds(text: str) -> float | None:
    """Return the seconds of a Retry-After header, or None for none or a date."""
    return min(float(text), RETRY_AFTER_S_MAX) if text.isdecimal() else None
