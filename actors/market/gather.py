"""The bars of one ranking: from the first source that has enough of them, never from two.

Runs in the scanner's child process. Two sources close their days at different hours and quote different prices, so that
a ranking across them would compare what cannot be compared: a source serves all pairs of a scan, or none.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, time
from pathlib import Path

from actors.market import at_hand, bars, cache, feeds, granted, quality, quarantine, windows
from actors.market.bars import Bars
from actors.market.errors import BadBar, BadBars, ScanError, SourceAway
from actors.market.job import Fetched, LeftOut, ScanJob
from actors.market.remote import Fetcher, Remote
from bus import clock
from config import load

LATE_FOR_A_MOMENT = frozenset({"csv", "parquet", "broker", "twelvedata"})  # what is missing now may be there soon


def moment(job: ScanJob) -> datetime:
    """Return the scanner's time of a job."""
    if job.now:
        return datetime.fromisoformat(job.now)
    return datetime.combine(date.fromisoformat(job.today), time(23, 59, 59), UTC)


TOLD_MAX = 100  # refused bars in one result: enough for people, and far from the largest result


class Gathering:
    """One try after another. `fetched` says at any time what was used, also when it ends in an error."""

    def __init__(self, job: ScanJob, window: int) -> None:
        self.left_out: list[LeftOut] = []
        self.notes: list[str] = []
        self._job = job
        self._window = window
        self._now = moment(job)
        self._is_at_hand = job.train or job.by_hand  # beside a scan: no lock, no request
        self._holidays = frozenset(date.fromisoformat(day) for day in job.holidays)
        self._granted = granted.Granted(job.reads)
        self._fresh: list[str] = []
        self._passed_over: list[str] = []
        self._repaired: list[str] = []

    @property
    def fetched(self) -> Fetched:
        return Fetched(
            requests=self._granted.used, quarantined=tuple(self._fresh[:TOLD_MAX]),
            passed_over=tuple(self._passed_over), repaired=tuple(self._repaired),
        )  # fmt: skip

    def bars(self) -> list[Bars]:
        """Return the bars of every symbol that passes the checks; the others are in `left_out`. All end together.

        Raises:
            ConfigError: a source cannot work as it is set.
            ScanError: no source has enough usable symbols.
        """
        wanted, why = self._job.scanner, ""
        for name in wanted.sources:
            self.left_out.clear()
            self.notes.clear()
            try:
                with self._one_writer():
                    good = self._of(name)
            except (SourceAway, ScanError) as error:
                why = str(error)
            else:
                if len(good) > wanted.top_k:
                    return good
                told = "; ".join(f"{out.symbol}: {out.reason}" for out in self.left_out)
                why = (
                    f"{len(good)} of {len(self._job.symbols)} symbols have usable bars; top {wanted.top_k} needs at "
                    f"least {wanted.top_k + 1}. {told}"
                )
            self._passed_over.append(f"{name}: {why}")
        reason = why if len(wanted.sources) == 1 else "; then ".join(self._passed_over)
        raise ScanError(reason, transient=not LATE_FOR_A_MOMENT.isdisjoint(wanted.sources))

    def _one_writer(self) -> AbstractContextManager[None]:
        """Hold the caches' lock, where there is a folder for them and this is not beside a scan."""
        folder = self._job.bars_folder
        return cache.writing(Path(folder)) if folder and not self._is_at_hand else contextlib.nullcontext()

    def _write_down(self, source: str, symbol: str, refused: Sequence[tuple[str, str]]) -> None:
        """Put what was refused of a symbol, each with why, into the quarantine."""
        if not self._job.bars_folder or self._is_at_hand:
            return
        entries = [quarantine.line(source, symbol, self._job.timeframe, what, why) for what, why in refused]
        self._fresh += quarantine.add(Path(self._job.bars_folder), entries, clock.iso(self._now))

    def _of(self, name: str) -> list[Bars]:
        found = self._of_network(name) if name not in feeds.LOCAL else self._of_files(name)
        current, late = bars.on_one_day(found)
        self.left_out.extend(LeftOut(error.symbol, error.reason) for error in late)
        return current

    def _leave_out(self, source: str, error: BadBars) -> None:
        self.left_out.append(LeftOut(error.symbol, error.reason))
        if isinstance(error, BadBar):
            self._write_down(source, error.symbol, [("bars", error.reason)])

    # ── files ───────────────────────────────────────────────────────────────

    def _of_files(self, name: str) -> list[Bars]:
        reach = windows.HISTORY_BARS_MAX if self._job.as_of else self._window
        feed = feeds.one(name, self._job.scanner, reach, self._now)
        today = date.fromisoformat(self._job.today)
        good: list[Bars] = []
        for symbol in self._job.symbols:
            try:
                found, cut = bars.without_unfinished(
                    self._seen(feed.bars(symbol, self._job.timeframe)), today, self._now
                )
                good.append(self._checked(found.tail(self._window)))
            except BadBars as error:
                self._leave_out(name, error)
                continue
            if cut:
                self.notes.append(f"{symbol}: the bar of {cut} may not be finished and was not used")
        return good

    def _seen(self, found: Bars) -> Bars:
        """Return what may be known: on a day of the past nothing that came later."""
        return found.until(date.fromisoformat(self._job.as_of)) if self._job.as_of else found

    def _checked(self, found: Bars) -> Bars:
        """Return the bars. Raises BadBars when they cannot be trusted."""
        wanted, today = self._job.scanner, date.fromisoformat(self._job.today)
        bars.check(found, today=today, age_days_max=wanted.bar_age_days_max, bars_min=wanted.history_bars_min)
        quality.check(found, now=self._now, lacking_max=wanted.bar_age_bars_max, holidays=self._holidays)
        return found

    # ── network ─────────────────────────────────────────────────────────────

    def _of_caches(self, name: str) -> list[Bars]:
        good: list[Bars] = []
        for found in at_hand.cached(self._job, name):
            try:
                if isinstance(found, BadBars):
                    raise found
                good.append(self._checked(self._seen(found).tail(self._window)))
            except BadBars as error:
                self._leave_out(name, error)
        return good

    def _of_network(self, name: str) -> list[Bars]:
        if self._is_at_hand:
            return self._of_caches(name)
        if not self._job.bars_folder:
            raise load.ConfigError(f"the source {name!r} needs a folder for its cache")
        good: list[Bars] = []
        # Nothing is returned: at its end asyncio.run makes a text of the result, which takes longer than all checks.
        asyncio.run(self._through_broker(good) if name == "broker" else self._through_twelvedata(good))
        return good

    async def _through_broker(self, good: list[Bars]) -> None:
        broker = self._job.broker
        if broker is None:
            raise SourceAway("no broker is set")
        from actors.broker import factory  # heavy: an HTTP client
        from actors.broker.password import secret_of
        from actors.market import candles

        account = factory.account(broker, secret_of(broker), clock.SystemClock(), self._granted)
        async with account:
            await self._ask(candles.Candles(account, broker), good)

    async def _through_twelvedata(self, good: list[Bars]) -> None:
        from actors.market import twelvedata

        wanted = self._job.scanner
        source = twelvedata.TwelveData(
            wanted.twelvedata_url, load.secret(wanted.twelvedata_key_env),
            per_minute=wanted.twelvedata_requests_per_minute, clock=clock.SystemClock(),
        )  # fmt: skip
        async with source:
            await self._ask(source, good)

    async def _ask(self, fetcher: Fetcher, good: list[Bars]) -> None:
        """Ask for one symbol after the other, for `good`. Raises SourceAway when it goes away before the last."""
        source = Remote(
            fetcher, Path(self._job.bars_folder), window=self._window, now=self._now, holidays=self._holidays,
            write_down=functools.partial(self._write_down, fetcher.name), tell=self._repaired.append,
        )  # fmt: skip
        for symbol in self._job.symbols:
            try:
                good.append(self._checked(await source.bars(symbol, self._job.timeframe)))
            except BadBars as error:
                self._leave_out(fetcher.name, error)
