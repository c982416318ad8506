"""The circuit breaker: what opens it, that one probe at a time goes out, and what closes it."""

from __future__ import annotations

import pytest

from actors.analysts.breaker import Breaker, State
from tests.kit.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def breaker(clock: ManualClock) -> Breaker:
    return Breaker("test", clock, failures_max=3, wait_s=10.0, wait_s_max=35.0)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        admitted = breaker.admit()
        assert admitted is not None
        breaker.failed(admitted, "no answer")


def succeed(breaker: Breaker) -> None:
    admitted = breaker.admit()
    assert admitted is not None
    breaker.succeeded(admitted)


def test_fewer_failures_in_a_row_than_the_maximum_do_not_open_it(breaker: Breaker) -> None:
    for _ in range(5):
        fail(breaker, 2)
        succeed(breaker)
    assert breaker.state is State.CLOSED


def test_failures_in_a_row_open_it_and_nothing_is_admitted(breaker: Breaker) -> None:
    fail(breaker, 3)
    assert (breaker.state, breaker.reason, breaker.admit()) == (State.OPEN, "no answer", None)


def test_no_probe_before_the_wait_is_over_and_then_exactly_one(breaker: Breaker, clock: ManualClock) -> None:
    fail(breaker, 3)
    clock.advance(9.9)
    assert not breaker.begin_probe()
    clock.advance(0.1)
    assert [breaker.begin_probe() for _ in range(3)] == [True, False, False]
    assert (breaker.state, breaker.admit()) == (State.HALF_OPEN, None)


def test_a_wall_clock_that_jumps_brings_no_probe(breaker: Breaker, clock: ManualClock) -> None:
    fail(breaker, 3)
    clock.jump(3_600.0)
    assert not breaker.begin_probe()


def test_a_probe_that_fails_doubles_the_wait_up_to_its_maximum(breaker: Breaker, clock: ManualClock) -> None:
    fail(breaker, 3)
    for wait_s in (10.0, 20.0, 35.0, 35.0):
        clock.advance(wait_s - 0.1)
        assert not breaker.begin_probe(), wait_s
        clock.advance(0.1)
        assert breaker.begin_probe(), wait_s
        breaker.end_probe("still away")
        assert breaker.state is State.OPEN


def test_after_a_probe_one_failure_opens_it_again_and_one_success_forgives_all(
    breaker: Breaker, clock: ManualClock
) -> None:
    fail(breaker, 3)
    clock.advance(10.0)
    breaker.begin_probe()
    breaker.end_probe("")
    fail(breaker)
    assert breaker.state is State.OPEN
    clock.advance(10.0)
    assert not breaker.begin_probe(), "the wait did not double"
    clock.advance(10.0)
    assert breaker.begin_probe()
    breaker.end_probe("")
    succeed(breaker)
    fail(breaker, 2)
    assert breaker.state is State.CLOSED
    fail(breaker)
    clock.advance(10.0)
    assert breaker.begin_probe()


def test_what_began_before_it_opened_changes_nothing_any_more(breaker: Breaker, clock: ManualClock) -> None:
    late = [breaker.admit() for _ in range(5)]
    for admitted in late[:3]:
        breaker.failed(admitted or 0, "no answer")
    breaker.succeeded(late[3] or 0)
    assert breaker.state is State.OPEN
    clock.advance(10.0)
    breaker.begin_probe()
    breaker.end_probe("")
    breaker.failed(late[4] or 0, "no answer")
    assert breaker.state is State.CLOSED
