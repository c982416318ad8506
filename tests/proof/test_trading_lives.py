"""A gate that refuses everything is safe and useless: ordinary days must be traded, down to the stop level."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from actors.compliance.guard import GuardResult
from actors.compliance.rulebook import RuleSet
from actors.compliance.sizing import Unsized
from config import settings
from tests.proof import firm as firm_module
from tests.proof import rules as rule_sets
from tests.proof.gate import Gate
from tests.proof.plays import MONDAY
from tests.proof.world import MAJORS, PRICES, Held, Pair, World

DEFAULTS = settings.Executor()
RISK = Decimal(str(DEFAULTS.risk_per_trade_ratio))
SHIPPED = rule_sets.shipped()
DEFAULT = next(rules for rules in SHIPPED if rules.name == "e8-signature-50k")


def a_world(rules: RuleSet) -> World:
    initial = rules.account.initial_balance_cents
    return World(
        firm=firm_module.opened(rules, MONDAY, balance_cents=initial, references=[initial], mark_cents=initial),
        now=MONDAY, pairs={name: Pair(name, PRICES[name], 10) for name in MAJORS}, balance=initial, gap=0,
        commission_per_lot=0, swap_per_lot=0,
    )  # fmt: skip


def a_gate(rules: RuleSet) -> Gate:
    return Gate(rules=rules, gap_pips=int(DEFAULTS.gap_allowance_pips))


def traded(world: World, gate: Gate, symbol: str, *, sl_pips: float = 30, tp_pips: float = 60) -> Held | GuardResult:
    """Ask for an order of the default risk and open it when it passes."""
    plan = gate.plan(world, symbol, "BUY", sl_pips=sl_pips, tp_pips=tp_pips, risk=RISK)
    assert not isinstance(plan, Unsized), plan
    result = gate.ask(world, plan)
    if not result.passed:
        return result
    pair = world.pairs[symbol]
    volume = int(plan.volume * 100)
    return world.open(symbol, "BUY", volume, pair.points(plan.sl_price), pair.points(plan.tp_price))


def stopped_later(world: World, held: Held) -> None:
    """Hit the stop five minutes after the opening."""
    world.now += timedelta(minutes=5)
    world.drive(held.symbol, held.sl or 0)


@pytest.mark.parametrize("rules", SHIPPED, ids=lambda rules: rules.name)
def test_ordinary_order_passes_on_a_fresh_account(rules: RuleSet) -> None:
    found = traded(a_world(rules), a_gate(rules), "EURUSD")
    assert isinstance(found, Held), found.reason


@pytest.mark.parametrize("rules", SHIPPED, ids=lambda rules: rules.name)
def test_as_many_positions_as_allowed_can_be_open_up_to_three(rules: RuleSet) -> None:
    world, gate = a_world(rules), a_gate(rules)
    for symbol in MAJORS[: min(3, rules.positions.open_max)]:
        found = traded(world, gate, symbol)
        assert isinstance(found, Held), found.reason


def test_losing_day_is_traded_down_to_the_stop_level_and_not_beyond() -> None:
    world, gate = a_world(DEFAULT), a_gate(DEFAULT)
    losses = 0
    while isinstance(found := traded(world, gate, "EURUSD"), Held):
        stopped_later(world, found)
        losses += 1
    assert found.rule == "daily_drawdown"
    stop = 5_000_000 - int(Decimal("0.85") * 250_000)
    assert stop < world.equity < stop + int(RISK * 5_000_000) + 100, "stopped too early"
    assert losses >= 8


def test_the_day_after_a_losing_day_is_traded_again() -> None:
    world, gate = a_world(DEFAULT), a_gate(DEFAULT)
    while isinstance(found := traded(world, gate, "EURUSD"), Held):
        stopped_later(world, found)
    world.advance(MONDAY.replace(day=10))
    again = traded(world, gate, "EURUSD")
    assert isinstance(again, Held), again.reason
