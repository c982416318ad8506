"""Files of JSON lines that survive kill -9: every line is on disk before the call returns.

Used by the paper broker for its account (events, replayed at start) and its ledger (every order received and placed).
A line that a kill cut in half is removed at the next start; a broken line in the middle stops the start.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from bus.failpoints import FailpointError, reach
from config.load import ConfigError

T = TypeVar("T")


class Journal(Generic[T]):
    """One append-only file. Only one process may have it open: the paper broker's lock sees to that."""

    def __init__(self, path: Path, kind: Any) -> None:
        self.path = path
        self.failed = False
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._cut_torn_line()
        reach("paper.before_create")  # opening one of the two files, and making it if need be
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        _sync_folder(path.parent)
        reach("paper.after_create")

    def read(self) -> list[T]:
        """Return all lines, oldest first.

        Raises:
            ConfigError: a line is none of ours; the file is left as it was.
        """
        found: list[T] = []
        for number, line in enumerate(self.path.read_bytes().splitlines(), start=1):
            try:
                found.append(self._decoder.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ConfigError(f"{self.path}: line {number} is unreadable ({error}); move the file away") from error
        return found

    def append(self, *lines: T) -> None:
        """Write lines and wait until they are on disk.

        Raises:
            OSError: the disk did not take them. The file takes no more until a restart has repaired it.
        """
        if self.failed:
            raise OSError(f"{self.path}: an earlier write failed; restart to repair it")
        data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        try:
            reach("paper.before_append")  # lines of the account or of the ledger, written and synced
            written = os.write(self._file, data)
            if written != len(data):
                raise OSError(f"{self.path}: only {written} of {len(data)} bytes were written")
            os.fsync(self._file)
            reach("paper.after_append")
        except (OSError, FailpointError):  # on disk or not: memory no longer knows, a restart does
            self.failed = True
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _cut_torn_line(self) -> None:
        if not self.path.exists():
            return
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            # It was never answered for: the answer comes after the line.
            reach("paper.before_repair")  # cutting off half a line that a kill left
            with self.path.open("r+b") as file:
                file.truncate(whole)
                os.fsync(file.fileno())
            reach("paper.after_repair")


def replace(path: Path, content: bytes) -> None:
    """Write a small file so that a kill leaves the old or the new one, never a mix."""
    reach("paper.before_replace")  # the simulated time: a small file, written and renamed
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    _sync_folder(path.parent)
    reach("paper.after_replace")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
