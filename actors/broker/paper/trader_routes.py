"""The Trader API of the paper broker, over the same venue: bearer token, keyed orders, problem objects.

Run by the paper process. Paths as in `broker.trader` of the settings, shapes as in the API's documentation; see
`trader_views`. An order that comes again with its key gets the answer it had, or is told that it is under way.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from actors.broker.paper import asking, book, trader_pending, trader_views, twists, values, views
from actors.broker.paper.access import Access
from actors.broker.paper.bars import INTERVALS_MS
from actors.broker.paper.catalogue import Call
from actors.broker.paper.tampering import Handler, Tampering
from actors.broker.paper.trader_answers import TRADER, VALIDATION, made, problem, refused
from actors.broker.paper.trader_keys import Keys, is_key, with_body
from actors.broker.paper.trader_pending import TraderPending
from actors.broker.paper.values import Order, Rejected
from actors.broker.paper.venue import Venue
from bus import failpoints

ROWS_MAX, ROWS = 500, 100  # of the history in one answer: at most, and by default
CANDLES_MAX, CANDLES = 750, 100
KEY = "idempotency-key"


class OpenAsked(Struct, frozen=True, rename="camel"):
    symbol: str
    side: Literal["BUY", "SELL"]
    volume: Decimal
    sl_price: Decimal | None = None
    tp_price: Decimal | None = None
    comment: str = ""


class EditAsked(Struct, frozen=True, rename="camel"):
    """What is not said stays as it is; null removes it."""

    sl_price: Decimal | UnsetType | None = UNSET
    tp_price: Decimal | UnsetType | None = UNSET


class CloseAsked(Struct, frozen=True):
    volume: Decimal | None = None


class TraderRoutes:
    """The handlers, over one venue."""

    def __init__(self, venue: Venue, access: Access, tampering: Tampering | None) -> None:
        self._venue = venue
        self._access = access
        self._tampering = tampering
        self._keys = Keys(venue)

    def table(self) -> list[Route]:
        """Return all routes."""
        paths, waiting = self._access.paths, TraderPending(self._venue)
        handlers: tuple[tuple[Call, str, Handler], ...] = (
            ("balance", paths.account, self._account), ("instruments", paths.instruments, self._instruments),
            ("quotes", paths.quotes, self._quotes), ("read", paths.candles, self._candles),
            ("positions", paths.positions, self._positions), ("history", paths.closed_positions, self._closed),
            ("read", paths.pending_orders, waiting.active), ("edit", paths.edit, self._edit),
            ("close", paths.close, self._close), ("edit", paths.edit_pending, waiting.edit),
            ("close", paths.cancel_pending, waiting.cancel),
        )  # fmt: skip
        found = [_route(endpoint, self._guarded(call, self._authorised(do))) for call, endpoint, do in handlers]
        opening = self._received(_as_asked, self._guarded("open", self._authorised(self._open)))
        creating = self._received(trader_pending.as_asked, self._guarded("open", self._authorised(waiting.create)))
        return [*found, _route(paths.open, opening), _route(paths.create_pending, creating)]

    # ── who asks ────────────────────────────────────────────────────────────

    def _authorised(self, do: Handler) -> Handler:
        async def checked(request: Request) -> Response:
            if not self._access.allows_bearer(request.headers.get("authorization", "")):
                return problem(401, "unauthorized", "the token is not valid", request.url.path)
            try:
                answer = await do(request)
            except HTTPException as error:
                answer = problem(error.status_code, VALIDATION, error.detail, request.url.path)
            failpoints.reach("paper.before_keyed_answer")  # of a request with a bearer token; what it did is on disk
            return answer

        return checked

    def _received(self, as_asked: Callable[[bytes], dict[str, Any]], do: Handler) -> Handler:
        """Note an order in the ledger before anything else happens to it, with its key: a repetition has the same."""

        async def noted(request: Request) -> Response:
            key = request.headers.get(KEY, "")
            asked = as_asked(await asking.body_of(request))
            request.state.receipt = self._venue.ledger.received(asked | ({"key": key} if key else {}))
            return await do(request)

        return noted

    def _guarded(self, call: Call, do: Handler) -> Handler:
        """Let a fault have its way with the request. Does nothing unless faults are on."""
        if self._tampering is None:
            return do
        tampered = self._tampering.around(call, do, TRADER)

        async def misled(request: Request) -> Response:
            await asking.body_of(request)  # read before the connection may be cut
            return await tampered(request)

        return misled

    # ── reads ───────────────────────────────────────────────────────────────

    async def _account(self, _: Request) -> Response:
        venue = self._venue
        currency = venue.settings.currency
        return asking.answer(trader_views.account(self._access, venue.book, venue.rules, venue.market, currency))

    async def _instruments(self, _: Request) -> Response:
        venue = self._venue
        rows = [
            views.instrument(one, venue.market.trades(symbol), venue.trading_hours(symbol))
            for symbol, one in venue.terms.items()
        ]
        return asking.answer({"instruments": rows}, asking.NUMBERS)

    async def _quotes(self, request: Request) -> Response:
        venue = self._venue
        wanted = dict.fromkeys(request.query_params.getlist("symbol")) or venue.terms
        rows = [
            views.quotation(venue.terms[name], venue.market, venue.today(name))
            for name in wanted
            if name in venue.terms
        ]
        return asking.answer({"quotes": rows})

    async def _candles(self, request: Request) -> Response:
        query, market = request.query_params, self._venue.market
        symbol, interval = query.get("symbol", ""), query.get("interval", "")
        if symbol not in self._venue.terms:
            raise HTTPException(400, f"symbol was {symbol[:40]!r}")
        if interval not in INTERVALS_MS:
            return problem(400, "candle-interval-invalid", f"intervals: {', '.join(INTERVALS_MS)}", request.url.path)
        begin_ms, end_ms = _number(query.get("from"), 0), _number(query.get("to"), market.at_ms)
        bars = self._venue.bars(symbol, interval, begin_ms, end_ms)
        count = min(_number(query.get("limit"), CANDLES), CANDLES_MAX)
        return asking.answer(views.candles(symbol, interval, bars[-count:] if count else ()), asking.NUMBERS)

    async def _positions(self, _: Request) -> Response:
        venue = self._venue
        rows = [trader_views.position(held, venue.rules, venue.market) for held in venue.shown()]
        return asking.answer({"positions": rows})

    async def _closed(self, request: Request) -> Response:
        query = request.query_params
        if "from" not in query or "to" not in query:
            raise HTTPException(400, "from and to are needed")
        begin_ms, end_ms = _number(query["from"], 0), _number(query["to"], 0)
        count = min(_number(query.get("limit"), ROWS), ROWS_MAX)
        rows = [done for done in self._venue.book.history if begin_ms <= done.closed_ms <= end_ms]
        shown = [trader_views.operation(done) for done in rows if not self._venue.is_hidden(done.id)]
        return asking.answer({"closedPositions": shown[-count:] if count else []})

    # ── writes ──────────────────────────────────────────────────────────────

    async def _open(self, request: Request) -> Response:
        asked = await asking.asked(request, OpenAsked)
        asking.check(volume=asked.volume, slPrice=asked.sl_price, tpPrice=asked.tp_price)
        name = request.headers.get(KEY, "")
        if name and not is_key(name):
            return problem(400, "idempotency-key-invalid", "the key is no UUID", request.url.path)
        key = with_body(name, await asking.body_of(request))
        if self._keys.is_used_otherwise(key):
            return problem(400, "idempotency-key-invalid", "the key came with another request", request.url.path)
        if (known := self._keys.answer(key)) is not None:
            return made(positionId=known) if isinstance(known, str) else refused(known, request)
        if self._venue.is_under_way(key) and key:
            return problem(409, "request-in-progress", "the order is under way", request.url.path)
        return self._decide(asked, key, request)

    def _decide(self, asked: OpenAsked, key: str, request: Request) -> Response:
        fault, receipt = asking.fault_of(request), request.state.receipt
        asked_for = Order(
            symbol=asked.symbol,
            side=asked.side,
            volume=asked.volume,
            sl_price=asked.sl_price or values.NONE,
            tp_price=asked.tp_price or values.NONE,
            comment=asked.comment,
            key=key,
        )
        order = twists.order(fault, asked_for, self._venue.terms.get(asked.symbol))
        if fault is not None and fault.fault in twists.LATE:
            self._venue.place_later(order, receipt, fault.for_s)
            return made()  # nobody will see it
        decided = self._venue.open_position(order, receipt)
        if isinstance(decided, Rejected):
            self._keys.refused(key, decided)
            return refused(decided, request)
        twists.opened(fault, self._venue, decided.holding, order, receipt)
        return made(positionId=decided.holding.id)

    async def _edit(self, request: Request) -> Response:
        asked = await asking.asked(request, EditAsked)
        identity = request.path_params["id"]
        try:
            held = book.find(self._venue.book, identity)
        except KeyError:
            return _unknown(request)
        sl_price = held.sl_price if asked.sl_price is UNSET else asked.sl_price or values.NONE
        tp_price = held.tp_price if asked.tp_price is UNSET else asked.tp_price or values.NONE
        asking.check(slPrice=sl_price, tpPrice=tp_price)
        if asking.is_fault(asking.fault_of(request), "edit_ignored"):
            return Response(status_code=204)
        decided = self._venue.edit_position(identity, sl_price, tp_price)
        return refused(decided, request) if isinstance(decided, Rejected) else Response(status_code=204)

    async def _close(self, request: Request) -> Response:
        asked = await asking.asked(request, CloseAsked) if await asking.body_of(request) else CloseAsked()
        asking.check(volume=asked.volume)
        identity, fault = request.path_params["id"], asking.fault_of(request)
        try:
            held = book.find(self._venue.book, identity)
        except KeyError:
            return _unknown(request)
        volume = held.volume if asked.volume is None else asked.volume
        if asking.is_fault(fault, "close_ignored"):
            return Response(status_code=204)
        if asking.is_fault(fault, "close_half"):
            volume = twists.half(volume, self._venue.terms[held.symbol])
        decided = self._venue.close_position(identity, volume)
        return refused(decided, request) if isinstance(decided, Rejected) else Response(status_code=204)


def _route(endpoint: str, do: Handler) -> Route:
    method, _, path = endpoint.partition(" ")
    return Route(path, do, methods=[method])


def _as_asked(body: bytes) -> dict[str, Any]:
    """Return what an order's request says, as far as it can be read."""
    try:
        asked = msgspec.json.decode(body, type=OpenAsked)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return {
        "symbol": asked.symbol, "side": asked.side, "volume": asked.volume, "sl_price": asked.sl_price or values.NONE,
        "tp_price": asked.tp_price or values.NONE,
    }  # fmt: skip


def _number(text: str | None, usual: int) -> int:
    if text is None:
        return usual
    if not (text.isdecimal() and text.isascii() and len(text) < 16):
        raise HTTPException(400, f"expected a number, found {text[:40]!r}")
    return int(text)


def _unknown(request: Request) -> Response:
    return problem(404, "position-not-found", "there is no such open position", request.url.path)
