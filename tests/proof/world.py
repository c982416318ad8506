"""A market and a broker of our own: prices in whole points, volumes in hundredths of a lot, money in whole cents.

Everything is against the account: results are rounded down, conversions take the worse side, fills use the allowance.
Imports nothing of `actors`. A price moves continuously; a stop it crosses is filled up to the allowance beyond itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Literal

from tests.proof.firm import Firm

CONTRACT = 100_000
PRICES = {
    "EURUSD": 110_000, "GBPUSD": 127_000, "USDJPY": 150_000, "USDCHF": 88_000, "EURGBP": 86_600, "EURJPY": 165_000,
}  # fmt: skip
MAJORS = ("EURUSD", "GBPUSD", "USDJPY", "USDCHF")
CROSSES = ("EURGBP", "EURJPY")


@dataclass
class Pair:
    """One symbol's price: the bid in points, the ask `spread` above it. Ten points are a pip."""

    symbol: str
    bid: int
    spread: int

    @property
    def digits(self) -> int:
        return 3 if self.symbol.endswith("JPY") else 5

    @property
    def ask(self) -> int:
        return self.bid + self.spread

    def price(self, points: int) -> Decimal:
        return Decimal(points).scaleb(-self.digits)

    def points(self, price: Decimal) -> int:
        return int(price.scaleb(self.digits))


@dataclass
class Held:
    """One position. Prices in points; `gap_left` is what its stop may still be filled beyond itself, in points."""

    id: str
    symbol: str
    side: Literal["BUY", "SELL"]
    lots100: int
    open: int
    sl: int | None
    tp: int | None
    commission: int
    gap_left: int
    swap_left: int  # cents of swap that may still be charged
    opened_at: datetime
    swap: int = 0
    shown: bool = True  # the broker's list holds it


@dataclass
class Waiting:
    """An order at the broker that is filled when its price comes; `at` is the bid at which it is."""

    id: str
    symbol: str
    side: Literal["BUY", "SELL"]
    lots100: int
    at: int
    is_above: bool  # the price must rise to it
    sl: int | None
    tp: int | None


@dataclass
class World:
    """One account at one broker. `is_booked_at_open`: when the commission leaves the balance."""

    firm: Firm
    now: datetime
    pairs: dict[str, Pair]
    balance: int
    gap: int  # points: the allowance for the slippage of an order, and again for the gap of its stop
    commission_per_lot: int
    swap_per_lot: int
    is_booked_at_open: bool = False
    is_stop_by_bid: bool = False  # stops of sells are triggered by the bid and filled at the ask
    drift: float = 0.0  # how far the rate of a cross's quote currency may move, either way
    held: list[Held] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)  # these never change
    bases: dict[str, int] = field(default_factory=dict)  # where the converting pairs stood when the gate last passed
    made: int = 0
    story: list[str] = field(default_factory=list)

    def copy(self) -> World:
        """Return a world that goes its own way from here."""
        return replace(
            self, firm=self.firm.copy(), pairs={name: replace(pair) for name, pair in self.pairs.items()},
            held=[replace(held) for held in self.held], waiting=list(self.waiting),
            bases=dict(self.bases),
            story=list(self.story),
        )  # fmt: skip

    # ── money ───────────────────────────────────────────────────────────────

    def rate(self, currency: str, *, high: bool) -> tuple[int, int]:
        """Return what one unit is worth in dollars, as numerator and denominator."""
        if currency == "USD":
            return 1, 1
        if (pair := self.pairs.get(f"{currency}USD")) is not None:
            return (pair.ask if high else pair.bid), 10**pair.digits
        pair = self.pairs[f"USD{currency}"]
        return 10**pair.digits, (pair.bid if high else pair.ask)

    def gross(self, held: Held, *, high: bool | None = None) -> int:
        """Return the profit at the prices now, in cents, rounded down; by the worse rate unless told."""
        pair = self.pairs[held.symbol]
        moved = pair.bid - held.open if held.side == "BUY" else held.open - pair.ask
        upper, lower = self.rate(held.symbol[3:], high=moved < 0 if high is None else high)
        quoted = moved * held.lots100 * (100 if pair.digits == 3 else 1)  # cents of the quote currency
        return quoted * upper // lower

    def net(self, held: Held) -> int:
        """Return the floating profit as the broker shows it: with swap and commission."""
        return self.gross(held) + held.swap - held.commission

    @property
    def equity(self) -> int:
        unbooked = 0 if self.is_booked_at_open else sum(held.commission for held in self.held)
        return self.balance + sum(self.gross(held) + held.swap for held in self.held) - unbooked

    def look(self) -> None:
        """Let the firm see the account."""
        self.firm.saw(self.balance, self.equity)

    # ── orders ──────────────────────────────────────────────────────────────

    def open(
        self, symbol: str, side: Literal["BUY", "SELL"], lots100: int, sl: int | None, tp: int | None, *,
        slip: int = 0, shown: bool = True,
    ) -> Held:  # fmt: skip
        """Fill a market order `slip` points against us, at most the allowance; its stop has one of its own."""
        pair = self.pairs[symbol]
        slip = min(slip, self.gap)
        price = pair.ask + slip if side == "BUY" else pair.bid - slip
        self.made += 1
        commission = -(-lots100 * self.commission_per_lot // 100)
        held = Held(
            f"P{self.made}", symbol, side, lots100, price, sl, tp, commission, self.gap,
            lots100 * self.swap_per_lot // 100, self.now, shown=shown,
        )  # fmt: skip
        if self.is_booked_at_open:
            self.balance -= commission
        self.held.append(held)
        self.look()
        return held

    def close(self, held: Held) -> None:
        """Close a position at the prices now."""
        self.held.remove(held)
        gross = self.gross(held)
        self.balance += gross + held.swap - (0 if self.is_booked_at_open else held.commission)
        held_s = (self.now - held.opened_at).total_seconds()
        self.firm.closed(self.balance, gross + held.swap - held.commission, held_s)
        self.look()

    # ── prices ──────────────────────────────────────────────────────────────

    def stop_bid(self, held: Held) -> int | None:
        """Return the bid at which the stop is hit."""
        if held.sl is None:
            return None
        by_ask = held.side == "SELL" and not self.is_stop_by_bid
        return held.sl - self.pairs[held.symbol].spread if by_ask else held.sl

    def target_bid(self, held: Held) -> int | None:
        """Return the bid at which the target is hit."""
        if held.tp is None:
            return None
        return held.tp if held.side == "BUY" else held.tp - self.pairs[held.symbol].spread

    def drive(self, symbol: str, bid: int, slip: Callable[[Held], int] = lambda held: held.gap_left) -> None:
        """Move a bid continuously; stops and targets on the way are hit, stops with `slip` points beyond them."""
        pair = self.pairs[symbol]
        bid = self._within_drift(symbol, max(bid, 1_000))
        while (hit := self._next_hit(symbol, bid)) is not None:
            held, at, is_stop = hit
            pair.bid = at
            self.look()
            if isinstance(held, Waiting):
                self._fill(held)
                continue
            if not is_stop:
                self.close(held)
                continue
            self._gap(held, at, min(slip(held), held.gap_left))
        pair.bid = bid
        self.look()

    def _fill(self, order: Waiting) -> None:
        """Fill a waiting order a whole allowance beyond its price; its stop has an allowance of its own."""
        self.waiting.remove(order)
        self.open(order.symbol, order.side, order.lots100, order.sl, order.tp, slip=self.gap)

    def _gap(self, held: Held, at: int, slip: int) -> None:
        """Jump beyond a stop and close everything whose stop lies within the jump, the greatest loss first."""
        pair, way = self.pairs[held.symbol], -1 if held.side == "BUY" else 1
        to = at + way * slip
        fellows = [other for other in self.held if other.symbol == held.symbol and other.side == held.side]
        levels = [(other, level) for other in fellows if (level := self.stop_bid(other)) is not None]
        crossed = [held]
        for other, level in sorted(levels, key=lambda item: way * item[1]):
            if other is not held and way * level <= way * to:
                to = way * min(way * to, way * (level + way * other.gap_left))
                crossed.append(other)
        pair.bid = to
        self.look()
        for other in sorted(crossed, key=self.gross):
            self.close(other)

    def _next_hit(self, symbol: str, bid: int) -> tuple[Held | Waiting, int, bool] | None:
        now = self.pairs[symbol].bid
        found: list[tuple[int, int, Held | Waiting, int, bool]] = []
        for number, waiting in enumerate(self.waiting):
            if waiting.symbol == symbol and (
                max(now, bid) >= waiting.at if waiting.is_above else min(now, bid) <= waiting.at
            ):
                found.append((abs(waiting.at - now), -1 - number, waiting, waiting.at, False))
        for number, held in enumerate(self.held):
            if held.symbol != symbol:
                continue
            for at, is_stop in ((self.stop_bid(held), True), (self.target_bid(held), False)):
                if at is None:
                    continue
                downwards = (held.side == "BUY") == is_stop
                if (downwards and bid <= at) or (not downwards and bid >= at):
                    found.append((abs(at - now), number, held, at, is_stop))
        if not found:
            return None
        _, _, hit, level, is_stop = min(found, key=lambda item: item[:2])
        return hit, level, is_stop

    def _within_drift(self, symbol: str, bid: int) -> int:
        """Return the bid, held back where it would move the rate of an open cross further than is assumed."""
        crosses = [held.symbol for held in self.held] + [order.symbol for order in self.waiting]
        converted = {name[3:] for name in crosses if name in CROSSES}
        if not converted & {symbol[:3], symbol[3:]} or symbol in CROSSES:
            return bid
        base = self.bases.get(symbol, self.pairs[symbol].bid)
        room = int(base * self.drift / (1 + self.drift))
        return max(base - room, min(base + room, bid))

    # ── time ────────────────────────────────────────────────────────────────

    def advance(self, to: datetime) -> None:
        """Let time pass; days begin for each reading whose reset has come."""
        self.now = to
        self.firm.turned(to, self.balance, self.equity)
        self.look()

    def charge_swap(self) -> None:
        """Charge the rest of every position's swap allowance."""
        for held in self.held:
            held.swap, held.swap_left = held.swap - held.swap_left, 0
        self.look()
