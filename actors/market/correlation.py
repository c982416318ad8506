"""When two picks are one bet: the correlation of their returns, turned by their sides.

Runs in the scanner's child process. Pure. Two pairs that move together and are both bought are the same bet twice; one
bought and one sold are not. Never looks further back than BARS bars.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

from actors.market.bars import Bars, Floats
from actors.market.errors import ScanError
from bus.vocabulary import DecisionSide

BARS = 60
SIGN: dict[DecisionSide, int] = {"BUY": 1, "SELL": -1, "HOLD": 0}


def of_bets(all_bars: Sequence[Bars], sides: Sequence[DecisionSide]) -> Floats:
    """Return how alike the trades of each two pairs are, (pairs, pairs), -1..1; 1 is the same bet.

    Pearson's correlation of the last 60 log returns on common bars, times both signs. A pair without a side may yet be
    bought or sold, so the worse of both counts: the correlation without its sign.

    Raises:
        ScanError: the pairs share fewer than 61 bars.
    """
    shared = reduce(np.intersect1d, [bars.time for bars in all_bars])[-BARS - 1 :]
    if len(shared) <= BARS:
        raise ScanError(f"the pairs share {len(shared)} bars; {BARS + 1} are needed to tell which bets are the same")
    logs = np.stack([np.log(bars.close[np.searchsorted(bars.time, shared)]) for bars in all_bars], axis=1)
    steps = np.diff(logs, axis=0)
    away = steps - steps.mean(axis=0)
    size = np.sqrt((away * away).sum(axis=0))
    unit = away / np.where(size > 0, size, 1.0)  # what does not move is like nothing
    alike = unit.T @ unit
    signs = np.array([SIGN[side] for side in sides], dtype=np.float64)
    both = signs[:, None] * signs[None, :]
    found: Floats = np.where(both == 0, np.abs(alike), alike * both)
    return found
