"""The analyst behind one OpenAI-compatible endpoint: ask, read strictly, repair once, else no trade.

Used by the llm process when `llm.analyst = "openai"`. Never falls back to another analyst; never records a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from actors.analysts import answer, endpoints, prompts, verdict
from actors.analysts.analyst import Ask
from actors.analysts.answer import Answer
from actors.analysts.budget import Budget, BudgetSpent
from actors.analysts.chat import Completer, Reply, Usage
from actors.analysts.prompts import ChatMessage
from actors.analysts.verdict import Verdict
from actors.analysts.watch import Watch
from actors.console import text
from bus.clock import Clock
from bus.records import Signal, TradeIntent
from config.settings import Llm

NO_DECISION = {"length": "the answer was cut off", "content_filter": "the answer was filtered by the endpoint"}
DECISION = answer.schema_of("decision", Answer)


class OpenAiAnalyst:
    """One language model that decides alone."""

    name = "openai"

    def __init__(self, settings: Llm, clock: Clock, served: Mapping[str, Completer], ask: Ask) -> None:
        """Take the one endpoint in `served`. Raises config.load.ConfigError: a budget in money without prices."""
        self._settings = settings
        self._clock = clock
        self._endpoint = served[endpoints.ONLY]
        self._budget = Budget(settings, endpoints.specs(settings), clock, ask)
        self._watch = Watch(served, ask)

    async def start(self) -> None:
        """Look whether the endpoint can work with these settings. Raises config.load.ConfigError when it cannot."""
        await self._endpoint.start()
        self._watch.start()

    def is_available(self) -> bool:
        """Return whether the endpoint is not known to be away."""
        return self._watch.is_available()

    async def close(self) -> None:
        """Close the connections."""
        await self._watch.close()
        await self._budget.close()
        await self._endpoint.close()

    async def analyse(self, intent: TradeIntent, deadline_s: float) -> Verdict:
        """Return the model's verdict, or HOLD when it gives no valid decision after one repair.

        Raises:
            AnalysisError: the endpoint gave no reply within the deadline.
        """
        signal = verdict.signal_of(intent)
        if not isinstance(signal, Signal):
            return verdict.hold(signal.reason)
        asked = prompts.ask(signal, self._settings)
        try:
            found, replies = await self._ask(asked, deadline_s)
        except BudgetSpent as spent:
            return verdict.hold(f"No decision: {spent}")
        audit = self._audit(replies, prompts.digest(asked))
        return _verdict(signal, found, audit)

    async def _ask(
        self, asked: list[ChatMessage], deadline_s: float
    ) -> tuple[Answer | answer.Unreadable | str, list[Reply]]:
        """Return what was found in the model's answer, or in its second one when the first was unreadable."""
        purse, ends = self._budget.open(), self._clock.monotonic() + deadline_s
        first = await purse.complete(endpoints.ONLY, self._endpoint, asked, DECISION, deadline_s)
        found = _read(first)
        if not isinstance(found, answer.Unreadable):
            return found, [first]
        again = prompts.repair(asked, first.content, text.line(found.problem, 300))
        left_s = ends - self._clock.monotonic()
        try:
            second = await purse.complete(endpoints.ONLY, self._endpoint, again, DECISION, left_s)
        except BudgetSpent as spent:
            return f"{found.problem}, and {spent}", [first]
        return _read(second), [first, second]

    def _audit(self, replies: list[Reply], prompt_sha256: str) -> _Audit:
        last = replies[-1]
        return _Audit(
            endpoint=self._endpoint.host,
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
            latency_ms=sum(reply.latency_ms for reply in replies),
        )


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
