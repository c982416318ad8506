"""From scores to the top-K signals with the blueprint's scanner fields.

Runs in the scanner's child process. Pure. `confidence` says how clear the ranking is against its own past; it is no
probability, and measured, its three levels were not ordered by result. Never a factor of size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from actors.market import features
from actors.market.bars import Bars, Floats
from actors.market.errors import ScanError
from bus.records import Signal

Confidence = Literal["high", "medium", "low"]


def top(
    all_bars: Sequence[Bars], scores: Floats, *, top_k: int, gap_terciles: Sequence[tuple[float, float]], model_id: str
) -> tuple[Signal, ...]:
    """Return the best `top_k` pairs, best first. Scores are centred: their mean over all pairs is 0.

    Equal scores are ordered by symbol, so that the same input always gives the same ranking.

    Raises:
        ScanError: not one pair more than `top_k`, so nothing is left out to compare with; or a score is not finite;
            or all scores are equal.
    """
    if len(all_bars) <= top_k:
        raise ScanError(f"only {len(all_bars)} pairs to rank; top {top_k} needs at least {top_k + 1}")
    if len(scores) != len(all_bars) or not np.isfinite(scores).all():
        raise ScanError("the model gave a score that is no number, or not one a pair")
    if not np.ptp(scores):
        # Too little history gives trees without a split; the order would be that of the alphabet.
        raise ScanError("the model gives all pairs the same score: it has learned nothing; bring a longer history")
    centred = (scores - scores.mean()).tolist()
    order = sorted(range(len(all_bars)), key=lambda at: (-centred[at], all_bars[at].symbol))
    ranked = [centred[at] for at in order]
    return tuple(
        _signal(
            all_bars[order[rank]],
            score=ranked[rank],
            gap=ranked[rank] - ranked[rank + 1],
            drop_distance=ranked[rank] - ranked[top_k],
            spread=ranked[0] - ranked[top_k - 1],
            terciles=gap_terciles[rank],
            model_id=model_id,
        )
        for rank in range(top_k)
    )


def _signal(
    bars: Bars,
    *,
    score: float,
    gap: float,
    drop_distance: float,
    spread: float,
    terciles: tuple[float, float],
    model_id: str,
) -> Signal:
    seen = features.for_analysts(bars)
    return Signal(
        symbol=bars.symbol,
        timeframe=bars.interval,
        bar_time=bars.bar_time,
        score=score,
        confidence=confidence(gap, terciles),
        score_gap=gap,
        drop_distance=drop_distance,
        topk_spread=spread,
        side_hint=features.side(seen["trend"]),
        close=float(bars.close[-1]),
        volatility_pips=features.volatility_pips(bars),
        source=bars.source,
        model_id=model_id,
        features=seen,
    )


def confidence(gap: float, terciles: tuple[float, float]) -> Confidence:
    """Return in which third of past gaps at the same rank this gap lies."""
    low, high = terciles
    if gap >= high:
        return "high"
    return "medium" if gap >= low else "low"


def net_usd(signals: Sequence[Signal]) -> int:
    """Return the net number of trades that buy dollars (+) or sell them (-), if every side hint were followed."""
    sign = {"BUY": 1, "SELL": -1, "HOLD": 0}
    base = sum(sign[s.side_hint] for s in signals if s.symbol.startswith("USD"))
    return base - sum(sign[s.side_hint] for s in signals if s.symbol.endswith("USD"))
