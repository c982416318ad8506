"""Everything the guard knows of the account at one moment. Pure; filled by `actors.desk.view`, read by the guard.

All money is integer cents in the account's currency.
"""

from __future__ import annotations

from msgspec import Struct

from actors.compliance import drawdown
from actors.compliance.rulebook import MeasuredOn
from bus.records import AccountDay, Halt, OrderPlan
from bus.vocabulary import Side


class PositionRisk(Struct, frozen=True, kw_only=True):
    """What one open position can still do to the balance.

    `loss_at_stop_cents` is negative when the stop locks a profit in, None when nothing bounds the loss.
    `profit_at_target_cents` is never negative and never below the floating profit.
    """

    id: str
    symbol: str
    side: Side
    loss_at_stop_cents: int | None
    profit_at_target_cents: int
    net_profit_cents: int  # floating, with swap and commission


class AccountView(Struct, frozen=True, kw_only=True):
    """The account as broker and store show it. A value that could not be read is None and lets nothing pass."""

    account_id: str
    currency: str
    balance_cents: int
    equity_cents: int
    free_margin_cents: int | None
    figures_at_s: float  # monotonic time at which the oldest of these figures was asked for
    day: AccountDay | None  # None: what the day started with is not known
    positions: tuple[PositionRisk, ...]
    unresolved: tuple[OrderPlan, ...]  # may or may not exist at the broker
    realised_today_cents: int
    trades_short: int
    trades_total: int
    requests_used: int  # reads and writes of the firm's day
    halts: tuple[Halt, ...]


def worst_cents(account: AccountView, order_loss_cents: int, measured_on: MeasuredOn) -> int | None:
    """Return the lowest value the account can reach with this order, or None when a position has no bound.

    Every stop is hit, this order's too, and each unresolved order exists or not, whichever is worse. On the lower of
    balance and equity, a locked-in profit does not help: the losers may be stopped first. Equity now, less what is
    still to come, bounds the result as well: it also holds what the list of positions does not show.
    """
    losses = [position.loss_at_stop_cents for position in account.positions]
    bounded = [loss for loss in losses if loss is not None]
    if len(bounded) < len(losses):
        return None
    coming_cents = order_loss_cents + sum(max(0, plan.loss_cents) for plan in account.unresolved)
    if measured_on == "lower_of_balance_and_equity":
        bounded = [max(0, loss) for loss in bounded]
    now_cents = drawdown.measured_cents(account.balance_cents, account.equity_cents, measured_on)
    return min(account.balance_cents - sum(bounded), now_cents) - coming_cents
