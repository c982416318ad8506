"""Where the paper broker's prices come from: the seeded walk, or bars. One face for both.

Run by the paper broker through `venue`. A price is a function of settings, files and simulated time alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from loguru import logger

from actors.broker.paper import prices
from actors.broker.paper.prices import Fixing
from actors.broker.paper.values import Quoted, Terms
from config import settings
from config.load import ConfigError

HISTORY_DAYS = 1_500


class Source(Protocol):
    """A market at any moment: milliseconds since `begins_ms`, which for bars are those of the calendar."""

    name: str  # another name is another market: its time begins anew
    begins_ms: int
    stands_when_shut: bool  # whether no time passes for it while no session is open
    factors: dict[str, Decimal]  # set by tests only; by currency

    def quoted(self, at_ms: int, factors: Mapping[str, Decimal]) -> Quoted:
        """Return bid and ask by symbol, each spread so many times wider (1 if not named), and worth by currency."""
        ...

    def is_traded(self, symbol: str, at_ms: int) -> bool:
        """Return whether there is a price at all, whatever the session."""
        ...

    def ended(self, at_ms: int) -> frozenset[str]:
        """Return the symbols that will never have a price again."""
        ...

    def waypoints(self, after_ms: int, until_ms: int, count_max: int) -> list[int]:
        """Return the first moments in a span that must not be jumped over, oldest first."""
        ...

    def move(self, symbol: str, bid: Decimal, at_ms: int, factor: Decimal) -> None:
        """Move a pair to this bid and its currency's other pairs with it. Raises KeyError for an unknown symbol."""
        ...

    def fixings(self) -> Sequence[Fixing]:
        """Return what the daily bars of the past are made of; nothing where it would be another market's past."""
        ...


class Walk:
    """The seeded walk: always traded, without end, and without a shape between two looks."""

    begins_ms = 0
    stands_when_shut = True

    def __init__(self, simulator: prices.Simulator, name: str) -> None:
        self.name = name
        self.factors = simulator.factors
        self._simulator = simulator

    def quoted(self, at_ms: int, factors: Mapping[str, Decimal]) -> Quoted:
        """Return the prices of that second."""
        worth = self._simulator.worth(_second(at_ms))
        return self._simulator.prices(worth, factors), worth

    def is_traded(self, symbol: str, at_ms: int) -> bool:
        """Return True."""
        return True

    def ended(self, at_ms: int) -> frozenset[str]:
        """Return nothing."""
        return frozenset()

    def waypoints(self, after_ms: int, until_ms: int, count_max: int) -> list[int]:
        """Return nothing."""
        return []

    def move(self, symbol: str, bid: Decimal, at_ms: int, factor: Decimal) -> None:
        """Move a pair by the worth of a currency."""
        self._simulator.move(symbol, bid, _second(at_ms), factor)

    def fixings(self) -> Sequence[Fixing]:
        """Return the ECB's, from which the walk began."""
        return prices.read_fixings(HISTORY_DAYS)


def make(paper: settings.Paper, terms: Sequence[Terms]) -> Source:
    """Return the market that the settings ask for.

    Raises:
        ConfigError: rates or bars are missing, unreadable, or do not reach from symbol to account.
    """
    return _walked(paper, terms) if paper.prices == "walk" else _played(paper, terms)


def _walked(paper: settings.Paper, terms: Sequence[Terms]) -> Source:
    newest, spread_pips = prices.read_fixings(1)[0], Decimal(str(paper.spread_pips))
    simulator = prices.Simulator(terms, newest, seed=paper.seed, spread_pips=spread_pips, account=paper.currency)
    logger.info(
        "Simulates the prices of {} pairs from the ECB rates of {} (seed {}, speed {:g})",
        len(terms), newest.day, paper.seed, paper.speed,
    )  # fmt: skip
    return Walk(simulator, "")


def _played(paper: settings.Paper, terms: Sequence[Terms]) -> Source:
    from actors.broker.paper import bar_files, replay  # only here: a walk starts without them

    if paper.bars_feed != "ecb" and not paper.bars_path:
        raise ConfigError(
            f"paper.bars_path is missing; paper.bars_feed = {paper.bars_feed!r} needs "
            f"{'a folder of SYMBOL.csv files' if paper.bars_feed == 'csv' else 'a CSV file'}"
        )
    try:
        start_ms = bar_files.epoch_ms(paper.bars_start) if paper.bars_start else None
    except ValueError as error:
        raise ConfigError(
            f"paper.bars_start was {paper.bars_start!r}; allowed: a day or time such as 2024-03-01T09:00"
        ) from error
    found = replay.Replay(
        terms, bar_files.read(paper, terms), seed=paper.seed, spread_pips=Decimal(str(paper.spread_pips)),
        account=paper.currency, start_ms=start_ms,
        name=f"{paper.bars_feed} {paper.bars_path} {paper.bars_start}".strip(),
    )  # fmt: skip
    logger.info(
        "Plays the bars of {} pairs from {} to {} (feed {}, seed {}, speed {:g})",
        len(terms), found.day(found.begins_ms), found.day(found.ends_ms), paper.bars_feed, paper.seed, paper.speed,
    )  # fmt: skip
    return found


def _second(at_ms: int) -> int:
    # At the end of the walk, 35,000 years at speed 1, prices stand still.
    return min(at_ms // 1_000, prices.HORIZON_S - 1)
