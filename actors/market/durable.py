"""Files that are there whole or not at all, also after a kill or a power cut.

Used by the scanner and by its child process.
"""

from __future__ import annotations

import os
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: temporary file, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    write_in_place(temporary, content)
    temporary.rename(path)
    sync_folder(path.parent)


def write_in_place(path: Path, content: bytes) -> None:
    """Write and fsync a file that nobody reads before its folder is renamed."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
