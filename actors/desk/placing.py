"""One intent from `executing` to its end: look, plan, guard, reserve, one POST, certain outcome. Used by the executor.

The nine steps of docs/architecture.md, in order. Between the guard and the POST nothing waits. Every outcome that is
not certain goes to `settling`; nothing here sends an order twice.
"""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

from loguru import logger

from actors.broker.client import BrokerClient
from actors.broker.errors import Blocked, BrokerError, NotSent, Refused, Unauthorised, UnknownOutcome
from actors.broker.reconcile import FoundOpen
from actors.broker.wire import ClosedPosition, OpenRequest, Position
from actors.compliance import guard
from actors.compliance.rulebook import RuleSet
from actors.compliance.sizing import Unsized
from actors.desk import planning, view
from actors.desk.protecting import Protector, Unprotected
from actors.desk.settling import Missing, Settler, Stopped, Unclear
from actors.desk.view import View
from bus import messages
from bus.clock import Clock, iso
from bus.errors import NoAnswer
from bus.failpoints import reach
from bus.messages import Execute, PositionResult
from bus.records import Order, OrderPlan
from bus.vocabulary import OrderStatus, Outcome
from config.settings import Settings
from store.queries import DatabaseRefused, Reader

RETRY_S = 10.0  # after a broker that did not answer
RETRY_LOGIN_S = 120.0  # after a login that was refused: somebody has to act

Ask = Callable[..., Awaitable[messages.Ack]]
Sleep = Callable[[float], Awaitable[bool]]


class Desk:
    """Takes one intent at a time through its execution."""

    def __init__(
        self,
        *,
        client: BrokerClient,
        reader: Reader,
        settings: Settings,
        rules: RuleSet,
        clock: Clock,
        ask: Ask,
        sleep: Sleep,
        draw: random.Random,
    ) -> None:
        self._client = client
        self._reader = reader
        self._settings = settings
        self._rules = rules
        self._clock = clock
        self._ask = ask
        self._sleep = sleep
        self._draw = draw
        look_s = settings.executor.look_interval_s
        self._settler = Settler(client, reader, clock, sleep, look_interval_s=look_s)
        self._protector = Protector(client, clock, sleep, look_interval_s=look_s)
        # No request of an earlier life can have left after this: its process was dead when ours took the lock.
        self._born_s = clock.monotonic()

    async def place(self, work: Execute) -> None:
        """Execute an intent for which nothing is reserved yet."""
        intent = work.intent
        log = logger.bind(intent_id=intent.id)
        # The delay comes before anything is read: between gate and order nothing may wait.
        if await self._sleep(self._draw.uniform(0, self._settings.executor.random_delay_s_max)):
            await self._give_back(work, "stopping", 0)
            return
        try:
            seen = await self._look(intent.symbol)
        except (Unauthorised, Blocked) as error:
            log.error("Could not read the account: {}", error)
            await self._give_back(work, f"could not read the account: {error}", RETRY_LOGIN_S)
            return
        except (BrokerError, DatabaseRefused, NoAnswer) as error:
            log.warning("Could not read the account: {}", error)
            await self._give_back(work, f"could not read the account: {error}", RETRY_S)
            return
        plan, verdict = self._judge(work, seen)
        if plan is None or not verdict.passed:
            log.warning("Rejected {}: {}", intent.symbol, verdict.reason)
            await self._finish(
                messages.Reject(
                    intent_id=intent.id, epoch=work.epoch, reason=verdict.reason, compliance_snapshot=verdict.snapshot()
                )
            )
            return
        await self._reserve_and_send(work, plan, seen, verdict.snapshot())

    async def settle(self, work: Execute, order: Order, *, accepted_id: str | None = None, sent_s: float = 0.0) -> None:
        """Find out what became of a reserved order, and record it. Never sends."""
        quiet_until_s = max(self._born_s, sent_s) + self._settings.executor.quiet_s
        if accepted_id is None:
            logger.bind(intent_id=order.intent_id).warning(
                "Reconciling {} {} {}", order.plan.side, order.plan.volume, order.plan.symbol
            )
        outcome = await self._settler.settle(order, quiet_until_s=quiet_until_s, accepted_id=accepted_id)
        if isinstance(outcome, Stopped):
            return
        if isinstance(outcome, Missing):
            await self._fail(work, outcome.reason)
        elif isinstance(outcome, Unclear):
            await self._unknown(work, outcome.reason, ambiguous=True)
            # Only the operator can end this; until then nothing is sent, and the lease stays here.
            while not await self._sleep(self._settings.monitor.equity_poll_s):
                pass
        elif isinstance(outcome, FoundOpen):
            await self._found_open(work, order.plan, outcome.position)
        else:
            await self._record(work, order.plan, outcome.row, outcome.row)

    # ── the steps ───────────────────────────────────────────────────────────

    async def _look(self, symbol: str) -> View:
        reach("executor.before_read")
        seen = await view.account_view(
            self._client,
            self._reader,
            settings=self._settings,
            rules=self._rules,
            clock=self._clock,
            symbol=symbol if symbol in await self._client.instruments() else None,
        )
        reach("executor.after_read")
        return await view.record_day(
            seen, _Asker(self._ask), self._reader, deadline_s=self._settings.bus.dead_s
        )  # fmt: skip

    def _judge(self, work: Execute, seen: View) -> tuple[OrderPlan | None, guard.GuardResult]:
        """Plan and check: no waiting, no I/O."""
        executor = self._settings.executor
        planned = planning.order_plan(
            work.intent,
            seen,
            risk_ratio=Decimal(str(executor.risk_per_trade_ratio)),
            jitter_ratio=Decimal(str(round(self._draw.uniform(0, executor.volume_jitter_ratio), 6))),
            costs=view.costs(self._settings, self._rules),
        )
        if isinstance(planned, Unsized):
            return None, planning.unsized_result(planned)
        facts = view.trade_facts(seen, planned, work.intent, settings=self._settings, clock=self._clock)
        return planned, guard.check_all(planned, seen.account, self._rules, facts)

    async def _reserve_and_send(self, work: Execute, plan: OrderPlan, seen: View, snapshot: str) -> None:
        licence_s = self._settings.executor.licence_s
        order = self._order(work, plan, seen)
        asked_s = self._clock.monotonic()
        reach("executor.before_reserve")
        try:
            ack = await self._ask(
                messages.ReserveOrder(
                    intent_id=work.intent.id,
                    epoch=work.epoch,
                    plan=plan,
                    baseline=order.baseline,
                    deadline_at=order.deadline_at,
                    compliance_snapshot=snapshot,
                ),
                licence_s,
            )
        except NoAnswer:
            # It may be reserved or not; the store sorts it out by order of arrival. Certainly nothing was sent.
            await self._fail_or_give_back(work, f"not sent: no licence within {licence_s:g} s")
            return
        reach("executor.after_reserve")
        if ack.outcome is Outcome.STALE:
            logger.warning("The lease of {} is gone: {}", work.intent.id, ack.reason)
            return
        if ack.outcome is not Outcome.APPLIED:
            await self._give_back(work, f"no reservation: {ack.reason}", RETRY_S)
            return
        await self._send(work, order, asked_s)

    async def _send(self, work: Execute, order: Order, asked_s: float) -> None:
        """Send the order, once, while the licence is young; then find out what became of it."""
        plan = order.plan
        request = OpenRequest(
            broker_symbol=plan.broker_symbol,
            side=plan.side,
            volume=plan.volume,
            sl_price=plan.sl_price,
            tp_price=plan.tp_price,
        )
        reach("executor.before_post")
        age_s = self._clock.monotonic() - asked_s
        if age_s > self._settings.executor.licence_s:
            await self._fail(work, f"not sent: the licence was {age_s:.1f} s old")
            return
        try:
            accepted_id = await self._client.open_position(request)
        except Refused as error:
            await self._fail(work, f"broker refused: {error}")
            return
        except NotSent as error:
            await self._fail(work, f"not sent: {error}")
            return
        except UnknownOutcome as error:
            sent_s = self._clock.monotonic()
            await self._unknown(work, str(error), ambiguous=False)
            await self.settle(work, order, sent_s=sent_s)
            return
        reach("executor.after_post")
        await self.settle(work, order, accepted_id=accepted_id, sent_s=self._clock.monotonic())

    async def _found_open(self, work: Execute, plan: OrderPlan, position: Position) -> None:
        """Record a position once its stop is seen, or its end when it had to be closed."""
        while True:
            try:
                protected = await self._protector.protect(position, plan)
                break
            except Unprotected as error:
                await self._ask(messages.RaiseHalt(level="hard", reason=str(error)))
            if await self._sleep(self._settings.executor.look_interval_s):
                return  # the order stays unresolved: the next start goes on here
        ended = protected if isinstance(protected, ClosedPosition) else None
        await self._record(work, plan, protected, ended)

    # ── what the store is told ──────────────────────────────────────────────

    async def _record(
        self, work: Execute, plan: OrderPlan, position: Position | ClosedPosition, ended: ClosedPosition | None
    ) -> None:
        reach("executor.before_opened")
        ack = await self._finish(
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
        if ack.outcome is Outcome.REFUSED:
            reason = f"position {position.id} could not be recorded for intent {work.intent.id}: {ack.reason}"
            await self._ask(messages.RaiseHalt(level="hard", reason=reason))
            return
        logger.bind(intent_id=work.intent.id).info(
            "Opened {} {} {} at {}, SL {}, TP {}, position {}",
            plan.side, plan.volume, plan.symbol, position.open_price, plan.sl_price, plan.tp_price, position.id,
        )  # fmt: skip

    async def _fail(self, work: Execute, reason: str) -> messages.Ack:
        logger.bind(intent_id=work.intent.id).warning("Failed: {}", reason)
        return await self._finish(messages.OrderFailed(intent_id=work.intent.id, epoch=work.epoch, reason=reason))

    async def _unknown(self, work: Execute, reason: str, *, ambiguous: bool) -> None:
        logger.bind(intent_id=work.intent.id).error("Outcome unknown: {}", reason)
        await self._finish(
            messages.OrderUnknown(intent_id=work.intent.id, epoch=work.epoch, reason=reason, ambiguous=ambiguous)
        )

    async def _fail_or_give_back(self, work: Execute, reason: str) -> None:
        """End the intent if its order was reserved after all, else give it back."""
        ack = await self._fail(work, reason)
        if ack.outcome is Outcome.REFUSED:
            await self._give_back(work, reason, RETRY_S)

    async def _give_back(self, work: Execute, reason: str, retry_after_s: float) -> None:
        await self._finish(
            messages.Release(
                intent_id=work.intent.id, epoch=work.epoch, reason=reason[:1_000], retry_after_s=retry_after_s
            )
        )

    async def _finish(self, command: messages.Command) -> messages.Ack:
        """Tell the store, for as long as it takes."""
        ack = await self._ask(command, None)
        if ack.outcome in (Outcome.STALE, Outcome.REFUSED):
            logger.warning("{} was {}: {}", type(command).__name__, ack.outcome, ack.reason)
        return ack

    def _order(self, work: Execute, plan: OrderPlan, seen: View) -> Order:
        """Return the order as it will be reserved. `reserved_at` is before the request, never after."""
        now = self._clock.now()
        broker, executor = self._settings.broker, self._settings.executor
        wait_s = executor.licence_s + broker.connect_timeout_s + broker.request_timeout_s + executor.quiet_s
        return Order(
            intent_id=work.intent.id,
            status=OrderStatus.RESERVED,
            plan=plan,
            baseline=seen.baseline,
            reserved_at=iso(now),
            deadline_at=iso(now + timedelta(seconds=wait_s)),
        )


class _Asker:
    """The store's link, as `desk.view` wants it."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def ask(self, command: messages.Command, deadline_s: float | None = None) -> messages.Ack:
        return await self._ask(command, deadline_s)


def result_of(row: ClosedPosition) -> PositionResult:
    """Return how a position ended, as the store keeps it. Source: the broker's row, with swap and commission."""
    return PositionResult(
        closed_at=iso(row.closed_at),
        net_profit_cents=row.net_profit_cents,
        close_price=str(row.close_price),
        reason=row.reason or "unknown",
    )


def _meta(plan: OrderPlan, position: Position | ClosedPosition) -> str:
    """Return what was filled against what was planned, as JSON."""
    slip = position.open_price - plan.entry_price
    found: dict[str, Any] = {
        "entry_price": str(position.open_price),
        "planned_price": str(plan.entry_price),
        "slippage": str(slip if plan.side == "BUY" else -slip),
        "volume": str(position.volume),
        "planned_volume": str(plan.volume),
        "sl": str(position.sl_price or plan.sl_price),
        "tp": str(position.tp_price or plan.tp_price),
        "opened_at": iso(position.opened_at),
        "loss_cents": plan.loss_cents,
        "profit_cents": plan.profit_cents,
    }
    return json.dumps(found)
