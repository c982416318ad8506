"""The analyst behind any OpenAI-compatible endpoint: ask, read strictly, repair once, else no trade.

Used by the llm process when `llm.analyst = "openai"`. Never falls back to another analyst; never sends a key without
encryption to another machine; never records a prompt or a key.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
from urllib.parse import SplitResult, urlsplit

import httpx
import msgspec
from loguru import logger
from msgspec import Struct

from actors.analysts import answer, chat, prompts, verdict
from actors.analysts.answer import Answer
from actors.analysts.chat import Reply, Usage
from actors.analysts.verdict import Verdict
from actors.console import text
from bus.clock import Clock
from bus.records import Signal, TradeIntent
from config import load
from config.load import ConfigError
from config.settings import Llm

START_S = 15.0  # for both requests of the check at start
NO_DECISION = {"length": "the answer was cut off", "content_filter": "the answer was filtered by the endpoint"}


class OpenAiAnalyst:
    """A language model behind `POST {llm.base_url}/chat/completions`."""

    name = "openai"

    def __init__(self, settings: Llm, clock: Clock, rng: random.Random, *, backoff_s: float = chat.BACKOFF_S) -> None:
        """Check the settings.

        Raises:
            ConfigError: base_url, model or key are missing or cannot be right.
        """
        where = _checked_url(settings)
        if not settings.model.strip() or settings.model == "set-me":
            raise ConfigError(f"llm.model was {settings.model!r}; the analyst 'openai' needs the model's name")
        self._settings = settings
        self._clock = clock
        self._schema: dict[str, object] = answer.strict_schema(Answer)
        self._host = where.netloc
        self._endpoint = chat.Endpoint(settings, key=_key(settings, where), clock=clock, rng=rng, backoff_s=backoff_s)

    async def start(self) -> None:
        """Ask the endpoint for its models and, unless ours is among them, for one short answer.

        An endpoint that is away is no error of the settings: intents wait.

        Raises:
            ConfigError: the endpoint refuses key, path or model.
        """
        try:
            async with asyncio.timeout(START_S):
                if await self.lists_the_model():
                    logger.info("Analyst ready: {} at {}", self._settings.model, self._host)
                    return
                status, _, body = await self._endpoint.request("POST", "/chat/completions", self._probe())
        except (httpx.RequestError, chat.ResponseTooLarge, TimeoutError) as error:
            logger.warning(
                "Endpoint {} cannot be reached yet: {}", self._host, self._endpoint.tidy(str(error)) or type(error)
            )
            return
        self._judge_probe(status, body)

    async def lists_the_model(self) -> bool:
        """Return whether the endpoint lists our model: one request, which costs no token.

        Raises:
            ConfigError: the endpoint refuses the key.
            httpx.RequestError, chat.ResponseTooLarge: no complete answer.
        """
        status, _, body = await self._endpoint.request("GET", "/models")
        if status in (401, 403):
            raise ConfigError(self._wrong(status, body, f"check the key in {self._settings.api_key_env}"))
        try:
            listed = msgspec.json.decode(body, type=_Models)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return False
        return status == 200 and any(model.id == self._settings.model for model in listed.data)

    def _probe(self) -> dict[str, object]:
        # Nothing in it but the model can be wrong, so that a refusal means the model, the path or the key.
        return {"model": self._settings.model, "messages": [{"role": "user", "content": "Say ok."}]}

    def _judge_probe(self, status: int, body: bytes) -> None:
        if status in (401, 403):
            raise ConfigError(self._wrong(status, body, f"check the key in {self._settings.api_key_env}"))
        if status in (404, 405) or 300 <= status < 400:
            raise ConfigError(self._wrong(status, body, "check llm.base_url (it usually ends in /v1) and llm.model"))
        if status == 400 and b"model" in body.lower():
            raise ConfigError(self._wrong(status, body, "check llm.model"))
        if status == 200 and not body.lstrip().startswith(b"{"):
            raise ConfigError(self._wrong(status, body, "this is no JSON: check llm.base_url (it usually ends in /v1)"))
        if status != 200:
            logger.warning("Endpoint {} answered HTTP {}: {}", self._host, status, self._tidy(body))
            return
        logger.info("Analyst ready: {} at {} (it does not list its models)", self._settings.model, self._host)

    def _wrong(self, status: int, body: bytes, advice: str) -> str:
        return f"llm.base_url {self._settings.base_url}: HTTP {status} {self._tidy(body)}; {advice}"

    def _tidy(self, body: bytes) -> str:
        return self._endpoint.tidy(body[:2_000].decode(errors="replace"))

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()

    async def analyse(self, intent: TradeIntent, deadline_s: float) -> Verdict:
        """Return the model's verdict, or HOLD when it gives no valid decision after one repair.

        Raises:
            AnalysisError: the endpoint gave no reply within the deadline.
        """
        signal = verdict.signal_of(intent)
        if not isinstance(signal, Signal):
            return verdict.hold(signal.reason)
        began = self._clock.monotonic()
        asked = prompts.ask(signal, self._settings)
        first = await self._endpoint.complete(asked, self._schema, deadline_s)
        found = _read(first)
        replies = [first]
        if isinstance(found, answer.Unreadable):
            left_s = deadline_s - (self._clock.monotonic() - began)
            again = prompts.repair(asked, first.content, text.line(found.problem, 300))
            replies.append(await self._endpoint.complete(again, self._schema, left_s))
            found = _read(replies[-1])
        audit = self._audit(replies, prompts.digest(asked), self._clock.monotonic() - began)
        return _verdict(signal, found, audit)

    def _audit(self, replies: list[Reply], prompt_sha256: str, latency_s: float) -> _Audit:
        last = replies[-1]
        return _Audit(
            endpoint=self._host,
            model=last.model,
            prompt_sha256=prompt_sha256,
            rung=last.rung,
            finish_reason=text.line(last.finish_reason, 40),
            requests=sum(reply.requests for reply in replies),
            repaired=len(replies) > 1,
            usage=Usage(
                prompt_tokens=sum(reply.usage.prompt_tokens or 0 for reply in replies),
                completion_tokens=sum(reply.usage.completion_tokens or 0 for reply in replies),
            ),
            latency_ms=round(1_000 * latency_s),
        )


class _Model(Struct):
    id: str = ""


class _Models(Struct):
    data: list[_Model] = []


class _Audit(Struct, frozen=True, kw_only=True, tag_field="analyst", tag="openai"):
    """How a verdict came about. Goes into `agent_state_json`."""

    endpoint: str
    model: str
    prompt_sha256: str
    rung: str
    finish_reason: str
    requests: int
    repaired: bool
    usage: Usage
    latency_ms: int


def _read(reply: Reply) -> Answer | answer.Unreadable | str:
    """Return the answer, what is unreadable about it, or why there is none and no repair would help."""
    if reply.refusal:
        return f"the model refused: {text.line(reply.refusal, 300)}"
    if reply.finish_reason in NO_DECISION:
        return NO_DECISION[reply.finish_reason]
    return answer.read(reply.content)


def _verdict(signal: Signal, found: Answer | answer.Unreadable | str, audit: _Audit) -> Verdict:
    state_json = msgspec.json.encode(audit).decode()
    if not isinstance(found, Answer):
        problem = found if isinstance(found, str) else found.problem
        reason = f"No valid decision: {problem}"
        return verdict.hold(
            reason, report=_report(signal, "HOLD", text.line(reason, 500), audit), state_json=state_json
        )
    reason = text.line(found.reason, verdict.REASON_CHARS_MAX)
    return Verdict(
        side=found.side,
        reason=reason,
        confidence=found.confidence,
        sl_pips=found.sl_pips,
        tp_pips=found.tp_pips,
        report=_report(signal, found.side, reason, audit),
        state_json=state_json,
    )


def _report(signal: Signal, side: str, reason: str, audit: _Audit) -> str:
    repaired = ", after one repair" if audit.repaired else ""
    return (
        f"# {signal.symbol}: {side}\n\n"
        f"Written by the language model {audit.model} at {audit.endpoint}{repaired}. "
        f"Bars of {signal.source} up to {signal.bar_time}.\n\n{reason}\n"
    )


def _checked_url(settings: Llm) -> SplitResult:
    """Return the parts of `llm.base_url`. Raises ConfigError for anything that is no plain http(s) address."""
    try:
        where = urlsplit(settings.base_url)
        port_is_fine = where.port is None or where.port > 0
    except ValueError as error:
        raise ConfigError(f"llm.base_url was {settings.base_url!r}: {error}") from error
    if where.username or where.password:
        raise ConfigError(f"llm.base_url holds a user name or password; put the key into {settings.api_key_env}")
    if where.scheme not in ("http", "https") or not where.hostname or not port_is_fine or where.query or where.fragment:
        raise ConfigError(
            f"llm.base_url was {settings.base_url!r}; allowed: http(s)://HOST[:PORT]/PATH, such as https://HOST/v1"
        )
    if where.scheme == "http" and not _is_loopback(where.hostname):
        raise ConfigError(f"llm.base_url was {settings.base_url!r}; http is allowed only for this machine: use https")
    return where


def _key(settings: Llm, where: SplitResult) -> str | None:
    """Return the key; None only for an endpoint on this machine that has none. Raises ConfigError."""
    load.env_file()  # a .env that others can read is an error even when the key could be done without
    try:
        key = load.secret(settings.api_key_env).strip()
    except ConfigError:
        if _is_loopback(where.hostname or ""):
            return None
        raise
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"secret {settings.api_key_env} holds characters that no HTTP header may carry")
    return key


def is_here(settings: Llm) -> bool:
    """Return whether the endpoint is on this machine, where it may do without a key."""
    try:
        return _is_loopback(urlsplit(settings.base_url).hostname or "")
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
