"""Prices from bars: the bids of recorded or invented bars, played as if they happened now.

Run by the paper broker as one of its `sources`. Between two bars nothing is invented: a price stands, and where a bar
of an hour or more is missing, or nothing comes after, the symbol is not traded. Inside a bar the price runs straight
from the open to one extreme, to the other, and to the close; which comes first, and when, is drawn from seed, symbol
and bar alone. Prices are whole points, times epoch milliseconds of the calendar.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import NamedTuple

from actors.broker.paper import prices, sessions
from actors.broker.paper.prices import Fixing
from actors.broker.paper.values import Price, Quoted, Terms
from config.load import ConfigError

QUIET_MS = 3_600_000  # bars shorter than this may be missing for as long: nothing was traded, the session goes on
BARS_MIN = 2
LENGTH_MS_MIN = 1_000


class Row(NamedTuple):
    """One bar: its begin and its four bids."""

    time: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal


class Series:
    """The bars of one symbol, oldest first."""

    def __init__(self, terms: Terms, rows: Iterable[Row]) -> None:
        """Take the bars. Raises ValueError when they are too few, out of order, or no bars."""
        self.times, self.open, self.high, self.low, self.close = (array("q") for _ in range(5))
        for row in rows:
            self._add(terms, row)
        if len(self.times) < BARS_MIN:
            raise ValueError(f"{terms.symbol}: {len(self.times)} bars; at least {BARS_MIN} are needed")
        steps = Counter(later - earlier for earlier, later in itertools.pairwise(self.times))
        self.length_ms = min(steps, key=lambda step: (-steps[step], step))  # the usual one, of two the shorter
        if self.length_ms < LENGTH_MS_MIN:
            raise ValueError(f"{terms.symbol}: bars of {self.length_ms} ms; at least {LENGTH_MS_MIN}")

    @property
    def ends_ms(self) -> int:
        """When the last bar is over."""
        return self.times[-1] + self.length_ms

    def end(self, at: int) -> int:
        """Return when a bar is over: after its length, or when the next one begins."""
        end = self.times[at] + self.length_ms
        return min(end, self.times[at + 1]) if at + 1 < len(self.times) else end

    def _add(self, terms: Terms, row: Row) -> None:
        where = f"{terms.symbol}, bar {len(self.times) + 1}"
        if self.times and row.time <= self.times[-1]:
            raise ValueError(f"{where}: not later than the one before it; oldest first is needed, each time once")
        if not all(price.is_finite() and price > 0 for price in row[1:]):
            raise ValueError(f"{where}: prices are finite and above 0")
        if not row.low <= min(row.open, row.close) <= max(row.open, row.close) <= row.high:
            raise ValueError(f"{where}: low {row.low} and high {row.high} do not enclose open and close")
        self.times.append(row.time)
        for column, price in zip((self.open, self.high, self.low, self.close), row[1:], strict=True):
            points = int(price.scaleb(terms.price_precision).to_integral_value(ROUND_HALF_EVEN))
            if points < 1:
                raise ValueError(f"{where}: {price} is less than a point of {terms.point}")
            column.append(points)


class Replay:
    """The market that a set of bars makes. `factors` are set by tests only: they scale one currency's worth."""

    stands_when_shut = False

    def __init__(
        self, terms: Sequence[Terms], series: Mapping[str, Series], *, seed: int, spread_pips: Decimal, account: str,
        start_ms: int | None = None, name: str = "bars",
    ) -> None:  # fmt: skip
        """Take one series by broker symbol for each of `terms`, and begin at `start_ms`: with all bars by default.

        Raises:
            ConfigError: the start lies outside of the bars, or a currency's worth cannot be told from them.
        """
        self.name = name
        self.factors: dict[str, Decimal] = {}
        self._terms = {one.symbol: one for one in terms}
        self._series = {symbol: series[symbol] for symbol in self._terms}
        self._seed = seed
        self._spread_pips = spread_pips
        self._account = account
        first, last = (
            max(one.times[0] for one in self._series.values()),
            min(one.ends_ms for one in self._series.values()),
        )
        self.begins_ms = first if start_ms is None else start_ms
        if not first <= self.begins_ms < last:
            raise ConfigError(
                f"paper.bars_start was {self.day(self.begins_ms)}; all symbols have bars "
                f"from {self.day(first)} to {self.day(last)}"
            )
        wanted = {currency for one in terms for currency in (one.base_currency, one.quote_currency)}
        self._routes = _routes(self._terms.values(), account)
        if missing := sorted(wanted - self._routes.keys()):
            raise ConfigError(
                f"paper.prices = 'bars': no pair leads from {', '.join(missing)} to {account}; add one to symbols"
            )

    @property
    def ends_ms(self) -> int:
        """When the last bar of all is over."""
        return max(one.ends_ms for one in self._series.values())

    @staticmethod
    def day(epoch_ms: int) -> str:
        """Return a moment as people write it."""
        return sessions.at_ms(epoch_ms).isoformat(timespec="minutes").replace("+00:00", "Z")

    def quoted(self, at_ms: int, factors: Mapping[str, Decimal]) -> Quoted:
        """Return the bars' bids with the spread on top, and the worths that follow from them."""
        bids = {symbol: self._bid(terms, at_ms) for symbol, terms in self._terms.items()}
        one = prices.ONE
        wide = {
            symbol: prices.spread(terms, self._spread_pips, factors.get(symbol, one))
            for symbol, terms in self._terms.items()
        }
        return {symbol: Price(bid, bid + wide[symbol]) for symbol, bid in bids.items()}, self._worth(bids)

    def is_traded(self, symbol: str, at_ms: int) -> bool:
        """Return whether the bars say anything of this moment."""
        series = self._series[symbol]
        at = bisect_right(series.times, at_ms) - 1
        if at < 0:
            return False
        if at_ms < series.end(at):
            return True
        is_last = at + 1 == len(series.times)
        is_quiet = not is_last and series.times[at + 1] - series.end(at) <= QUIET_MS
        return is_quiet and series.length_ms < QUIET_MS

    def ended(self, at_ms: int) -> frozenset[str]:
        """Return the symbols whose last bar is over."""
        return frozenset(symbol for symbol, series in self._series.items() if at_ms >= series.ends_ms)

    def waypoints(self, after_ms: int, until_ms: int, count_max: int) -> list[int]:
        """Return the first moments in a span at which a price turns, `count_max` at most: nothing is jumped over."""
        turns = heapq.merge(*(self._turns(symbol, after_ms, until_ms) for symbol in self._series))
        return list(itertools.islice((moment for moment, _ in itertools.groupby(turns)), count_max))

    def fixings(self) -> Sequence[Fixing]:
        """Return nothing: these bars' past is none that the machine's clock could date."""
        return ()

    def move(self, symbol: str, bid: Decimal, at_ms: int, factor: Decimal = prices.ONE) -> None:
        """Move a pair to this bid; the spread, on top of it, does not matter. Raises KeyError for an unknown symbol."""
        terms = self._terms[symbol]
        prices.scale(self.factors, terms, self._account, bid / self._unrounded(terms, at_ms))

    # ── inside ──────────────────────────────────────────────────────────────

    def _worth(self, bids: Mapping[str, Decimal]) -> dict[str, Decimal]:
        found = {self._account: prices.ONE}
        for currency, (symbol, other, is_base) in self._routes.items():
            if currency != self._account:
                found[currency] = found[other] * bids[symbol] if is_base else found[other] / bids[symbol]
        return found

    def _bid(self, terms: Terms, at_ms: int) -> Decimal:
        bid = self._unrounded(terms, at_ms).quantize(terms.point, ROUND_HALF_EVEN)
        return max(bid, terms.point)

    def _unrounded(self, terms: Terms, at_ms: int) -> Decimal:
        plain = Decimal(self._points(terms.symbol, at_ms)).scaleb(-terms.price_precision)
        one = prices.ONE
        return plain * self.factors.get(terms.base_currency, one) / self.factors.get(terms.quote_currency, one)

    def _points(self, symbol: str, at_ms: int) -> int:
        series = self._series[symbol]
        at = max(0, bisect_right(series.times, at_ms) - 1)
        path = self._path(symbol, at)
        for (begin, first), (end, second) in itertools.pairwise(path):
            if at_ms < end:
                return first + (second - first) * max(0, at_ms - begin) // (end - begin)
        return path[-1][1]

    def _path(self, symbol: str, at: int) -> tuple[tuple[int, int], ...]:
        """Return where a bar's price turns: four moments, the last one just before its end, with the points."""
        series = self._series[symbol]
        begin, last = series.times[at], series.end(at) - 1
        drawn = hashlib.blake2b(f"{self._seed}:{symbol}:{begin}".encode(), digest_size=8).digest()
        length = last - begin
        early = begin + length * (100 + int.from_bytes(drawn[:2], "big") % 300) // 1_000
        late = begin + length * (600 + int.from_bytes(drawn[2:4], "big") % 300) // 1_000
        low, high = series.low[at], series.high[at]
        first, second = (low, high) if drawn[4] % 2 else (high, low)
        return ((begin, series.open[at]), (early, first), (late, second), (last, series.close[at]))

    def _turns(self, symbol: str, after_ms: int, until_ms: int) -> Iterator[int]:
        times = self._series[symbol].times
        for at in range(max(0, bisect_right(times, after_ms) - 1), bisect_left(times, until_ms + 1)):
            for moment, _ in self._path(symbol, at):
                if after_ms < moment <= until_ms:
                    yield moment


def _routes(terms: Iterable[Terms], account: str) -> dict[str, tuple[str, str, bool]]:
    """Return by currency the pair that leads a step towards the account's, the other currency, and whether it is base.

    In an order in which each one's other currency comes before it; shortest ways first.
    """
    pairs = list(terms)
    found: dict[str, tuple[str, str, bool]] = {account: ("", account, True)}
    reached = [account]
    for other in reached:  # grows while it is read
        for pair in pairs:
            if pair.quote_currency == other and pair.base_currency not in found:
                found[pair.base_currency] = (pair.symbol, other, True)
                reached.append(pair.base_currency)
            elif pair.base_currency == other and pair.quote_currency not in found:
                found[pair.quote_currency] = (pair.symbol, other, False)
                reached.append(pair.quote_currency)
    return found
