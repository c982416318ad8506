"""The Match-Trader paths of the paper broker. Checks who asks and what; the venue decides.

Run by the paper process. Shapes of requests and answers as in the Platform API's documentation; see `views`.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from actors.broker.paper import answers, book, control, pending_routes, twists, values, views
from actors.broker.paper.access import Access
from actors.broker.paper.asking import NUMBERS, Asked
from actors.broker.paper.asking import answer as _answer
from actors.broker.paper.asking import asked as _asked
from actors.broker.paper.asking import body_of as _body
from actors.broker.paper.asking import check as _check
from actors.broker.paper.asking import done as _done
from actors.broker.paper.asking import fault_of as _fault
from actors.broker.paper.asking import is_fault as _is
from actors.broker.paper.asking import rejected as _rejected
from actors.broker.paper.asking import span as _span
from actors.broker.paper.bars import INTERVALS_MS
from actors.broker.paper.catalogue import Call
from actors.broker.paper.counting import Counting, Received
from actors.broker.paper.faults import Faults
from actors.broker.paper.tampering import Handler, Tampering
from actors.broker.paper.trader_routes import TraderRoutes
from actors.broker.paper.values import Order, Rejected
from actors.broker.paper.venue import Venue
from bus import failpoints

SYMBOLS_MAX = 100
CANDLES_MAX = 5_000
LOGIN_PATHS = ("/manager/mtr-login", "/manager/co-login", "/mtr-core-edge/login")
COOKIE = "co-auth"


class LoginAsked(Asked, frozen=True):
    email: str
    password: str
    broker_id: str


class OpenAsked(Asked, frozen=True):
    instrument: str
    order_side: Literal["BUY", "SELL"]
    volume: Decimal
    sl_price: Decimal | None = None
    tp_price: Decimal | None = None


class EditAsked(Asked, frozen=True):
    id: str
    instrument: str
    order_side: Literal["BUY", "SELL"]
    volume: Decimal
    sl_price: Decimal
    tp_price: Decimal


class CloseAsked(Asked, frozen=True):
    position_id: str
    instrument: str
    order_side: Literal["BUY", "SELL"]
    volume: Decimal


class HistoryAsked(Struct, frozen=True):
    since: str = msgspec.field(name="from")
    until: str = msgspec.field(name="to")


class Routes:
    """The handlers, over one venue."""

    def __init__(self, venue: Venue, access: Access, tampering: Tampering | None) -> None:
        self._venue = venue
        self._access = access
        self._tampering = tampering

    def table(self) -> list[Route]:
        """Return all routes."""
        system = f"/mtr-api/{self._access.system_uuid}"
        waiting = pending_routes.PendingRoutes(self._venue)
        reads: tuple[tuple[Call, str, str, Handler], ...] = (
            ("balance", "GET", "/balance", self._balance),
            ("instruments", "GET", "/effective-instruments", self._instruments),
            ("quotes", "GET", "/quotations", self._quotations), ("read", "GET", "/candles", self._candles),
            ("positions", "GET", "/open-positions", self._open_positions),
            ("read", "GET", "/active-orders", waiting.active),
            ("history", "POST", "/closed-positions", self._closed_positions),
        )  # fmt: skip
        writes: tuple[tuple[Call, str, Handler], ...] = (
            ("edit", "/position/edit", self._edit), ("close", "/position/close", self._close),
            ("close", "/position/close-partially", self._close_partially),
            ("edit", "/pending-order/edit", waiting.edit), ("close", "/pending-order/cancel", waiting.cancel),
        )  # fmt: skip
        opening = self._received(_as_asked, self._guarded("open", self._authorised(self._open)))
        creating = self._received(pending_routes.as_asked, self._guarded("open", self._authorised(waiting.create)))
        return [
            Route("/manager/platform-details", self._platform_details, methods=["GET"]),
            Route("/manager/refresh-token", self._refresh, methods=["POST"]),
            *(Route(path, self._guarded("login", self._login), methods=["POST"]) for path in LOGIN_PATHS),
            *(
                Route(system + path, self._guarded(call, self._authorised(do)), methods=[method])
                for call, method, path, do in reads
            ),
            Route(f"{system}/position/open", opening, methods=["POST"]),
            Route(f"{system}/pending-order/create", creating, methods=["POST"]),
            *(
                Route(system + path, self._guarded(call, self._authorised(do)), methods=["POST"])
                for call, path, do in writes
            ),
        ]

    # ── who asks ────────────────────────────────────────────────────────────

    def _authorised(self, do: Handler) -> Handler:
        async def checked(request: Request) -> Response:
            token = request.headers.get("auth-trading-api", "")
            if not self._access.allows(request.cookies.get(COOKIE, ""), token):
                return _answer({"error": "unauthorized"}, status=401)
            answer = await do(request)
            failpoints.reach("paper.before_answer")  # of a request with a valid token; what it did is on disk
            return answer

        return checked

    def _received(self, as_asked: Callable[[bytes], dict[str, Any]], do: Handler) -> Handler:
        """Note an order in the ledger before anything else happens to it, be it readable and allowed or not."""

        async def noted(request: Request) -> Response:
            request.state.receipt = self._venue.ledger.received(as_asked(await _body(request)))
            return await do(request)

        return noted

    def _guarded(self, call: Call, do: Handler) -> Handler:
        """Let a fault have its way with the request. Does nothing unless faults are on."""
        if self._tampering is None:
            return do
        tampered = self._tampering.around(call, do)

        async def misled(request: Request) -> Response:
            await _body(request)  # read before the connection may be cut
            return await tampered(request)

        return misled

    async def _platform_details(self, _: Request) -> Response:
        return _answer({"partnerId": self._access.broker_id, "platformUrl": "", "brokerName": views.BROKER_NAME})

    async def _login(self, request: Request) -> Response:
        asked = await _asked(request, LoginAsked)
        made = self._access.login(asked.email, asked.password, asked.broker_id)
        if made is None:
            return _answer({"error": "invalid credentials"}, status=401)
        response = _answer(views.login(self._access, made, self._venue.settings.currency))
        response.set_cookie(COOKIE, made.cookie, httponly=True, samesite="strict")
        return response

    async def _refresh(self, request: Request) -> Response:
        renewed = self._access.refresh(request.cookies.get(COOKIE, ""))
        if renewed is None:
            return _answer({"error": "unauthorized"}, status=401)
        response = Response(b"", 200)  # an empty body with a cookie, as the real one
        response.set_cookie(COOKIE, renewed.cookie, httponly=True, samesite="strict")
        return response

    # ── reads ───────────────────────────────────────────────────────────────

    async def _balance(self, _: Request) -> Response:
        venue = self._venue
        return _answer(views.balance(venue.book, venue.rules, venue.market, venue.settings.currency))

    async def _instruments(self, _: Request) -> Response:
        venue = self._venue
        rows = [
            views.instrument(one, venue.market.trades(symbol), venue.trading_hours(symbol))
            for symbol, one in venue.terms.items()
        ]
        return _answer(rows, NUMBERS)

    async def _quotations(self, request: Request) -> Response:
        venue = self._venue
        wanted = request.query_params.get("symbols", "").split(",")[:SYMBOLS_MAX]
        rows = []
        for symbol in dict.fromkeys(wanted):
            if symbol in venue.terms:
                rows.append(views.quotation(venue.terms[symbol], venue.market, venue.today(symbol)))
        return _answer(rows)

    async def _candles(self, request: Request) -> Response:
        query = request.query_params
        symbol, interval, amount = query.get("symbol", ""), query.get("interval", ""), query.get("amount", "")
        if symbol not in self._venue.terms or interval not in INTERVALS_MS:
            raise HTTPException(400, f"symbol or interval unknown; intervals: {', '.join(INTERVALS_MS)}")
        count = min(int(amount), CANDLES_MAX) if amount.isdecimal() and amount.isascii() else CANDLES_MAX
        span = _span(query["from"], query["to"]) if "from" in query and "to" in query else (0, self._venue.market.at_ms)
        bars = self._venue.bars(symbol, interval, *span)
        return _answer(views.candles(symbol, interval, bars[-count:] if count else ()), NUMBERS)

    async def _open_positions(self, _: Request) -> Response:
        venue = self._venue
        return _answer({"positions": [views.position(held, venue.rules, venue.market) for held in venue.shown()]})

    async def _closed_positions(self, request: Request) -> Response:
        asked = await _asked(request, HistoryAsked)
        from_ms, to_ms = _span(asked.since, asked.until)
        rows = [done for done in self._venue.book.history if from_ms <= done.closed_ms <= to_ms]
        return _answer({"operations": [views.operation(done) for done in rows if not self._venue.is_hidden(done.id)]})

    # ── writes ──────────────────────────────────────────────────────────────

    async def _open(self, request: Request) -> Response:
        asked = await _asked(request, OpenAsked)
        _check(volume=asked.volume, slPrice=asked.sl_price, tpPrice=asked.tp_price)
        fault, receipt = _fault(request), request.state.receipt
        asked_for = Order(
            symbol=asked.instrument,
            side=asked.order_side,
            volume=asked.volume,
            sl_price=asked.sl_price or values.NONE,
            tp_price=asked.tp_price or values.NONE,
        )
        order = twists.order(fault, asked_for, self._venue.terms.get(asked.instrument))
        if fault is not None and fault.fault in twists.LATE:
            self._venue.place_later(order, receipt, fault.for_s)
            return _answer({})  # nobody will see it
        decided = self._venue.open_position(order, receipt)
        if isinstance(decided, Rejected):
            return _rejected(decided)
        twists.opened(fault, self._venue, decided.holding, order, receipt)
        return _done(decided.holding.id)

    async def _edit(self, request: Request) -> Response:
        asked = await _asked(request, EditAsked)
        _check(volume=asked.volume, slPrice=asked.sl_price, tpPrice=asked.tp_price)
        if refusal := self._mismatch(asked.id, asked.instrument, asked.order_side):
            return _rejected(refusal)
        if _is(_fault(request), "edit_ignored"):
            return _done(asked.id)
        decided = self._venue.edit_position(asked.id, asked.sl_price, asked.tp_price)
        return _rejected(decided) if isinstance(decided, Rejected) else _done(decided.id)

    async def _close(self, request: Request) -> Response:
        return await self._close_any(request, whole=True)

    async def _close_partially(self, request: Request) -> Response:
        return await self._close_any(request, whole=False)

    async def _close_any(self, request: Request, *, whole: bool) -> Response:
        asked = await _asked(request, CloseAsked)
        _check(volume=asked.volume)
        if refusal := self._mismatch(asked.position_id, asked.instrument, asked.order_side):
            return _rejected(refusal)
        held = book.find(self._venue.book, asked.position_id)
        if whole and asked.volume != held.volume:
            return _rejected(Rejected("INVALID_VOLUME", f"volume was {asked.volume}; the position has {held.volume}"))
        volume = asked.volume
        if _is(_fault(request), "close_ignored"):
            return _done(asked.position_id)
        if _is(_fault(request), "close_half"):
            volume = twists.half(volume, self._venue.terms[held.symbol])
        decided = self._venue.close_position(asked.position_id, volume)
        return _rejected(decided) if isinstance(decided, Rejected) else _done(decided.operation.closing_order_id)

    def _mismatch(self, position_id: str, instrument: str, side: str) -> Rejected | None:
        """Return why a request does not speak of the position whose id it names."""
        try:
            held = book.find(self._venue.book, position_id)
        except KeyError:
            return Rejected("POSITION_NOT_FOUND", f"there is no open position {position_id[:40]!r}")
        if (held.symbol, held.side) != (instrument, side):
            return Rejected("POSITION_MISMATCH", f"position {held.id} is a {held.side} of {held.symbol}")
        return None


def application(
    venue: Venue, access: Access, faults: Faults | None = None, *, die: Callable[[], None] = answers.die
) -> Starlette:
    """Return the web application. With `faults`, tests can order misbehaviour, prices and closes under /paper.

    `die` is how a fault ends the process; tests in one process pass their own.
    """
    tampering = Tampering(venue, access, faults, die) if faults is not None else None
    routes = [*Routes(venue, access, tampering).table(), *TraderRoutes(venue, access, tampering).table()]
    middleware = []
    if faults is not None:
        received = Received()
        routes += control.routes(venue, faults, received)
        middleware = [Middleware(Counting, received=received)]
    return Starlette(routes=routes, middleware=middleware, exception_handlers={HTTPException: _refused})


async def _refused(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else ""
    return _answer({"status": "REJECTED", "nativeCode": "BAD_REQUEST", "errorMessage": detail}, status=status)


def _as_asked(body: bytes) -> dict[str, Any]:
    """Return what an order's request says, as far as it can be read."""
    try:
        asked = msgspec.json.decode(body, type=OpenAsked)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return {
        "symbol": asked.instrument, "side": asked.order_side, "volume": asked.volume,
        "sl_price": asked.sl_price or values.NONE, "tp_price": asked.tp_price or values.NONE,
    }  # fmt: skip
