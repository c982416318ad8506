"""The paper broker without HTTP: its account on disk, its prices in time, its stops watched at every tick.

Run by the paper process; the routes call it. Everything is written to disk before it is answered: the account as
events in `account.jsonl`, every order received and placed in `ledger.jsonl`, the simulated time in `time.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import msgspec
from loguru import logger
from msgspec import Struct, structs

from actors.broker.paper import book, journal, prices, sessions
from actors.broker.paper.bars import Bar, Bars
from actors.broker.paper.book import (
    Book,
    Closed,
    Edited,
    Event,
    Holding,
    Market,
    Opened,
    Order,
    Reason,
    Rejected,
    Rules,
    Terms,
)
from actors.broker.paper.ledger import Late, Ledger
from bus import failpoints
from bus.clock import Clock
from config import settings
from config.load import ConfigError

HISTORY_DAYS = 1_500
SAVE_TIME_EVERY_MS = 5_000
STOPS_LEVEL_POINTS = 10
BID_MAX = Decimal(1_000_000)


class Began(Struct, frozen=True, tag=True):
    """The first line of an account."""

    balance_cents: int
    currency: str


class SimulatedTime(Struct, frozen=True):
    """How far the prices had come at a wall time; with `held` they stand still."""

    simulated_ms: int
    wall_ms: int
    held: bool
    factors: dict[str, Decimal]


class Venue:
    """One paper account and its market."""

    def __init__(self, paper: settings.Paper, symbols: Sequence[str], folder: Path, clock: Clock) -> None:
        self.settings = paper
        self.folder = folder
        self.terms = {one.symbol: one for one in _listed(paper, symbols)}
        self.rules = Rules(terms=self.terms, commission_per_lot=Decimal(str(paper.commission_per_lot)))
        self._hidden: dict[str, float] = {}  # position id -> monotonic time; tests only
        self._unedited: set[str] = set()  # ids of positions that take no stop; tests only
        self._clock = clock
        newest = prices.read_fixings(1)[0]
        self._simulator = prices.Simulator(
            tuple(self.terms.values()),
            newest,
            seed=paper.seed,
            spread_pips=Decimal(str(paper.spread_pips)),
            account=paper.currency,
        )
        self._bars = Bars(tuple(self.terms.values()), lambda: prices.read_fixings(HISTORY_DAYS))
        self._account: journal.Journal[Began | Event] = journal.Journal(folder / "account.jsonl", Began | Event)
        self.ledger = Ledger(folder / "ledger.jsonl", clock)
        events = self._events()
        self.book = self._replayed(events)
        self.ledger.repair(one for one in events if not isinstance(one, Began))
        self._late = self.ledger.waiting()
        self._time_path = folder / "time.json"
        self._simulated_ms, self._held = 0, False
        self._wall_ms = self._now_ms()
        self._monotonic = clock.monotonic()
        self._saved_ms = 0
        self._resume_time()
        self.market = self._market()
        self.tick()
        logger.info(
            "Simulates the prices of {} pairs from the ECB rates of {} (seed {}, speed {}); {} positions are open",
            len(self.terms), newest.day, paper.seed, paper.speed, len(self.book.holdings),
        )  # fmt: skip

    @property
    def failed(self) -> bool:
        """Whether the disk refused a line: the process must end, and be started again to repair the file."""
        return self._account.failed or self.ledger.failed

    def close(self) -> None:
        """Save the simulated time and close the files."""
        self._save_time()
        self._account.close()
        self.ledger.close()

    # ── time and prices ─────────────────────────────────────────────────────

    def tick(self) -> None:
        """Let time pass, take the new prices, close what they hit. Raises OSError when the disk is full."""
        monotonic = self._clock.monotonic()
        elapsed_s = max(0.0, monotonic - self._monotonic)
        self._monotonic = monotonic
        self.now_ms()
        if not self._held and self._is_open():
            self._simulated_ms += int(elapsed_s * 1_000 * self.settings.speed)
        self._renew_market()
        self._place_late_orders()
        if self._wall_ms - self._saved_ms >= SAVE_TIME_EVERY_MS:
            self._save_time()

    def set_price(self, symbol: str, bid: Decimal, *, hold: bool) -> None:
        """Move a pair to this bid, its currency's other pairs with it, and hold all prices or let them walk on.

        For tests.

        Raises:
            KeyError: unknown symbol.
            ValueError: the bid is no price.
        """
        if not bid.is_finite() or not 0 < bid < BID_MAX:
            raise ValueError(f"bid was {bid}; allowed above 0 and below {BID_MAX}")
        self._simulator.move(symbol, bid, self._second())
        self._held = hold
        self._save_time()
        self._renew_market()

    def bars(self, symbol: str, interval: str, from_ms: int, to_ms: int) -> tuple[Bar, ...]:
        """Return bid bars. Raises KeyError for an unknown symbol or interval."""
        return self._bars.between(symbol, interval, from_ms, to_ms)

    def today(self, symbol: str) -> Bar:
        """Return the running day's bid bar. Raises KeyError for an unknown symbol."""
        return self._bars.today(symbol)

    # ── orders ──────────────────────────────────────────────────────────────

    def open_position(self, order: Order, receipt: int = 0) -> Opened | Rejected:
        """Decide on an order, write the outcome down, return it. Raises OSError: nothing was opened."""
        decided = book.open_position(self.book, self.rules, self._market_now(), order)
        if isinstance(decided, Rejected):
            self.ledger.rejected(receipt, decided)
            return decided
        decided = structs.replace(decided, receipt=receipt)
        self._record(decided)
        held = decided.holding
        logger.info(
            "Opened {} {} {} at {} (simulated) as position {}",
            held.side, held.volume, held.symbol, held.open_price, held.id,
        )  # fmt: skip
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
            _log_closed(decided)
        return decided

    # ── for tests ───────────────────────────────────────────────────────────

    def place_later(self, order: Order, receipt: int, seconds: float) -> None:
        """Carry an order out when so much time has passed, whatever happens to this process meanwhile."""
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
        # On disk first: what was answered must survive a kill.
        failpoints.reach("paper.before_record")  # an event on disk, then in memory
        self._account.append(event)
        try:
            failpoints.reach("paper.after_record")
        except failpoints.FailpointError:  # on disk and not in memory: the next one would get the same number
            self._account.failed = True
            raise
        self.book = book.apply(self.book, event)
        self.ledger.event(event)

    def _place_late_orders(self) -> None:
        due = [one for one in self._late if one.due_ms <= self._wall_ms]
        for late in due:
            self._late.remove(late)
            self.open_position(late.order, late.receipt)

    def _renew_market(self) -> None:
        self.market = self._market()
        self._bars.add(self.market.at_ms, self.market.prices)
        for event in book.settle(self.book, self.rules, self.market):
            self._record(event)
            _log_closed(event)

    def _market(self) -> Market:
        worth = self._simulator.worth(self._second())
        return Market(at_ms=self._wall_ms, is_open=self._is_open(), prices=self._simulator.prices(worth), rates=worth)

    def _market_now(self) -> Market:
        """Return the prices of the last tick at the time of now: an order is not older than its request."""
        return structs.replace(self.market, at_ms=self.now_ms(), is_open=self._is_open())

    def now_ms(self) -> int:
        """Return the broker's time in epoch milliseconds. Never backwards."""
        self._wall_ms = max(self._wall_ms, self._now_ms())
        return self._wall_ms

    def _second(self) -> int:
        # At the end of the walk, 35,000 years at speed 1, prices stand still.
        return min(self._simulated_ms // 1_000, prices.HORIZON_S - 1)

    def _is_open(self) -> bool:
        return sessions.is_open(self.settings.sessions, self._clock.now())

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1_000)

    def _events(self) -> list[Began | Event]:
        lines = self._account.read()
        if not lines:
            lines = [Began(100 * self.settings.initial_balance, self.settings.currency)]
            self._account.append(*lines)
        return lines

    def _replayed(self, lines: Sequence[Began | Event]) -> Book:
        began, *events = lines
        if not isinstance(began, Began) or began.currency != self.settings.currency:
            raise ConfigError(
                f"{self._account.path}: it is no account in {self.settings.currency}; set paper.currency back, "
                f"or move the folder {self._account.path.parent} away to start afresh"
            )
        kept = Book(balance_cents=began.balance_cents)
        for number, event in enumerate(events, start=2):
            try:
                kept = book.apply(kept, event)  # type: ignore[arg-type]  # a second Began fails below
            except (KeyError, AttributeError) as error:
                raise ConfigError(f"{self._account.path}: line {number} does not fit those before it") from error
        self._check_symbols(kept)
        return kept

    def _check_symbols(self, kept: Book) -> None:
        unknown = sorted({held.symbol for held in kept.holdings} - self.terms.keys())
        if unknown:
            raise ConfigError(
                f"{self._account.path}: it holds positions in {', '.join(unknown)}, which symbols or "
                f"paper.symbol_suffix no longer name"
            )

    def _resume_time(self) -> None:
        """Go on where time stands: what passed while the process was down has passed for the prices, too."""
        if not self._time_path.exists():
            return
        try:
            saved = msgspec.json.decode(self._time_path.read_bytes(), type=SimulatedTime)
        except msgspec.DecodeError as error:
            raise ConfigError(f"{self._time_path}: unreadable ({error}); move it away") from error
        self._held = saved.held
        self._simulator.factors.update(saved.factors)
        away_ms = max(0, self._wall_ms - saved.wall_ms)
        self._wall_ms = max(self._wall_ms, saved.wall_ms)
        walked_ms = 0 if saved.held or not self._is_open() else int(away_ms * self.settings.speed)
        self._simulated_ms = saved.simulated_ms + walked_ms

    def _save_time(self) -> None:
        saved = SimulatedTime(self._simulated_ms, self._wall_ms, self._held, self._simulator.factors)
        journal.replace(self._time_path, msgspec.json.encode(saved))
        self._saved_ms = self._wall_ms


def _log_closed(event: Closed) -> None:
    done = event.operation
    logger.info(
        "Closed {} {} {} at {} (simulated), position {}: {}, net {:.2f}",
        done.side, done.volume, done.symbol, done.close_price, done.id, done.reason,
        Decimal(done.net_profit_cents) / 100,
    )  # fmt: skip


def _listed(paper: settings.Paper, symbols: Sequence[str]) -> list[Terms]:
    """Return the terms of all pairs: FX contracts of 100,000, five decimals, three when quoted in JPY."""
    return [
        Terms(
            symbol=symbol + paper.symbol_suffix,
            base_currency=symbol[:3],
            quote_currency=symbol[3:],
            price_precision=3 if symbol[3:] == "JPY" else 5,
            volume_min=Decimal("0.01"),
            volume_max=Decimal(50),
            volume_step=Decimal("0.01"),
            contract_size=Decimal(100_000),
            leverage=paper.leverage,
            stops_level=STOPS_LEVEL_POINTS,
        )
        for symbol in symbols
    ]
