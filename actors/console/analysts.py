"""What each analyst was worth, measured from the journal: no figure without its interval and its n.

Used by `pilot analysts report`. Pure: gets rows and bars. Claims no edge: it counts. What each figure means:
docs/recordings.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec
from msgspec import Struct

from actors.console import measures, simulated
from actors.console.later_bars import LaterBars
from actors.console.measures import Calibration, Mean, Share
from actors.console.simulated import Outcome
from store.queries import Analysed, Figures, Opinion

OFFLINE = "offline"
UNKNOWN = "unknown"
MILLION = 1_000_000


class Judged(Struct, frozen=True, kw_only=True):
    """One verdict of one analyst on one signal."""

    intent_id: str
    analyst: str
    is_shadow: bool
    side: str | None  # as it counted: HOLD when a check refused it; None: there was no verdict
    is_refused: bool
    confidence: float | None
    hint: str
    tokens: int | None
    cost_micros: int | None
    simulated: Outcome | None  # None: no trade, or no bars
    r: float | None = None  # of the trade, in multiples of its worst loss at the stop


class Group(Struct, frozen=True, kw_only=True):
    """The figures of one analyst. Only `hit_rate` and `mean_r` are of real trades; a shadow has none."""

    analyst: str
    is_shadow: bool
    decisions: int
    no_verdict: int
    refused: int
    hold: Share
    agreement: Share  # with the scanner's side, of the verdicts BUY and SELL where it gave one
    hit_rate: Share
    mean_r: Mean
    simulated_hit_rate: Share
    simulated_r: Mean
    simulated_open: int
    tokens: Mean
    cost_usd: Mean  # of the decisions whose price is known
    unpriced: int
    calibration: Calibration
    calibrated_on: Literal["closed trades", "simulated"]


class Comparison(Struct, frozen=True, kw_only=True):
    """What a shadow would have brought more than the analyst that traded, on the same signals; HOLD is 0."""

    shadow: str
    traded: str
    difference_r: Mean


class Report(Struct, frozen=True, kw_only=True):
    """The whole report. `unreadable` decisions have no figures in the journal."""

    since: str
    decisions: int
    unreadable: int
    small_n: int
    bars: str
    groups: list[Group]
    comparisons: list[Comparison]


def report(rows: Iterable[Analysed], *, since: str, bars_of: Callable[[set[str]], LaterBars]) -> Report:
    """Return the figures of every analyst in `rows`. `bars_of` returns the bars of the symbols that are needed."""
    found = list(rows)
    bars = bars_of({row.figures.symbol for row in found if row.figures is not None})
    judged = _named([one for row in found if row.figures is not None for one in _verdicts(row, row.figures, bars)])
    by_analyst: defaultdict[tuple[bool, str], list[Judged]] = defaultdict(list)
    for one in judged:
        by_analyst[one.is_shadow, one.analyst].append(one)
    return Report(
        since=since,
        decisions=len(found),
        unreadable=sum(row.figures is None for row in found),
        small_n=measures.SMALL_N,
        bars=bars.note,
        groups=[_group(by_analyst[key]) for key in sorted(by_analyst)],
        comparisons=_comparisons(judged),
    )


# ── one decision ────────────────────────────────────────────────────────────


def _verdicts(row: Analysed, figures: Figures, bars: LaterBars) -> list[Judged]:
    """Return the verdict that was told, and the shadow's beside it if there was one."""
    told = _judged(row, figures, figures.told, bars)
    r = row.net_profit_cents / row.loss_cents if row.net_profit_cents is not None and row.loss_cents else None
    # What was told is what the store did, whatever the state says.
    side = "HOLD" if row.event == "decide_hold" else figures.told.side
    found = [msgspec.structs.replace(told, side=side, r=r)]
    if figures.shadow is not None:
        found.append(msgspec.structs.replace(_judged(row, figures, figures.shadow, bars), is_shadow=True))
    return found


def _judged(row: Analysed, figures: Figures, said: Opinion, bars: LaterBars) -> Judged:
    counted = said.tokens_in is not None or said.tokens_out is not None
    return Judged(
        intent_id=row.intent_id,
        analyst=_label(said),
        is_shadow=False,
        side="HOLD" if said.refused else said.side,
        is_refused=bool(said.refused),
        confidence=said.confidence,
        hint=figures.side_hint,
        tokens=(said.tokens_in or 0) + (said.tokens_out or 0) if counted else None,
        cost_micros=said.cost_micros,
        simulated=_simulated(said, figures, bars),
    )


def _label(said: Opinion) -> str:
    if said.analyst.startswith(OFFLINE):
        return OFFLINE
    return f"{said.analyst or UNKNOWN} {said.model}".strip()


def _named(judged: list[Judged]) -> list[Judged]:
    """Return the verdicts with those shadows that said nothing, and so named no model, beside the one that they are."""
    known = {one.analyst for one in judged if one.is_shadow and one.side is not None}
    found = []
    for one in judged:
        same = [name for name in known if name.partition(" ")[0] == one.analyst]
        is_silent = one.is_shadow and one.side is None and len(same) == 1
        found.append(msgspec.structs.replace(one, analyst=same[0]) if is_silent else one)
    return found


def _simulated(said: Opinion, figures: Figures, bars: LaterBars) -> Outcome | None:
    later = bars.after(figures.symbol, figures.bar_time)
    if said.refused or said.side not in ("BUY", "SELL") or later is None:
        return None
    if not (said.sl_pips and said.tp_pips and min(said.sl_pips, said.tp_pips) > 0):
        return None
    pip = bars.pips[figures.symbol]
    return simulated.outcome(
        said.side, figures.close, later, sl=said.sl_pips * pip, tp=said.tp_pips * pip,
        closes_only=figures.symbol in bars.closes_only,
    )  # fmt: skip


# ── all decisions of one analyst ────────────────────────────────────────────


def _group(judged: list[Judged]) -> Group:
    decided = [one for one in judged if one.side is not None]
    sided = [one for one in decided if one.side in ("BUY", "SELL")]
    hinted = [one for one in sided if one.hint in ("BUY", "SELL")]
    closed = [one.r for one in judged if one.r is not None]
    ended = [one.simulated.r for one in sided if one.simulated is not None and one.simulated.r is not None]
    is_shadow = judged[0].is_shadow
    return Group(
        analyst=judged[0].analyst,
        is_shadow=is_shadow,
        decisions=len(judged),
        no_verdict=len(judged) - len(decided),
        refused=sum(one.is_refused for one in decided),
        hold=measures.share(len(decided) - len(sided), len(decided)),
        agreement=measures.share(sum(one.side == one.hint for one in hinted), len(hinted)),
        hit_rate=measures.share(sum(r > 0 for r in closed), len(closed)),
        mean_r=measures.mean(closed),
        simulated_hit_rate=measures.share(sum(r > 0 for r in ended), len(ended)),
        simulated_r=measures.mean(ended),
        simulated_open=sum(one.simulated is not None and one.simulated.r is None for one in sided),
        tokens=measures.mean([float(one.tokens) for one in judged if one.tokens is not None]),
        cost_usd=measures.mean([one.cost_micros / MILLION for one in judged if one.cost_micros is not None]),
        unpriced=sum(one.tokens is not None and one.cost_micros is None for one in judged),
        calibration=measures.calibration(_stated(judged, is_shadow=is_shadow)),
        calibrated_on="simulated" if is_shadow else "closed trades",
    )


def _stated(judged: list[Judged], *, is_shadow: bool) -> list[tuple[float, bool]]:
    """Return the confidences, 0 to 1, and whether they were right: by the trade, or, of a shadow, by the bars."""
    found = []
    for one in judged:
        r = (one.simulated.r if one.simulated is not None else None) if is_shadow else one.r
        if r is not None and one.confidence is not None and 0 <= one.confidence <= 1:
            found.append((one.confidence, r > 0))
    return found


def _comparisons(judged: list[Judged]) -> list[Comparison]:
    told = {one.intent_id: one for one in judged if not one.is_shadow}
    pairs: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for one in judged:
        other = told[one.intent_id]
        if one.is_shadow and (a := _worth(one)) is not None and (b := _worth(other)) is not None:
            pairs[one.analyst, other.analyst].append(a - b)
    return [
        Comparison(shadow=shadow, traded=traded, difference_r=measures.mean(differences))
        for (shadow, traded), differences in sorted(pairs.items())
    ]


def _worth(one: Judged) -> float | None:
    """Return what a verdict brought on the bars: 0 for HOLD, None while that is not decided."""
    if one.side == "HOLD":
        return 0.0
    return one.simulated.r if one.simulated is not None else None
