"""Bars out of a folder of Parquet files. Runs in the scanner's child process; the only importer of pyarrow here.

Reads files only; never fills in what is missing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from actors.market import feeds, intervals
from actors.market.bars import Bars
from actors.market.errors import BadBars
from actors.market.feeds import CLOSE_HEADER, OHLC_HEADER
from actors.market.intervals import Interval
from config.load import ConfigError

BYTES_MAX = 50_000_000
ROWS_MAX = 2_000_000


class ParquetFeed:
    """One `SYMBOL.parquet` each, `SYMBOL.H4.parquet` and `SYMBOL.H1.parquet`, oldest first.

    Columns `time` (timestamps or dates; without a zone they are UTC; read as those of CSV files) and `open`, `high`,
    `low`, `close`, or only `close`. Others are not read.
    """

    source = "parquet"

    def __init__(self, folder: Path, now: datetime | None = None) -> None:
        """`now` decides which days are over: the real time when None. Raises ConfigError without such a folder."""
        if not folder.is_dir():
            raise ConfigError(f"scanner.parquet_path was {str(folder)!r}: there is no such folder")
        self._folder = folder
        self._now = now or datetime.now(UTC)

    def bars(self, symbol: str, interval: Interval = "D1") -> Bars:
        """Return the bars of the symbol's file. Raises BadBars when it is not there or has other columns."""
        path = self._folder / f"{intervals.file_stem(symbol, interval)}.parquet"
        try:
            if path.stat().st_size > BYTES_MAX:
                raise BadBars(symbol, f"{path.name} is larger than {BYTES_MAX} bytes")
            columns = self._columns(symbol, path)
        except (OSError, pyarrow.ArrowException, ValueError) as error:
            raise BadBars(symbol, f"{path.name} cannot be read: {error}") from error
        times, *prices = columns.values()
        return feeds.of_file(symbol, self.source, interval, times, prices, self._now)

    def _columns(self, symbol: str, path: Path) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
        with pyarrow.parquet.ParquetFile(path) as file:
            found = set(file.schema_arrow.names)
            wanted = next((one for one in (OHLC_HEADER, CLOSE_HEADER) if set(one) <= found), None)
            if wanted is None:
                raise BadBars(
                    symbol,
                    f"{path.name} has the columns {', '.join(sorted(found))}; needed: {', '.join(OHLC_HEADER)} or "
                    f"{', '.join(CLOSE_HEADER)}",
                )
            if file.metadata.num_rows > ROWS_MAX:
                raise BadBars(symbol, f"{path.name} has {file.metadata.num_rows} rows; allowed {ROWS_MAX}")
            for name in wanted:
                if not _has_fixed_width(kind := file.schema_arrow.field(name).type):
                    raise BadBars(
                        symbol, f"{path.name} has {name} as {kind}; allowed: dates, times, whole and decimal numbers"
                    )
            table = file.read(wanted)
        times = table.column("time").cast(pyarrow.timestamp("s"), safe=False)
        columns = {name: table.column(name).cast(pyarrow.float64()).to_numpy() for name in wanted[1:]}
        return {"time": times.to_numpy().astype("datetime64[s]"), **columns}


def _has_fixed_width(kind: pyarrow.DataType) -> bool:
    """Return whether so many rows are so many bytes: texts could unpack a small file into any size."""
    return bool(pyarrow.types.is_primitive(kind) or pyarrow.types.is_decimal(kind))
