"""The start of the monitor: upkeep waits for the first look at the account, but not for ever."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from actors import monitor
from actors.watch.janitor import Janitor
from actors.watch.poll import Watch
from bus.link import Link
from tests.kit.eventually import eventually_async

AT_ONCE_S = 0.05
LONG_S = 60.0


class Jobs:
    """What the upkeep waits for, and whether it has begun."""

    def __init__(self) -> None:
        self.looked, self.stopping = asyncio.Event(), asyncio.Event()
        self.has_begun = False

    async def run(self) -> None:
        self.has_begun = True


def keep_house(jobs: Jobs) -> asyncio.Task[None]:
    one = monitor.Monitor.__new__(monitor.Monitor)
    one._watch, one._janitor, one.link = cast("Watch", jobs), cast("Janitor", jobs), cast("Link", jobs)
    return asyncio.create_task(one._keep_house())


@pytest.mark.parametrize("what", ["looked", "stopping"])
async def test_upkeep_waits_for_the_first_look_or_the_end(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "UPKEEP_S_MAX", LONG_S)
    jobs = Jobs()
    upkeep = keep_house(jobs)
    await asyncio.wait((upkeep,), timeout=AT_ONCE_S)
    assert not jobs.has_begun
    getattr(jobs, what).set()
    await asyncio.wait_for(upkeep, LONG_S / 10)
    assert jobs.has_begun


async def test_upkeep_waits_no_longer_than_its_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(monitor, "UPKEEP_S_MAX", AT_ONCE_S)
    jobs = Jobs()
    upkeep = keep_house(jobs)
    await eventually_async(lambda: jobs.has_begun)
    await upkeep
    assert not jobs.looked.is_set()
