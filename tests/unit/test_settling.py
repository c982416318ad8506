"""What may be concluded of an order whose outcome is not certain, and above all when nothing may be."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from actors.broker.errors import Blocked, Transient, Unauthorised, Unreadable
from actors.broker.reconcile import FoundClosed, FoundOpen
from actors.broker.wire import Position
from actors.desk.settling import Missing, Settled, Stopped, Unclear
from bus.clock import iso
from bus.records import Order
from bus.vocabulary import OrderStatus
from tests.kit.compliance import D, a_position
from tests.kit.compliance import an_order as any_order
from tests.kit.execution import Hands, a_row_of

QUIET_S = 60.0


def an_order(hands: Hands, **changes: Any) -> Order:
    """Return an order that was reserved just now and is sent at this moment."""
    usual = {"status": OrderStatus.UNKNOWN, "position_id": None, "reserved_at": iso(hands.clock.now())}
    return any_order(**(usual | changes))


def its_position(hands: Hands, **changes: Any) -> Position:
    """Return the position that `an_order` becomes, opened now."""
    usual = {"id": "P-9", "opened_at": hands.clock.now() + timedelta(seconds=1)}
    return a_position(**(usual | changes))


async def settled(hands: Hands, order: Order | None = None, *, accepted_id: str | None = None) -> Settled:
    return await hands.settler().settle(
        order or an_order(hands),
        quiet_until_s=hands.clock.monotonic() + QUIET_S,
        is_ours=hands.holds,
        accepted_id=accepted_id,
    )


# ── nothing may be concluded ────────────────────────────────────────────────


@pytest.mark.parametrize("frozen_in", ["open_positions", "closed_positions"])
async def test_look_that_began_before_the_quiet_deadline_proves_nothing_however_late_it_ends(frozen_in: str) -> None:
    hands = Hands()
    order = an_order(hands)
    late = its_position(hands)

    def freeze(name: str) -> None:
        if name == frozen_in and len(hands.broker.calls) <= 2:
            hands.clock.advance(10 * QUIET_S)

    def appear(n: int) -> None:  # only after a second look: two looks that count are needed
        hands.broker.positions = [late] if n >= 2 else []

    hands.broker.before, hands.on_wait = freeze, appear
    assert await settled(hands, order) == FoundOpen(late)


async def test_position_that_shows_just_before_the_deadline_is_found() -> None:
    hands = Hands()
    order, late, start_s = an_order(hands), its_position(hands), hands.clock.monotonic()

    def appear(_: int) -> None:
        if hands.clock.monotonic() - start_s >= QUIET_S - 2:
            hands.broker.positions = [late]

    hands.on_wait = appear
    assert await settled(hands, order) == FoundOpen(late)


async def test_absence_is_concluded_after_the_quiet_period_and_not_before() -> None:
    hands = Hands()
    start_s = hands.clock.monotonic()
    assert isinstance(await settled(hands), Missing)
    assert QUIET_S <= hands.clock.monotonic() - start_s < QUIET_S + 5


@pytest.mark.parametrize("error", [Transient("502"), Unreadable("HTML"), Blocked("403"), Unauthorised("401")])
@pytest.mark.parametrize("call", ["open_positions", "closed_positions"])
async def test_broker_that_is_away_is_waited_for_and_never_means_absent(error: Exception, call: str) -> None:
    hands = Hands()
    order, late, away_s = an_order(hands), its_position(hands), hands.clock.monotonic() + 3_600

    def fail(name: str) -> None:
        if name == call and hands.clock.monotonic() < away_s:
            raise error

    hands.broker.before = fail

    def appear(_: int) -> None:
        if hands.clock.monotonic() > away_s - 60:
            hands.broker.positions = [late]

    hands.on_wait = appear
    assert await settled(hands, order) == FoundOpen(late)
    assert hands.clock.monotonic() >= away_s


async def test_history_that_cannot_be_read_at_the_end_is_read_again() -> None:
    hands = Hands()
    order, position = an_order(hands), its_position(hands)
    hands.broker.rows = [a_row_of(position)]
    failures = 40

    def fail(name: str) -> None:
        if name == "closed_positions" and hands.broker.calls.count(name) <= failures:
            raise Transient("timeout")

    hands.broker.before = fail
    assert isinstance(await settled(hands, order), FoundClosed)


@pytest.mark.parametrize("change", [
    {"sl_price": D("1.0970")}, {"tp_price": D("1.1060")}, {"volume": D("2.00")},
    {"volume": D("0.50"), "sl_price": None}, {"opened_at": timedelta(minutes=-10)},
])  # fmt: skip
async def test_position_like_the_order_but_not_equal_is_left_to_the_operator(change: dict[str, Any]) -> None:
    hands = Hands()
    order = an_order(hands)
    if "opened_at" in change:
        change = {"opened_at": hands.clock.now() + change["opened_at"]}
    hands.broker.positions = [its_position(hands, **change)]
    start_s = hands.clock.monotonic()
    outcome = await settled(hands, order)
    assert isinstance(outcome, Unclear) and "P-9" in outcome.reason
    assert hands.clock.monotonic() - start_s >= QUIET_S  # the right one might have come


async def test_two_positions_that_both_fit_are_left_to_the_operator() -> None:
    hands = Hands()
    order = an_order(hands)
    hands.broker.positions = [its_position(hands), its_position(hands, id="P-10")]
    outcome = await settled(hands, order)
    assert isinstance(outcome, Unclear) and "P-10, P-9" in outcome.reason


async def test_one_that_is_open_and_one_that_is_closed_are_two() -> None:
    hands = Hands()
    order = an_order(hands)
    hands.broker.positions = [its_position(hands)]
    hands.broker.rows = [a_row_of(its_position(hands, id="P-10"))]
    assert isinstance(await settled(hands, order), Unclear)


async def test_order_the_broker_accepted_and_never_shows_is_unclear_and_not_absent() -> None:
    hands = Hands()
    outcome = await settled(hands, accepted_id="P-77")
    assert isinstance(outcome, Unclear) and "P-77" in outcome.reason


async def test_accepted_order_is_no_other_position_however_equal() -> None:
    hands = Hands()
    order = an_order(hands)
    hands.broker.positions = [its_position(hands, id="P-10")]
    assert isinstance(await settled(hands, order, accepted_id="P-77"), Unclear)


@pytest.mark.parametrize("change", [{"side": "SELL"}, {"broker_symbol": "GBPUSD."}])
async def test_id_of_quite_another_position_is_not_believed(change: dict[str, Any]) -> None:
    hands = Hands()
    order = an_order(hands)
    hands.broker.positions = [its_position(hands, id="P-77", **change), its_position(hands)]
    outcome = await settled(hands, order, accepted_id="P-77")
    assert isinstance(outcome, Unclear)
    assert outcome.reason == "the broker accepted it as P-77, which is another position; like the order: P-9"


@pytest.mark.parametrize("is_owned", [False, True])
async def test_id_of_a_position_that_was_there_before_or_is_anothers_is_not_believed(is_owned: bool) -> None:
    hands = Hands(owned=("P-9",) if is_owned else ())
    order = an_order(hands, baseline=() if is_owned else ("P-9",))
    hands.broker.positions = [its_position(hands)]
    assert isinstance(await settled(hands, order, accepted_id="P-9"), Unclear)


async def test_single_empty_list_after_the_deadline_proves_nothing() -> None:
    hands = Hands()
    order, position = an_order(hands), its_position(hands)
    start_s = hands.clock.monotonic()
    hands.broker.positions = [position]

    def vanish(name: str) -> None:  # visible only from the second look after the deadline on
        looks_after = hands.clock.monotonic() - start_s >= QUIET_S + 2
        hands.broker.positions = [position] if looks_after else []

    hands.broker.before = vanish
    assert await settled(hands, order) == FoundOpen(position)


# ── what is not ours ────────────────────────────────────────────────────────


async def test_position_of_the_baseline_is_not_the_order_however_equal() -> None:
    hands = Hands()
    order = an_order(hands, baseline=("P-9",))
    hands.broker.positions = [its_position(hands)]
    assert isinstance(await settled(hands, order), Missing)


@pytest.mark.parametrize("is_open", [True, False])
async def test_position_of_another_intent_is_not_the_order_however_equal(is_open: bool) -> None:
    hands = Hands(owned=("P-9",))
    order = an_order(hands)
    hands.broker.positions = [its_position(hands)] if is_open else []
    hands.broker.rows = [] if is_open else [a_row_of(its_position(hands))]
    assert isinstance(await settled(hands, order), Missing)


@pytest.mark.parametrize("change", [{"side": "SELL"}, {"broker_symbol": "GBPUSD."}])
async def test_position_of_another_side_or_symbol_does_not_disturb(change: dict[str, Any]) -> None:
    hands = Hands()
    order = an_order(hands)
    hands.broker.positions = [its_position(hands, **change)]
    assert isinstance(await settled(hands, order), Missing)


# ── what is found ───────────────────────────────────────────────────────────


@pytest.mark.parametrize("change", [
    {}, {"sl_price": None}, {"sl_price": None, "tp_price": None}, {"tp_price": None}, {"volume": D("0.30")},
])  # fmt: skip
async def test_its_position_is_found_at_once_also_without_stop_or_in_part(change: dict[str, Any]) -> None:
    hands = Hands()
    order, position = an_order(hands), its_position(hands, **change)
    hands.broker.positions = [position]
    assert await settled(hands, order) == FoundOpen(position)
    assert hands.waits_s == []


async def test_position_that_closed_before_we_looked_is_found_in_the_history() -> None:
    hands = Hands()
    order = an_order(hands)
    hands.broker.rows = [a_row_of(its_position(hands))]
    outcome = await settled(hands, order)
    assert isinstance(outcome, FoundClosed) and outcome.row.id == "P-9"


async def test_accepted_position_is_found_by_its_id_when_it_shows_late() -> None:
    hands = Hands()
    order, late = an_order(hands), its_position(hands, sl_price=D("1.0"), volume=D("0.10"))

    def appear(n: int) -> None:
        hands.broker.positions = [late] if n >= 3 else []

    hands.on_wait = appear
    assert await settled(hands, order, accepted_id="P-9") == FoundOpen(late)


async def test_accepted_position_that_closed_in_parts_waits_for_the_rest_and_is_added_up() -> None:
    hands = Hands()
    order, position = an_order(hands), its_position(hands)
    first = a_row_of(position, volume=D("0.40"), net_profit_cents=-100)
    rest = a_row_of(position, volume=D("0.60"), net_profit_cents=300, reason="SL",
                    closed_at=position.opened_at + timedelta(seconds=5))  # fmt: skip
    hands.broker.rows = [first]

    def appear(n: int) -> None:
        hands.broker.rows = [first, rest] if n >= 3 else [first]

    hands.on_wait = appear
    outcome = await settled(hands, order, accepted_id="P-9")
    assert isinstance(outcome, FoundClosed)
    assert (outcome.row.volume, outcome.row.net_profit_cents, outcome.row.reason) == (D("1.00"), 200, "SL")


async def test_accepted_position_closed_with_less_than_planned_is_taken_after_the_quiet_period() -> None:
    hands = Hands()
    order = an_order(hands)
    hands.broker.rows = [a_row_of(its_position(hands), volume=D("0.40"))]
    start_s = hands.clock.monotonic()
    assert isinstance(await settled(hands, order, accepted_id="P-9"), FoundClosed)
    assert hands.clock.monotonic() - start_s >= QUIET_S


@pytest.mark.parametrize("is_named", [True, False])
async def test_row_of_a_part_is_no_end_while_a_list_omits_the_rest(is_named: bool) -> None:
    hands = Hands()
    order, position = an_order(hands), its_position(hands, volume=D("0.60"))
    sl_price = None if is_named else position.sl_price  # without an id of the broker's, the stop proves a part ours
    hands.broker.rows = [a_row_of(position, volume=D("0.40"), sl_price=sl_price)]
    if is_named:  # the first look that counts is without it
        hands.clock.advance(QUIET_S)
    hands.on_wait = lambda n: setattr(hands.broker, "positions", [position])
    outcome = await hands.settler().settle(
        order, quiet_until_s=hands.clock.monotonic(), is_ours=hands.holds, accepted_id="P-9" if is_named else None
    )
    assert outcome == FoundOpen(position)


# ── being stopped, losing the lease, sparing requests ───────────────────────


async def test_stop_ends_the_search_without_a_conclusion() -> None:
    hands = Hands(is_stopping=True)
    assert isinstance(await settled(hands), Stopped)
    assert hands.broker.calls == ["open_positions", "closed_positions"]


async def test_lost_lease_ends_the_search_without_a_conclusion() -> None:
    hands = Hands()

    def lose(n: int) -> None:
        hands.is_ours = n < 3

    hands.on_wait = lose
    assert isinstance(await settled(hands), Stopped)
    assert len(hands.waits_s) == 3


async def test_jump_of_the_wall_clock_neither_ends_nor_lengthens_the_quiet_period() -> None:
    hands = Hands()
    order, start_s = an_order(hands), hands.clock.monotonic()
    hands.on_wait = lambda n: hands.clock.jump(86_400 if n == 2 else 0)
    assert isinstance(await settled(hands, order), Missing)
    assert QUIET_S <= hands.clock.monotonic() - start_s < QUIET_S + 5


@pytest.mark.parametrize("jump_s", [-30 * 86_400, -5 * 3_600, 5 * 3_600])
async def test_wall_clock_that_jumps_after_the_reservation_hides_no_closed_position(jump_s: float) -> None:
    hands = Hands()
    order, row = an_order(hands), a_row_of(its_position(hands))
    hands.broker.rows = [row]
    hands.clock.jump(jump_s)
    assert await settled(hands, order) == FoundClosed(row)


async def test_position_closed_before_we_looked_with_the_brokers_clock_behind_is_not_called_absent() -> None:
    hands = Hands()
    order = an_order(hands)
    hands.broker.rows = [a_row_of(its_position(hands, opened_at=hands.clock.now() - timedelta(seconds=25)))]
    assert isinstance(await settled(hands, order), Unclear)


async def test_broker_that_is_away_is_asked_less_and_less_and_often_again_once_it_answers() -> None:
    hands = Hands()
    away = 8

    def fail(name: str) -> None:
        if hands.broker.calls.count("open_positions") <= away:
            raise Transient("refused", retry_after_s=45.0 if hands.broker.calls.count("open_positions") == 3 else None)

    hands.broker.before = fail
    order = structs.replace(an_order(hands))
    outcome = await hands.settler().settle(
        order, quiet_until_s=hands.clock.monotonic() + 300, is_ours=hands.holds, accepted_id=None
    )  # fmt: skip
    assert isinstance(outcome, Missing)
    assert hands.waits_s[:9] == [4.0, 8.0, 45.0, 30.0, 30.0, 30.0, 30.0, 30.0, 2.0]
