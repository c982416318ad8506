"""The only place that opens a position: one request for one reserved order. Used by the executor.

Never decides whether an order may be sent; its callers do, right before.
"""

from __future__ import annotations

from actors.broker.account import Account
from actors.broker.errors import BrokerError
from actors.broker.wire import OpenRequest
from bus.clock import Clock
from bus.records import Order


class Sender:
    """Sends the orders of one account.

    `left_s` is the last instant, monotonic, at which one may have left: no request of an earlier life can have left
    after our birth, since its process was dead when ours took the lock; ours leave before `send` returns.
    """

    def __init__(self, client: Account, clock: Clock) -> None:
        self.left_s = clock.monotonic()
        self._client = client
        self._clock = clock

    async def send(self, order: Order) -> str | BrokerError:
        """Return the id that the broker gave to the order, or what went wrong."""
        try:
            return await self._client.open_position(request(order))
        except BrokerError as error:
            return error
        finally:
            self.left_s = self._clock.monotonic()


def request(order: Order) -> OpenRequest:
    """Return the request of an order: the same, number for number, each time it is made."""
    plan = order.plan
    return OpenRequest(
        broker_symbol=plan.broker_symbol,
        side=plan.side,
        volume=plan.volume,
        sl_price=plan.sl_price,
        tp_price=plan.tp_price,
        idempotency_key=order.idempotency_key or "",
        comment=order.intent_id,
    )
