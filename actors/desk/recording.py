"""What the store is told of one execution, in one place: every end of an intent, and the halt. Used by the executor.

Ends are told for as long as it takes. What must not keep us from looking after a position (a lost answer, a halt) is
given up after a while: the order is unresolved in the database either way, and that alone keeps the gate shut.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from loguru import logger

from actors.broker.wire import ClosedPosition, Position
from actors.compliance.guard import GuardResult
from bus import messages
from bus.clock import iso
from bus.errors import NoAnswer
from bus.failpoints import reach
from bus.messages import Execute, PositionResult
from bus.records import OrderPlan
from bus.vocabulary import Outcome

REASON_CHARS_MAX = 1_000  # reasons quote the broker, which may say anything

Ask = Callable[..., Awaitable[messages.Ack]]


class Recorder:
    """Tells the store. `answer_s` bounds what is not waited for."""

    def __init__(self, ask: Ask, *, answer_s: float) -> None:
        self._ask = ask
        self._answer_s = answer_s

    async def rejected(self, work: Execute, verdict: GuardResult) -> None:
        """The guard refused, or nothing could be planned."""
        logger.bind(intent_id=work.intent.id).warning("Rejected {}: {}", work.intent.symbol, verdict.reason)
        await self._tell(
            messages.Reject(
                intent_id=work.intent.id,
                epoch=work.epoch,
                reason=_short(verdict.reason),
                compliance_snapshot=verdict.snapshot(),
            )
        )

    async def given_back(self, work: Execute, reason: str, retry_after_s: float = 0.0) -> None:
        """Nothing was reserved: the intent may be tried again."""
        await self._tell(
            messages.Release(
                intent_id=work.intent.id, epoch=work.epoch, reason=_short(reason), retry_after_s=retry_after_s
            )
        )

    async def failed(self, work: Execute, reason: str) -> messages.Ack:
        """The order certainly does not exist."""
        logger.bind(intent_id=work.intent.id).warning("Failed: {}", reason)
        return await self._tell(
            messages.OrderFailed(intent_id=work.intent.id, epoch=work.epoch, reason=_short(reason))
        )  # fmt: skip

    async def lost(self, work: Execute, reason: str) -> None:
        """The answer was lost. `reserved` says the same in the database, so a silent store is not waited for."""
        logger.bind(intent_id=work.intent.id).error("Outcome unknown: {}", reason)
        await self._try(
            messages.OrderUnknown(intent_id=work.intent.id, epoch=work.epoch, reason=_short(reason), ambiguous=False)
        )

    async def unclear(self, work: Execute, reason: str) -> messages.Ack:
        """Nobody but the operator can tell what became of the order: the store halts the account."""
        logger.bind(intent_id=work.intent.id).error(
            "Cannot tell what became of the order; see `pilot resolve`: {}", reason
        )
        return await self._tell(
            messages.OrderUnknown(intent_id=work.intent.id, epoch=work.epoch, reason=_short(reason), ambiguous=True)
        )

    async def halted(self, reason: str) -> None:
        """Stop all new orders until the operator lifts the halt."""
        logger.error("Halting: {}", reason)
        await self._try(messages.RaiseHalt(level="hard", reason=_short(reason)))

    async def opened(
        self, work: Execute, plan: OrderPlan, position: Position | ClosedPosition, ended: ClosedPosition | None
    ) -> messages.Ack:
        """The position was seen; with `ended` it is closed already."""
        reach("executor.before_opened")  # telling the store that the position was seen
        ack = await self._tell(
            messages.OrderOpened(
                intent_id=work.intent.id,
                epoch=work.epoch,
                order_id=position.id,
                position_id=position.id,
                execution_meta=_meta(plan, position),
                closed=None if ended is None else result_of(ended),
            )
        )
        reach("executor.after_opened")
        if ack.outcome is Outcome.APPLIED:
            logger.bind(intent_id=work.intent.id).info(
                "Opened {} {} {} at {}, SL {}, TP {}, position {}",
                plan.side, position.volume, plan.symbol, position.open_price, plan.sl_price, plan.tp_price, position.id,
            )  # fmt: skip
            if position.volume > plan.volume:
                await self._overfilled(work, plan, position)
        return ack

    async def _overfilled(self, work: Execute, plan: OrderPlan, position: Position | ClosedPosition) -> None:
        """Tell people: the guard allowed less than this, and only they can say what is to be done."""
        text = f"Position {position.id} of {plan.symbol} has {position.volume} lots; {plan.volume} were ordered"
        logger.bind(intent_id=work.intent.id).error("{}", text)
        await self._try(messages.Report(level="error", event="overfilled", text=text, intent_id=work.intent.id))

    async def _tell(self, command: messages.Command) -> messages.Ack:
        """Tell the store, for as long as it takes."""
        return _noted(command, await self._ask(command, None))

    async def _try(self, command: messages.Command) -> None:
        try:
            _noted(command, await self._ask(command, self._answer_s))
        except NoAnswer as error:
            logger.warning("{}; going on without", error)


def _noted(command: messages.Command, ack: messages.Ack) -> messages.Ack:
    if ack.outcome in (Outcome.STALE, Outcome.REFUSED):
        logger.warning("{} was {}: {}", type(command).__name__, ack.outcome, ack.reason)
    return ack


def _short(reason: str) -> str:
    return reason[:REASON_CHARS_MAX]


def result_of(row: ClosedPosition) -> PositionResult:
    """Return how a position ended, as the store keeps it. Source: the broker's row, with swap and commission."""
    return PositionResult(
        closed_at=iso(row.closed_at),
        net_profit_cents=row.net_profit_cents,
        close_price=str(row.close_price),
        reason=row.reason or "not said by the broker",
    )


def _meta(plan: OrderPlan, position: Position | ClosedPosition) -> str:
    """Return what was filled against what was planned, as JSON. A slippage above 0 cost us."""
    is_closed = isinstance(position, ClosedPosition)  # the history does not say what the stop was
    slip = position.open_price - plan.entry_price
    found: dict[str, Any] = {
        "entry_price": str(position.open_price),
        "planned_price": str(plan.entry_price),
        "slippage": str(slip if plan.side == "BUY" else -slip),
        "volume": str(position.volume),
        "planned_volume": str(plan.volume),
        "sl": str(position.sl_price or (plan.sl_price if is_closed else 0)),
        "tp": str(position.tp_price or (plan.tp_price if is_closed else 0)),
        "opened_at": iso(position.opened_at),
        "loss_cents": plan.loss_cents,
        "profit_cents": plan.profit_cents,
    }
    return json.dumps(found)
