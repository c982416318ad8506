"""The check of `pilot doctor` for Telegram: whether the bot and the chat that people are to be told in exist.

Used by pilot only. Sends no message. The token is part of every address, so no address and no error text of the HTTP
client is ever shown: only the kind of an error, and what Telegram itself says.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import httpx
import msgspec
from msgspec import Struct

from actors.console import findings
from actors.console.findings import UNREACHABLE, Finding

TOKEN, CHAT = "PILOT_TELEGRAM_TOKEN", "PILOT_TELEGRAM_CHAT"
TOKEN_SHAPE = re.compile(r"[0-9]{3,20}:[A-Za-z0-9_-]{20,100}")
ANSWER_S = 10.0
BODY_BYTES_MAX = 100_000


class Said(Struct, frozen=True):
    """An answer of the Bot API."""

    ok: bool
    description: str = ""


async def check(url: str, token: str, chat: str) -> list[Finding]:
    """Ask for the bot and for the chat, once each. Nothing set is a note, half of it a failure."""
    if not token and not chat:
        return [findings.ok("telegram", f"not set up: {TOKEN} and {CHAT} are not set")]
    for name, value, other in ((TOKEN, token, CHAT), (CHAT, chat, TOKEN)):
        if not value:
            return [findings.fail("telegram", f"{other} is set and {name} is not", f"set {name}, or take {other} out")]
    if not TOKEN_SHAPE.fullmatch(token):
        fix = f"put the token that @BotFather gave you into {TOKEN}"
        return [findings.fail("telegram", f"{TOKEN} is no bot's token, such as 123456:ABC...", fix)]
    where = urlsplit(url)
    if where.scheme != "https" and where.hostname not in ("127.0.0.1", "::1", "localhost"):
        fix = "set alerts.telegram_url to https://..., or leave it out"
        return [findings.fail("telegram", f"alerts.telegram_url was {url!r}: the token would leave unencrypted", fix)]
    try:
        async with httpx.AsyncClient(timeout=ANSWER_S, trust_env=False) as client:
            bot = await _ask(client, f"{url}/bot{token}/getMe", {})
            if not bot.ok:
                fix = f"put the token that @BotFather gave you into {TOKEN}"
                return [findings.fail("telegram", f"the bot is not known: {bot.description}", fix)]
            there = await _ask(client, f"{url}/bot{token}/getChat", {"chat_id": chat})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        said = f"{where.hostname}: {type(error).__name__}"
        return [findings.fail("telegram", said, "is this machine on the network? Try again", UNREACHABLE)]
    except msgspec.DecodeError:
        fix = "check alerts.telegram_url"
        return [findings.fail("telegram", f"{where.hostname} does not answer as Telegram does", fix, UNREACHABLE)]
    if not there.ok:
        fix = f"write to the bot once from that chat, then put the chat's id into {CHAT}"
        return [findings.fail("telegram", f"the chat is not known: {there.description}", fix)]
    return [findings.ok("telegram", "bot and chat are known")]


async def _ask(client: httpx.AsyncClient, address: str, body: dict[str, str]) -> Said:
    answer = await client.post(address, json=body)
    return msgspec.json.decode(answer.content[:BODY_BYTES_MAX], type=Said)
