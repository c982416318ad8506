"""Commands by Telegram: who may, how often, what they change in the real store; and the second channel and the ping."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from actors.outbox.pulse import Pulse
from actors.outbox.second import Second
from bus import messages
from bus.clock import iso
from bus.vocabulary import Role
from tests.kit import bot_api, builders
from tests.kit.bot_api import CHAT, USER, BotApi, no
from tests.kit.peers import a_peer as a_socket
from tests.kit.telling import Desk, a_desk

MONITOR = builders.a_peer(Role.MONITOR)


def now(desk: Desk) -> None:
    """Have Telegram's clock, which dates messages, be the held one."""
    for update in desk.bot._updates:
        if "message" in update:
            update["message"]["date"] = int(desk.clock.now().timestamp())


async def say(desk: Desk, text: str, **who: int) -> str:
    """Write to the bot, have it looked at, and return the newest message of the bot's."""
    desk.bot.write(text, **who)
    now(desk)
    await desk.listening.poll()
    return desk.bot.texts()[-1] if desk.bot.sent else ""


async def press(desk: Desk, data: str, **who: int) -> str:
    desk.bot.press(data, **who)
    await desk.listening.poll()
    return desk.bot.texts()[-1]


def reasons(desk: Desk) -> list[str]:
    return [halt.reason for halt in desk.store.read.halts(iso(desk.clock.now()))]


# ── who may not, and when not ───────────────────────────────────────────────


async def test_strangers_are_counted_not_answered_and_told_of_once(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        for chat in (5, 6, 5):
            assert await say(desk, "/flatten", chat=chat) == ""
        await say(desk, "/pause")
        before = len(desk.bot.sent)
        await press(desk, desk.bot.buttons()[0], chat=5)
        assert (len(desk.bot.sent), desk.commands.strangers, reasons(desk)) == (before, 4, [])
        assert [one.event for one in desk.link.of(messages.Report)] == ["telegram_stranger"]  # type: ignore[union-attr]


async def test_an_old_command_is_not_run_and_a_young_one_is(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        desk.bot.write("/pause")
        now(desk)
        desk.clock.advance(301)
        await desk.listening.poll()
        assert "was not run: it is 5 min old" in desk.bot.texts()[-1]
        assert "Pause?" in await say(desk, "/pause")


async def test_what_is_no_command_is_left_alone_and_an_unknown_one_gets_the_list(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        assert await say(desk, "good morning") == ""
        assert "No such command" in await say(desk, "/buy EURUSD")
        assert [type(one) for one in desk.link.asked] == []


# ── changes ─────────────────────────────────────────────────────────────────


async def test_a_change_needs_its_button_in_time_and_does_it_once(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        await say(desk, "/flatten get me out")
        yes, leave = desk.bot.buttons()
        assert "left alone" in await press(desk, leave)
        assert "left alone" in await press(desk, yes), "a code is used by either button"
        await say(desk, "/flatten get me out")
        yes = desk.bot.buttons()[0]
        desk.clock.advance(61)
        await press(desk, yes)
        assert reasons(desk) == []
        await say(desk, "/flatten@test_bot get me out")
        yes = desk.bot.buttons()[0]
        await press(desk, yes, user=9)
        assert reasons(desk) == []
        assert "asked of the store" in await press(desk, yes)
        await press(desk, yes)
        assert reasons(desk) == [f"flatten: operator telegram:{USER}: get me out"]
        assert len(desk.link.of(messages.Flatten)) == 1
        assert ("editMessageReplyMarkup" in [name for name, _ in desk.bot.calls]) is True


async def test_resume_lifts_what_was_shown_and_nothing_that_came_later(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        assert "nothing to resume" in await say(desk, "/resume")
        desk.store.tell(MONITOR, messages.RaiseHalt(level="hard", reason="first: a"))
        said = await say(desk, "/resume all is well")
        assert "first: a" in said
        desk.store.tell(MONITOR, messages.RaiseHalt(level="hard", reason="second: b"))
        assert "Done" in await press(desk, desk.bot.buttons()[0])
        assert reasons(desk) == ["second: b"]


async def test_a_store_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        await say(desk, "/pause")
        desk.link.is_away = True
        assert "did not answer within 5 s" in await press(desk, desk.bot.buttons()[0])


async def test_buttons_of_an_earlier_life_confirm_nothing(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        await say(desk, "/flatten")
        yes = desk.bot.buttons()[0]
        await desk.anew()
        await press(desk, yes)
        assert reasons(desk) == []


# ── the poller ──────────────────────────────────────────────────────────────


async def test_an_update_is_taken_once_also_when_it_is_shown_again(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        await say(desk, "/profit")
        message = {"message_id": 1, "date": int(desk.clock.now().timestamp()), "chat": {"id": CHAT}, "text": "/profit"}
        desk.bot.faults["getUpdates"].append(bot_api.yes([{"update_id": 100, "message": message}]))
        before = len(desk.bot.sent)
        await desk.anew()
        await desk.listening.poll()
        assert len(desk.bot.sent) == before
        assert [body["offset"] for name, body in desk.bot.calls if name == "getUpdates"][-1] == 101


async def test_another_poller_is_said_once_and_given_way(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        desk.bot.faults["getUpdates"].extend([no(409, "Conflict: terminated by other getUpdates request")] * 3)
        waits = [await desk.listening.poll() for _ in range(4)]
        assert waits == [30.0, 60.0, 120.0, 0.0]
        assert [one.event for one in desk.link.of(messages.Report)] == ["telegram_conflict"]  # type: ignore[union-attr]


async def test_trouble_is_waited_out_longer_and_longer(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        desk.bot.faults["getUpdates"].extend(
            [no(502, "x"), bot_api.HANG_UP, (200, {"nonsense": 1}), no(429, "x", retry_after=9), no(401, "x")]
        )
        assert [await desk.listening.poll() for _ in range(6)] == [1.0, 2.0, 4.0, 9.0, 8.0, 0.0]


async def test_answers_come_from_the_store_alone(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        intent = desk.store.opened(builders.a_peer(Role.EXECUTOR))
        assert "BUY 0.10 lots EURUSD" in await say(desk, "/orders")
        assert "All: net 0.00 USD, 0 closed" in await say(desk, "/profit")
        assert "Intents: 1 opened" in await say(desk, "/status")
        by_pair, by_id, newest = [await say(desk, f"/why {what}") for what in ("eurusd", intent.id[:6], "")]
        assert by_pair == by_id == newest and "EURUSD: opened" in newest
        assert "0 intents match" in await say(desk, "/why zzzz")
        assert desk.link.asked == []


# ── the second channel, for real, and the ping ──────────────────────────────

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answering(status: int, seen: list[bytes]) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.lower().splitlines() if line.startswith(b"content-length")), 0
        )  # fmt: skip
        seen.append(head + await reader.readexactly(length))
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
        await writer.drain()

    return serve


async def test_apprise_delivers_where_one_address_takes_it_and_a_hanging_one_is_left(tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with a_socket(answering(200, seen)) as good, a_socket(answering(500, [])) as bad, a_socket(silent) as deaf:
        addresses = [f"json://127.0.0.1:{one.port}/s3cret" for one in (bad, good, deaf)]
        assert await Second(tuple(addresses[:2]), limit_s=30.0).tell("Title", "a < b") == ""
        assert b"a < b" in seen[0] or b"a &lt; b" in seen[0]
        assert "none of 2 addresses" in await Second((addresses[0], "nonsense://x"), limit_s=30.0).tell("T", "b")
        hanging = Second((addresses[2],), limit_s=0.3)
        assert "no answer within 0.3 s" in await hanging.tell("T", "b")
        assert "has not ended yet" in await hanging.tell("T", "b")


async def test_ping_goes_out_while_all_beat_and_not_when_one_does_not(tmp_path: Path) -> None:
    seen: list[bytes] = []
    async with a_desk(tmp_path) as desk, a_socket(answering(200, seen)) as watcher, httpx.AsyncClient() as client:
        peers = [builders.a_peer(role) for role in (Role.EXECUTOR, Role.MONITOR)]
        address = f"http://127.0.0.1:{watcher.port}/s3cret"
        pulse = Pulse(desk.link, tmp_path / "decisions.db", address, desk.settings, desk.clock)  # type: ignore[arg-type]
        await pulse.ping(client)
        assert seen == [], "nobody was heard yet"
        for peer in peers:
            desk.store.beat(peer)
        desk.store.tick()
        await pulse.ping(client)
        assert len(seen) == 1 and b"GET /s3cret " in seen[0]
        desk.clock.advance(11)
        desk.store.beat(peers[0])
        desk.store.tick()
        await pulse.ping(client)
        assert len(seen) == 1 and "monitor does not beat" in pulse.silent_since()
        desk.store.beat(peers[1])
        desk.store.tick()
        await pulse.ping(client)
        assert len(seen) == 2
        desk.clock.jump(-7_200)
        assert "does not beat" in pulse.silent_since()


@pytest.mark.parametrize("status", [404, 500])
async def test_ping_that_is_refused_is_no_ping_and_shows_no_address(tmp_path: Path, status: int) -> None:
    async with a_desk(tmp_path) as desk, a_socket(answering(status, [])) as watcher, httpx.AsyncClient() as client:
        address = f"http://127.0.0.1:{watcher.port}/s3cret"
        pulse = Pulse(desk.link, tmp_path / "decisions.db", address, desk.settings, desk.clock)  # type: ignore[arg-type]
        for peer in (builders.a_peer(Role.EXECUTOR), builders.a_peer(Role.MONITOR)):
            desk.store.beat(peer)
        desk.store.tick()
        await pulse.ping(client)
        assert pulse.pings == 0 and str(status) in pulse._said and "s3cret" not in pulse._said


async def test_the_server_of_these_tests_keeps_telegrams_rules() -> None:
    async with BotApi() as bot, httpx.AsyncClient() as client:
        url = f"{bot.url}/bot{bot_api.TOKEN}"
        for body, code in (
            ({"chat_id": CHAT, "text": "a < b", "parse_mode": "HTML"}, 200),
            ({"chat_id": CHAT, "text": "<b>a", "parse_mode": "HTML"}, 400),
            ({"chat_id": CHAT, "text": "x" * 4_097}, 400),
            ({"chat_id": 5, "text": "x"}, 400),
        ):
            assert (await client.post(f"{url}/sendMessage", json=body)).status_code == code
        first = asyncio.create_task(client.post(f"{url}/getUpdates", json={"timeout": 20}))
        while not bot.calls or bot.calls[-1][0] != "getUpdates":
            await asyncio.sleep(0.01)
        await client.post(f"{url}/getUpdates", json={"timeout": 0})
        assert (await first).status_code == 409
