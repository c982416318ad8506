"""Prices from bars: no bar is refused by its line, inside of one nothing is jumped over, outside nothing invented."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from actors.broker.paper import bar_files, listing, sources
from actors.broker.paper.replay import Replay, Row, Series
from actors.broker.paper.values import Price, Terms
from config import load, settings
from config.load import ConfigError
from tests.kit.venue import ohlc
from tests.unit.test_paper_calendar import ms
from tests.unit.test_paper_prices import terms

D = Decimal
HOUR = 3_600_000
EURUSD = terms("EURUSD")


def row(time: int, opened: str = "1.10", high: str = "1.12", low: str = "1.09", close: str = "1.11") -> Row:
    return Row(time, D(opened), D(high), D(low), D(close))


def hours(*numbers: int, **prices: str) -> list[Row]:
    return [row(number * HOUR, **prices) for number in numbers]


def played(rows: Sequence[Row], pairs: Sequence[Terms] = (EURUSD,), **changes: Any) -> Replay:
    series = {one.symbol: Series(one, rows) for one in pairs}
    return Replay(pairs, series, **{"seed": 7, "spread_pips": D(1), "account": "USD"} | changes)


def bid(found: Replay, at_ms: int, symbol: str = "EURUSD.") -> Decimal:
    return found.quoted(at_ms, {})[0][symbol].bid


# ── refusals ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (hours(0), "1 bars; at least 2"),
        (hours(1, 0), "bar 2: not later"),
        (hours(0, 0), "bar 2: not later"),
        ([row(0), row(HOUR, high="1.105")], "bar 2: low 1.09 and high 1.105"),
        ([row(0, low="1.105"), row(HOUR)], "bar 1: low"),
        ([row(0, low="0"), row(HOUR)], "bar 1: prices are finite and above 0"),
        ([row(0, low="NaN"), row(HOUR)], "bar 1: prices are finite"),
        ([row(0, low="0.000001"), row(HOUR)], "bar 1: 0.000001 is less than a point"),
        ([row(0), row(10)], "bars of 10 ms"),
    ],
)
def test_what_is_no_series_of_bars_is_refused_by_its_place(rows: list[Row], said: str) -> None:
    with pytest.raises(ValueError, match=f"EURUSD., ?.*{said}|EURUSD.: {said}"):
        Series(EURUSD, rows)


def test_a_start_outside_of_the_bars_is_refused_with_what_there_is() -> None:
    for start_ms in (-1, 4 * HOUR):
        with pytest.raises(ConfigError, match=r"from 1970-01-01T00:00Z to 1970-01-01T04:00Z"):
            played(hours(0, 1, 2, 3), start_ms=start_ms)


def test_a_currency_that_no_pair_leads_to_the_account_is_refused() -> None:
    with pytest.raises(ConfigError, match="no pair leads from EUR, GBP to USD"):
        played(hours(0, 1), pairs=(terms("EURGBP"),))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "begins with ''"),
        ("time,open\n", "begins with 'time,open'"),
        ("symbol,time,open,high,low,close\nEURUSD,2024-01-01\n", "line 2 has 2 cells instead of 6"),
        ("symbol,time,open,high,low,close\nEURUSD,noon,1,1,1,1\n", "line 2 is no bar: 'noon"),
        ("symbol,time,open,high,low,close\nEURUSD,2024-01-01,1,x,1,1\n", "line 2 is no bar"),
        ("symbol,time,open,high,low,close\nUSDJPY,2024-01-01,1,1,1,1\n", "EURUSD.: 0 bars"),
    ],
)
def test_a_file_that_cannot_be_played_is_refused_by_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        bar_files.read(settings.Paper(prices="bars", bars_feed="ohlc", bars_path=str(path)), (EURUSD,))


def test_missing_files_and_feeds_are_clear_messages(tmp_path: Path) -> None:
    for paper, said in (
        (settings.Paper(prices="bars", bars_feed="ohlc"), "bars_path is missing"),
        (settings.Paper(prices="bars", bars_feed="csv"), "bars_path is missing"),
        (settings.Paper(prices="bars", bars_feed="ohlc", bars_path=str(tmp_path / "no.csv")), "No such file"),
        (settings.Paper(prices="bars", bars_feed="csv", bars_path=str(tmp_path / "no")), "no such folder"),
        (settings.Paper(prices="bars", bars_feed="csv", bars_path=str(tmp_path)), "EURUSD.csv cannot be read"),
        (settings.Paper(prices="bars", bars_start="2024-99-01"), "bars_start was '2024-99-01'"),
    ):
        with pytest.raises(ConfigError, match=said):
            sources.make(paper, listing.listed(paper, ["EURUSD"]))


# ── inside of a bar ─────────────────────────────────────────────────────────


def test_a_bar_begins_at_its_open_ends_at_its_close_and_reaches_both_extremes_and_no_more() -> None:
    found = played(hours(*range(30)))
    for number in range(29):
        begin = number * HOUR
        seen = [bid(found, begin + second * 1_000) for second in range(3_600)]
        turns = [bid(found, one) for one in found.waypoints(begin - 1, begin + HOUR - 1, 10)]
        assert (seen[0], bid(found, begin + HOUR - 1)) == (D("1.10000"), D("1.11000"))
        assert (turns[0], turns[-1], {*turns[1:3]}) == (D("1.10"), D("1.11"), {D("1.09"), D("1.12")})
        assert min(seen) >= D("1.09") and max(seen) <= D("1.12")


def test_which_extreme_comes_first_is_drawn_and_the_same_at_every_play() -> None:
    def firsts(seed: int) -> list[Decimal]:
        found = played(hours(*range(200)), seed=seed)
        return [bid(found, found.waypoints(number * HOUR, (number + 1) * HOUR, 1)[0]) for number in range(199)]

    assert firsts(7) == firsts(7) != firsts(8)
    assert 60 < firsts(7).count(D("1.09")) < 140


def test_the_turns_of_all_pairs_come_in_order_once_and_not_more_than_asked() -> None:
    found = played(hours(*range(10)), pairs=(EURUSD, terms("USDJPY")))
    turns = found.waypoints(0, 5 * HOUR, 1_000)
    assert turns == sorted(set(turns)) and turns[0] > 0 and turns[-1] == 5 * HOUR
    assert found.waypoints(0, 5 * HOUR, 7) == turns[:7]
    assert found.waypoints(turns[3], 5 * HOUR, 1_000) == turns[4:]


def test_crosses_and_worths_follow_from_the_pairs() -> None:
    pairs = (EURUSD, terms("USDJPY"), terms("EURGBP"))
    still = zip(pairs, ("1.1", "150", "0.88"), strict=True)
    series = {
        one.symbol: Series(one, [row(at, price, price, price, price) for at in (0, HOUR)]) for one, price in still
    }
    found = Replay(pairs, series, seed=1, spread_pips=D(1), account="USD")
    quoted, worth = found.quoted(0, {"EURUSD.": D(3)})
    assert quoted == {
        "EURUSD.": Price(D("1.10000"), D("1.10030")), "USDJPY.": Price(D("150.000"), D("150.010")),
        "EURGBP.": Price(D("0.88000"), D("0.88010")),
    }  # fmt: skip
    assert (worth["USD"], worth["EUR"], worth["JPY"], worth["GBP"]) == (1, D("1.1"), 1 / D(150), D("1.1") / D("0.88"))
    found.move("EURGBP.", D("0.80000"), 0)
    assert found.quoted(0, {})[0]["EURGBP."].bid == D("0.80000")
    assert found.quoted(0, {})[1]["USD"] == 1


# ── between bars and after the last ─────────────────────────────────────────


def test_where_a_bar_is_missing_the_price_stands_and_nothing_is_traded() -> None:
    found = played([*hours(0, 1), row(50 * HOUR, "1.05", "1.06", "1.04", "1.05"), row(51 * HOUR)])
    assert [found.is_traded("EURUSD.", one * HOUR) for one in (-1, 0, 1, 2, 49, 50)] == [
        False, True, True, False, False, True,
    ]  # fmt: skip
    assert {bid(found, one * HOUR) for one in range(2, 50)} == {D("1.11")}
    assert bid(found, 50 * HOUR) == D("1.05")  # the gap
    assert found.waypoints(2 * HOUR, 50 * HOUR - 1, 10) == []


def test_minutes_without_a_trade_do_not_close_the_session_but_two_hours_do() -> None:
    found = played([row(minute * 60_000) for minute in (0, 1, 2, 30, 31, 160, 161)])
    assert [found.is_traded("EURUSD.", minute * 60_000) for minute in (2, 3, 29, 31, 32, 159, 160)] == [
        True, True, True, True, False, False, True,
    ]  # fmt: skip


def test_after_the_last_bar_it_is_over() -> None:
    found = played(hours(0, 1, 2))
    assert (found.ends_ms, found.ended(3 * HOUR - 1), found.ended(3 * HOUR)) == (3 * HOUR, frozenset(), {"EURUSD."})
    assert not found.is_traded("EURUSD.", 3 * HOUR)
    assert bid(found, 100 * HOUR) == D("1.11")
    assert found.waypoints(3 * HOUR, 10**15, 10) == []


# ── files and feeds ─────────────────────────────────────────────────────────


def test_one_file_holds_many_symbols_and_those_not_asked_for_are_passed_over(tmp_path: Path) -> None:
    path = ohlc(
        tmp_path / "bars.csv",
        [("2024-03-01T09:00", "1.1", "1.2", "1.0", "1.15"), ("2024-03-01T10:00Z", "1.15", "1.2", "1.1", "1.2")],
    )
    ohlc(path, [("2024-03-01", "150", "151", "149", "150.5"), ("2024-03-02", "150", "151", "149", "150")], "USDJPY")
    assert bar_files.symbols(path) == ("EURUSD", "USDJPY")
    paper = settings.Paper(prices="bars", bars_feed="ohlc", bars_path=str(path), bars_start="2024-03-01T09:30")
    found = sources.make(paper, listing.listed(paper, ["EURUSD"]))
    assert isinstance(found, Replay)
    assert (found.begins_ms, found.ends_ms) == (ms("2024-03-01T09:30"), ms("2024-03-01T11:00"))
    paper = settings.Paper(prices="bars", bars_feed="ohlc", bars_path=str(path))
    assert bid(sources.make(paper, listing.listed(paper, ["USDJPY"])), ms("2024-03-01T00:00"), "USDJPY.") == D(150)  # type: ignore[arg-type]


def test_the_scanners_feeds_can_be_played(tmp_path: Path) -> None:
    (tmp_path / "EURUSD.csv").write_text(
        "time,open,high,low,close\n2024-03-01,1.1,1.2,1.0,1.15\n2024-03-04,1.16,1.2,1.1,1.2\n2024-03-05,1.2,1.2,1.1,1.2\n"
    )
    paper = settings.Paper(prices="bars", bars_feed="csv", bars_path=str(tmp_path))
    found = sources.make(paper, listing.listed(paper, ["EURUSD"]))
    assert bid(found, ms("2024-03-01T00:00")) == D("1.1") and bid(found, ms("2024-03-04T00:00")) == D("1.16")  # type: ignore[arg-type]
    assert not found.is_traded("EURUSD.", ms("2024-03-02T12:00"))
    ecb = settings.Paper(prices="bars", bars_start="2026-10-30")
    found = sources.make(ecb, listing.listed(ecb, ["EURUSD", "USDJPY"]))
    last = ms("2026-10-30T23:59:59") + 999
    assert bid(found, last) == D("1.11720")  # type: ignore[arg-type]
    assert found.is_traded("USDJPY.", last) and not found.is_traded("USDJPY.", last + 1)


def test_the_walk_loads_neither_numpy_nor_lightgbm() -> None:
    code = (
        "import sys, actors.paper; from actors.broker.paper import alone, listing, sources; "
        "from config import settings; "
        "paper = settings.Paper(); sources.make(paper, listing.listed(paper, ['EURUSD'])); "
        "print([name for name in ('numpy', 'lightgbm', 'actors.market') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=load.ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_a_file_of_too_many_bars_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bar_files, "BARS_MAX", 1)
    path = ohlc(tmp_path / "bars.csv", [("2024-03-01", "1", "1", "1", "1"), ("2024-03-02", "1", "1", "1", "1")])
    with pytest.raises(ConfigError, match="more than 1 bars"):
        bar_files.read(settings.Paper(prices="bars", bars_feed="ohlc", bars_path=str(path)), (EURUSD,))
