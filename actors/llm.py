"""The process `llm`: an analyst worker. Takes claimed intents, `llm.slots` at a time, and tells the store its verdicts.

Never touches the database, the broker or the account. A lease stays in the beats until the store has acked what became
of it; whatever is lost with this process, the store gives out again.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

import msgspec
from loguru import logger
from msgspec import Struct

from actors.analysts import calling, final_state, registry, verdict
from actors.analysts.analyst import AnalysisError, Unavailable, verdict_within
from actors.analysts.verdict import Refusal, Verdict
from actors.console import text
from bus import actor, failpoints, messages
from bus.clock import Clock, SystemClock
from bus.errors import NoAnswer
from bus.link import Link
from bus.messages import Held
from bus.records import Signal, TradeIntent
from bus.vocabulary import Outcome, Role, State
from config.settings import Settings

RELEASE_S = 1.5  # of the time for a stop: for the store to take back what could not be finished
LEAVE_S = 1.0  # of the time for a stop: for the loop to end and the process to go
ERROR_CHARS_MAX = 1_000


class _Work(Struct, frozen=True):
    """One lease and the task that works on it."""

    held: Held
    task: asyncio.Task[None]


class Analyst(actor.Actor):
    """One analyst worker."""

    role: ClassVar[Role] = Role.LLM
    announces_ready: ClassVar[bool] = True

    @classmethod
    def warm_up(cls, settings: Settings) -> None:
        registry.build(settings.llm, SystemClock())

    def __init__(self, link: Link, settings: Settings, clock: Clock) -> None:
        """Choose the analyst. Raises config.load.ConfigError when it cannot work."""
        super().__init__(link, settings, clock)
        self._analyst = registry.build(settings.llm, clock, link.ask)
        self._work: dict[str, _Work] = {}  # by intent id
        self._telling: set[Held] = set()  # the verdict is under way to the store
        self._releasing: set[Held] = set()
        self._asides: set[asyncio.Task[None]] = set()
        self._state = State.STARTING
        self._finished = 0
        # Up to four bytes a character, and as much again for the rest of the message.
        self._report_chars_max = min(verdict.REPORT_CHARS_MAX, settings.bus.message_bytes_max // 8)
        self._state_bytes_max = min(final_state.BYTES_MAX, settings.bus.message_bytes_max // 4)

    async def run(self) -> None:
        """Start the analyst, work until asked to stop, then finish or give back what is left."""
        try:
            await self._analyst.start()
            self._state = State.READY
            logger.info("Ready: analyst '{}', {} at a time", self._analyst.name, self.settings.llm.slots)
            self.link.ready()
            await self.link.stopping.wait()
            self._state = State.DRAINING
            await self._drain()
        finally:
            await self._analyst.close()

    def beat(self) -> actor.BeatState:
        """Return the capacity (all slots while ready and able to judge, else none) and every lease not answered for."""
        return actor.BeatState(
            state=self._state,
            capacity=self.settings.llm.slots if self._state is State.READY and self._analyst.is_available() else 0,
            holding=(*(work.held for work in self._work.values()), *self._releasing),
            progress=self._finished,
        )

    def on_message(self, message: messages.FromStore) -> None:
        """Take work, or drop it."""
        if isinstance(message, messages.Analyse):
            self._take(message)
        elif isinstance(message, messages.Withdraw):
            self._withdraw(message)

    # ── taking and dropping leases ──────────────────────────────────────────

    def _take(self, message: messages.Analyse) -> None:
        held = Held(message.intent.id, message.epoch)
        known = self._work.get(held.intent_id)
        if held in self._releasing or (known is not None and known.held.epoch >= held.epoch):
            return  # the store sends work again when a beat crossed it
        if self._state is not State.READY or self.link.stopping.is_set():
            self._give_back(held, "stopping")
            return
        if known is not None:
            self._drop(known, f"claimed again with epoch {held.epoch}")
        elif self._busy() >= self.settings.llm.slots:
            self._give_back(held, "no free slot")
            return
        if not self._analyst.is_available():
            self._give_back(held, "the analyst cannot judge now")
            self.link.beat_now()  # without capacity, or the intent comes back at once
            return
        task = asyncio.create_task(self._work_on(message), name=f"analyse {held.intent_id}")
        self._work[held.intent_id] = _Work(held, task)
        task.add_done_callback(lambda done: self._ended(held, done))

    def _busy(self) -> int:
        """Return the slots in use. One whose verdict is under way is free: its ack and the next work come together."""
        return sum(1 for work in self._work.values() if work.held not in self._telling)

    def _withdraw(self, message: messages.Withdraw) -> None:
        known = self._work.get(message.intent_id)
        # A verdict under way gets its ack, applied or stale: the beat that caused this may have crossed it.
        if known is not None and known.held.epoch <= message.epoch and known.held not in self._telling:
            self._drop(known, message.reason)

    def _drop(self, work: _Work, reason: str) -> None:
        logger.bind(intent_id=work.held.intent_id).info("Dropped an analysis: {}", reason)
        self._forget(work.held)
        work.task.cancel()

    def _forget(self, held: Held) -> None:
        known = self._work.get(held.intent_id)
        if known is not None and known.held == held:
            del self._work[held.intent_id]
            self.link.beat_now()

    def _ended(self, held: Held, task: asyncio.Task[None]) -> None:
        """Let go of a lease however its task ended. An unanswered one is sent again by the store."""
        self._telling.discard(held)
        self._forget(held)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.bind(intent_id=held.intent_id).opt(exception=error).error("An analysis ended without an answer")

    # ── one lease, from claim to ack ────────────────────────────────────────

    async def _work_on(self, message: messages.Analyse) -> None:
        intent, epoch = message.intent, message.epoch
        log = logger.bind(intent_id=intent.id)
        log.info("Analysing {}, attempt {}", intent.symbol, intent.attempts)
        deadline_s = min(self.settings.llm.deadline_s, message.lease_s)
        # gather hands a defect of an analyst over as a value: it costs this attempt and nothing else.
        (found,) = await asyncio.gather(self._judge(intent, deadline_s), return_exceptions=True)
        failpoints.reach("llm.after_analyse")
        command: messages.Decide | messages.AnalysisFailed | messages.Release
        if isinstance(found, Verdict):
            log.info("{} {}: {}", found.side, intent.symbol, found.reason)
            command = _decide(intent, epoch, found, self._report_chars_max)
        elif isinstance(found, Unavailable):
            log.info("Not analysed: {}", found)
            command = messages.Release(intent_id=intent.id, epoch=epoch, reason=text.line(str(found), ERROR_CHARS_MAX))
        elif isinstance(found, Exception):
            if isinstance(found, AnalysisError):
                log.warning("No verdict on {}: {}", intent.symbol, found)
            else:
                log.opt(exception=found).error("The analyst failed on {}", intent.symbol)
            error = text.line(f"{type(found).__name__}: {found}", ERROR_CHARS_MAX)
            command = messages.AnalysisFailed(intent_id=intent.id, epoch=epoch, error=error)
        else:
            raise found  # cancelled from within, or the end of the process
        failpoints.reach("llm.before_decide")  # telling the store the verdict, or that there is none
        self._telling.add(Held(intent.id, epoch))
        ack = await self.link.ask(command)
        failpoints.reach("llm.after_decide")
        self._finished += 1
        if ack.outcome in (Outcome.STALE, Outcome.REFUSED):
            log.warning("The store did not take the verdict on {}: {} {}", intent.symbol, ack.outcome, ack.reason)

    async def _judge(self, intent: TradeIntent, deadline_s: float) -> Verdict:
        """Return a verdict that may be told: checked, and HOLD when a check refused it."""
        failpoints.reach("llm.before_analyse")  # one analysis
        signal = verdict.signal_of(intent)
        if not isinstance(signal, Signal):
            return self._stated(verdict.hold(f"No decision possible: {signal.reason}"))
        with calling.about(intent):
            found = await verdict_within(deadline_s, self._analyst, intent)
        checked = verdict.check(found, signal, self.settings.llm)
        return self._stated(found, checked) if isinstance(checked, Refusal) else self._stated(checked)

    def _stated(self, found: Verdict, refusal: Refusal | None = None) -> Verdict:
        """Return what is told, with the final state: what the analyst proposed, and why it may not be."""
        state = final_state.of(found, refusal, bytes_max=self._state_bytes_max)
        told = found if refusal is None else _no_trade(found, refusal)
        return msgspec.structs.replace(told, state_json=state)

    # ── the end ─────────────────────────────────────────────────────────────

    async def _drain(self) -> None:
        """Let analyses finish while there is time, then give the rest back. Without an answer, recovery frees it."""
        if self._work:
            await asyncio.wait([work.task for work in self._work.values()], timeout=self._finish_s())
        for work in tuple(self._work.values()):
            self._give_back(work.held, "stopping")
            self._drop(work, "stopping")
        if self._asides:
            await asyncio.wait(self._asides)

    def _finish_s(self) -> float:
        """Return how long analyses may go on after the stop: `supervisor.stop_s` but for what follows them."""
        return max(0.0, self.settings.supervisor.stop_s - LEAVE_S - RELEASE_S)

    def _give_back(self, held: Held, reason: str) -> None:
        self._releasing.add(held)  # in the beats from now on until the store has answered
        task = asyncio.create_task(self._release(held, reason), name=f"release {held.intent_id}")
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    async def _release(self, held: Held, reason: str) -> None:
        release = messages.Release(intent_id=held.intent_id, epoch=held.epoch, reason=reason)
        try:
            ack = await self.link.ask(release, min(RELEASE_S, self.settings.supervisor.stop_s / 3))
            logger.bind(intent_id=held.intent_id).info("Gave a lease back ({}): {}", reason, ack.outcome)
        except NoAnswer:
            logger.bind(intent_id=held.intent_id).info("Gave a lease back ({}): no answer; the store will see", reason)
        finally:
            self._releasing.discard(held)


def _decide(intent: TradeIntent, epoch: int, found: Verdict, report_chars_max: int) -> messages.Decide:
    report = found.report or f"# {intent.symbol}: {found.side}\n\n{found.reason}\n"
    return messages.Decide(
        intent_id=intent.id,
        epoch=epoch,
        side=found.side,
        sl_pips=found.sl_pips,
        tp_pips=found.tp_pips,
        risk_report=text.clean(report, report_chars_max),
        state_json=found.state_json,
        reason=text.line(found.reason, ERROR_CHARS_MAX),
    )


def _no_trade(found: Verdict, refusal: Refusal) -> Verdict:
    """Return HOLD in place of a verdict that a check refused; its report stays, with the refusal below it."""
    reason = f"{found.side} refused ({refusal.rule}): {refusal.reason}"
    return verdict.hold(
        reason,
        report=f"{found.report.rstrip()}\n\n## No trade\n\n{reason}\n",
    )


if __name__ == "__main__":
    actor.main(Analyst)
