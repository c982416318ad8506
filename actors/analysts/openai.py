"""The analyst behind one OpenAI-compatible endpoint: ask, read strictly, repair once, else no trade.

Used by the llm process when `llm.analyst = "openai"`. Never falls back to another analyst; never records a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from actors.analysts import answer, endpoints, foreign, prompts, verdict
from actors.analysts.analyst import Ask
from actors.analysts.answer import Answer
from actors.analysts.budget import Budget, BudgetSpent
from actors.analysts.chat import Completer
from actors.analysts.consult import Call, call_of, consult
from actors.analysts.verdict import Verdict
from actors.analysts.watch import Watch
from actors.console import text
from bus.clock import Clock
from bus.records import Signal, TradeIntent
from config.settings import Llm

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
        purse, ends_s = self._budget.open(), self._clock.monotonic() + deadline_s
        try:
            found = await consult(
                lambda asked: purse.complete(
                    endpoints.ONLY, self._endpoint, asked, DECISION, ends_s - self._clock.monotonic()
                ),
                prompts.ask(signal, self._settings),
                answer.read,
            )
        except BudgetSpent as spent:
            return verdict.hold(f"No decision: {spent}")
        return _verdict(signal, found.answer or found.problem, call_of(found, self._endpoint.host, self._settings))


def _verdict(signal: Signal, found: Answer | str, audit: Call) -> Verdict:
    state_json = msgspec.json.encode({"analyst": OpenAiAnalyst.name, **msgspec.to_builtins(audit)}).decode()
    if isinstance(found, str):
        reason = f"No valid decision: {found}"
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


def _report(signal: Signal, side: str, reason: str, audit: Call) -> str:
    repaired = ", after one repair" if audit.repaired else ""
    quoted = foreign.quoted(reason, verdict.REASON_CHARS_MAX, "> ")
    return (
        f"# {signal.symbol}: {side}\n\n"
        f"Written by the language model {audit.model} at {audit.endpoint}{repaired}. "
        f"Bars of {signal.source} up to {signal.bar_time}.\n\n{quoted}\n"
    )
