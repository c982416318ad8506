"""Whether a scan can find anything new, without reading a bar: no child process is started when it cannot.

Used by the scanner only. Looks at settings, at the code's and the files' sizes and times, and at the newest cached bar;
all of it takes milliseconds. When in doubt it says yes: the child decides by the fingerprint of what it reads.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from actors.market import cache, granted, intervals, sessions, spans, windows
from actors.market.cache import Owner, Row
from actors.market.intervals import Interval
from config.settings import Scanner, Settings

CODE = Path(__file__).parent
NETWORK = ("broker", "twelvedata")
FILES_MAX = 1_000  # of the code, and of the models: a few dozen


class View(NamedTuple):
    """What a look sees. `stamp` names all but bars from a network; `is_awaited`: one of those should be there now."""

    stamp: str
    is_new_possible: bool
    is_awaited: bool = False


def look(settings: Settings, timeframe: Interval, now: datetime, *, models: Path, bars: Path, known: str) -> View:
    """Return what can be seen from here. `known` is the stamp of the last finished scan, "" when there was none."""
    wanted = settings.scanner
    stamp = _stamp(settings, timeframe, now, models)
    first = wanted.sources[0]
    if first in NETWORK:
        lasts = [_last(bars, one) for one in owners(settings, first, timeframe)]
        newest = max((row for row in lasts if row is not None), default=None)
        is_awaited = newest is None or sessions.next_close(timeframe, newest.opened, holidays_of(settings)) <= now
        return View(stamp, stamp != known or is_awaited, is_awaited)
    return View(stamp, stamp != known or not _is_fixed(first))


def reads_needed(settings: Settings, timeframe: Interval, now: datetime, bars: Path) -> int:
    """Return how many requests to the broker a scan may take; 0 when its candles are not wanted or not to be new."""
    if "broker" not in settings.scanner.sources:
        return 0
    window, holidays = windows.bars(settings.scanner, timeframe), holidays_of(settings)
    needed = sum(
        len(spans.pieces(
            _last(bars, owner), timeframe, now, window=window, piece_bars=granted.PIECE_BARS, holidays=holidays
        ))
        for owner in owners(settings, "broker", timeframe)
    )  # fmt: skip
    return needed + granted.OVERHEAD_READS if needed else 0


def owners(settings: Settings, name: str, timeframe: Interval) -> list[Owner]:
    """Return whose caches a source of this name has."""
    if name == "broker":
        source, origin = granted.name_of(settings.broker), settings.broker.base_url
    else:
        source, origin = name, settings.scanner.twelvedata_url
    return [Owner(source=source, origin=origin, symbol=symbol, interval=timeframe) for symbol in settings.symbols]


def holidays_of(settings: Settings) -> frozenset[date]:
    """Return the operator's holidays as dates."""
    return frozenset(date.fromisoformat(day) for day in settings.compliance.holidays)


def _last(bars: Path, owner: Owner) -> Row | None:
    return cache.newest(cache.path_of(bars, owner))


def _is_fixed(name: str) -> bool:
    """Return whether the stamp names all that this source has. Invented bars go on by themselves."""
    return name in ("csv", "parquet", "ecb")


def _stamp(settings: Settings, timeframe: Interval, now: datetime, models: Path) -> str:
    wanted: Scanner = msgspec.structs.replace(settings.scanner, interval_s=1.0, settle_s=0.0)
    digest = hashlib.sha256(msgspec.json.encode((wanted, settings.symbols, timeframe, settings.compliance.holidays)))
    if any(_is_fixed(name) for name in wanted.sources):
        # What may be unfinished today can be a finished bar tomorrow, in the same file.
        digest.update(f"{now:%Y-%m-%d}".encode() if timeframe == "D1" else f"{now:%Y-%m-%dT%H}".encode())
    stems = [intervals.file_stem(symbol, timeframe) for symbol in settings.symbols]
    files = [
        Path(folder) / f"{stem}.{ending}"
        for folder, ending in ((wanted.csv_path, "csv"), (wanted.parquet_path, "parquet")) if folder
        for stem in stems
    ]  # fmt: skip
    for path in itertools.chain(_files(CODE, "*.py"), _files(models, "*.json"), files):
        try:
            found = path.stat()
        except OSError:
            continue
        digest.update(f"{path}|{found.st_size}|{found.st_mtime_ns}|{found.st_ino}\n".encode())
    return digest.hexdigest()


def _files(folder: Path, pattern: str) -> Iterable[Path]:
    """Return the files of a folder, sorted; not the marks of finished scans."""
    found = sorted(itertools.islice(folder.glob(pattern), FILES_MAX))
    return (path for path in found if not path.name.startswith("last_scan"))
