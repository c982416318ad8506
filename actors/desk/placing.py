"""One intent from `executing` to its end: look, plan, guard, reserve, one POST, certain outcome. Used by the executor.

The nine steps of docs/architecture.md, in order. Between the guard and the POST nothing waits. Every outcome that is
not certain goes to `settling`; nothing here sends an order twice, and nothing is written to the broker without the
lease, except the one order that is under way.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal

from loguru import logger

from actors.broker.account import Account
from actors.broker.errors import Blocked, BrokerError, KeyConflict, NotSent, Refused, Transient, Unauthorised
from actors.broker.reconcile import FoundClosed, FoundOpen
from actors.broker.wire import ClosedPosition, Position
from actors.compliance import guard
from actors.compliance.rulebook import RuleSet
from actors.compliance.sizing import Unsized
from actors.desk import certificate, licence, planning, view
from actors.desk.allowance import Allowance
from actors.desk.licence import Licence
from actors.desk.patience import REST_S_MAX, RETRY_S, Patience
from actors.desk.protecting import Protector, Unprotected
from actors.desk.recording import Ask, Recorder
from actors.desk.repeating import REPEATS_MAX, Repeater
from actors.desk.sending import Sender
from actors.desk.settling import Missing, Settler, Unclear
from actors.desk.view import View
from bus import messages
from bus.clock import Clock, iso
from bus.errors import NoAnswer
from bus.failpoints import reach
from bus.messages import Execute
from bus.records import Order, OrderPlan
from bus.vocabulary import OrderStatus, Outcome
from config.settings import Settings
from store.queries import DatabaseRefused, Reader

RETRY_LOGIN_S = 120.0  # after a login that was refused: somebody has to act
# What one trade may cost from its first look to its stop: granted before it begins, so that no order waits for a grant.
TRADE_READS = 16  # a login, the look with every list and the quotes, the read-back and two repairs
LOOKS_MAX = 3  # while something of the account changes between the look and the reservation
TRADE_WRITES = 4  # the order, two edits and a close
UNPROTECTED_WAIT_S_MAX = 300.0  # between two rounds at a position that takes no stop and cannot be closed

Sleep = Callable[[float], Awaitable[bool]]


class Desk:
    """Takes one intent at a time through its execution.

    `holds` tells whether the lease of a piece of work is still ours. `sleep` returns True at once when we must stop.
    `boot` names the boot of this machine: see `licence.of_mark`.
    """

    def __init__(
        self,
        *,
        client: Account,
        reader: Reader,
        settings: Settings,
        rules: RuleSet,
        clock: Clock,
        ask: Ask,
        sleep: Sleep,
        holds: Callable[[Execute], bool],
        allowance: Allowance,
        draw: random.Random,
        boot: str,
    ) -> None:
        self._client = client
        self._reader = reader
        self._settings = settings
        self._rules = rules
        self._clock = clock
        self._ask = ask
        self._sleep = sleep
        self._holds = holds
        self._allowance = allowance
        self._draw = draw
        self._look_s = settings.executor.look_interval_s
        self._record = Recorder(ask, answer_s=settings.bus.dead_s)
        self._settler = Settler(client, reader, clock, sleep, look_interval_s=self._look_s)
        self._protector = Protector(
            client, clock, sleep, look_interval_s=self._look_s, quiet_s=settings.executor.quiet_s
        )
        self._boot = boot
        self._sender = Sender(client, clock)
        self._repeater = Repeater(
            client, reader, self._sender, allowance, clock, sleep, executor=settings.executor, boot=boot
        )
        self._patience = Patience(clock)

    async def place(self, work: Execute) -> None:
        """Execute an intent for which nothing is reserved yet."""
        # The delay comes before anything is read: between gate and order nothing may wait.
        if await self._sleep(self._draw.uniform(0, self._settings.executor.random_delay_s_max)):
            await self._record.given_back(work, "stopping")
            return
        if (rest_s := self._patience.rest_s) > 0:
            await self._record.given_back(work, "the broker is left alone for a while", rest_s)
            return
        for _ in range(LOOKS_MAX):
            try:
                seen = await self._look(work.intent.symbol)
                if await self._sleep(0):  # an order that is begun now might be cut off in the middle
                    await self._record.given_back(work, "stopping")
                    return
                if isinstance(seen, str):
                    await self._give_back_for_a_while(work, f"the account is not settled: {seen}")
                    return
                self._patience.succeeded(work.intent.id)
                plan, verdict = self._judge(work, seen)
            except (BrokerError, DatabaseRefused, NoAnswer) as error:
                await self._could_not_look(work, error)
                return
            if plan is None or not verdict.passed:
                await self._record.rejected(work, verdict)
                return
            if await self._reserve_and_send(work, plan, seen, verdict.snapshot()):
                return
        await self._record.given_back(work, f"the account changed during each of {LOOKS_MAX} looks", RETRY_S)

    async def settle(self, work: Execute, order: Order, *, accepted_id: str | None = None) -> None:
        """Find out what became of a reserved order, and record it. Never sends, but repeats what carries a key.

        Returns when that is done, when we must stop, and when the lease is gone: the operator has settled it.
        """
        if accepted_id is None:
            logger.bind(intent_id=order.intent_id).warning(
                "Reconciling {} {} {}", order.plan.side, order.plan.volume, order.plan.symbol
            )
            accepted_id = await self._repeated(work, order)
        self._allowance.purpose = "flatten"  # to find a position and see to its stop, the reserve is there
        outcome = await self._settler.settle(
            order,
            quiet_until_s=self._sender.left_s + self._settings.executor.quiet_s,
            is_ours=lambda: self._holds(work),
            accepted_id=accepted_id,
        )
        if isinstance(outcome, Missing):
            await self._record.failed(work, outcome.reason)
        elif isinstance(outcome, Unclear):
            await self._leave_to_the_operator(work, outcome.reason)
        elif isinstance(outcome, FoundOpen):
            await self._found_open(work, order.plan, outcome.position)
        elif isinstance(outcome, FoundClosed):
            await self._opened(work, order.plan, outcome.row)

    # ── the steps ───────────────────────────────────────────────────────────

    async def _look(self, symbol: str) -> View | str:
        """Return the account as it is now, known to the store as well; or why it is to be read again later.

        What was rebuilt is recorded first and looked at again then: figures from before count as overtaken.
        """
        for _ in range(2):
            await self._allowance.ensure(TRADE_READS, TRADE_WRITES + (REPEATS_MAX if self._client.keyed_orders else 0))
            reach("executor.before_read")  # reading account, quotes and history
            seen = await view.account_view(
                self._client,
                self._reader,
                settings=self._settings,
                rules=self._rules,
                clock=self._clock,
                symbol=symbol if symbol in await self._client.instruments() else None,
            )
            reach("executor.after_read")
            if seen.unsettled and not seen.account.halts:
                return seen.unsettled
            reach("executor.before_start_day")  # recording what the day started with
            is_new = await view.record(
                seen, _Asker(self._ask), self._reader, deadline_s=self._settings.bus.dead_s
            )  # fmt: skip
            reach("executor.after_start_day")
            if not is_new:
                return seen
        return "the store does not keep what the day started with"

    async def _could_not_look(self, work: Execute, error: Exception) -> None:
        """Give the intent back; somebody must act when the broker does not know us."""
        rest_s = 0.0
        if isinstance(error, (Unauthorised, Blocked)):
            rest_s = RETRY_LOGIN_S
        elif isinstance(error, Transient) and error.retry_after_s:
            rest_s = error.retry_after_s
        level = "ERROR" if isinstance(error, (Unauthorised, Blocked)) else "WARNING"
        logger.bind(intent_id=work.intent.id).log(level, "Could not read the account: {}", error)
        await self._give_back_for_a_while(work, f"could not read the account: {error}", rest_s)

    async def _give_back_for_a_while(self, work: Execute, reason: str, rest_s_min: float = 0.0) -> None:
        """Rest, then give the intent back: a broker that is away must not use up the day's requests."""
        wait_s = self._patience.failed(work.intent.id, rest_s_min)
        if (rest_s := self._patience.rest_s) <= REST_S_MAX:
            await self._sleep(rest_s)  # with the intent in hand; through a longer rest all are given back unread
        await self._record.given_back(work, reason, max(wait_s, self._patience.rest_s))

    def _judge(self, work: Execute, seen: View) -> tuple[OrderPlan | None, guard.GuardResult]:
        """Plan and check, without waiting: of the outside it reads only two small files and the attestation."""
        executor = self._settings.executor
        planned = planning.order_plan(
            work.intent,
            seen,
            risk_ratio=Decimal(str(executor.risk_per_trade_ratio)),
            jitter_ratio=Decimal(str(round(self._draw.uniform(0, executor.volume_jitter_ratio), 6))),
            costs=view.costs(self._settings, self._rules, work.intent.symbol),
        )
        if isinstance(planned, Unsized):
            return None, planning.unsized_result(planned)
        facts = view.trade_facts(
            seen, planned, work.intent, self._reader, settings=self._settings, rules=self._rules, clock=self._clock
        )
        return planned, guard.check_all(planned, seen.account, self._rules, facts)

    async def _reserve_and_send(self, work: Execute, plan: OrderPlan, seen: View, snapshot: str) -> bool:
        """Return False when nothing was done because the account is to be read again."""
        licence_s = self._settings.executor.licence_s
        order = self._order(work, plan, seen)
        asked = Licence(self._clock.monotonic(), self._clock.now())
        reach("executor.before_reserve")  # the order's row in the store: the licence to send once
        try:
            ack = await self._ask(
                messages.ReserveOrder(
                    intent_id=work.intent.id,
                    epoch=work.epoch,
                    plan=plan,
                    baseline=order.baseline,
                    deadline_at=order.deadline_at,
                    compliance_snapshot=snapshot,
                    certificate=certificate.certificate(seen, plan, self._rules),
                    idempotency_key=order.idempotency_key or "",
                    figures_mark=order.figures_mark or "",
                ),
                licence_s,
            )
        except NoAnswer:
            await self._not_licensed(work, f"not sent: no licence within {licence_s:g} s")
            return True
        reach("executor.after_reserve")
        if ack.outcome is Outcome.STALE:
            logger.warning("The lease of {} is gone: {}", work.intent.id, ack.reason)
        elif ack.outcome is Outcome.REFUSED and "reserve" in ack.allowed:
            logger.bind(intent_id=work.intent.id).info("Not reserved: {}", ack.reason)
            return False
        elif ack.outcome is not Outcome.APPLIED:
            await self._record.given_back(work, f"no reservation: {ack.reason}", RETRY_S)
        else:
            await self._send(work, order, asked, seen)
        return True

    async def _not_licensed(self, work: Execute, reason: str) -> None:
        """End an intent whose reservation was not answered, or give it back if it was never reserved.

        The store takes the two in the order we sent them, so its answer to the second tells which it is.
        """
        ack = await self._record.failed(work, reason)
        if ack.outcome is Outcome.REFUSED:
            await self._record.given_back(work, reason, RETRY_S)

    async def _send(self, work: Execute, order: Order, asked: Licence, seen: View) -> None:
        """Send the order, once, while the licence is young; then find out what became of it."""
        reach("executor.before_post")  # sending the order
        if (age_s := asked.age_s(self._clock)) > self._settings.executor.licence_s:
            await self._record.failed(work, f"not sent: the licence was {age_s:.1f} s old")
            return
        if (age_s := _figures(seen).age_s(self._clock)) > (allowed_s := self._settings.executor.figures_age_s_max):
            await self._record.failed(work, f"not sent: the figures were {age_s:.1f} s old; allowed {allowed_s:g} s")
            return
        answer = await self._sender.send(order)
        reach("executor.after_post")
        if isinstance(answer, str):
            await self.settle(work, order, accepted_id=answer)
        elif isinstance(answer, Refused):
            await self._record.failed(work, f"broker refused: {answer}")
        elif isinstance(answer, NotSent):
            await self._record.failed(work, f"not sent: {answer}")
        else:  # whatever it is: only a refusal and a request that never left are certain
            await self._record.lost(work, str(answer))
            if isinstance(answer, KeyConflict):
                await self._contested(order, answer)
            await self.settle(work, order)

    async def _repeated(self, work: Execute, order: Order) -> str | None:
        """Return the id that a repetition with the order's key brought; None: only looking can tell."""
        answer = await self._repeater.repeat(order, work.intent, is_ours=lambda: self._holds(work))
        if isinstance(answer, KeyConflict):
            await self._contested(order, answer)
            return None
        return answer

    async def _contested(self, order: Order, error: KeyConflict) -> None:
        """Halt: a key that is not ours alone means that what we know of our orders is wrong."""
        await self._record.halted(f"order_key: the broker objects to the key of intent {order.intent_id}: {error}")

    async def _found_open(self, work: Execute, plan: OrderPlan, position: Position) -> None:
        """Record a position once its stop is seen, or its end when it had to be closed.

        Until then the order stays unresolved: after a stop or a kill, the next start goes on here.
        """
        wait_s = self._look_s
        while True:
            try:
                seen = await self._protector.protect(
                    position,
                    plan,
                    is_ours=lambda: self._holds(work),
                    halt=self._record.halted,
                    lost=lambda reason: self._record.unclear(work, reason),
                )
            except Unprotected as error:
                await self._record.halted(str(error))
            else:
                if seen is not None:
                    await self._opened(work, plan, seen)
                return
            if await self._sleep(wait_s):
                return
            wait_s = min(2 * wait_s, UNPROTECTED_WAIT_S_MAX)

    async def _opened(self, work: Execute, plan: OrderPlan, position: Position | ClosedPosition) -> None:
        ended = position if isinstance(position, ClosedPosition) else None
        if position.volume > plan.volume:  # before the recording: a kill in between must not lose it
            found = f"position {position.id} has {position.volume} lots instead of {plan.volume}"
            await self._record.halted(f"{found}: more is at risk than the guard allowed")
        ack = await self._record.opened(work, plan, position, ended)
        if ack.outcome is Outcome.REFUSED:
            await self._leave_to_the_operator(work, f"position {position.id} could not be recorded: {ack.reason}")

    async def _leave_to_the_operator(self, work: Execute, reason: str) -> None:
        """Halt, and keep the lease until the operator has settled the order. Nothing is sent meanwhile."""
        ack = await self._record.unclear(work, reason)
        if ack.outcome in (Outcome.STALE, Outcome.REFUSED):
            return
        while self._holds(work):
            if await self._sleep(self._look_s):
                return
        logger.bind(intent_id=work.intent.id).info("Let go of the order: it was settled by the operator")

    def _order(self, work: Execute, plan: OrderPlan, seen: View) -> Order:
        """Return the order as it will be reserved. `reserved_at` is before the request, never after."""
        now = self._clock.now()
        broker, executor = self._settings.broker, self._settings.executor
        is_keyed = self._client.keyed_orders
        # The last instant it may be sent at, as long as one exchange may take at worst (see broker.transport), and the
        # quiet period after it.
        wait_s = executor.licence_s + 2 * (broker.connect_timeout_s + broker.request_timeout_s) + executor.quiet_s
        wait_s += min(executor.figures_age_s_max, executor.keyed_retry_s) if is_keyed else 0.0
        return Order(
            intent_id=work.intent.id,
            status=OrderStatus.RESERVED,
            plan=plan,
            baseline=seen.baseline,
            reserved_at=iso(now),
            deadline_at=iso(now + timedelta(seconds=wait_s)),
            # A key for a broker that knows none would be used by a later life that speaks to one that does.
            idempotency_key=str(uuid.uuid4()) if is_keyed else None,
            figures_mark=licence.mark(_figures(seen), self._boot) if is_keyed else None,
        )


def _figures(seen: View) -> Licence:
    return Licence(seen.account.figures_at_s, seen.account.read_at)


class _Asker:
    """The store's link, as `desk.view` wants it."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def ask(self, command: messages.Command, deadline_s: float | None = None) -> messages.Ack:
        return await self._ask(command, deadline_s)
