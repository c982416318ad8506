"""The mark that a scan is finished: all its proposals were answered by the store.

Used by the scanner only. Written after the last answer, never before: a scan that dies half-way is done again, and the
store answers "already" to what it has.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from actors.market import durable
from actors.market.intervals import Interval

NAME = "last_scan.json"  # of D1; of another timeframe last_scan.H4.json
BYTES_MAX = 100_000


class LastScan(Struct, frozen=True, kw_only=True):
    """The last finished scan."""

    fingerprint: str
    bar_time: str
    finished_at: str
    model_id: str
    symbols: tuple[str, ...]  # proposed, best first
    stamp: str = ""  # what its look saw: see actors.market.inputs; "": no look can know


def name_of(timeframe: Interval) -> str:
    """Return the name of the mark of a timeframe."""
    return NAME if timeframe == "D1" else f"last_scan.{timeframe}.json"


def read(folder: Path, timeframe: Interval = "D1") -> LastScan | None:
    """Return the last finished scan of a timeframe, or None when there was none.

    Raises:
        ValueError: the mark is there but cannot be read.
    """
    path = folder / name_of(timeframe)
    try:
        if path.stat().st_size > BYTES_MAX:
            raise ValueError(f"{path}: larger than {BYTES_MAX} bytes")
        return msgspec.json.decode(path.read_bytes(), type=LastScan)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error


def write(folder: Path, scan: LastScan, timeframe: Interval = "D1") -> None:
    """Put the mark durably in place. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    durable.write(folder / name_of(timeframe), msgspec.json.format(msgspec.json.encode(scan)))
