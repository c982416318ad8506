"""Copy the database while it is in use, and prove that the copy is good. Run by the monitor's janitor and by pilot.

Reads only: the copy is made by SQLite's backup API, checked, synced and renamed into place.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import apsw

from bus.clock import Clock
from bus.failpoints import reach
from store import connection

PAGES_A_STEP = 2_000


class BackupFailed(Exception):
    """The copy could not be made or is not good. Older backups are untouched."""


class Damaged(Exception):
    """The copy does not pass its integrity check."""


def backup(source: Path, folder: Path, kept: int, clock: Clock) -> Path:
    """Write `decisions-<time>.db` into `folder`, check it, and keep the newest `kept`.

    Raises:
        BackupFailed: no space, an unreadable source, or a copy that does not pass its integrity check.
    """
    name = f"decisions-{clock.now():%Y%m%dT%H%M%SZ}.db"
    part, whole = folder / f"{name}.part", folder / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in folder.glob("decisions-*.db.part*"):  # of one that was killed
            left.unlink(missing_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        copy(source, part)
        reach("monitor.before_keep")  # syncing the checked copy and giving it its name
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.rename(whole)
        connection.sync_folder(folder)
        reach("monitor.after_keep")
    except (OSError, apsw.Error, connection.DatabaseRefused, Damaged) as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise BackupFailed(f"backup of {source.name} into {folder}: {error}") from error
    for old in sorted(folder.glob("decisions-*.db"))[:-kept]:
        old.unlink(missing_ok=True)
    return whole


def integrity(path: Path) -> str:
    """Return "ok", or the first fault that a full integrity check of the database finds."""
    db = connection.open_reader(path, older=True)
    try:
        return str(db.execute("PRAGMA integrity_check(1)").get)
    except apsw.Error as error:
        return str(error)  # damaged beyond what the check can describe
    finally:
        db.close()


def copy(source: Path, target: Path) -> None:
    """Copy a database that may be in use into an empty file, and check the copy in full. Raises Damaged, apsw.Error."""
    reader = connection.open_reader(source, older=True)
    writer = apsw.Connection(str(target))
    try:
        reach("monitor.before_copy")  # copying the database page by page
        with writer.backup("main", reader, "main") as copying:
            while not copying.done:
                copying.step(PAGES_A_STEP)
        reach("monitor.after_copy")
        writer.pragma("journal_mode", "delete")  # one file, no log beside it
        verdict = str(writer.execute("PRAGMA integrity_check(1)").get)
        if verdict != "ok":
            raise Damaged(f"the copy is damaged: {verdict}")
    finally:
        writer.close()
        reader.close()
