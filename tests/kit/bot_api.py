"""A local server that speaks the Telegram Bot API: what the alerts process calls, with its faults, over real sockets.

As documented: updates stay until an offset beyond them is asked for, a second poller ends the first one with 409, marks
that cannot be read are a 400, texts of more than 4,096 characters as well, a 429 says when to come back.
"""

from __future__ import annotations

import asyncio
import contextlib
import html.parser
import json
import time
from collections import defaultdict, deque
from types import TracebackType
from typing import Any

TOKEN = "123456:AAtesttokenTESTTOKENtesttokenTESTTOK"
CHAT = 4_711
USER = 815
CHARS_MAX = 4_096

HANG_UP = "hang up"  # before the call is looked at
HANG_UP_AFTER = "hang up after"  # the call does what it does, its answer is lost


class _Marks(html.parser.HTMLParser):
    """Finds marks that are not closed, or none of Telegram's."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.text = ""
        self.is_bad = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.is_bad |= tag not in ("b", "i", "code", "pre", "a")

    def handle_endtag(self, tag: str) -> None:
        self.is_bad |= not self.open or self.open.pop() != tag

    def handle_data(self, data: str) -> None:
        self.text += data


class BotApi:
    """The server. `sent` are the messages that arrived; `faults` are answers by method, used once each, in order."""

    def __init__(self) -> None:
        self.url = ""
        self.sent: list[dict[str, Any]] = []  # as sendMessage got them, and message_id and the text as it is shown
        self.sent_s: list[float] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.faults: dict[str, deque[Any]] = defaultdict(deque)
        self.is_down = False  # while True every call is answered 502
        self.is_deaf_to_marks = False  # while True every text with marks is a 400
        self._updates: list[dict[str, Any]] = []
        self._next_update = 100
        self._news = asyncio.Event()
        self._poll: asyncio.Event | None = None  # of the poller that waits now; set: another one came
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> BotApi:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    # ── what people do ──────────────────────────────────────────────────────

    def write(self, text: str, *, chat: int = CHAT, user: int = USER, age_s: float = 0.0) -> None:
        """Have somebody write to the bot."""
        message = {
            "message_id": 10_000 + self._next_update, "date": int(time.time() - age_s), "text": text,
            "chat": {"id": chat, "type": "private"}, "from": {"id": user, "is_bot": False, "first_name": "A"},
        }  # fmt: skip
        self._happen({"message": message})

    def press(self, data: str, *, chat: int = CHAT, user: int = USER) -> None:
        """Have somebody press a button below the newest message."""
        message = {"message_id": self.sent[-1]["message_id"], "date": int(time.time()), "chat": {"id": chat}}
        query = {"id": f"q{self._next_update}", "from": {"id": user}, "data": data, "message": message}
        self._happen({"callback_query": query})

    def buttons(self) -> list[str]:
        """Return what the buttons below the newest message that has some send."""
        markup = next(one["reply_markup"] for one in reversed(self.sent) if "reply_markup" in one)
        return [one["callback_data"] for row in markup["inline_keyboard"] for one in row]

    def texts(self) -> list[str]:
        """Return the messages as they are shown, without marks."""
        return [one["shown"] for one in self.sent]

    @property
    def is_read(self) -> bool:
        """Whether a poller has asked for what comes after everything that happened so far."""
        return not self._updates

    def _happen(self, update: dict[str, Any]) -> None:
        self._updates.append({"update_id": self._next_update, **update})
        self._next_update += 1
        self._news.set()

    # ── the calls ───────────────────────────────────────────────────────────

    async def _do(self, method: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.is_down:
            return no(502, "Bad Gateway")
        if method == "sendMessage":
            return self._send(body)
        if method == "getUpdates":
            return await self._get_updates(body)
        if method == "getMe":
            return yes({"id": 123456, "is_bot": True, "username": "test_bot"})
        if method == "getChat":
            known = str(body["chat_id"]) == str(CHAT)
            return yes({"id": CHAT}) if known else no(400, "Bad Request: chat not found")
        if method in ("answerCallbackQuery", "editMessageReplyMarkup"):
            return yes(True)
        return no(404, "Not Found")

    def _send(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if str(body["chat_id"]) != str(CHAT):
            return no(400, "Bad Request: chat not found")
        marks, shown = _Marks(), body["text"]
        if body.get("parse_mode") == "HTML":
            marks.feed(body["text"])
            marks.close()
            if marks.is_bad or marks.open or self.is_deaf_to_marks:
                return no(400, "Bad Request: can't parse entities: unexpected end tag")
            shown = marks.text
        if not 0 < len(shown) <= CHARS_MAX:
            return no(400, "Bad Request: message is too long")
        self.sent.append({**body, "message_id": 1 + len(self.sent), "shown": shown})
        self.sent_s.append(time.monotonic())
        return yes({"message_id": len(self.sent), "date": 0, "chat": {"id": CHAT}})

    async def _get_updates(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self._poll is not None:
            self._poll.set()
        another = self._poll = asyncio.Event()
        offset, end = int(body.get("offset", 0)), time.monotonic() + float(body.get("timeout", 0))
        self._updates = [one for one in self._updates if one["update_id"] >= offset]
        try:
            while not self._updates and time.monotonic() < end:
                self._news.clear()
                waits = [asyncio.create_task(one.wait()) for one in (self._news, another)]
                await asyncio.wait(waits, timeout=end - time.monotonic(), return_when=asyncio.FIRST_COMPLETED)
                for one in waits:
                    one.cancel()
                if another.is_set():
                    return no(409, "Conflict: terminated by other getUpdates request")
            return yes(self._updates[: int(body.get("limit", 100))])
        finally:
            if self._poll is another:
                self._poll = None

    # ── HTTP ────────────────────────────────────────────────────────────────

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._answer(reader, writer):
                pass
        writer.transport.abort()
        self._connections.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        _, _, rest = head[0].split(" ")[1].partition("/bot")
        token, _, method = rest.partition("/")
        body = json.loads(raw) if raw else {}
        self.calls.append((method, body))
        fault = self.faults[method].popleft() if self.faults[method] else None
        if fault == HANG_UP:
            return False
        if token != TOKEN:
            answer = no(401, "Unauthorized")
        elif isinstance(fault, tuple):
            answer = fault
        else:
            answer = await self._do(method, body)
        if fault == HANG_UP_AFTER:
            return False
        said = json.dumps(answer[1]).encode()
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (answer[0], len(said)) + said)
        await writer.drain()
        return True


def yes(result: object) -> tuple[int, dict[str, Any]]:
    return 200, {"ok": True, "result": result}


def no(code: int, description: str, **parameters: float) -> tuple[int, dict[str, Any]]:
    """Return a refusal, as a fault or as an answer: `no(429, "Too Many Requests", retry_after=3)`."""
    found: dict[str, Any] = {"ok": False, "error_code": code, "description": description}
    return code, found | ({"parameters": parameters} if parameters else {})
