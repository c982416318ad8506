"""Bars for a replay: one CSV of many symbols, or what the scanner's feeds read.

Run by the paper broker through `sources`, once at its start. Files only, never the network; what is wrong in them is
refused with its line. Only the scanner's feeds need numpy, and only they load it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

from actors.broker.paper.replay import Row, Series
from actors.broker.paper.values import Terms
from config import settings
from config.load import ConfigError

if TYPE_CHECKING:
    from actors.market.bars import Bars

HEADER = ["symbol", "time", "open", "high", "low", "close"]
FILE_BYTES_MAX = 500_000_000
BARS_MAX = 2_000_000
ECB_DAYS_MAX = 2_600


def read(paper: settings.Paper, terms: Sequence[Terms]) -> dict[str, Series]:
    """Return the bars of every symbol, by the broker's name.

    Raises:
        ConfigError: a file is missing or unreadable, a line is no bar, a symbol has none.
    """
    if paper.bars_feed == "ohlc":
        return _of_one_file(Path(paper.bars_path), paper.symbol_suffix, terms)
    return _of_a_feed(paper, terms)


def symbols(path: Path) -> tuple[str, ...]:
    """Return our symbols in a CSV of many, as they first come. Raises ConfigError when it cannot be read."""
    return tuple(dict.fromkeys(symbol for _, symbol, _ in _lines(path)))


def _of_one_file(path: Path, suffix: str, terms: Sequence[Terms]) -> dict[str, Series]:
    rows: dict[str, list[Row]] = {one.symbol: [] for one in terms}
    count = 0
    for number, symbol, cells in _lines(path):
        kept = rows.get(symbol + suffix)
        if kept is None:
            continue
        count += 1
        if count > BARS_MAX:
            raise ConfigError(f"{path}: more than {BARS_MAX} bars; name fewer symbols")
        kept.append(_row(path, number, cells))
    return {one.symbol: _series(one, rows.pop(one.symbol), str(path)) for one in terms}


def _lines(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Yield line number, symbol and the cells behind it."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ConfigError(f"{path}: larger than {FILE_BYTES_MAX} bytes")
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            header = [cell.strip().lower() for cell in next(lines, [])]
            if header not in (HEADER, [*HEADER, "volume"]):
                raise ConfigError(f"{path}: begins with {','.join(header)[:80]!r}; allowed: {','.join(HEADER)}")
            for cells in lines:
                if cells and len(cells) != len(header):
                    raise ConfigError(f"{path}: line {lines.line_num} has {len(cells)} cells instead of {len(header)}")
                if cells:
                    yield lines.line_num, cells[0].strip(), cells[1:6]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"paper.bars_path: {path}: {error}") from error


def _row(path: Path, number: int, cells: list[str]) -> Row:
    try:
        opened, high, low, close = (Decimal(cell.strip()) for cell in cells[1:])
        return Row(epoch_ms(cells[0]), opened, high, low, close)
    except (ValueError, InvalidOperation) as error:
        raise ConfigError(f"{path}: line {number} is no bar: {','.join(cells)[:80]!r}") from error


def epoch_ms(text: str) -> int:
    """Return an ISO 8601 day or time as epoch milliseconds; without a zone it is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text.strip())
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)


def _of_a_feed(paper: settings.Paper, terms: Sequence[Terms]) -> dict[str, Series]:
    from actors.market import feeds
    from actors.market.errors import BadBars, ScanError

    try:
        feed: feeds.Feed = (
            feeds.EcbFeed(ECB_DAYS_MAX) if paper.bars_feed == "ecb" else feeds.CsvFeed(Path(paper.bars_path))
        )
        found = {one.symbol: feed.bars(one.base_currency + one.quote_currency) for one in terms}
    except (BadBars, ScanError) as error:
        raise ConfigError(f"paper.bars_feed = {paper.bars_feed!r}: {error}") from error
    return {one.symbol: _series(one, _rows(one, found[one.symbol]), found[one.symbol].source) for one in terms}


def _rows(terms: Terms, bars: Bars) -> Iterator[Row]:
    """Yield the bars; a source that knows one price a day opens where it closed, so that its price moves by day."""
    times = bars.time.astype("datetime64[ms]").astype(int).tolist()
    columns = (bars.open.tolist(), bars.high.tolist(), bars.low.tolist(), bars.close.tolist())
    before: Decimal | None = None
    for time, *floats in zip(times, *columns, strict=True):
        opened, high, low, close = (Decimal(repr(one)) for one in floats)
        if bars.closes_only:
            opened = close if before is None else before
            high, low, before = max(opened, close), min(opened, close), close
        yield Row(time, opened, high, low, close)


def _series(terms: Terms, rows: Sequence[Row] | Iterator[Row], source: str) -> Series:
    try:
        return Series(terms, rows)
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from error
