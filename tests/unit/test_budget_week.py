"""The request budget lasts until every reset, the reserve untouched, whatever a week brings; how the pace is made."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.compliance import budget
from actors.compliance.budget import Pace
from config.settings import Monitor
from tests.kit.budget_week import AUTUMN, SPRING, Week, quiet_day
from tests.kit.compliance import the_rules

PACE = Pace(flat_s=300.0, base_s=60.0, near_s=5.0)
RULES = the_rules()
DAY_S = 86_400.0


def interval_s(
    left: int = 1_900, *, urgency: float = 0.0, to_reset_s: float = DAY_S, is_watching: bool = True
) -> float:
    return budget.poll_interval_s(
        PACE, is_watching=is_watching, urgency=urgency, seconds_to_reset=to_reset_s, requests_per_poll=2,
        left_requests=left, kept_for_trades=400,
    )  # fmt: skip


# ── the week ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("start", [SPRING, AUTUMN])
@pytest.mark.parametrize("near_hours", [0.0, 6.0, 24.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_budget_lasts_until_every_reset_and_the_reserve_is_never_touched(
    start: object, near_hours: float, seed: int
) -> None:
    found = Week(RULES, start, near_hours=near_hours, seed=seed).run()  # type: ignore[arg-type]
    assert {round(day.hours) for day in found} in ({23, 24}, {24, 25})
    for day in found:
        assert day.unspent_least >= RULES.requests.reserve, day
        assert day.refused <= 1, day  # in the last minutes, after six restarts
        assert day.writes <= RULES.requests.writes_per_day - RULES.requests.writes_reserve
        assert day.longest_s <= 2 * PACE.flat_s, day  # somebody looks, to the last minute


def test_hours_near_the_floor_are_watched_more_closely_than_the_rest() -> None:
    near = Week(RULES, SPRING, near_hours=1.0).run()
    calm = Week(RULES, SPRING, near_hours=0.0).run()
    assert min(day.shortest_s for day in near) < 20 < 80 < min(day.shortest_s for day in calm)


def test_executor_that_trades_without_end_leaves_the_reserve() -> None:
    found = Week(RULES, SPRING, near_hours=24.0, trades=60).run()
    assert min(day.unspent_least for day in found) >= RULES.requests.reserve
    assert sum(day.refused for day in found) > 0


def test_a_flat_day_costs_a_third_of_the_budget_and_trades_cost_more() -> None:
    flat, trading = (quiet_day(RULES, Monitor(), trades) for trades in (0, 3))
    assert flat.writes == 0
    assert 288 * 2 <= flat.reads <= 300 * 2  # a look every five minutes
    assert (trading.writes, trading.logins >= flat.logins + 3) == (3, True)
    assert flat.total < trading.total <= RULES.requests.per_day - RULES.requests.reserve


# ── one interval ────────────────────────────────────────────────────────────


@given(
    left=st.integers(0, 5_000), urgency=st.floats(0, 1), to_reset_s=st.floats(0, 25 * 3_600), is_watching=st.booleans()
)
def test_interval_never_ends_after_the_reset_and_never_asks_for_more_than_is_left(
    left: int, urgency: float, to_reset_s: float, is_watching: bool
) -> None:
    wait_s = interval_s(left, urgency=urgency, to_reset_s=to_reset_s, is_watching=is_watching)
    assert 0 <= wait_s <= to_reset_s
    if left < 2:
        assert wait_s == to_reset_s
    assert wait_s >= min(PACE.near_s, to_reset_s)


@given(left=st.integers(0, 2_000), to_reset_s=st.floats(60, 25 * 3_600), urgency=st.floats(0, 1))
def test_more_urgency_never_makes_the_next_look_later(left: int, to_reset_s: float, urgency: float) -> None:
    calm_s = interval_s(left, to_reset_s=to_reset_s)
    assert interval_s(left, to_reset_s=to_reset_s, urgency=urgency) <= calm_s + 1e-6
    assert (
        interval_s(left, to_reset_s=to_reset_s, urgency=1.0)
        <= interval_s(left, to_reset_s=to_reset_s, urgency=urgency) + 1e-6
    )


SECONDS = st.floats(0.01, 300) | st.floats(0.01, 604_800)


@given(
    base_s=SECONDS, flat_s=SECONDS, near_s=SECONDS, left=st.integers(2, 5_000), kept=st.integers(0, 5_000),
    urgency=st.floats(0, 1), to_reset_s=st.floats(0, 25 * 3_600),
)  # fmt: skip
def test_no_settings_keep_an_open_position_unwatched_for_longer_than_five_minutes_while_requests_are_left(
    base_s: float, flat_s: float, near_s: float, left: int, kept: int, urgency: float, to_reset_s: float
) -> None:
    cadences = {"equity_poll_s": base_s, "equity_poll_flat_s": flat_s, "equity_poll_near_s": near_s}
    try:
        msgspec.convert(cadences, Monitor)
    except msgspec.ValidationError:
        return  # no such settings are let in
    wait_s = budget.poll_interval_s(
        Pace(flat_s=flat_s, base_s=base_s, near_s=near_s), is_watching=True, urgency=urgency,
        seconds_to_reset=to_reset_s, requests_per_poll=2, left_requests=left, kept_for_trades=kept,
    )  # fmt: skip
    lasting_s = to_reset_s * 2 / left  # what is left, spent evenly until the reset
    assert wait_s <= max(300.0, lasting_s) + 1e-6


def test_far_from_every_floor_the_usual_cadence_holds_when_it_is_affordable() -> None:
    assert interval_s(to_reset_s=3_600) == 60.0
    assert interval_s(to_reset_s=3_600, is_watching=False) == 300.0
    assert interval_s() > 60.0  # a whole day at 60 s would cost 2,880 requests
    assert interval_s(to_reset_s=3_600, urgency=1.0) == 5.0


def test_spent_budget_waits_for_the_reset_and_not_longer() -> None:
    assert interval_s(0, to_reset_s=7_200, urgency=1.0) == 7_200
    assert interval_s(41, to_reset_s=60) > 5.0  # what is kept for a late trade is not polled away
    assert interval_s(0, to_reset_s=-1) == 0.0


@pytest.mark.parametrize(
    ("room", "stake", "expected"),
    [
        (100_000, None, 0.0),  # nothing of the way is gone
        (50_000, None, 0.0),  # half of it
        (35_000, None, 0.5),
        (20_000, None, 1.0),  # 80%
        (0, 0, 1.0),
        (-1, 0, 1.0),
        (20_000, 10_000, 0.0),  # all stops hit leave half of the room
        (20_000, 13_334, 0.5),
        (20_000, 20_000, 1.0),
        (20_000, 0, 0.0),  # nothing can be lost any more
    ],
)
def test_urgency_needs_both_nearness_and_something_at_stake(room: int, stake: int | None, expected: float) -> None:
    found = budget.urgency(room_cents=room, path_cents=100_000, stake_cents=stake)
    assert found == pytest.approx(expected, abs=0.001)


# ── closing again ───────────────────────────────────────────────────────────


def test_closing_is_tried_again_in_haste_and_then_as_long_as_requests_last() -> None:
    def again_s(tries: int, left: int = 1_000) -> float:
        return budget.close_again_s(tries, seconds_to_reset=36_000, requests_per_try=5, left_requests=left)

    assert [again_s(tries) for tries in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert again_s(99) == 30.0
    assert again_s(8, left=50) == 360.0
    assert again_s(99, left=10) == 1_800.0


def test_reserve_is_enough_to_close_the_most_positions_and_to_look_until_they_are_gone() -> None:
    tries, spent = 0, 0
    waited = timedelta()
    positions = RULES.positions.open_max
    while spent + positions + 2 <= RULES.requests.reserve:
        spent += positions + 2
        waited += timedelta(
            seconds=budget.close_again_s(
                tries, seconds_to_reset=DAY_S, requests_per_try=positions + 2,
                left_requests=RULES.requests.reserve - spent,
            )
        )  # fmt: skip
        tries += 1
    assert tries >= 8
    assert waited > timedelta(hours=1)
