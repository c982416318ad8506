"""What people are to be told and the store does not know yet, kept beside the pid files until it does.

Used by every supervisor: one that gives up because the store is gone ends before anybody could take its report, and the
next one delivers it, under the same id, so that it is told once. Decides nothing. Does not outlive the run folder.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
from loguru import logger

from bus import failpoints
from bus.messages import Report

KEPT_MAX = 20
BYTES_MAX = 65_536
NAME = re.compile(r"untold\.([0-9a-f-]{36})")


def keep(run_folder: Path, identity: str, report: Report) -> None:
    """Write a report down, whole or not at all; of more than `KEPT_MAX` the oldest go."""
    path = _path(run_folder, identity)
    draft = path.with_suffix(".new")
    failpoints.reach("supervisor.before_keep_report")  # what people are to be told, until the store has it
    try:
        draft.write_bytes(msgspec.json.encode(report))
        draft.rename(path)
    except OSError as error:
        logger.error("Could not keep what people are to be told: {}", error)
    failpoints.reach("supervisor.after_keep_report")
    for old in _paths(run_folder)[:-KEPT_MAX]:
        old.unlink(missing_ok=True)


def read(run_folder: Path) -> list[tuple[str, Report]]:
    """Return the reports that were kept with their ids, oldest first. What cannot be read is removed."""
    found = []
    for path in _paths(run_folder):
        try:
            with path.open("rb") as file:
                found.append((path.name.partition(".")[2], msgspec.json.decode(file.read(BYTES_MAX), type=Report)))
        except (OSError, msgspec.DecodeError) as error:
            logger.warning("Dropped what an earlier supervisor had to tell: {}", error)
            path.unlink(missing_ok=True)
    return found


def forget(run_folder: Path, identity: str) -> None:
    """Remove a report that the store has."""
    _path(run_folder, identity).unlink(missing_ok=True)


def _path(run_folder: Path, identity: str) -> Path:
    return run_folder / f"untold.{identity}"


def _paths(run_folder: Path) -> list[Path]:
    """Return the files by age: their ids begin with the time."""
    return sorted(path for path in run_folder.glob("untold.*") if NAME.fullmatch(path.name))
