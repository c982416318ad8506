"""The account over Match-Trader's Trader API: reads that may be repeated, orders that carry a key.

Used by executor and monitor, one client each, as a `broker.account.Account`. Never sleeps, never repeats a write, never
decides: whether an order is sent again with its key is the executor's matter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote as quoted

import msgspec

from actors.broker import raw as platform
from actors.broker import reading, transport, wire
from actors.broker.errors import NotSent, Unauthorised, UnknownOutcome, Unreadable
from actors.broker.reading import INSTRUMENTS_AGE_S_MAX, INTERVALS, Interval, Listing
from actors.broker.trader import problems, raw
from actors.broker.transport import Budget, Transport
from actors.broker.wire import (
    NUMBERS,
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
from bus.clock import Clock
from config import settings
from config.load import ConfigError

HISTORY_ROWS_MAX = 500  # in one answer; Source: "Get Closed Positions" in the API's documentation
HISTORY_REQUESTS_MAX = 64  # for one history
CANDLES_MAX = 750  # in one answer; Source: "Get Candles"
CANDLE_REQUESTS_MAX = 24

R = TypeVar("R")


class TraderClient:
    """One account over the Trader API. Use as an async context manager; the token says whose account it is.

    Making one raises ConfigError when the token cannot stand in a header.

    Every request is paid from `budget` before it leaves. Every call raises a `BrokerError` as those of
    `broker.client.BrokerClient` do, and `KeyConflict` beside them.
    """

    needs_login = False
    keyed_orders = True

    def __init__(self, broker: settings.Broker, token: str, clock: Clock, budget: Budget) -> None:
        if not platform.HEADER_VALUE.fullmatch(token):
            raise ConfigError(f"{broker.secret_env}: no token; allowed is printable ASCII without a blank at its ends")
        self._clock = clock
        self._broker = broker
        self._paths = broker.trader
        self._line = Transport(broker, budget)
        self._line.hide(token)
        self._headers = {"Authorization": f"Bearer {token}"}
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
        """Look whose account the token is for. Raises Unauthorised when it is refused or is for another account."""
        await self.balance()

    async def balance(self) -> Balance:
        """Return balance, equity and margin of the account, after a look at whose it is."""
        said = await self._read(self._paths.account, raw.Account)
        if str(said.login) != self._broker.account_id:
            raise Unauthorised(
                f"broker.account_id {self._broker.account_id!r} is not among the accounts of this token: {said.login}"
            )
        return reading.made(self._paths.account, raw.balance, said)

    async def instruments(self, age_s_max: float = INSTRUMENTS_AGE_S_MAX) -> dict[str, Instrument]:
        """Return what can be traded, by our symbol; not older than `age_s_max` (0: ask now).

        Unreadable rows, and symbols of ours that two instruments claim, are left out with a warning.
        """
        if self._listing.is_older_than(age_s_max):
            self._listing.take((await self._read(self._paths.instruments, raw.Instruments)).instruments)
        return self._listing.by_symbol

    async def quotes(self, symbols: Iterable[str]) -> dict[str, Quote]:
        """Return bid and ask by our symbol. A symbol that the broker has no price for now is missing.

        Raises:
            Refused: a symbol is not among the broker's instruments; nothing was asked.
        """
        by_broker = {(await self._listed(symbol)).broker_symbol: symbol for symbol in symbols}
        if not by_broker:
            return {}
        query = "&".join(f"symbol={quoted(name)}" for name in by_broker)
        said = await self._read(self._paths.quotes, raw.Quotes, query)
        known = [(one, by_broker[one.symbol]) for one in said.quotes if one.symbol in by_broker]
        return {symbol: reading.made(self._paths.quotes, raw.quote, one, symbol) for one, symbol in known}

    async def open_positions(self) -> tuple[Position, ...]:
        """Return all open positions of the account, each once, also those nobody here opened."""
        await self.instruments(float("inf"))
        where, name = self._paths.positions, self._listing.our_name
        said = await self._read(where, raw.Positions)
        rows = [reading.made(where, raw.position, one, name(one.symbol)) for one in said.positions]
        return reading.each_once(where, rows)

    async def pending_orders(self) -> tuple[PendingOrder, ...]:
        """Return all orders of the account that wait for their price, each once."""
        await self.instruments(float("inf"))
        where, name = self._paths.pending_orders, self._listing.our_name
        said = await self._read(where, raw.PendingOrders)
        rows = [reading.made(where, raw.pending_order, one, name(one.symbol)) for one in said.pending_orders]
        return reading.each_once(where, rows)

    async def closed_positions(self, since: datetime, until: datetime) -> tuple[ClosedPosition, ...]:
        """Return the history rows closed between two times, oldest first. A row can lag the event by seconds.

        A row in two answers, or twice in one, counts once; parts of one position are rows of their own. An answer that
        is full may be cut off: its span is asked for again in halves.

        Raises:
            Unreadable: more rows than `HISTORY_REQUESTS_MAX` requests bring, or as any read.
        """
        await self.instruments(float("inf"))
        where, found = self._paths.closed_positions, dict[ClosedPosition, None]()
        left, asked = deque(reading.pieces(since, until)), 0
        while left:
            begin, end = left.popleft()
            asked += 1
            if asked > HISTORY_REQUESTS_MAX:
                raise Unreadable(f"{where}: more rows than {HISTORY_REQUESTS_MAX} requests bring")
            query = f"from={raw.millis(begin)}&to={raw.millis(end) + 1}&limit={HISTORY_ROWS_MAX}"
            rows = (await self._read(where, raw.ClosedPositions, query)).closed_positions
            if len(rows) >= HISTORY_ROWS_MAX:
                if end - begin <= timedelta(milliseconds=2):
                    raise Unreadable(f"{where}: {len(rows)} rows within {end - begin}")
                middle = begin + (end - begin) / 2
                left.extendleft(((middle, end), (begin, middle)))
                continue
            for one in rows:
                row = reading.made(where, raw.closed_position, one, self._listing.our_name(one.symbol))
                found[row] = None
        return tuple(sorted(found, key=lambda row: row.closed_at))

    async def candles(self, symbol: str, interval: Interval, since: datetime, until: datetime) -> tuple[Candle, ...]:
        """Return finished bars, oldest first. A bar that has not ended by our clock is dropped.

        Raises:
            Refused: the symbol is not among the broker's instruments.
            Unreadable: the span holds more bars than `CANDLE_REQUESTS_MAX` requests bring, or as any read.
        """
        name, where = (await self._listed(symbol)).broker_symbol, self._paths.candles
        length, found = CANDLES_MAX * INTERVALS[interval], dict[datetime, Candle]()
        if until - since > CANDLE_REQUESTS_MAX * length:
            raise Unreadable(f"{where}: {since} to {until} holds more bars than {CANDLE_REQUESTS_MAX} requests bring")
        begin = since
        while True:
            end = min(until, begin + length)
            query = f"symbol={quoted(name)}&interval={interval}&from={raw.millis(begin)}&to={raw.millis(end)}"
            said = await self._read(where, platform.Candles, f"{query}&limit={CANDLES_MAX}")
            bars = (reading.made(where, wire.candle, one) for one in said.candles)
            found.update({bar.at: bar for bar in bars})
            if end >= until:
                return reading.finished(list(found.values()), interval, self._clock.now())
            begin = end

    # ── writes ──────────────────────────────────────────────────────────────

    async def open_position(self, order: OpenRequest) -> str:
        """Send one market order with its key and comment, and return the position's id.

        Raises:
            NotSent: no key, no connection, no write left that was granted before, or no order by its numbers.
            Refused: the broker rejected the order.
            KeyConflict: the broker objects to the key; the order may exist.
            UnknownOutcome: the order may exist.
        """
        where = self._paths.open
        if not reading.is_sendable(order):
            raise NotSent(f"{where}: no order: {order}")
        if not order.idempotency_key:
            raise NotSent(f"{where}: an order without a key")
        body: dict[str, object] = {
            "symbol": order.broker_symbol, "side": order.side, "volume": order.volume,
            "slPrice": order.sl_price or None, "tpPrice": order.tp_price or None, "comment": order.comment,
        }  # fmt: skip
        answer = await self._change(where, body, done=201, key=order.idempotency_key)
        return _id_of(answer, raw.Opened, where)

    async def create_pending(self, order: PendingRequest) -> str:
        """Send one order that waits for its price, once, and return its id. Verify by reading back.

        Raises as `open_position` does. It carries no key: nobody would keep it for a repetition.
        """
        where = self._paths.create_pending
        if not reading.is_sendable(order) or not reading.is_price(order.activation_price):
            raise NotSent(f"{where}: no order: {order}")
        body: dict[str, object] = {
            "symbol": order.broker_symbol, "side": order.side, "type": order.kind, "volume": order.volume,
            "activationPrice": order.activation_price, "slPrice": order.sl_price or None,
            "tpPrice": order.tp_price or None,
        }  # fmt: skip
        answer = await self._change(where, body, done=201, is_order=True)
        return _id_of(answer, raw.Waits, where)

    async def edit_position(self, position: Position, sl_price: Decimal, tp_price: Decimal) -> None:
        """Set stop and target (0 = none) of an open position, both each time. Verify by reading back.

        Raises:
            NotSent, Refused: nothing changed.
            UnknownOutcome: it may have changed.
        """
        body: dict[str, object] = {"slPrice": sl_price or None, "tpPrice": tp_price or None}
        await self._change(_named(self._paths.edit, position.id), body, done=204)

    async def close_position(self, position: Position) -> None:
        """Close an open position. Verify by reading back.

        It carries no key: a recorded refusal would be repeated to whoever must get out later.

        Raises:
            NotSent, Refused: it is as it was.
            UnknownOutcome: it may be closed.
        """
        await self._change(_named(self._paths.close, position.id), None, done=204)

    async def close_partially(self, position: Position, volume: Decimal) -> None:
        """Close `volume` lots of an open position that has more. Verify by reading back.

        Raises:
            NotSent, Refused: it is as it was; NotSent also when `volume` is no part of it.
            UnknownOutcome: a part may be closed; sent again, another part would be.
        """
        where = _named(self._paths.close, position.id)
        if not (volume.is_finite() and 0 < volume < position.volume):
            raise NotSent(f"{where}: {volume} is no part of {position.volume} lots")
        await self._change(where, {"volume": volume}, done=204)

    async def edit_pending(
        self, waiting: PendingOrder, activation_price: Decimal, sl_price: Decimal, tp_price: Decimal
    ) -> None:
        """Set price, stop and target (0 = none) of a waiting order, all three each time. Verify by reading back.

        Raises:
            NotSent, Refused: nothing changed.
            UnknownOutcome: it may have changed, or the order has become a position meanwhile.
        """
        where = _named(self._paths.edit_pending, waiting.id)
        if not reading.is_price(activation_price) or not all(map(reading.is_level, (sl_price, tp_price))):
            raise NotSent(f"{where}: no prices: {activation_price}, {sl_price}, {tp_price}")
        body: dict[str, object] = {
            "activationPrice": activation_price, "volume": waiting.volume, "slPrice": sl_price or None,
            "tpPrice": tp_price or None,
        }  # fmt: skip
        await self._change(where, body, done=204)

    async def cancel_pending(self, waiting: PendingOrder) -> None:
        """Cancel a waiting order. Verify by reading back: orders and positions.

        Raises:
            NotSent, Refused: it waits as before, or has become a position meanwhile.
            UnknownOutcome: it may be cancelled.
        """
        await self._change(_named(self._paths.cancel_pending, waiting.id), None, done=204)

    # ── inside ──────────────────────────────────────────────────────────────

    async def _read(self, endpoint: str, kind: type[R], query: str = "") -> R:
        method, _, path = endpoint.partition(" ")
        where = f"{path}?{query}" if query else path
        answer = await self._line.read(method, where, headers=self._headers, judge=problems.judge_read)
        return transport.decode(answer, kind, endpoint)

    async def _change(
        self, endpoint: str, body: dict[str, object] | None, *, done: int, key: str = "", is_order: bool = False
    ) -> transport.Answer:
        method, _, path = endpoint.partition(" ")
        content = None if body is None else NUMBERS.encode(body)
        headers = self._headers | ({"Idempotency-Key": key} if key else {})
        answer = await self._line.change(method, path, content, headers=headers, is_order=bool(key) or is_order)
        problems.judge_write(answer, endpoint, done)
        return answer

    async def _listed(self, symbol: str) -> Instrument:
        """Return the instrument. Raises Refused when the broker does not list the symbol."""
        await self.instruments()
        return self._listing.find(symbol)


def _named(endpoint: str, identity: str) -> str:
    return endpoint.replace("{id}", quoted(identity, safe=""))


def _id_of(answer: transport.Answer, kind: type[raw.Opened] | type[raw.Waits], where: str) -> str:
    """Return the id in a 201. Raises UnknownOutcome when it names nothing: something was made all the same."""
    try:
        said = msgspec.json.decode(answer.body, type=kind)
    except platform.UNDECODABLE as error:
        raise UnknownOutcome(f"{where}: {answer.status} without an id: {answer.quoted()}") from error
    found = said.position_id if isinstance(said, raw.Opened) else said.pending_order_id
    if not str(found):
        raise UnknownOutcome(f"{where}: {answer.status} with an empty id")
    return str(found)
