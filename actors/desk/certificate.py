"""The guard's figures as they travel with a reservation: the store works them out again. Pure; used by the executor."""

from __future__ import annotations

from actors.compliance import drawdown
from actors.compliance.account import AccountView, worst_cents
from actors.compliance.drawdown import Limit
from actors.compliance.rulebook import RuleSet
from actors.desk.view import View
from bus.clock import iso
from bus.records import Certificate, Loss, LossLine, OrderPlan


class Unbounded(Exception):
    """Something has no bound or a limit is not known: no certificate can be made. The guard refuses such an order."""


def certificate(view: View, plan: OrderPlan, rules: RuleSet) -> Certificate:
    """Return the figures that this order was passed with.

    Raises:
        Unbounded: a loss without bound, or a limit that cannot be said.
    """
    account = view.account
    limits = drawdown.lines(
        rules,
        days=tuple(known.day for known in account.days),
        marks=account.marks,
        balance_cents=account.balance_cents,
        equity_cents=account.equity_cents,
    )
    if isinstance(limits, str):
        raise Unbounded(limits)
    return Certificate(
        rules=rules.name,
        rules_hash=rules.fingerprint,
        account_id=account.account_id,
        account_version=account.version,
        read_at=iso(account.read_at),
        balance_cents=account.balance_cents,
        equity_cents=account.equity_cents,
        positions=tuple(_loss(held.id, held.loss_at_stop_cents) for held in account.positions),
        pending=tuple(_loss(order.id, order.loss_cents) for order in account.pending),
        unresolved=tuple(_loss(order.intent_id, order.plan.loss_cents) for order in view.unresolved),
        closed=view.closed,
        order_loss_cents=plan.loss_cents,
        lines=tuple(_line(limit, account, plan) for limit in limits),
    )


def _line(limit: Limit, account: AccountView, plan: OrderPlan) -> LossLine:
    worst = worst_cents(account, plan.loss_cents, limit)
    if worst is None:
        raise Unbounded("a position or a waiting order has no stop that can be valued")
    return LossLine(
        name=limit.name,
        reference_cents=limit.reference_cents,
        amount_cents=limit.amount_cents,
        stop_cents=limit.stop_cents,
        measured_cents=drawdown.measured_cents(account.balance_cents, account.equity_cents, limit.measured_on),
        worst_cents=worst,
        measured_on=limit.measured_on,
    )


def _loss(name: str, loss_cents: int | None) -> Loss:
    if loss_cents is None:
        raise Unbounded(f"the loss of {name} has no bound")
    return Loss(id=name, loss_cents=loss_cents)
