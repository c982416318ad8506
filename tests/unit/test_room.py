"""How much room the account has to its limits: by the same functions as the guard, and never a guess."""

from __future__ import annotations

from typing import Any

import pytest

from actors.compliance import drawdown
from actors.compliance import marks as trailing
from actors.console import room
from actors.console.room import Room
from bus import messages
from bus.vocabulary import Role
from tests.kit.builders import a_mark, a_peer, a_sample
from tests.kit.compliance import the_rules
from tests.kit.gate import a_gate, keep_days
from tests.kit.store import StoreHarness

MONITOR = a_peer(Role.MONITOR)


def a_store(name: str = "e8-signature-50k", *, days: bool = True) -> StoreHarness:
    store = StoreHarness(gate=a_gate(name))
    if days:
        keep_days(store.db, store.gate, store.clock.now())
    return store


def read(store: StoreHarness, balance_cents: int, equity_cents: int, **changes: Any) -> None:
    sample = a_sample(balance_cents=balance_cents, equity_cents=equity_cents, **changes)
    store.tell(MONITOR, messages.SampleEquity(sample=sample))


def seen(store: StoreHarness, name: str = "e8-signature-50k") -> Room:
    return room.of(store.read, the_rules(name), "PAPER-1", store.clock.now())


def test_without_a_reading_nothing_is_said_of_limits() -> None:
    found = seen(a_store())
    assert (found.at, found.limits, found.narrowest, found.best_day) == (None, (), None, None)
    assert found.unknown == ("the account was not read yet",)
    assert found.budget.left == 1_950


def test_a_day_that_is_not_known_is_named_and_left_out() -> None:
    store = a_store(days=False)
    read(store, 5_000_000, 4_900_000)
    found = seen(store)
    assert [one.name for one in found.limits] == ["maximum"]
    assert found.unknown == tuple(
        f"what the day by {reset} started with is not known"
        for reset in ("00:00 Europe/Athens", "17:00 America/New_York")
    )


def test_a_mark_that_is_not_known_is_named_until_it_is() -> None:
    name = "e8-one-5k"
    store, kind = a_store(name), trailing.kind_of(the_rules(name))
    assert kind is not None
    read(store, 500_000, 500_000)
    assert [f"highest {kind}" in one for one in seen(store, name).unknown] == [True]
    mark = a_mark(kind=kind, value_cents=510_000)
    assert store.tell(MONITOR, messages.RaiseMarks(marks=(mark,))).outcome == "applied"
    found = seen(store, name)
    assert found.unknown == ()
    assert max(one.reference_cents for one in found.limits if one.kind == "maximum") == 510_000


@pytest.mark.parametrize(
    ("balance_cents", "equity_cents"),
    [(5_000_000, 5_000_000), (5_000_000, 4_875_000), (4_950_000, 5_020_000), (4_700_000, 4_600_000)],
)
def test_room_is_what_the_guards_own_lines_say(balance_cents: int, equity_cents: int) -> None:
    store = a_store()
    read(store, balance_cents, equity_cents)
    rules, now = the_rules(), store.clock.now()
    days = tuple(store.read.account_days("PAPER-1"))
    lines = drawdown.lines(rules, days=days, marks=(), balance_cents=balance_cents, equity_cents=equity_cents)
    assert not isinstance(lines, str)
    by_name = {line.name: line for line in lines}
    found = room.of(store.read, rules, "PAPER-1", now)
    assert len(found.limits) == 3  # two readings of the day, and the maximum
    for one in found.limits:
        line = by_name[one.name]
        value = drawdown.measured_cents(balance_cents, equity_cents, line.measured_on)
        assert (one.floor_cents, one.room_cents, one.loss_cents, one.level) == (
            line.floor_cents, line.room_cents(value), line.loss_cents(value), line.level(value).label
        )  # fmt: skip
    assert found.narrowest is not None
    assert found.narrowest.room_cents == min(one.room_cents for one in found.limits)


def test_half_of_the_day_is_gone() -> None:
    store = a_store()
    read(store, 5_000_000, 4_875_000, at="2026-11-02T05:58:00.000Z")
    found = seen(store)
    daily = found.limits[0]
    assert (daily.kind, daily.loss_cents, daily.limit_cents, daily.used_percent) == ("daily", 125_000, 250_000, 50)
    assert (daily.room_cents, daily.level, daily.ends_at) == (125_000, "warn_50", "2026-11-02T22:00:00.000Z")
    assert (found.age_s, found.narrowest) == (120, daily)


def test_best_day_counts_from_the_days_start() -> None:
    store = a_store()
    read(store, 5_050_000, 5_100_000)
    best = seen(store).best_day
    assert best is not None
    assert (best.scope, best.profit_cents, best.cap_cents) == ("cap", 100_000, 160_000)
    assert best.stop_cents is not None and best.room_cents == best.stop_cents - 100_000


def test_requests_are_those_of_the_reading_that_used_most() -> None:
    store = a_store()
    assert store.tell(MONITOR, messages.GrantRequests(day="2026-11-02", reads=30, writes=5)).outcome == "applied"
    store.clock.advance(15.5 * 3_600)  # 21:30 in Athens and 16:30 in New York: the same two days
    found = seen(store).budget
    assert (found.reads, found.writes, found.left) == (30, 5, 1_950 - 35)
    store.clock.advance(0.6 * 3_600)  # past the reset of both
    assert seen(store).budget.reads == 0
