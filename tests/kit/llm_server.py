"""A small OpenAI-compatible server on a free loopback port: scripted answers and faults, every request recorded.

Real HTTP over a real socket. Steps are used in order; when none is left, `respond` chooses by the request, and the
last resort is `default`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

import msgspec
from msgspec import Struct

HEAD_BYTES_MAX = 65_536
LOOK_S = 0.005


class Step(Struct, kw_only=True):
    """What one request gets. Without `body` the server is silent for ever."""

    body: bytes | None = b""
    status: int = 200
    headers: dict[str, str] = {}
    cut_after: int | None = None  # hang up after so many bytes of the body
    wait: asyncio.Event | None = None  # answer only when set
    delay_s: float = 0.0  # and not before that long after the request


class Request(Struct, frozen=True):
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


def completion(
    content: str | None, *, finish_reason: str = "stop", refusal: str | None = None, delay_s: float = 0.0
) -> Step:
    """Return a chat completion with this text."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    found = json_step(
        {
            "id": "x", "object": "chat.completion", "model": "test-model-2026",
            "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
            "usage": {"prompt_tokens": 300, "completion_tokens": 40, "total_tokens": 340},
        }
    )  # fmt: skip
    return msgspec.structs.replace(found, delay_s=delay_s)


def decision(**changes: Any) -> str:
    """Return the JSON text of a valid BUY decision for a daily volatility of 40 pips, changed as given."""
    usual = {"reason": "Momentum is positive.", "side": "BUY", "sl_pips": 60, "tp_pips": 120, "confidence": 0.7}
    return msgspec.json.encode(usual | changes).decode()


def json_step(body: object, status: int = 200, **headers: str) -> Step:
    """Return a JSON answer. Underscores in header names stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Step(body=msgspec.json.encode(body), status=status, headers=named)


def error_step(status: int, message: str, **headers: str) -> Step:
    """Return an error as OpenAI words it."""
    return json_step({"error": {"message": message, "type": "x", "code": None}}, status, **headers)


class LlmServer:
    """The server. Use as an async context manager; `url` is its base URL."""

    def __init__(self) -> None:
        self.script: deque[Step] = deque()
        self.models: Step = json_step({"object": "list", "data": [{"id": "test-model", "object": "model"}]})
        self.default: Step = completion(decision())
        self.respond: Callable[[Request], Step] | None = None
        self.requests: list[Request] = []
        self.is_held = False  # while True, no question is answered; a test in another thread may turn it
        self.url = ""
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def asked(self) -> list[Request]:
        """The chat completion requests so far."""
        return [request for request in self.requests if request.path.endswith("/chat/completions")]

    async def __aenter__(self) -> LlmServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._answer(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _chosen(self, request: Request) -> Step:
        return self.default if self.respond is None else self.respond(request)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request. False when the connection is done."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append(Request(method, path, headers, msgspec.json.decode(raw) if raw else {}))
        if path == "/v1/models":
            step = self.models
        elif path == "/v1/chat/completions":
            step = self.script.popleft() if self.script else self._chosen(self.requests[-1])
            while self.is_held:
                await asyncio.sleep(LOOK_S)
        else:
            step = error_step(404, f"no such path {path}")
        if step.wait is not None:
            await step.wait.wait()
        await asyncio.sleep(step.delay_s)
        if step.body is None:
            await reader.read()  # until the client gives up
            return False
        fields = {"Content-Type": "application/json", "Content-Length": str(len(step.body))} | step.headers
        lines = [f"HTTP/1.1 {step.status} X", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        sent = step.body if step.cut_after is None else step.body[: step.cut_after]
        writer.write("\r\n".join(lines).encode() + sent)
        await writer.drain()
        return step.cut_after is None
