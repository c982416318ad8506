"""Worked examples of the firms' own pages, one table per rule: what they say a floor or a day is, ours must be.

The page stands beside each example; where a firm publishes none, the words of its rule are worked out by hand.
Amounts are whole units of the account's currency.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from actors.compliance import best_day, day, drawdown, flat, marks, news, rulebook
from actors.compliance.drawdown import Level, Limit
from actors.compliance.rulebook import RuleSet
from bus.records import AccountDay, AccountMark
from config import load

ROOT = Path(__file__).parent.parent.parent
AT = "2026-10-05T00:00:00.000Z"
BLUEPRINT, OCTOBER, ONE = "e8-signature-50k", "e8-signature-50k-2026-10", "e8-one-5k"
FTMO_2, FTMO_1 = "ftmo-2step", "ftmo-1step"
FUNDEDNEXT, THE5ERS, FUNDINGPIPS = "fundednext-stellar-2step", "the5ers-high-stakes", "fundingpips-2step"


def the_set(name: str, initial: int) -> RuleSet:
    """Return a set for an account of this size: pages work their examples out on sizes of their own."""
    rules = rulebook.load(name)
    account = msgspec.structs.replace(rules.account, initial_balance_cents=initial * 100)
    return msgspec.structs.replace(rules, account=account)


def lines(
    name: str,
    *,
    initial: int,
    start: int = 0,
    start_equity: int = 0,
    highest: int = 0,
    balance: int = 0,
    equity: int = 0,
) -> dict[str, Limit]:
    """Return the limits by name; the daily one, the same in every reading of the reset here, as `daily`.

    `start` and `start_equity` are balance and equity at the reset; what is 0 is the initial balance, `equity` the
    balance, and `highest` no higher than that.
    """
    rules = the_set(name, initial)
    start, balance = start or initial, balance or start or initial
    reference = drawdown.next_reference_cents(rules, start * 100, (start_equity or start) * 100)
    days = tuple(
        AccountDay(
            account_id="A", day="2026-10-05", reset=moment.label, starts_at=AT, ends_at=AT, created_at=AT,
            start_balance_cents=start * 100, reference_cents=reference, initial_balance_cents=initial * 100,
        )
        for moment in day.readings(rules)
    )  # fmt: skip
    kind = marks.kind_of(rules)
    kept = () if kind is None else (
        AccountMark(account_id="A", kind=kind, value_cents=max(highest, initial) * 100, at=AT, known_until=AT),
    )  # fmt: skip
    found = drawdown.lines(
        rules, days=days, marks=kept, balance_cents=balance * 100, equity_cents=(equity or balance) * 100
    )
    assert not isinstance(found, str), found
    return {limit.name.partition(" ")[0]: limit for limit in found}


# ── daily loss ──────────────────────────────────────────────────────────────

DAILY = [
    # set, initial, balance and equity at the reset, floor of the day
    (BLUEPRINT, 50_000, 50_000, 50_000, 47_500),  # blueprint section 14: 5% of the day's start, $2,500
    (BLUEPRINT, 50_000, 52_000, 52_000, 49_400),  # the same words: 5% of 52,000 is 2,600
    (BLUEPRINT, 50_000, 50_000, 51_000, 47_500),  # floating profit is never part of the day's start
    (OCTOBER, 100_000, 100_000, 100_000, 98_000),  # intercom.help/e8, Daily Pause, day 1
    (OCTOBER, 100_000, 100_000, 101_000, 98_000),  # each day's starting balance
    (OCTOBER, 100_000, 102_435, 102_435, 100_435),  # intercom.help/e8, Daily Pause, day 2
    (ONE, 5_000, 5_000, 5_000, 4_800),  # 4% of the initial balance
    (ONE, 5_000, 5_100, 5_200, 4_900),
    (FTMO_2, 200_000, 200_000, 200_000, 190_000),  # academy.ftmo.com: 5% of 200,000 is 10,000
    (
        FTMO_2,
        200_000,
        204_000,
        191_000,
        194_000,
    ),  # academy.ftmo.com: 4,000 closed on Monday, 13,000 floating over night
    (FTMO_2, 100_000, 102_000, 104_000, 97_000),  # account balance at midnight
    (FTMO_1, 100_000, 100_000, 100_000, 97_000),  # ftmo.com: 3% of the initial simulated capital
    (FTMO_1, 100_000, 104_000, 105_000, 101_000),
    (FUNDEDNEXT, 100_000, 100_000, 100_000, 95_000),  # help.fundednext.com: the daily limit is $5,000
    (FUNDEDNEXT, 100_000, 100_000, 102_000, 97_000),  # floating profit included: 102,000 - 5,000
    (FUNDEDNEXT, 100_000, 100_000, 98_000, 95_000),  # floating loss: the balance is higher
    (THE5ERS, 100_000, 100_000, 103_000, 97_850),  # help.the5ers.com: 5% of the highest of equity and balance
    (THE5ERS, 100_000, 100_000, 97_000, 95_000),
    (FUNDINGPIPS, 100_000, 100_000, 101_000, 95_950),  # trading rules: the higher of the two, 5% of it
    (FUNDINGPIPS, 100_000, 101_000, 99_000, 95_950),
]


@pytest.mark.parametrize(("name", "initial", "start", "start_equity", "floor"), DAILY)
def test_daily_floor_is_what_the_firm_says(name: str, initial: int, start: int, start_equity: int, floor: int) -> None:
    assert lines(name, initial=initial, start=start, start_equity=start_equity)["daily"].floor_cents == floor * 100


@pytest.mark.parametrize("name", [BLUEPRINT, OCTOBER, ONE, FTMO_2, FTMO_1, FUNDEDNEXT, THE5ERS, FUNDINGPIPS])
def test_profit_made_during_the_day_does_not_move_the_floor(name: str) -> None:
    # help.fundednext.com: 2,000 made by noon, hence 7,000 may be lost until midnight: the floor stays where it was.
    before = lines(name, initial=100_000)["daily"]
    after = lines(name, initial=100_000, balance=102_000, start=100_000)["daily"]
    assert after == before
    assert after.room_cents(10_200_000) == before.room_cents(10_000_000) + 200_000


def test_floating_loss_carried_over_midnight_breaks_the_next_day() -> None:
    # academy.ftmo.com: with 4,000 closed and 13,000 floating loss, 23:59 is within the limit and midnight is not.
    found = lines(FTMO_2, initial=200_000, start=200_000, balance=204_000, equity=191_000)
    assert found["daily"].level(19_100_000) < Level.BREACH
    assert found["next_day"].level(19_100_000) == Level.BREACH


# ── maximum loss ────────────────────────────────────────────────────────────

MAXIMUM = [
    # set, initial, highest mark so far, balance now, floor
    (BLUEPRINT, 50_000, 50_000, 50_000, 46_000),  # blueprint section 14: static, $4,000
    (BLUEPRINT, 50_000, 55_000, 55_000, 46_000),
    (OCTOBER, 50_000, 50_000, 50_000, 48_000),  # 4%, end-of-day
    (OCTOBER, 50_000, 51_000, 50_500, 49_000),
    (OCTOBER, 50_000, 50_000, 51_500, 48_000),  # profit of a day that has not ended moves nothing
    (OCTOBER, 50_000, 52_000, 52_000, 50_000),  # locks at the initial balance
    (OCTOBER, 50_000, 60_000, 60_000, 50_000),
    (ONE, 100_000, 100_000, 100_000, 94_000),  # help.e8markets.com, Trailing Drawdown of E8 One
    (ONE, 100_000, 100_000, 101_000, 95_000),  # at once, not the next day
    (ONE, 100_000, 106_000, 106_000, 100_000),
    (ONE, 100_000, 120_000, 120_000, 100_000),
    (ONE, 100_000, 103_000, 100_000, 97_000),  # help.e8markets.com, payouts: 3,000 withdrawn, the level stays
    (FTMO_2, 100_000, 100_000, 108_000, 90_000),  # academy.ftmo.com, Maximum Loss
    (FTMO_1, 100_000, 100_000, 100_000, 90_000),  # ftmo.com, Maximum Loss Limit of the 1-Step, day 1
    (FTMO_1, 100_000, 104_000, 104_000, 94_000),  # day 2
    (FTMO_1, 100_000, 104_000, 103_000, 94_000),  # day 3: the higher balance still counts
    (FTMO_1, 100_000, 115_000, 115_000, 105_000),  # no lock is named
    (FUNDEDNEXT, 100_000, 100_000, 112_000, 90_000),  # help.fundednext.com: not below 90,000
    (THE5ERS, 100_000, 100_000, 112_000, 90_000),  # help.the5ers.com: 10% of the initial balance
    (FUNDINGPIPS, 100_000, 100_000, 112_000, 90_000),  # 100k account: cannot fall below 90,000
]


@pytest.mark.parametrize(("name", "initial", "highest", "balance", "floor"), MAXIMUM)
def test_maximum_floor_is_what_the_firm_says(name: str, initial: int, highest: int, balance: int, floor: int) -> None:
    assert lines(name, initial=initial, highest=highest, balance=balance)["maximum"].floor_cents == floor * 100


def test_day_that_ends_high_raises_the_floor_of_the_next() -> None:
    # ftmo.com: a balance of 104,000 at midnight makes 94,000 the limit of day 2; before midnight it is 90,000.
    found = lines(FTMO_1, initial=100_000, highest=100_000, balance=104_000)
    assert (found["maximum"].floor_cents, found["next_maximum"].floor_cents) == (9_000_000, 9_400_000)


# ── breach ──────────────────────────────────────────────────────────────────

BREACH = [
    # set, which limit, measured value in cents, breach?
    (FTMO_2, "maximum", 9_000_000, False),  # academy.ftmo.com: can never be less than 90,000
    (FTMO_2, "maximum", 8_999_900, True),  # academy.ftmo.com: 92,000 with a floating loss of 2,001
    (FTMO_1, "maximum", 9_000_000, False),
    (FTMO_1, "daily", 9_699_999, True),
    (OCTOBER, "daily", 9_800_000, True),  # intercom.help/e8: reaches or falls below the loss level
    (OCTOBER, "daily", 9_800_001, False),
    (THE5ERS, "daily", 9_500_000, True),  # help.the5ers.com: reaching any of these limits
    (THE5ERS, "maximum", 9_000_000, True),
    (FUNDINGPIPS, "daily", 9_500_000, True),  # trading rules: must not hit the limit
    (FUNDEDNEXT, "maximum", 9_000_000, True),
    (ONE, "maximum", 9_400_000, True),
    (BLUEPRINT, "maximum", 9_200_000, True),
    # our reading where the page says nothing of its own: reached is breached, at FTMO as in its other rule
    (BLUEPRINT, "daily", 9_500_000, True),
    (OCTOBER, "maximum", 9_600_000, True),
    (ONE, "daily", 9_600_000, True),
    (FUNDEDNEXT, "daily", 9_500_000, True),
    (FUNDINGPIPS, "maximum", 9_000_000, True),
    (FTMO_2, "daily", 9_500_000, False),
    (FTMO_1, "daily", 9_700_000, False),
]


@pytest.mark.parametrize(("name", "limit", "value_cents", "is_breach"), BREACH)
def test_reaching_the_floor_is_a_breach_where_the_firm_says_so(
    name: str, limit: str, value_cents: int, is_breach: bool
) -> None:
    found = lines(name, initial=100_000)[limit]
    assert (found.level(value_cents) == Level.BREACH) is is_breach
    assert found.level(found.floor_cents) >= Level.FLATTEN  # either way nothing is open there any more


@pytest.mark.parametrize(
    ("name", "measured_cents"),
    [
        (BLUEPRINT, 9_000), (OCTOBER, 9_000), (ONE, 9_000), (FUNDEDNEXT, 9_000), (THE5ERS, 9_000), (FUNDINGPIPS, 9_000),
        (FTMO_2, 10_000), (FTMO_1, 10_000),  # academy.ftmo.com: we use equity, not balance
    ],
)  # fmt: skip
def test_floating_profit_counts_only_where_the_firm_measures_equity(name: str, measured_cents: int) -> None:
    rules = rulebook.load(name)
    for measured_on in (rules.daily.measured_on, rules.maximum.measured_on):
        assert drawdown.measured_cents(9_000, 10_000, measured_on) == measured_cents


# ── the firm's day ──────────────────────────────────────────────────────────

RESETS = [
    # set, a moment, when its day began by each reading (UTC)
    (FTMO_2, "2026-07-15T12:00", ["2026-07-14T22:00"]),  # midnight CEST
    (FTMO_1, "2026-01-15T12:00", ["2026-01-14T23:00"]),  # midnight CET
    (FUNDINGPIPS, "2026-07-15T12:00", ["2026-07-14T21:00"]),  # UTC+3, summer
    (FUNDINGPIPS, "2026-01-15T12:00", ["2026-01-14T21:00"]),  # and winter
    (FUNDEDNEXT, "2026-07-15T12:00", ["2026-07-14T21:00", "2026-07-14T21:00"]),  # help.fundednext.com: GMT+3 in summer
    (FUNDEDNEXT, "2026-01-15T12:00", ["2026-01-14T22:00", "2026-01-14T22:00"]),  # and GMT+2 in winter
    (BLUEPRINT, "2026-03-16T12:00", ["2026-03-15T22:00", "2026-03-15T21:00"]),  # America has summer time already
    (OCTOBER, "2026-10-27T12:00", ["2026-10-26T22:00", "2026-10-26T21:00"]),  # and still, a week longer than Europe
    (ONE, "2026-01-15T12:00", ["2026-01-14T22:00", "2026-01-14T22:00"]),
    # help.the5ers.com: 5PM EST or 00:00 UTC+3
    (THE5ERS, "2026-01-15T12:00", ["2026-01-14T22:00", "2026-01-14T22:00", "2026-01-14T21:00"]),
]


@pytest.mark.parametrize(("name", "moment", "starts"), RESETS)
def test_day_begins_when_the_firm_says(name: str, moment: str, starts: list[str]) -> None:
    now = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    found = day.firm_days(rulebook.load(name), now)
    assert [one.starts_at for one in found] == [datetime.fromisoformat(start).replace(tzinfo=UTC) for start in starts]


# ── best day ────────────────────────────────────────────────────────────────

BEST_DAY = [
    # set, total profit, the most that its best day may have been
    (FTMO_1, 10_000, 5_000),  # ftmo.com: 5,000 on one day, 5,000 more on others: 50%, met
    (ONE, 1_900, 760),  # intercom.help/e8, 40% Best Day Rule, scenario A
    (ONE, 3_100, 1_240),  # scenario B
    (ONE, 3_750, 1_500),  # and how it is cured
    (OCTOBER, 1_900, 665),  # intercom.help/e8, 35% Best Day Rule, scenario 1
    (OCTOBER, 3_100, 1_085),  # scenario 2
    (FUNDINGPIPS, 10_000, 3_500),
]


@pytest.mark.parametrize(("name", "total", "best"), BEST_DAY)
def test_share_of_the_best_day_is_what_the_firm_says(name: str, total: int, best: int) -> None:
    assert rulebook.load(name).best_day.ratio * total == best


def test_cap_of_a_day_is_what_the_blueprint_says() -> None:
    rules = rulebook.load(BLUEPRINT)
    assert best_day.cap_cents(rules) == 160_000
    assert best_day.allowed_cents(rules, 500_000) == 136_000  # 85% of it, whatever was earned before
    assert best_day.flatten_cents(rules) == 144_000


def test_share_in_the_evaluation_is_held_with_our_margin() -> None:
    rules = rulebook.load(FTMO_1)
    assert best_day.allowed_cents(rules, 0) == 425_000  # 85% of 50% of the target of 10,000
    assert best_day.allowed_cents(rules, 2_000_000) == 850_000  # 85% of 50% of 20,000


@pytest.mark.parametrize("name", [OCTOBER, ONE, FUNDINGPIPS, FTMO_2, FUNDEDNEXT, THE5ERS])
def test_share_at_payout_and_no_rule_at_all_refuse_nothing(name: str) -> None:
    assert best_day.allowed_cents(rulebook.load(name), 100_000) is None


# ── flat times and news ─────────────────────────────────────────────────────

FLAT = [
    # moment (UTC), the window that holds it; server time is UTC+3 until 2026-10-25 and UTC+2 from then on
    ("2026-10-06T19:59", None),
    ("2026-10-06T20:00", ("2026-10-06T20:00", "2026-10-06T21:15")),  # 23:00 to 00:15
    ("2026-10-06T21:14", ("2026-10-06T20:00", "2026-10-06T21:15")),
    ("2026-10-06T21:15", None),
    ("2026-10-10T12:00", ("2026-10-09T20:00", "2026-10-11T21:15")),  # the weekend, until Monday 00:15
    # From 2026-10-25 to 2026-11-01 the two readings of the server's clock are an hour apart: both windows count.
    ("2026-10-27T19:59", None),
    ("2026-10-27T20:00", ("2026-10-27T20:00", "2026-10-27T22:15")),
    ("2026-10-27T22:14", ("2026-10-27T20:00", "2026-10-27T22:15")),
    ("2026-10-27T22:15", None),
    ("2026-11-03T20:59", None),
    ("2026-11-03T21:00", ("2026-11-03T21:00", "2026-11-03T22:15")),
]


def utc(moment: str) -> datetime:
    return datetime.fromisoformat(moment).replace(tzinfo=UTC)


@pytest.mark.parametrize(("moment", "window"), FLAT)
def test_nothing_is_open_from_23_to_0015_server_time(moment: str, window: tuple[str, str] | None) -> None:
    found = flat.window_at(rulebook.load(OCTOBER), utc(moment))
    assert found == (None if window is None else flat.Window(utc(window[0]), utc(window[1])))


@pytest.mark.parametrize("name", [BLUEPRINT, ONE, FTMO_2, FTMO_1, FUNDEDNEXT, THE5ERS, FUNDINGPIPS])
def test_sets_without_a_flat_time_have_none(name: str) -> None:
    assert flat.next_window(rulebook.load(name), utc("2026-10-06T12:00")) is None


@pytest.mark.parametrize(
    ("moment", "is_allowed"),
    [
        ("2026-11-06T13:27:29", True),
        ("2026-11-06T13:28:00", False),  # propfirmlabs.com: 2 minutes before until 2 minutes after
        ("2026-11-06T13:30:00", False),
        ("2026-11-06T13:32:00", False),
        ("2026-11-06T13:32:01", True),
    ],
)
def test_no_order_within_two_minutes_of_high_impact_news(moment: str, is_allowed: bool) -> None:
    payrolls = news.Event(at=utc("2026-11-06T13:30"), currency="USD", impact="high", title="Non-Farm Payrolls")
    week = news.Calendar(since=utc("2026-11-01T00:00"), until=utc("2026-11-08T00:00"), events=(payrolls,))
    minutes = rulebook.load(THE5ERS).news.window_minutes
    assert (news.problem(week, "EURUSD", utc(moment), minutes) == "") is is_allowed
    assert news.problem(week, "EURGBP", utc(moment), minutes) == ""


# ── what the pages say in one number ────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        (BLUEPRINT, [4_000]), (OCTOBER, [3_000]), (ONE, [450]), (FTMO_2, [10_000, 5_000]), (FTMO_1, [10_000]),
        (FUNDEDNEXT, [8_000, 5_000]), (THE5ERS, [8_000, 5_000]), (FUNDINGPIPS, [8_000, 5_000]),
    ],
)  # fmt: skip
def test_profit_target_of_each_phase(name: str, targets: list[int]) -> None:
    rules = rulebook.load(name)
    assert [ratio * rules.account.initial_balance_cents / 100 for ratio in rules.target.ratios] == targets


@pytest.mark.parametrize(
    ("name", "trading", "profitable"),
    [
        (BLUEPRINT, 0, 0), (OCTOBER, 0, 0), (ONE, 0, 0), (FTMO_2, 4, 0), (FTMO_1, 0, 0), (FUNDEDNEXT, 5, 0),
        (THE5ERS, 3, 3), (FUNDINGPIPS, 3, 0),
    ],
)  # fmt: skip
def test_days_that_must_be_traded(name: str, trading: int, profitable: int) -> None:
    days = rulebook.load(name).days
    assert (days.trading_min, days.profitable_min) == (trading, profitable)


@pytest.mark.parametrize("name", [BLUEPRINT, OCTOBER, ONE])
def test_half_of_the_trades_at_e8_last_a_minute_and_changes_are_counted(name: str) -> None:
    rules = rulebook.load(name)  # help.e8markets.com, trading policies
    assert (rules.hold.seconds_min, rules.hold.short_share_max) == (60, Decimal("0.50"))
    assert rules.requests.writes_per_day == 2_000


def test_blueprint_counts_every_request_and_e8_one_has_one_position() -> None:
    requests = rulebook.load(BLUEPRINT).requests
    assert (requests.per_day, requests.reserve) == (2_000, 50)
    assert [rulebook.load(name).positions.open_max for name in (BLUEPRINT, ONE)] == [3, 1]


# ── the page ────────────────────────────────────────────────────────────────


def test_every_test_that_the_page_names_exists_and_every_set_is_on_it() -> None:
    page = (ROOT / "docs" / "compliance.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert page.count("::") == len(named) > 30
    missing = [
        f"{file}::{name}" for file, name in named if f"def {name}(" not in (ROOT / file).read_text(encoding="utf-8")
    ]
    assert missing == []
    assert [path.stem for path in load.RULES.glob("*.toml") if f"`{path.stem}`" not in page] == []
