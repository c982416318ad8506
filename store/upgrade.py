"""Open the store's database, and keep a proven copy of one of an older version before anything in it is changed.

Run by the store at its start, which holds the database's lock. Never goes on without the copy.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import apsw
import msgspec
from loguru import logger

from bus.clock import Clock
from bus.failpoints import reach
from store import backup, connection, owner, verify
from store.connection import DatabaseRefused
from store.owner import Owner
from store.queries import Reader

KEPT = 4  # copies: more than there are upgrades between two looks, each as large as the database was


def open_writer(path: Path, backups: Path, clock: Clock, ours: Owner) -> apsw.Connection:
    """Open the database as `connection.open_writer` does; one of an older version is copied into `backups` before.

    Raises:
        DatabaseRefused: as `connection.open_writer`, or it is not `ours`, or the older database could not be copied, or
            its copy is not good. Then the database is as it was.
    """
    made: list[Path] = []

    def before_upgrade(found: int) -> None:
        owner.refuse_older(path, ours)
        made.append(_keep(path, backups, found, clock))

    db = connection.open_writer(path, before_upgrade)
    try:
        owner.require(db, path, ours)
    except BaseException:
        db.close()
        raise
    if made:
        logger.info("Upgraded {} to schema {}; the former one is kept as {}", path, connection.version(), made[0])
        for old in sorted(backups.glob("before-*.db"), key=lambda one: one.stat().st_mtime_ns)[:-KEPT]:
            old.unlink(missing_ok=True)
    return db


def _keep(path: Path, folder: Path, found: int, clock: Clock) -> Path:
    """Return a checked copy of the database of schema `found`. Raises DatabaseRefused."""
    name = f"before-{connection.version():04d}-schema-{found:04d}-{clock.now():%Y%m%dT%H%M%SZ}.db"
    part, whole = folder / f"{name}.part", folder / name
    logger.info("Found {} with schema {}, here {}: copying it before the upgrade", path, found, connection.version())
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in folder.glob("before-*.db.part*"):  # of a start that was killed
            left.unlink(missing_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        backup.copy(path, part)
        _prove(part)
        reach("store.before_keep_former")  # syncing the proven copy of the older database and giving it its name
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.rename(whole)
        connection.sync_folder(folder)
        reach("store.after_keep_former")
    except (OSError, apsw.Error, msgspec.ValidationError, DatabaseRefused, backup.Damaged) as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        why = "the disk is full, or cannot be written" if isinstance(error, apsw.FullError | apsw.IOError) else error
        raise DatabaseRefused(
            f"{path}: has schema {found}, here {connection.version()}, and is only upgraded once a good copy of it "
            f"is in {folder}: {why}. It was not changed"
        ) from error
    return whole


def _prove(copy: Path) -> None:
    """Raise Damaged unless the journal of the copy holds. Its pages were checked by whoever copied it."""
    reader = Reader(copy, older=True)
    try:
        if wrong := [*verify.verify_chain(reader), *verify.verify_orders(reader)]:
            raise backup.Damaged(f"{wrong[0]} ({len(wrong)} findings in all; pilot verify lists them)")
    finally:
        reader.close()
