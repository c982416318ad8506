"""What a look without a child costs in the scanner, and a scan of ten pairs in its child after imports: milliseconds.

.venv/bin/python -m tests.bench.scans
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from actors.market import gather, inputs, scan
from actors.market.cache import Cache
from actors.market.job import Ranked, ScanJob, Skipped
from config.settings import Broker, Scanner, Settings
from tests.kit import walks

NOW = datetime(2026, 2, 18, 12, 0, 30, tzinfo=UTC)
ROUNDS = 15
WINDOW = 2_870  # the newest bars of each pair, as the defaults have it


def took_ms(work: Callable[[], object]) -> tuple[float, float]:
    """Return median and worst of this thread's time on the processor."""
    spent = []
    for _ in range(ROUNDS):
        begun = time.thread_time_ns()
        work()
        spent.append((time.thread_time_ns() - begun) / 1e6)
    return statistics.median(spent), max(spent)


def tell(what: str, work: Callable[[], object]) -> None:
    median, worst = took_ms(work)
    sys.stdout.write(f"{what:62} median {median:6.1f}, worst {worst:6.1f}\n")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="pb-") as name:
        folder = Path(name)
        scanner = Scanner(sources=("broker",), timeframes=("H1",))
        settings = Settings(profile="bench", scanner=scanner, broker=Broker(base_url="http://127.0.0.1:9"))
        for seed, owner in enumerate(inputs.owners(settings, "broker", "H1")):
            Cache(folder / "bars", owner).append(walks.rows("H1", seed, NOW, WINDOW))
        job = ScanJob(
            symbols=settings.symbols, scanner=scanner, today="2026-02-18", now=NOW.isoformat(), timeframe="H1",
            models_folder=str(folder / "models"), bars_folder=str(folder / "bars"), broker=settings.broker,
        )  # fmt: skip

        def look(known: str = "") -> inputs.View:
            return inputs.look(
                settings, "H1", NOW, models=folder / "models", bars=folder / "bars", known=known
            )  # fmt: skip

        first = scan.scan(job)
        known = look().stamp  # after the training, which leaves a model
        if not isinstance(first, Ranked) or look(known).is_new_possible:
            raise SystemExit(f"the case must be ranked and then have nothing new: {first}")
        done = msgspec.structs.replace(job, done=first.fingerprint)
        if not isinstance(scan.scan(done), Skipped):
            raise SystemExit("the same bars again must be skipped")
        tell("a look at 10 cached pairs, nothing new: no child", lambda: look(known))
        tell(f"bars of 10 pairs out of the cache, {WINDOW} each, checked", lambda: gather.Gathering(job, WINDOW).bars())
        tell("a scan that is skipped, in the child", lambda: scan.scan(done))
        tell("a warm scan of 10 pairs, in the child", lambda: scan.scan(job))


if __name__ == "__main__":
    main()
