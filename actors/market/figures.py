"""The figures of a ranking on bars it had not seen, as values: what `pilot scan --evaluate` writes as JSON.

Imports nothing heavy. All basis points are per pick and horizon, before financing; a hit is a trade that ended above 0.
"""

from __future__ import annotations

from msgspec import Struct


class Year(Struct, frozen=True, kw_only=True):
    """The rank correlation of one year. `t` is Newey and West's: outcomes overlap."""

    year: int
    bars: int
    rank_ic: float
    t: float


class Method(Struct, frozen=True, kw_only=True):
    """One way to rank, on the same bars as the others.

    `turnover` is the share of the picks that are not those of one horizon before; each costs `cost_bp`, the spread.
    """

    name: str
    rank_ic: float
    t: float
    years: tuple[Year, ...]
    picks: int
    hit_rate: float
    turnover: float
    gross_bp: float
    net_bp: float
    net_t: float
    curve: tuple[tuple[str, float], ...]  # month, sum of net results so far, in basis points a horizon


class Control(Struct, frozen=True, kw_only=True):
    """A run whose answer is known: shuffled labels hold nothing, a planted signal of `size` deviations is there.

    `known` is the rank correlation of somebody who knew the planted signal.
    """

    name: str
    size: float
    rank_ic: float
    t: float
    known: float


class Level(Struct, frozen=True, kw_only=True):
    """What picks of one level of `confidence` came to."""

    confidence: str
    picks: int
    hit_rate: float
    gross_bp: float


class Evaluation(Struct, frozen=True, kw_only=True):
    """One evaluation with all that is needed to do it again."""

    made_at: str
    timeframe: str
    source: str
    symbols: tuple[str, ...]
    first_bar: str  # of those that were scored
    last_bar: str
    bars: int
    horizon_bars: int
    top_k: int
    cost_bp: float
    seeds: int
    train_bars_max: int
    random_seed: int
    lightgbm: str
    methods: tuple[Method, ...]
    controls: tuple[Control, ...]
    levels: tuple[Level, ...]  # of the trained model
    is_confidence_ordered: bool
    left_out: tuple[str, ...]
    note: str
