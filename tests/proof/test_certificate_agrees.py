"""Guard and store work the loss limits out by different code: over the plays of the adversary they never disagree."""

from __future__ import annotations

import functools
import random
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from actors.compliance.case import GuardResult
from actors.desk import certificate as certificates
from bus.messages import ReserveOrder
from bus.records import AccountDay, AccountMark, Order, OrderPlan
from bus.vocabulary import OrderStatus
from store import certificate as store_certificate
from store import rules as store_rules
from store.decisions import Refused
from store.owner import Owner
from tests.proof import rules as rule_sets
from tests.proof.gate import ACCOUNT_ID, Gate
from tests.proof.plays import GENES, Options, play
from tests.proof.world import World

SHIPPED = rule_sets.shipped()
COMPARED = {"daily_drawdown", "next_day_drawdown", "max_drawdown", "next_max_drawdown"}


class Rows:
    """The store's rows about the world, as its reader gives them."""

    def __init__(self, gate: Gate, world: World, seen: Any) -> None:
        self.orders = {f"intent-{number}": order.plan for number, order in enumerate(gate.unknown)}
        self._days: list[AccountDay] = [view.day for view in seen.days]
        self._marks: tuple[AccountMark, ...] = seen.marks

    def foreign_to(self, ours: Owner) -> str:
        return ""

    def account_version(self) -> int:
        return 1

    def account_day_at(self, account_id: str, reset: str, at: str) -> AccountDay | None:
        assert account_id == ACCOUNT_ID
        return next((day for day in self._days if day.reset == reset and day.starts_at <= at < day.ends_at), None)

    def account_mark(self, account_id: str, kind: str) -> AccountMark | None:
        return next((mark for mark in self._marks if mark.kind == kind), None)

    def active_positions(self) -> tuple[Any, ...]:
        return ()

    def unresolved_orders(self) -> tuple[Order, ...]:
        found = (self.order(intent_id) for intent_id in self.orders)
        return tuple(found)

    def order(self, intent_id: str) -> Order:
        at = "2026-03-09T12:00:00.000Z"
        return Order(
            intent_id=intent_id, status=OrderStatus.UNKNOWN, plan=self.orders[intent_id], baseline=(), reserved_at=at,
            deadline_at=at,
        )  # fmt: skip

    def attestation(self, account_id: str, rules_hash: str) -> None:
        raise AssertionError("nothing to attest on paper")


numbers_of = functools.cache(store_rules.read)


def by_store(gate: Gate, world: World, plan: OrderPlan, now: datetime) -> tuple[str, str]:
    """Return the store's answer and the halt it would raise; empty texts when it grants."""
    seen = gate.account(world)
    rows = Rows(gate, world, seen)
    looked: Any = SimpleNamespace(account=seen, unresolved=rows.unresolved_orders(), closed=())
    made = certificates.certificate(looked, plan, gate.rules)
    asked = ReserveOrder(
        intent_id="intent", epoch=1, plan=plan, baseline=(), deadline_at="", compliance_snapshot="", certificate=made
    )
    numbers = numbers_of(gate.rules.name)
    reader: Any = rows
    try:
        store_certificate.Gate(numbers, owner=Owner("", ACCOUNT_ID), needs_attestation=False).check(asked, reader, now)
    except Refused as refused:
        return str(refused), refused.halt or ""
    return "", ""


@pytest.mark.parametrize("rules", SHIPPED, ids=lambda rules: rules.name)
def test_store_grants_what_the_limits_let_through_and_refuses_what_they_refuse(rules: Any) -> None:
    granted, refused = 0, 0

    def compared(gate: Gate) -> None:
        real = gate.ask

        def ask(world: World, plan: OrderPlan) -> GuardResult:
            nonlocal granted, refused
            result = real(world, plan)
            failed = sorted(check.name for check in result.checks if not check.passed and check.name in COMPARED)
            answer, halt = by_store(gate, world, plan, world.now)
            assert bool(answer) == bool(failed), (failed, answer, world.story)
            assert not answer or halt.startswith("certificate: "), answer
            granted, refused = granted + (not answer), refused + bool(answer)
            return result

        gate.ask = ask  # type: ignore[method-assign]

    chance = random.Random(11)
    for _ in range(60):
        play([chance.random() for _ in range(GENES)], Options(rules=(rules,), change=compared))
    assert granted >= 10
    assert refused >= 10
