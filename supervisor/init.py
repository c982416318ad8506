"""The duty of process 1: wait for the dead whom nobody else waits for.

Used by the supervisor's loop. In a container it is process 1, and inherits whatever its children leave behind; what
nobody waits for stays in the process table until that is full. Never takes the end of a child that somebody waits for.
"""

from __future__ import annotations

import os
from collections.abc import Collection

REAPED_MAX = 100  # in one turn


def reap_strays(ours: Collection[int]) -> int:
    """Wait for children that have ended and are not among the process ids `ours`; return how many."""
    for count in range(REAPED_MAX):
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return count  # there is no child at all
        if ended is None or ended.si_pid in ours:
            return count  # one of ours is waited for by its own place, before this is asked again
        os.waitpid(ended.si_pid, os.WNOHANG)
    return REAPED_MAX
