"""The account over Match-Trader's Platform API: reads that may be repeated, writes that are sent once.

Used by executor and monitor, one client each, as a `broker.account.Account`. Never sleeps, never repeats a write, never
decides: callers do.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from actors.broker import raw, reading, transport, wire
from actors.broker.errors import BrokerError, NotSent, Unauthorised, UnknownOutcome
from actors.broker.reading import INSTRUMENTS_AGE_S_MAX, Interval, Listing
from actors.broker.session import Session
from actors.broker.transport import Budget, Transport
from actors.broker.wire import (
    Balance,
    Candle,
    ClosedPosition,
    Instrument,
    OpenRequest,
    PendingOrder,
    PendingRequest,
    Position,
    Quote,
)
from bus import clock as clocks
from bus.clock import Clock
from config import settings

DETAILS_PATH = "/manager/platform-details"

R = TypeVar("R")


class BrokerClient:
    """One account over the Platform API. Use as an async context manager; logs in when the first call needs it.

    Every request is paid from `budget` before it leaves. Every call raises a `BrokerError`: reads `Transient`
    (`Unreadable` and `BudgetSpent` among them), `Blocked`, `Unauthorised` or `Refused`; writes `Refused`, `NotSent` or
    `UnknownOutcome`. See errors.py.
    """

    needs_login = True
    keyed_orders = False  # no request of this API carries an id of ours: an order is sent once, then looked for

    def __init__(self, broker: settings.Broker, password: str, clock: Clock, budget: Budget) -> None:
        self._clock = clock
        self._line = Transport(broker, budget)
        self._session = Session(broker, password, self._line, clock)
        self._listing = Listing(clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._line.close()

    # ── reads ───────────────────────────────────────────────────────────────

    @property
    def dated(self) -> str:
        """The Date header of the newest answer to a read, as it came; "" when it had none."""
        return self._line.dated

    async def login(self) -> None:
        """Log in now. Raises Unauthorised when e-mail, password or account are not accepted."""
        await self._session.login()

    async def partner_id(self) -> str:
        """Return the broker id that a login at this address must name. Needs no login."""
        said = await self._line.read("GET", DETAILS_PATH, headers={})
        return str(transport.decode(said, raw.PlatformDetails, f"GET {DETAILS_PATH}").partner_id)

    async def balance(self) -> Balance:
        """Return balance, equity and margin of the account."""
        return reading.made("/balance", wire.balance, await self._get("/balance", raw.Balance))

    async def instruments(self, age_s_max: float = INSTRUMENTS_AGE_S_MAX) -> dict[str, Instrument]:
        """Return what can be traded, by our symbol; not older than `age_s_max` (0: ask now).

        Unreadable rows, and symbols of ours that two instruments claim, are left out with a warning.
        """
        if self._listing.is_older_than(age_s_max):
            self._listing.take(await self._get("/effective-instruments", tuple[msgspec.Raw, ...]))
        return self._listing.by_symbol

    async def quotes(self, symbols: Iterable[str]) -> dict[str, Quote]:
        """Return bid and ask by our symbol. A symbol that the broker has no price for now is missing.

        Raises:
            Refused: a symbol is not among the broker's instruments; nothing was asked.
        """
        by_broker = {(await self._listed(symbol)).broker_symbol: symbol for symbol in symbols}
        if not by_broker:
            return {}
        said = await self._get(f"/quotations?symbols={','.join(by_broker)}", tuple[raw.Quote, ...])
        known = [(one, by_broker[one.symbol]) for one in said if one.symbol in by_broker]
        return {symbol: reading.made("/quotations", wire.quote, one, symbol) for one, symbol in known}

    async def open_positions(self) -> tuple[Position, ...]:
        """Return all open positions of the account, each once, also those nobody here opened."""
        await self.instruments(float("inf"))
        where, said = "/open-positions", await self._get("/open-positions", raw.Positions)
        return reading.each_once(
            where,
            [reading.made(where, wire.position, one, self._listing.our_name(one.symbol)) for one in said.positions],
        )

    async def pending_orders(self) -> tuple[PendingOrder, ...]:
        """Return all orders of the account that wait for their price, each once."""
        await self.instruments(float("inf"))
        where, said = "/active-orders", await self._get("/active-orders", raw.PendingOrders)
        return reading.each_once(
            where,
            [reading.made(where, wire.pending_order, one, self._listing.our_name(one.symbol)) for one in said.orders],
        )

    async def closed_positions(self, since: datetime, until: datetime) -> tuple[ClosedPosition, ...]:
        """Return the history rows closed between two times, oldest first. A row can lag the event by seconds.

        A span longer than `reading.HISTORY_PIECE` costs a request a piece. A row in two answers, or twice in one,
        counts once; parts of one position are rows of their own.
        """
        await self.instruments(float("inf"))
        where, found = "/closed-positions", dict[ClosedPosition, None]()
        for begin, end in reading.pieces(since, until):
            body = msgspec.json.encode({"from": clocks.iso(begin), "to": clocks.iso(end)})
            said = await self._read("POST", where, raw.Operations, body)
            for one in said.operations:
                row = reading.made(where, wire.closed_position, one, self._listing.our_name(one.symbol))
                found[row] = None
        return tuple(sorted(found, key=lambda row: row.closed_at))

    async def candles(self, symbol: str, interval: Interval, since: datetime, until: datetime) -> tuple[Candle, ...]:
        """Return finished bars, oldest first. A bar that has not ended by our clock is dropped.

        Raises:
            Refused: the symbol is not among the broker's instruments.
        """
        name = (await self._listed(symbol)).broker_symbol
        query = f"symbol={name}&interval={interval}&from={clocks.iso(since)}&to={clocks.iso(until)}"
        said = await self._get(f"/candles?{query}", raw.Candles)
        bars = [reading.made("/candles", wire.candle, one) for one in said.candles]
        return reading.finished(bars, interval, self._clock.now())

    # ── writes ──────────────────────────────────────────────────────────────

    async def open_position(self, order: OpenRequest) -> str:
        """Send one market order, once, and return its id, which is the position's id.

        Never logs in first: that would let the licence to send run out. The reads before an order keep the token new.

        Raises:
            NotSent: no valid token, no connection, no write left that was granted before, or no order by its numbers.
            Refused: the broker rejected the order.
            UnknownOutcome: the order may exist.
        """
        if not reading.is_sendable(order):
            raise NotSent(f"POST /position/open: no order: {order}")
        return await self._order("/position/open", wire.open_request(order))

    async def create_pending(self, order: PendingRequest) -> str:
        """Send one order that waits for its price, once, and return its id. Verify by reading back.

        An order like any other: never logs in first, and raises as `open_position` does.
        """
        if not reading.is_sendable(order) or not reading.is_price(order.activation_price):
            raise NotSent(f"POST /pending-order/create: no order: {order}")
        return await self._order("/pending-order/create", wire.create_pending_request(order))

    async def edit_position(self, position: Position, sl_price: Decimal, tp_price: Decimal) -> None:
        """Set stop and target (0 = none) of an open position, both each time. Verify by reading back.

        Raises:
            NotSent, Refused: nothing changed.
            UnknownOutcome: it may have changed.
        """
        await self._write("/position/edit", wire.edit_request(position, sl_price, tp_price))

    async def close_position(self, position: Position) -> None:
        """Close an open position. Verify by reading back.

        Raises:
            NotSent, Refused: it is as it was.
            UnknownOutcome: it may be closed.
        """
        await self._write("/position/close", wire.close_request(position))

    async def close_partially(self, position: Position, volume: Decimal) -> None:
        """Close `volume` lots of an open position that has more. Verify by reading back.

        Raises:
            NotSent, Refused: it is as it was; NotSent also when `volume` is no part of it.
            UnknownOutcome: a part may be closed; sent again, another part would be.
        """
        if not (volume.is_finite() and 0 < volume < position.volume):
            raise NotSent(f"POST /position/close-partially: {volume} is no part of {position.volume} lots")
        await self._write("/position/close-partially", wire.close_partially_request(position, volume))

    async def edit_pending(
        self, waiting: PendingOrder, activation_price: Decimal, sl_price: Decimal, tp_price: Decimal
    ) -> None:
        """Set price, stop and target (0 = none) of a waiting order, all three each time.

        Brokers answer an edit with an empty body: that it returned proves nothing. Read back before relying on it.

        Raises:
            NotSent, Refused: nothing changed.
            UnknownOutcome: it may have changed, or the order has become a position meanwhile.
        """
        if not reading.is_price(activation_price) or not all(map(reading.is_level, (sl_price, tp_price))):
            raise NotSent(f"POST /pending-order/edit: no prices: {activation_price}, {sl_price}, {tp_price}")
        body = wire.edit_pending_request(waiting, activation_price, sl_price, tp_price)
        await self._write("/pending-order/edit", body, may_say_nothing=True)

    async def cancel_pending(self, waiting: PendingOrder) -> None:
        """Cancel a waiting order. Verify by reading back: orders and positions.

        Raises:
            NotSent, Refused: it waits as before, or has become a position meanwhile.
            UnknownOutcome: it may be cancelled; also where the broker said OK together with an error code.
        """
        await self._write("/pending-order/cancel", wire.cancel_pending_request(waiting))

    # ── inside ──────────────────────────────────────────────────────────────

    async def _get(self, path: str, kind: type[R]) -> R:
        return await self._read("GET", path, kind)

    async def _read(self, method: str, path: str, kind: type[R], body: bytes | None = None) -> R:
        """Ask once; after a 401 log in and ask once more."""
        await self._session.ensure()
        seen_expiry = self._session.expires_at
        try:
            answer = await self._line.read(
                method, self._session.prefix + path, headers=self._session.headers, body=body
            )
        except Unauthorised:
            await self._session.renew(seen_expiry)
            answer = await self._line.read(
                method, self._session.prefix + path, headers=self._session.headers, body=body
            )
        self._session.worked()
        return transport.decode(answer, kind, f"{method} {path}")

    async def _order(self, path: str, body: bytes) -> str:
        if self._session.left_s() <= 0:
            raise NotSent(f"POST {path}: the token has expired; read the account first")
        said = await self._line.write(self._session.prefix + path, body, headers=self._session.headers, is_order=True)
        if not said.order_id:
            raise UnknownOutcome(f"POST {path}: OK without an orderId")
        return str(said.order_id)

    async def _write(self, path: str, body: bytes, *, may_say_nothing: bool = False) -> None:
        try:
            await self._session.ensure()
        except BrokerError as error:
            raise NotSent(f"POST {path}: could not log in: {error}") from error
        await self._line.write(
            self._session.prefix + path, body, headers=self._session.headers, may_say_nothing=may_say_nothing
        )

    async def _listed(self, symbol: str) -> Instrument:
        """Return the instrument. Raises Refused when the broker does not list the symbol."""
        await self.instruments()
        return self._listing.find(symbol)
