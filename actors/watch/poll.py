"""One look at the account after another: levels, halts, flattening, closed positions, orphans. Library of the monitor.

Never opens a position. What it sees it tells the store; what it must do at the broker, which is only closing, it does
in spite of errors and again with every poll. A broker that does not answer means "not known", never "no positions".
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from loguru import logger

from actors.broker.client import BrokerClient
from actors.broker.errors import BrokerError, Unauthorised
from actors.broker.wire import Balance, Position
from actors.compliance import best_day, budget
from actors.compliance import day as days
from actors.compliance.day import FirmDay
from actors.compliance.drawdown import Level
from actors.compliance.money import amount
from actors.compliance.rulebook import RuleSet
from actors.desk import view
from actors.watch import closing, ladder
from actors.watch.ladder import Standing
from actors.watch.tell import Teller
from bus import messages
from bus.clock import Clock, iso, parse
from bus.failpoints import reach
from bus.link import Link
from bus.records import EquitySample, TradeIntent
from config.settings import Settings
from store.queries import DatabaseRefused, NoDatabase, Reader

REQUESTS_PER_POLL = 2  # positions and balance; the history only when a position has gone
LOOK_AT_STORE_S = 1.0  # how soon an order is noticed that ends the flat cadence
ROW_LAG_S = 120.0  # a history row that takes longer is told to people
LOOK_AGAIN_S = 15.0  # while such a row is awaited
FLATTEN_AGAIN_S = 2.0  # doubled with each try that leaves something open
FAILED_AGAIN_S = 1.0  # doubled with each failed poll, up to the cadence
FAILURES_TOLD = 3  # as many polls must fail before people are told


class Watch:
    """The monitor's poll, and what it remembers between two of them. Nothing of that is needed after a restart."""

    def __init__(
        self, client: BrokerClient, link: Link, *, settings: Settings, rules: RuleSet, clock: Clock, db_path: Path
    ) -> None:
        self.polls = 0
        self._client = client
        self._link = link
        self._tell = Teller(link)
        self._settings = settings
        self._rules = rules
        self._clock = clock
        self._db_path = db_path
        self._ladder = ladder.Ladder()
        self._raised: set[str] = set()  # halts that were raised and whose level was not left since
        self._told: set[str] = set()  # what people are told once
        self._missing: dict[str, float] = {}  # position id -> monotonic time when it was first missed
        self._volumes: dict[str, Decimal] = {}  # position id -> lots when last seen open
        self._orphans: frozenset[str] = frozenset()
        self._uncounted: dict[str, tuple[int, int]] = {}  # day -> requests that the store does not know of yet
        self._failures = 0
        self._flattens = 0
        self._has_positions = False
        self._again_s: float | None = None  # a poll wanted sooner than the cadence says

    async def run(self) -> None:
        """Poll until the process is asked to stop."""
        reader = await self._open_store()
        if reader is None:
            return
        try:
            while not self._link.stopping.is_set():
                today = view.firm_day(self._rules, self._clock.now())
                await self.round(reader, today)
                if await self._wait(reader, today):
                    return
        finally:
            reader.close()

    async def round(self, reader: Reader, today: FirmDay) -> None:
        """Poll once. A broker that fails is told once and polled again within the cadence."""
        self._again_s = None
        try:
            await self._poll(reader, today)
        except BrokerError as error:
            await self._failed(error)
        else:
            if self._failures:
                logger.info("The broker answers again, after {} failed polls", self._failures)
            self._failures = 0
            self._told.discard("broker")
            self.polls += 1
        finally:
            await self._count_requests(today)

    def interval_s(self, reader: Reader, today: FirmDay, polled_at: datetime) -> float:
        """Return how long to wait after a poll. Source: `budget.poll_interval_s` and blueprint section 6.2."""
        monitor = self._settings.monitor
        busy = self._has_positions or bool(reader.active_positions()) or bool(reader.unresolved_orders())
        used = sum(reader.requests(today.day)) + sum(self._uncounted.get(today.day, (0, 0)))
        cadence_s = budget.poll_interval_s(
            base_s=monitor.equity_poll_s if busy else monitor.equity_poll_flat_s,
            seconds_to_reset=(today.ends_at - polled_at).total_seconds(),
            requests_per_poll=REQUESTS_PER_POLL,
            left_requests=budget.left(self._rules, used),
            kept_for_trades=monitor.requests_kept_for_trades,
        )
        return cadence_s if self._again_s is None else min(cadence_s, self._again_s)

    # ── one poll ────────────────────────────────────────────────────────────

    async def _poll(self, reader: Reader, today: FirmDay) -> None:
        reach("monitor.before_poll")  # reading positions and balance
        positions = await self._client.open_positions()
        balance = await self._client.balance()
        reach("monitor.after_poll")
        self._has_positions = bool(positions)
        if self._is_our_account(balance):
            start_cents = await self._start_balance(reader, today)
            standings = ladder.standings(
                self._rules,
                balance_cents=balance.balance_cents,
                equity_cents=balance.equity_cents,
                start_balance_cents=start_cents,
            )
            positions = await self._protect(reader, today, balance, positions, standings, start_cents)
            await self._sample(today, balance, len(positions), standings)
        else:
            found = f"the balance is {amount(balance.balance_cents)} {balance.currency}"
            text = f"{found}; the rules {self._rules.name} are for another account"
            await self._halt(reader, "rules_of_another_account", text, None)
        await self._close_intents(reader, positions)
        await self._orphaned(reader, positions)

    def _is_our_account(self, balance: Balance) -> bool:
        """Return whether the rules can be this account's: closing by those of another would be a wrong trade."""
        initial_cents = self._rules.account.initial_balance_cents
        plausible = initial_cents <= 2 * balance.balance_cents and balance.balance_cents <= 2 * initial_cents
        return balance.currency == self._rules.account.currency and plausible

    async def _start_balance(self, reader: Reader, today: FirmDay) -> int | None:
        """Return what the day started with; rebuild and record it once. None: not known, tried again soon."""
        account_id = self._settings.broker.account_id
        if (kept := reader.account_day(today.day, account_id)) is not None:
            return kept.start_balance_cents
        reading = await view.look(self._client, reader, settings=self._settings, rules=self._rules, clock=self._clock)
        unseen = view.unseen_orders(reader, reading.positions, reading.closed)
        made = view.start_of_day(reading, self._rules, account_id, is_complete=not unseen)
        if isinstance(made, str):
            text = f"What day {today.day} started with is not known: {made}"
            await self._report_once(f"day {today.day}", "error", "day_unknown", text)
            self._sooner(LOOK_AGAIN_S)
            return None
        reach("monitor.before_start_day")  # recording what the day started with
        if await self._tell.tell(messages.StartDay(day=made)):
            logger.info("Day {} started with {}", made.day, amount(made.start_balance_cents))
            kept = reader.account_day(today.day, account_id)
        reach("monitor.after_start_day")
        return (kept or made).start_balance_cents

    async def _sample(self, today: FirmDay, balance: Balance, count: int, standings: tuple[Standing, ...]) -> None:
        losses = {standing.limit.name: standing.loss_cents for standing in standings}
        if "daily" not in losses:
            return  # a day's loss that is not known is not zero
        sample = EquitySample(
            at=iso(self._clock.now()),
            day=today.day,
            balance_cents=balance.balance_cents,
            equity_cents=balance.equity_cents,
            margin_cents=balance.margin_cents,
            positions=count,
            daily_loss_cents=losses["daily"],
            max_loss_cents=losses["maximum"],
            level=max(standing.level for standing in standings).label,
        )
        await self._tell.tell(messages.SampleEquity(sample=sample))

    # ── limits ──────────────────────────────────────────────────────────────

    async def _protect(
        self, reader: Reader, today: FirmDay, balance: Balance, positions: tuple[Position, ...],
        standings: tuple[Standing, ...], start_cents: int | None,
    ) -> tuple[Position, ...]:  # fmt: skip
        """Tell changed levels, halt at the stop level, close everything at the flatten level; return what is open."""
        reasons = []
        for standing in standings:
            key = f"{standing.limit.name}_drawdown"
            until = iso(today.ends_at) if standing.limit.name == "daily" else None
            if standing.level >= Level.STOP:
                await self._halt(reader, key, standing.text, until)
            else:
                self._raised.discard(_latch(key, until))
            if standing.level >= Level.FLATTEN:
                reasons.append(f"{key}: {standing.text}")
            if (change := self._ladder.step(standing, today.day)) is not None:
                logger.log(change.severity.upper(), "{}", change.text)
                await self._tell.tell(messages.Report(level=change.severity, event=change.event, text=change.text))
        if start_cents is not None and positions:
            reasons += await self._best_day(reader, today, balance, positions, start_cents)
        if reasons and positions:
            return await self._flatten(positions, "; ".join(reasons), today)
        self._flattens = 0
        return positions

    async def _best_day(
        self, reader: Reader, today: FirmDay, balance: Balance, positions: tuple[Position, ...], start_cents: int
    ) -> list[str]:
        """Halt when the day's profit reaches its stop level; return why everything must be closed, if it must."""
        key, until = "best_day", iso(today.ends_at)
        if balance.equity_cents - start_cents < best_day.near_cents(self._rules):
            return []
        # A deposit looks like profit, and a rebuilt start may be some dollars high: the history decides.
        rows = await self._client.closed_positions(today.starts_at, self._clock.now() + _skew())
        realised_cents = days.realised_cents(rows, today.starts_at)
        profit_cents = realised_cents + sum(position.net_profit_cents for position in positions)
        text = f"profit of the day {amount(profit_cents)}, cap {amount(self._rules.best_day_cap_cents())}"
        if profit_cents >= best_day.stop_cents(self._rules):
            await self._halt(reader, key, text, until)
        return [f"{key}: {text}"] if profit_cents >= best_day.flatten_cents(self._rules) else []

    async def _halt(self, reader: Reader, key: str, text: str, until: str | None) -> None:
        """Raise a halt once: soft until `until`, hard (None) until the operator lifts it."""
        latch = _latch(key, until)
        standing = reader.halts(iso(self._clock.now()))
        if latch in self._raised or any(other.reason.startswith(f"{key}:") for other in standing):
            return
        logger.error("No new orders from now on: {}: {}", key, text)
        reach("monitor.before_raise_halt")  # stopping all new orders
        halt = messages.RaiseHalt(level="hard" if until is None else "soft", reason=f"{key}: {text}", until=until)
        if await self._tell.tell(halt):
            self._raised.add(latch)
        reach("monitor.after_raise_halt")

    async def _flatten(self, positions: tuple[Position, ...], reason: str, today: FirmDay) -> tuple[Position, ...]:
        """Close every position and look again; return what is still open."""
        logger.error("Closing all {} positions: {}", len(positions), reason)
        for position in positions:
            await self._close(position)
        left = await self._client.open_positions()
        if left:
            again_s = min(FLATTEN_AGAIN_S * 2**self._flattens, self._settings.monitor.equity_poll_s)
            self._flattens += 1
            self._sooner(again_s)
            logger.error("{} positions are still open; closing them again in {:.0f} s", len(left), again_s)
        text = f"Closed {len(positions) - len(left)} of {len(positions)} positions: {reason}"
        await self._report_once(f"flatten {today.day} {len(left)}", "error", "flattened", text)
        return left

    async def _close(self, position: Position) -> bool:
        """Close one position; return whether the broker said so. Only a look tells whether it is gone."""
        reach("monitor.before_close")  # closing one position at the broker
        try:
            await self._client.close_position(position)
        except BrokerError as error:
            logger.error("Could not close {} {}: {}", position.symbol, position.id, error)
            return False
        finally:
            reach("monitor.after_close")
        logger.warning("Closed {} {} {} lots {}", position.side, position.symbol, position.volume, position.id)
        return True

    # ── closed positions and orphans ────────────────────────────────────────

    async def _close_intents(self, reader: Reader, positions: tuple[Position, ...]) -> None:
        """Find the positions that are open no more in the history, and tell the store how they ended."""
        self._volumes = {**self._volumes, **{position.id: position.volume for position in positions}}
        open_ids = {position.id for position in positions}
        missing = [intent for intent in reader.active_positions() if intent.position_id not in open_ids]
        wanted = {str(intent.position_id) for intent in missing}
        self._missing = {id_: self._missing.get(id_, self._clock.monotonic()) for id_ in wanted}
        self._volumes = {id_: lots for id_, lots in self._volumes.items() if id_ in open_ids | wanted}
        if not missing:
            return
        since = min(parse(intent.created_at) for intent in missing) - _skew()
        rows = await self._client.closed_positions(since, self._clock.now() + _skew())
        for intent in missing:
            waited_s = self._clock.monotonic() - self._missing[str(intent.position_id)]
            order = reader.order(intent.id)
            volume = self._volumes.get(str(intent.position_id), order.plan.volume if order else None)
            result = closing.result_of(intent, rows, volume=volume, settled=waited_s >= ROW_LAG_S)
            if isinstance(result, messages.PositionResult):
                await self._closed(intent, result)
            elif waited_s >= ROW_LAG_S:
                text = f"Position {intent.position_id} of {intent.symbol}: {result}"
                await self._report_once(f"missing {intent.position_id}", "warning", "position_missing", text, intent.id)
            else:
                self._sooner(LOOK_AGAIN_S)

    async def _closed(self, intent: TradeIntent, result: messages.PositionResult) -> None:
        reach("monitor.before_position_closed")  # telling the store how a position ended
        command = messages.PositionClosed(intent_id=intent.id, position_id=str(intent.position_id), result=result)
        if await self._tell.tell(command):
            logger.bind(intent_id=intent.id).info(
                "Position {} of {} closed by {} at {}: {}",
                intent.position_id, intent.symbol, result.reason, result.close_price, amount(result.net_profit_cents),
            )  # fmt: skip
        reach("monitor.after_position_closed")

    async def _orphaned(self, reader: Reader, positions: tuple[Position, ...]) -> None:
        """Report positions that nobody owns, once each, and close them when the settings say so."""
        # In this order: an order that is resolved between the two reads is then found owned.
        unresolved = reader.unresolved_orders()
        found = closing.orphans(positions, reader.owned_position_ids(), unresolved)
        policy = self._settings.executor.orphans
        for position in found:
            text = (
                f"No intent owns {position.side} {position.volume} {position.symbol} {position.id}, "
                f"opened {iso(position.opened_at)}, stop {position.sl_price or 'none'}; policy: {policy}"
            )
            if policy == "adopt":
                if position.id not in self._told:
                    self._told.add(position.id)
                    logger.info("Adopted: {}", text)
                continue
            await self._report_once(position.id, "error", "orphan_position", text)
            if (order := closing.belied(position, reader.orders())) is not None:
                was = f"position {position.id} fits the order of intent {order.intent_id}, which ended {order.status}"
                await self._halt(
                    reader, f"belied_order {position.id}", f"{was} {order.position_id or ''}".rstrip(), None
                )
            # Twice in a row: nothing is closed on the word of a single look.
            if policy == "close" and position.id in self._orphans:
                await self._close(position)
        self._orphans = frozenset(position.id for position in found)

    # ── plumbing ────────────────────────────────────────────────────────────

    async def _wait(self, reader: Reader, today: FirmDay) -> bool:
        """Wait for the next poll, in small steps: an order or a new day of the firm ends the flat cadence early."""
        polled_at, started_s = self._clock.now(), self._clock.monotonic()
        while view.firm_day(self._rules, self._clock.now()).day == today.day:
            left_s = self.interval_s(reader, today, polled_at) - (self._clock.monotonic() - started_s)
            if left_s <= 0:
                return False
            if await self._link.sleep(min(left_s, LOOK_AT_STORE_S)):
                return True
        return False

    async def _open_store(self) -> Reader | None:
        """Return a reader of the store as soon as there is one; None when asked to stop before."""
        while True:
            try:
                return Reader(self._db_path)
            except NoDatabase:
                again_s = 0.2
            except DatabaseRefused as error:
                logger.error("The decision store cannot be read: {}", error)
                again_s = 5.0
            if await self._link.sleep(again_s):
                return None

    def _sooner(self, seconds: float) -> None:
        """Want the next poll within so many seconds, whatever the cadence says."""
        self._again_s = seconds if self._again_s is None else min(self._again_s, seconds)

    async def _failed(self, error: BrokerError) -> None:
        if not self._failures:
            logger.warning("The broker cannot be polled: {}", error)
        self._sooner(FAILED_AGAIN_S * 2 ** min(self._failures, 16))
        self._failures += 1
        if isinstance(error, Unauthorised):
            await self._report_once("broker", "error", "broker_login", f"The broker does not accept the login: {error}")
        elif self._failures >= FAILURES_TOLD:
            await self._report_once("broker", "warning", "broker_unreachable", f"The broker cannot be polled: {error}")

    async def _count_requests(self, today: FirmDay) -> None:
        reads, writes = self._client.requests.take()
        before = self._uncounted.get(today.day, (0, 0))
        self._uncounted[today.day] = (before[0] + reads, before[1] + writes)
        for day, (day_reads, day_writes) in list(self._uncounted.items()):
            counted = day_reads + day_writes == 0
            if counted or await self._tell.tell(messages.CountRequests(day=day, reads=day_reads, writes=day_writes)):
                del self._uncounted[day]

    async def _report_once(
        self, key: str, level: ladder.Severity, event: str, text: str, intent_id: str | None = None
    ) -> None:
        if key in self._told:
            return
        logger.log(level.upper(), "{}", text)
        if await self._tell.tell(messages.Report(level=level, event=event, text=text, intent_id=intent_id)):
            self._told.add(key)


def _latch(key: str, until: str | None) -> str:
    """Return what a raised halt is remembered by: the daily one anew for each day."""
    return f"{key} {until or ''}"


def _skew() -> timedelta:
    return timedelta(seconds=view.CLOCK_SKEW_S)
