"""What the scanner asks of its child process and what it gets back, as one line of JSON each way.

Imported by both; imports nothing heavy, so that the scanner starts at once.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from actors.market.intervals import Interval
from bus.records import Signal
from config.settings import Broker, Scanner


class ScanJob(Struct, frozen=True, kw_only=True):
    """One scan to do. `done` is the fingerprint of the last finished scan: the same one again is skipped, and so is one
    of an older bar than `done_bar_time`. `reads` are the requests to the broker that the store has granted for it.

    With `train` a model of the bars is trained and made current, and nothing is ranked. With `by_hand` nothing is
    written: a model that has to be trained is forgotten again. Both take the bars that are at hand and ask no network.
    `as_of` is the last day whose bars may be seen.
    """

    symbols: tuple[str, ...]
    scanner: Scanner
    today: str  # UTC date: the clock belongs to the scanner
    models_folder: str
    done: str | None = None
    train: bool = False
    by_hand: bool = False
    as_of: str | None = None
    done_bar_time: str = ""
    timeframe: Interval = "D1"
    now: str = ""  # the same clock, in full; empty: the end of `today`
    bars_folder: str = ""  # where caches and quarantine are; empty: nothing is written down
    holidays: tuple[str, ...] = ()
    broker: Broker | None = None
    reads: int = 0


class LeftOut(Struct, frozen=True):
    """A symbol that was not ranked, and why."""

    symbol: str
    reason: str


class Fetched(Struct, frozen=True, kw_only=True):
    """What getting the bars took: `requests` to the broker that were made, bars that were refused for the first time,
    sources that were passed over with why, and cache files that were put right.
    """

    requests: int = 0
    quarantined: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()


class Skipped(Struct, frozen=True, kw_only=True, tag=True):
    """Bars and settings are those of the last finished scan."""

    fingerprint: str
    bar_time: str
    fetched: Fetched = Fetched()


class Ranked(Struct, frozen=True, kw_only=True, tag=True):
    """A finished ranking. `rank_ic` is the model's trial on unseen days: about zero, no edge is promised."""

    fingerprint: str
    bar_time: str
    signals: tuple[Signal, ...]
    pairs: int
    model_id: str
    trained_s: float | None  # None: a saved model was used
    rank_ic: float
    net_usd: int
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    same_bets: tuple[LeftOut, ...] = ()  # passed over: see `actors.market.correlation`
    is_training_due: bool = False
    fetched: Fetched = Fetched()


class Trained(Struct, frozen=True, kw_only=True, tag=True):
    """The answer to a job with `train`: this model is the current one now."""

    model_id: str
    timeframe: str
    source: str
    last_day: str  # its data cut
    rank_ic: float
    seconds: float
    notes: tuple[str, ...] = ()
    fetched: Fetched = Fetched()


class Failed(Struct, frozen=True, kw_only=True, tag=True):
    """No ranking. `configuration`: no scan can ever work like this; `transient`: trying again soon may help."""

    reason: str
    kind: Literal["configuration", "final", "transient"]
    left_out: tuple[LeftOut, ...] = ()
    fetched: Fetched = Fetched()


ScanResult = Skipped | Ranked | Failed | Trained
