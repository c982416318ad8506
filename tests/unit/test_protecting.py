"""A position gets its stop or is ended; what is not seen is not judged."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from actors.broker.errors import BrokerError, NotSent, Refused, Transient, UnknownOutcome
from actors.broker.wire import ClosedPosition, Position
from actors.desk.protecting import CLOSES_MAX, EDITS_MAX, Unprotected, has_stop
from bus.records import OrderPlan
from tests.kit.compliance import D, a_plan, a_position
from tests.kit.execution import Hands, a_row_of

NAKED: dict[str, Any] = {"sl_price": None, "tp_price": None}


async def protected(
    hands: Hands, position: Position, plan: OrderPlan | None = None
) -> Position | ClosedPosition | None:
    if not hands.broker.positions and not hands.broker.rows:
        hands.broker.positions = [position]
    return await hands.protector().protect(
        position, plan or a_plan(), is_ours=hands.holds, halt=hands.note_halt, lost=hands.note_lost
    )


def failing(hands: Hands, error: BrokerError, *names: str, times: int = 10_000) -> None:
    """Make calls of these names fail, so many times each."""

    def fail(name: str) -> None:
        if name in names and hands.broker.calls.count(name) <= times:
            raise error

    hands.broker.before = fail


def writes(hands: Hands) -> list[str]:
    return [name for name in hands.broker.calls if name in ("edit_position", "close_position")]


# ── what is not done ────────────────────────────────────────────────────────


async def test_position_with_its_stop_and_target_is_left_alone() -> None:
    hands = Hands()
    position = a_position()
    assert await protected(hands, position) == position
    assert hands.broker.calls == []


@pytest.mark.parametrize(
    ("side", "stop", "expected"),
    [
        ("BUY", None, False), ("BUY", D(0), False), ("BUY", D("1.0974"), False), ("BUY", D("1.0975"), True),
        ("BUY", D("1.0980"), True), ("SELL", None, False), ("SELL", D("1.0976"), False), ("SELL", D("1.0975"), True),
        ("SELL", D("1.0900"), True),
    ],
)  # fmt: skip
def test_stop_counts_when_it_limits_the_loss_at_least_as_planned(side: str, stop: Any, expected: bool) -> None:
    assert has_stop(a_position(side=side, sl_price=stop), a_plan(side=side)) is expected


@pytest.mark.parametrize("error", [Transient("no answer"), NotSent("refused")])
async def test_broker_that_is_away_is_waited_for_and_the_position_not_closed(error: BrokerError) -> None:
    hands = Hands()
    failing(hands, error, "open_positions" if isinstance(error, Transient) else "edit_position", times=12)
    seen = await protected(hands, a_position(**NAKED))
    assert isinstance(seen, Position) and seen.sl_price == D("1.0975")
    assert "close_position" not in hands.broker.calls
    assert max(hands.waits_s) == 30.0 and hands.waits_s[:3] == [2.0, 4.0, 8.0]


async def test_position_hidden_by_a_list_that_lags_is_not_closed() -> None:
    hands = Hands()
    position = a_position(**NAKED)
    hands.broker.takes_edits = False
    hands.broker.rows = [a_row_of(a_position(id="another"))]

    def appear(n: int) -> None:
        if n == 4:
            hands.broker.positions, hands.broker.takes_edits = [position], True

    hands.on_wait = appear
    seen = await protected(hands, position)
    assert isinstance(seen, Position) and has_stop(seen, a_plan())
    assert "close_position" not in hands.broker.calls


@pytest.mark.parametrize("is_stopping", [False, True])
async def test_without_the_lease_nothing_more_is_written(is_stopping: bool) -> None:
    hands = Hands(is_ours=False, is_stopping=is_stopping)
    assert await protected(hands, a_position(**NAKED)) is None
    assert writes(hands) == []


async def test_lease_lost_between_the_edits_ends_them() -> None:
    hands = Hands()
    hands.broker.takes_edits = False
    hands.broker.before = lambda name: setattr(hands, "is_ours", hands.broker.calls.count("edit_position") < 2)
    assert await protected(hands, a_position(**NAKED)) is None
    assert writes(hands) == ["edit_position"] * 2


async def test_stop_of_the_process_does_not_shorten_the_pause_before_a_read_back() -> None:
    hands = Hands(is_stopping=True)
    seen = await protected(hands, a_position(**NAKED))
    assert isinstance(seen, Position) and has_stop(seen, a_plan())
    assert hands.pauses_s == [1.0]


async def test_stop_while_the_position_cannot_be_seen_leaves_it_to_the_next_life() -> None:
    hands = Hands(is_stopping=True)
    failing(hands, Transient("down"), "open_positions")
    assert await protected(hands, a_position(**NAKED)) is None
    assert writes(hands) == ["edit_position"]


# ── the stop ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("found", [NAKED, {"sl_price": D("1.0000")}, {"sl_price": None}])
async def test_stop_that_is_missing_or_too_wide_is_set_together_with_the_target(found: dict[str, Any]) -> None:
    hands = Hands()
    seen = await protected(hands, a_position(**found))
    assert isinstance(seen, Position)
    assert (seen.sl_price, seen.tp_price) == (D("1.0975"), D("1.1050"))
    assert hands.broker.edits == [(D("1.0975"), D("1.1050"))]


async def test_answer_to_the_edit_that_was_lost_is_no_reason_to_close() -> None:
    hands = Hands()
    position = a_position(**NAKED)
    failing(hands, UnknownOutcome("reset"), "edit_position", times=1)
    assert isinstance(await protected(hands, position), Position)
    assert writes(hands) == ["edit_position", "edit_position"]


@pytest.mark.parametrize("is_refused", [False, True])
async def test_position_that_takes_no_stop_is_closed(is_refused: bool) -> None:
    hands = Hands()
    hands.broker.takes_edits = False
    if is_refused:
        failing(hands, Refused("market closed"), "edit_position")
    seen = await protected(hands, a_position(**NAKED))
    assert isinstance(seen, ClosedPosition)
    assert writes(hands) == ["edit_position"] * EDITS_MAX + ["close_position"]


@pytest.mark.parametrize(("stop", "is_kept"), [("1.09745", True), ("1.09744", False)])
async def test_stop_that_a_broker_rounds_by_a_hair_is_kept_after_the_tries(stop: str, is_kept: bool) -> None:
    hands = Hands()
    hands.broker.takes_edits = False
    seen = await protected(hands, a_position(sl_price=D(stop)))
    assert isinstance(seen, Position if is_kept else ClosedPosition)
    assert writes(hands).count("edit_position") == EDITS_MAX


async def test_stop_that_is_seen_late_ends_the_closing() -> None:
    hands = Hands()
    hands.broker.takes_edits = hands.broker.takes_closes = False

    def late(name: str) -> None:
        if name == "close_position":
            hands.broker.change("P-1", sl_price=D("1.0975"), tp_price=D("1.1050"))

    hands.broker.before = late
    assert isinstance(await protected(hands, a_position(**NAKED)), Position)
    assert writes(hands) == ["edit_position"] * EDITS_MAX + ["close_position"]


async def test_close_whose_row_lags_is_not_repeated() -> None:
    hands = Hands()
    position = a_position(**NAKED)
    hands.broker.takes_edits = hands.broker.takes_closes = False

    def vanish(name: str) -> None:
        if name == "close_position":
            hands.broker.positions = []

    def show(n: int) -> None:
        if n == 6:
            hands.broker.rows = [a_row_of(position)]

    hands.broker.before, hands.on_wait = vanish, show
    assert isinstance(await protected(hands, position), ClosedPosition)
    assert writes(hands).count("close_position") == 1


@pytest.mark.parametrize("volume", ["0.50", "1.00"])
async def test_row_of_a_part_is_no_end_while_a_list_omits_the_rest(volume: str) -> None:
    hands = Hands()
    position = a_position(volume=D(volume), **NAKED)  # a part of 1.00 lots may have been closed before it was found
    rest = structs.replace(position, volume=D("0.50"))
    part = a_row_of(rest, closed_at=position.opened_at - timedelta(seconds=1))
    hands.broker.takes_edits = hands.broker.takes_closes = False
    hands.broker.positions, hands.broker.rows = [position], [part] if volume == "0.50" else []

    def omit_once(name: str) -> None:
        if name == "close_position" and hands.broker.calls.count(name) == 1:
            hands.broker.positions, hands.broker.rows = [], [part]
        elif name == "closed_positions" and hands.broker.calls.count(name) == 1:
            hands.broker.positions, hands.broker.takes_closes = [rest], True

    hands.broker.before = omit_once
    seen = await protected(hands, position)
    assert isinstance(seen, ClosedPosition) and seen.volume == D("1.00")
    assert hands.broker.positions == [] and writes(hands).count("close_position") == 2


async def test_position_that_is_closed_by_somebody_meanwhile_is_told_with_its_end() -> None:
    hands = Hands()
    position = a_position(**NAKED)
    hands.broker.rows = [a_row_of(position, reason="SL")]
    failing(hands, Refused("no such position"), "edit_position")
    seen = await protected(hands, position)
    assert isinstance(seen, ClosedPosition) and seen.reason == "SL"


async def test_position_that_takes_neither_stop_nor_close_is_told_after_a_limit() -> None:
    hands = Hands()
    failing(hands, Refused("market closed"), "edit_position", "close_position")
    with pytest.raises(Unprotected, match=r"P-1 \(BUY 1.00 EURUSD\) has no stop"):
        await protected(hands, a_position(**NAKED))
    assert writes(hands) == ["edit_position"] * EDITS_MAX + ["close_position"] * CLOSES_MAX


# ── what lasts is told ──────────────────────────────────────────────────────


@pytest.mark.parametrize("failing_call", ["edit_position", "open_positions"])
async def test_position_that_is_without_its_stop_for_long_halts_once_a_minute_and_is_tried_on(
    failing_call: str,
) -> None:
    hands, halted_at_s = Hands(), list[float]()
    start_s = hands.clock.monotonic()
    error = NotSent("PILOT_READONLY is set") if failing_call == "edit_position" else Transient("no connection")
    failing(hands, error, failing_call, times=12)
    hands.on_wait = lambda n: halted_at_s.extend([hands.clock.monotonic() - start_s] * (len(hands.halts) == 1))
    seen = await protected(hands, a_position(**NAKED))
    assert isinstance(seen, Position) and has_stop(seen, a_plan())
    assert 60 <= halted_at_s[0] < 60 + 2 * 30  # by the wait after it
    beginnings = {reason.partition(":")[0] for reason in hands.halts}
    assert beginnings == {"position P-1 (BUY 1.00 EURUSD) is without its stop"}, "the same halt, which stands once"
    assert hands.lost == []


async def test_broker_that_is_away_after_a_list_without_the_position_is_told_too() -> None:
    hands, position = Hands(), a_position(**NAKED)
    hands.broker.positions = [position]

    def omit_once_and_be_away(name: str) -> None:
        if name == "edit_position":
            hands.broker.positions = [] if hands.broker.calls.count(name) == 1 else [position]
        elif name == "open_positions" and 1 < hands.broker.calls.count(name) < 20:
            hands.broker.positions = [position]
            raise Transient("no connection")

    hands.broker.before = omit_once_and_be_away
    assert isinstance(await protected(hands, position), Position)
    assert hands.halts and hands.lost == []


async def test_short_trouble_with_the_stop_and_trouble_with_the_target_halt_nothing() -> None:
    hands = Hands()
    failing(hands, NotSent("no connection"), "edit_position", times=4)
    assert isinstance(await protected(hands, a_position(**NAKED)), Position)
    hands = Hands()
    failing(hands, Transient("no connection"), "open_positions", times=12)
    assert isinstance(await protected(hands, a_position(tp_price=None)), Position)
    assert hands.halts == hands.lost == []


@pytest.mark.parametrize("lots_closed", ["0", "0.40"])
async def test_position_that_is_shown_nowhere_is_left_to_the_operator_and_protected_when_it_comes_back(
    lots_closed: str,
) -> None:
    hands = Hands()
    position, told_at_s, start_s = a_position(**NAKED), list[float](), hands.clock.monotonic()
    part = [a_row_of(position, volume=D(lots_closed))] if D(lots_closed) else []
    hands.broker.positions = [position]

    def vanish(name: str) -> None:
        if name == "edit_position" and hands.broker.calls.count(name) == 1:
            hands.broker.positions, hands.broker.rows = [], part

    def come_back(n: int) -> None:
        if hands.lost and not told_at_s:
            told_at_s.append(hands.clock.monotonic() - start_s)
        if n == 20:
            hands.broker.positions = [position]

    hands.broker.before, hands.on_wait = vanish, come_back
    seen = await protected(hands, position)
    assert isinstance(seen, Position) and has_stop(seen, a_plan())
    assert len(hands.lost) == 1 and f"the history has {lots_closed} of its 1.00 lots" in hands.lost[0]
    assert 60 <= told_at_s[0] < 60 + 3 * 30
    assert max(hands.waits_s) == 300.0, "looks for ever must not use up the day's requests"
    assert hands.halts == []


# ── the target ──────────────────────────────────────────────────────────────


async def test_target_that_is_missing_is_set_once_and_keeps_a_tighter_stop() -> None:
    hands = Hands()
    seen = await protected(hands, a_position(sl_price=D("1.0980"), tp_price=None))
    assert isinstance(seen, Position)
    assert (seen.sl_price, seen.tp_price) == (D("1.0980"), D("1.1050"))
    assert len(hands.broker.edits) == 1


@pytest.mark.parametrize("error", [Refused("too close"), UnknownOutcome("reset"), NotSent("refused"), None])
async def test_target_that_is_not_taken_is_tried_once_and_never_a_reason_to_close(error: BrokerError | None) -> None:
    hands = Hands()
    hands.broker.takes_edits = False
    if error is not None:
        failing(hands, error, "edit_position")
    seen = await protected(hands, a_position(tp_price=None))
    assert isinstance(seen, Position) and seen.tp_price is None
    assert writes(hands) == ["edit_position"]


async def test_edit_for_the_target_that_loses_the_stop_is_repaired() -> None:
    hands = Hands()

    def lose(name: str) -> None:
        if name == "open_positions" and hands.broker.calls.count(name) == 1:
            hands.broker.change("P-1", sl_price=None)

    hands.broker.before = lose
    seen = await protected(hands, a_position(tp_price=None))
    assert isinstance(seen, Position) and has_stop(seen, a_plan())
    assert len(hands.broker.edits) == 2


async def test_plan_without_a_target_wants_none() -> None:
    hands = Hands()
    assert isinstance(await protected(hands, a_position(tp_price=None), a_plan(tp_price=D(0))), Position)
    assert hands.broker.calls == []
