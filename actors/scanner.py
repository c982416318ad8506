"""The scanner process: ranks the pairs once at start and then on a cadence, and proposes the best ones to the store.

Bars, model and ranking are computed in a child process (`actors.market.scan`), so that this one beats through all of
it. Each timeframe has its own cadence, mark and model. A scan of bars that were scanned before is skipped, without a
child where nothing can be new. Requests to the broker are granted by the store before the child may make them. Never
sizes, never trades, never takes an intent back. The ranking orders candidates by how clear they look; no edge is
promised.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Literal, cast

from loguru import logger
from msgspec import structs

from actors.broker.password import password
from actors.market import cadence, child, grants, inputs, intervals, last_scan, retraining
from actors.market.errors import ScanError
from actors.market.intervals import Interval
from actors.market.job import Failed, Fetched, LeftOut, Ranked, ScanJob, ScanResult, Skipped, Trained
from bus import actor, clock, failpoints, messages
from bus.errors import NoAnswer
from bus.link import Link
from bus.records import Signal
from bus.vocabulary import Outcome, Role, State
from config import load
from config.settings import Settings

SCAN_S_MAX = 600.0  # source: blueprint section 12, the scanner's subprocess
RETRY_S = 60.0
AWAKE_S = 5.0  # between two looks at the clock: after a sleep of the machine a bar may be long there
RETRIES_MAX = 3
REPORT_S_MAX = 10.0
REPORT_CHARS_MAX = 2_000
PROPOSE_S_MIN = 60.0


class Scanner(actor.Actor):
    """Scan, propose, remember, wait. `progress` counts finished and skipped scans; READY after the first."""

    role = Role.SCANNER

    def __init__(self, link: Link, settings: Settings, clock: clock.Clock) -> None:
        """Raises ConfigError when the settings leave nothing to rank against, or the secret of a source is missing."""
        super().__init__(link, settings, clock)
        self._wanted = settings.scanner
        if self._wanted.top_k >= len(settings.symbols):
            raise load.ConfigError(
                f"scanner.top_k was {self._wanted.top_k} with {len(settings.symbols)} symbols; "
                "at least one symbol more than scanner.top_k is needed to compare with"
            )
        # Asked for now: a source that takes over at night must not be the first to miss its secret.
        if "twelvedata" in self._wanted.sources:
            load.secret(self._wanted.twelvedata_key_env)
        if "broker" in self._wanted.sources:
            password(settings)
        self._models = load.data_folder() / "models"
        self._bars = load.data_folder() / "bars"
        self._timeframes = cast(tuple[Interval, ...], self._wanted.timeframes)  # config.load has checked them
        self._grants = grants.Grants(self._ask, settings, clock)
        self._retries = dict.fromkeys(self._timeframes, 0)
        self._done: set[Interval] = set()
        self._scans = 0
        self._retraining = retraining.Retraining(stopping=link.stopping, report=self._report_training)

    def beat(self) -> actor.BeatState:
        """Say READY once each timeframe was scanned or skipped, so that a single daily cycle knows when to go on."""
        is_ready = self._done.issuperset(self._timeframes)
        return actor.BeatState(state=State.READY if is_ready else State.STARTING, progress=self._scans)

    async def run(self) -> None:
        """Scan until the stop, and train beside it. Raises ConfigError when no scan can ever work."""
        async with retraining.beside(self._retraining.run()):
            await self._look_until_the_stop()

    async def _look_until_the_stop(self) -> None:
        """Look at each timeframe at start and then on its cadence."""
        wanted = self._wanted
        schedule = cadence.Schedule(self._timeframes, settle_s=wanted.settle_s, longest_s=wanted.interval_s)
        while not self.link.stopping.is_set():
            for timeframe in schedule.due(self.clock.now()):
                await self._look(timeframe, schedule)
                if self.link.stopping.is_set():
                    return
            if await self.link.sleep(schedule.sleep_s(self.clock.now(), AWAKE_S)):
                return

    async def _look(self, timeframe: Interval, schedule: cadence.Schedule) -> None:
        """Do one scan, and say when the next look is: soon after a transient failure or for a bar that is late, at most
        RETRIES_MAX times in a row. The last failure is reported.
        """
        try:
            is_late = await self._scan(timeframe)
        except ScanError as error:
            if error.transient and self._retries[timeframe] < RETRIES_MAX:
                self._retries[timeframe] += 1
                schedule.looked(timeframe, self.clock.now(), again_s=RETRY_S)
                logger.warning(
                    "The scan of {} failed: {}. Try {} of {} in {} s",
                    timeframe, error, self._retries[timeframe], RETRIES_MAX, RETRY_S,
                )  # fmt: skip
                return
            wait = schedule.looked(timeframe, self.clock.now())
            logger.error("The scan failed: {}. Next try in {}", error, _span(wait.total_seconds()))
            await self._report("error", "scan_failed", f"The scan failed: {error}")
        else:
            if is_late and self._retries[timeframe] < RETRIES_MAX:
                self._retries[timeframe] += 1
                schedule.looked(timeframe, self.clock.now(), again_s=RETRY_S)
                return
            schedule.looked(timeframe, self.clock.now())
        self._retries[timeframe] = 0

    async def _scan(self, timeframe: Interval) -> bool:
        """Rank, propose, mark. Returns whether a bar that should be there was not, and early when the actor is to stop.

        Raises ScanError, ConfigError.
        """
        done = self._last_scan(timeframe)
        view = self._view(timeframe, done.stamp if done else "")
        if done is not None and not view.is_new_possible:
            self._log_skipped(timeframe, done.bar_time)
            self._finished(timeframe)
            return False
        result = await self._run_child(timeframe, done)
        if result is None:
            logger.info("Stopped during a scan; it will be done again")
            return False
        await self._report_fetched(timeframe, result.fetched)
        ranked = await self._judge(timeframe, result)
        if ranked is not None:
            if not await self._propose_all(timeframe, ranked):
                return False
            self._mark(timeframe, _mark_of(ranked, view.stamp, clock.iso(self.clock.now())))
        elif done is not None and done.stamp != view.stamp:
            # The same bars under another stamp: from now on no child is needed to see that.
            self._mark(timeframe, structs.replace(done, stamp=view.stamp))
        self._finished(timeframe)
        return ranked is None and self._view(timeframe, view.stamp).is_awaited

    def _view(self, timeframe: Interval, known: str) -> inputs.View:
        return inputs.look(
            self.settings, timeframe, self.clock.now(), models=self._models, bars=self._bars, known=known
        )

    def _finished(self, timeframe: Interval) -> None:
        self._done.add(timeframe)
        self._scans += 1
        self.link.beat_now()

    async def _run_child(self, timeframe: Interval, done: last_scan.LastScan | None) -> ScanResult | None:
        """Have the requests granted that the bars may take, scan, and give back those that were not made.

        A child that dies has made nobody knows how many: all of them count.
        """
        now = self.clock.now()
        grant = await self._grants.take(inputs.reads_needed(self.settings, timeframe, now, self._bars))
        if self.link.stopping.is_set():
            await self._grants.give_back(grant, 0)
            return None
        job = ScanJob(
            symbols=self.settings.symbols,
            scanner=self._wanted,
            today=now.date().isoformat(),
            now=clock.iso(now),
            models_folder=str(self._models),
            bars_folder=str(self._bars),
            done=done.fingerprint if done else None,
            done_bar_time=done.bar_time if done else "",
            timeframe=timeframe,
            holidays=self.settings.compliance.holidays,
            broker=self.settings.broker if "broker" in self._wanted.sources else None,
            reads=grant.reads,
        )
        failpoints.reach("scanner.before_scan")  # the whole run of the child process
        result = await child.run(job, stopping=self.link.stopping, limit_s=SCAN_S_MAX)
        failpoints.reach("scanner.after_scan")
        if isinstance(result, Ranked) and result.is_training_due:
            self._retraining.want(timeframe, job)
        if result is not None:
            await self._grants.give_back(grant, result.fetched.requests)
        return result

    async def _report_fetched(self, timeframe: Interval, fetched: Fetched) -> None:
        """Tell people of sources that were passed over and of bars that were refused, each for the first time."""
        for what in fetched.repaired:
            logger.warning("Bars: {}", what)
        for why in fetched.passed_over:
            logger.warning("Passed over a source of {} bars: {}", timeframe, why)
        if fetched.quarantined:
            text = f"Refused bars, kept in {self._bars / 'quarantine.txt'}: {'; '.join(fetched.quarantined)}"
            logger.warning("{}", text)
            await self._report("warning", "bars_quarantined", text)

    def _log_skipped(self, timeframe: Interval, bar_time: str) -> None:
        logger.info(
            "Skipped the scan: no bar newer than {} since the last one. Remove {} to propose it again",
            bar_time, self._models / last_scan.name_of(timeframe),
        )  # fmt: skip

    async def _judge(self, timeframe: Interval, result: ScanResult) -> Ranked | None:
        """Log what the child found. Returns the ranking to propose, or None when there is nothing new."""
        match result:
            case Skipped():
                self._log_skipped(timeframe, result.bar_time)
                return None
            case Failed(kind="configuration"):
                raise load.ConfigError(result.reason)
            case Failed():
                self._log_left_out(result.left_out)
                raise ScanError(result.reason, transient=result.kind == "transient")
            case Ranked():
                self._log_ranked(result)
                if result.fetched.passed_over:
                    text = f"Ranked on {result.signals[0].source}. Passed over: {'; '.join(result.fetched.passed_over)}"
                    await self._report("warning", "source_failed_over", text)
                if result.left_out:
                    text = "; ".join(f"{out.symbol}: {out.reason}" for out in result.left_out)
                    await self._report("warning", "symbols_left_out", f"Left out of the scan: {text}")
                return result
            case Trained():
                raise ScanError("the scan trained a model instead of ranking")

    def _log_ranked(self, ranked: Ranked) -> None:
        for note in ranked.notes:
            logger.warning("Scan: {}", note)
        self._log_left_out(ranked.left_out)
        for out in ranked.same_bets:
            logger.info("Passed over {}: {}", out.symbol, out.reason)
        made = "loaded" if ranked.trained_s is None else f"trained in {ranked.trained_s:.1f} s"
        logger.bind(model_id=ranked.model_id).info(
            "Ranked {} pairs on the bar of {}: {}; net USD side {:+d}. Model {}; its rank correlation on unseen days "
            "is {:+.3f}: no edge is promised",
            ranked.pairs, ranked.bar_time, ", ".join(s.symbol for s in ranked.signals), ranked.net_usd, made,
            ranked.rank_ic,
        )  # fmt: skip

    def _log_left_out(self, left_out: tuple[LeftOut, ...]) -> None:
        for out in left_out:
            logger.warning("Left {} out of the scan: {}", out.symbol, out.reason)

    async def _propose_all(self, timeframe: Interval, ranked: Ranked) -> bool:
        """Propose every signal, best first. Returns False when the actor is to stop first. Raises ScanError."""
        for signal in ranked.signals:
            if self._minutes_left(timeframe, signal) <= 0:
                logger.warning("{} of {} came too late to be proposed", signal.symbol, signal.bar_time)
                continue
            failpoints.reach("scanner.before_propose")  # proposing one signal
            ack = await self._propose(timeframe, signal)
            failpoints.reach("scanner.after_propose")
            if ack is None:
                logger.info("Stopped before the store had answered for {}; it will be proposed again", signal.symbol)
                return False
            self._log_answer(signal, ack)
        return True

    def _minutes_left(self, timeframe: Interval, signal: Signal) -> int:
        wanted = self._wanted
        ttl = {"D1": wanted.intent_ttl_minutes, "H4": wanted.intent_ttl_minutes_h4, "H1": wanted.intent_ttl_minutes_h1}
        opened = intervals.opening(timeframe, signal.bar_time)
        return cadence.minutes_left(timeframe, opened, self.clock.now(), ttl_minutes=ttl[timeframe])

    async def _propose(self, timeframe: Interval, signal: Signal) -> messages.Ack | None:
        """Ask until the store has answered durably, at most until the next scan is due; None when stopping first."""
        minutes = self._minutes_left(timeframe, signal)
        # A proposal that reaches the store late must not live past its time for it: the store counts from then.
        end = None if timeframe == "D1" else clock.iso(self.clock.now() + timedelta(minutes=minutes))
        command = messages.Propose(
            signal=signal, trade_date=self._today(), source="scanner", ttl_minutes=minutes, expires_at=end
        )
        try:
            # A signal that waited longer would compete with that of the next scan.
            longest_s = self._wanted.interval_s if timeframe == "D1" else 60.0 * minutes
            return await self._ask(command, max(longest_s, PROPOSE_S_MIN))
        except NoAnswer as error:
            raise ScanError(f"{signal.symbol} was not proposed: {error}", transient=True) from error

    async def _ask(self, command: messages.Command, deadline_s: float) -> messages.Ack | None:
        """Return the store's answer, or None when the actor is to stop first. Raises NoAnswer."""
        asked = asyncio.create_task(self.link.ask(command, deadline_s))
        stop = asyncio.create_task(self.link.stopping.wait())
        try:
            await asyncio.wait((asked, stop), return_when=asyncio.FIRST_COMPLETED)
            return await asked if asked.done() else None
        finally:
            asked.cancel()
            stop.cancel()

    def _log_answer(self, signal: Signal, ack: messages.Ack) -> None:
        bound = logger.bind(intent_id=ack.intent_id) if ack.intent_id else logger
        if ack.outcome is Outcome.APPLIED:
            bound.info(
                "Proposed {} {}: score {:+.3f}, confidence {}, {:.1f} pips a day",
                signal.side_hint, signal.symbol, signal.score, signal.confidence, signal.volatility_pips,
            )  # fmt: skip
        elif ack.outcome is Outcome.ALREADY:
            bound.info("{} of {} was proposed before", signal.symbol, signal.bar_time)
        else:
            bound.warning("The store did not take {}: {} {}", signal.symbol, ack.outcome, ack.reason)

    def _mark(self, timeframe: Interval, mark: last_scan.LastScan) -> None:
        """Remember the scan as done. Only after the last answer: a scan that dies before is done again, harmlessly."""
        failpoints.reach("scanner.before_mark")  # remembering the scan as done
        try:
            last_scan.write(self._models, mark, timeframe)
        except OSError as error:
            raise ScanError(f"the finished scan could not be remembered: {error}", transient=True) from error
        failpoints.reach("scanner.after_mark")

    def _last_scan(self, timeframe: Interval) -> last_scan.LastScan | None:
        try:
            return last_scan.read(self._models, timeframe)
        except ValueError as error:
            # The store knows its keys: proposing the same bar again changes nothing there.
            logger.warning("Scanned as if for the first time: {}", error)
            return None

    async def _report(self, level: Literal["warning", "error"], event: str, text: str) -> None:
        """Tell the alert outbox. The log has it already, so a store that is away does not hold the scanner up."""
        report = messages.Report(level=level, event=event, text=text[:REPORT_CHARS_MAX])
        try:
            await self._ask(report, REPORT_S_MAX)
        except NoAnswer as error:
            logger.warning("Not reported: {}", error)

    async def _report_training(self, text: str) -> None:
        await self._report("warning", "training_failed", text)

    def _today(self) -> str:
        return self.clock.now().date().isoformat()


def _mark_of(ranked: Ranked, stamp: str, finished_at: str) -> last_scan.LastScan:
    return last_scan.LastScan(
        fingerprint=ranked.fingerprint,
        bar_time=ranked.bar_time,
        finished_at=finished_at,
        model_id=ranked.model_id,
        symbols=tuple(signal.symbol for signal in ranked.signals),
        stamp=stamp,
    )


def _span(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


if __name__ == "__main__":
    actor.main(Scanner)
