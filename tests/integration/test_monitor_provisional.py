"""A day whose start is not known is watched all the same, over a real paper broker and a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from actors.broker.errors import Transient
from actors.compliance import rulebook
from actors.compliance.rulebook import RuleSet
from actors.desk import view
from bus import messages
from tests.kit import watching
from tests.kit.compliance import a_balance, the_rules
from tests.kit.watching import Room, Watched, with_changes

RESET_S = 10 * 3_600.0  # from noon to both resets, 22:00 UTC
FLATTEN_CENTS = 4_775_000  # 90% of the 2,500.00 below 50,000.00
HARD = with_changes(the_rules(), daily={"kind": "hard"})
HIGHER = with_changes(HARD, daily={"kind": "hard", "reference": "higher_of_balance_and_equity"})

Trouble = Callable[[Room], None]


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with watching.a_room(tmp_path) as found:
        yield found


def no_trouble(room: Room) -> None:
    """Nothing is wrong."""


def lose_the_history(room: Room) -> None:
    room.client.history_is_down = True


def credit(room: Room) -> None:
    """Have 12.00 come in that no row explains."""
    room.client.said = a_balance(5_001_200)


def say(room: Room, equity_cents: int, *, at_s: float) -> None:
    """Have the broker say this equity, and the balance that it said last, so long after the reset."""
    assert room.client.said is not None
    room.client.said = a_balance(room.client.said.balance_cents, equity_cents=equity_cents)
    room.clock.ahead_s = RESET_S + at_s


async def over_the_reset(room: Room, found: Watched, trouble: Trouble, *, first_look_s: float = 1.0) -> None:
    """Hold a position over the reset, looked at a minute before, and have trouble begin in between."""
    await room.buy_for_an_intent()
    room.client.said = a_balance(5_000_000)
    await found.round()
    room.clock.ahead_s = RESET_S - 60.0
    await found.round()
    await found.round()
    trouble(room)
    say(room, room.client.said.equity_cents, at_s=first_look_s)
    await found.round()


def day_starts(room: Room, found: Watched) -> list[int]:
    """Return what the days that hold now started with, as the store has them."""
    return [day.start_balance_cents for day in found.reader.account_days("PAPER-1") if day.ends_at > now(room)]


def now(room: Room) -> str:
    return room.clock.now().isoformat()


TROUBLES = [
    pytest.param(HARD, lose_the_history, 1.0, id="the history cannot be read"),
    pytest.param(HARD, lose_the_history, 240.0, id="the history cannot be read, and the first look comes late"),
    pytest.param(HARD, credit, 1.0, id="no row explains 12.00"),
    pytest.param(HIGHER, no_trouble, 11.0, id="equity at the reset was not seen"),
]


# ── what must not happen ────────────────────────────────────────────────────


@pytest.mark.parametrize(("rules", "trouble", "first_look_s"), TROUBLES)
async def test_a_cent_above_the_level_of_the_least_start_nothing_is_closed(
    room: Room, rules: RuleSet, trouble: Trouble, first_look_s: float
) -> None:
    with room.watched(rules) as found:
        await over_the_reset(room, found, trouble, first_look_s=first_look_s)
        say(room, FLATTEN_CENTS + 1, at_s=3_600.0)
        await found.round()
        assert found.flattens() == []
        assert len(await room.open_positions()) == 1


@pytest.mark.parametrize(("rules", "trouble", "first_look_s"), TROUBLES)
async def test_provisional_start_is_never_recorded_and_opens_nothing(
    room: Room, rules: RuleSet, trouble: Trouble, first_look_s: float
) -> None:
    with room.watched(rules) as found:
        await over_the_reset(room, found, trouble, first_look_s=first_look_s)
        days, samples = len(room.store.sent(messages.StartDay)), len(room.store.sent(messages.SampleEquity))
        say(room, 4_990_000, at_s=3_600.0)
        await found.round()
        assert day_starts(room, found) == []
        assert len(room.store.sent(messages.StartDay)) == days
        assert len(room.store.sent(messages.SampleEquity)) == samples
        look = view.account_view(
            room.client, found.reader, settings=found.settings, rules=rules, clock=room.clock, symbol="EURUSD"
        )
        if trouble is lose_the_history:
            with pytest.raises(Transient):  # the executor gates nothing without a history
                await look
        else:
            assert (await look).account.days == ()  # the check `day_known` refuses


async def test_day_that_began_before_the_monitor_did_is_watched_by_no_guess(room: Room) -> None:
    with room.watched(HARD) as found:
        await room.buy_for_an_intent()
        room.client.said = a_balance(5_000_000, equity_cents=FLATTEN_CENTS)
        room.client.history_is_down = True
        await found.round()
        await found.round()
        assert (found.flattens(), found.events().count("day_unknown")) == ([], 1)
        assert "provisional" not in room.store.sent(messages.Report)[0].text


# ── what must happen ────────────────────────────────────────────────────────


@pytest.mark.parametrize(("rules", "trouble", "first_look_s"), TROUBLES)
async def test_level_of_the_least_start_closes_everything_although_the_start_is_not_known(
    room: Room, rules: RuleSet, trouble: Trouble, first_look_s: float
) -> None:
    with room.watched(rules) as found:
        await over_the_reset(room, found, trouble, first_look_s=first_look_s)
        told = [report.text for report in room.store.sent(messages.Report) if report.event == "day_unknown"]
        assert len(told) == 1
        assert "limits are watched by a provisional start of 50,000.00 (00:00 Europe/Athens)" in told[0]
        say(room, FLATTEN_CENTS, at_s=3_600.0)
        await found.round()
        assert "daily_drawdown" in found.flattens()
        assert await room.open_positions() == ()


async def test_equity_seen_at_the_reset_is_what_the_loss_is_counted_from(room: Room) -> None:
    def rise(room: Room) -> None:
        lose_the_history(room)
        room.client.said = a_balance(5_000_000, equity_cents=5_100_000)

    with room.watched(HIGHER) as found:
        await over_the_reset(room, found, rise, first_look_s=5.0)
        say(room, 5_100_000 - 229_500, at_s=3_600.0)  # 90% of 5% of 51,000.00
        await found.round()
        assert found.flattens() == ["daily_drawdown"]


async def test_monitor_that_starts_after_the_reset_goes_by_the_last_sample_before(room: Room) -> None:
    with room.watched(HARD) as found:
        await room.buy_for_an_intent()
        room.client.said = a_balance(5_000_000)
        await found.round()
        await found.round()
    lose_the_history(room)
    with room.watched(HARD) as successor:
        say(room, FLATTEN_CENTS, at_s=3_600.0)
        await successor.round()
        assert successor.flattens() == ["daily_drawdown"]
        assert await room.open_positions() == ()


async def test_true_start_takes_the_place_of_the_provisional_one(room: Room) -> None:
    def withdraw(room: Room) -> None:
        lose_the_history(room)
        room.client.said = a_balance(4_990_000)

    with room.watched(HARD) as found:
        await over_the_reset(room, found, withdraw)
        say(room, 4_770_000, at_s=300.0)  # 2,200.00 below 49,900.00: beyond 85% of 5%, within 90%
        await found.round()
        assert found.halts() == [("soft", "daily_drawdown")]
        assert found.flattens() == []
        position_id = await room.buy()
        room.price("1.09920")
        room.close(position_id)  # a row that explains where the 100.00 went
        room.client.history_is_down = False
        room.client.said = None
        balance_cents = (await room.client.balance()).balance_cents
        room.client.said = a_balance(balance_cents)
        say(room, 4_770_000, at_s=600.0)  # 2,300.00 below 50,000.00
        await found.round()
        assert day_starts(room, found) == [5_000_000, 5_000_000]
        assert found.flattens() == ["daily_drawdown"]


async def test_maximum_that_trails_the_day_end_counts_the_balance_before_the_reset(tmp_path: Path) -> None:
    path = watching.trailing_rules(tmp_path, "trailing_day_end")
    async with watching.a_room(tmp_path, rules_file=path) as room:
        with room.watched(rulebook.load(str(path))) as found:
            winner = await room.buy("2.00")
            await found.round()
            room.price("1.10500")
            room.close(winner)  # +970.00 on the day that ends
            await room.buy_for_an_intent()
            room.clock.ahead_s = RESET_S - 60.0
            await found.round()
            balance_cents = (await room.client.balance()).balance_cents
            lose_the_history(room)
            room.client.said = a_balance(balance_cents)
            room.clock.ahead_s = RESET_S + 1.0
            await found.round()
            room.clock.ahead_s = RESET_S + 3_600.0
            room.client.said = a_balance(5_000_000, equity_cents=balance_cents - 359_900)
            await found.round()
            assert "max_drawdown" not in found.flattens()
            room.client.said = a_balance(5_000_000, equity_cents=balance_cents - 360_000)  # 90% of 4,000.00
            await found.round()
            assert "max_drawdown" in found.flattens()
            assert found.reader.account_marks("PAPER-1")[0].value_cents < balance_cents
