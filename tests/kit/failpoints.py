"""Arm the failpoints of processes that were started with `PILOT_FAILPOINTS=<folder>`."""

from __future__ import annotations

from pathlib import Path


def arm(folder: Path, name: str, action: str = "kill", *, at_pass: int = 1) -> Path:
    """Make the point `name` do `action` (`kill`, `stop`, `sleep SECONDS`, `error`) at its n-th pass. Fires once.

    Written beside its place and moved there: a process that passes meanwhile sees all of it or nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{name}.part"
    part.write_text(f"{action}@{at_pass}")
    return part.rename(folder / name)


def has_fired(folder: Path, name: str) -> bool:
    """Return whether the point did what it was armed for."""
    return (folder / f"{name}.fired").exists()
