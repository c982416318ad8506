"""What every test stands on: no setting of the caller's environment, and no process left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

from tests.kit import leftovers


def pytest_configure() -> None:
    """Forget how the caller runs the pipeline: tests set what they need. No example fails for being slow."""
    hypothesis.settings.register_profile("here", deadline=None)
    hypothesis.settings.load_profile("here")
    for name in list(os.environ):
        if name.startswith("PILOT_") or name in (
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "LOG_FORMAT",
            "LOG_LEVEL",
            "HONCHO_PROCESS_NAME",
            "PYTHONDONTWRITEBYTECODE",  # every process of a test would compile the project anew
        ):
            del os.environ[name]
    os.environ[leftovers.MARK] = str(os.getpid())
    os.environ["SPT_NOENV"] = "1"  # else a process title wipes the environment that shows whose child it is


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Fail when a process that this run started outlives it."""
    yield
    left = leftovers.after(5.0)
    assert not left, f"processes left behind: {left}"
