"""Which saved model ranks: the current one, or the one that the operator has pinned. One small file each.

`current-TIMEFRAME-SOURCE.json` is written by the scanner's child processes only, `pinned-TIMEFRAME-SOURCE.json` by
`pilot models use` only, so that no one overwrites what another has just written. Imports nothing heavy.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from actors.market import durable
from actors.market.errors import ModelMismatch

BYTES_MAX = 10_000
CHOICES_MAX = 100

Kind = Literal["current", "pinned"]


class Choice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pointer to one saved model. `operator` and `at` say who pinned it and when; empty for the current one."""

    model_id: str
    timeframe: str
    source: str
    operator: str = ""
    at: str = ""


def path(folder: Path, kind: Kind, timeframe: str, source: str) -> Path:
    """Return where the pointer of a timeframe and a source of bars stands."""
    plain = re.sub(r"[^A-Za-z0-9.]", lambda found: f"_{ord(found[0]):x}", source)
    return folder / f"{kind}-{timeframe}-{plain}.json"


def read(folder: Path, kind: Kind, timeframe: str, source: str) -> Choice | None:
    """Return the pointer, or None when there is none.

    Raises:
        ModelMismatch: it is there but cannot be read.
    """
    return _read(path(folder, kind, timeframe, source))


def _read(place: Path) -> Choice | None:
    try:
        if place.stat().st_size > BYTES_MAX:
            raise ModelMismatch(f"{place.name} is larger than {BYTES_MAX} bytes")
        return msgspec.json.decode(place.read_bytes(), type=Choice)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelMismatch(f"{place.name} cannot be read: {error}") from error


def read_all(folder: Path, kind: Kind) -> list[Choice]:
    """Return every pointer of a kind that can be read; at most CHOICES_MAX. A damaged one points at nothing."""
    found = []
    for place in sorted(folder.glob(f"{kind}-*.json"))[:CHOICES_MAX]:
        try:
            choice = _read(place)
        except ModelMismatch:
            continue
        if choice is not None:
            found.append(choice)
    return found


def write(folder: Path, kind: Kind, choice: Choice) -> None:
    """Put the pointer durably in place of the old one, in one step. Raises OSError."""
    place = path(folder, kind, choice.timeframe, choice.source)
    durable.write(place, msgspec.json.format(msgspec.json.encode(choice)))
