"""The alerts process: delivers the store's outbox to people, takes commands by Telegram, gives a sign of life.

Run as `python -m actors.alerts`, at most one. A process of its own, so that no channel can hold up or end trading.
Never talks to the broker; all that it changes goes to the store as an operator's message. Without a channel it only
beats, and marks nothing as delivered.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets

from loguru import logger

from actors.analysts.masking import Masker
from actors.compliance import rulebook
from actors.outbox import channels
from actors.outbox.answers import Answers
from actors.outbox.channels import Channels
from actors.outbox.codes import Codes
from actors.outbox.commands import Commands
from actors.outbox.delivery import Delivery
from actors.outbox.listening import Listening
from actors.outbox.notes import Notes
from actors.outbox.pace import Pace
from actors.outbox.pulse import Pulse
from actors.outbox.second import Second
from actors.outbox.telegram import Telegram
from bus import actor
from bus.actor import BeatState
from bus.clock import Clock
from bus.link import Link
from bus.vocabulary import Role
from config import load
from config.load import ConfigError
from config.settings import Settings


class Alerts(actor.Actor):
    """Up to three jobs side by side: deliveries, commands, the ping."""

    role = Role.ALERTS

    def __init__(self, link: Link, settings: Settings, clock: Clock) -> None:
        super().__init__(link, settings, clock)
        self._channels = _channels(settings)
        self._delivery: Delivery | None = None
        self._path = load.db_path(settings)

    async def run(self) -> None:
        if not self._channels.tells:
            logger.warning(
                "Nobody is told anything: set {} and {} (pilot doctor checks them), or addresses in {}",
                channels.TOKEN, channels.CHAT, self.settings.alerts.second_env,
            )  # fmt: skip
        async with contextlib.AsyncExitStack() as stack:
            telegram: Telegram | None = None
            alerts = self.settings.alerts
            if (bot := self._channels.bot) is not None:
                telegram = Telegram(bot, request_s=alerts.request_s, poll_s=alerts.poll_s)
                await stack.enter_async_context(telegram)
            jobs = await stack.enter_async_context(asyncio.TaskGroup())
            if self._channels.tells:
                self._begin_to_tell(jobs, telegram)
            if self._channels.ping:
                pulse = Pulse(self.link, self._path, self._channels.ping, self.settings, self.clock)
                jobs.create_task(pulse.run(), name="ping")
            await self.link.stopping.wait()

    def _begin_to_tell(self, jobs: asyncio.TaskGroup, telegram: Telegram | None) -> None:
        """Start the deliveries, and the commands where there is a bot."""
        alerts, bot = self.settings.alerts, self._channels.bot
        notes = Notes(load.data_folder() / "alerts", bot.token.partition(":")[0] if bot else "none")
        is_group = bot is not None and bot.is_group
        pace = Pace(self.clock, gap_s=alerts.gap_s, group_per_minute=alerts.group_per_minute if is_group else None)
        second = Second(self._channels.second, limit_s=alerts.second_s) if self._channels.second else None
        hidden = load.secret_values((channels.CHAT, alerts.second_env, alerts.ping_env)) | self._channels.secrets
        mask, rules = Masker(hidden), rulebook.load(self.settings.compliance.rules)
        self._delivery = Delivery(
            self.link, self._path, first=telegram, second=second, settings=alerts, notes=notes, pace=pace,
            clock=self.clock, mask=mask, currency=rules.account.currency,
        )  # fmt: skip
        jobs.create_task(self._delivery.run(), name="deliver")
        if telegram is None or not alerts.commands:
            return
        commands = Commands(
            telegram, self.link, answers=Answers(self._path, self.settings, rules, self.clock),
            codes=Codes(self.clock, lifetime_s=alerts.confirm_s, make=lambda: secrets.token_urlsafe(12)),
            pace=pace, settings=alerts, clock=self.clock, mask=mask,
        )  # fmt: skip
        listening = Listening(
            telegram, self.link, commands=commands, notes=notes, lock=load.data_folder() / "alerts" / "poller.lock",
            settings=alerts, clock=self.clock,
        )  # fmt: skip
        jobs.create_task(listening.run(), name="listen")

    def beat(self) -> BeatState:
        return BeatState(progress=self._delivery.told if self._delivery else 0)


def _channels(settings: Settings) -> Channels:
    """Return what is set up. What is wrong is said and counts as not set up: it must not keep trading from starting."""
    try:
        return channels.read(settings.alerts)
    except ConfigError as error:
        logger.error("Nobody is told anything until this is put right: {}", error)
        return Channels()


if __name__ == "__main__":
    actor.main(Alerts)
