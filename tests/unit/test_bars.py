"""Bars that cannot be trusted are refused with the day, the value and the limit."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from actors.market import bars
from actors.market.errors import BadBars
from tests.kit import market


def check(found: bars.Bars, **changes: Any) -> None:
    given: dict[str, Any] = {"today": market.TODAY, "age_days_max": 4, "bars_min": 300} | changes
    bars.check(found, **given)


def refusal(found: bars.Bars, **changes: Any) -> str:
    with pytest.raises(BadBars) as caught:
        check(found, **changes)
    assert caught.value.symbol == found.symbol
    return caught.value.reason


def closes_with(at: int, value: float) -> bars.Bars:
    close = market.closes()
    close[at] = value
    return bars.Bars.of_closes("EURUSD", "test", market.business_days(700), close)


def without_rows(start: int, stop: int) -> bars.Bars:
    keep = np.ones(700, dtype=bool)
    keep[start:stop] = False
    whole = market.some_bars()
    return bars.Bars.of_closes("EURUSD", "test", whole.time[keep], whole.close[keep])


@pytest.mark.parametrize("make", [market.some_bars, market.ohlc_bars])
def test_good_bars_pass(make: Any) -> None:
    check(make())


def test_too_short_a_history_is_refused() -> None:
    assert refusal(market.some_bars(count=299)) == "has 299 bars; at least 300 are needed"


def test_no_bars_at_all_are_refused() -> None:
    assert "has 0 bars" in refusal(market.some_bars().tail(0))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_close_that_is_no_finite_number_is_refused(value: float) -> None:
    reason = refusal(closes_with(500, value))
    assert str(market.business_days(700)[500]) in reason
    assert "not a finite number" in reason


@pytest.mark.parametrize("value", [0.0, -1.1])
def test_a_close_that_is_not_above_zero_is_refused(value: float) -> None:
    assert "prices are above 0" in refusal(closes_with(500, value))


def test_a_nan_low_is_refused_though_all_closes_are_good() -> None:
    low = market.ohlc_bars().low.copy()
    low[3] = np.nan
    assert refusal(replace(market.ohlc_bars(), low=low)).startswith("low of")


def test_a_missing_date_is_refused() -> None:
    time = market.business_days(700).copy()
    time[5] = np.datetime64("NaT")
    assert refusal(replace(market.some_bars(), time=time)) == "a bar has no date"


def test_two_bars_of_one_day_are_refused() -> None:
    time = market.business_days(700).copy()
    time[401] = time[400]
    assert refusal(replace(market.some_bars(), time=time)) == f"two bars of {time[400]}"


def test_newest_first_is_refused() -> None:
    whole = market.some_bars()
    assert "wrong order" in refusal(replace(whole, time=whole.time[::-1].copy()))


def test_two_swapped_bars_are_refused() -> None:
    time = market.business_days(700).copy()
    time[[400, 401]] = time[[401, 400]]
    assert "wrong order" in refusal(replace(market.some_bars(), time=time))


def test_a_hole_of_eight_days_is_refused_and_one_of_seven_passes() -> None:
    monday = next(i for i, day in enumerate(market.business_days(700)) if i > 400 and day.astype(object).weekday() == 0)
    check(without_rows(monday, monday + 4))  # Friday to Friday: 7 days
    assert "a hole of 10 days" in refusal(without_rows(monday, monday + 5))
    assert "a hole of 8 days" in refusal(without_rows(monday + 1, monday + 6))


@pytest.mark.parametrize("factor", [1.26, 0.74])
def test_a_jump_of_more_than_a_quarter_is_refused(factor: float) -> None:
    close = market.closes()
    close[600:] *= factor / (close[600] / close[599])
    reason = refusal(replace(market.some_bars(), close=close, open=close, high=close, low=close))
    assert reason.startswith("close jumps by 26% on")
    assert "allowed 25%" in reason


def test_a_jump_of_just_under_a_quarter_passes() -> None:
    close = market.closes()
    close[600:] *= 1.249 / (close[600] / close[599])
    check(replace(market.some_bars(), close=close, open=close, high=close, low=close))


@pytest.mark.parametrize(("column", "factor"), [("high", 0.99), ("low", 1.01)])
def test_high_and_low_that_do_not_enclose_the_close_are_refused(column: str, factor: float) -> None:
    whole = market.ohlc_bars()
    changed = getattr(whole, column).copy()
    changed[10] = whole.close[10] * factor
    assert "do not enclose" in refusal(replace(whole, **{column: changed}))


def test_a_feed_that_repeats_one_close_is_refused() -> None:
    close = market.closes()
    close[-bars.STUCK_BARS :] = close[-bars.STUCK_BARS]
    assert "the feed is stuck" in refusal(replace(market.some_bars(), close=close, open=close, high=close, low=close))


def test_old_bars_are_refused_and_the_limit_itself_passes() -> None:
    check(market.some_bars(), today=market.LAST_DAY + timedelta(days=4))
    reason = refusal(market.some_bars(), today=market.LAST_DAY + timedelta(days=5))
    assert reason == "newest bar 2026-02-13 is 5 days old; allowed 4 (scanner.bar_age_days_max)"


def test_a_bar_of_tomorrow_is_refused() -> None:
    assert "lies in the future" in refusal(market.some_bars(), today=date(2026, 2, 12))


def test_a_metal_is_refused_because_it_has_no_standard_pip() -> None:
    assert "no standard pip" in refusal(market.some_bars("XAUUSD"))


def test_pips_of_yen_pairs_are_hundredths() -> None:
    assert bars.pip("USDJPY") == 0.01
    assert bars.pip("EURUSD") == 0.0001


def test_todays_bar_of_a_feed_with_highs_is_not_used() -> None:
    cut, was_cut = bars.without_unfinished(market.ohlc_bars(), market.LAST_DAY)
    assert was_cut == "2026-02-13"
    assert cut.newest.date() == date(2026, 2, 12)
    assert len(cut) == 699


def test_todays_fixing_is_used_and_so_is_yesterdays_bar() -> None:
    kept, was_cut = bars.without_unfinished(market.some_bars(), market.LAST_DAY)
    assert (len(kept), was_cut) == (700, "")
    kept, was_cut = bars.without_unfinished(market.ohlc_bars(), market.TODAY)
    assert (len(kept), was_cut) == (700, "")


def test_a_bar_of_the_future_hides_no_bar_that_is_forming() -> None:
    times = np.array([f"2026-02-16T{hour:02}:00" for hour in (8, 9, 10, 11)], dtype="datetime64[s]")
    hours = bars.Bars.of_closes("EURUSD", "test", times, np.full(4, 1.1), "H1")
    now = datetime(2026, 2, 16, 10, 30, tzinfo=UTC)
    kept, was_cut = bars.without_unfinished(hours, now.date(), now)
    assert (kept.bar_time, was_cut) == ("2026-02-16T09:00Z", "2026-02-16T11:00Z")


def test_symbols_that_lag_behind_the_newest_day_are_left_out() -> None:
    late = market.some_bars("USDJPY", last=date(2026, 2, 12))
    current, left_out = bars.on_one_day([market.some_bars("EURUSD"), late, market.some_bars("GBPUSD")])
    assert [found.symbol for found in current] == ["EURUSD", "GBPUSD"]
    assert [str(error) for error in left_out] == [
        "USDJPY: newest bar is of 2026-02-12; the others have 2026-02-13 already"
    ]


def test_until_cuts_at_the_day_and_tail_from_the_end() -> None:
    whole = market.some_bars()
    assert whole.until(date(2026, 2, 11)).newest.date() == date(2026, 2, 11)
    assert whole.until(date(2026, 2, 8)).newest.date() == date(2026, 2, 6)
    assert list(whole.tail(3).close) == list(whole.close[-3:])
    assert len(whole.tail(5_000)) == 700


def test_a_bar_is_named_by_its_day_or_by_its_opening() -> None:
    time = np.array(["2026-02-16T04:00", "2026-02-16T08:00"], dtype="datetime64[m]")
    hours = bars.Bars.of_closes("EURUSD", "test", time, np.array([1.1, 1.2]), "H4")
    assert (hours.bar_time, hours.label(0)) == ("2026-02-16T08:00Z", "2026-02-16T04:00Z")
    assert hours.newest == datetime(2026, 2, 16, 8, tzinfo=UTC)
    assert str(hours.close_time[-1]) == "2026-02-16T12:00:00"
    assert len(hours.until(datetime(2026, 2, 16, 7, 59, tzinfo=UTC))) == 1
    assert len(hours.until(date(2026, 2, 16))) == 2
    days = market.some_bars()
    assert days.bar_time == "2026-02-13"
    assert str(days.close_time[-1]) == "2026-02-14T00:00:00"
