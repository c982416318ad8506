"""Copy the database while it is in use, and prove that the copy is good. Run by the monitor's janitor and by pilot.

Reads only: the copy is made by SQLite's backup API, checked, synced and renamed into place. A second folder, on another
disk, gets a checked copy of the copy. When one was made says its name: file times change with whoever moves files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import apsw

from bus.clock import Clock
from bus.failpoints import reach
from store import connection

PAGES_A_STEP = 2_000
NAME = "decisions-%Y%m%dT%H%M%SZ.db"
PATTERN = "decisions-*.db"


class BackupFailed(Exception):
    """The copy could not be made or is not good. Older backups are untouched."""


class Damaged(Exception):
    """The copy does not pass its integrity check."""


def backup(source: Path, folder: Path, kept: int, clock: Clock) -> Path:
    """Write `decisions-<time>.db` into `folder`, check it, and keep the newest `kept`.

    Raises:
        BackupFailed: no space, an unreadable source, or a copy that does not pass its integrity check.
    """
    name = clock.now().astimezone(UTC).strftime(NAME)
    part, whole = folder / f"{name}.part", folder / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _clear(folder)
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
    _rotate(whole, kept)
    return whole


def keep_second(made: Path, folder: Path, kept: int) -> bool:
    """Copy a backup into a second folder, check it there, and keep the newest `kept`. False when it is there already.

    The folder must exist: the place of a disk that is not mounted is not written to.

    Raises:
        BackupFailed: no such folder, no space, or what was written there is not good.
    """
    part, whole = folder / f"{made.name}.part", folder / made.name
    try:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not there; is the disk mounted?")
        if whole.exists():
            return False
        _clear(folder)
        reach("monitor.before_keep_second")  # a checked copy of the backup in the second folder
        os.close(os.open(part, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        shutil.copyfile(made, part)
        if (verdict := integrity(part)) != "ok":
            raise Damaged(f"the copy is damaged: {verdict}")
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.rename(whole)
        connection.sync_folder(folder)
        reach("monitor.after_keep_second")
    except (OSError, connection.DatabaseRefused, Damaged) as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise BackupFailed(f"copy of {made.name} into {folder}: {error}") from error
    _rotate(whole, kept)
    return True


def found(folder: Path) -> list[tuple[datetime, Path]]:
    """Return the backups of a folder with the times at which they were made, oldest first. Other files are left out."""
    made = []
    for path in folder.glob(PATTERN):
        with contextlib.suppress(ValueError):
            made.append((datetime.strptime(path.name, NAME).replace(tzinfo=UTC), path))
    return sorted(made)


def newest(now: datetime, *folders: Path) -> tuple[datetime, Path] | None:
    """Return the newest backup of these folders with its time, the last folder's where they are the same.

    One from the future only where there is no other: it was made while the clock was wrong, nobody knows when.
    """
    made = [(not _is_ahead(at, now), at, number, path) for number, one in enumerate(folders) for at, path in found(one)]
    if not made:
        return None
    _, at, _, path = max(made)
    return at, path


def age_s(folder: Path, now: datetime) -> float | None:
    """Return how old the newest backup of a folder is, in seconds; None without one. Ones from the future do not count.

    They would hold up the next one until that time comes.
    """
    made = newest(now, folder)
    return None if made is None or _is_ahead(made[0], now) else max(0.0, (now - made[0]).total_seconds())


def _is_ahead(at: datetime, now: datetime) -> bool:
    return (at - now).total_seconds() >= 1.0  # names have whole seconds


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
        # One snapshot for all steps: else each commit of the store begins the copy anew, and it may never end. Writers
        # do not wait for it; what they write meanwhile stays in the log.
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_schema").get  # noqa: B018 - the snapshot is taken here
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


def _clear(folder: Path) -> None:
    """Remove what a kill left of an unfinished copy."""
    for left in folder.glob(f"{PATTERN}.part*"):
        left.unlink(missing_ok=True)


def _rotate(made: Path, kept: int) -> None:
    """Remove all backups but this one and the newest others, `kept` in all; first those that seem newer than it."""
    made_at = datetime.strptime(made.name, NAME).replace(tzinfo=UTC)
    dated = sorted(found(made.parent), key=lambda one: (not _is_ahead(one[0], made_at), one))
    others = [path for _, path in dated if path != made]
    for old in others[: max(0, len(others) - (kept - 1))]:
        old.unlink(missing_ok=True)
