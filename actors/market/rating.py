"""Good bars in, ranking out: which model scores them, and what is picked.

Runs in the scanner's child process and in `pilot scan`. A scan uses the current model as it is; it trains only when
there is none that fits, so that the first scan of all ranks with the model that the settings name, too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from actors.market import card as cards
from actors.market import choice, model, momentum, panel, ranking, training
from actors.market.bars import Bars
from actors.market.card import Card
from actors.market.errors import ModelMismatch, ScanError
from actors.market.job import LeftOut, Ranked, ScanJob
from actors.market.model import Model

# The columns of the newest bar need 270 bars; the rest lets Wilder's RSI of 28 bars forget where it began, to below
# (27 / 28) ** 290 of it.
SCORING_BARS = 320


def ranked(
    job: ScanJob, good: Sequence[Bars], *, fingerprint: str, left_out: Sequence[LeftOut], notes: list[str]
) -> Ranked:
    """Return the ranking of the newest bar, which all of `good` end on.

    Raises:
        ScanError: no model can be trained, or it cannot tell the pairs apart; or the pinned one cannot be used.
        ConfigError: LightGBM cannot be loaded.
    """
    wanted = job.scanner
    trained_s, is_due = None, False
    if wanted.model == "momentum":
        scored = momentum.scored(good)
    else:
        model.require_lightgbm()
        ranker, trained_s = _ranker(job, good, notes)
        is_due = trained_s is None and _is_due(Path(job.models_folder), good[0], wanted.retrain_days)
        scored = by_model(ranker, good)
    recent = [bars.tail(SCORING_BARS) for bars in good]
    picks = ranking.top(recent, scored, top_k=wanted.top_k, correlation_max=wanted.correlation_max)
    return Ranked(
        fingerprint=fingerprint,
        bar_time=good[0].bar_time,
        signals=picks.signals,
        pairs=len(good),
        model_id=scored.model_id,
        trained_s=trained_s,
        rank_ic=scored.rank_ic,
        net_usd=ranking.net_usd(picks.signals),
        left_out=tuple(left_out),
        notes=tuple(notes),
        same_bets=picks.same_bets,
        is_training_due=is_due,
    )


def by_model(ranker: Model, good: Sequence[Bars]) -> ranking.Scored:
    """Return a model's scores of the newest bar. Whoever trained it, the columns are made from the same few bars."""
    found = panel.build([bars.tail(SCORING_BARS) for bars in good])
    card = ranker.card
    return ranking.Scored(ranker.scores(found.columns[-1]), card.gap_terciles, card.model_id, card.metrics.rank_ic)


def _ranker(job: ScanJob, good: Sequence[Bars], notes: list[str]) -> tuple[Model, float | None]:
    """Return the pinned model, else the current one, else one that is trained now; and the seconds that took."""
    folder = Path(job.models_folder)
    pinned = _pinned(folder, good, job.as_of)
    if pinned is not None:
        return pinned, None
    try:
        current = choice.read(folder, "current", good[0].interval, good[0].source)
        if current is not None:
            found = model.load(folder, current.model_id)
            model.require_fit(found.card, good)
            return found, None
    except ModelMismatch as error:
        notes.append(f"saved model refused, trained again: {error}")
    started = time.monotonic()
    made = training.made(job, good)
    return made, time.monotonic() - started


def _pinned(folder: Path, good: Sequence[Bars], as_of: str | None) -> Model | None:
    """Return the pinned model, or None when none is pinned; for a past day, when it knows what came later.

    Raises:
        ScanError: one is pinned and cannot be used: another one would not be what the operator asked for.
    """
    timeframe, source = good[0].interval, good[0].source
    try:
        pin = choice.read(folder, "pinned", timeframe, source)
        if pin is None:
            return None
        found = model.load(folder, pin.model_id)
        if as_of is not None and found.card.last_day > good[0].bar_time:
            return None
        model.require_fit(found.card, good)
        return found
    except ModelMismatch as error:
        raise ScanError(
            f"the pinned model of {timeframe} {source} cannot be used: {error}. Pin another with "
            "`pilot models use MODEL_ID`, or take the pin away with `pilot models use --latest`"
        ) from error


def _is_due(folder: Path, newest: Bars, days_max: int) -> bool:
    """Return whether the current model's data cut lies `days_max` days or more before the newest bar.

    Counted in the time of bars, not on the clock: without new bars the same model would come out again.
    """
    try:
        current = choice.read(folder, "current", newest.interval, newest.source)
        card = read_card(folder, current.model_id) if current else None
    except ModelMismatch:
        return True
    return card is None or age_days(card, newest) >= days_max


def read_card(folder: Path, model_id: str) -> Card:
    """Return the card of a saved model. Raises ModelMismatch."""
    return cards.read(folder / model_id)


def age_days(card: Card, newest: Bars) -> int:
    """Return how many days the data cut lies before the newest bar."""
    return (newest.newest.date() - date.fromisoformat(card.last_day[:10])).days
