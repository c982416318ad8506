"""`python -m actors.alerts` as a real process beside a real store, over sockets to a local Bot API: killed at will."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from bus import messages
from bus.link import Link
from bus.vocabulary import Role
from store.outbox import Outbox
from tests.kit import bot_api
from tests.kit.bot_api import BotApi, no
from tests.kit.builders import a_peer
from tests.kit.store_process import ROOT, StoreProcess

DEADLINE_S = 25.0
# Each of them is killed once, on its way from an alert to its record.
POINTS = (
    "alerts.before_note", "alerts.after_note", "alerts.before_message", "alerts.after_message",
    "alerts.before_send_alerts_delivered", "alerts.after_ack_alerts_delivered",
)  # fmt: skip


class House:
    """A store, an alerts process and a bot's server. The process is started again as its supervisor would."""

    def __init__(self, base: Path, bot: BotApi) -> None:
        self.bot = bot
        self.store = StoreProcess(base)
        self.log = base / "alerts.log"
        self.process: subprocess.Popen[bytes] | None = None
        with (base / "test.toml").open("a") as profile:
            profile.write(f'[alerts]\ntelegram_url = "{bot.url}"\ncoalesce_s = 0.0\ngap_s = 0.0\npoll_s = 5\n')

    def start(self, **environment: str) -> None:
        own = {
            "PILOT_DATA": str(self.store.data), "PILOT_RUN": str(self.store.base / "run"),
            "PILOT_PROFILE": str(self.store.base / "test.toml"), "PILOT_FAILPOINTS": str(self.store.points),
            "PILOT_TELEGRAM_TOKEN": bot_api.TOKEN, "PILOT_TELEGRAM_CHAT": str(bot_api.CHAT), "LOG_LEVEL": "DEBUG",
        }  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "actors.alerts"], env=os.environ | own | environment, cwd=ROOT, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def end(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(15)
        finally:
            self.process.kill()
            self.process.wait()

    def cursor(self) -> int:
        outbox = Outbox(self.store.db)
        try:
            return outbox.cursor()
        finally:
            outbox.close()

    async def until(self, check: Callable[[], Any]) -> Any:
        """Wait for `check`; the loop serves the bot meanwhile. A process that was killed is started again."""
        end_s = asyncio.get_running_loop().time() + DEADLINE_S
        while not (found := check()):
            if self.process is not None and self.process.poll() == -signal.SIGKILL:
                self.start()
            assert asyncio.get_running_loop().time() < end_s, f"last seen: {found!r}\n{self.log.read_text()[-3_000:]}"
            await asyncio.sleep(0.02)
        return found


@pytest.fixture
async def house() -> AsyncIterator[House]:
    base = Path(tempfile.mkdtemp(prefix="pa"))
    async with BotApi() as bot:
        found = House(base, bot)
        found.store.start()
        await asyncio.to_thread(found.store.serving, 1)
        try:
            yield found
        finally:
            if found.process is not None:
                found.process.kill()
                found.process.wait()
            found.store.end()
            shutil.rmtree(base)


async def report(link: Link, text: str) -> None:
    ack = await link.ask(messages.Report(level="error", event="clock", text=text), 10)
    assert ack.outcome == "applied"


async def test_killed_at_any_point_of_a_delivery_loses_nothing_and_keeps_the_order(house: House) -> None:
    async with house.store.link(a_peer(Role.MONITOR)) as link:
        house.start()
        for number, point in enumerate(POINTS, start=1):
            house.store.arm(point)
            await report(link, f"alert {number}.")
            await house.until(lambda number=number: house.cursor() == number)
            await house.until(lambda point=point: (house.store.points / f"{point}.fired").exists())
        await report(link, "the last one.")
        await house.until(lambda: house.cursor() == len(POINTS) + 1)
    texts = house.bot.texts()
    numbers = [next(number for number in range(1, 8) if f"alert {number}." in text or number == 7) for text in texts]
    # Sent again, and said so, is what may have arrived; what certainly did not is sent once.
    assert numbers == sorted(numbers) and set(numbers) == set(range(1, 8)), texts
    again = [number for number, text in zip(numbers, texts, strict=True) if "Sent again" in text]
    twice = {number for number in numbers if numbers.count(number) == 2}
    assert {4, 5} <= twice <= set(again), texts
    assert max(numbers.count(number) for number in numbers) == 2


async def test_commands_are_run_once_confirmed_and_never_leave_a_token_behind(house: House) -> None:
    house.bot.faults["getUpdates"].extend([no(502, "Bad Gateway"), bot_api.HANG_UP])
    house.bot.write("/pause on holiday", age_s=301)
    house.bot.write("/pause", chat=99)
    house.bot.write("/pause", chat=98)
    house.bot.write("/status")
    house.start()
    await house.until(lambda: any("Status of" in text for text in house.bot.texts()))
    assert sum("was not run" in text for text in house.bot.texts()) == 1
    reader = house.store.read()
    try:
        assert reader.halts() == []
        await house.until(lambda: [event for _, _, event, _ in reader.alerts()].count("telegram_stranger") == 1)
        house.bot.write("/pause on holiday")
        yes, _ = await house.until(lambda: any("reply_markup" in one for one in house.bot.sent) and house.bot.buttons())
        assert reader.halts() == [], "a question changes nothing"
        house.bot.press(yes, user=4)  # somebody else's press
        house.bot.press(yes)
        house.bot.press(yes)
        (halt,) = await house.until(reader.halts)
        assert halt.reason == f"operator: telegram:{bot_api.USER}: on holiday"
        await house.until(lambda: any("asked of the store" in text for text in house.bot.texts()))
        # Killed once the update is noted: the command is lost, not doubled, and its button confirms nothing later.
        await house.until(lambda: house.bot.is_read)  # else the kill meets a press that is still to be taken
        house.store.arm("alerts.after_take_update")
        house.bot.write("/flatten")
        await house.until(lambda: (house.store.points / "alerts.after_take_update.fired").exists())
        house.bot.press(yes)
        house.bot.write("/orders")
        await house.until(lambda: any("Positions open" in text for text in house.bot.texts()))
        assert len(reader.halts()) == 1
        assert not any("Flatten?" in text for text in house.bot.texts())
        strangers = [chat for chat in (98, 99) if any(str(one["chat_id"]) == str(chat) for one in house.bot.sent)]
        assert strangers == [], "nobody else is answered"
    finally:
        reader.close()
    assert await asyncio.to_thread(house.end) == 0
    written = [house.log, *(house.store.data / "logs").glob("*.log"), *(house.store.data / "alerts").iterdir()]
    secret = bot_api.TOKEN.partition(":")[2]
    assert not any(secret in path.read_text() for path in written)


async def test_without_a_channel_it_says_what_to_set_and_marks_nothing(house: House) -> None:
    async with house.store.link(a_peer(Role.MONITOR)) as link:
        house.start(PILOT_TELEGRAM_TOKEN="", PILOT_TELEGRAM_CHAT="")
        await report(link, "for later")
        await house.until(lambda: "set PILOT_TELEGRAM_TOKEN and PILOT_TELEGRAM_CHAT" in house.log.read_text())
        assert await asyncio.to_thread(house.end) == 0
        house.start(PILOT_TELEGRAM_CHAT="")
        await house.until(lambda: "PILOT_TELEGRAM_CHAT is not" in house.log.read_text())
        assert house.process is not None and house.process.poll() is None, "a wrong channel ends nothing"
        assert await asyncio.to_thread(house.end) == 0
    assert house.cursor() == 0 and house.bot.calls == []
