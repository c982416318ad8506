"""Bars that no market made are refused by name; holes and age are measured in trading time."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from actors.market import quality, spans
from actors.market.bars import Bars
from actors.market.cache import Row
from actors.market.errors import BadBar, BadBars
from actors.market.intervals import LENGTH, Interval
from actors.market.sessions import open_s

NOW = datetime(2026, 2, 18, 12, 0, 30, tzinfo=UTC)  # a Wednesday


def row(text: str, close: float = 1.1, **prices: float) -> Row:
    opened = datetime.fromisoformat(text).replace(tzinfo=UTC)
    usual = {"open": 1.1, "high": max(1.1, close) + 0.001, "low": min(1.1, close) - 0.001, "close": close}
    return Row(int(opened.timestamp()), **(usual | prices))


def bars(interval: Interval, hours: int, until: datetime = NOW, without: tuple[str, str] = ("", "")) -> Bars:
    """Return bars of the last `hours` in which the market was open, without those that open in a span."""
    length = LENGTH[interval]
    end = until.replace(minute=0, second=0)
    opened = [end - n * length for n in range(hours, 0, -1)]
    kept = [one for one in opened if open_s(one, one + length) and not without[0] <= f"{one:%m-%dT%H}" < without[1]]
    times = np.array([one.replace(tzinfo=None) for one in kept], dtype="datetime64[s]")
    price = np.full(len(kept), 1.1)
    return Bars("EURUSD", "test", interval, times, price, price + 0.001, price - 0.001, price, closes_only=False)


def days(*texts: str, closes_only: bool = False) -> Bars:
    times, price = np.array(texts, dtype="datetime64[D]"), np.full(len(texts), 1.1)
    return Bars("EURUSD", "test", "D1", times, price, price + 0.001, price - 0.001, price, closes_only=closes_only)


def check(found: Bars, **changes: Any) -> None:
    quality.check(found, **({"now": NOW, "lacking_max": 2} | changes))


# ── bar by bar ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (row("2026-02-18T09:00", float("nan")), "not a finite number"),
        (row("2026-02-18T09:00", low=0.0), "not above 0"),
        (row("2026-02-18T09:00", high=1.05), "do not enclose"),
        (row("2026-02-18T09:00", open=1.1, high=1.1, low=1.1), "one price: the market was closed"),
        (row("2026-02-18T09:00", high=1.5), "a range of"),
        (row("2026-02-18T09:00", 1.5, open=1.5, high=1.5001, low=1.4), "close jumps by 36%"),
    ],
)
def test_a_bar_that_no_market_made_is_refused_and_the_others_are_kept(bad: Row, why: str) -> None:
    before, after = row("2026-02-18T08:00"), row("2026-02-18T10:00")
    good, refused = quality.sort_out([after, bad, before], None, "H1", NOW)
    assert good == [before, after]
    assert [one.row.time for one in refused] == [bad.time]
    assert why in refused[0].reason


def test_two_versions_of_one_bar_are_both_refused_and_a_repeated_one_counts_once() -> None:
    one, other, twice = row("2026-02-18T08:00"), row("2026-02-18T08:00", 1.11), row("2026-02-18T09:00")
    good, refused = quality.sort_out([one, other, twice, twice], None, "H1", NOW)
    assert good == [twice]
    assert [found.reason for found in refused] == ["2 different bars of one time"] * 2


def test_what_is_not_finished_or_not_new_is_passed_over() -> None:
    last = row("2026-02-18T08:00")
    given = [row("2026-02-18T07:00"), last, row("2026-02-18T11:00"), row("2026-02-18T12:00")]
    assert quality.sort_out(given, last, "H1", NOW) == ([given[2]], [])


def test_a_bar_that_is_ahead_of_both_clocks_is_refused_and_no_time_is_too_far() -> None:
    forming, ahead, far = row("2026-02-18T12:30"), row("2026-02-18T13:30"), row("9999-12-31T23:30")
    good, refused = quality.sort_out([row("2026-02-18T11:00"), forming, ahead, far], None, "H1", NOW)
    assert good == [row("2026-02-18T11:00")]
    assert refused == [(ahead, "opens in the future"), (far, "opens in the future")]


def test_a_source_that_moves_or_drops_a_finished_bar_rewrites_history() -> None:
    kept = [row("2026-02-18T08:00"), row("2026-02-18T09:00")]
    assert quality.rewritten(kept, [*kept, row("2026-02-18T10:00")]) == ""
    assert quality.rewritten(kept, [kept[0], row("2026-02-18T09:00", 1.1004)]) == ""
    moved = quality.rewritten(kept, [kept[0], row("2026-02-18T09:00", 1.1008)])
    assert "of 2026-02-18T09:00Z was 1.101 and is 1.1018" in moved
    assert "gone from the source" in quality.rewritten(kept, kept[:1])
    assert quality.rewritten(kept, [kept[0], row("2026-02-18T09:00", float("nan"))])


# ── as a whole ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("interval", ["H1", "H4"])
def test_a_weekend_is_no_hole(interval: Interval) -> None:
    check(bars(interval, 240))


@pytest.mark.parametrize(
    ("interval", "without", "hours"), [("H1", ("02-17T03", "02-17T08"), 5), ("H4", ("02-17T00", "02-17T12"), 12)]
)
def test_a_hole_in_the_middle_of_the_week_is_refused(interval: Interval, without: tuple[str, str], hours: int) -> None:
    with pytest.raises(BadBar, match=f"a hole of {hours} hours of trading between 2026-02-1"):
        check(bars(interval, 240, without=without))


def test_a_pause_and_the_operators_holiday_are_no_hole() -> None:
    check(bars("H1", 240, without=("02-17T03", "02-17T07")))
    closed = bars("H1", 240, without=("02-16T22", "02-17T22"))
    with pytest.raises(BadBars, match="a hole of 24 hours"):
        check(closed)
    check(closed, holidays={date(2026, 2, 17)})


def test_christmas_is_no_hole_and_three_missing_days_are_one() -> None:
    now = datetime(2025, 12, 30, tzinfo=UTC)
    check(days("2025-12-24", "2025-12-26", "2025-12-29"), now=now)
    check(days("2025-12-22", "2025-12-26", "2025-12-29"), now=now)
    with pytest.raises(BadBars, match="a hole of 72 hours of trading between 2025-12-19 and 2025-12-26"):
        check(days("2025-12-19", "2025-12-26", "2025-12-29"), now=now)
    check(days("2025-12-19", "2025-12-26", "2025-12-29", closes_only=True), now=now)


def test_age_is_counted_in_trading_time() -> None:
    friday = datetime(2026, 2, 13, 22, tzinfo=UTC)
    check(bars("H1", 100, until=friday), now=datetime(2026, 2, 16, 0, 59, tzinfo=UTC))
    with pytest.raises(BadBars, match=r"3 H1 bars of trading time came after it; allowed 2 \(scanner.bar_age_bars_max"):
        check(bars("H1", 100, until=friday), now=datetime(2026, 2, 16, 1, 0, tzinfo=UTC))
    check(days("2026-02-12", "2026-02-13"), now=NOW)
    with pytest.raises(BadBars, match="3 D1 bars"):
        check(days("2026-02-12", "2026-02-13"), now=NOW + timedelta(days=1))


# ── what is asked for ───────────────────────────────────────────────────────


def test_only_what_can_be_new_is_asked_for_and_some_bars_again() -> None:
    last = row("2026-02-18T10:00")
    assert spans.pieces(last, "H1", NOW - timedelta(seconds=31), window=500, piece_bars=700) == []
    ((since, until),) = spans.pieces(last, "H1", NOW, window=500, piece_bars=700)
    assert (since, until) == (datetime(2026, 2, 18, 7, tzinfo=UTC), NOW)


def test_a_first_request_covers_the_window_in_pieces_without_a_gap() -> None:
    found = spans.pieces(None, "D1", NOW, window=2_870, piece_bars=700)
    assert len(found) == 7
    assert found[0][0] == NOW - 1.5 * 2_870 * timedelta(days=1)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(found))
    assert found[-1][1] == NOW
