"""What executor, monitor and doctor need of a broker's account, whichever API it is spoken to over.

Used instead of a concrete client. One capability differs: an API with keyed orders makes the repetition of an order
with its key safe; on another an order is sent once, and then only looked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Protocol, Self

from actors.broker.reading import Interval
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


class Account(Protocol):
    """One account. Reads may be repeated and bring nothing but errors of `broker.errors`; a write ends in a result,
    `Refused`, `NotSent` or `UnknownOutcome`. What each call promises stands at `broker.client.BrokerClient`.
    """

    @property
    def keyed_orders(self) -> bool:
        """Whether an order that is sent again with its key is the same order."""
        ...

    @property
    def needs_login(self) -> bool:
        """Whether the first read has to log in before it."""
        ...

    @property
    def dated(self) -> str: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def login(self) -> None: ...
    async def balance(self) -> Balance: ...
    async def instruments(self, age_s_max: float = ...) -> dict[str, Instrument]: ...
    async def quotes(self, symbols: Iterable[str]) -> dict[str, Quote]: ...
    async def open_positions(self) -> tuple[Position, ...]: ...
    async def pending_orders(self) -> tuple[PendingOrder, ...]: ...
    async def closed_positions(self, since: datetime, until: datetime) -> tuple[ClosedPosition, ...]: ...
    async def candles(
        self, symbol: str, interval: Interval, since: datetime, until: datetime
    ) -> tuple[Candle, ...]: ...

    async def open_position(self, order: OpenRequest) -> str: ...
    async def create_pending(self, order: PendingRequest) -> str: ...
    async def edit_position(self, position: Position, sl_price: Decimal, tp_price: Decimal) -> None: ...
    async def close_position(self, position: Position) -> None: ...
    async def close_partially(self, position: Position, volume: Decimal) -> None: ...
    async def edit_pending(
        self, waiting: PendingOrder, activation_price: Decimal, sl_price: Decimal, tp_price: Decimal
    ) -> None: ...
    async def cancel_pending(self, waiting: PendingOrder) -> None: ...
