"""Everything the guard knows of the account at one moment. Pure; filled by `actors.desk.view`, read by the guard.

All money is integer cents in the account's currency.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from msgspec import Struct

from actors.compliance import drawdown
from actors.compliance.drawdown import Limit
from bus.records import AccountDay, AccountMark, Halt, OrderPlan
from bus.vocabulary import Side


class PositionRisk(Struct, frozen=True, kw_only=True):
    """What one open position can still do to the balance.

    `loss_at_stop_cents` is negative when the stop locks a profit in, None when nothing bounds the loss.
    `profit_at_target_cents` is never negative and never below the floating profit; a bound only with a target.
    """

    id: str
    symbol: str
    side: Side
    volume: Decimal  # lots
    loss_at_stop_cents: int | None
    profit_at_target_cents: int
    has_target: bool
    net_profit_cents: int  # floating, with swap and commission


class PendingRisk(Struct, frozen=True, kw_only=True):
    """An order that waits at the broker for its price: it may be filled and then stopped."""

    id: str
    symbol: str
    side: Side
    volume: Decimal  # lots
    loss_cents: int | None  # None: nothing bounds it
    profit_cents: int
    has_target: bool


class DayView(Struct, frozen=True, kw_only=True):
    """One reading of the firm's day, and what was closed in it."""

    day: AccountDay
    realised_cents: int  # net profit of the rows closed since its beginning, cash flows apart


class AccountView(Struct, frozen=True, kw_only=True):
    """The account as broker and store show it. A value that could not be read is None and lets nothing pass."""

    account_id: str
    currency: str
    balance_cents: int
    equity_cents: int
    free_margin_cents: int | None
    figures_at_s: float  # monotonic time at which the oldest of these figures was asked for
    read_at: datetime  # the same moment by the wall clock
    version: int  # of the store's account, read before the broker was
    days: tuple[DayView, ...]  # one per reading of the reset; a missing one is not known
    marks: tuple[AccountMark, ...]  # what a trailing maximum loss is counted from
    unexplained_cents: int | None  # balance now, less what day's start and history make of it; None: not known
    positions: tuple[PositionRisk, ...]
    pending: tuple[PendingRisk, ...]
    unresolved: tuple[OrderPlan, ...]  # may or may not exist at the broker
    trades_short: int  # closed, and held shorter than the firm wants
    trades_total: int
    trades_young: int  # open, and not held for so long yet
    reads_used: int  # of the firm's day, as granted; the stricter reading
    writes_used: int
    halts: tuple[Halt, ...]

    @property
    def exposures(self) -> int:
        """Return how many positions there may be without this order: open, waiting, or of unknown outcome."""
        return len(self.positions) + len(self.pending) + len(self.unresolved)


def coming_cents(account: AccountView, order_loss_cents: int) -> int | None:
    """Return what this order, every unknown order and every waiting one can lose, or None without a bound."""
    waiting = [order.loss_cents for order in account.pending]
    bounded = [loss for loss in waiting if loss is not None]
    if len(bounded) < len(waiting):
        return None
    unresolved = [plan.loss_cents for plan in account.unresolved]
    return order_loss_cents + sum(max(0, loss) for loss in (*unresolved, *bounded))


def worst_cents(account: AccountView, order_loss_cents: int, limit: Limit) -> int | None:
    """Return the lowest value that this limit can see with this order, or None when something has no bound.

    Every stop is hit, this order's too, waiting orders are filled and stopped, and each unresolved order exists or not,
    whichever is worse. A profit that a stop locks in helps only where equity is measured and the reference stands: on
    the lower of balance and equity the losers may be stopped first, and where the reference rises the winner, closed
    first, takes it along. The value now, less what is still to come, bounds the result as well: it also holds what the
    list of positions does not show. Source: docs/compliance.md, "The worst case".
    """
    losses = [position.loss_at_stop_cents for position in account.positions]
    bounded = [loss for loss in losses if loss is not None]
    coming = coming_cents(account, order_loss_cents)
    if len(bounded) < len(losses) or coming is None:
        return None
    if limit.measured_on == "lower_of_balance_and_equity" or limit.rises:
        bounded = [max(0, loss) for loss in bounded]
    now_cents = drawdown.measured_cents(account.balance_cents, account.equity_cents, limit.measured_on)
    return min(account.balance_cents - sum(bounded), now_cents) - coming


def peak_cents(account: AccountView, plan: OrderPlan) -> int | None:
    """Return the highest equity the account can float at: every target reached, nothing closed, every order there.

    None when a target is missing, which leaves no bound.
    """
    targets = [position.has_target for position in account.positions] + [order.has_target for order in account.pending]
    targets += [other.tp_price != 0 for other in (*account.unresolved, plan)]
    if not all(targets):
        return None
    gains = [position.profit_at_target_cents for position in account.positions]
    gains += [order.profit_cents for order in account.pending]
    gains += [other.profit_cents for other in (*account.unresolved, plan)]
    return max(account.equity_cents, account.balance_cents + sum(max(0, gain) for gain in gains))
