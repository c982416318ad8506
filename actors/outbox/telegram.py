"""The few calls of the Telegram Bot API that are needed. Library of the alerts process; knows no alert and no command.

The token is part of every address and the HTTP client's errors carry addresses: none of them is shown, logged or
chained. What goes wrong:

    TelegramError
    ├── Away        no answer, or one that is none: `may_have_arrived` says whether it may have been taken all the same
    ├── Flooded     429: not taken; again after `retry_after_s`
    └── Denied      any other answer that is no: not taken
        ├── BadMarkup   the text's marks cannot be read
        └── Conflict    409: somebody else asks for the same bot's updates
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any, TypeVar

import httpx
import msgspec
from msgspec import Struct

from actors.outbox.channels import Bot
from bus import masking
from bus.errors import PilotError
from bus.failpoints import reach

T = TypeVar("T")
BODY_BYTES_MAX = 4_000_000
UPDATES_MAX = 20
WANTED = ("message", "callback_query")


class TelegramError(PilotError):
    """A call was not answered with yes."""


class Away(TelegramError):
    """No answer."""

    def __init__(self, reason: str, *, may_have_arrived: bool) -> None:
        super().__init__(reason)
        self.may_have_arrived = may_have_arrived


class Flooded(TelegramError):
    """Too many messages."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"too many messages: again after {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


class Denied(TelegramError):
    """The answer was no. `code` is Telegram's."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{code} {description}")
        self.code = code


class BadMarkup(Denied):
    """The marks in the text cannot be read."""


class Conflict(Denied):
    """Somebody else asks for the updates."""


class User(Struct, frozen=True):
    """Who wrote or pressed."""

    id: int


class Chat(Struct, frozen=True):
    """Where."""

    id: int
    username: str = ""


class Message(Struct, frozen=True):
    """A message; `date` in seconds since 1970 by Telegram's clock."""

    message_id: int
    date: int
    chat: Chat
    text: str = ""
    from_: User | None = msgspec.field(default=None, name="from")


class Press(Struct, frozen=True):
    """A button that was pressed, below a message of ours."""

    id: str
    from_: User = msgspec.field(name="from")
    message: Message | None = None
    data: str = ""


class Update(Struct, frozen=True):
    """One thing that happened. Kinds that were not asked for are neither."""

    update_id: int
    message: Message | None = None
    callback_query: Press | None = None


class _Parameters(Struct, frozen=True):
    retry_after: float = 0.0


class _Said(Struct, frozen=True):
    ok: bool
    result: msgspec.Raw = msgspec.Raw(b"null")
    error_code: int = 0
    description: str = ""
    parameters: _Parameters = _Parameters()


Button = tuple[str, str]  # what stands on it, and what it sends


class Telegram:
    """One bot. Use as an async context manager."""

    def __init__(self, bot: Bot, *, request_s: float, poll_s: float) -> None:
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # they write addresses down
        self.chat = bot.chat
        self._address = f"{bot.url}/bot{bot.token}/"
        self._hidden = masking.forms((bot.token, bot.token.partition(":")[2]))
        self._poll_s = poll_s
        self._request_s = request_s
        self._client = httpx.AsyncClient(
            timeout=request_s, trust_env=False, follow_redirects=False, headers={"Accept-Encoding": "identity"}
        )

    async def __aenter__(self) -> Telegram:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def write(self, text: str, *, as_html: bool, buttons: tuple[Button, ...] = ()) -> int:
        """Send a message to the chat and return its id. Raises TelegramError."""
        body: dict[str, Any] = {"chat_id": self.chat, "text": text, "link_preview_options": {"is_disabled": True}}
        if as_html:
            body["parse_mode"] = "HTML"
        if buttons:
            row = [{"text": shown, "callback_data": sent} for shown, sent in buttons]
            body["reply_markup"] = {"inline_keyboard": [row]}
        reach("alerts.before_message")  # one message to the chat
        found = await self._call("sendMessage", body)
        reach("alerts.after_message")
        return _result(found, _Sent).message_id

    async def updates(self, offset: int) -> list[Update]:
        """Wait for what happened, from update `offset` on, and drop what came before. Raises TelegramError."""
        body = {
            "offset": offset, "timeout": int(self._poll_s), "limit": UPDATES_MAX, "allowed_updates": WANTED,
        }  # fmt: skip
        reach("alerts.before_poll")  # asking for what people wrote; what came before the offset is dropped there
        found = await self._call("getUpdates", body, timeout_s=self._poll_s + self._request_s)
        reach("alerts.after_poll")
        return _result(found, list[Update])

    async def acknowledge(self, press: Press, text: str) -> None:
        """Tell whoever pressed a button that it was seen. Raises TelegramError."""
        await self._call("answerCallbackQuery", {"callback_query_id": press.id, "text": text})

    async def take_buttons(self, message_id: int) -> None:
        """Take the buttons away from below a message. Raises TelegramError."""
        body = {"chat_id": self.chat, "message_id": message_id, "reply_markup": {"inline_keyboard": []}}
        await self._call("editMessageReplyMarkup", body)

    async def probe(self) -> None:
        """Ask who the bot is: costs nothing and tells nobody anything. Raises TelegramError."""
        await self._call("getMe", {})

    async def _call(self, method: str, body: dict[str, Any], *, timeout_s: float | None = None) -> _Said:
        limits = httpx.Timeout(self._request_s, read=timeout_s or self._request_s)
        try:
            status, content = await self._post(method, body, limits)
            said = msgspec.json.decode(content, type=_Said)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.InvalidURL) as error:
            raise Away(f"{method}: {type(error).__name__}", may_have_arrived=False) from None
        except httpx.HTTPError as error:
            raise Away(f"{method}: {type(error).__name__}", may_have_arrived=True) from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise Away(f"{method}: an answer that is not Telegram's", may_have_arrived=True) from None
        if said.ok:
            return said
        raise _problem(msgspec.structs.replace(said, description=masking.over(said.description, self._hidden)), status)

    async def _post(self, method: str, body: dict[str, Any], limits: httpx.Timeout) -> tuple[int, bytes]:
        """Return status and body. Raises Away for one that is longer than we read."""
        received = bytearray()
        async with self._client.stream("POST", self._address + method, json=body, timeout=limits) as answer:
            async for chunk in answer.aiter_raw():  # as it came: nothing is unpacked that was not asked for
                received += chunk
                if len(received) > BODY_BYTES_MAX:
                    raise Away(f"{method}: an answer of more than {BODY_BYTES_MAX} bytes", may_have_arrived=True)
        return answer.status_code, bytes(received)


class _Sent(Struct, frozen=True):
    message_id: int


def _result(said: _Said, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(said.result, type=kind)
    except msgspec.DecodeError as error:
        raise Away(f"an answer that is not understood: {error}", may_have_arrived=True) from None


def _problem(said: _Said, status: int) -> TelegramError:
    code = said.error_code or status
    text = said.description[:200]
    if code == 429:
        return Flooded(max(0.0, said.parameters.retry_after))
    if code == 409:
        return Conflict(code, text)
    if code == 400 and "parse entities" in text.lower():
        return BadMarkup(code, text)
    if code >= 500:
        return Away(f"{code} {text}", may_have_arrived=True)
    return Denied(code, text)
