"""One look at the account after another: levels, halts, flattening, closed positions, orphans. Library of the monitor.

Never opens a position. What it sees it tells the store; what it must do at the broker, which is only closing, it does
in spite of errors and again with every poll. A broker that does not answer means "not known", never "no positions".
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from pathlib import Path

from loguru import logger

from actors.broker.account import Account
from actors.broker.errors import BrokerError, BudgetSpent, Transient, Unauthorised
from actors.broker.wire import Position
from actors.compliance import budget
from actors.compliance import day as days
from actors.compliance.budget import Pace
from actors.compliance.day import FirmDay
from actors.compliance.rulebook import RuleSet
from actors.desk import entering
from actors.desk.allowance import Allowance, Purpose
from actors.watch.flattening import Flattener
from actors.watch.halting import Halts
from actors.watch.limits import Limits
from actors.watch.order import Order
from actors.watch.ordered import OrderedCloses
from actors.watch.orphans import Orphans
from actors.watch.scene import Scene
from actors.watch.tell import Severity, Teller
from actors.watch.tracking import Tracker
from actors.watch.wishes import Wishes
from bus.clock import Clock
from bus.failpoints import reach
from bus.link import Link
from config import load
from config.settings import Settings
from store.queries import DatabaseRefused, NoDatabase, Reader

REQUESTS_PER_POLL = 2  # positions and balance; the history only when the balance is not explained
LOOK_AT_STORE_S = 1.0  # how soon an order or a halt is noticed that wants an earlier poll
FAILED_AGAIN_S = 1.0  # doubled with each failed poll, up to the cadence
FAILURES_TOLD = 3  # as many polls must fail before people are told
RETRY_AFTER_S_MAX = 60.0


class Watch:
    """The monitor's poll, and what it remembers between two of them. Nothing of that is needed after a restart."""

    def __init__(
        self, client: Account, link: Link, *, allowance: Allowance, settings: Settings, rules: RuleSet,
        clock: Clock, db_path: Path,
    ) -> None:  # fmt: skip
        self.polls = 0
        self.looked = asyncio.Event()  # once, after the first poll, whatever came of it
        self._entry: asyncio.Task[bool] | None = None
        self._is_confirmed = client.needs_login  # whose account it is: a login says so
        self._client = client
        self._link = link
        self._allowance = allowance
        self._settings = settings
        self._rules = rules
        self._clock = clock
        self._db_path = db_path
        self._tell = Teller(link)
        self._wishes = Wishes()
        scene = Scene(client=client, tell=self._tell, settings=settings, rules=rules, clock=clock, wishes=self._wishes)
        self._halts = Halts(scene)
        self._limits = Limits(scene, self._halts)
        self._tracker = Tracker(scene, self._halts)
        self._orphans = Orphans(scene, self._halts)
        self._flattener = Flattener(scene)
        self._closes = OrderedCloses(scene)
        self._ordered: frozenset[str] = frozenset()  # closes that were ordered when the last poll began
        self._failures = 0
        self._positions: tuple[Position, ...] | None = None  # None: not known
        self._advanced = 0  # requests made on credit while the store was away, roughly

    async def run(self, entry: asyncio.Task[bool]) -> None:
        """Poll until the process is asked to stop. The first poll waits for `entry`, the login that is under way."""
        self._entry = entry
        try:
            reader = await self._open_store()
            if reader is None:
                return
            with contextlib.closing(reader):
                entering.refuse_foreign(reader, self._settings.broker)
                while not self._link.stopping.is_set():
                    await self.round(reader)
                    self.looked.set()
                    if await self._wait(reader):
                        return
        finally:
            await entering.leave(entry)

    async def round(self, reader: Reader) -> None:
        """Poll once. A broker that fails is told once and polled again within the cadence."""
        self._wishes.forget()
        self._ordered = _closings(reader)
        try:
            await self._poll(reader)
        except BrokerError as error:
            await self._failed(reader, error)
        else:
            if self._failures:
                logger.info("The broker answers again, after {} failed polls", self._failures)
            self._failures = 0
            self._tell.forget("broker")
            self.polls += 1

    def interval_s(self, reader: Reader, polled_at: datetime) -> float:
        """Return how long to wait after a poll. Source: `budget.poll_interval_s` and blueprint section 6.2.

        By every reading of the reset there must be enough: the longest interval counts.
        """
        monitor = self._settings.monitor
        pace = Pace(flat_s=monitor.equity_poll_flat_s, base_s=monitor.equity_poll_s, near_s=monitor.equity_poll_near_s)
        is_watching = not self._is_flat(reader)
        cadence_s = max(
            budget.poll_interval_s(
                pace,
                is_watching=is_watching,
                urgency=self._limits.urgency,
                seconds_to_reset=(today.ends_at - polled_at).total_seconds(),
                requests_per_poll=REQUESTS_PER_POLL,
                left_requests=budget.left(self._rules, used),
                kept_for_trades=monitor.requests_kept_for_trades,
            )
            for today, used in self._used(reader, polled_at)
        )
        return self._wishes.soonest_s(cadence_s)

    # ── one poll ────────────────────────────────────────────────────────────

    async def _poll(self, reader: Reader) -> None:
        await self._halts.settle(reader)
        await self._rules_are_current(reader)
        await self._limits.flat_by(reader)
        reasons = self._halts.flattening(reader)
        reads = REQUESTS_PER_POLL + (not self._is_confirmed)
        await self._pay(reader, reads, 0, is_urgent=self._is_closing(reader))
        entry, self._entry = self._entry, None
        if entry is not None:
            await entry  # one that failed is a poll that failed: it is not tried twice in a row
        if not self._is_confirmed:
            await entering.confirm(self._client)  # before anything is judged, or closed
            self._is_confirmed = True
        reach("monitor.before_poll")  # reading positions and balance
        positions = self._positions = await self._client.open_positions()
        if reasons:
            positions = await self._flatten(reader, positions, reasons)
        else:
            positions = await self._close_ordered(reader, positions)
        balance = await self._client.balance()
        reach("monitor.after_poll")
        judged = await self._limits.judge(reader, positions, balance)
        now = self._halts.flattening(reader)
        if not now:
            self._flattener.rest()
        elif now != reasons:
            positions = await self._flatten(reader, positions, now)
        if judged is not None:
            await self._limits.tell(judged)
        await self._tracker.step(reader, positions)
        await self._orphans.step(reader, positions)

    async def _flatten(
        self, reader: Reader, positions: tuple[Position, ...], reasons: list[str]
    ) -> tuple[Position, ...]:
        """Close everything and look again; return what is still open."""
        now = self._clock.now()
        if positions:
            await self._pay(reader, REQUESTS_PER_POLL, len(positions), is_urgent=True)
        left_s, left_requests = self._left(reader, now)
        self._positions = await self._flattener.step(
            reader, positions, reasons, left_s=left_s, left_requests=left_requests
        )
        return self._positions

    async def _close_ordered(self, reader: Reader, positions: tuple[Position, ...]) -> tuple[Position, ...]:
        """Close single positions that the operator ordered closed; return what is still open."""
        due = await self._closes.due(reader, positions)
        if not due:
            return positions
        await self._pay(reader, REQUESTS_PER_POLL, len(due), is_urgent=True)
        left_s, left_requests = self._left(reader, self._clock.now())
        self._positions = await self._closes.step(due, left_s=left_s, left_requests=left_requests)
        return self._positions

    async def _rules_are_current(self, reader: Reader) -> None:
        """Halt when the file of the rule set is not the one that was loaded: nobody knows which rules hold."""
        name = self._settings.compliance.rules
        try:
            found = load.rules_file(name).fingerprint
        except load.ConfigError as error:
            found, why = "", str(error)
        else:
            why = f"{name} was changed while we run; start the pipeline anew to load it"
        if self._rules.fingerprint and found != self._rules.fingerprint:
            await self._halts.apply(reader, Order(key="rules", text=why, until=None))

    async def _pay(self, reader: Reader, reads: int, writes: int, *, is_urgent: bool) -> None:
        """Have the requests in hand for what comes next.

        A store that does not answer must not blind us while something is open: then we go on and it counts later.
        """
        purpose: Purpose = "flatten" if is_urgent else "work"
        try:
            await self._allowance.ensure(reads, writes, purpose)
            self._advanced = 0
        except BudgetSpent as error:
            if error.is_refused or self._is_flat(reader):
                raise
            await self._allowance.ensure(reads, writes, "flatten")
            self._advanced += reads + writes

    def _is_flat(self, reader: Reader) -> bool:
        """Return whether nothing is open as far as we know, and nothing can appear."""
        return self._positions == () and not reader.active_positions() and not reader.unresolved_orders()

    # ── plumbing ────────────────────────────────────────────────────────────

    def _is_closing(self, reader: Reader) -> bool:
        """Return whether positions are to be closed and were not seen gone."""
        is_flattening = bool(self._halts.flattening(reader)) and not self._flattener.is_done
        return is_flattening or bool(self._closes.wanted(reader))

    def _left(self, reader: Reader, now: datetime) -> tuple[float, int]:
        """Return the seconds until the requests' reset, and the requests until then, the reserve too."""
        today, used = max(self._used(reader, now), key=lambda one: one[1])
        return (today.ends_at - now).total_seconds(), self._rules.requests.per_day - used

    def _used(self, reader: Reader, now: datetime) -> list[tuple[FirmDay, int]]:
        """Return each reading's day and its requests: what was granted to anybody, less what we still have in hand."""
        left = self._allowance.left
        first, *others = days.firm_days(self._rules, now)
        keys = [(first, first.day), *((day, f"{day.day} {day.reset}") for day in others)]
        in_hand = left.reads + left.writes
        return [(day, max(0, sum(reader.requests(key)) - in_hand) + self._advanced) for day, key in keys]

    async def _wait(self, reader: Reader) -> bool:
        """Wait for the next poll, in small steps: an order, a halt that flattens or a new day ends it early."""
        polled_at, started_s = self._clock.now(), self._clock.monotonic()
        polled_days, reasons = days.firm_days(self._rules, polled_at), self._halts.flattening(reader)
        while days.firm_days(self._rules, self._clock.now()) == polled_days:
            left_s = self.interval_s(reader, polled_at) - (self._clock.monotonic() - started_s)
            is_ordered = set(self._halts.flattening(reader)) - set(reasons) or _closings(reader) - self._ordered
            if left_s <= 0 or is_ordered:
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

    async def _failed(self, reader: Reader, error: BrokerError) -> None:
        if not self._failures:
            logger.warning("The broker cannot be polled: {}", error)
        is_closing = self._is_closing(reader)
        again_s = FAILED_AGAIN_S * 2.0 ** min(self._failures, 16)
        if is_closing:
            left_s, left_requests = self._left(reader, self._clock.now())
            again_s = budget.close_again_s(
                self._failures, seconds_to_reset=left_s, requests_per_try=1, left_requests=left_requests
            )
        elif isinstance(error, Transient) and error.retry_after_s:
            again_s = max(again_s, min(error.retry_after_s, RETRY_AFTER_S_MAX))
        self._failures += 1
        is_refused = isinstance(error, BudgetSpent) and error.is_refused
        if is_closing or not is_refused:
            self._wishes.look_within(again_s, who="failed poll")
        if is_refused:
            level: Severity = "warning" if self._is_flat(reader) else "error"
            await self._tell.once("broker_requests", level, "requests_spent", f"The account is not watched: {error}")
        elif isinstance(error, Unauthorised):
            await self._tell.once(
                "broker_login", "error", "broker_login", f"The broker does not accept the login: {error}"
            )
        elif self._failures >= FAILURES_TOLD:
            text = f"The broker cannot be polled: {error}"
            await self._tell.once("broker_away", "warning", "broker_unreachable", text)


def _closings(reader: Reader) -> frozenset[str]:
    return frozenset(one.intent_id for one in reader.closings())
