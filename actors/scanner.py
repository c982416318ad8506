"""The scanner process: ranks the pairs once at start and then on a cadence, and proposes the best ones to the store.

Bars, model and ranking are computed in a child process (`actors.market.scan`), so that this one beats through all of
it. A scan of bars that were scanned before is skipped. Never sizes, never trades, never takes an intent back. The
ranking orders candidates by how clear they look; no edge is promised.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Literal

from loguru import logger

from actors.market import child, last_scan, retraining
from actors.market.errors import ScanError
from actors.market.job import Failed, LeftOut, Ranked, ScanJob, ScanResult, Skipped, Trained
from bus import actor, clock, failpoints, messages
from bus.errors import NoAnswer
from bus.link import Link
from bus.records import Signal
from bus.vocabulary import Outcome, Role, State
from config import load
from config.settings import Settings

SCAN_S_MAX = 600.0  # source: blueprint section 12, the scanner's subprocess
RETRY_S = 60.0
RETRIES_MAX = 3
REPORT_S_MAX = 10.0
REPORT_CHARS_MAX = 2_000
PROPOSE_S_MIN = 60.0


class Scanner(actor.Actor):
    """Scan, propose, remember, wait. `progress` counts finished and skipped scans; READY after the first."""

    role = Role.SCANNER

    def __init__(self, link: Link, settings: Settings, clock: clock.Clock) -> None:
        """Raises ConfigError when the settings leave nothing to rank against."""
        super().__init__(link, settings, clock)
        self._wanted = settings.scanner
        if self._wanted.top_k >= len(settings.symbols):
            raise load.ConfigError(
                f"scanner.top_k was {self._wanted.top_k} with {len(settings.symbols)} symbols; "
                "at least one symbol more than scanner.top_k is needed to compare with"
            )
        self._models = load.data_folder() / "models"
        self._scans = 0
        self._retraining = retraining.Retraining(stopping=link.stopping, report=self._report_training)

    def beat(self) -> actor.BeatState:
        """Say READY once the first scan is finished or skipped, so that a single daily cycle knows when to go on."""
        return actor.BeatState(state=State.READY if self._scans else State.STARTING, progress=self._scans)

    async def run(self) -> None:
        """Scan until the stop, and train beside it. Raises ConfigError when no scan can ever work."""
        async with retraining.beside(self._retraining.run()):
            await self._scan_until_the_stop()

    async def _scan_until_the_stop(self) -> None:
        """Scan at start and then every `interval_s`."""
        while not self.link.stopping.is_set():
            await self._scan_with_retries()
            if await self.link.sleep(self._wanted.interval_s):
                return

    async def _scan_with_retries(self) -> None:
        """Do one scan; repeat a transient failure after RETRY_S, at most RETRIES_MAX times. Report the last one."""
        for retry in range(RETRIES_MAX + 1):
            try:
                await self._scan()
                return
            except ScanError as error:
                if not error.transient or retry == RETRIES_MAX:
                    logger.error("The scan failed: {}. Next try in {}", error, _span(self._wanted.interval_s))
                    await self._report("error", "scan_failed", f"The scan failed: {error}")
                    return
                logger.warning("The scan failed: {}. Try {} of {} in {} s", error, retry + 1, RETRIES_MAX, RETRY_S)
            if await self.link.sleep(RETRY_S):
                return

    async def _scan(self) -> None:
        """Rank, propose, mark. Returns early when the actor is to stop. Raises ScanError, ConfigError."""
        done = self._last_scan()
        job = ScanJob(
            symbols=self.settings.symbols,
            scanner=self._wanted,
            today=self._today(),
            models_folder=str(self._models),
            done=done.fingerprint if done else None,
        )
        failpoints.reach("scanner.before_scan")  # the whole run of the child process
        result = await child.run(job, stopping=self.link.stopping, limit_s=SCAN_S_MAX)
        failpoints.reach("scanner.after_scan")
        if result is None:
            logger.info("Stopped during a scan; it will be done again")
            return
        ranked = await self._judge(result)
        if ranked is not None:
            if not await self._propose_all(ranked):
                return
            self._mark(ranked)
            if ranked.is_training_due:
                self._retraining.want(job.timeframe, job)
        self._scans += 1
        self.link.beat_now()

    async def _judge(self, result: ScanResult) -> Ranked | None:
        """Log what the child found. Returns the ranking to propose, or None when there is nothing new."""
        match result:
            case Skipped():
                logger.info(
                    "Skipped the scan: no bar newer than {} since the last one. Remove {} to propose it again",
                    result.bar_time, self._models / last_scan.NAME,
                )  # fmt: skip
                return None
            case Failed(kind="configuration"):
                raise load.ConfigError(result.reason)
            case Failed():
                self._log_left_out(result.left_out)
                raise ScanError(result.reason, transient=result.kind == "transient")
            case Ranked():
                self._log_ranked(result)
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

    async def _propose_all(self, ranked: Ranked) -> bool:
        """Propose every signal, best first. Returns False when the actor is to stop first. Raises ScanError."""
        for signal in ranked.signals:
            failpoints.reach("scanner.before_propose")  # proposing one signal
            ack = await self._propose(signal)
            failpoints.reach("scanner.after_propose")
            if ack is None:
                logger.info("Stopped before the store had answered for {}; it will be proposed again", signal.symbol)
                return False
            self._log_answer(signal, ack)
        return True

    async def _propose(self, signal: Signal) -> messages.Ack | None:
        """Ask until the store has answered durably, at most until the next scan is due; None when stopping first."""
        command = messages.Propose(
            signal=signal, trade_date=self._today(), source="scanner", ttl_minutes=self._wanted.intent_ttl_minutes
        )
        try:
            # A signal that waited longer would compete with that of the next scan.
            return await self._ask(command, max(self._wanted.interval_s, PROPOSE_S_MIN))
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

    def _mark(self, ranked: Ranked) -> None:
        """Remember the scan as done. Only after the last answer: a scan that dies before is done again, harmlessly."""
        failpoints.reach("scanner.before_mark")  # remembering the scan as done
        mark = last_scan.LastScan(
            fingerprint=ranked.fingerprint,
            bar_time=ranked.bar_time,
            finished_at=clock.iso(self.clock.now()),
            model_id=ranked.model_id,
            symbols=tuple(signal.symbol for signal in ranked.signals),
        )
        try:
            last_scan.write(self._models, mark)
        except OSError as error:
            raise ScanError(f"the finished scan could not be remembered: {error}", transient=True) from error
        failpoints.reach("scanner.after_mark")

    def _last_scan(self) -> last_scan.LastScan | None:
        try:
            return last_scan.read(self._models)
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


def _span(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


if __name__ == "__main__":
    actor.main(Scanner)
