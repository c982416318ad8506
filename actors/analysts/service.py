"""One endpoint as analysts use it: looked at when the worker starts, behind a breaker, with a bounded number of calls.

Used by the llm process and by `pilot doctor`. Knows nothing of trading; never lets more calls out than
`connections_max`, asks nothing of an endpoint that is known to be away, never records a prompt or a key.
"""

from __future__ import annotations

import asyncio

import httpx
import msgspec
from loguru import logger
from msgspec import Struct

from actors.analysts import chat
from actors.analysts.analyst import AnalysisError, Unavailable
from actors.analysts.answer import Schema
from actors.analysts.breaker import Breaker, State
from actors.analysts.chat import CallFailed, Endpoint, Reply
from actors.analysts.prompts import ChatMessage
from bus.clock import Clock
from config.load import ConfigError

START_S = 15.0  # for both requests of the check at start
PROBE_S = 10.0
NOT_WORKING = frozenset(
    {401, 402, 403, 408, 429, *range(500, 600)}
)  # of a probe; a 404 only means that nothing is listed


class Service:
    """A `chat.Completer` over one endpoint."""

    def __init__(self, endpoint: Endpoint, breaker: Breaker, *, host: str, clock: Clock, connections_max: int) -> None:
        self.host = host
        self.is_metered = True
        self.breaker = breaker
        self._endpoint = endpoint
        self._clock = clock
        self._free = asyncio.Semaphore(connections_max)

    def is_available(self) -> bool:
        """Return whether the breaker lets calls through."""
        return self.breaker.state is State.CLOSED

    async def complete(self, asked: list[ChatMessage], schema: Schema, deadline_s: float) -> Reply:
        """Return the endpoint's reply. Waiting for a free connection is part of the deadline.

        Raises:
            Unavailable: the breaker is open; nothing was sent.
            CallFailed: no reply in time, a final error, or retries used up.
        """
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(max(0.0, deadline_s)):
                await self._free.acquire()
        except TimeoutError as error:
            raise CallFailed(f"{self.host}: no connection was free within {deadline_s:.0f} s") from error
        try:
            left_s = deadline_s - (self._clock.monotonic() - began)
            found = await self._through_the_breaker(asked, schema, left_s)
        finally:
            self._free.release()
        return msgspec.structs.replace(found, latency_ms=round(1_000 * (self._clock.monotonic() - began)))

    async def _through_the_breaker(self, asked: list[ChatMessage], schema: Schema, deadline_s: float) -> Reply:
        admitted = self.breaker.admit()
        if admitted is None:
            raise Unavailable(f"{self.host} is known to be away: {self.breaker.reason}")
        try:
            found = await self._endpoint.complete(asked, schema, deadline_s)
        except AnalysisError as error:
            self.breaker.failed(admitted, str(error))
            raise
        self.breaker.succeeded(admitted)
        return found

    async def probe(self) -> None:
        """Ask an endpoint whose breaker is open for its models, when the wait is over; tell the breaker."""
        if not self.breaker.begin_probe():
            return
        problem = "the probe was broken off"
        try:
            async with asyncio.timeout(PROBE_S):
                status, _, body = await self._endpoint.request("GET", "/models")
            problem = f"HTTP {status}: {self._tidy(body)}" if status in NOT_WORKING else ""
        except (httpx.RequestError, chat.ResponseTooLarge, TimeoutError) as error:
            problem = self._endpoint.tidy(str(error)) or type(error).__name__
        finally:
            self.breaker.end_probe(problem)

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()

    # ── the check at start ──────────────────────────────────────────────────

    async def start(self) -> None:
        """Ask the endpoint for its models and, unless ours is among them, for one short answer.

        An endpoint that is away is no error of the settings: intents wait.

        Raises:
            ConfigError: the endpoint refuses key, path or model.
        """
        try:
            async with asyncio.timeout(START_S):
                if await self.lists_the_model():
                    logger.info("Endpoint ready: {} at {}", self._endpoint.settings.model, self.host)
                    return
                status, _, body = await self._endpoint.request("POST", "/chat/completions", self._question())
        except (httpx.RequestError, chat.ResponseTooLarge, TimeoutError) as error:
            said = self._endpoint.tidy(str(error)) or type(error).__name__
            logger.warning("Endpoint {} cannot be reached yet: {}", self.host, said)
            self.breaker.trip(said)
            return
        self._judge(status, body)

    async def lists_the_model(self) -> bool:
        """Return whether the endpoint lists our model: one request, which costs no token.

        Raises:
            ConfigError: the endpoint refuses the key.
            httpx.RequestError, chat.ResponseTooLarge: no complete answer.
        """
        status, _, body = await self._endpoint.request("GET", "/models")
        if status in (401, 403):
            raise ConfigError(self._wrong(status, body, f"check the key in {self._endpoint.settings.api_key_env}"))
        try:
            listed = msgspec.json.decode(body, type=_Models)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return False
        return status == 200 and any(model.id == self._endpoint.settings.model for model in listed.data)

    def _question(self) -> dict[str, object]:
        # Nothing in it but the model can be wrong, so that a refusal means the model, the path or the key.
        return {"model": self._endpoint.settings.model, "messages": [{"role": "user", "content": "Say ok."}]}

    def _judge(self, status: int, body: bytes) -> None:
        section = self._endpoint.section
        path = f"check {section}.base_url (it usually ends in /v1)"
        if status in (401, 403):
            raise ConfigError(self._wrong(status, body, f"check the key in {self._endpoint.settings.api_key_env}"))
        if status in (404, 405) or 300 <= status < 400:
            raise ConfigError(self._wrong(status, body, f"{path} and {section}.model"))
        if status == 400 and b"model" in body.lower():
            raise ConfigError(self._wrong(status, body, f"check {section}.model"))
        if status == 200 and not body.lstrip().startswith(b"{"):
            raise ConfigError(self._wrong(status, body, f"this is no JSON: {path}"))
        if status != 200:
            logger.warning("Endpoint {} answered HTTP {}: {}", self.host, status, self._tidy(body))
            return
        logger.info("Endpoint ready: {} at {} (it lists no models)", self._endpoint.settings.model, self.host)

    def _wrong(self, status: int, body: bytes, advice: str) -> str:
        where = f"{self._endpoint.section}.base_url {self._endpoint.settings.base_url}"
        return f"{where}: HTTP {status} {self._tidy(body)}; {advice}"

    def _tidy(self, body: bytes) -> str:
        return self._endpoint.tidy(body[:2_000].decode(errors="replace"))


class _Model(Struct):
    id: str = ""


class _Models(Struct):
    data: list[_Model] = []
