"""Wait for something to become true, with a deadline, instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
STEP_S = 0.01


def eventually(check: Callable[[], T], deadline_s: float = 10.0, *, step_s: float = STEP_S) -> T:
    """Return the first truthy result of `check`. Raises AssertionError with the last result after `deadline_s`."""
    end_s = time.monotonic() + deadline_s
    while not (found := check()):
        assert time.monotonic() < end_s, f"not within {deadline_s} s; last seen: {found!r}"
        time.sleep(step_s)
    return found


async def eventually_async(check: Callable[[], T], deadline_s: float = 10.0) -> T:
    """Do the same without blocking the running loop."""
    end_s = time.monotonic() + deadline_s
    while not (found := check()):
        assert time.monotonic() < end_s, f"not within {deadline_s} s; last seen: {found!r}"
        await asyncio.sleep(STEP_S)
    return found
