"""Files of JSON lines that survive kill -9: every line is on disk before the call returns.

Used by the paper broker for its account (events, replayed at start) and its ledger (every order received and placed).
A line that a kill cut in half is removed at the next start; a broken line in the middle stops the start. A file that
has become too large is put aside as a numbered part, `account.1.jsonl`, and a new one begins with a line that says
what it needs of the old ones; only the newest parts are kept.
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
        self._end_rotation()
        self._cut_torn_line()
        reach("paper.before_create")  # opening one of the two files, and making it if need be
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        _sync_folder(path.parent)
        reach("paper.after_create")
        self.size = os.fstat(self._file).st_size
        self._begun = _first_line_bytes(path)

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
            self.size += written
            reach("paper.after_append")
        except (OSError, FailpointError):  # on disk or not: memory no longer knows, a restart does
            self.failed = True
            raise

    def is_full(self, bytes_max: int) -> bool:
        """Return whether a new part is due. One that began large is not put aside before it has doubled."""
        return not self.failed and self.size >= max(bytes_max, 2 * self._begun)

    def rotate(self, first: T, parts_max: int) -> None:
        """Put the file aside as a part and go on in a new one that begins with `first`; keep the newest parts.

        A kill leaves the old file or the new one, never none.

        Raises:
            OSError: the disk did not take it. The file takes no more until a restart.
        """
        line = msgspec.json.encode(first) + b"\n"
        fresh = self.path.with_suffix(".new")
        there = parts(self.path)
        aside = self.path.with_suffix(f".{_number(there[-1]) + 1 if there else 1}.jsonl")
        try:
            reach("paper.before_rotate")  # the first line of a new account or ledger file, written beside the old one
            with fresh.open("wb") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            reach("paper.after_rotate")
            reach("paper.before_put_aside")  # renaming the old account or ledger: then there is only the draft
            self.path.rename(aside)
            reach("paper.after_put_aside")
            self._end_rotation()
            os.close(self._file)
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        except (OSError, FailpointError):
            self.failed = True
            raise
        self.size = self._begun = len(line)
        for old in [*there, aside][:-parts_max]:
            old.unlink()

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _end_rotation(self) -> None:
        """Let a draft take the file's place where that was put aside; remove one that never came to that."""
        draft = self.path.with_suffix(".new")
        if self.path.exists():
            draft.unlink(missing_ok=True)
        elif draft.exists():
            reach("paper.before_take_place")  # the draft becomes the account or the ledger
            draft.replace(self.path)
            _sync_folder(self.path.parent)
            reach("paper.after_take_place")

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


def parts(path: Path) -> list[Path]:
    """Return the parts of a file that were put aside and are kept, oldest first."""
    found = [one for one in path.parent.glob(f"{path.stem}.*.jsonl") if one.name.split(".")[1].isdigit()]
    return sorted(found, key=_number)


def _number(part: Path) -> int:
    return int(part.name.split(".")[1])


def _first_line_bytes(path: Path) -> int:
    with path.open("rb") as file:
        return len(file.readline())


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
