"""What became of an order whose outcome is not certain: look, match, and only then say so. Used by the executor.

Never sends an order. "Absent" is concluded only from looks that STARTED after the quiet deadline, two in a row, since
one list may come out of a cache; anything that could be the order but does not prove it leaves the outcome unknown and
halts the account.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from loguru import logger
from msgspec import Struct

from actors.broker import reconcile
from actors.broker.account import Account
from actors.broker.errors import BrokerError, Transient
from actors.broker.reconcile import Ambiguous, FoundClosed, FoundOpen
from actors.broker.wire import ClosedPosition, Position
from bus import clock as clocks
from bus.clock import Clock
from bus.failpoints import reach
from bus.records import Order
from store.queries import Reader

HISTORY_MARGIN_S = 172_800.0  # asked for on both sides: clocks differ, and a wide look costs the same one request
LOOKS_MIN = 2
LOOK_INTERVAL_S_MAX = 30.0  # while the broker does not answer: every request counts against the day's budget


class Missing(Struct, frozen=True):
    """The order certainly does not exist."""

    reason: str


class Unclear(Struct, frozen=True):
    """The order may exist and cannot be told from other positions."""

    reason: str


class Stopped(Struct, frozen=True):
    """We were asked to stop, or lost the lease, before the outcome was certain. Whoever has the lease next goes on."""


Look = FoundOpen | FoundClosed | Ambiguous | reconcile.Absent
Settled = FoundOpen | FoundClosed | Missing | Unclear | Stopped


class Settler:
    """Looks for one order until its outcome is certain."""

    def __init__(
        self,
        client: Account,
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

    async def settle(
        self, order: Order, *, quiet_until_s: float, is_ours: Callable[[], bool], accepted_id: str | None = None
    ) -> Settled:
        """Look until the order is found, certainly absent, or unclear. A broker that is down is waited for.

        `quiet_until_s` is monotonic: the last instant at which the request could have left, plus the quiet period.
        `is_ours` tells whether the lease is still held: the operator may settle the order meanwhile.
        `accepted_id` is the id that the broker gave with its OK: then only that position is the order, and its absence
        is unclear instead of absent.
        """
        warned, wait_s, quiet_looks = "", self._look_interval_s, 0
        while is_ours():
            started_s = self._clock.monotonic()  # before the look: a freeze in between must not make an old look new
            is_quiet = started_s >= quiet_until_s
            try:
                found = await self._look(order, accepted_id)
            except BrokerError as error:
                if str(error) != warned:
                    warned = str(error)
                    logger.warning("Could not look for the order of {}: {}", order.intent_id, error)
                wait_s, quiet_looks = self._after(error, wait_s), 0
            else:
                quiet_looks += is_quiet
                if quiet_looks < LOOKS_MIN and _is_part(found, order):
                    found = reconcile.Absent()
                if isinstance(found, (FoundOpen, FoundClosed)):
                    return found
                if isinstance(found, Ambiguous):
                    return Unclear(found.reason)
                if quiet_looks >= LOOKS_MIN:
                    return _concluded(found.similar, accepted_id)
                wait_s = self._look_interval_s
            if await self._sleep(wait_s):
                break
        return Stopped()

    def _after(self, error: BrokerError, waited_s: float) -> float:
        """Return how long to wait after a look that failed: twice as long as before, or what the broker asks for."""
        asked_s = error.retry_after_s if isinstance(error, Transient) else None
        return max(asked_s or 0.0, min(2 * waited_s, max(LOOK_INTERVAL_S_MAX, self._look_interval_s)))

    async def _look(self, order: Order, accepted_id: str | None) -> Look:
        reach("executor.before_look")  # looking for an order whose outcome is not certain
        since = clocks.parse(order.reserved_at) - timedelta(seconds=HISTORY_MARGIN_S)
        positions = await self._client.open_positions()
        # A wall clock that was set back since must not end the look before the order existed.
        until = max(self._clock.now(), clocks.parse(order.reserved_at)) + timedelta(seconds=HISTORY_MARGIN_S)
        closed = await self._client.closed_positions(since, until)
        reach("executor.after_look")
        seen = {position.id for position in positions} | {row.id for row in closed}
        owned_ids = self._reader.owned_position_ids(seen)  # of those only: all orders are many
        matched = reconcile.match(order, positions, closed, owned_ids)
        if accepted_id is None:
            return matched
        named = _by_id(accepted_id, positions, closed)
        if named is None:
            return reconcile.Absent(similar=_ids(matched))
        position = named.position if isinstance(named, FoundOpen) else named.row
        ours = reconcile.named(order, positions, closed, owned_ids)
        if {one.id for one in ours} - {accepted_id}:  # one key, and more than one position
            ids = tuple(sorted({accepted_id, *(one.id for one in ours)}))
            return Ambiguous(ids, f"the broker accepted it as {accepted_id}; its comment is on {', '.join(ids)}")
        is_another = (position.broker_symbol, position.side) != (order.plan.broker_symbol, order.plan.side)
        is_another = is_another or reconcile.is_of_another(position, order)
        if is_another or accepted_id in owned_ids.union(order.baseline):
            candidates = _ids(matched)
            text = f"the broker accepted it as {accepted_id}, which is another position{_like_it(candidates)}"
            return Ambiguous(candidates, text)
        return named


def _is_part(found: Look, order: Order) -> bool:
    """Return whether what was found is closed with fewer lots than ordered: filled in part, or the rest is hidden."""
    return isinstance(found, FoundClosed) and reconcile.is_part(found.row, order.plan.volume)


def _by_id(
    wanted: str, positions: tuple[Position, ...], closed: tuple[ClosedPosition, ...]
) -> FoundOpen | FoundClosed | None:
    """Return the position that the broker named, wherever it is."""
    for position in positions:
        if position.id == wanted:
            return FoundOpen(position)
    rows = reconcile.whole([row for row in closed if row.id == wanted])
    return FoundClosed(rows[0]) if rows else None


def _ids(matched: reconcile.Match) -> tuple[str, ...]:
    """Return what fits or resembles the order, for people."""
    if isinstance(matched, FoundOpen):
        return (matched.position.id,)
    if isinstance(matched, FoundClosed):
        return (matched.row.id,)
    return matched.ids if isinstance(matched, Ambiguous) else matched.similar


def _like_it(ids: tuple[str, ...]) -> str:
    return f"; like the order: {', '.join(ids)}" if ids else ""


def _concluded(similar: tuple[str, ...], accepted_id: str | None) -> Missing | Unclear:
    if accepted_id is not None:
        text = f"the broker accepted it as {accepted_id}, but shows it neither open nor closed"
        return Unclear(text + _like_it(similar))
    if similar:
        return Unclear(f"not found, but positions that nobody owns are like it: {', '.join(similar)}")
    return Missing("not at the broker, by looks that started after the quiet period")
