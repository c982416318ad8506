"""The bars that are already here: what the caches hold, without a lock, a request or a change.

Used by trainings, which run beside scans, and by `pilot scan`, which runs beside the whole pipeline. What a kill or a
writer at work leaves at the end of a cache is not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from actors.market import cache, granted, remote
from actors.market.bars import Bars
from actors.market.cache import Owner
from actors.market.errors import BadBars, SourceAway
from actors.market.job import ScanJob


def cached(job: ScanJob, name: str) -> Iterator[Bars | BadBars]:
    """Yield the cached bars of each symbol, or why there are none.

    Raises:
        SourceAway: this source has no caches here.
    """
    if not job.bars_folder or (name == "broker" and job.broker is None):
        raise SourceAway(f"{name}: no bars are kept here")
    for symbol in job.symbols:
        if name == "broker" and job.broker is not None:
            source, origin = granted.name_of(job.broker), job.broker.base_url
        else:
            source, origin = name, job.scanner.twelvedata_url
        owner = Owner(source=source, origin=origin, symbol=symbol, interval=job.timeframe)
        records = cache.read(Path(job.bars_folder), owner)
        if records:
            yield remote.as_bars(symbol, source, job.timeframe, records)
        else:
            yield BadBars(symbol, f"no bars of {source} are kept here; the scanner fetches them")
