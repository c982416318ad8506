"""How good is the ranking, really? Walk-forward figures beside momentum, chance, and two runs whose answer is known.

Runs in `pilot scan --evaluate`, never in the scanner. Saves no model. The limit of correlation is not part of it: it
measures the order, not the choice of bets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from actors.market import features, momentum, panel, train, walk_forward
from actors.market.bars import Bars, Floats, Times
from actors.market.errors import ScanError
from actors.market.figures import Control, Evaluation, Level, Method, Year
from actors.market.panel import HORIZON_BARS, Flags, Panel
from actors.market.walk_forward import Effort

RANDOM_SEED = 20_260_216
PLANTED = (0.03, 0.10)
LAGS = 2 * HORIZON_BARS  # outcomes of HORIZON_BARS overlap; Bartlett's weights want more lags than that
BASIS_POINTS = 10_000.0
YEAR_BARS_MIN = 20
LEVEL_BARS_MIN = 250  # bars of earlier years before a level of confidence is said
NOTE = (
    "No edge is promised. A rank correlation of a few hundredths is what ranking currency pairs yields at best, costs "
    "eat it, and past figures say nothing certain of the future. confidence is no probability and no factor of size."
)


def evaluation(
    all_bars: Sequence[Bars],
    *,
    effort: Effort,
    top_k: int,
    cost_bp: float,
    made_at: str,
    left_out: Sequence[str],
) -> Evaluation:
    """Return the figures of checked bars, which all end on the same one.

    Raises:
        ScanError: less history than one year behind TRAIN_BARS_MIN bars.
    """
    import lightgbm

    effort.progress("columns of all bars")
    found = panel.build(all_bars)
    learned = walk_forward.scores(found.days, found.columns, found.outcome, effort, name="model")
    by_momentum = momentum.on(found.days, all_bars)
    known = panel.whole(learned) & panel.whole(by_momentum) & panel.whole(found.outcome)
    if known.sum() < YEAR_BARS_MIN:
        raise ScanError(
            f"{len(found.days)} bars with all columns; at least {walk_forward.TRAIN_BARS_MIN} before the beginning of "
            "a year are needed to evaluate that year: bring a longer history"
        )
    dice = np.random.default_rng(RANDOM_SEED)
    scored = {"lambdarank": learned, "momentum": by_momentum, "random": dice.normal(size=learned.shape)}
    methods = [
        method(name, found, known, values, top_k=top_k, cost_bp=cost_bp) for name, values in scored.items()
    ]  # fmt: skip
    levels = _levels(found, learned, known, top_k)
    rows = np.flatnonzero(known)
    return Evaluation(
        made_at=made_at,
        timeframe=found.interval,
        source=all_bars[0].source,
        symbols=found.symbols,
        first_bar=found.label(int(rows[0])),
        last_bar=found.label(int(rows[-1])),
        bars=len(rows),
        horizon_bars=HORIZON_BARS,
        top_k=top_k,
        cost_bp=cost_bp,
        seeds=effort.seeds,
        train_bars_max=effort.train_bars_max,
        random_seed=RANDOM_SEED,
        lightgbm=lightgbm.__version__,
        methods=tuple(methods),
        controls=controls(found, dataclasses.replace(effort, seeds=1)),
        levels=levels,
        is_confidence_ordered=_is_ordered(levels),
        left_out=tuple(left_out),
        note=NOTE,
    )


def method(
    name: str, found: Panel, known: Flags, values: Floats, *,
    top_k: int, cost_bp: float,
) -> Method:  # fmt: skip
    """Return the figures of one way to rank on the bars that are `known`. `values` are scores (days, pairs)."""
    days, scores, outcome = found.days[known], values[known], found.outcome[known]
    daily = train.rank_correlation(scores, outcome)
    picked = best(scores, top_k)
    direction = found.direction[known]
    results = results_bp(found)[known]
    traded = picked & (direction != 0)
    replaced = turnover(picked, direction)
    gross = _mean_of(results, traded)
    net = gross - cost_bp * replaced
    return Method(
        name=name,
        rank_ic=float(daily.mean()),
        t=newey_west_t(daily),
        years=_years(days, daily),
        picks=int(traded.sum()),
        hit_rate=float((results[traded] > 0).mean()) if traded.any() else 0.0,
        turnover=float(replaced.mean()),
        gross_bp=float(gross.mean()),
        net_bp=float(net.mean()),
        net_t=newey_west_t(net),
        curve=_curve(days, net / HORIZON_BARS),
    )


def results_bp(found: Panel) -> Floats:
    """Return what each trade of the trend rule made over the horizon, in basis points before costs, (days, pairs)."""
    noise = found.columns[:, :, features.COLUMNS.index("vol_20")]
    made: Floats = found.outcome * noise * np.sqrt(HORIZON_BARS) * BASIS_POINTS
    return made


def best(scores: Floats, top_k: int) -> Flags:
    """Return which pairs are the `top_k` best of each bar; of equal scores the first."""
    order = np.argsort(-scores, axis=1, kind="stable")
    found: Flags = np.zeros(scores.shape, dtype=np.bool_)
    np.put_along_axis(found, order[:, :top_k], values=True, axis=1)
    return found


def turnover(picked: Flags, direction: Floats) -> Floats:
    """Return the share of each bar's picks that are not held, on the same side, since one horizon before.

    The first HORIZON_BARS bars hold nothing yet: all of theirs are new.
    """
    held = np.zeros_like(picked)
    same = picked[HORIZON_BARS:] & picked[:-HORIZON_BARS]
    held[HORIZON_BARS:] = same & (direction[HORIZON_BARS:] == direction[:-HORIZON_BARS])
    found: Floats = 1.0 - held.sum(axis=1) / picked.sum(axis=1)
    return found


def newey_west_t(series: Floats) -> float:
    """Return mean / standard error with Bartlett's weights over LAGS lags. Source: Newey and West (1987)."""
    n = len(series)
    away = series - series.mean()
    variance = float(away @ away) / n
    for lag in range(1, min(LAGS, n - 1) + 1):
        variance += 2.0 * (1.0 - lag / (LAGS + 1)) * float(away[lag:] @ away[:-lag]) / n
    return float(series.mean() / np.sqrt(variance / n)) if variance > 0 else 0.0


def controls(found: Panel, effort: Effort) -> tuple[Control, ...]:
    """Return the runs whose answer is known.

    Shuffled: learned from and measured on outcomes that are permuted among the pairs of each bar, so that there is
    nothing to find. The same model measured on the true outcomes shows how far chance alone goes: what a model has
    learned from noise stays with it for years. Planted: permuted outcomes to which a new column is added, `size` of
    their deviations large.
    """
    dice = np.random.default_rng(RANDOM_SEED)
    shuffled = dice.permuted(found.outcome, axis=1)
    scores = walk_forward.scores(found.days, found.columns, shuffled, effort, name="shuffled labels")
    done = [
        _control("shuffled labels", 0.0, scores, shuffled, known=0.0),
        _control("learned from shuffled labels, true outcomes", 0.0, scores, found.outcome, known=0.0),
    ]
    hidden = dice.normal(size=shuffled.shape)
    columns = np.concatenate([found.columns, hidden[:, :, None]], axis=2)
    for size in PLANTED:
        outcome = shuffled + size * np.nanstd(shuffled) * hidden
        scores = walk_forward.scores(found.days, columns, outcome, effort, name=f"planted signal {size:.2f}")
        told = panel.whole(scores) & panel.whole(outcome)
        known = float(train.rank_correlation(hidden[told], outcome[told]).mean())
        done.append(_control("planted signal", size, scores, outcome, known=known))
    return tuple(done)


def _control(name: str, size: float, scores: Floats, outcome: Floats, *, known: float) -> Control:
    told = panel.whole(scores) & panel.whole(outcome)
    daily = train.rank_correlation(scores[told], outcome[told])
    return Control(name=name, size=size, rank_ic=float(daily.mean()), t=newey_west_t(daily), known=known)


def _mean_of(values: Floats, chosen: Flags) -> Floats:
    """Return the mean of the chosen ones of each row; 0 where none is."""
    count = chosen.sum(axis=1)
    found: Floats = np.where(chosen, values, 0.0).sum(axis=1) / np.where(count > 0, count, 1)
    return found


def _years(days: Times, daily: Floats) -> tuple[Year, ...]:
    of = days.astype("datetime64[Y]").astype(int) + 1970
    found = []
    for year in np.unique(of).tolist():
        part = daily[of == year]
        if len(part) >= YEAR_BARS_MIN:
            found.append(Year(year=year, bars=len(part), rank_ic=float(part.mean()), t=newey_west_t(part)))
    return tuple(found)


def _curve(days: Times, net: Floats) -> tuple[tuple[str, float], ...]:
    """Return the running sum at the last bar of each month. One horizon's result is spread over its bars."""
    months = days.astype("datetime64[M]")
    ends = np.flatnonzero(np.append(months[1:] != months[:-1], True))
    total = np.cumsum(net)
    return tuple((str(months[at]), round(float(total[at]), 2)) for at in ends.tolist())


def _levels(found: Panel, scores: Floats, known: Flags, top_k: int) -> tuple[Level, ...]:
    """Return what picks came to by their confidence, whose terciles are those of all earlier years' gaps."""
    results = results_bp(found)
    of = found.days.astype("datetime64[Y]").astype(int) + 1970
    collected: dict[str, list[float]] = {"low": [], "medium": [], "high": []}
    for year in np.unique(of[known]).tolist():
        past = known & (of < year)
        if past.sum() < LEVEL_BARS_MIN:
            continue
        terciles = np.array(train.gap_terciles(scores[past]))[:top_k]
        rows = np.flatnonzero(known & (of == year))
        order = np.argsort(-scores[rows], axis=1, kind="stable")
        ranked = np.take_along_axis(scores[rows], order, axis=1)
        gaps = ranked[:, :top_k] - ranked[:, 1 : top_k + 1]
        level = (gaps >= terciles[:, 0]).astype(int) + (gaps >= terciles[:, 1])
        picks = order[:, :top_k]
        made = np.take_along_axis(results[rows], picks, axis=1)
        sided = np.take_along_axis(found.direction[rows], picks, axis=1) != 0
        for at, name in enumerate(collected):
            collected[name] += made[(level == at) & sided].tolist()
    return tuple(
        Level(
            confidence=name,
            picks=len(made),
            hit_rate=float(np.mean(np.array(made) > 0)) if made else 0.0,
            gross_bp=float(np.mean(made)) if made else 0.0,
        )
        for name, made in collected.items()
    )


def _is_ordered(levels: Sequence[Level]) -> bool:
    """Return whether more confidence meant a better result, from low to high."""
    means = [level.gross_bp for level in levels if level.picks]
    return len(means) == len(levels) and means == sorted(means)
