"""Bars that were refused, one a line, for people: `data/bars/quarantine.txt`.

Written by the scanner's child process, under the caches' lock. Bounded; nothing reads it back but to tell what is new.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from actors.market import durable
from actors.market.errors import ScanError
from bus import failpoints

NAME = "quarantine.txt"
LINES_MAX = 1_000
LINE_CHARS_MAX = 400
BYTES_MAX = 2 * LINES_MAX * LINE_CHARS_MAX


def line(source: str, symbol: str, interval: str, what: str, reason: str) -> str:
    """Return the text of one entry, without its time."""
    text = f"{source} {symbol} {interval} {what}: {reason}"
    return " ".join(text.split())[: LINE_CHARS_MAX - 40]


def add(folder: Path, entries: Iterable[str], now: str) -> list[str]:
    """Put the entries that are not there yet into the file; return them. The newest LINES_MAX are kept.

    Raises:
        ScanError: the file cannot be written.
    """
    path = folder / NAME
    try:
        kept = _lines(path)
        known = {one.partition("  ")[2] for one in kept}
        fresh = [one for one in dict.fromkeys(entries) if one not in known]
        if not fresh:
            return []
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = "\n".join([*kept, *(f"{now}  {one}" for one in fresh)][-LINES_MAX:])
        failpoints.reach("scan.before_quarantine")  # writing down refused bars
        durable.write(path, f"{text}\n".encode())
        failpoints.reach("scan.after_quarantine")
    except OSError as error:
        raise ScanError(f"{path}: {error}", transient=True) from error
    return fresh


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            text = file.read(BYTES_MAX)
    except FileNotFoundError:
        return []
    return [one for one in text.decode("utf-8", errors="replace").splitlines() if one]
