"""Whether a file or folder is ours alone: who owns it, who may write or read it. Pure: judges what `stat` said."""

from __future__ import annotations

import os
import stat
from pathlib import Path

WRITABLE_BY_OTHERS = 0o022
OPEN_TO_OTHERS = 0o077


def refusal(path: Path, found: os.stat_result, uid: int, forbidden: int) -> str:
    """Return why a path is not private enough, with the command that mends it; "" when it is.

    `forbidden` are the bits of its mode that must not be set for group and others.
    """
    if found.st_uid != uid:
        return f"{path}: belongs to user {found.st_uid}, and we run as {uid}; allowed: ours (run: chown {uid} {path})"
    mode = stat.S_IMODE(found.st_mode)
    if mode & forbidden:
        allowed = mode & ~forbidden
        return f"{path}: mode is {mode:04o}; allowed {allowed:04o} (run: chmod {allowed:o} {path})"
    return ""
