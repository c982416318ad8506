"""Train a model of the newest bars, save it, and make it the current one in one step.

Runs in a child process of the scanner's: in that of a scan when there is no model at all, else in one of its own,
beside the scans, which go on with the model they have. Never ranks, never touches a pin.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from actors.market import model, panel, train
from actors.market.bars import Bars
from actors.market.card import model_id
from actors.market.errors import ModelMismatch
from actors.market.job import ScanJob, Trained
from actors.market.model import Model


def trained(job: ScanJob, good: Sequence[Bars], notes: Sequence[str]) -> Trained:
    """Train on these bars and return what is current now. Raises ScanError, ConfigError."""
    model.require_lightgbm()
    started = time.monotonic()
    card = made(job, good).card
    return Trained(
        model_id=card.model_id,
        timeframe=card.timeframe,
        source=card.source,
        last_day=card.last_day,
        rank_ic=card.metrics.rank_ic,
        seconds=time.monotonic() - started,
        notes=tuple(notes),
    )


def made(job: ScanJob, good: Sequence[Bars]) -> Model:
    """Return a model of exactly these bars, which is the current one then; by hand it is only returned.

    One that is there already, from a training that died before the switch, is taken as it is.

    Raises:
        ScanError: too few bars to learn from.
    """
    folder, seeds = Path(job.models_folder), job.scanner.seeds
    fingerprint = model.fingerprint(good, seeds)
    try:
        found = model.load(folder, model_id(fingerprint))
    except ModelMismatch:
        card, boosters = train.train(
            panel.build(good), source=good[0].source, fingerprint=fingerprint, seeds=seeds
        )  # fmt: skip
        found = Model(card, boosters) if job.by_hand else model.save(folder, card, boosters)
    if not job.by_hand:
        model.switch(folder, found.card)
    return found
