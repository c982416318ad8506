"""Trainings beside the scans: one child process at a time, started when a scan said that its model is due.

Runs in the scanner as a task of its own, so that beats and scans go on. The scans use the model they have until the
child has switched to the new one. Never ranks, never proposes; what fails is tried again after the next scan.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import msgspec
from loguru import logger

from actors.market import child
from actors.market.errors import ScanError
from actors.market.job import Failed, ScanJob, Trained

TRAINING_S_MAX = 1_800.0

Report = Callable[[str], Awaitable[None]]


@contextlib.asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` as a task while the body runs, and cancel it at the end. Should it raise, the body ends with that."""
    body = asyncio.current_task()
    task = asyncio.create_task(work)

    def end_the_body(done: asyncio.Task[None]) -> None:
        if body is not None and not done.cancelled() and done.exception() is not None:
            body.cancel()

    task.add_done_callback(end_the_body)
    try:
        yield
    except asyncio.CancelledError:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error from None
        raise
    finally:
        task.cancel()
        await asyncio.wait((task,))


class Retraining:
    """Trainings that are wanted, one a timeframe; `report` tells people of one that failed."""

    def __init__(self, *, stopping: asyncio.Event, report: Report) -> None:
        self._stopping = stopping
        self._report = report
        self._wanted: dict[str, ScanJob] = {}  # one a timeframe: the newest bars replace older ones
        self._news = asyncio.Event()

    def want(self, timeframe: str, job: ScanJob) -> None:
        """Ask for a training on the bars that this scan saw."""
        self._wanted[timeframe] = msgspec.structs.replace(job, train=True, done=None, reads=0)
        self._news.set()

    async def run(self) -> None:
        """Train what is wanted, one after the other, until the stop."""
        while not self._stopping.is_set():
            await self._wait()
            while self._wanted and not self._stopping.is_set():
                timeframe, job = next(iter(self._wanted.items()))
                del self._wanted[timeframe]
                await self._train(timeframe, job)

    async def _wait(self) -> None:
        stop, news = asyncio.create_task(self._stopping.wait()), asyncio.create_task(self._news.wait())
        try:
            await asyncio.wait((stop, news), return_when=asyncio.FIRST_COMPLETED)
            self._news.clear()
        finally:
            stop.cancel()
            news.cancel()

    async def _train(self, timeframe: str, job: ScanJob) -> None:
        logger.info("Training a new model of {} beside the scans", timeframe)
        try:
            result = await child.run(job, stopping=self._stopping, limit_s=TRAINING_S_MAX)
        except ScanError as error:
            await self._failed(timeframe, str(error))
            return
        match result:
            case Trained():
                logger.bind(model_id=result.model_id).info(
                    "Trained {} {} in {:.1f} s with bars up to {}; its rank correlation on unseen bars is {:+.3f}: no "
                    "edge is promised",
                    timeframe, result.model_id, result.seconds, result.last_day, result.rank_ic,
                )  # fmt: skip
            case Failed():
                await self._failed(timeframe, result.reason)
            case None:
                logger.info("Stopped during a training; it will be done again")
            case _:
                await self._failed(timeframe, f"the child answered with {type(result).__name__}")

    async def _failed(self, timeframe: str, reason: str) -> None:
        text = f"The training of {timeframe} failed, scans go on with the model they have: {reason}"
        logger.warning("{}", text)
        await self._report(text)
