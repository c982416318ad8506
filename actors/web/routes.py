"""The web application: which address shows what, signing in, confirming and sending an action.

Library of the dashboard. Every answer leaves through `shield`; pages are made in threads, so that no slow read keeps
the process from beating.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import quote

from loguru import logger
from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from actors.console import text
from actors.web import actions
from actors.web.door import OPERATOR_CHARS_MAX, Door, Session, TooManyWrong
from actors.web.hub import Hub
from actors.web.shield import Shield
from actors.web.views import NotFound, Views
from bus import messages
from bus.clock import Clock, iso
from bus.errors import NoAnswer
from bus.failpoints import reach
from bus.vocabulary import Outcome
from store import board as boards
from store.queries import DatabaseRefused

FIELDS_MAX = 8
PATH_CHARS_MAX = 200
PING_S = 15

Tell = Callable[[messages.Command], Awaitable[messages.Ack]]  # raises NoAnswer


class Events(EventSourceResponse):
    """An open page's events. One that takes nothing for too long is cut off: nobody looks at it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            logger.info("Dropped a page that took nothing for {} s", self.send_timeout)
            if (transport := scope.get("state", {}).get("transport")) is not None:
                transport.abort()


class Pages:
    """The handlers."""

    def __init__(self, views: Views, door: Door, hub: Hub, tell: Tell, clock: Clock) -> None:
        self._views = views
        self._door = door
        self._hub = hub
        self._tell = tell
        self._clock = clock

    # ── looking ─────────────────────────────────────────────────────────────

    def show(self, request: Request) -> Response:
        address = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return HTMLResponse(self._views.page(address, self._door.session(request)))

    def asset(self, request: Request) -> Response:
        asset = self._views.site.assets.get(request.path_params["name"])
        if asset is None:
            raise HTTPException(404)
        is_exact = request.query_params.get("v") == self._views.site.version
        kept = "public, max-age=31536000, immutable" if is_exact else "no-cache"
        return Response(asset.content, media_type=asset.kind, headers={"cache-control": kept})

    async def events(self, request: Request) -> Response:
        address = request.query_params.get("page", "/")
        self._views.find(address)
        if self._hub.is_full:
            return PlainTextResponse("Too many pages are open.\n", 503, headers={"retry-after": "10"})
        stream = self._hub.follow(address, self._views.site.version)
        return Events(stream, ping=PING_S, send_timeout=self._views.settings.dashboard.send_timeout_s)

    # ── coming and going ────────────────────────────────────────────────────

    def sign_in_form(self, request: Request) -> Response:
        return self._sign_in(request, request.query_params.get("next", "/"))

    async def sign_in(self, request: Request) -> Response:
        given = await _fields(request)
        operator = text.line(given.get("operator", ""), OPERATOR_CHARS_MAX)
        goal = _own_path(given.get("next", "/"))
        if not operator:
            return self._sign_in(request, goal, "Say who you are: it stands in the record of what you do.", 422)
        try:
            cookie = self._door.enter(operator, given.get("token", ""), _address(request))
        except TooManyWrong:
            logger.warning("Too many wrong tokens from {}", _address(request))
            return self._sign_in(request, goal, "Too many wrong tokens. Wait a minute.", 429, operator)
        if cookie is None:
            logger.warning("A wrong token from {}", _address(request))
            return self._sign_in(request, goal, "That is not the token.", 403, operator)
        logger.info("Operator {} signed in", operator)
        answer = RedirectResponse(goal, 303)
        answer.set_cookie(
            self._door.cookie, cookie, max_age=int(self._views.settings.dashboard.session_s), httponly=True,
            samesite="strict", secure=request.url.scheme == "https",
        )  # fmt: skip
        return answer

    async def sign_out(self, request: Request) -> Response:
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(self._door.cookie, httponly=True, samesite="strict")
        return answer

    def _sign_in(self, request: Request, goal: str, problem: str = "", code: int = 200, name: str = "") -> Response:
        page = self._views.fill(
            "sign_in.html", self._door.session(request), title="Sign in", goal=_own_path(goal), problem=problem,
            name=name,
        )  # fmt: skip
        return HTMLResponse(page, code)

    # ── acting ──────────────────────────────────────────────────────────────

    def confirm(self, request: Request) -> Response:
        action, about = request.path_params["action"], request.query_params.get("about", "")[:PATH_CHARS_MAX]
        if not self._door.has_token:
            return self._page(request, "no_actions.html", 403, title="Actions are off")
        session = self._door.session(request)
        if session is None:
            here = f"{request.url.path}?about={quote(about)}" if about else request.url.path
            return RedirectResponse(f"/sign-in?next={quote(here)}", 303)
        return self._question(request, session, action, about)

    async def act(self, request: Request) -> Response:
        action = request.path_params["action"]
        session = self._door.session(request)
        if session is None:
            return self._page(request, "no_actions.html", 403, title="Not signed in")
        given = await _fields(request)
        about, reason = given.get("about", ""), text.line(given.get("reason", ""), actions.REASON_CHARS_MAX)
        if action not in actions.QUESTIONS:
            raise NotFound(f"There is no action {action[:40]}.")
        if not reason:
            problem = "Say why: it stands in the record for good."
            return await asyncio.to_thread(self._question, request, session, action, about, problem, 422)
        if refusal := self._door.refusal_of(given.get("form", ""), session, action, about):
            return self._done(request, action, 409, refusal, (f"Nothing was done. {refusal}",))
        return await self._send(request, session, action, about, reason)

    async def _send(self, request: Request, session: Session, action: str, about: str, reason: str) -> Response:
        said, code = [], 200
        for command in actions.commands(action, about, session.operator, reason):
            try:
                reach("dashboard.before_tell")  # asking the store for what an operator ordered
                ack = await self._tell(command)
                reach("dashboard.after_tell")
            except NoAnswer:
                logger.warning("No answer to {} of operator {}", action, session.operator)
                said.append("The store did not answer. It may have been done all the same: look before you try again.")
                code = 504
                break
            logger.info("Operator {} ordered {} {}: {}", session.operator, action, about, ack.outcome)
            is_done = ack.outcome in (Outcome.APPLIED, Outcome.ALREADY)
            allowed = f" Allowed now: {', '.join(ack.allowed)}." if ack.allowed and not is_done else ""
            reason_said = f": {ack.reason}" if ack.reason else ""
            said.append(f"{ack.outcome.capitalize()}{reason_said}.{allowed}")
            code = code if is_done else 409
        heading = {200: "Done", 504: "No answer"}.get(code, "Refused")
        return self._done(request, action, code, heading, tuple(said))

    def _question(
        self, request: Request, session: Session, action: str, about: str, problem: str = "", code: int = 200
    ) -> Response:
        with boards.opened(self._views.path) as board:
            asked = actions.ask(board, action, about, iso(self._clock.now()))
        if asked is None:
            raise NotFound(f"There is no action {action[:40]}.")
        return self._page(
            request, "confirm.html", code, title=asked.heading, asked=asked, problem=problem,
            form=self._door.form(session, action, asked.about), reason_chars_max=actions.REASON_CHARS_MAX,
        )  # fmt: skip

    def _done(self, request: Request, action: str, code: int, heading: str, said: tuple[str, ...]) -> Response:
        return self._page(request, "done.html", code, title=heading, heading=heading, said=said, action=action)

    def _page(self, request: Request, template: str, code: int, **context: object) -> Response:
        return HTMLResponse(self._views.fill(template, self._door.session(request), **context), code)

    # ── what went wrong ─────────────────────────────────────────────────────

    def trouble(self, request: Request, error: Exception) -> Response:
        code = error.status_code if isinstance(error, HTTPException) else 404 if isinstance(error, NotFound) else 503
        said = str(error.detail) if isinstance(error, HTTPException) else str(error)
        return self._page(request, "trouble.html", code, title="Not found" if code == 404 else "Trouble", said=said)


def application(pages: Pages, door: Door, *, more: Sequence[BaseRoute] = ()) -> ASGIApp:
    """Return the application. `more` are routes of others that are served beside the pages."""
    routes = [
        Route("/", pages.show),
        Route("/intents", pages.show),
        Route("/intents/{intent_id}", pages.show),
        Route("/alerts", pages.show),
        Route("/events", pages.events),
        Route("/assets/{name}", pages.asset),
        Route("/sign-in", pages.sign_in_form, methods=["GET"]),
        Route("/sign-in", pages.sign_in, methods=["POST"]),
        Route("/sign-out", pages.sign_out, methods=["POST"]),
        Route("/actions/{action}", pages.confirm, methods=["GET"]),
        Route("/actions/{action}", pages.act, methods=["POST"]),
        *more,
    ]
    handlers = dict.fromkeys((NotFound, HTTPException, DatabaseRefused), pages.trouble)
    return Shield(Starlette(routes=routes, exception_handlers=handlers), door)


async def _fields(request: Request) -> dict[str, str]:
    """Return the fields of a plain form. Raises HTTPException for any other kind of body."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "Only plain forms are taken here.")
    async with request.form(max_fields=FIELDS_MAX) as form:
        return {name: value for name, value in form.items() if isinstance(value, str)}


def _own_path(goal: str) -> str:
    """Return a path of this page to go on to; the first page for anything that could lead elsewhere."""
    is_own = goal.startswith("/") and not goal.startswith(("//", "/\\")) and goal.isprintable() and "\\" not in goal
    return goal if is_own and len(goal) <= PATH_CHARS_MAX else "/"


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"
