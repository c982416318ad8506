"""The only way in which stop and target of an open position are changed: tighter is allowed, looser never.

Library of the executor; the monitor changes no stop. What a position can lose was passed by the gate with the stop it
had; a looser one would be a risk that nobody has checked.
"""

from __future__ import annotations

from decimal import Decimal

from actors.broker.account import Account
from actors.broker.errors import Refused
from actors.broker.wire import Position
from bus.failpoints import reach


def loosening(position: Position, sl_price: Decimal) -> str:
    """Return why a stop must not become this one; empty when it may. The same stop is no change."""
    found = position.sl_price
    if not sl_price.is_finite() or sl_price <= 0:
        return f"the stop of {position.id} would be {sl_price}; a position must have one"
    if found is None or found <= 0:
        return ""
    if sl_price < found if position.side == "BUY" else sl_price > found:
        return f"the stop of {position.side} {position.id} would be {sl_price}, looser than {found}"
    return ""


async def edit(client: Account, position: Position, sl_price: Decimal, tp_price: Decimal) -> None:
    """Set stop and target (0 = none) of a position as it was just read. Verify by reading back.

    Raises:
        Refused: the stop would be looser, and nothing was sent; or the broker said no.
        NotSent: nothing changed.
        UnknownOutcome: it may have changed.
    """
    if why := loosening(position, sl_price):
        raise Refused(why)
    reach("executor.before_edit")  # setting stop and target
    try:
        await client.edit_position(position, sl_price, tp_price)
    finally:
        reach("executor.after_edit")
