"""What became of an order whose outcome is not certain: look, match, and only then say so. Used by the executor.

Never sends an order. "Absent" is concluded only from a look that STARTED after the quiet deadline; anything that could
be the order but does not prove it leaves the outcome unknown and halts the account.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from loguru import logger
from msgspec import Struct

from actors.broker import reconcile
from actors.broker.client import BrokerClient
from actors.broker.errors import BrokerError
from actors.broker.reconcile import Ambiguous, FoundClosed, FoundOpen
from actors.broker.wire import ClosedPosition, Position
from bus import clock as clocks
from bus.clock import Clock
from bus.failpoints import reach
from bus.records import Order
from store.queries import Reader

HISTORY_MARGIN_S = 3_600.0  # asked for before the reservation and after now: clocks differ


class Missing(Struct, frozen=True):
    """The order certainly does not exist."""

    reason: str


class Unclear(Struct, frozen=True):
    """The order may exist and cannot be told from other positions."""

    reason: str


class Stopped(Struct, frozen=True):
    """We were asked to stop before the outcome was certain; the next start goes on."""


Look = FoundOpen | FoundClosed | Ambiguous | reconcile.Absent
Settled = FoundOpen | FoundClosed | Missing | Unclear | Stopped


class Settler:
    """Looks for one order until its outcome is certain."""

    def __init__(
        self,
        client: BrokerClient,
        reader: Reader,
        clock: Clock,
        sleep: Callable[[float], Awaitable[bool]],
        *,
        look_interval_s: float,
    ) -> None:
        self._client = client
        self._reader = reader
        self._clock = clock
        self._sleep = sleep
        self._look_interval_s = look_interval_s

    async def settle(self, order: Order, *, quiet_until_s: float, accepted_id: str | None = None) -> Settled:
        """Look until the order is found, certainly absent, or unclear. A broker that is down is waited for.

        `quiet_until_s` is monotonic: the last instant at which the request could have left, plus the quiet period.
        `accepted_id` is the id that the broker gave with its OK: then only that position is the order, and its absence
        is unclear instead of absent.
        """
        warned = ""
        while True:
            started_s = self._clock.monotonic()  # before the look: a freeze in between must not make an old look new
            try:
                found = await self._look(order, accepted_id)
            except BrokerError as error:
                if str(error) != warned:
                    warned = str(error)
                    logger.warning("Could not look for the order of {}: {}", order.intent_id, error)
            else:
                if isinstance(found, (FoundOpen, FoundClosed)):
                    return found
                if isinstance(found, Ambiguous):
                    return Unclear(found.reason)
                if started_s >= quiet_until_s:
                    return _concluded(found.similar, accepted_id)
            if await self._sleep(self._look_interval_s):
                return Stopped()

    async def _look(self, order: Order, accepted_id: str | None) -> Look:
        reach("executor.before_look")
        since = clocks.parse(order.reserved_at) - timedelta(seconds=HISTORY_MARGIN_S)
        positions = await self._client.open_positions()
        until = self._clock.now() + timedelta(seconds=HISTORY_MARGIN_S)
        closed = await self._client.closed_positions(since, until)
        reach("executor.after_look")
        if accepted_id is not None:
            return _by_id(accepted_id, positions, closed)
        return reconcile.match(order, positions, closed, self._reader.owned_position_ids())


def _by_id(wanted: str, positions: tuple[Position, ...], closed: tuple[ClosedPosition, ...]) -> Look:
    """Return the position that the broker named, wherever it is."""
    for position in positions:
        if position.id == wanted:
            return FoundOpen(position)
    for row in closed:
        if row.id == wanted:
            return FoundClosed(row)
    return reconcile.Absent()


def _concluded(similar: tuple[str, ...], accepted_id: str | None) -> Missing | Unclear:
    if accepted_id is not None:
        return Unclear(f"the broker accepted it as {accepted_id}, but shows it neither open nor closed")
    if similar:
        return Unclear(f"not found, but positions that nobody owns are like it: {', '.join(similar)}")
    return Missing("not at the broker, by a look that started after the quiet period")
