"""The mark that a scan is finished: all its proposals were answered by the store.

Used by the scanner only. Written after the last answer, never before: a scan that dies half-way is done again, and the
store answers "already" to what it has.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from actors.market import durable

NAME = "last_scan.json"
BYTES_MAX = 100_000


class LastScan(Struct, frozen=True, kw_only=True):
    """The last finished scan."""

    fingerprint: str
    bar_time: str
    finished_at: str
    model_id: str
    symbols: tuple[str, ...]  # proposed, best first


def read(folder: Path) -> LastScan | None:
    """Return the last finished scan, or None when there was none.

    Raises:
        ValueError: the mark is there but cannot be read.
    """
    path = folder / NAME
    try:
        if path.stat().st_size > BYTES_MAX:
            raise ValueError(f"{path}: larger than {BYTES_MAX} bytes")
        return msgspec.json.decode(path.read_bytes(), type=LastScan)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error


def write(folder: Path, scan: LastScan) -> None:
    """Put the mark durably in place. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    durable.write(folder / NAME, msgspec.json.format(msgspec.json.encode(scan)))
