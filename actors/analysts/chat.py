"""Chat completions of an OpenAI-compatible endpoint: one request with its retries, limits and dialects.

Used by the llm process. Knows nothing of trading. Follows no redirect, reads no proxy from the environment, logs no
prompt and no key.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Protocol

import httpx
import msgspec
from msgspec import Struct

from actors.analysts import prompts
from actors.analysts.analyst import AnalysisError
from actors.analysts.answer import Schema
from actors.analysts.prompts import ChatMessage
from actors.console import text
from bus import failpoints, masking, tallies
from bus.clock import Clock
from config.settings import LlmEndpoint

CONNECT_S = 5.0
WRITE_S = 10.0
RETRIES_MAX = 2
BACKOFF_S = 0.5
RESPONSE_BYTES_MAX = 1_048_576
ERROR_CHARS_MAX = 300
USAGE_MAX = 10**9  # tokens of one request; more is nonsense
SEED = 20_260_216
TRANSIENT = frozenset({408, 409, 425, 429, *range(500, 600)})
FORMAT_WORDS = (
    "response_format",
    "response format",
    "json_schema",
    "json_object",
    "json schema",
    "structured output",
    "grammar",
)


class Rung(StrEnum):
    """How the shape of the answer is asked for, strictest first."""

    SCHEMA = "json_schema"
    OBJECT = "json_object"
    PROMPT = "prompt"


class Dialect(Struct, frozen=True, kw_only=True):
    """What an endpoint understands. It only ever gets simpler, so that adapting comes to an end."""

    rung: Rung = Rung.SCHEMA
    tokens_field: str = "max_tokens"  # newer models of OpenAI want max_completion_tokens
    sampling: bool = True  # some models refuse temperature and seed


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens, as the endpoint counts them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Reply(Struct, frozen=True, kw_only=True):
    """A complete answer of the endpoint. Whether the text is a decision is another question."""

    content: str
    finish_reason: str
    refusal: str
    model: str
    usage: Usage
    rung: Rung
    requests: int
    unmetered: int = 0  # earlier requests of this call that may have cost tokens nobody told us of
    parameters: dict[str, int | float | str] = {}  # what was asked beside messages and shape
    latency_ms: int = 0  # from the call to the answer, with retries and waiting for a free connection


class CallFailed(AnalysisError):
    """No reply. `unmetered` requests of the call may have cost tokens all the same."""

    def __init__(self, said: str, unmetered: int = 0) -> None:
        super().__init__(said)
        self.unmetered = unmetered


class Completer(Protocol):
    """A model that completes chats, as analysts use it. They take every figure of a call from its `Reply`."""

    host: str  # where it is, for the audit
    is_metered: bool  # whether its calls cost tokens that count today

    async def start(self) -> None:
        """Find out whether it can work with these settings. One that is away is waited for.

        Raises:
            config.load.ConfigError: key, path or model are refused.
        """
        ...

    def is_available(self) -> bool:
        """Return whether a call would be made now, instead of failing at once."""
        ...

    async def probe(self) -> None:
        """Find out, when it is time to, whether one that is away is back. Cheap; never raises."""
        ...

    async def complete(self, asked: list[ChatMessage], schema: Schema, deadline_s: float) -> Reply:
        """Return the model's reply within `deadline_s`, in the shape of `schema` as far as it can be made to.

        Raises:
            Unavailable: it is known to be away; nothing was sent.
            CallFailed: no reply in time, a final error, or retries used up.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class _Tries(Struct):
    """The requests of one call so far."""

    requests: int = 0
    unmetered: int = 0
    is_under_way: bool = False


class _Failure(Struct, frozen=True, kw_only=True):
    """Why a request gave no reply, and what may be done about it."""

    reason: str
    may_pass: bool = False
    may_cost: bool = False  # a model may have worked for it
    wait_s: float = 0.0
    simpler: Dialect | None = None


class _Message(Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(Struct):
    message: _Message
    finish_reason: str | None = None


class _Error(Struct):
    message: str | None = None
    code: int | str | None = None


class _Completion(Struct):
    choices: list[_Choice] = []
    model: str | None = None
    usage: Usage | None = None
    error: _Error | str | None = None


class Endpoint:
    """One endpoint, one model. What it turned out to understand is remembered for the life of the process."""

    def __init__(
        self,
        settings: LlmEndpoint,
        *,
        section: str,
        key: str | None,
        clock: Clock,
        rng: random.Random,
        backoff_s: float = BACKOFF_S,
    ) -> None:
        self.dialect = Dialect()
        self.settings = settings
        self.section = section  # where its settings stand: "llm", "llm.endpoints.NAME"
        self._base_url = settings.base_url.rstrip("/")
        self._hidden = masking.forms((key,) if key else ())
        self._rng = rng
        self._clock = clock
        self._backoff_s = backoff_s
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        self._client = httpx.AsyncClient(
            headers=headers,
            # Reading has no limit of its own: a model may think for minutes, the caller's deadline rules.
            timeout=httpx.Timeout(connect=CONNECT_S, write=WRITE_S, read=None, pool=None),
            follow_redirects=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def complete(self, asked: list[ChatMessage], schema: Schema, deadline_s: float) -> Reply:
        """Return the endpoint's reply. Retries what may pass, at most `RETRIES_MAX` times, within the deadline.

        Raises:
            CallFailed: no reply in time, a final error, or retries used up.
        """
        ends = self._clock.monotonic() + deadline_s
        tries = _Tries()
        try:
            async with asyncio.timeout(max(0.0, deadline_s)):
                return await self._until_answered(asked, schema, ends, tries)
        except TimeoutError as error:
            said = f"{self._base_url}: no answer within {deadline_s:.0f} s"
            raise CallFailed(said, tries.unmetered + tries.is_under_way) from error

    async def _until_answered(self, asked: list[ChatMessage], schema: Schema, ends: float, tries: _Tries) -> Reply:
        failures = 0
        while True:
            dialect = self.dialect
            tries.is_under_way = True
            found = await self._attempt(asked, schema, dialect)
            tries.is_under_way = False
            tries.requests += 1
            if isinstance(found, Reply):
                return msgspec.structs.replace(found, requests=tries.requests, unmetered=tries.unmetered)
            tries.unmetered += found.may_cost
            if found.simpler is not None:
                # Another slot may have adapted meanwhile; its finding is as good as ours.
                self.dialect = found.simpler if self.dialect == dialect else self.dialect
                continue
            if not found.may_pass or failures == RETRIES_MAX:
                said = f"{self._base_url}: {found.reason} ({tries.requests} requests)"
                raise CallFailed(said, tries.unmetered)
            wait_s = max(found.wait_s, self._backoff_s * 2**failures) * self._rng.uniform(1.0, 1.25)
            if self._clock.monotonic() + wait_s >= ends:
                said = f"{self._base_url}: {found.reason}; a wait of {wait_s:.0f} s would pass the deadline"
                raise CallFailed(said, tries.unmetered)
            failures += 1
            await asyncio.sleep(wait_s)

    async def _attempt(self, asked: list[ChatMessage], schema: Schema, dialect: Dialect) -> Reply | _Failure:
        payload = self._payload(asked, schema, dialect)
        try:
            status, headers, body = await self.request("POST", "/chat/completions", payload)
        except (httpx.RequestError, ResponseTooLarge) as error:
            may_cost = not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
            said = f"{type(error).__name__}: {self.tidy(str(error))}"
            return _Failure(reason=said, may_pass=True, may_cost=may_cost)
        if status != 200:
            return self._refused(status, headers, body, dialect)
        try:
            found = msgspec.json.decode(body, type=_Completion)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            return _Failure(reason=f"the answer was no chat completion: {error}", may_pass=True, may_cost=True)
        if found.error is not None:
            return self._error_inside(found.error, dialect)
        if not found.choices:
            return _Failure(reason="the answer held no choice", may_pass=True, may_cost=True)
        choice = found.choices[0]
        return Reply(
            content=self._without_key(choice.message.content or ""),
            finish_reason=self._without_key(choice.finish_reason or ""),
            refusal=self._without_key(choice.message.refusal or ""),
            model=text.line(self._without_key(found.model or self.settings.model), 100),
            usage=_sane(found.usage or Usage()),
            rung=dialect.rung,
            requests=1,
            parameters={name: payload[name] for name in sorted(payload.keys() - {"messages", "response_format"})},
        )

    def _payload(self, asked: list[ChatMessage], schema: Schema, dialect: Dialect) -> dict[str, Any]:
        payload: dict[str, Any] = {
            "model": self.settings.model,
            "messages": asked if dialect.rung is Rung.SCHEMA else prompts.with_schema(asked, schema.body),
            dialect.tokens_field: self.settings.max_tokens,
        }
        if dialect.sampling:
            payload |= {"temperature": 0, "seed": SEED}
        if dialect.rung is Rung.SCHEMA:
            named = {"name": schema.name, "strict": True, "schema": schema.body}
            payload["response_format"] = {"type": "json_schema", "json_schema": named}
        elif dialect.rung is Rung.OBJECT:
            payload["response_format"] = {"type": "json_object"}
        return payload

    async def request(
        self, method: str, path: str, payload: dict[str, Any] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and body of one request.

        Raises:
            httpx.RequestError: no complete answer.
            ResponseTooLarge: more than `RESPONSE_BYTES_MAX`; the rest was not read.
        """
        body = bytearray()
        counted, began_s = tallies.Name.LLM_NONE, tallies.began_s()
        failpoints.reach("llm.before_request")  # one HTTP request to the endpoint of the language model
        try:
            async with self._client.stream(method, f"{self._base_url}{path}", json=payload) as response:
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > RESPONSE_BYTES_MAX:
                        raise ResponseTooLarge(f"the answer exceeded {RESPONSE_BYTES_MAX} bytes")
                counted = tallies.Name.LLM_OK if response.is_success else tallies.Name.LLM_REFUSED
                failpoints.reach("llm.after_request")
                return response.status_code, response.headers, bytes(body)
        finally:
            tallies.since(counted, began_s)

    def _refused(self, status: int, headers: Mapping[str, str], body: bytes, dialect: Dialect) -> _Failure:
        said = body.decode(errors="replace")
        reason = f"HTTP {status}: {self.tidy(said)}"
        if 300 <= status < 400:
            return _Failure(reason=f"HTTP {status}: redirected; set {self.section}.base_url to the final address")
        if (easier := simpler(dialect, status, said)) is not None:
            return _Failure(reason=reason, simpler=easier)
        wait_s = retry_after_s(headers.get("retry-after", ""), self._clock)
        # A gateway may give up on a model that has worked.
        return _Failure(reason=reason, may_pass=status in TRANSIENT, may_cost=status >= 500, wait_s=wait_s)

    def _error_inside(self, error: _Error | str, dialect: Dialect) -> _Failure:
        """Treat an error object inside HTTP 200 as the status it names; without one it may pass."""
        message, code = (error, None) if isinstance(error, str) else (error.message or "", error.code)
        status = code if isinstance(code, int) else int(code) if code and code.isdecimal() else None
        reason = f"error inside HTTP 200: {self.tidy(message)} (code {status})"
        if status is None:
            return _Failure(reason=reason, may_pass=True, may_cost=True)
        easier = simpler(dialect, status, message)
        return _Failure(reason=reason, may_pass=status in TRANSIENT, may_cost=easier is None, simpler=easier)

    def tidy(self, said: str) -> str:
        """Return text of the endpoint for a log line: one short line without the key."""
        return text.line(self._without_key(said), ERROR_CHARS_MAX)

    def _without_key(self, said: str) -> str:
        # An endpoint may send back what it was sent, and what it says is shown to the endpoints of other roles.
        return masking.over(said, self._hidden)


def _sane(usage: Usage) -> Usage:
    """Return the counts of tokens that can be counts; None for the others."""
    counts = (usage.prompt_tokens, usage.completion_tokens)
    known = [one if one is not None and 0 <= one <= USAGE_MAX else None for one in counts]
    return Usage(prompt_tokens=known[0], completion_tokens=known[1])


class ResponseTooLarge(Exception):
    """The endpoint sent more than we take."""


def simpler(dialect: Dialect, status: int, said: str) -> Dialect | None:
    """Return the next simpler dialect when the endpoint's error names something it does not understand, else None."""
    if status not in (400, 404, 422, 500, 501):
        return None
    found = said.lower()
    if any(word in found for word in FORMAT_WORDS):
        below = {Rung.SCHEMA: Rung.OBJECT, Rung.OBJECT: Rung.PROMPT}
        if dialect.rung in below:
            return msgspec.structs.replace(dialect, rung=below[dialect.rung])
    if "max_completion_tokens" in found and dialect.tokens_field == "max_tokens":
        return msgspec.structs.replace(dialect, tokens_field="max_completion_tokens")
    if ("temperature" in found or "seed" in found) and dialect.sampling:
        return msgspec.structs.replace(dialect, sampling=False)
    return None


def retry_after_s(value: str, clock: Clock) -> float:
    """Return the seconds that a Retry-After header asks for; 0 for none or nonsense."""
    if value.strip().isdecimal():
        return float(value.strip()[:9])
    try:
        moment = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return 0.0
    # A date without a zone cannot be compared; it is nonsense, too.
    return max(0.0, (moment - clock.now()).total_seconds()) if moment.tzinfo else 0.0
