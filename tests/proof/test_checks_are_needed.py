"""Each check of the guard stands between a situation and its harm: with it the order is refused, by it alone;
without it the order passes and the world shows what comes of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from actors.compliance.guard import CHECKS, Case, Check, GuardResult
from actors.compliance.rulebook import RuleSet
from bus.clock import iso
from bus.records import OrderPlan
from tests.proof import firm as firm_module
from tests.proof import gate as gates
from tests.proof import rules as rule_sets
from tests.proof.gate import Gate, Unknown
from tests.proof.mutants import MUTANTS
from tests.proof.plays import GENES, MONDAY, Options, play
from tests.proof.world import MAJORS, PRICES, Held, Pair, World

DEFAULT = next(rules for rules in rule_sets.shipped() if rules.name == "e8-signature-50k")


@dataclass
class Situation:
    """An order that must not be sent, and what comes of it: `after` returns the harm, or an empty text."""

    world: World
    gate: Gate
    plan: OrderPlan
    after: Callable[[World, Gate, Held], str]
    opens: dict[str, Any] = field(default_factory=dict)  # how the broker fills it, where not as planned


def a_world(balance_cents: int = 5_000_000, rules: RuleSet = DEFAULT, reference_cents: int | None = None) -> World:
    reference = balance_cents if reference_cents is None else reference_cents
    return World(
        firm=firm_module.opened(
            rules, MONDAY, balance_cents=balance_cents, references=[reference], mark_cents=max(balance_cents, reference)
        ),
        now=MONDAY, pairs={name: Pair(name, PRICES[name], 10) for name in MAJORS}, balance=balance_cents, gap=50,
        commission_per_lot=rules.costs.commission_per_lot_cents, swap_per_lot=0,
    )  # fmt: skip


def planned(
    world: World, gate: Gate, symbol: str = "EURUSD", *, sl: float = 40, tp: float = 60, risk: str
) -> OrderPlan:
    plan = gate.plan(world, symbol, "BUY", sl_pips=sl, tp_pips=tp, risk=Decimal(risk))
    assert isinstance(plan, OrderPlan), plan
    return plan


def stopped(world: World, gate: Gate, held: Held) -> str:
    """Hit the stop, and tell whether that reached a floor."""
    bid = world.stop_bid(held)
    world.drive(held.symbol, world.pairs[held.symbol].bid * 9 // 10 if bid is None else bid)
    return at_floor(world)


def at_floor(world: World) -> str:
    return f"a floor was reached: {world.firm.margin:.3f} of the limit left" if world.firm.margin <= 0 else ""


def always(harm: str) -> Callable[[World, Gate, Held], str]:
    """Return a harm that the order itself is."""
    return lambda world, gate, held: harm


# ── the situations ──────────────────────────────────────────────────────────


def figures_fresh() -> Situation:
    """The account was read before another position had lost."""
    world, gate = a_world(4_820_000, reference_cents=5_000_000), Gate(rules=DEFAULT)
    before = gate.account(a_world())
    gate.view = {name: getattr(before, name) for name in before.__struct_fields__} | {"figures_at_s": 900.0}
    return Situation(world, gate, planned(a_world(), gate, tp=20, risk="0.03"), stopped)


def reopened_far_away(facts: dict[str, Any]) -> Situation:
    """The price that the order is filled at is far from the one it was planned on, and from its stop."""
    world, gate = a_world(), Gate(rules=DEFAULT, facts=facts)

    def after(world: World, gate: Gate, held: Held) -> str:
        held.open += 3_000
        return stopped(world, gate, held)

    return Situation(world, gate, planned(world, gate, risk="0.01"), after)


def quote_fresh() -> Situation:
    return reopened_far_away({"quote_age_s": 600.0})


def session_open() -> Situation:
    return reopened_far_away({"session_open": False})


def halted() -> Situation:
    """The day's limit was reached and equity has come back: the firm has paused the account until the reset."""
    world, gate = a_world(), Gate(rules=DEFAULT, view={"halts": (gates.halt(),)})
    return Situation(world, gate, planned(world, gate, risk="0.005"), always("an order while the firm's pause lasts"))


def intent_expired() -> Situation:
    world = a_world()
    gate = Gate(rules=DEFAULT, facts={"expires_at": world.now - timedelta(seconds=1)})
    return Situation(world, gate, planned(world, gate, risk="0.005"), always("an order on a decision that has expired"))


def day_known() -> Situation:
    """The day seen is yesterday's, which began lower than today."""
    world, gate = a_world(4_900_000, reference_cents=5_100_000), Gate(rules=DEFAULT)
    seen = gate.account(a_world(4_900_000))
    old = {"starts_at": iso(MONDAY - timedelta(days=2)), "ends_at": iso(MONDAY - timedelta(days=1))}
    days = tuple(
        msgspec.structs.replace(
            view, realised_cents=0, day=msgspec.structs.replace(view.day, day="2026-03-08", **old)
        )
        for view in seen.days
    )  # fmt: skip
    gate.view = {"days": days}
    return Situation(world, gate, planned(world, gate, tp=20, risk="0.03"), stopped)


def stop_side() -> Situation:
    """The stop of a BUY stands above it: the broker drops it, nothing bounds the loss."""
    world, gate = a_world(), Gate(rules=DEFAULT)
    plan = planned(world, gate, risk="0.01")
    wrong = msgspec.structs.replace(plan, sl_price=plan.entry_price + Decimal("0.0020"))
    return Situation(world, gate, wrong, stopped, {"sl": None})


def volume() -> Situation:
    """The broker takes whole lots only and rounds up what is none."""
    world, gate = a_world(), Gate(rules=DEFAULT, facts={"volume_step": Decimal(1), "volume_min": Decimal(1)})
    plan = planned(world, gate, sl=140, tp=60, risk="0.032")
    assert plan.volume % 1 != 0
    return Situation(world, gate, plan, stopped, {"lots100": 200})


def unresolved() -> Situation:
    """Nobody knows whether the first order of the symbol exists; the second one looks like it."""
    world, gate = a_world(), Gate(rules=DEFAULT)
    plan = planned(world, gate, risk="0.005")
    gate.unknown = [Unknown(msgspec.structs.replace(plan, volume=plan.volume - Decimal("0.01")), None)]
    return Situation(world, gate, plan, always("two orders of one symbol that a later look cannot tell apart"))


def positions() -> Situation:
    world, gate = a_world(), Gate(rules=DEFAULT)
    for symbol in ("GBPUSD", "USDJPY", "USDCHF"):
        bid = PRICES[symbol]
        world.open(symbol, "BUY", 1, bid - 500, bid + 500)

    def after(world: World, gate: Gate, held: Held) -> str:
        allowed = gate.rules.positions.open_max
        return f"{len(world.held)} positions, {allowed} allowed" if len(world.held) > allowed else ""

    return Situation(world, gate, planned(world, gate, risk="0.001"), after)


def lots() -> Situation:
    world, gate = a_world(), Gate(rules=DEFAULT)
    world.open("USDCHF", "BUY", 990, PRICES["USDCHF"] - 40, PRICES["USDCHF"] + 100)

    def after(world: World, gate: Gate, held: Held) -> str:
        held_lots = Decimal(sum(held.lots100 for held in world.held)) / 100
        return f"{held_lots} lots" if held_lots > gate.rules.positions.lots_max else ""

    return Situation(world, gate, planned(world, gate, risk="0.003"), after)


def min_hold_share() -> Situation:
    """Half of the trades were short already; this one is stopped out within seconds as well."""
    world, gate = a_world(), Gate(rules=DEFAULT)
    world.firm.trades, world.firm.short = 12, 6

    def after(world: World, gate: Gate, held: Held) -> str:
        stopped(world, gate, held)
        short, total = world.firm.short, world.firm.trades
        return f"{short} of {total} trades were short" if 2 * short >= total else ""

    return Situation(world, gate, planned(world, gate, risk="0.005"), after)


def margin() -> Situation:
    world, gate = a_world(), Gate(rules=DEFAULT, leverage=Decimal(3))

    def after(world: World, gate: Gate, held: Held) -> str:
        needed = gate.margin(world)
        return f"margin {needed} above equity {world.equity}: stopped out" if needed > world.equity else ""

    return Situation(world, gate, planned(world, gate, sl=10, tp=12, risk="0.01"), after)


def currency() -> Situation:
    """The rules are in pounds: their floors are 27% higher in the account's dollars than the guard believes."""
    pounds = rule_sets.of(DEFAULT, account={"currency": "GBP"})
    in_dollars = rule_sets.of(DEFAULT, account={"initial_balance_cents": 6_350_000})
    world, gate = a_world(5_900_000, rules=in_dollars), Gate(rules=pounds)
    return Situation(world, gate, planned(world, gate, tp=20, risk="0.015"), stopped)


def rules_current() -> Situation:
    """The file was edited while we ran: the maximum is now half of what was loaded."""
    edited = rule_sets.of(DEFAULT, maximum={"ratio": Decimal("0.04")})
    world, gate = a_world(4_900_000, rules=edited), Gate(rules=DEFAULT, facts={"rules_hash": "f" * 64})
    return Situation(world, gate, planned(world, gate, tp=20, risk="0.03"), stopped)


def attested() -> Situation:
    world, gate = a_world(), Gate(rules=DEFAULT, facts={"needs_attestation": True})
    return Situation(world, gate, planned(world, gate, risk="0.005"), always("a live order that nobody attested"))


def bars_fresh() -> Situation:
    world, gate = a_world(), Gate(rules=DEFAULT, facts={"bar_age_days": 30})
    return Situation(world, gate, planned(world, gate, risk="0.005"), always("a trade on a ranking a month old"))


def account_sane() -> Situation:
    """Money that no trade explains is taken back by the broker after the order."""
    world, gate = a_world(), Gate(rules=DEFAULT, view={"unexplained_cents": 2_000_000})
    world.balance += 2_000_000

    def after(world: World, gate: Gate, held: Held) -> str:
        world.balance -= 2_000_000
        return stopped(world, gate, held)

    return Situation(world, gate, planned(world, gate, tp=20, risk="0.0424"), after)


def flat() -> Situation:
    """A quarter of an hour before no position may be open."""
    rules = rule_sets.of(DEFAULT, flat={"daily_by": "23:00", "reopen_at": "00:15"})
    world, gate = a_world(rules=rules), Gate(rules=rules)
    world.now = MONDAY.replace(hour=20, minute=45)  # 22:45 in Athens

    def after(world: World, gate: Gate, held: Held) -> str:
        world.now += timedelta(minutes=20)
        return f"{len(world.held)} position open at {world.now}"

    return Situation(world, gate, planned(world, gate, risk="0.005"), after)


def news() -> Situation:
    """High-impact news of the dollar come in a minute."""
    rules = rule_sets.of(DEFAULT, news={"window_minutes": 2})
    world, gate = a_world(rules=rules), Gate(rules=rules)
    world.firm.news = ((world.now + timedelta(minutes=1), "USD"),)

    def after(world: World, gate: Gate, held: Held) -> str:
        at, currency = world.firm.news[0]
        return f"{held.symbol} opened at {world.now}, {currency} news at {at}"

    return Situation(world, gate, planned(world, gate, risk="0.005"), after)


def requests() -> Situation:
    """Sending and looking takes the last requests of the day: nothing is left to close with."""
    world, gate = a_world(), Gate(rules=DEFAULT, view={"reads_used": 1_900, "writes_used": 98})

    def after(world: World, gate: Gate, held: Held) -> str:
        left = gate.rules.requests.per_day - 1_998 - 2
        return "no request is left to close the position" if left < 2 else ""

    return Situation(world, gate, planned(world, gate, risk="0.005"), after)


SITUATIONS: dict[str, Callable[[], Situation]] = {
    made.__name__: made
    for made in (
        figures_fresh, quote_fresh, session_open, halted, intent_expired, day_known, stop_side, volume, unresolved,
        positions, lots, min_hold_share, margin, currency, rules_current, attested, bars_fresh, account_sane, flat,
        news, requests,
    )
}  # fmt: skip


# ── with the check and without it ───────────────────────────────────────────


def named_checks() -> dict[str, Callable[[Case], Check]]:
    """Return the guard's checks by the names they give themselves."""
    world, gate = a_world(), Gate(rules=DEFAULT)
    plan = planned(world, gate, risk="0.005")
    case = Case(plan=plan, account=gate.account(world), rules=DEFAULT, facts=gate.trade_facts(world, plan))
    return {check(case).name: check for check in CHECKS}


RULES_OF_ALL_KINDS = (*rule_sets.shipped(), *(rule_sets.by_chance(DEFAULT, number) for number in range(40)))
BY_NAME = named_checks()

# Checks that another one covers whole. They stay: their figures are recorded, or are what the store works out again.
COVERED = {
    "position_without_stop": ("without a bound there is no worst case, and every limit refuses", "max_drawdown"),
}


def test_every_check_has_a_situation_a_mutant_or_one_that_covers_it() -> None:
    searched = {name for mutant in MUTANTS.values() for name in mutant.without if len(mutant.without) == 1}
    assert set(BY_NAME) == set(SITUATIONS) | searched | set(COVERED)


@pytest.mark.parametrize("name", sorted(COVERED))
def test_covered_check_never_refuses_alone(name: str) -> None:
    _, covering = COVERED[name]
    refusals = 0

    def watched(gate: Gate) -> None:
        real = gate.ask

        def ask(world: World, plan: OrderPlan) -> GuardResult:
            nonlocal refusals
            result = real(world, plan)
            failed = {check.name for check in result.checks if not check.passed}
            refusals += name in failed
            assert name not in failed or covering in failed, failed
            return result

        gate.ask = ask  # type: ignore[method-assign]

    chance = random.Random(3)
    options = Options(rules=RULES_OF_ALL_KINDS, change=watched, unbounded=name == "position_without_stop")
    for _ in range(400):
        play([chance.random() for _ in range(GENES)], options)
        if refusals >= 10:
            break
    assert refusals >= 3, "the check never refused: nothing was shown"


def test_an_ordinary_order_passes_every_check() -> None:
    world, gate = a_world(), Gate(rules=DEFAULT)
    result = gate.ask(world, planned(world, gate, risk="0.005"))
    assert result.passed, result.reason


@pytest.mark.parametrize("name", sorted(SITUATIONS))
def test_check_refuses_what_would_do_harm_without_it(name: str) -> None:
    situation = SITUATIONS[name]()
    world, gate, plan = situation.world, situation.gate, situation.plan
    refused = gate.ask(world, plan)
    assert [check.name for check in refused.checks if not check.passed] == [name], refused.reason

    gate.checks = tuple(check for own, check in BY_NAME.items() if own != name)
    passed = gate.ask(world, plan)
    assert passed.passed, passed.reason
    world.firm.passed = True
    pair = world.pairs[plan.symbol]
    opens: dict[str, Any] = {"lots100": int(plan.volume * 100), "sl": pair.points(plan.sl_price)} | situation.opens
    held = world.open(plan.symbol, plan.side, tp=pair.points(plan.tp_price) or None, **opens)
    assert situation.after(world, gate, held), "no harm came of it"
