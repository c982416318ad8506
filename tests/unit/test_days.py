"""What days started with and how high the account was: kept, rebuilt after any sleep, and refused where in doubt."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.broker import reading
from actors.compliance import day as firm_day
from actors.compliance import drawdown
from actors.desk import days
from actors.desk.days import Kept
from bus import messages
from bus.clock import iso, parse
from bus.vocabulary import Outcome
from tests.kit.compliance import ACCOUNT_ID, DAY_STARTS, NOW, a_day, a_position, a_row
from tests.kit.days import INITIAL_CENTS, NEW_YORK, Leg, Life, Trade, Watcher, rules_with

STATIC = rules_with(costs={"commission_booked": "close"})
DAY_END = rules_with(costs={"commission_booked": "close"}, maximum={"mode": "trailing_day_end", "lock_at": "none"})
CLOSED = rules_with(costs={"commission_booked": "close"}, maximum={"mode": "trailing_closed", "lock_at": "none"})
EQUITY = rules_with(costs={"commission_booked": "close"}, maximum={"mode": "trailing_intraday", "lock_at": "none"})
HIGHER = rules_with(costs={"commission_booked": "close"}, daily={"reference": "higher_of_balance_and_equity"})
HOUR = timedelta(hours=1)


def a_trade(
    opened_at: datetime, closed_at: datetime, cents: int, commission_cents: int = -500, id: str = "P-1"
) -> Trade:
    leg = Leg(closed_at=closed_at, gross_cents=cents - commission_cents, commission_cents=commission_cents)
    return Trade(id=id, opened_at=opened_at, legs=(leg,))


def assess(rules: Any = STATIC, kept: Kept | None = None, **changed: Any) -> days.Days:
    given: dict[str, Any] = {
        "kept": kept or Kept(account_id=ACCOUNT_ID),
        "now": NOW,
        "balance_cents": INITIAL_CENTS,
        "equity_cents": changed.get("balance_cents", INITIAL_CENTS),
        "positions": (),
        "closed": (),
        "since": NOW - timedelta(days=400),
    }
    return days.assess(rules, **{**given, **changed})


# ── refusals ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"balance_cents": 0}, "the balance is 0.00"),
        ({"balance_cents": -1}, "the balance is -0.01"),
        ({"is_settled": False}, "changed while the history was read"),
        ({"is_complete": False}, "neither open nor in the history"),
        ({"since": NOW}, "the history was read from"),
    ],
)
def test_nothing_is_rebuilt_in_doubt(changed: dict[str, Any], reason: str) -> None:
    found = assess(**changed)
    assert (found.known, found.record, found.raised, found.unexplained_cents) == ((), None, None, None)
    assert reason in found.unknown


def test_known_day_stays_known_while_the_history_is_in_doubt() -> None:
    found = assess(kept=Kept(account_id=ACCOUNT_ID, days=(a_day(),)), is_settled=False)
    assert [view.day for view in found.known] == [a_day()]
    assert (found.unknown, found.unexplained_cents) == ("", None)


def test_rebuilt_balance_of_nothing_is_not_recorded() -> None:
    won = a_row(net_profit_cents=100, commission_cents=0)
    found = assess(balance_cents=100, closed=(won,))
    assert found.record is None
    assert "gave a balance of 0.00" in found.unknown


@pytest.mark.parametrize("cents", [100_000, -100_000, 1, -1])
def test_balance_that_no_trade_explains_is_said_and_nothing_new_is_kept(cents: int) -> None:
    yesterday = a_day(day="2026-02-15", starts_at=iso(DAY_STARTS - timedelta(days=1)), ends_at=iso(DAY_STARTS))
    found = assess(kept=Kept(account_id=ACCOUNT_ID, days=(yesterday,)), balance_cents=INITIAL_CENTS + cents)
    assert found.unexplained_cents == cents
    assert (found.known, found.record) == ((), None)
    assert "a deposit or a withdrawal?" in found.unknown


def test_deposit_of_today_does_not_change_the_day_that_stands() -> None:
    found = assess(kept=Kept(account_id=ACCOUNT_ID, days=(a_day(),)), balance_cents=INITIAL_CENTS + 100_000)
    assert found.known[0].day == a_day()
    assert found.unexplained_cents == 100_000
    assert found.known[0].realised_cents == 100_000  # more profit is the stricter reading of the best day


def test_deposit_raises_no_mark() -> None:
    watcher = Watcher(CLOSED, Life(flows=((NOW, 100_000),)))
    assert watcher.look(NOW - HOUR).unknown == ""
    found = watcher.look(NOW + HOUR)
    assert found.unexplained_cents == 100_000
    assert [mark.value_cents for mark in found.marks] == [INITIAL_CENTS]


def test_row_that_the_history_lacks_shows_as_unexplained_until_it_comes() -> None:
    watcher = Watcher(STATIC, Life(trades=(a_trade(NOW - HOUR, NOW, 20_000),)))
    watcher.look(NOW - HOUR)
    assert watcher.look(NOW + HOUR, closed=()).unexplained_cents == 20_000
    assert watcher.look(NOW + HOUR).unexplained_cents == 0


# ── today ───────────────────────────────────────────────────────────────────


def test_first_look_on_a_flat_account_starts_the_day_with_its_balance() -> None:
    found = assess()
    assert found.record is not None
    assert found.record.day == a_day(created_at=iso(NOW), note="rebuilt from the history")
    assert found.record.earlier == ()
    assert (found.unknown, found.unexplained_cents, found.raised, found.marks) == ("", 0, None, ())


def test_floating_profit_is_no_part_of_the_days_start() -> None:
    held = a_position(opened_at=DAY_STARTS - HOUR, net_profit_cents=80_000)
    found = assess(positions=(held,), equity_cents=INITIAL_CENTS + 80_000)
    assert found.known[0].day.start_balance_cents == found.known[0].day.reference_cents == INITIAL_CENTS


def test_every_reading_of_the_reset_has_its_own_day() -> None:
    rules = rules_with(reset={"also": (NEW_YORK,)}, costs={"commission_booked": "close"})
    # At 22:00 UTC in winter both readings turn; at 21:00 in late March only New York does.
    now = datetime(2026, 3, 20, 21, 30, tzinfo=UTC)
    life = Life(trades=(a_trade(now - HOUR, now - timedelta(minutes=15), -30_000),))
    found = Watcher(rules, life).look(now)
    starts = {view.day.reset: (view.day.day, view.day.start_balance_cents) for view in found.known}
    assert starts == {
        "00:00 Europe/Athens": ("2026-03-20", 5_000_000),
        "17:00 America/New_York": ("2026-03-20", 5_000_000),
    }
    later = {view.day.reset: view.realised_cents for view in found.known}
    assert later == {"00:00 Europe/Athens": -30_000, "17:00 America/New_York": -30_000}
    watcher = Watcher(rules, Life(trades=(a_trade(now - 3 * HOUR, now - 2 * HOUR, -30_000),)))
    assert [view.day.start_balance_cents for view in watcher.look(now).known] == [5_000_000, 4_970_000]


def test_known_reading_stays_and_the_missing_one_is_rebuilt() -> None:
    rules = rules_with(reset={"also": (NEW_YORK,)}, costs={"commission_booked": "close"})
    found = assess(rules, Kept(account_id=ACCOUNT_ID, days=(a_day(),)))
    assert found.record is not None
    assert (found.record.day.reset, found.record.earlier) == ("17:00 America/New_York", ())
    assert [view.day.reset for view in found.known] == ["00:00 Europe/Athens", "17:00 America/New_York"]


def test_higher_of_balance_and_equity_is_the_balance_without_a_position_over_the_reset() -> None:
    opened_today = a_position(opened_at=DAY_STARTS)
    found = assess(HIGHER, positions=(opened_today,), equity_cents=INITIAL_CENTS + 70_000)
    assert found.known[0].day.reference_cents == INITIAL_CENTS


@pytest.mark.parametrize(("floating_cents", "reference_cents"), [(70_000, 5_070_000), (-70_000, 5_000_000)])
def test_higher_of_balance_and_equity_is_seen_right_after_the_reset(floating_cents: int, reference_cents: int) -> None:
    held = a_position(opened_at=DAY_STARTS - HOUR)
    found = assess(
        HIGHER, now=DAY_STARTS + timedelta(seconds=10), positions=(held,), equity_cents=INITIAL_CENTS + floating_cents
    )
    day = found.known[0].day
    assert (day.start_balance_cents, day.reference_cents) == (INITIAL_CENTS, reference_cents)
    assert day.note == "seen at the reset"


@pytest.mark.parametrize("is_open", [True, False])
def test_equity_of_a_slept_reset_with_an_open_position_is_not_known(is_open: bool) -> None:
    trade = a_trade(DAY_STARTS - HOUR, NOW + HOUR if is_open else DAY_STARTS, 20_000)
    found = Watcher(HIGHER, Life(trades=(trade,))).look(DAY_STARTS + timedelta(seconds=11))
    assert (found.known, found.record) == ((), None)
    assert "was not seen: a position was open, and the first look came 11 s later; allowed 10" in found.unknown
    # The next reset, flat by then, is known again.
    watcher = Watcher(HIGHER, Life(trades=(trade,)))
    watcher.look(DAY_STARTS + timedelta(seconds=11))
    assert watcher.look(NOW + timedelta(days=1)).unknown == ""


def test_slept_days_are_recorded_although_todays_reference_is_not_known() -> None:
    trade = a_trade(DAY_STARTS - HOUR, NOW + HOUR, 20_000)
    watcher = Watcher(HIGHER, Life(trades=(trade,)))
    watcher.look(DAY_STARTS - timedelta(days=3))
    found = watcher.look(NOW)
    assert found.record is not None
    assert [day.day for day in (*found.record.earlier, found.record.day)] == ["2026-02-14", "2026-02-15"]
    assert [view.day.day for view in found.known] == []


# ── days slept through ──────────────────────────────────────────────────────


def test_every_reset_slept_through_gets_its_day() -> None:
    start = datetime(2026, 3, 26, 12, 0, tzinfo=UTC)  # over the change of the clocks on the 29th
    life = Life(
        trades=(
            a_trade(start + HOUR, start + 2 * HOUR, 30_000),
            a_trade(start + HOUR, start + timedelta(days=2), -50_000, id="P-2"),
        )
    )
    watcher = Watcher(STATIC, life)
    watcher.look(start)
    found = watcher.look(start + timedelta(days=4))
    assert found.record is not None
    rebuilt = [(day.day, day.start_balance_cents) for day in (*found.record.earlier, found.record.day)]
    assert rebuilt == [
        ("2026-03-27", 5_030_000),
        ("2026-03-28", 5_030_000),
        ("2026-03-29", 4_980_000),
        ("2026-03-30", 4_980_000),
    ]
    assert [parse(day.starts_at).hour for day in (*found.record.earlier, found.record.day)] == [22, 22, 22, 21]


def test_commission_taken_at_the_opening_counts_in_that_day_only() -> None:
    opened = DAY_STARTS - HOUR
    life = Life(trades=(a_trade(opened, NOW, 20_000),), booked="open")
    rules = rules_with(costs={"commission_booked": "open"})
    watcher = Watcher(rules, life)
    watcher.look(opened - HOUR)
    watcher.look(NOW + HOUR)
    assert list(watcher.starts.values()) == [INITIAL_CENTS, INITIAL_CENTS - 500]


def test_history_is_asked_for_as_far_back_as_the_sleep_lasted() -> None:
    old = a_day(day="2026-01-01", starts_at="2025-12-31T22:00:00.000Z", ends_at="2026-01-01T22:00:00.000Z")
    kept = Kept(account_id=ACCOUNT_ID, days=(old,))
    assert days.history_since(STATIC, now=NOW, kept=kept) <= parse(old.starts_at)
    assert days.history_since(STATIC, now=NOW, kept=Kept(account_id=ACCOUNT_ID)) <= NOW - timedelta(days=30)
    # A mark that was never known needs the whole life of the account.
    assert days.history_since(CLOSED, now=NOW, kept=kept) == NOW - timedelta(days=366)


@pytest.mark.parametrize(
    ("back", "ahead", "requests"),
    [
        (timedelta(days=30, minutes=1), timedelta(hours=23, minutes=59), 1),  # the usual one: how long trades are held
        (timedelta(days=1), timedelta(days=2), 1),
        (timedelta(days=30, hours=11), timedelta(hours=13), 1),
        (timedelta(days=30, hours=13), timedelta(days=2), 2),  # half a day is the least: clocks may be wrong
        (timedelta(days=366), timedelta(days=2), 12),
    ],
)
def test_history_is_asked_for_beyond_now_but_not_at_the_cost_of_a_request(
    back: timedelta, ahead: timedelta, requests: int
) -> None:
    until = days.history_until(NOW - back, NOW)
    assert until - NOW == ahead
    assert len(reading.pieces(NOW - back, until)) == requests


def test_sleep_of_more_than_a_year_begins_anew() -> None:
    old = a_day(day="2024-01-01", starts_at="2023-12-31T22:00:00.000Z", ends_at="2024-01-01T22:00:00.000Z")
    found = assess(kept=Kept(account_id=ACCOUNT_ID, days=(old,)), balance_cents=4_000_000)
    assert found.record is not None
    assert (found.record.day.start_balance_cents, found.record.earlier) == (4_000_000, ())


# ── marks ───────────────────────────────────────────────────────────────────


def test_fresh_account_has_its_initial_balance_as_mark() -> None:
    for rules, kind in ((DAY_END, "day_end_balance"), (CLOSED, "closed_balance"), (EQUITY, "equity")):
        found = assess(rules, since=NOW - timedelta(days=366))
        assert [(mark.kind, mark.value_cents, mark.known_until) for mark in found.marks] == [
            (kind, INITIAL_CENTS, iso(NOW))
        ]
        assert found.record is not None
        assert found.record.marks == found.marks
        assert found.raised == messages.RaiseMarks(marks=found.marks)


@pytest.mark.parametrize("rules", [DAY_END, CLOSED])
def test_mark_of_an_account_that_traded_before_needs_all_of_its_history(rules: Any) -> None:
    found = assess(rules, balance_cents=5_030_000)
    assert found.marks == ()
    assert "not to the initial 50,000.00" in found.unknown
    assert [view.day.start_balance_cents for view in found.known] == [5_030_000]
    life = Life(trades=(a_trade(NOW - timedelta(days=200), NOW - timedelta(days=199), 30_000),))
    assert [mark.value_cents for mark in Watcher(rules, life).look(NOW).marks] == [5_030_000]


def test_highest_equity_of_an_account_that_traded_before_is_not_known() -> None:
    life = Life(trades=(a_trade(NOW - timedelta(days=2), NOW - timedelta(days=1), 30_000),))
    found = Watcher(EQUITY, life).look(NOW)
    assert found.marks == ()
    assert "the highest equity is in no history" in found.unknown


def test_day_end_mark_counts_ends_of_days_and_not_what_was_between() -> None:
    life = Life(
        trades=(
            a_trade(NOW, NOW + HOUR, 90_000),
            a_trade(NOW, NOW + 2 * HOUR, -50_000, id="P-2"),
        )
    )
    watcher = Watcher(DAY_END, life)
    watcher.look(NOW - HOUR)
    assert [mark.value_cents for mark in watcher.look(NOW + HOUR).marks] == [5_000_000]
    assert [mark.value_cents for mark in watcher.look(NOW + timedelta(days=3)).marks] == [5_040_000]


def test_closed_mark_counts_the_balance_after_every_result() -> None:
    life = Life(
        trades=(
            a_trade(NOW, NOW + HOUR, 90_000),
            a_trade(NOW, NOW + 2 * HOUR, -50_000, id="P-2"),
        )
    )
    watcher = Watcher(CLOSED, life)
    watcher.look(NOW - HOUR)
    found = watcher.look(NOW + timedelta(days=3))
    assert [(mark.value_cents, mark.at) for mark in found.marks] == [(5_090_000, iso(NOW + HOUR))]


def test_results_stamped_alike_count_the_gains_first() -> None:
    life = Life(trades=(a_trade(NOW, NOW + HOUR, 90_000), a_trade(NOW, NOW + HOUR, -50_000, id="P-2")))
    watcher = Watcher(CLOSED, life)
    watcher.look(NOW - HOUR)
    assert [mark.value_cents for mark in watcher.look(NOW + 2 * HOUR).marks] == [5_090_000]


def test_equity_mark_follows_looks_and_never_falls() -> None:
    watcher = Watcher(EQUITY, Life(trades=(a_trade(NOW, NOW + HOUR, 1_000),)))
    watcher.look(NOW - HOUR)
    watcher.look(NOW, floating_cents=0)
    for second, floating_cents in ((60, 40_000), (120, -40_000)):
        watcher.look(NOW + timedelta(seconds=second), floating_cents=floating_cents)
    assert watcher.peak_cents == 5_040_000


@pytest.mark.parametrize(("unwatched_s", "is_known"), [(360, True), (361, False)])
@pytest.mark.parametrize("is_closed", [True, False])
def test_open_trade_that_nobody_watched_leaves_the_highest_equity_unknown(
    unwatched_s: int, is_known: bool, is_closed: bool
) -> None:
    closed_at = NOW + timedelta(seconds=unwatched_s) if is_closed else NOW + timedelta(days=2)
    watcher = Watcher(EQUITY, Life(trades=(a_trade(NOW, closed_at, 1_000),)))
    watcher.look(NOW - HOUR)
    found = watcher.look(NOW + (HOUR if is_closed else timedelta(seconds=unwatched_s)))
    assert bool(found.marks) is is_known
    assert ("equity was not watched for 361 s" in found.unknown) is not is_known


def test_gap_without_a_trade_needs_no_watching() -> None:
    watcher = Watcher(EQUITY, Life())
    watcher.look(NOW)
    assert watcher.look(NOW + timedelta(days=5)).unknown == ""


# ── telling the store ───────────────────────────────────────────────────────


class Listener:
    def __init__(self) -> None:
        self.heard: list[messages.Command] = []

    async def ask(self, command: messages.Command, deadline_s: float | None = None) -> messages.Ack:
        self.heard.append(command)
        return messages.Ack(id="1", outcome=Outcome.APPLIED)


async def test_store_is_told_once_of_new_days_and_risen_marks() -> None:
    listener = Listener()
    watcher = Watcher(CLOSED, Life(trades=(a_trade(NOW, NOW + HOUR, 1_000),)))
    found = watcher.look(NOW - HOUR)
    assert await days.record(found, listener)
    assert listener.heard == [found.record]
    assert not await days.record(watcher.look(NOW), listener)
    found = watcher.look(NOW + HOUR)
    assert await days.record(found, listener)
    assert listener.heard[1:] == [messages.RaiseMarks(marks=found.marks)]


# ── any sleep ───────────────────────────────────────────────────────────────

BEGIN = datetime(2026, 3, 5, 9, 0, tzinfo=UTC)  # both clock changes of the spring lie in the weeks after it
MINUTES = 40 * 24 * 60


@st.composite
def lives(draw: st.DrawFn) -> Life:
    trades = []
    for number in range(draw(st.integers(0, 12))):
        opened = draw(st.integers(0, MINUTES - 1))
        legs = []
        for _ in range(draw(st.integers(1, 2))):
            # On the hour now and then, so that results fall on the resets themselves.
            closed = draw(
                st.integers(opened, MINUTES)
                | st.integers(opened // 60 + 1, MINUTES // 60 + 1).map(lambda hour: hour * 60)
            )
            legs.append(
                Leg(
                    closed_at=BEGIN + timedelta(minutes=closed),
                    gross_cents=draw(st.integers(-90_000, 90_000)),
                    commission_cents=draw(st.integers(-900, 0)),
                )
            )
        trades.append(Trade(id=f"P-{number}", opened_at=BEGIN + timedelta(minutes=opened), legs=tuple(legs)))
    return Life(trades=tuple(trades), booked=draw(st.sampled_from(["open", "close"])))


def the_looks(life: Life, rules: Any, until: datetime) -> list[datetime]:
    """Every reset, every event, and some moments between."""
    looks = [turned.starts_at for each in firm_day.readings(rules) for turned in firm_day.days_of(each, BEGIN, until)]
    looks += [at for at, _ in life.bookings() if at <= until]
    looks += [at + timedelta(minutes=7) for at in looks if at + timedelta(minutes=7) <= until]
    return sorted({*looks, until})


@settings(max_examples=60, deadline=None)
@given(life=lives(), base=st.sampled_from([DAY_END, CLOSED]), slept_days=st.integers(1, 38), data=st.data())
def test_after_any_sleep_the_figures_are_those_of_a_system_that_never_slept(
    life: Life, base: Any, slept_days: int, data: st.DataObject
) -> None:
    rules = msgspec.structs.replace(
        base,
        reset=msgspec.structs.replace(base.reset, also=(NEW_YORK,)),
        costs=msgspec.structs.replace(base.costs, commission_booked=life.booked),
    )
    until = BEGIN + timedelta(days=slept_days, minutes=data.draw(st.integers(0, 1_439)))
    awake, sleeper = Watcher(rules, life), Watcher(rules, life, random.Random(data.draw(st.integers(0, 99))))
    for watcher in (awake, sleeper):
        watcher.look(BEGIN - HOUR)
    floors = []
    for now in the_looks(life, rules, until):
        found = awake.look(now)
        assert (found.unknown, found.unexplained_cents) == ("", 0)
        limits = drawdown.lines(
            rules, days=tuple(view.day for view in found.known), marks=found.marks,
            balance_cents=life.balance_cents(now), equity_cents=life.balance_cents(now),
        )  # fmt: skip
        assert not isinstance(limits, str)
        floors.append(next(limit.floor_cents for limit in limits if limit.name == "maximum"))
    assert floors == sorted(floors), "the maximum floor fell"
    sleeper.look(until)
    assert sleeper.starts == awake.starts
    assert sleeper.peak_cents == awake.peak_cents
    # And both are what the account was worth, added up forwards.
    for day in awake.kept.days:
        assert day.start_balance_cents == life.balance_cents(parse(day.starts_at), with_now=False)
    assert awake.peak_cents == max(INITIAL_CENTS, *true_peaks(life, rules, until))


def true_peaks(life: Life, rules: Any, until: datetime) -> list[int]:
    if rules.maximum.mode == "trailing_day_end":
        resets = [
            day.starts_at
            for each in firm_day.readings(rules)
            for day in firm_day.days_of(each, BEGIN - 2 * HOUR, until)
        ]
        return [life.balance_cents(reset, with_now=False) for reset in resets] or [0]
    found = [0]
    for at in {at for at, _ in life.bookings() if at <= until}:
        before = life.balance_cents(at, with_now=False)
        found.append(before + sum(gain for stamp, gain in merged(life) if stamp == at and gain > 0))
        found.append(life.balance_cents(at))
    return found


def merged(life: Life) -> list[tuple[datetime, int]]:
    """Return the bookings as the history shows them: a closing in one sum, a commission at the opening on its own."""
    found = []
    for trade in life.trades:
        for leg in trade.legs:
            is_open = life.booked == "open"
            found.append((leg.closed_at, leg.gross_cents + (0 if is_open else leg.commission_cents)))
    return found


@settings(max_examples=60, deadline=None)
@given(life=lives(), hours=st.lists(st.integers(0, 40 * 24), min_size=1, max_size=8))
def test_booking_that_is_not_known_never_gives_a_lower_start_nor_a_false_alarm(life: Life, hours: list[int]) -> None:
    watcher = Watcher(rules_with(costs={"commission_booked": "unknown"}), life)
    watcher.look(BEGIN - HOUR)
    for hour in sorted(hours):
        found = watcher.look(BEGIN + timedelta(hours=hour))
        assert found.unexplained_cents == 0
    paid_cents = -sum(leg.commission_cents for trade in life.trades for leg in trade.legs)
    for day in watcher.kept.days:
        true_cents = life.balance_cents(parse(day.starts_at), with_now=False)
        assert true_cents <= day.start_balance_cents <= true_cents + paid_cents


@settings(max_examples=60, deadline=None)
@given(life=lives(), hour=st.integers(1, 39 * 24), cents=st.integers(20_000, 90_000), sign=st.sampled_from([1, -1]))
def test_cash_flow_larger_than_all_costs_never_goes_unseen(life: Life, hour: int, cents: int, sign: int) -> None:
    at = BEGIN + timedelta(hours=hour)
    flowing = msgspec.structs.replace(life, flows=((at, sign * cents),))
    watcher = Watcher(rules_with(costs={"commission_booked": "unknown"}), flowing)
    watcher.look(BEGIN - HOUR)
    before = watcher.starts
    found = watcher.look(at + HOUR)
    assert found.unexplained_cents is not None
    assert found.unexplained_cents * sign > 0
    assert watcher.starts == before


@settings(max_examples=100, deadline=None)
@given(
    life=lives(), hour=st.integers(24, 39 * 24), before=st.integers(1, 24), later=st.integers(1, 24),
    cents=st.integers(20_000, 90_000), sign=st.sampled_from([1, -1]), is_booked_known=st.booleans(),
)  # fmt: skip
def test_least_start_of_a_day_is_never_above_the_true_one_whenever_the_cash_flowed(
    life: Life, hour: int, before: int, later: int, cents: int, sign: int, is_booked_known: bool
) -> None:
    at = BEGIN + timedelta(hours=hour)
    booked = life.booked if is_booked_known else "unknown"
    flowing = msgspec.structs.replace(life, flows=((at, sign * cents),))
    watcher = Watcher(rules_with(costs={"commission_booked": booked}), flowing)
    for moment in (BEGIN - HOUR, at - before * HOUR, at + later * HOUR):
        found = watcher.look(moment)
    for day, least_cents in found.at_least.items():
        assert least_cents <= flowing.balance_cents(day.starts_at, with_now=False)


def test_least_start_allows_for_the_commission_that_the_day_before_may_have_been_recorded_too_high_by() -> None:
    legs = (Leg(closed_at=NOW + timedelta(days=3), gross_cents=0, commission_cents=-500),)
    next_reset = DAY_STARTS + timedelta(days=1)
    life = Life(trades=(Trade(id="P-1", opened_at=NOW, legs=legs),), flows=((next_reset + HOUR, 1_200),))
    watcher = Watcher(rules_with(costs={"commission_booked": "unknown"}), life)
    watcher.look(NOW + HOUR)
    found = watcher.look(next_reset + 2 * HOUR)
    assert (found.known, found.unexplained_cents) == ((), 700)
    assert list(found.at_least.values()) == [5_000_000]


def test_reset_whose_equity_was_not_seen_leaves_the_balance_for_a_least() -> None:
    life = Life(trades=(a_trade(DAY_STARTS - HOUR, NOW + 9 * HOUR, 0),))
    watcher = Watcher(rules_with(daily={"reference": "higher_of_balance_and_equity"}), life)
    found = watcher.look(NOW, floating_cents=70_000)
    assert (found.known, found.record, list(found.at_least.values())) == ((), None, [5_000_000])


def test_results_that_add_up_to_nothing_since_the_history_was_read_are_found_when_it_is_read_again() -> None:
    read_at = NOW - HOUR
    life = Life(
        trades=(
            a_trade(NOW, NOW + HOUR, 90_000),
            a_trade(NOW, NOW + 2 * HOUR, -90_000, id="P-2"),
        )
    )
    watcher = Watcher(CLOSED, life)
    watcher.look(read_at)
    stale = watcher.look(NOW + 3 * HOUR, closed=(), until=read_at)
    assert (stale.unexplained_cents, stale.marks[0].value_cents, stale.marks[0].known_until) == (
        0,
        5_000_000,
        iso(read_at),
    )
    assert watcher.look(NOW + 3 * HOUR).marks[0].value_cents == 5_090_000


def test_withdrawal_that_the_operator_has_settled_hides_earlier_peaks_until_he_says_them() -> None:
    life = Life(
        trades=(a_trade(NOW, NOW + HOUR, 90_000),),
        flows=((NOW + 2 * HOUR, -80_000),),
    )
    watcher = Watcher(CLOSED, life)
    watcher.look(NOW - HOUR)
    later = NOW + timedelta(days=1)
    assert watcher.look(later).unexplained_cents == -80_000
    declared = a_day(
        5_010_000,
        day="2026-02-17",
        starts_at=iso(DAY_STARTS + timedelta(days=1)),
        ends_at=iso(DAY_STARTS + timedelta(days=2)),
    )
    watcher.add_days((declared,))
    found = watcher.look(later)
    assert found.unexplained_cents == 0
    assert found.marks == ()
    assert "hide how high the closed_balance was" in found.unknown
    mark = msgspec.structs.replace(watcher.kept.marks[0], value_cents=5_090_000, known_until=iso(later))
    watcher.kept = msgspec.structs.replace(watcher.kept, marks=(mark,))
    assert watcher.look(later + HOUR).marks[0].value_cents == 5_090_000
