"""What every request passes first: a known host, a small body, a token where needed; and the headers of answers.

Library of the dashboard. An ASGI layer around the pages; it reads no database and decides nothing about trading.
"""

from __future__ import annotations

from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from actors.web.door import Door, TooManyWrong

BODY_BYTES_MAX = 8_192
TOO_LARGE = f"The body is larger than {BODY_BYTES_MAX} bytes."
OPEN_PATHS = ("/sign-in", "/assets/")  # what is shown before the token was
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class Shield:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        read = 0

        async def limited() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > BODY_BYTES_MAX:
                raise HTTPException(413, TOO_LARGE)  # inside the pages, which answer it
            return message

        refused = self._refused(HTTPConnection(scope))
        if refused is not None:
            await refused(scope, receive, with_headers)
            return
        await self._app(scope, limited, with_headers)

    def _refused(self, asked: HTTPConnection) -> Response | None:
        """Return the answer to a request that goes no further, else None."""
        if not self._door.knows_host(asked.headers.get("host", "")):
            return PlainTextResponse("This page is not served under that name; see dashboard.hosts.\n", 421)
        length = asked.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > BODY_BYTES_MAX:
            return PlainTextResponse(f"{TOO_LARGE}\n", 413)
        if asked.scope["method"] == "POST" and not self._door.is_ours(asked):
            return PlainTextResponse("This form was not sent by a page of ours.\n", 403)
        if not self._door.guards_reading or asked.url.path.startswith(OPEN_PATHS) or self._door.session(asked):
            return None
        return self._by_header(asked)

    def _by_header(self, asked: HTTPConnection) -> Response | None:
        """Let a program in that shows the token itself; send a person to the sign-in."""
        kind, _, token = asked.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and asked.scope["method"] in ("GET", "HEAD"):
            try:
                if self._door.is_right(token, asked.client.host if asked.client else ""):
                    return None
            except TooManyWrong:
                return PlainTextResponse("Too many wrong tokens; wait a minute.\n", 429)
            return PlainTextResponse("Wrong token.\n", 401)
        if "text/html" not in asked.headers.get("accept", ""):
            return PlainTextResponse("Show the token first.\n", 401)
        return RedirectResponse(f"/sign-in?next={quote(asked.url.path)}", 303)
