"""How far each loss limit is used up, by every reading of the day, and what follows from that. Library of the monitor.

Reads the broker's history only when the balance is not explained by what is known, and after a start once a first look
has been judged by the store's days: a limit that is passed must not wait for it. Where the account's truth is in doubt
it halts and closes only by what is certain: closing by wrong figures would be a wrong trade, see `provisional`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from loguru import logger
from msgspec import Struct

from actors.broker.errors import BrokerError
from actors.broker.wire import Balance, ClosedPosition, Position
from actors.compliance import best_day, flat
from actors.compliance import day as firm_days
from actors.compliance.money import amount
from actors.desk import days, lots
from actors.desk.days import Days
from actors.watch import ladder, provisional
from actors.watch.halting import Halts
from actors.watch.ladder import Standing
from actors.watch.order import Order
from actors.watch.provisional import Glance, Provisional
from actors.watch.scene import Scene
from bus import messages
from bus.clock import iso, parse
from bus.failpoints import reach
from bus.records import AccountDay, EquitySample
from store.queries import Reader

ROW_LAG_S = 120.0  # how long a balance may be unexplained: a row of the history may still be missing
READ_AGAIN_S, READ_AGAIN_S_MAX = 15.0, 300.0  # while something is not known; doubled
MOVED_AGAIN_S = 1.0  # when what closed while we looked may have been counted twice, or not at all
MARKS_TOLD_S = 60.0  # how long the store may not know that the account was followed


class History(Struct, frozen=True, kw_only=True):
    """Rows of the broker's history that were read once, and hold until the balance says otherwise."""

    rows: tuple[ClosedPosition, ...]
    since: datetime
    read_at: datetime  # by the clock, when the reading began
    read_at_s: float  # the same, monotonic
    balance_cents: int
    is_settled: bool  # the balance was the same before and after


class Judged(Struct, frozen=True, kw_only=True):
    """What one reading of the account means."""

    balance: Balance
    positions: int
    days: Days
    provisional: tuple[AccountDay, ...]  # of the days that are not known
    standings: tuple[Standing, ...]


class Limits:
    """Remembers the levels that were told, the history, and since when a balance is unexplained."""

    def __init__(self, scene: Scene, halts: Halts) -> None:
        self._scene = scene
        self._halts = halts
        self._ladder = ladder.Ladder()
        self._provisional = Provisional(scene.rules, scene.account_id)
        self._history: History | None = None
        self._is_first = True
        self._reads_in_vain = 0
        self._unexplained_since_s: float | None = None
        self._balance_cents: int | None = None  # by the look before
        self._marks_told_s = float("-inf")
        self.urgency = 0.0  # how much faster than usual the next look should come, 0 to 1

    async def flat_by(self, reader: Reader) -> None:
        """Have everything closed from some minutes before no position may be open until the market reopens."""
        now, lead = self._scene.clock.now(), timedelta(seconds=self._scene.settings.monitor.flat_close_s)
        window = flat.window_at(self._scene.rules, now)
        if window is None:
            window = flat.next_window(self._scene.rules, now)
            if window is None:
                return
            if (closing_in_s := (window.starts_at - lead - now).total_seconds()) > 0:
                self._scene.wishes.look_within(closing_in_s, who="flat time")
                return
        text = f"no position may be open from {iso(window.starts_at)} to {iso(window.ends_at)}"
        await self._halts.apply(reader, Order(key="flat_by", text=text, until=window.ends_at, flatten=True))

    async def judge(self, reader: Reader, positions: tuple[Position, ...], balance: Balance) -> Judged | None:
        """Raise the halts that one reading of the account calls for; None: it cannot be our account's.

        What only has to be told comes later, see `tell`: closing must not wait for it. Raises BrokerError.
        """
        self.urgency = 0.0
        if doubt := ladder.doubt_of(self._scene.rules, balance):
            await self._halts.apply(reader, Order(key="account", text=doubt, until=None))
            return None
        looked_at = self._scene.clock.now()  # the history, which is read next, may take seconds
        self._remember(reader, positions, balance, looked_at)
        found = await self._days(reader, positions, balance)
        by = self._provisional.days(found, self._scene.clock.now())
        standings = ladder.standings(
            self._scene.rules,
            days=(*(view.day for view in found.known), *by),
            marks=self._provisional.marks(found, reader.account_marks(self._scene.account_id)),
            balance_cents=balance.balance_cents,
            equity_cents=balance.equity_cents,
        )
        for order in ladder.orders_of(self._scene.rules, standings):
            await self._halts.apply(reader, order)
        await self._best_day(reader, positions, balance, found)
        self._balance_cents = balance.balance_cents
        self.urgency = ladder.urgency(standings, positions) if positions else 0.0
        return Judged(balance=balance, positions=len(positions), days=found, provisional=by, standings=standings)

    async def tell(self, judged: Judged) -> None:
        """Tell changed levels, new days and risen marks, and keep the sample."""
        if judged.days.record is None:
            await self._record(judged.days)
        if judged.days.unknown:
            by = provisional.text_of(judged.provisional)
            text = f"What the day started with is not known: {judged.days.unknown}{by}"
            key = f"day {self._today(self._scene.clock.now())}, {'provisional' if by else 'not watched'}"
            await self._scene.tell.once(key, "error", "day_unknown", text)
        counted = (*(view.day for view in judged.days.known), *judged.provisional)
        for change in self._ladder.step(judged.standings, counted):
            await self._scene.tell.report(change.severity, change.event, change.text, data=change.data)
        await self._sample(judged)

    # ── the days and marks that limits are counted from ─────────────────────

    def _remember(self, reader: Reader, positions: tuple[Position, ...], balance: Balance, at: datetime) -> None:
        """Remember the look, for the case that a reset since the last one leaves a day that is not known."""
        if not self._provisional.has_looked:
            self._provisional.begin(reader.last_equity(), days.kept(reader, self._scene.account_id))
        glance = Glance(
            at=at, balance_cents=balance.balance_cents, equity_cents=balance.equity_cents, positions=len(positions)
        )
        self._provisional.look(glance)

    async def _days(self, reader: Reader, positions: tuple[Position, ...], balance: Balance) -> Days:
        """Return what the days started with and the marks; rebuild and record what the store does not have.

        A history that cannot be read leaves what the store knows: levels must not wait for it.
        """
        kept = days.kept(reader, self._scene.account_id)
        now = self._scene.clock.now()
        since = days.history_since(self._scene.rules, now=now, kept=kept)
        is_first, self._is_first = self._is_first, False
        if is_first and not (found := self._assess(reader, positions, balance, _unread(since))).unknown:
            # The store knows every start: what the history adds comes with the next look.
            self._scene.wishes.look_at_once(who="history")
            return found
        if self._history is None or self._history.since > since:
            self._history = await self._read(since, balance)
        found = self._assess(reader, positions, balance, self._history)
        is_known = found.unexplained_cents == 0 and found.record is None and not found.unknown
        if not is_known and self._may_read_again(balance):
            self._history = await self._read(since, balance)
            found = self._assess(reader, positions, balance, self._history)
        if found.unexplained_cents == 0 and not found.unknown:
            self._reads_in_vain = 0
        else:
            self._scene.wishes.look_within(self._wait_s(), who="history")
        if found.record is not None and await self._record(found):
            found = self._assess(reader, positions, balance, self._history)
        await self._doubtful_balance(reader, balance, found.unexplained_cents)
        return found

    def _may_read_again(self, balance: Balance) -> bool:
        """Return whether the history is worth another look: the balance moved, or some time has passed."""
        assert self._history is not None
        if balance.balance_cents != self._history.balance_cents or not self._history.is_settled:
            self._reads_in_vain = 0
            return True
        if self._scene.clock.monotonic() - self._history.read_at_s < self._wait_s():
            return False
        self._reads_in_vain = min(self._reads_in_vain + 1, 16)
        return True

    def _wait_s(self) -> float:
        return min(READ_AGAIN_S * 2.0**self._reads_in_vain, READ_AGAIN_S_MAX)

    async def _read(self, since: datetime, balance: Balance) -> History:
        read_at, read_at_s = self._scene.clock.now(), self._scene.clock.monotonic()
        try:
            rows = await self._scene.client.closed_positions(since, days.history_until(since, read_at))
            # A close between balance and history would falsify what is rebuilt from both.
            again = await self._scene.client.balance()
        except BrokerError as error:
            logger.warning("The history cannot be read; going by what is known: {}", error)
            return _unread(since, read_at_s)
        return History(
            rows=rows,
            since=since,
            read_at=read_at,
            read_at_s=read_at_s,
            balance_cents=balance.balance_cents,
            is_settled=again.balance_cents == balance.balance_cents,
        )

    def _assess(self, reader: Reader, positions: tuple[Position, ...], balance: Balance, history: History) -> Days:
        shown = {position.id for position in positions}
        missing = [intent for intent in reader.active_positions() if intent.position_id not in shown]
        return days.assess(
            self._scene.rules,
            kept=days.kept(reader, self._scene.account_id),
            now=self._scene.clock.now(),
            balance_cents=balance.balance_cents,
            equity_cents=balance.equity_cents,
            positions=positions,
            closed=history.rows,
            since=history.since,
            until=history.read_at,
            is_settled=history.is_settled,
            is_complete=len(lots.ended(reader, missing, history.rows)) == len(missing),
        )

    async def _record(self, found: Days) -> bool:
        """Tell the store new days at once, risen marks as well, and unchanged ones once a minute."""
        now_s = self._scene.clock.monotonic()
        if found.record is not None:
            reach("monitor.before_start_day")  # recording what the day started with
            is_told = await self._scene.tell.tell(found.record)
            if is_told:
                self._marks_told_s = now_s
                start_cents = found.record.day.start_balance_cents
                logger.info(
                    "Day {} ({}) started with {}", found.record.day.day, found.record.day.reset, amount(start_cents)
                )
            reach("monitor.after_start_day")
            return is_told
        is_due = now_s - self._marks_told_s >= MARKS_TOLD_S
        marks = found.raised or (messages.RaiseMarks(marks=found.marks) if is_due and found.marks else None)
        if marks is not None and not found.unknown:
            reach("monitor.before_raise_marks")  # recording how high the account has been
            if await self._scene.tell.tell(marks):
                self._marks_told_s = now_s
            reach("monitor.after_raise_marks")
        return False

    async def _doubtful_balance(self, reader: Reader, balance: Balance, unexplained_cents: int | None) -> None:
        """Halt when the balance stays unexplained for longer than a row of the history can lag."""
        now_s = self._scene.clock.monotonic()
        if not unexplained_cents:
            self._unexplained_since_s = None
            return
        if self._unexplained_since_s is None:
            self._unexplained_since_s = now_s
        if now_s - self._unexplained_since_s >= ROW_LAG_S:
            text = (
                f"the balance {amount(balance.balance_cents)} differs by {amount(unexplained_cents)} from what the "
                "day's start and the history make of it: a deposit, a withdrawal, or rows that are missing"
            )
            await self._halts.apply(reader, Order(key="account", text=text, until=None))

    # ── what follows ────────────────────────────────────────────────────────

    async def _best_day(self, reader: Reader, positions: tuple[Position, ...], balance: Balance, found: Days) -> None:
        """Halt, and close everything, when a day's profit reaches the levels of a cap.

        What is closed between the look at the positions and that at the balance is among what is realised, and floats
        still: it counts twice, a profit or a loss. Equity and balance are of one moment, so no more floats than lies
        between them; where a loss counted twice may hide a level, another look follows soon.
        Other scopes are shares that only matter when a target is reached or a payout asked for: closing cures nothing.
        """
        rules = self._scene.rules
        if rules.best_day.scope != "cap" or found.unexplained_cents != 0:
            return  # a deposit looks like profit
        by_positions_cents = sum(position.net_profit_cents for position in positions)
        by_equity_cents = balance.equity_cents - balance.balance_cents
        has_moved = balance.balance_cents != self._balance_cents
        for view in found.known:
            profit_cents = view.realised_cents + min(by_positions_cents, by_equity_cents)
            highest_cents = view.realised_cents + max(by_positions_cents, by_equity_cents)
            if has_moved and highest_cents >= best_day.stop_cents(rules):
                self._scene.wishes.look_within(MOVED_AGAIN_S, who="best day")
            if profit_cents >= best_day.stop_cents(rules):
                order = Order(
                    key="best_day",
                    text=f"profit of the day {amount(profit_cents)}, cap {amount(rules.best_day_cap_cents())}",
                    until=parse(view.day.ends_at),
                    flatten=profit_cents >= best_day.flatten_cents(rules) and bool(positions),
                )
                await self._halts.apply(reader, order)

    async def _sample(self, judged: Judged) -> None:
        if judged.days.unknown or not judged.standings:
            return  # a day's loss that is not known is not zero
        balance, standings = judged.balance, judged.standings
        daily = [standing.loss_cents for standing in standings if standing.kind == "daily"]
        now = self._scene.clock.now()
        sample = EquitySample(
            at=iso(now),
            day=self._today(now),
            balance_cents=balance.balance_cents,
            equity_cents=balance.equity_cents,
            margin_cents=balance.margin_cents,
            positions=judged.positions,
            daily_loss_cents=max(daily, default=0),
            max_loss_cents=max(standing.loss_cents for standing in standings if standing.kind == "maximum"),
            level=max(standing.level for standing in standings).label,
        )
        await self._scene.tell.tell(messages.SampleEquity(sample=sample))

    def _today(self, now: datetime) -> str:
        return firm_days.firm_days(self._scene.rules, now)[0].day


def _unread(since: datetime, read_at_s: float = 0.0) -> History:
    """Return a history that says nothing: what is assessed with it is what the store knows."""
    return History(rows=(), since=since, read_at=since, read_at_s=read_at_s, balance_cents=0, is_settled=False)
