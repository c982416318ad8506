"""The tables of `dump.TABLES` as CSV or Parquet in a new folder: whole, or not there.

Used by `pilot export`. Reads one moment of the database and changes nothing in it; holds some rows of one table at a
time. Loads pyarrow only when Parquet is wanted. Values are exact: cents are integers, prices and volumes are the
decimal text that the database holds.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Literal

from actors.console import cells
from actors.market import durable
from bus import failpoints
from store import dump
from store.dump import Value
from store.queries import Reader

ROWS_A_BATCH = 5_000
CHARS_A_BATCH = 8_000_000  # papers of analysts are long

Kind = Literal["csv", "parquet"]
Row = tuple[Value, ...]


class ExportRefused(Exception):
    """Nothing was exported. The message says why and what to do."""


def export(reader: Reader, folder: Path, kind: Kind) -> dict[str, int]:
    """Write every table of `dump.TABLES` into `folder`, which must not exist; return the number of rows of each.

    Raises:
        ExportRefused: the folder is there, its place cannot be written to, or another export is writing it.
    """
    if folder.exists() or folder.is_symlink():
        raise ExportRefused(f"{folder} exists; choose a new folder: an export never changes what is there")
    part = folder.with_name(f".{folder.name}.part")
    try:
        with _held(part):
            with reader.snapshot():
                counts = {table: _write(reader, table, part / f"{table}.{kind}", kind) for table in dump.TABLES}
            failpoints.reach("pilot.before_keep_export")  # giving the folder its name
            part.rename(folder)
            durable.sync_folder(folder.parent)
            failpoints.reach("pilot.after_keep_export")
    except OSError as error:
        raise ExportRefused(f"{folder}: {error.strerror or error}") from error
    return counts


@contextlib.contextmanager
def _held(part: Path) -> Iterator[None]:
    """Make the folder that is written to, empty it of what a killed export left, and keep others out of it."""
    part.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ExportRefused(f"{part}: another export is writing there") from error
        for left in part.iterdir():
            left.unlink()
        try:
            yield
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    finally:
        os.close(descriptor)


def _write(reader: Reader, table: str, path: Path, kind: Kind) -> int:
    columns, written = dump.columns(reader, table), 0
    failpoints.reach("pilot.before_export_table")  # one table as one file, synced
    with path.open("wb") as file:
        write, close = (_csv if kind == "csv" else _parquet)(file, columns)
        for batch in _batches(dump.rows(reader, table)):
            write(batch)
            written += len(batch)
        close()
        file.flush()
        os.fsync(file.fileno())
    failpoints.reach("pilot.after_export_table")
    return written


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield the rows in batches that are bounded in number and in length."""
    batch: list[Row] = []
    chars = 0
    for row in rows:
        batch.append(row)
        chars += sum(len(value) for value in row if isinstance(value, str))
        if len(batch) >= ROWS_A_BATCH or chars >= CHARS_A_BATCH:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


Writing = tuple[Callable[[list[Row]], None], Callable[[], None]]


def _csv(file: IO[bytes], columns: list[tuple[str, str]]) -> Writing:
    """Return how to write rows, and how to end."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([name for name, _ in columns])

    def write(rows: list[Row]) -> None:
        lines.writerows([list(map(cells.cell, row)) for row in rows])

    def close() -> None:
        text.flush()
        text.detach()

    return write, close


def _parquet(file: IO[bytes], columns: list[tuple[str, str]]) -> Writing:
    import pyarrow
    from pyarrow import parquet

    types = {"INTEGER": pyarrow.int64(), "REAL": pyarrow.float64(), "TEXT": pyarrow.string()}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in columns])
    writer = parquet.ParquetWriter(file, schema, compression="zstd")

    def write(rows: list[Row]) -> None:
        arrays = [
            pyarrow.array(values, type=field.type)
            for values, field in zip(zip(*rows, strict=True), schema, strict=True)
        ]
        writer.write_batch(pyarrow.record_batch(arrays, schema=schema))

    return write, writer.close
