"""The ranking model as files: saved whole, loaded only when it is exactly the one asked for.

Runs in the scanner's child process, and in `pilot scan`, which saves nothing. A folder `models/<model_id>/` holds one
LightGBM text file a seed and `model.json`. Never loads a model of other columns, other parameters or another LightGBM,
nor for other pairs, another timeframe or source, or for bars older than its data cut: it is trained again instead.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from actors.market import card as cards
from actors.market import choice, durable, features, panel
from actors.market.bars import Bars, Floats
from actors.market.card import Card
from actors.market.errors import ModelMismatch
from bus import failpoints
from config.load import ConfigError

if TYPE_CHECKING:
    import lightgbm

FORMAT = 2  # raise it when columns, outcome or grades change their meaning
MODELS_KEPT = 4  # of each timeframe and source, beside the current, the pinned and the new one
LEFTOVER_S = 3_600.0
KINDS: tuple[choice.Kind, ...] = ("current", "pinned")

# Few, shallow, strongly regularised trees: daily FX holds little to learn and much to memorise.
PARAMETERS: dict[str, str | int | float | bool] = {
    "objective": "lambdarank",
    "learning_rate": 0.05,
    "num_leaves": 8,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "max_bin": 63,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
ROUNDS = 60


class Model:
    """Boosters of several seeds; their mean is the score."""

    def __init__(self, card: Card, boosters: Sequence[lightgbm.Booster]) -> None:
        self.card = card
        self._boosters = tuple(boosters)

    def scores(self, columns: Floats) -> Floats:
        """Return raw scores (pairs,) for one day's columns (pairs, columns). Only their order means much."""
        return mean_score(self._boosters, columns)


def mean_score(boosters: Sequence[lightgbm.Booster], columns: Floats) -> Floats:
    """Return the mean prediction of the boosters for rows of columns."""
    found: Floats = np.mean([booster.predict(columns, num_threads=1) for booster in boosters], axis=0)
    return found


def require_lightgbm() -> None:
    """Import LightGBM.

    Raises:
        ConfigError: it or the OpenMP library it needs is not installed; the message says what to run.
    """
    try:
        import lightgbm  # noqa: F401
    except OSError as error:
        raise ConfigError(
            f"lightgbm cannot be loaded: {error}; it needs the OpenMP library: run `apt-get install libgomp1`"
        ) from error
    except ImportError as error:
        raise ConfigError(f"lightgbm cannot be imported: {error}; run `make setup`") from error


def fingerprint(all_bars: Sequence[Bars], seeds: int) -> str:
    """Return the SHA-256 of everything a trained model depends on: bars, columns, outcome, parameters."""
    digest = hashlib.sha256()
    about = (FORMAT, features.COLUMNS, panel.HORIZON_BARS, PARAMETERS, ROUNDS, seeds, features.TREND_FLAT)
    digest.update(msgspec.json.encode(about))
    for bars in all_bars:
        digest.update(f"{bars.symbol}|{bars.source}|{bars.interval}|{bars.closes_only}|{len(bars)}".encode())
        digest.update(bars.time.astype("datetime64[s]").astype("<i8").tobytes())
        for column in (bars.open, bars.high, bars.low, bars.close):
            digest.update(column.astype("<f8").tobytes())
    return digest.hexdigest()


def save(folder: Path, card: Card, boosters: Sequence[lightgbm.Booster]) -> Model:
    """Write a model beside the others in one step, replace one of the same name, drop the oldest, and return it."""
    failpoints.reach("model.before_save")  # writing a trained model
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = folder / f".{card.model_id}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    files = {}
    for seed, booster in enumerate(boosters):
        content = booster.model_to_string().encode()
        durable.write_in_place(temporary / f"seed_{seed}.txt", content)
        files[f"seed_{seed}.txt"] = hashlib.sha256(content).hexdigest()
    card = msgspec.structs.replace(card, files=files)
    durable.write_in_place(temporary / cards.NAME, msgspec.json.format(msgspec.json.encode(card)))
    durable.sync_folder(temporary)
    # A folder cannot be renamed onto one that holds files. Dying between the two costs one training, nothing else.
    failpoints.reach("model.before_replace")  # removing the model of that name and renaming the new one
    shutil.rmtree(folder / card.model_id, ignore_errors=True)
    temporary.rename(folder / card.model_id)
    failpoints.reach("model.after_replace")
    durable.sync_folder(folder)
    failpoints.reach("model.after_save")
    _prune(folder, keep=card.model_id)
    return Model(card, boosters)


def switch(folder: Path, card: Card) -> None:
    """Make a saved model the current one of its timeframe and source. Raises OSError."""
    failpoints.reach("model.before_switch")  # pointing at the new model; until then scans use the old one
    choice.write(folder, "current", choice.Choice(model_id=card.model_id, timeframe=card.timeframe, source=card.source))
    failpoints.reach("model.after_switch")


def load(folder: Path, wanted_id: str) -> Model:
    """Return the saved model of this name.

    Raises:
        ModelMismatch: there is none, or it is damaged, or made by other code or another LightGBM.
    """
    import lightgbm

    place = folder / wanted_id
    if not place.is_dir():
        raise ModelMismatch(f"there is no model {wanted_id}")
    card = cards.read(place)
    _require_same(card, lightgbm.__version__)
    boosters = []
    for name in (f"seed_{seed}.txt" for seed in range(card.seeds)):
        try:
            content = (place / name).read_bytes()
        except OSError as error:
            raise ModelMismatch(f"{place.name}: {name} cannot be read: {error}") from error
        if hashlib.sha256(content).hexdigest() != card.files.get(name):
            raise ModelMismatch(f"{place.name}: {name} is not the file that was saved")
        boosters.append(lightgbm.Booster(model_str=content.decode()))
    return Model(card, boosters)


def require_fit(card: Card, all_bars: Sequence[Bars]) -> None:
    """Refuse a model for bars that it must not rank.

    Raises:
        ModelMismatch: another timeframe or source, a pair that it was not trained with, or bars that end before its
            data cut: it would know their future.
    """
    newest = all_bars[0]
    for name, found, wanted in (
        ("timeframe", card.timeframe, newest.interval), ("source", card.source, newest.source),
    ):  # fmt: skip
        if found != wanted:
            raise ModelMismatch(f"{card.model_id}: {name} was {found!r}; needed {wanted!r}")
    if strangers := sorted({bars.symbol for bars in all_bars} - set(card.symbols)):
        raise ModelMismatch(f"{card.model_id} was not trained with {', '.join(strangers)}")
    if card.last_day > newest.bar_time:
        raise ModelMismatch(
            f"{card.model_id} was trained with bars up to {card.last_day}; the newest to rank is of {newest.bar_time}"
        )


def _require_same(card: Card, lightgbm_version: str) -> None:
    wanted: dict[str, object] = {
        "format": FORMAT,
        "columns": features.COLUMNS,
        "parameters": PARAMETERS,
        "rounds": ROUNDS,
        "horizon_bars": panel.HORIZON_BARS,
        "lightgbm": lightgbm_version,
    }
    for name, value in wanted.items():
        found = getattr(card, name)
        if found != value:
            raise ModelMismatch(f"{card.model_id}: {name} was {_short(found)}; needed {_short(value)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _prune(folder: Path, *, keep: str) -> None:
    """Drop what a killed training left behind, and all but the newest models that no pointer names."""
    named = {one.model_id for kind in KINDS for one in choice.read_all(folder, kind)} | {keep}
    seen: Counter[tuple[str, str]] = Counter()
    for place in cards.places(folder):
        if place.name in named:
            continue
        try:
            found = cards.read(place)
            group = (found.timeframe, found.source)
        except ModelMismatch:
            group = ("", "")  # of an older release, or damaged
        seen[group] += 1
        if seen[group] > MODELS_KEPT:
            shutil.rmtree(place, ignore_errors=True)
    for place in folder.glob(f".{cards.PREFIX}*.tmp"):
        if time.time() - place.stat().st_mtime > LEFTOVER_S:
            shutil.rmtree(place, ignore_errors=True)
