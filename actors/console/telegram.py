"""The checks of `pilot doctor` for alerts: whether bot and chat exist, and the other addresses can be what they should.

Used by pilot only. Sends no message, and asks neither the second channel nor the dead-man address anything. The token
is part of every address, so no address and no error text of the HTTP client is ever shown: only the kind of an error,
and what Telegram itself says.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx
import msgspec
from msgspec import Struct

from actors.console import findings
from actors.console.findings import UNREACHABLE, Finding
from actors.outbox import channels
from actors.outbox.channels import CHAT as CHAT
from actors.outbox.channels import TOKEN as TOKEN
from actors.outbox.channels import TOKEN_SHAPE
from bus import masking
from config.load import ConfigError
from config.settings import Alerts

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
    where, hidden = urlsplit(url), masking.forms((token, token.partition(":")[2]))
    if channels.is_open(url):
        fix = "set alerts.telegram_url to https://..., or leave it out"
        return [findings.fail("telegram", f"alerts.telegram_url was {url!r}: the token would leave unencrypted", fix)]
    try:
        async with httpx.AsyncClient(timeout=ANSWER_S, trust_env=False, follow_redirects=False) as client:
            bot = await _ask(client, f"{url}/bot{token}/getMe", {})
            if not bot.ok:
                fix = f"put the token that @BotFather gave you into {TOKEN}"
                return [
                    findings.fail("telegram", f"the bot is not known: {masking.over(bot.description, hidden)}", fix)
                ]
            there = await _ask(client, f"{url}/bot{token}/getChat", {"chat_id": chat})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        said = f"{where.hostname}: {type(error).__name__}"
        return [findings.fail("telegram", said, "is this machine on the network? Try again", UNREACHABLE)]
    except msgspec.DecodeError:
        fix = "check alerts.telegram_url"
        return [findings.fail("telegram", f"{where.hostname} does not answer as Telegram does", fix, UNREACHABLE)]
    if not there.ok:
        fix = f"write to the bot once from that chat, then put the chat's id into {CHAT}"
        return [findings.fail("telegram", f"the chat is not known: {masking.over(there.description, hidden)}", fix)]
    return [findings.ok("telegram", "bot and chat are known")]


def others(alerts: Alerts) -> list[Finding]:
    """Look at the addresses of the second channel and of the dead-man ping, as they are written."""
    found = []
    for name, read in ((alerts.second_env, channels.second), (alerts.ping_env, channels.ping)):
        try:
            is_set = bool(read(name))
        except ConfigError as error:
            found.append(findings.fail("alerts", str(error), f"put right {name}, or take it out"))
        else:
            found.append(findings.ok("alerts", f"{name} is {'set' if is_set else 'not set'}"))
    return found


async def _ask(client: httpx.AsyncClient, address: str, body: dict[str, str]) -> Said:
    received = bytearray()
    async with client.stream("POST", address, json=body, headers={"Accept-Encoding": "identity"}) as answer:
        async for chunk in answer.aiter_raw():
            received += chunk
            if len(received) > BODY_BYTES_MAX:
                raise httpx.DecodingError(f"more than {BODY_BYTES_MAX} bytes")
    return msgspec.json.decode(received, type=Said)
