"""What a misbehaving broker says about a request: nothing, half of it, a page, or something else than what is.

Used by `routes`; only when faults are on. Never decides which request suffers (`faults`), nor changes an order
(`twists`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from actors.broker.paper import catalogue, twists, views
from actors.broker.paper.faults import SECONDS_MAX, Fault

HUGE_BYTES = 8_388_608
DEEP = b'{"deep": ' + 50_000 * b"[" + 50_000 * b"]" + b"}"
PIECES = 20
NUMBER = re.compile(r"-?\d+(\.\d+)?")
NOBODY = "999999999"  # the id of no position

Answering = Callable[[], Awaitable[Response]]


def die() -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


async def suffer(
    fault: Fault,
    request: Request,
    answer: Answering,
    *,
    now_ms: Callable[[], int],
    die: Callable[[], None],
    words: Words,
) -> Response:
    """Answer a request as the fault has it. `answer` carries it out, as twisted, and makes the honest answer."""
    name = fault.fault
    if name == "restart_unplaced":
        die()
        return reset(request)
    if name == "hang_unplaced":
        await _until_gone(request)
        return reset(request)
    if name == "drop_unplaced":
        return reset(request)
    if name in words.unplaced:
        return words.unplaced[name]()
    honest = await answer()
    if name in catalogue.TWISTS:
        name = fault.then or {twists.LATE[0]: "lose_answer_reset", twists.LATE[1]: "lose_answer_timeout"}.get(name, "")
    if name in ("lose_answer_timeout", "restart_placed"):
        if name == "restart_placed":
            die()
        else:
            await _until_gone(request)
        return reset(request)
    if name == "lose_answer_reset":
        return reset(request)
    if name == "slow":
        await asyncio.sleep(fault.for_s)
        return honest
    if name == "slow_body":
        return _dripped(honest, fault.for_s)
    if name == "cut_body":
        return CutBody(honest.body, request)
    if name in words.placed:
        return words.placed[name](request)
    if name == "odd_cookie":
        honest.raw_headers.append((b"set-cookie", "owner=J\u00fcrgen; Path=/".encode()))
        return honest
    return _changed(honest, name, fault, now_ms())


# ── instead of the answer ───────────────────────────────────────────────────


def _page(status: int, text: str) -> Response:
    return HTMLResponse(f"<!DOCTYPE html><html><head><title>{text}</title></head></html>", status)


def _json(status: int, content: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def _rejected(code: str, message: str, status: int = 200) -> Response:
    return _json(status, {"status": "REJECTED", "nativeCode": code, "errorMessage": message, "orderId": None})


def _ok(**fields: Any) -> Response:
    return _json(200, {"status": "OK", "nativeCode": None, "errorMessage": None} | fields)


UNPLACED: dict[str, Callable[[], Response]] = {
    "ok_unplaced": lambda: _ok(orderId=NOBODY),
    "reject_200": lambda: _rejected("TRADE_DISABLED", "trading is disabled"),
    "reject_400": lambda: _rejected("TRADE_DISABLED", "trading is disabled", 400),
    "market_closed": lambda: _rejected("MARKET_CLOSED", "the session is over"),
    "status_503": lambda: _json(503, {"error": "service unavailable"}),
    "html_403": lambda: _page(403, "Attention Required! | content network"),
    "html_400": lambda: _page(400, "400 Bad Request"),
    "401_once": lambda: _json(401, {"error": "unauthorized"}),
    "login_refused": lambda: _json(401, {"error": "invalid credentials"}),
    "429": lambda: _json(429, {"error": "too many requests"}, {"Retry-After": "7"}),
    "429_bare": lambda: _json(429, {"error": "too many requests"}),
}
PLACED: dict[str, Callable[[Request], Response]] = {
    "empty_200": lambda _: Response(b"", 200),
    "html_200": lambda _: _page(200, "Maintenance"),
    "html_502": lambda _: _page(502, "502 Bad Gateway"),
    "json_500": lambda _: _json(500, {"error": "internal error"}),
    "redirect": lambda request: Response(b"", 307, {"Location": request.url.path}),
    "401_placed": lambda _: _json(401, {"error": "unauthorized"}),
    "huge_200": lambda _: Response(b" " * HUGE_BYTES, 200),
    "deep_json": lambda _: Response(DEEP, 200, media_type="application/json"),
    "fields_missing": lambda _: _json(200, {"welcome": True}),
    "status_pending": lambda _: _json(200, {"status": "PENDING", "orderId": NOBODY}),
    "ok_without_order_id": lambda _: _ok(),
    "wrong_order_id": lambda _: _ok(orderId=NOBODY),
    "reject_placed": lambda _: _rejected("TRADE_DISABLED", "trading is disabled"),
}


class Words(Struct, frozen=True):
    """What one API says instead of the honest answer, by fault."""

    unplaced: dict[str, Callable[[], Response]]
    placed: dict[str, Callable[[Request], Response]]


PLATFORM = Words(UNPLACED, PLACED)


def reset(request: Request) -> Response:
    """End the connection with a TCP reset. The answer returned goes nowhere."""
    transport: asyncio.Transport = request.scope["state"]["transport"]
    peer: socket.socket = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):  # the client hung up first
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    return Response(b"", 500)


async def _until_gone(request: Request) -> None:
    """Wait until the client has hung up, for an hour at most."""
    try:
        async with asyncio.timeout(SECONDS_MAX):
            while (await request.receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return


class CutBody(Response):
    """Announces the whole body, sends half of it, and resets the connection."""

    def __init__(self, whole: bytes | memoryview[int], request: Request) -> None:
        super().__init__(bytes(whole), 200, media_type="application/json")
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        reset(self._request)
        while (await receive())["type"] != "http.disconnect":
            pass


def _dripped(honest: Response, seconds: float) -> Response:
    body = bytes(honest.body)
    size = max(1, -(-len(body) // PIECES))

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]
            await asyncio.sleep(seconds / PIECES)

    return StreamingResponse(pieces(), honest.status_code, {"Content-Length": str(len(body))}, "application/json")


# ── the honest answer, changed ──────────────────────────────────────────────


def _changed(honest: Response, name: str, fault: Fault, now_ms: int) -> Response:
    """Return the honest answer with what it says changed."""
    if name not in BODIES or honest.status_code not in (200, 201):
        return honest
    if name == "truncated_json":
        content = bytes(honest.body)[: len(honest.body) // 2]
    else:
        said = msgspec.json.decode(honest.body)
        content = msgspec.json.encode(BODIES[name](said, fault, now_ms))
    kept = {key: value for key, value in honest.headers.items() if key == "set-cookie"}
    return Response(content, honest.status_code, kept, "application/json")


def _every_row(said: Any, change: Callable[[list[Any]], list[Any]]) -> Any:
    """Return the answer with its list of rows changed, be it the whole answer or one of its fields."""
    if isinstance(said, list):
        return change(said)
    return {key: change(value) if isinstance(value, list) else value for key, value in said.items()}


def _each(said: Any, **fields: Callable[[Any], Any]) -> Any:
    """Return the answer with these fields of every row changed."""
    return _every_row(
        said, lambda rows: [row | {name: change(row[name]) for name, change in fields.items()} for row in rows]
    )


def _values(said: Any, change: Callable[[Any], Any]) -> Any:
    """Return the answer with every value changed, however deep."""
    if isinstance(said, list):
        return [_values(one, change) for one in said]
    if isinstance(said, dict):
        return {key: _values(value, change) for key, value in said.items()}
    return change(said)


def _other_type(value: Any) -> Any:
    """Return a number as a string and a string that is a number as a number."""
    if isinstance(value, str) and NUMBER.fullmatch(value):
        return float(value) if "." in value else int(value)
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _odd(said: Any) -> Any:
    odd = _values(said, _other_type)
    more = {"unheardOf": {"nested": [1, None]}, "": ""}
    return [row | more for row in odd] if isinstance(odd, list) else odd | more


def _not_a_number(value: Any) -> Any:
    return "NaN" if isinstance(value, str) and NUMBER.fullmatch(value) and "." in value else value


def _twice(rows: list[Any]) -> list[Any]:
    return [one for row in rows for one in (row, row)]


def _late_rows(said: Any, fault: Fault, now_ms: int) -> Any:
    until_ms = now_ms - int(1_000 * fault.for_s)
    until = views.time_text(until_ms)

    def is_old(row: Any) -> bool:
        return bool(row["closeTime"] <= until_ms if "closeTime" in row else row["time"] <= until)

    return _every_row(said, lambda rows: [row for row in rows if is_old(row)])


def _crossed(said: Any) -> Any:
    return _every_row(said, lambda rows: [row | {"bid": row["ask"], "ask": row["bid"]} for row in rows])


def _other_account(said: Any) -> Any:
    return said | {"accounts": [one | {"tradingAccountId": "somebody-else"} for one in said["accounts"]]}


BODIES: dict[str, Callable[[Any, Fault, int], Any]] = {
    "truncated_json": lambda said, _fault, _now: said,
    "odd_types": lambda said, _fault, _now: _odd(said),
    "nan_numbers": lambda said, _fault, _now: _values(said, _not_a_number),
    "duplicate_rows": lambda said, _fault, _now: _every_row(said, _twice),
    "reorder_rows": lambda said, _fault, _now: _every_row(said, lambda rows: rows[::-1]),
    "positions_vanish": lambda said, _fault, _now: _every_row(said, lambda _: []),
    "history_vanishes": lambda said, _fault, _now: _every_row(said, lambda _: []),
    "history_late": _late_rows,
    "quotes_missing": lambda said, _fault, _now: _every_row(said, lambda _: []),
    "quotes_stale": lambda said, fault, _now: _each(said, timestampMs=lambda at: at - int(1_000 * fault.for_s)),
    "quotes_crossed": lambda said, _fault, _now: _crossed(said),
    "instruments_missing": lambda said, _fault, _now: _every_row(said, lambda _: []),
    "session_closed": lambda said, _fault, _now: _each(said, sessionOpen=lambda _: False),
    "other_account": lambda said, _fault, _now: _other_account(said),
}  # fmt: skip
