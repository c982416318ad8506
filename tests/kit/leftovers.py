"""Find the processes that came from this test run, by a mark in their environment that children inherit."""

from __future__ import annotations

import os
import time
from pathlib import Path

MARK = "PILOT_TEST_RUN"


def find(mark: str | None = None) -> dict[int, str]:
    """Return pid and command line of every live process with this run's mark, except this one."""
    wanted = f"{MARK}={mark or os.environ[MARK]}".encode()
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0") and " Z " not in (folder / "stat").read_text():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:120]
        except OSError:
            continue  # it ended while we looked, or is not ours
    return found


def after(deadline_s: float) -> dict[int, str]:
    """Return what is still there after `deadline_s` at the latest; earlier when nothing is."""
    end_s = time.monotonic() + deadline_s
    while (found := find()) and time.monotonic() < end_s:
        time.sleep(0.05)
    return found
