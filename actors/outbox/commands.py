"""What people may order by Telegram: readings are answered at once, changes only after a button was pressed in time.

Library of the alerts process. Changes go to the store as the operator's `Pause`, `Resume` and `Flatten` and as nothing
else. Whoever writes from another chat is counted and not answered; what is older than some minutes is not run at all.
"""

from __future__ import annotations

from collections.abc import Callable

from loguru import logger

from actors.console import text
from actors.outbox import digest, wording
from actors.outbox.answers import Answers
from actors.outbox.codes import Asked, Change, Codes
from actors.outbox.pace import Pace
from actors.outbox.telegram import Button, Chat, Message, Press, Telegram, TelegramError, Update
from actors.outbox.wording import Words
from bus import messages
from bus.clock import Clock
from bus.errors import NoAnswer
from bus.link import Link
from config.settings import Alerts
from store.queries import DatabaseRefused

ANSWER_S = 5.0
REASON_CHARS_MAX = 200
YES, NO = "yes:", "no:"
CHANGES: tuple[Change, ...] = ("pause", "resume", "flatten")


class Commands:
    """Takes one update after the other. Nothing of what it remembers is needed after a restart."""

    def __init__(
        self, telegram: Telegram, link: Link, *, answers: Answers, codes: Codes, pace: Pace, settings: Alerts,
        clock: Clock, mask: Callable[[str], str],
    ) -> None:  # fmt: skip
        self.strangers = 0  # things that were written or pressed elsewhere
        self._telegram = telegram
        self._link = link
        self._answers = answers
        self._codes = codes
        self._pace = pace
        self._settings = settings
        self._clock = clock
        self._mask = mask
        self._is_told = False

    async def take(self, update: Update) -> None:
        """Look at one thing that somebody wrote or pressed."""
        press, message = update.callback_query, update.message
        if press is not None:
            if press.message is None or not self._is_ours(press.message.chat):
                await self._stranger()
            else:
                await self._pressed(press, press.message)
        elif message is not None:
            if not self._is_ours(message.chat):
                await self._stranger()
            elif message.text.startswith("/"):
                await self._written(message)

    def _is_ours(self, chat: Chat) -> bool:
        return self._telegram.chat.lower() in (str(chat.id), f"@{chat.username.lower()}")

    async def _stranger(self) -> None:
        """Count it, answer nothing, and have people told once."""
        self.strangers += 1
        logger.warning("Something came from another chat than ours and was not answered ({} so far)", self.strangers)
        if self._is_told:
            return
        said = "Somebody wrote to the bot from another chat; it is not answered, nor are those who follow"
        try:
            await self._link.ask(messages.Report(level="warning", event="telegram_stranger", text=said), ANSWER_S)
            self._is_told = True
        except NoAnswer as error:
            logger.warning("Not reported: {}", error)

    # ── what is written ─────────────────────────────────────────────────────

    async def _written(self, message: Message) -> None:
        word, _, rest = message.text.partition(" ")
        name, rest = word.partition("@")[0][1:].lower(), text.line(rest, REASON_CHARS_MAX)
        age_s = self._clock.now().timestamp() - message.date
        if age_s > self._settings.command_age_s_max:
            logger.warning("Not run: /{} is {:.0f} s old", text.line(name, 20), age_s)
            await self._say(wording.too_old(text.line(name, 20), age_s))
            return
        user = message.from_.id if message.from_ else 0
        logger.info("/{} by telegram:{}", text.line(name, 20), user)
        try:
            if name in CHANGES:
                change = CHANGES[CHANGES.index(name)]
                await self._ask_back(change, message.chat.id, user, rest)
            else:
                await self._say(self._answers.to(name, rest))
        except DatabaseRefused as error:
            await self._say(wording.not_readable(str(error)))

    async def _ask_back(self, change: Change, chat: int, user: int, reason: str) -> None:
        """Say what a change would do, with a button for it that is good for a minute."""
        halts = self._answers.halts() if change == "resume" else []
        if change == "resume" and not halts:
            await self._say(wording.nothing_to_resume())
            return
        asked = Asked(
            change=change, chat=chat, user=user, reason=reason or "by Telegram", halt_ids=tuple(one.id for one in halts)
        )
        code = self._codes.issue(asked)
        words = wording.confirm(change, [one.reason for one in halts], self._settings.confirm_s)
        await self._say(words, ((wording.yes(change), YES + code), (wording.NO, NO + code)))

    # ── what is pressed ─────────────────────────────────────────────────────

    async def _pressed(self, press: Press, message: Message) -> None:
        user = press.from_.id
        kind, code = press.data[: len(YES)], press.data.partition(":")[2]
        asked = self._codes.redeem(code, chat=message.chat.id, user=user)
        try:
            await self._telegram.acknowledge(press, "" if asked else wording.EXPIRED)
            if asked is not None:
                await self._telegram.take_buttons(message.message_id)
        except TelegramError as error:
            logger.warning("The button could not be answered: {}", error)
        if asked is None:
            logger.warning("A button of telegram:{} confirmed nothing: used, expired, or another's", user)
        elif kind != YES:
            await self._say(wording.left_alone(asked.change))
        else:
            await self._say(wording.done(asked.change, [await self._order(one) for one in _orders(asked)]))

    async def _order(self, command: messages.Pause | messages.Resume | messages.Flatten) -> str:
        """Have the store do it and return its answer as a sentence."""
        name = type(command).__name__
        logger.warning("{} by {}: {}", name, command.operator, command.reason)
        try:
            ack = await self._link.ask(command, ANSWER_S)
        except NoAnswer:
            return wording.not_answered(ANSWER_S)
        return wording.answered(str(ack.outcome), ack.reason)

    async def _say(self, words: Words, buttons: tuple[Button, ...] = ()) -> None:
        """Answer in the chat, as fast as it allows. An answer that cannot be sent is lost: people ask again."""
        masked = Words(self._mask(words.heading), tuple(self._mask(line) for line in words.lines))
        await self._pace.turn(self._link.sleep)
        try:
            plain = digest.cut(digest.as_plain(masked))
            await self._telegram.write(plain, as_html=False, buttons=buttons)
        except TelegramError as error:
            logger.warning("An answer was not sent: {}", error)


def _orders(asked: Asked) -> list[messages.Pause | messages.Resume | messages.Flatten]:
    """Return the operator's messages of a confirmed change: of `resume`, one for each halt that was shown."""
    operator = f"telegram:{asked.user}"
    if asked.change == "pause":
        return [messages.Pause(operator=operator, reason=asked.reason)]
    if asked.change == "flatten":
        return [messages.Flatten(operator=operator, reason=asked.reason)]
    return [messages.Resume(operator=operator, reason=asked.reason, halt_id=halt_id) for halt_id in asked.halt_ids]
