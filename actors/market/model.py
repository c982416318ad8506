"""The ranking model as files: saved whole, loaded only when it is exactly the one asked for.

Runs in the scanner's child process. A folder `models/<model_id>/` holds one LightGBM text file a seed and `model.json`.
Never loads a model of other data, other columns, other parameters or another LightGBM; it is trained again instead.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from msgspec import Struct

from actors.market import durable, features, panel
from actors.market.bars import Bars, Floats
from actors.market.errors import ModelMismatch
from bus import failpoints
from config.load import ConfigError

if TYPE_CHECKING:
    import lightgbm

FORMAT = 1  # raise it when columns, outcome or grades change their meaning
MODELS_KEPT = 5
CARD_BYTES_MAX = 1_000_000
LEFTOVER_S = 3_600.0
CARD = "model.json"

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


class Metrics(Struct, frozen=True, kw_only=True):
    """How the ranking did on the newest fifth of the history, which its trial models had not seen.

    `rank_ic` is the mean Spearman correlation of score and outcome a day. Expect about zero: no edge is promised.
    """

    days: int
    rank_ic: float
    rank_ic_t: float  # naive t value; overlapping outcomes make the true one smaller


class Card(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a saved model is. Everything that must agree before it may be used."""

    format: int
    model_id: str
    fingerprint: str
    source: str
    symbols: tuple[str, ...]
    columns: tuple[str, ...]
    first_day: str
    last_day: str  # the data cut
    last_known_day: str  # the last day with an outcome: training saw nothing later
    horizon_bars: int
    parameters: dict[str, str | int | float | bool]
    rounds: int
    seeds: int
    lightgbm: str
    gap_terciles: tuple[tuple[float, float], ...]  # of past score gaps, by rank
    metrics: Metrics
    files: dict[str, str]  # name -> sha256


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


def model_id(found_fingerprint: str) -> str:
    """Return the name of the model with this fingerprint: `lgbm-` and 12 hexadecimal digits."""
    return f"lgbm-{found_fingerprint[:12]}"


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
    durable.write_in_place(temporary / CARD, msgspec.json.format(msgspec.json.encode(card)))
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


def load(folder: Path, wanted_fingerprint: str) -> Model | None:
    """Return the saved model with this fingerprint, or None when there is none.

    Raises:
        ModelMismatch: there is one of that name, but it is damaged, or made by other code or another LightGBM.
    """
    import lightgbm

    place = folder / model_id(wanted_fingerprint)
    if not place.is_dir():
        return None
    try:
        if (place / CARD).stat().st_size > CARD_BYTES_MAX:
            raise ModelMismatch(f"{place.name}: {CARD} is larger than {CARD_BYTES_MAX} bytes")
        card = msgspec.json.decode((place / CARD).read_bytes(), type=Card)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelMismatch(f"{place.name}: {CARD} cannot be read: {error}") from error
    _require_same(card, wanted_fingerprint, lightgbm.__version__)
    boosters = []
    for name in (f"seed_{seed}.txt" for seed in range(card.seeds)):
        try:
            content = (place / name).read_bytes()
        except OSError as error:
            raise ModelMismatch(f"{place.name}: {name} cannot be read: {error}") from error
        if hashlib.sha256(content).hexdigest() != card.files.get(name):
            raise ModelMismatch(f"{place.name}: {name} is not the file that was saved")
        boosters.append(lightgbm.Booster(model_str=content.decode()))
    os.utime(place)  # in use: the last to be dropped
    return Model(card, boosters)


def _require_same(card: Card, wanted_fingerprint: str, lightgbm_version: str) -> None:
    wanted: dict[str, object] = {
        "format": FORMAT,
        "fingerprint": wanted_fingerprint,
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
    """Drop all but the newest models, and what a killed training left behind."""
    models = [place for place in folder.glob("lgbm-*") if place.is_dir() and place.name != keep]
    models.sort(key=lambda place: place.stat().st_mtime, reverse=True)
    for place in models[MODELS_KEPT - 1 :]:
        shutil.rmtree(place, ignore_errors=True)
    for place in folder.glob(".lgbm-*.tmp"):
        if time.time() - place.stat().st_mtime > LEFTOVER_S:
            shutil.rmtree(place, ignore_errors=True)
