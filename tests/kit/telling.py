"""The alerts process's library over the real store's writer and database, with a held clock: no process, no waiting.

async with a_desk(folder) as desk:
    desk.report("error", "orphan_position", "who is it?")
    await desk.delivery.round()
    assert desk.bot.texts() == [...]
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from actors.analysts.masking import Masker
from actors.compliance import rulebook
from actors.outbox.answers import Answers
from actors.outbox.channels import Bot
from actors.outbox.codes import Codes
from actors.outbox.commands import Commands
from actors.outbox.delivery import Delivery
from actors.outbox.listening import Listening
from actors.outbox.notes import Notes
from actors.outbox.pace import Pace
from actors.outbox.second import Second
from actors.outbox.telegram import Telegram
from bus import messages
from bus.vocabulary import Role
from config.settings import Alerts, Settings
from store import connection
from store.outbox import Outbox
from tests.kit import bot_api, builders
from tests.kit.bot_api import BotApi
from tests.kit.clock import ManualClock
from tests.kit.fake_link import FakeLink
from tests.kit.store import StoreHarness

ALERTS = builders.a_peer(Role.ALERTS)
RULES = "e8-signature-50k"


class HeldLink(FakeLink):
    """A link to the harness whose sleeps pass at once, by the held clock."""

    def __init__(self, store: StoreHarness, clock: ManualClock) -> None:
        super().__init__(lambda command: None if self.is_away else store.tell(ALERTS, command))
        self.peer = ALERTS
        self.is_away = False
        self._clock = clock

    async def sleep(self, seconds: float) -> bool:
        self.slept_s.append(seconds)
        self._clock.advance(seconds)
        return False


class Desk:
    """Everything of one life of the process. `anew` begins another one over the same folder."""

    def __init__(self, folder: Path, bot: BotApi, changes: dict[str, Any]) -> None:
        self.folder = folder
        self.bot = bot
        self.clock = ManualClock()
        self.store = StoreHarness(connection.open_writer(folder / "decisions.db"), self.clock)
        self.link = HeldLink(self.store, self.clock)
        self.second = changes.pop("second", None)
        self.is_bot = changes.pop("is_bot", True)
        self.chat = changes.pop("chat", str(bot_api.CHAT))
        self.settings = Settings(
            profile="paper", alerts=msgspec.structs.replace(Alerts(coalesce_s=0.0, poll_s=0.0), **changes)
        )
        self.codes_made = 0

    async def __aenter__(self) -> Desk:
        alerts, path = self.settings.alerts, self.folder / "decisions.db"
        bot = Bot(self.bot.url, bot_api.TOKEN, self.chat)
        self.telegram = Telegram(bot, request_s=alerts.request_s, poll_s=0.0)
        self.pace = Pace(self.clock, gap_s=alerts.gap_s, group_per_minute=alerts.group_per_minute)
        self.notes = Notes(self.folder / "alerts", "123456")
        mask = Masker([bot_api.TOKEN])
        self.delivery = Delivery(
            self.link, path, first=self.telegram if self.is_bot else None, second=self.second, settings=alerts,
            notes=self.notes, pace=self.pace, clock=self.clock, mask=mask, currency="USD",
        )  # fmt: skip
        self.commands = Commands(
            self.telegram, self.link, answers=Answers(path, self.settings, rulebook.load(RULES), self.clock),
            codes=Codes(self.clock, lifetime_s=alerts.confirm_s, make=self._code), pace=self.pace, settings=alerts,
            clock=self.clock, mask=mask,
        )  # fmt: skip
        self.listening = Listening(
            self.telegram, self.link, commands=self.commands, notes=self.notes, lock=self.folder / "lock",
            settings=alerts, clock=self.clock,
        )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.telegram.__aexit__(None, None, None)

    async def anew(self) -> None:
        """Begin another life, as after a kill."""
        await self.__aexit__()
        self.link.is_away = False
        await self.__aenter__()

    def report(self, level: str, event: str, text: str = "something", **data: Any) -> int:
        """Put an alert into the outbox and return its number."""
        body = messages.Report(level=level, event=event, text=text, data=data)  # type: ignore[arg-type]
        assert self.store.tell(builders.a_peer(Role.MONITOR), body).outcome == "applied"
        return int(str(self.store.db.execute("SELECT max(seq) FROM alerts").get))

    async def rounds(self, times: int, seconds: float = 1.0) -> None:
        """Look so often, with time between."""
        for _ in range(times):
            await self.delivery.round()
            self.clock.advance(seconds)

    def cursor(self) -> int:
        outbox = Outbox(self.folder / "decisions.db")
        try:
            return outbox.cursor()
        finally:
            outbox.close()

    def _code(self) -> str:
        self.codes_made += 1
        return f"code{self.codes_made}"


@contextlib.asynccontextmanager
async def a_desk(folder: Path, **changes: Any) -> AsyncIterator[Desk]:
    """Run a desk beside a bot's server. `changes` are settings of the section, or `second`, `is_bot`, `chat`."""
    async with BotApi() as bot, Desk(folder, bot, changes) as desk:
        yield desk
        desk.store.db.close()


class FakeSecond(Second):
    """A second channel that keeps what it is sent. `problem` is what it answers."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.problem = ""

    async def tell(self, title: str, body: str) -> str:
        if not self.problem:
            self.sent.append((title, body))
        return self.problem
