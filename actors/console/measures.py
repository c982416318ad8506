"""Shares and means with their 95 % intervals, and how good stated confidences were. Formulas with their sources.

Used by `pilot analysts report`. Pure: plain Python, no chance, so the same figures give the same intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution
SMALL_N = 30  # below it no figure of ours tells one analyst from another
BIN_COUNT = 5
# Two-sided 95 % of Student's t for 1 to 30 degrees of freedom. Source: NIST/SEMATECH e-Handbook, 1.3.6.7.2.
_T95 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604, 2.1448,
    2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484,
    2.0452, 2.0423,
)  # fmt: skip


class Share(Struct, frozen=True, kw_only=True):
    """`hits` of `n`, with Wilson's interval. Without a sample all three are None."""

    hits: int
    n: int
    value: float | None
    low: float | None
    high: float | None


class Mean(Struct, frozen=True, kw_only=True):
    """A mean with Student's interval, which needs two samples."""

    n: int
    value: float | None
    low: float | None
    high: float | None


class Bin(Struct, frozen=True, kw_only=True):
    """Trades whose stated confidence lay in [from_, to): how confident on average, and how many were right."""

    from_: float
    to: float
    confidence: float | None
    right: Share


class Calibration(Struct, frozen=True, kw_only=True):
    """How stated confidences compare with what came. `brier` 0 is perfect; `brier_base` is the plain hit rate's."""

    n: int
    brier: float | None
    brier_base: float | None
    bins: tuple[Bin, ...]


def share(hits: int, n: int) -> Share:
    """Return a share with its 95 % interval. Source: Wilson (1927), without continuity correction."""
    if n == 0:
        return Share(hits=hits, n=0, value=None, low=None, high=None)
    rate, squared = hits / n, Z95**2
    centre = (rate + squared / (2 * n)) / (1 + squared / n)
    half = Z95 / (1 + squared / n) * math.sqrt(rate * (1 - rate) / n + squared / (4 * n * n))
    # At 0 and n hits one end is exact; rounding may miss it by a bit.
    low, high = (0.0 if hits == 0 else centre - half), (1.0 if hits == n else centre + half)
    return Share(hits=hits, n=n, value=rate, low=low, high=high)


def mean(values: Sequence[float]) -> Mean:
    """Return a mean with its 95 % interval: mean +- t * s / sqrt(n), s with n - 1."""
    n = len(values)
    if n == 0:
        return Mean(n=0, value=None, low=None, high=None)
    middle = math.fsum(values) / n
    if n == 1:
        return Mean(n=1, value=middle, low=None, high=None)
    deviation = math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (n - 1))
    half = t95(n - 1) * deviation / math.sqrt(n)
    return Mean(n=n, value=middle, low=middle - half, high=middle + half)


def t95(degrees: int) -> float:
    """Return the two-sided 95 % point of Student's t. Above 30 degrees: Abramowitz and Stegun 26.7.5, to 1e-5."""
    if degrees <= len(_T95):
        return _T95[degrees - 1]
    z, v = Z95, float(degrees)
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


def calibration(stated: Sequence[tuple[float, bool]]) -> Calibration:
    """Compare confidences (0..1) with whether they were right. Source of the score: Brier (1950), one-sided form."""
    n = len(stated)
    hit_rate = sum(right for _, right in stated) / n if n else 0.0
    return Calibration(
        n=n,
        brier=math.fsum((confidence - right) ** 2 for confidence, right in stated) / n if n else None,
        brier_base=hit_rate * (1 - hit_rate) if n else None,
        bins=tuple(_bin(at, stated) for at in range(BIN_COUNT)),
    )


def _bin(at: int, stated: Sequence[tuple[float, bool]]) -> Bin:
    # The last one holds 1.0, too.
    inside = [one for one in stated if min(int(one[0] * BIN_COUNT), BIN_COUNT - 1) == at]
    return Bin(
        from_=at / BIN_COUNT,
        to=(at + 1) / BIN_COUNT,
        confidence=math.fsum(confidence for confidence, _ in inside) / len(inside) if inside else None,
        right=share(sum(right for _, right in inside), len(inside)),
    )
