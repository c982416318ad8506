"""What `pilot doctor` says of Telegram over a real socket: wrong is a failure with its fix; no token is shown."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors.console import doctor, telegram
from actors.console.findings import Finding
from config import load
from config.settings import Settings
from tests.kit import scripted
from tests.kit.real_store import pilot
from tests.kit.scripted import CLOSE, HANG, Server, reply

TOKEN, CHAT = "123456789:AAE-abcdefghijklmnopqrstuvwxyz012345", "-1001234567890"
OK = reply(200, {"ok": True, "result": {"id": 1}})
FOUND_NONE = reply(400, {"ok": False, "error_code": 400, "description": "Bad Request: chat not found"})
UNKNOWN = reply(401, {"ok": False, "error_code": 401, "description": "Unauthorized"})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with scripted.serving() as found:
        found.on("/getMe", OK)
        found.on("/getChat", OK)
        yield found


async def check(server: Server, token: str = TOKEN, chat: str = CHAT) -> Finding:
    (found,) = await telegram.check(f"http://127.0.0.1:{server.port}", token, chat)
    assert token not in found.found + found.fix or not token
    return found


@pytest.mark.parametrize(
    ("path", "answer", "code", "word"),
    [
        ("/getMe", UNKNOWN, 78, "BotFather"),
        ("/getMe", reply(404, {"ok": False, "description": "Not Found"}), 78, "BotFather"),
        ("/getMe", CLOSE, 69, "network"),
        ("/getMe", HANG, 69, "network"),
        ("/getMe", reply(502, b"<html>", "text/html"), 69, "telegram_url"),
        ("/getMe", reply(302, b"", Location=f"https://elsewhere.invalid/bot{TOKEN}/getMe"), 69, "telegram_url"),
        ("/getChat", FOUND_NONE, 78, "PILOT_TELEGRAM_CHAT"),
        ("/getChat", CLOSE, 69, "network"),
    ],
)
async def test_what_is_wrong_is_a_failure_of_its_class_without_the_token(
    server: Server, monkeypatch: pytest.MonkeyPatch, path: str, answer: bytes, code: int, word: str
) -> None:
    monkeypatch.setattr(telegram, "ANSWER_S", 0.3)
    server.on(path, answer)
    found = await check(server)
    assert (found.state, found.code, word in found.fix) == ("fail", code, True), found
    assert TOKEN[:12] not in found.found


@pytest.mark.parametrize("token", ["x", "123456789:short", f"{TOKEN}/../x", f" {TOKEN}", f"{TOKEN}\n"])
async def test_token_that_is_none_is_not_sent_anywhere(server: Server, token: str) -> None:
    found = await check(server, token)
    assert (found.state, found.code, server.asked) == ("fail", 78, [])


@pytest.mark.parametrize(("token", "chat", "missing"), [(TOKEN, "", telegram.CHAT), ("", CHAT, telegram.TOKEN)])
async def test_half_of_it_is_a_failure(server: Server, token: str, chat: str, missing: str) -> None:
    found = await check(server, token, chat)
    assert (found.state, found.fix.startswith(f"set {missing}"), server.asked) == ("fail", True, [])


async def test_token_never_leaves_this_machine_unencrypted() -> None:
    (found,) = await telegram.check("http://telegram.example", TOKEN, CHAT)
    assert (found.state, "unencrypted" in found.found) == ("fail", True)


async def test_nothing_set_is_a_note_and_asks_nobody(server: Server) -> None:
    found = await check(server, "", "")
    assert (found.state, "not set up" in found.found, server.asked) == ("ok", True, [])


async def test_bot_and_chat_are_asked_for_once_each(server: Server) -> None:
    found = await check(server)
    assert (found.state, server.count("/getMe"), server.count("/getChat")) == ("ok", 1, 1)
    assert json.loads(server.asked[-1].body) == {"chat_id": CHAT}


def test_whole_command_shows_no_token_and_keeps_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("PILOT_DATA", str(tmp_path / "data")), ("PILOT_RUN", str(tmp_path)), (telegram.TOKEN, TOKEN),
        (telegram.CHAT, CHAT), ("PILOT_BROKER_PASSWORD", "s3cret-of-nobody"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    profile = tmp_path / "mine.toml"
    profile.write_text(
        '[broker]\nbase_url = "http://127.0.0.1:9"\nkind = "platform"\nemail = "a@b.example"\naccount_id = "7"\n'
        '[alerts]\ntelegram_url = "http://127.0.0.1:9"\n'
    )
    ended = pilot("--profile", str(profile), "doctor", "--json")
    said = json.loads(ended.stdout)
    checks = list(dict.fromkeys(one["check"] for one in said["findings"]))
    assert checks == sorted(checks, key=doctor.ORDER.index)
    assert checks[-2:] == ["telegram", "alerts"]
    assert [one["code"] for one in said["findings"] if one["check"] == "telegram"] == [69]
    assert TOKEN not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("name", "value", "is_fine"),
    [
        ("PILOT_ALERT_URLS", "", True),
        ("PILOT_ALERT_URLS", "mailto://me:s3cret-word@example.com json://localhost", True),
        ("PILOT_ALERT_URLS", "mailto://me:s3cret-word@example.com s3cret-word", False),
        ("PILOT_ALERT_URLS", " ".join(["json://s3cret-word"] * 11), False),
        ("PILOT_PING_URL", "", True),
        ("PILOT_PING_URL", "https://hc-ping.example/s3cret-word", True),
        ("PILOT_PING_URL", "http://hc-ping.example/s3cret-word", False),
        ("PILOT_PING_URL", "http://[s3cret-word", False),
        ("PILOT_PING_URL", "s3cret-word", False),
    ],
)
def test_addresses_that_cannot_be_are_named_by_their_variable_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, is_fine: bool
) -> None:
    monkeypatch.setenv(name, value)
    found = {one.found.split()[0].rstrip(":"): one for one in telegram.others(Settings(profile="x").alerts)}
    assert set(found) == {"PILOT_ALERT_URLS", "PILOT_PING_URL"}
    assert (found[name].state == "ok") is is_fine
    assert not any("s3cret-word" in one.found + one.fix for one in found.values())


def test_every_secret_has_its_line_in_the_example() -> None:
    lines = (load.ROOT / ".env.example").read_text().splitlines()
    named = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    wanted = {
        "PILOT_BROKER_PASSWORD",
        "PILOT_LLM_API_KEY",
        telegram.TOKEN,
        telegram.CHAT,
        load.READ_ONLY,
        "PILOT_ALERT_URLS",
    }
    assert wanted <= named
