"""What the paper broker logs about orders and positions.

Used by `venue`. Decides nothing.
"""

from __future__ import annotations

from decimal import Decimal

from loguru import logger

from actors.broker.paper.values import Cancelled, Closed, Opened


def opened(event: Opened) -> None:
    """Say that an order became a position."""
    held = event.holding
    logger.info(
        "Opened {} {} {} at {} (simulated) as position {}",
        held.side, held.volume, held.symbol, held.open_price, held.id,
    )  # fmt: skip


def closed(event: Closed) -> None:
    """Say that a position, or a part of it, is closed."""
    done = event.operation
    logger.info(
        "Closed {} {} {} at {} (simulated), position {}: {}, net {:.2f}",
        done.side, done.volume, done.symbol, done.close_price, done.id, done.reason,
        Decimal(done.net_profit_cents) / 100,
    )  # fmt: skip


def triggered(event: Opened | Cancelled) -> None:
    """Say what became of an order whose price came."""
    if isinstance(event, Cancelled):
        logger.info("Dropped order {}: its price came and {}", event.id, event.reason)
        return
    held = event.holding
    logger.info(
        "Filled order {}: {} {} {} at {} (simulated)", held.id, held.side, held.volume, held.symbol, held.open_price
    )
