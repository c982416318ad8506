"""Takes alerts out of the store's outbox and sends them: in order, at least once, no faster than a chat allows.

Library of the alerts process. A message is noted before it leaves and recorded by the store after it was taken; killed
in between, it is sent once more and says so. Never drops an alert and never writes to anything but the outbox.

    look ── nothing due ──> wait
    look ── due ──> the first channel; when that takes nothing for `escalate_s`, the second ──> record ──> look
    the second took over ──> it takes all at once, until the first is back
    the first channel failed `breaker_failures_max` times ──> only probes, until one comes back
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from loguru import logger

from actors.analysts.breaker import Breaker, State
from actors.outbox import digest, wording
from actors.outbox.digest import Letter
from actors.outbox.notes import Notes
from actors.outbox.pace import Pace
from actors.outbox.second import Second
from actors.outbox.telegram import Away, Denied, Flooded, Telegram, TelegramError
from bus import clock, messages
from bus.alerting import Data, Severity
from bus.clock import Clock
from bus.errors import NoAnswer
from bus.failpoints import reach
from bus.link import Link
from bus.vocabulary import Outcome
from config.settings import Alerts
from store.outbox import Alert, Outbox
from store.queries import DatabaseRefused, NoDatabase

LOOK_S = 0.5
AGAIN_S = 30.0  # after an answer of the store that should not be, and while its database cannot be read
ANSWER_S = 5.0
PENDING_MAX = 1_000
BAD_REQUEST = 400
LAST_WORDS_S = 2.0  # for what is told while the pipeline stops
GATHER_S = 0.3
LEVELS: tuple[Severity, ...] = ("info", "warning", "error")
FIRST, SECOND, NOBODY = "telegram", "second", "level"


class Delivery:
    """The outbox, and what is remembered of the channels. All but `notes` may be forgotten."""

    def __init__(
        self, link: Link, path: Path, *, first: Telegram | None, second: Second | None, settings: Alerts, notes: Notes,
        pace: Pace, clock: Clock, mask: Callable[[str], str], currency: str,
    ) -> None:  # fmt: skip
        self.told = 0  # messages
        self._link = link
        self._path = path
        self._first = first
        self._second = second
        self._settings = settings
        self._notes = notes
        self._pace = pace
        self._clock = clock
        self._mask = mask
        self._currency = currency
        self._levels = LEVELS[LEVELS.index(settings.level) :]
        self._breaker = Breaker(
            "Telegram", clock, failures_max=settings.breaker_failures_max, wait_s=settings.breaker_wait_s,
            wait_s_max=settings.breaker_wait_s_max,
        )  # fmt: skip
        self._outbox: Outbox | None = None
        self._owed: messages.AlertsDelivered | None = None  # taken by a channel, and not yet recorded
        self._waiting: tuple[int, float] | None = None  # the oldest alert, and since when it waits here
        self._is_told_late = False
        self._has_second_taken_over = False
        self._problem = ""
        self._rest_until_s = float("-inf")
        self._second_due_s = float("-inf")

    async def run(self) -> None:
        """Look until the process is asked to stop; then tell what the others say as they stop."""
        try:
            while not await self._link.sleep(LOOK_S):
                await self.round()
            try:
                async with asyncio.timeout(LAST_WORDS_S):
                    await asyncio.sleep(GATHER_S)
                    await self.round(is_last=True)
            except TimeoutError:
                logger.info("Left to the next start: what could not be told in time")
        finally:
            if self._outbox is not None:
                self._outbox.close()

    async def round(self, *, is_last: bool = False) -> None:
        """Send at most one message, if one is due and may be sent. With `is_last` nothing more is waited for."""
        now_s = self._clock.monotonic()
        if now_s < self._rest_until_s or not await self._is_recorded():
            return
        outbox = self._open()
        if outbox is None:
            return
        pending = outbox.pending(PENDING_MAX)
        shown = [one for one in pending if one.level in self._levels]
        if not shown:
            self._waiting = None
            self._is_told_late = False
            if pending:
                await self._record(pending[-1].seq, NOBODY)
            return
        if self._waiting is None or self._waiting[0] != shown[0].seq:
            self._waiting = (shown[0].seq, now_s)
        await self._say_late(shown)
        if is_last or self._is_due(shown):
            await self._tell(pending, shown)

    # ── what is due ─────────────────────────────────────────────────────────

    def _is_due(self, shown: list[Alert]) -> bool:
        """Return whether to wait no longer for more of the same: an error waits for nothing."""
        age_s = (self._clock.now() - clock.parse(shown[0].at)).total_seconds()
        return any(one.level == "error" for one in shown) or not 0 <= age_s < self._settings.coalesce_s

    async def _tell(self, pending: list[Alert], shown: list[Alert]) -> None:
        """Send the oldest alerts that fit into a message, and have the store record them."""
        if (channel := await self._choose()) is None:
            return
        noted = self._notes.sending()
        is_again = noted >= shown[0].seq
        letter = digest.compose(
            [one for one in shown if one.seq <= noted] if is_again else shown,
            now=self._clock.now(), old_s=self._settings.old_s, currency=self._currency, mask=self._mask,
            is_again=is_again,
        )  # fmt: skip
        if not is_again:
            self._notes.write_sending(letter.through_seq)
        problem, may_have_arrived = await (self._to_first(letter) if channel == FIRST else self._to_second(letter))
        if problem:
            if problem != self._problem:
                logger.warning("Alerts {} to {} wait: {}", letter.first_seq, letter.through_seq, problem)
            self._problem = problem
            if not may_have_arrived and not is_again:
                self._notes.write_sending(0)
            return
        self.told += 1
        self._problem = ""
        self._has_second_taken_over = channel == SECOND
        # What is passed over behind the message goes with it, up to the next one that is told.
        left = [one.seq for one in shown if one.seq > letter.through_seq]
        await self._record(max(one.seq for one in pending if not left or one.seq < left[0]), channel)

    async def _say_late(self, shown: list[Alert]) -> None:
        """Put into the outbox, once an outage, that it does not empty: other eyes than the channel's see it there."""
        assert self._waiting is not None
        waited_s = self._clock.monotonic() - self._waiting[1]
        if self._is_told_late or waited_s < self._settings.backlog_s:
            return
        problem = self._problem or "the channel is slow"
        data: Data = {"waiting": len(shown), "waited_s": int(waited_s), "problem": problem}
        text = f"{len(shown)} alerts wait for {waited_s:.0f} s: {problem}"
        try:
            await self._link.ask(messages.Report(level="error", event="alert_backlog", text=text, data=data), ANSWER_S)
        except NoAnswer as error:
            logger.warning("Not reported: {}", error)
        else:
            self._is_told_late = True
            logger.error("{}", text)

    # ── the channels ────────────────────────────────────────────────────────

    async def _choose(self) -> str | None:
        """Return the channel that may be written to now; None: none yet."""
        if await self._is_first_here() and self._pace.wait_s() <= 0:
            return FIRST
        now_s = self._clock.monotonic()
        waited_s = now_s - (self._waiting[1] if self._waiting else now_s)
        is_away = self._has_second_taken_over and self._breaker.state is not State.CLOSED
        is_wanted = self._first is None or is_away or waited_s >= self._settings.escalate_s
        return SECOND if self._second is not None and is_wanted and now_s >= self._second_due_s else None

    async def _is_first_here(self) -> bool:
        """Return whether the first channel takes messages, as far as is known; probe it when that is due."""
        if self._first is not None and self._breaker.begin_probe():
            try:
                reach("alerts.before_probe")  # asking the first channel whether it is back
                await self._first.probe()
                reach("alerts.after_probe")
            except TelegramError as error:
                self._breaker.end_probe(str(error))
            else:
                self._breaker.end_probe("")
        return self._first is not None and self._breaker.state is State.CLOSED

    async def _to_first(self, letter: Letter) -> tuple[str, bool]:
        """Return what went wrong, "" when the chat has it, and whether it may have it all the same."""
        admitted = self._breaker.admit()
        assert admitted is not None, "chosen"
        try:
            await self._write(letter)
        except Flooded as error:
            self._pace.hold(min(error.retry_after_s, self._settings.retry_after_s_max))
            return str(error), False
        except Away as error:
            self._breaker.failed(admitted, str(error))
            return str(error), error.may_have_arrived
        except TelegramError as error:
            self._breaker.failed(admitted, str(error))
            return str(error), False
        self._breaker.succeeded(admitted)
        return "", True

    async def _write(self, letter: Letter) -> None:
        """Send with marks, else without, else only which alerts these were: no text may keep the next ones from going.

        Raises TelegramError.
        """
        assert self._first is not None
        bare = wording.bare(letter.first_seq, letter.through_seq)
        tries = [(letter.html, True), (letter.plain, False), (bare, False)]
        for text, as_html in tries:
            if text is None:
                continue
            await self._pace.turn(self._link.sleep)
            try:
                await self._first.write(text, as_html=as_html)
                return
            except Denied as error:
                if error.code != BAD_REQUEST or text is bare:
                    raise
                logger.warning("A message was not taken as it was, going on without its marks or text: {}", error)

    async def _to_second(self, letter: Letter) -> tuple[str, bool]:
        """Return what went wrong, "" when somebody has it, and whether somebody may have it all the same."""
        assert self._second is not None
        heading, _, rest = letter.plain.partition("\n")
        if problem := await self._second.tell(heading, rest or heading):
            self._second_due_s = self._clock.monotonic() + AGAIN_S
            return f"second channel: {problem}", True
        return "", True

    # ── the store ───────────────────────────────────────────────────────────

    async def _record(self, through_seq: int, channel: str) -> None:
        self._owed = messages.AlertsDelivered(through_seq=through_seq, channel=channel, levels=self._levels)
        await self._is_recorded()

    async def _is_recorded(self) -> bool:
        """Return whether the store knows of everything that was taken; nothing more is sent before."""
        if self._owed is None:
            return True
        try:
            ack = await self._link.ask(self._owed, ANSWER_S)
        except NoAnswer as error:
            logger.warning("What was delivered is not recorded yet: {}", error)
            return False
        self._owed = None
        if ack.outcome in (Outcome.APPLIED, Outcome.ALREADY):
            return True
        logger.error("The store did not record the delivery: {} {}", ack.outcome, ack.reason)
        self._rest_until_s = self._clock.monotonic() + AGAIN_S
        return False

    def _open(self) -> Outbox | None:
        if self._outbox is None:
            try:
                self._outbox = Outbox(self._path)
            except NoDatabase:
                return None
            except DatabaseRefused as error:
                logger.error("The outbox cannot be read: {}", error)
                self._rest_until_s = self._clock.monotonic() + AGAIN_S
        return self._outbox
