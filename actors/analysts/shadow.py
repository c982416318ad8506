"""Shadow mode: one analyst decides what is traded, another is asked as well and only written down.

Used by the llm process when `llm.shadow` is set: the offline rules trade, the analyst that `llm.analyst` names is the
shadow. Whatever the shadow says, does or fails to do, the traded side, stop and target are those of the first. Never
merges two verdicts.
"""

from __future__ import annotations

import asyncio

import msgspec
from loguru import logger
from msgspec import Struct

from actors.analysts import final_state, verdict
from actors.analysts.analyst import AnalysisError, Analyst, verdict_within
from actors.analysts.verdict import Refusal, Verdict
from actors.console import text
from bus.clock import Clock
from bus.records import Signal, TradeIntent
from config.load import ConfigError
from config.settings import Llm

MARGIN_RATIO = 0.1  # of the deadline, kept for telling the verdict that is traded
MARGIN_S_MAX = 10.0
STATE_BYTES_MAX = 80_000
ERROR_CHARS_MAX = 500


class Seen(Struct, frozen=True, kw_only=True):
    """What the shadow said, as it stands under `shadow` in the state of the verdict that is traded."""

    analyst: str
    side: str | None = None  # None: no verdict
    sl_pips: float | None = None
    tp_pips: float | None = None
    confidence: float | None = None
    refused: dict[str, str] | None = None  # the check that would have made HOLD of it
    reason: str = ""
    error: str = ""
    latency_ms: int = 0
    state: dict[str, msgspec.Raw] = {}  # its own account, with model and usage


class ShadowAnalyst:
    """Tells the verdict of `traded`, and records what `shadow` says of the same signal."""

    def __init__(self, traded: Analyst, shadow: Analyst, settings: Llm, clock: Clock) -> None:
        self.name = f"{traded.name}, with {shadow.name} in its shadow"
        self._traded = traded
        self._shadow = shadow
        self._settings = settings
        self._clock = clock

    async def start(self) -> None:
        """Start both. A shadow that cannot work is a warning: trading does not depend on it."""
        await self._traded.start()
        try:
            await self._shadow.start()
        except ConfigError as error:
            logger.warning("The shadow '{}' cannot work and is tried all the same: {}", self._shadow.name, error)

    def is_available(self) -> bool:
        """Return what the traded analyst says: a shadow that is away is a record without a verdict."""
        return self._traded.is_available()

    async def close(self) -> None:
        """Close both."""
        await asyncio.gather(self._traded.close(), self._shadow.close())

    async def analyse(self, intent: TradeIntent, deadline_s: float) -> Verdict:
        """Return the traded analyst's verdict. The shadow is waited for `llm.shadow_s`, within the deadline.

        Raises:
            AnalysisError: of the traded analyst only.
        """
        began = self._clock.monotonic()
        told = await self._traded.analyse(intent, deadline_s)
        left_s = deadline_s - (self._clock.monotonic() - began) - min(MARGIN_RATIO * deadline_s, MARGIN_S_MAX)
        seen = await self._look(intent, min(left_s, self._settings.shadow_s))
        state = final_state.object_of(told.state_json)
        state["shadow"] = msgspec.Raw(msgspec.json.encode(seen))
        return msgspec.structs.replace(told, state_json=msgspec.json.encode(state).decode())

    async def _look(self, intent: TradeIntent, wait_s: float) -> Seen:
        signal = verdict.signal_of(intent)
        if not isinstance(signal, Signal):
            return Seen(analyst=self._shadow.name, error=signal.reason)
        began = self._clock.monotonic()
        # gather hands a defect of the shadow over as a value: it costs this record and nothing else.
        (found,) = await asyncio.gather(verdict_within(wait_s, self._shadow, intent), return_exceptions=True)
        took_ms = round(1_000 * (self._clock.monotonic() - began))
        if isinstance(found, Verdict):
            return _seen(self._shadow.name, found, verdict.check(found, signal, self._settings), took_ms)
        if not isinstance(found, Exception):
            raise found  # the end of the process
        error = f"{type(found).__name__}: {found}"
        if not isinstance(found, AnalysisError):
            logger.bind(intent_id=intent.id).opt(exception=found).error("The shadow '{}' failed", self._shadow.name)
        return Seen(analyst=self._shadow.name, error=text.line(error, ERROR_CHARS_MAX), latency_ms=took_ms)


def _seen(analyst: str, found: Verdict, checked: Verdict | Refusal, latency_ms: int) -> Seen:
    refused = {"rule": str(checked.rule), "reason": checked.reason} if isinstance(checked, Refusal) else None
    return Seen(
        analyst=analyst, side=found.side, sl_pips=found.sl_pips, tp_pips=found.tp_pips, confidence=found.confidence,
        refused=refused, reason=text.line(found.reason, verdict.REASON_CHARS_MAX), latency_ms=latency_ms,
        state=final_state.fitting(final_state.object_of(found.state_json), STATE_BYTES_MAX),
    )  # fmt: skip
