"""Bars of one source, symbol and interval in an append-only file, so that a source is asked only for what is new.

Written by the scanner's child process alone, under a lock; the scanner reads the newest time. Times are kept as the
source gave them: a broker's H4 and D1 bars begin where its server's day does. A kill at any byte leaves whole records
and at most a torn one, which the next writer cuts off. Never rewrites a bar.

The file is a line of JSON that says whose bars these are, padded to HEADER_BYTES, and records of RECORD_BYTES: opening
in epoch seconds, open, high, low, close, and a CRC-32 over all records up to this one.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
from loguru import logger
from msgspec import Struct

from actors.market import durable
from actors.market.errors import ScanError
from actors.market.intervals import Interval
from bus import failpoints

FORMAT = 1
HEADER_BYTES = 256
RECORD = struct.Struct("<q4dI")
VALUES = struct.Struct("<q4d")
ENDS = struct.Struct("<q32xI")  # time and chain of a record
RECORD_BYTES = RECORD.size
FILE_BYTES_MAX = 4_000_000  # 90,000 bars; a file is cut to what is wanted long before
LOCK = ".lock"


class Row(NamedTuple):
    """One finished bar: its opening in epoch seconds and its prices."""

    time: int
    open: float
    high: float
    low: float
    close: float

    @property
    def opened(self) -> datetime:
        """The opening in UTC."""
        return datetime.fromtimestamp(self.time, UTC)


class Owner(Struct, frozen=True, kw_only=True):
    """Whose bars a file holds. `origin` is the address they came from."""

    source: str
    origin: str
    symbol: str
    interval: Interval
    format: int = FORMAT


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold the one writer's lock on a folder of caches. Raises ScanError, transient, when another process has it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ScanError(f"another process writes the bars in {folder}", transient=True) from error
        yield
    finally:
        os.close(descriptor)


def path_of(folder: Path, owner: Owner) -> Path:
    """Return where the bars of this owner are kept: another address is another file."""
    origin = f"{zlib.crc32(owner.origin.encode()):08x}"
    return folder / f"{owner.source}-{origin}" / f"{owner.symbol}.{owner.interval}.bars"


def newest(path: Path) -> Row | None:
    """Return the newest whole bar of a file without reading the rest.

    None when there is none, or when its checksum does not follow from the one before: then nothing of it can be
    believed, and the next writer cuts it off.
    """
    try:
        with path.open("rb") as file:
            records = (os.fstat(file.fileno()).st_size - HEADER_BYTES) // RECORD_BYTES
            if records <= 0:
                return None
            known = min(records, 2)
            file.seek(HEADER_BYTES + (records - known) * RECORD_BYTES)
            content = file.read(known * RECORD_BYTES)
    except OSError:
        return None
    if len(content) != known * RECORD_BYTES:
        return None
    *values, told = RECORD.unpack(content[-RECORD_BYTES:])
    before = ENDS.unpack(content[:RECORD_BYTES])[1] if known == 2 else 0
    is_whole = zlib.crc32(content[-RECORD_BYTES:][: VALUES.size], before) == told
    return Row(*values) if is_whole else None


class Cache:
    """One file. Use inside `writing`; opening it repairs what a kill left."""

    def __init__(self, folder: Path, owner: Owner, tell: Callable[[str], None] = logger.warning) -> None:
        """Read and check the file; make it when there is none. `tell` hears of a file that was put right.

        Raises:
            ScanError: it cannot be read or written.
        """
        self.path = path_of(folder, owner)
        self._tell = tell
        self._records = bytearray()  # checked; kept packed, because most of them are only wanted as columns
        self._crc = 0
        self._header = _header(owner)
        try:
            content = self._content()
            if content[:HEADER_BYTES] != self._header:
                if content:
                    self._tell(f"began {self.path} anew: its first line is not its own")
                self._replace(())
                return
            self._read(content)
        except OSError as error:
            raise ScanError(f"{self.path}: {error}", transient=True) from error

    def __len__(self) -> int:
        return len(self._records) // RECORD_BYTES

    @property
    def rows(self) -> list[Row]:
        """All bars, oldest first."""
        return self.tail(len(self))

    def tail(self, count: int) -> list[Row]:
        """Return the newest `count` bars, oldest first."""
        return [Row(*values[:-1]) for values in RECORD.iter_unpack(self.records(count))]

    def records(self, count: int) -> bytes:
        """Return the newest `count` bars as they stand in the file."""
        return bytes(self._records[-count * RECORD_BYTES :]) if count else b""

    def append(self, rows: Sequence[Row]) -> None:
        """Put bars behind the newest one, durably. Raises ScanError when that fails; a part may stand then."""
        behind = itertools.pairwise([*self.tail(1), *rows])
        assert all(a.time < b.time for a, b in behind), "bars are appended"
        if not rows:
            return
        content, crc = encoded(rows, self._crc)
        try:
            failpoints.reach("scan.before_append_bars")  # finished bars into their cache, written and synced
            with self.path.open("ab") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            failpoints.reach("scan.after_append_bars")
        except OSError as error:
            raise ScanError(f"{self.path}: {error}", transient=True) from error
        self._records += content
        self._crc = crc

    def keep(self, count: int) -> None:
        """Drop the oldest bars when there are twice as many as wanted. Raises ScanError when that fails."""
        if len(self) < 2 * count:
            return
        try:
            self._replace(self.tail(count))
        except OSError as error:
            raise ScanError(f"{self.path}: {error}", transient=True) from error

    def _content(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                content = file.read(FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            return b""
        if len(content) > FILE_BYTES_MAX:
            raise OSError(f"larger than {FILE_BYTES_MAX} bytes; remove it")
        return content

    def _read(self, content: bytes) -> None:
        """Take all records up to the first that is torn or wrong, and cut the file there."""
        at, self._crc = _whole(content)
        self._records += content[HEADER_BYTES:at]
        if at == len(content):
            return
        self._tell(f"cut {len(content) - at} bytes off the end of {self.path}: not whole bars")
        failpoints.reach("scan.before_cut_bars")  # cutting off what a kill left of an append
        with self.path.open("r+b") as file:
            file.truncate(at)
            os.fsync(file.fileno())
        failpoints.reach("scan.after_cut_bars")

    def _replace(self, rows: Sequence[Row]) -> None:
        """Put a file of just these bars in its place, in one step."""
        content, crc = encoded(rows)
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        failpoints.reach("scan.before_replace_bars")  # a new cache file, or one without its oldest bars
        durable.write(self.path, self._header + content)
        failpoints.reach("scan.after_replace_bars")
        self._records, self._crc = bytearray(content), crc


def read(folder: Path, owner: Owner) -> bytes:
    """Return the whole records of this owner's file without touching it; none when it is missing, foreign or too large.

    Needs no lock: what a writer has only half appended is not read.
    """
    try:
        with path_of(folder, owner).open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError:
        return b""
    if len(content) > FILE_BYTES_MAX or content[:HEADER_BYTES] != _header(owner):
        return b""
    return content[HEADER_BYTES : _whole(content)[0]]


def _header(owner: Owner) -> bytes:
    return msgspec.json.encode(owner).ljust(HEADER_BYTES - 1) + b"\n"


def _whole(content: bytes) -> tuple[int, int]:
    """Return where the first record begins that is torn or wrong, and the end of the chain before it."""
    at, before, chain = HEADER_BYTES, -1, 0
    whole = max(0, len(content) - HEADER_BYTES) // RECORD_BYTES * RECORD_BYTES
    view = memoryview(content)
    if (proven := _proven(view[HEADER_BYTES : HEADER_BYTES + whole])) is not None:
        return HEADER_BYTES + whole, proven
    for time, told in ENDS.iter_unpack(view[HEADER_BYTES : HEADER_BYTES + whole]):
        crc = zlib.crc32(view[at : at + VALUES.size], chain)
        if crc != told or time <= before:
            break
        chain, before = crc, time
        at += RECORD_BYTES
    return at, chain


def _proven(records: memoryview) -> int | None:
    """Return the end of the chain if it proves every value before it and times rise, else None: then look one by one.

    The chain is one CRC-32 over all values, so that its end alone proves them, at a hundredth of the time.
    """
    import numpy as np

    if not records:
        return None
    table = np.frombuffer(records, dtype=[("values", f"V{VALUES.size}"), ("chain", "<u4")])
    times = np.frombuffer(records, dtype=[("time", "<i8"), ("rest", f"V{RECORD_BYTES - 8}")])["time"]
    chain = zlib.crc32(table["values"].tobytes())
    return chain if chain == int(table["chain"][-1]) and times[0] >= 0 and bool((np.diff(times) > 0).all()) else None


def encoded(rows: Sequence[Row], crc: int = 0) -> tuple[bytes, int]:
    """Return the records of these bars behind a chain that ends in `crc`, and its new end."""
    found = bytearray()
    for row in rows:
        values = VALUES.pack(*row)
        crc = zlib.crc32(values, crc)
        found += values + crc.to_bytes(4, "little")
    return bytes(found), crc
