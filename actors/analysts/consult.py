"""One question to a model: ask, read strictly, let it repair its answer once. The one place where answers are judged.

Used by the llm process, by every analyst that asks a language model. Nothing is guessed: no valid answer is none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from msgspec import Struct

from actors.analysts import prompts
from actors.analysts.answer import Unreadable
from actors.analysts.budget import BudgetSpent
from actors.analysts.chat import Reply, Usage
from actors.analysts.prompts import ChatMessage
from actors.console import text
from config.settings import LlmEndpoint

T = TypeVar("T")

PROBLEM_CHARS_MAX = 300
NO_DECISION = {"length": "the answer was cut off", "content_filter": "the answer was filtered by the endpoint"}


class Consulted(Struct, Generic[T], frozen=True, kw_only=True):
    """What came of a question: an answer, or the problem with it, and the replies that it took."""

    answer: T | None
    problem: str
    replies: tuple[Reply, ...]
    prompt_sha256: str


class Call(Struct, frozen=True, kw_only=True):
    """How an answer came about, for the audit. Holds nothing but what the replies said."""

    endpoint: str
    model: str
    prompt_sha256: str
    rung: str
    finish_reason: str
    requests: int
    repaired: bool
    usage: Usage
    latency_ms: int
    price_in: str | None  # dollars per million tokens, as they were set then
    price_out: str | None


async def consult(
    ask: Callable[[list[ChatMessage]], Awaitable[Reply]],
    asked: list[ChatMessage],
    read: Callable[[str], T | Unreadable],
) -> Consulted[T]:
    """Return the answer to a question, or what is wrong with it after one repair.

    Raises:
        BudgetSpent: the first call is not covered. For a repair that is a problem like another.
        AnalysisError: no reply.
    """
    first = await ask(asked)
    found = _judge(first, read)
    replies: tuple[Reply, ...] = (first,)
    if isinstance(found, Unreadable):
        try:
            second = await ask(prompts.repair(asked, first.content, text.line(found.problem, PROBLEM_CHARS_MAX)))
        except BudgetSpent as spent:
            found = f"{found.problem}, and {spent}"
        else:
            replies, found = (first, second), _judge(second, read)
    if isinstance(found, Unreadable):
        found = found.problem
    problem = text.line(found, PROBLEM_CHARS_MAX) if isinstance(found, str) else ""
    return Consulted(
        answer=None if isinstance(found, str) else found,
        problem=problem,
        replies=replies,
        prompt_sha256=prompts.digest(asked),
    )


def call_of(found: Consulted[T], host: str, spec: LlmEndpoint) -> Call:
    """Return the audit of a question to the endpoint at `host`, which `spec` sets."""
    replies, last = found.replies, found.replies[-1]
    return Call(
        endpoint=host,
        model=last.model,
        prompt_sha256=found.prompt_sha256,
        rung=last.rung,
        finish_reason=text.line(last.finish_reason, 40),
        requests=sum(reply.requests for reply in replies),
        repaired=len(replies) > 1,
        usage=Usage(
            prompt_tokens=sum(reply.usage.prompt_tokens or 0 for reply in replies),
            completion_tokens=sum(reply.usage.completion_tokens or 0 for reply in replies),
        ),
        latency_ms=sum(reply.latency_ms for reply in replies),
        price_in=spec.price_in,
        price_out=spec.price_out,
    )


def _judge(reply: Reply, read: Callable[[str], T | Unreadable]) -> T | Unreadable | str:
    """Return the answer, what is unreadable about it, or why there is none and no repair would help."""
    if reply.refusal:
        return f"the model refused: {text.line(reply.refusal, PROBLEM_CHARS_MAX)}"
    if reply.finish_reason in NO_DECISION:
        return NO_DECISION[reply.finish_reason]
    return read(reply.content)
