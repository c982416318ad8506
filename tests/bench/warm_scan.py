"""How long a scan with a model at hand takes inside the child: columns, prediction, ranking.

`python -m tests.bench.warm_scan`. Ten synthetic pairs with the default settings. Excludes the interpreter's start,
reading bars and training.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"  # as in the child

from actors.market import rating, training, windows  # noqa: E402 - after the limits of threads
from actors.market.job import ScanJob  # noqa: E402
from config.settings import Scanner, Settings  # noqa: E402
from tests.kit import market  # noqa: E402

RUNS = 30
LIMIT_MS = 100.0


def main() -> None:
    """Train once, rank RUNS times, print the times."""
    wanted, symbols = Scanner(), Settings(profile="bench").symbols
    good = [
        market.some_bars(symbol, windows.bars(wanted, "D1"), seed=seed) for seed, symbol in enumerate(symbols, start=1)
    ]
    with tempfile.TemporaryDirectory() as folder:
        job = ScanJob(
            symbols=symbols, scanner=wanted, today=market.TODAY.isoformat(), models_folder=str(Path(folder) / "models")
        )
        training.made(job, good)
        wall, cpu = [], []
        for _ in range(RUNS):
            begun, begun_cpu = time.perf_counter(), time.process_time()
            rating.ranked(job, good, fingerprint="bench", left_out=(), notes=[])
            wall.append((time.perf_counter() - begun) * 1_000)
            cpu.append((time.process_time() - begun_cpu) * 1_000)
    sys.stdout.write(
        f"warm scan of {len(symbols)} pairs, ms: median {statistics.median(wall):.0f}, fastest {min(wall):.0f}, "
        f"slowest {max(wall):.0f}; of the processor {statistics.median(cpu):.0f}; wanted below {LIMIT_MS:.0f}\n"
    )


if __name__ == "__main__":
    main()
