"""The panel: four roles argue, a risk judge decides, and a judge whom the others do not support decides nothing.

Used by the llm process when `llm.analyst = "panel"`. Technical and macro speak first, then bull and bear against each
other for `llm.rounds` rounds, then the judge. Every word of a role is data to the next one. One deadline and one budget
hold for the whole decision; a role that gives no valid answer, or a budget that is spent, is no trade.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from msgspec import Struct

from actors.analysts import answer, briefing, calling, endpoints, foreign, minutes, prompts, roles, verdict
from actors.analysts.analyst import AnalysisError, Ask, Unavailable
from actors.analysts.answer import Answer, Opinion, Schema, Unreadable
from actors.analysts.budget import Budget, BudgetSpent, Purse
from actors.analysts.chat import Completer
from actors.analysts.consult import Call, Consulted, call_of, consult
from actors.analysts.minutes import Voice
from actors.analysts.prompts import ChatMessage
from actors.analysts.roles import Role
from actors.analysts.verdict import Verdict
from actors.analysts.watch import Watch
from bus.clock import Clock
from bus.records import Signal, TradeIntent
from config.load import ConfigError
from config.settings import Llm

ARGUMENT_CHARS_MAX = 1_200
OPINION = answer.schema_of("opinion", Opinion)
DECISION = answer.schema_of("decision", Answer)
T = TypeVar("T")
S = TypeVar("S")


class _NoAnswer(Exception):
    """A role gave no valid answer: the panel decides nothing."""


class _Case(Struct):
    """One decision under way: what it may use, and what was said so far."""

    signal: Signal
    purse: Purse
    ends_s: float
    briefing: str
    voices: list[Voice]

    def views(self) -> list[Voice]:
        return [one for one in self.voices if one.role in ("technical", "macro")]

    def last(self, role: Role) -> list[Voice]:
        """Return the newest argument of a role, or nothing when it has not spoken."""
        return [one for one in self.voices if one.role == role][-1:]


class PanelAnalyst:
    """Five roles, each behind the endpoint that `llm.roles` names for it."""

    name = "panel"

    def __init__(self, settings: Llm, clock: Clock, served: Mapping[str, Completer], ask: Ask) -> None:
        """Read the roles. Raises ConfigError: a role's file, the briefing or a price is missing or wrong."""
        if settings.roles is None:
            raise ConfigError(f"llm.roles is missing; the panel needs an endpoint for {', '.join(roles.MAY_SEE)}")
        self._settings = settings
        self._clock = clock
        self._prompts = roles.load(settings.roles_folder)
        self._names: dict[Role, str] = {role: getattr(settings.roles, role) for role in roles.MAY_SEE}
        self._served = served
        self._budget = Budget(settings, endpoints.specs(settings), clock, ask)
        self._watch = Watch(served, ask)
        briefing.read(settings.briefing_path)

    async def start(self) -> None:
        """Look whether every endpoint can work with these settings. Raises ConfigError when one cannot."""
        await asyncio.gather(*(endpoint.start() for endpoint in self._served.values()))
        self._watch.start()

    def is_available(self) -> bool:
        """Return whether no endpoint is known to be away: without one voice it is another panel."""
        return self._watch.is_available()

    async def close(self) -> None:
        """Close the connections."""
        await self._watch.close()
        await self._budget.close()
        for endpoint in self._served.values():
            await endpoint.close()

    async def analyse(self, intent: TradeIntent, deadline_s: float) -> Verdict:
        """Return the judge's verdict, or HOLD: no valid answer of a role, too much disagreement, or a spent budget.

        Raises:
            Unavailable: an endpoint is known to be away; nothing was asked.
            AnalysisError: an endpoint gave no reply within the deadline, or the briefing cannot be read.
        """
        signal = verdict.signal_of(intent)
        if not isinstance(signal, Signal):
            return verdict.hold(signal.reason)
        if not self.is_available():
            raise Unavailable("an endpoint of the panel is known to be away")
        try:
            told = briefing.read(self._settings.briefing_path)
        except ConfigError as error:
            raise AnalysisError(str(error)) from error
        case = _Case(signal, self._budget.open(), self._clock.monotonic() + deadline_s, told, [])
        try:
            await self._hear(case)
            found = await self._ask(case, "judge", 1, DECISION, answer.read)
            return self._ruled(case, _taken(case, "judge", 1, found, self._call("judge", found)))
        except (BudgetSpent, _NoAnswer) as error:
            return _held(case, f"No decision of the panel: {error}", minutes.state(case.voices))

    # ── the hearing ─────────────────────────────────────────────────────────

    async def _hear(self, case: _Case) -> None:
        """Let technical and macro speak, then bull and bear against each other."""
        await self._pair(case, "technical", "macro", 1)
        for number in range(1, self._settings.rounds + 1):
            await self._pair(case, "bull", "bear", number)

    async def _pair(self, case: _Case, first: Role, second: Role, number: int) -> None:
        """Let two roles speak at the same time: neither hears what the other says now."""
        said = await _both(
            self._ask(case, first, number, OPINION, answer.read_opinion),
            self._ask(case, second, number, OPINION, answer.read_opinion),
        )
        # In a fixed order, whoever was faster: the same replies make the same record.
        for role, found in zip((first, second), said, strict=True):
            _taken(case, role, number, found, self._call(role, found))

    async def _ask(
        self, case: _Case, role: Role, number: int, schema: Schema, read: Callable[[str], T | Unreadable]
    ) -> Consulted[T]:
        """Ask one role's model within what is left of deadline and budget."""
        name = self._names[role]
        prompt = self._prompts[role]
        asked: list[ChatMessage] = [
            {"role": "system", "content": prompt.told(case.signal, self._settings, number)},
            {"role": "user", "content": "\n\n".join(self._shown(case, role))},
        ]
        with calling.as_role(role):
            return await consult(
                lambda messages: case.purse.complete(
                    name, self._served[name], messages, schema, case.ends_s - self._clock.monotonic()
                ),
                asked,
                read,
            )

    def _shown(self, case: _Case, role: Role) -> list[str]:
        """Return what a role may see, in a fixed order. Everything but our own figures is marked as data."""
        sees = self._prompts[role].sees
        found = [prompts.figures(case.signal, self._settings)]
        if "briefing" in sees:
            found.append(foreign.block("briefing", case.briefing or "(none)", briefing.CHARS_MAX))
        voices: list[Voice] = case.views() if "views" in sees else []
        if "opponent" in sees:
            voices += case.last("bear" if role == "bull" else "bull")
        if "debate" in sees:
            voices += [*case.last("bull"), *case.last("bear")]
        found += [
            foreign.block(f"{one.role}, stance {one.stance:+.2f}", one.argument, ARGUMENT_CHARS_MAX) for one in voices
        ]
        return found

    def _call(self, role: Role, found: Consulted[T]) -> Call:
        name = self._names[role]
        return call_of(found, self._served[name].host, self._budget.specs[name])

    # ── the ruling ──────────────────────────────────────────────────────────

    def _ruled(self, case: _Case, found: Answer) -> Verdict:
        """Return the judge's answer as a verdict; HOLD when the others do not support its side."""
        against = disagreement(found.side, stances_of(case.voices)) if found.side != "HOLD" else None
        state = minutes.state(case.voices, side=found.side, disagreement=against)
        reason = minutes.line(found.reason)
        if against is not None and against > self._settings.disagreement_max:
            reason = (
                f"No decision of the panel: the judge says {found.side}, but {against:.0%} of the conviction of the "
                f"others is not on that side; allowed: {self._settings.disagreement_max:.0%}"
            )
            return _held(case, reason, state)
        return Verdict(
            side=found.side,
            reason=reason,
            confidence=found.confidence,
            sl_pips=found.sl_pips,
            tp_pips=found.tp_pips,
            report=minutes.report(case.signal, found.side, reason, case.voices),
            state_json=state,
        )


def _held(case: _Case, reason: str, state_json: str) -> Verdict:
    """Return no trade, with all that was said."""
    report = minutes.report(case.signal, "HOLD", reason, case.voices)
    return verdict.hold(reason, report=report, state_json=state_json)


def disagreement(side: str, stances: list[float]) -> float:
    """Return which share of the roles' conviction, the sum of |stance|, is not on the side of the judge: 0 to 1.

    A panel without any conviction supports nobody: 1.
    """
    conviction = sum(abs(stance) for stance in stances)
    against = sum(abs(stance) for stance in stances if (stance < 0) == (side == "BUY"))
    return against / conviction if conviction > 0 else 1.0


def stances_of(voices: list[Voice]) -> list[float]:
    """Return the last stance of each role but the judge's."""
    return list({one.role: one.stance for one in voices if one.role != "judge"}.values())


def _taken(case: _Case, role: Role, number: int, found: Consulted[T], call: Call) -> T:
    """Note what a role said and return it. Raises _NoAnswer when it was no valid answer."""
    case.voices.append(minutes.voice(role, number, found, call, ARGUMENT_CHARS_MAX))
    if found.answer is None:
        raise _NoAnswer(f"no valid answer of {role}: {found.problem}")
    return found.answer


async def _both(first: Coroutine[Any, Any, S], second: Coroutine[Any, Any, S]) -> tuple[S, S]:
    """Return both results; when one fails, the other is cancelled and that failure raised."""
    tasks = (asyncio.create_task(first), asyncio.create_task(second))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
        return tasks[0].result(), tasks[1].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
