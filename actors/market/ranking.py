"""From scores to the top-K signals with the blueprint's scanner fields.

Runs in the scanner's child process. Pure. `confidence` says how clear the ranking is against its own past; it is no
probability, and measured, its three levels were not ordered by result. Never a factor of size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from actors.market import correlation, features
from actors.market.bars import Bars, Floats
from actors.market.errors import ScanError
from actors.market.job import LeftOut
from bus.records import Signal
from bus.vocabulary import DecisionSide

Confidence = Literal["high", "medium", "low"]


@dataclass(frozen=True)
class Scored:
    """What a model or a rule says of the newest bar: one score a pair, and the terciles of past gaps by rank."""

    values: Floats  # (pairs,)
    gap_terciles: Sequence[tuple[float, float]]
    model_id: str
    rank_ic: float


@dataclass(frozen=True)
class Picks:
    """The signals, best first, and the pairs that ranked high enough but would have been the same bet again."""

    signals: tuple[Signal, ...]
    same_bets: tuple[LeftOut, ...]


def top(all_bars: Sequence[Bars], scored: Scored, *, top_k: int, correlation_max: float) -> Picks:
    """Return the best `top_k` pairs, best first. Scores are centred: their mean over all pairs is 0.

    Equal scores are ordered by symbol, so that the same input always gives the same ranking. A pair whose trade is
    more like that of a better pick than `correlation_max` is passed over, and the next one takes its place. The last
    of all is never picked: a signal says how far it is from what was left out.

    Raises:
        ScanError: not one pair more than `top_k`, so nothing is left out to compare with; or a score is not finite;
            or all scores are equal.
    """
    if len(all_bars) <= top_k:
        raise ScanError(f"only {len(all_bars)} pairs to rank; top {top_k} needs at least {top_k + 1}")
    scores = scored.values
    if len(scores) != len(all_bars) or not np.isfinite(scores).all():
        raise ScanError("the model gave a score that is no number, or not one a pair")
    if not np.ptp(scores):
        # Too little history gives trees without a split; the order would be that of the alphabet.
        raise ScanError("the model gives all pairs the same score: it has learned nothing; bring a longer history")
    centred = (scores - scores.mean()).tolist()
    order = sorted(range(len(all_bars)), key=lambda at: (-centred[at], all_bars[at].symbol))
    ordered = [all_bars[at] for at in order]
    ranked = [centred[at] for at in order]
    ranks, same_bets = _pick(ordered, top_k, correlation_max)
    first, last = ranks[0], ranks[-1]
    signals = [
        _signal(
            ordered[rank],
            score=ranked[rank],
            gap=ranked[rank] - ranked[rank + 1],
            drop_distance=ranked[rank] - ranked[last + 1],
            spread=ranked[first] - ranked[last],
            terciles=scored.gap_terciles[rank],
            model_id=scored.model_id,
        )
        for rank in ranks
    ]
    dollars = net_usd(signals)
    return Picks(tuple(msgspec.structs.replace(one, net_usd=dollars) for one in signals), same_bets)


def _pick(ordered: Sequence[Bars], top_k: int, correlation_max: float) -> tuple[list[int], tuple[LeftOut, ...]]:
    """Return the ranks to pick, best first, and the pairs that were passed over as the same bet."""
    sides = [side_of(bars) for bars in ordered]
    alike = correlation.of_bets(ordered, sides)
    picked: list[int] = []
    passed: list[LeftOut] = []
    for rank in range(len(ordered) - 1):
        twin = next((other for other in picked if alike[rank, other] > correlation_max), None)
        if twin is None:
            picked.append(rank)
        else:
            better = f"{sides[twin]} {ordered[twin].symbol}"
            passed.append(
                LeftOut(
                    ordered[rank].symbol,
                    f"{sides[rank]} is the same bet as {better}: {alike[rank, twin]:.2f} over {correlation.BARS} bars; "
                    f"allowed {correlation_max:g} (scanner.correlation_max)",
                )
            )
        if len(picked) == top_k:
            break
    return picked, tuple(passed)


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
        side_hint=side_of(bars),
        close=float(bars.close[-1]),
        volatility_pips=features.volatility_pips(bars),
        source=bars.source,
        model_id=model_id,
        features=seen,
    )


def side_of(bars: Bars) -> DecisionSide:
    """Return the side that the trend rule proposes for a pair's newest bar."""
    return features.side(float(features.trend(np.log(bars.close))[-1]))


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
