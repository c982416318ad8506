"""What is known of a saved model without loading it: its card, and how one is read.

Used by the scanner's child process and by `pilot models`. Imports nothing heavy. Never loads a model.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from actors.market.errors import ModelMismatch

NAME = "model.json"
PREFIX = "lgbm-"
CARD_BYTES_MAX = 1_000_000
MODELS_READ_MAX = 1_000


class Metrics(Struct, frozen=True, kw_only=True):
    """How the ranking did on the newest fifth of the history, which its trial models had not seen.

    `rank_ic` is the mean Spearman correlation of score and outcome a bar. Expect about zero: no edge is promised.
    """

    days: int
    rank_ic: float
    rank_ic_t: float  # naive t value; overlapping outcomes make the true one smaller


class Card(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a saved model is. Everything that must agree before it may be used."""

    format: int
    model_id: str
    fingerprint: str
    timeframe: str
    source: str
    symbols: tuple[str, ...]
    columns: tuple[str, ...]
    first_day: str  # the time of a bar as signals carry it: a date of D1, else to the minute
    last_day: str  # the data cut
    last_known_day: str  # the last bar with an outcome: training saw nothing later
    horizon_bars: int
    parameters: dict[str, str | int | float | bool]
    rounds: int
    seeds: int
    lightgbm: str
    gap_terciles: tuple[tuple[float, float], ...]  # of past score gaps, by rank
    metrics: Metrics
    files: dict[str, str]  # name -> sha256


def model_id(fingerprint: str) -> str:
    """Return the name of the model with this fingerprint: `lgbm-` and 12 hexadecimal digits."""
    return f"{PREFIX}{fingerprint[:12]}"


def read(place: Path) -> Card:
    """Return the card in a model's folder.

    Raises:
        ModelMismatch: there is none, it cannot be read, or it belongs to another folder or fingerprint.
    """
    path = place / NAME
    try:
        if path.stat().st_size > CARD_BYTES_MAX:
            raise ModelMismatch(f"{place.name}: {NAME} is larger than {CARD_BYTES_MAX} bytes")
        found = msgspec.json.decode(path.read_bytes(), type=Card)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelMismatch(f"{place.name}: {NAME} cannot be read: {error}") from error
    if found.model_id != place.name or model_id(found.fingerprint) != place.name:
        raise ModelMismatch(
            f"{place.name}: the card is of {found.model_id} with fingerprint {found.fingerprint[:12]}; "
            "a folder holds the model it is named after"
        )
    return found


def places(folder: Path) -> list[Path]:
    """Return the folders of saved models, newest first; at most MODELS_READ_MAX."""
    if not folder.is_dir():
        return []
    found = [place for place in folder.glob(f"{PREFIX}*") if place.is_dir()]
    found.sort(key=lambda place: place.stat().st_mtime, reverse=True)
    return found[:MODELS_READ_MAX]
