"""Trainings beside the scans: what starts one, what it leaves alone, how it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from loguru import logger

from actors.market import child, choice, retraining
from actors.market.errors import ScanError
from actors.market.job import Failed, ScanJob, Skipped, Trained
from tests.kit import market
from tests.kit.eventually import eventually_async as eventually

TRAINED = Trained(
    model_id="lgbm-1", timeframe="D1", source="csv", last_day="2026-02-13", rank_ic=0.0, seconds=1.0
)  # fmt: skip


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), format="{level} {message}", level="DEBUG")
    yield lines
    logger.remove(sink)


class Trainings:
    """A `Retraining` that runs as a task, with the reports that it made."""

    def __init__(self) -> None:
        self.reports: list[str] = []
        self.stopping = asyncio.Event()
        self.retraining = retraining.Retraining(stopping=self.stopping, report=self._report)
        self.task = asyncio.create_task(self.retraining.run())

    async def _report(self, text: str) -> None:
        self.reports.append(text)

    async def stop(self) -> None:
        self.stopping.set()
        async with asyncio.timeout(10):
            await self.task


def answers(monkeypatch: pytest.MonkeyPatch, *given: Any) -> list[ScanJob]:
    jobs: list[ScanJob] = []
    waiting = list(given)

    async def run(job: ScanJob, **_: Any) -> Any:
        jobs.append(job)
        result = waiting.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(child, "run", run)
    return jobs


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (ScanError("the scan took longer than 1800 s and was killed", transient=True), "took longer than"),
        (Failed(reason="only 3 days with an outcome", kind="final"), "only 3 days"),
        (Skipped(fingerprint="f", bar_time="b"), "the child answered with Skipped"),
    ],
)
async def test_a_training_that_fails_is_reported_and_the_next_one_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[str], given: Any, why: str
) -> None:
    jobs = answers(monkeypatch, given, TRAINED)
    trainings = Trainings()
    trainings.retraining.want("D1", market.a_job(tmp_path))
    await eventually(lambda: len(trainings.reports) == 1, deadline_s=10)
    assert why in trainings.reports[0]
    assert "scans go on with the model they have" in trainings.reports[0]
    trainings.retraining.want("D1", market.a_job(tmp_path))
    await eventually(lambda: len(jobs) == 2, deadline_s=10)
    await trainings.stop()
    assert len(trainings.reports) == 1
    assert any(line.startswith("INFO Trained D1 lgbm-1 in 1.0 s with bars up to 2026-02-13") for line in log)


async def test_one_training_at_a_time_and_only_the_newest_bars_of_a_timeframe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[ScanJob] = []
    go_on = asyncio.Event()

    async def run(job: ScanJob, **_: Any) -> Any:
        jobs.append(job)
        await go_on.wait()
        return TRAINED

    monkeypatch.setattr(child, "run", run)
    trainings = Trainings()
    job = market.a_job(tmp_path, done="f")
    trainings.retraining.want("D1", job)
    await eventually(lambda: len(jobs) == 1, deadline_s=10)
    for today in ("2026-02-15", "2026-02-16"):
        trainings.retraining.want("D1", msgspec.structs.replace(job, today=today))
    trainings.retraining.want("H4", job)
    await asyncio.sleep(0)
    assert len(jobs) == 1
    go_on.set()
    await eventually(lambda: len(jobs) == 3, deadline_s=10)
    await trainings.stop()
    assert [(one.today, one.train, one.done) for one in jobs] == [
        ("2026-02-14", True, None), ("2026-02-16", True, None), ("2026-02-14", True, None),
    ]  # fmt: skip


async def test_the_real_child_trains_and_switches(tmp_path: Path, log: list[str]) -> None:
    trainings = Trainings()
    trainings.retraining.want("D1", market.a_job(tmp_path))
    await eventually(lambda: choice.read_all(tmp_path / "models", "current"), deadline_s=60)
    await eventually(lambda: any("INFO Trained D1" in line for line in log), deadline_s=60)
    await trainings.stop()
    (found,) = choice.read_all(tmp_path / "models", "current")
    assert (tmp_path / "models" / found.model_id / "seed_0.txt").exists()
    assert trainings.reports == []


async def test_a_stop_ends_the_training(tmp_path: Path) -> None:
    trainings = Trainings()
    trainings.retraining.want("D1", market.a_job(tmp_path))
    await trainings.stop()
    assert choice.read_all(tmp_path / "models", "current") == []


async def test_what_runs_beside_ends_with_the_body_and_its_error_ends_the_body() -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.sleep(3_600)
        finally:
            ended.append("cancelled")

    async with retraining.beside(forever()):
        await asyncio.sleep(0)
    assert ended == ["cancelled"]

    async def broken() -> None:
        raise AssertionError("impossible")

    with pytest.raises(AssertionError, match="impossible"):
        async with retraining.beside(broken()):
            await asyncio.sleep(3_600)
