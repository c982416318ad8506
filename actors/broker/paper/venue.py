"""The paper broker without HTTP: its account on disk, its prices in time, its stops watched at every tick.

Run by the paper process; the routes call it. Everything is written to disk before it is answered: the account as
events in `account.jsonl`, every order received and placed in `ledger.jsonl`, the simulated time in `time.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from loguru import logger
from msgspec import structs

from actors.broker.paper import book, listing, pending, saying, sources
from actors.broker.paper.account_file import AccountFile
from actors.broker.paper.bars import Bar, Bars
from actors.broker.paper.ledger import Late, Ledger
from actors.broker.paper.sessions import Calendar
from actors.broker.paper.times import Times
from actors.broker.paper.values import (
    Book,
    Cancelled,
    Changed,
    Closed,
    Created,
    Edited,
    Event,
    Holding,
    Market,
    Opened,
    Order,
    PendingOrder,
    Reason,
    Rejected,
    Rolled,
)
from bus.clock import Clock
from config import settings
from config.load import ConfigError

BID_MAX = Decimal(1_000_000)
WAYPOINTS_MAX = 400  # turns of the prices that one tick plays; the rest is the next one's
LATE_MAX = 1_000
HOUR_MS = 3_600_000


class Venue:
    """One paper account and its market."""

    def __init__(self, paper: settings.Paper, symbols: Sequence[str], folder: Path, clock: Clock) -> None:
        """Read the account and go on with it.

        Raises:
            ConfigError: the files, the bars or the settings do not fit.
            OSError: the disk takes no more.
        """
        self.settings = paper
        self.folder = folder
        self.terms = {one.symbol: one for one in listing.listed(paper, symbols)}
        self.rules = listing.rules(paper, self.terms)
        self.calendar = Calendar(paper)
        self._hidden: dict[str, float] = {}  # position id -> monotonic time; tests only
        self._unedited: set[str] = set()  # ids of positions that take no stop; tests only
        self._clock = clock
        self._source = sources.make(paper, tuple(self.terms.values()))
        self._bars = Bars(tuple(self.terms.values()), self._source.fixings)
        self._account = AccountFile(folder / "account.jsonl", paper)
        self._check_symbols()
        self.ledger = Ledger(folder / "ledger.jsonl", clock)
        self.ledger.repair(self._account.recent, self._account.before)
        self._account.forget_recent()
        self._late = self.ledger.waiting()
        self.times = Times(folder / "time.json", clock, paper.speed, self._source)
        self._factors: tuple[int, dict[str, Decimal]] = (-1, {})  # of this hour of the calendar
        self._roll_at_ms = 0
        self._is_called = False
        self._lags = False
        self._ended: frozenset[str] = frozenset()
        self.market = self._market()
        if self.times.begins_anew and self.book.holdings:
            self._record(Rolled(self.market.calendar_ms, 0, {}))  # nights of another calendar are not counted in this
        self.tick()
        logger.info("{} positions are open, {} orders wait", len(self.book.holdings), len(self.book.orders))

    @property
    def book(self) -> Book:
        """The account as it is."""
        return self._account.book

    @property
    def failed(self) -> bool:
        """Whether the disk refused a line: the process must end, and be started again to repair the file."""
        return self._account.failed or self.ledger.failed

    def close(self) -> None:
        """Save the simulated time and close the files."""
        self.times.save()
        self._account.close()
        self.ledger.close()

    # ── time and prices ─────────────────────────────────────────────────────

    def tick(self) -> None:
        """Let time pass, take the new prices, close what they hit. Raises OSError when the disk is full."""
        self.times.pass_by()
        at_ms = self.times.at_ms
        turns = self._source.waypoints(at_ms, at_ms + self.times.due_ms, WAYPOINTS_MAX)
        for moment in turns:
            self.times.play(moment)
            self._renew_market()
        if len(turns) < WAYPOINTS_MAX:
            self._play_the_rest()
        elif not self._lags:
            self._lags = True
            logger.warning(
                "Plays the bars as fast as it can, which is slower than a speed of {:g}", self.settings.speed
            )
        self._renew_market()
        self._place_late_orders()
        self._forget_the_gone()
        self.times.save_now_and_then()
        self._put_aside_full_files()

    def set_price(self, symbol: str, bid: Decimal, *, hold: bool) -> None:
        """Move a pair to this bid, its currency's other pairs with it, and hold all prices or let them walk on.

        For tests.

        Raises:
            KeyError: unknown symbol.
            ValueError: the bid is no price.
        """
        if not bid.is_finite() or not 0 < bid < BID_MAX:
            raise ValueError(f"bid was {bid}; allowed above 0 and below {BID_MAX}")
        factor = self._spread_factors().get(symbol, Decimal(1))
        self._source.move(symbol, bid, self.times.at_ms, factor)
        self.times.held = hold
        self.times.save()
        self._renew_market()

    def bars(self, symbol: str, interval: str, from_ms: int, to_ms: int) -> tuple[Bar, ...]:
        """Return bid bars. Raises KeyError for an unknown symbol or interval."""
        return self._bars.between(symbol, interval, from_ms, to_ms)

    def today(self, symbol: str) -> Bar:
        """Return the running day's bid bar. Raises KeyError for an unknown symbol."""
        return self._bars.today(symbol)

    def trading_hours(self, symbol: str) -> list[dict[str, int]]:
        """Return the hours of the calendar's running week."""
        return self.calendar.trading_hours(symbol, self.market.calendar_ms)

    def now_ms(self) -> int:
        """Return the broker's time in epoch milliseconds. Never backwards."""
        return self.times.now_ms()

    # ── orders ──────────────────────────────────────────────────────────────

    def open_position(self, order: Order, receipt: int = 0) -> Opened | Rejected:
        """Decide on an order, write the outcome down, return it. Raises OSError: nothing was opened."""
        decided = book.open_position(self.book, self.rules, self._market_now(), order)
        if isinstance(decided, Rejected):
            self.ledger.rejected(receipt, decided)
            return decided
        decided = structs.replace(decided, receipt=receipt)
        self._record(decided)
        saying.opened(decided)
        return decided

    def edit_position(self, position_id: str, sl_price: Decimal, tp_price: Decimal) -> Edited | Rejected:
        """Change stop and target. Raises OSError: nothing was changed."""
        if position_id in self._unedited:
            return Rejected("INVALID_STOPS", "this position takes no stop")
        decided = book.edit_position(self.book, self.rules, self._market_now(), position_id, sl_price, tp_price)
        if isinstance(decided, Edited):
            self._record(decided)
        return decided

    def close_position(
        self, position_id: str, volume: Decimal | None = None, *, reason: Reason = "MANUAL"
    ) -> Closed | Rejected:
        """Close a position or a part of it at the market. Raises OSError: nothing was closed."""
        decided = book.close_position(self.book, self.rules, self._market_now(), position_id, volume, reason=reason)
        if isinstance(decided, Closed):
            self._record(decided)
            saying.closed(decided)
        return decided

    # ── orders that wait ────────────────────────────────────────────────────

    def create_pending(self, asked: PendingOrder, receipt: int = 0) -> Created | Rejected:
        """Take an order that waits for its price. Raises OSError: none waits."""
        decided = pending.create(self.book, self.rules, self._market_now(), asked, receipt)
        if isinstance(decided, Rejected):
            self.ledger.rejected(receipt, decided)
        else:
            self._record(decided)
        return decided

    def edit_pending(
        self, order_id: str, activation_price: Decimal, sl_price: Decimal, tp_price: Decimal
    ) -> Changed | Rejected:
        """Change price, stop and target of a waiting order. Raises OSError: nothing was changed."""
        market = self._market_now()
        decided = pending.edit(self.book, self.rules, market, order_id, activation_price, sl_price, tp_price)
        if isinstance(decided, Changed):
            self._record(decided)
        return decided

    def cancel_pending(self, order_id: str) -> Cancelled | Rejected:
        """End a waiting order. Raises OSError: it waits."""
        decided = pending.cancel(self.book, self.rules, self._market_now(), order_id)
        if isinstance(decided, Cancelled):
            self._record(decided)
        return decided

    # ── for tests ───────────────────────────────────────────────────────────

    def place_later(self, order: Order, receipt: int, seconds: float) -> None:
        """Carry an order out when so much time has passed, whatever happens to this process meanwhile."""
        if len(self._late) >= LATE_MAX:
            self.ledger.rejected(receipt, Rejected("TOO_MANY_LATE", f"{LATE_MAX} orders are late already"))
            return
        late = Late(receipt, self.now_ms() + int(1_000 * seconds), order)
        self.ledger.late(late)
        self._late.append(late)

    def is_under_way(self, key: str) -> bool:
        """Return whether an order with this key is still to be carried out."""
        return any(late.order.key == key for late in self._late)

    def close_all(self, reason: Reason) -> None:
        """Close every position at the market."""
        for held in self.book.holdings:
            self.close_position(held.id, reason=reason)

    def shown(self) -> list[Holding]:
        """Return the open positions that are not hidden."""
        return [held for held in self.book.holdings if not self.is_hidden(held.id)]

    def is_hidden(self, position_id: str) -> bool:
        """Return whether this position is hidden from reads for now."""
        return self._hidden.get(position_id, 0.0) > self._clock.monotonic()

    def hide(self, position_id: str, seconds: float) -> None:
        """Hide a position from reads for some seconds."""
        self._hidden[position_id] = self._clock.monotonic() + seconds

    def refuse_edits(self, position_id: str) -> None:
        """Reject every edit of this position from now on."""
        self._unedited.add(position_id)

    # ── inside ──────────────────────────────────────────────────────────────

    def _record(self, event: Event) -> None:
        self._account.record(event)
        self.ledger.event(event)

    def _play_the_rest(self) -> None:
        """Let what is due pass behind the last turn; a walk stands still while nothing is traded."""
        if self._source.stands_when_shut and len(self._shut()) == len(self.terms):
            self.times.skip()
        else:
            self.times.play_all()

    def _place_late_orders(self) -> None:
        now_ms = self.now_ms()
        for late in [one for one in self._late if one.due_ms <= now_ms]:
            self._late.remove(late)
            self.open_position(late.order, late.receipt)

    def _forget_the_gone(self) -> None:
        """Drop what tests asked for positions that are no more, or for a time that is over."""
        if self._hidden or self._unedited:
            now, there = self._clock.monotonic(), {held.id for held in self.book.holdings}
            self._hidden = {position_id: until for position_id, until in self._hidden.items() if until > now}
            self._unedited &= there

    def _put_aside_full_files(self) -> None:
        if not self.failed:  # else the ledger may lack an event that the account has
            self._account.put_aside_if_full()
            self.ledger.put_aside_if_full(self.settings.file_bytes_max, self.settings.file_parts_kept)

    def _renew_market(self) -> None:
        self.market = self._market()
        self._say_what_ended()
        self._bars.add(self.market.at_ms, self.market.prices)
        self._roll(self.market)
        self._settle()
        triggered = pending.trigger(self.book, self.rules, self.market)
        for event in triggered:
            self._record(event)
            saying.triggered(event)
        if triggered:
            self._settle()  # a gap can open a position beyond its stop
        self._watch_the_margin()

    def _settle(self) -> None:
        for event in book.settle(self.book, self.rules, self.market):
            self._record(event)
            saying.closed(event)

    def _roll(self, market: Market) -> None:
        """Book the swaps of the rollovers that have passed, for each position since it was last booked or opened."""
        now_ms = market.calendar_ms
        if now_ms < self._roll_at_ms:
            return
        nights = {
            held.id: count
            for held in self.book.holdings
            if (count := self.calendar.nights(held.rolled_ms or held.opened_ms, now_ms))
        }
        if nights:
            rolled = book.roll(self.book, self.rules, market, nights)
            self._record(rolled)
            swap = Decimal(sum(rolled.swap_cents.values())) / 100
            logger.info("Rolled {} positions over: {} nights, swap {:.2f}", len(nights), rolled.nights, swap)
        self._roll_at_ms = self.calendar.next_rollover_ms(now_ms)

    def _watch_the_margin(self) -> None:
        is_called = book.margin_call(self.book, self.rules, self.market) is not None
        if is_called and not self._is_called:
            logger.warning("Margin call: no order is taken until equity is above {}", self.rules.margin_call_level)
        self._is_called = is_called

    def _say_what_ended(self) -> None:
        ended = self._source.ended(self.times.at_ms)
        if new := sorted(ended - self._ended):
            logger.warning("The bars of {} are over: it is closed for good", ", ".join(new))
            if ended == self.terms.keys():
                logger.warning("All bars are over: the market is closed. Start again with more, or from an earlier day")
        self._ended = ended

    def _market(self) -> Market:
        quoted, worth = self._source.quoted(self.times.at_ms, self._spread_factors())
        shut = self._shut()
        return Market(
            at_ms=self.now_ms(), is_open=len(shut) < len(self.terms), prices=quoted, rates=worth,
            calendar_ms=self.times.calendar_ms, shut=shut,
        )  # fmt: skip

    def _market_now(self) -> Market:
        """Return the prices of the last tick at the time of now: an order is not older than its request."""
        at_ms, shut = self.now_ms(), self._shut()
        now = structs.replace(
            self.market, at_ms=at_ms, is_open=len(shut) < len(self.terms), calendar_ms=self.times.calendar_ms, shut=shut
        )
        self._roll(now)  # a close must not come in between a rollover and its tick
        return now

    def _shut(self) -> frozenset[str]:
        """Return the symbols that are not traded now: by their session, or for want of prices."""
        dead = {symbol for symbol in self.terms if not self._source.is_traded(symbol, self.times.at_ms)}
        return self.calendar.shut(self.terms.keys(), self.times.calendar_ms) | dead

    def _spread_factors(self) -> dict[str, Decimal]:
        hour = self.times.calendar_ms // HOUR_MS
        if self._factors[0] != hour:
            factors = {symbol: self.calendar.spread_factor(symbol, hour * HOUR_MS) for symbol in self.terms}
            self._factors = (hour, factors)
        return self._factors[1]

    def _check_symbols(self) -> None:
        there = {held.symbol for held in self.book.holdings} | {order.symbol for order in self.book.orders}
        unknown = sorted(there - self.terms.keys())
        if unknown:
            raise ConfigError(
                f"{self._account.path}: it holds positions in {', '.join(unknown)}, which symbols or "
                f"paper.symbol_suffix no longer name"
            )
