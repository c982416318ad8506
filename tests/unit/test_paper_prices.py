"""Simulated prices: from the ECB's last rates, by seed and second alone, with crosses that agree."""

from __future__ import annotations

import itertools
import math
import zipfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from actors.broker.paper import prices, sessions
from actors.broker.paper.bars import Bars
from actors.broker.paper.prices import Fixing, Simulator
from actors.broker.paper.values import Price, Terms
from config.load import ConfigError

D = Decimal
FIXING = Fixing("2026-10-30", {"EUR": D(1), "USD": D("1.1172"), "JPY": D("175.68"), "GBP": D("0.8338")})


def terms(symbol: str) -> Terms:
    return Terms(
        symbol=f"{symbol}.", base_currency=symbol[:3], quote_currency=symbol[3:],
        price_precision=3 if symbol.endswith("JPY") else 5, volume_min=D("0.01"), volume_max=D(50),
        volume_step=D("0.01"), contract_size=D(100_000), leverage=50, stops_level=10,
    )  # fmt: skip


PAIRS = tuple(terms(name) for name in ("EURUSD", "USDJPY", "EURJPY", "EURGBP", "GBPUSD"))


def a_simulator(seed: int = 7, pairs: tuple[Terms, ...] = PAIRS) -> Simulator:
    return Simulator(pairs, FIXING, seed=seed, spread_pips=D(1), account="USD")


def test_a_currency_without_a_rate_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="XAU"):
        a_simulator(pairs=(terms("XAUUSD"),))


def test_a_missing_or_broken_rates_file_is_a_clear_message(tmp_path: Path) -> None:
    broken = tmp_path / "eurofxref-hist.zip"
    broken.write_bytes(b"no zip")
    with pytest.raises(ConfigError, match="ECB rates"):
        prices.read_fixings(1, broken)
    with pytest.raises(ConfigError, match="ECB rates"):
        prices.read_fixings(1, tmp_path / "nowhere.zip")


def test_missing_rates_of_a_day_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rates.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rates.csv", "Date,USD,JPY,\n2026-10-30,1.1172,N/A,\n2026-10-29,1.113,175.92,\n")
    newest, older = prices.read_fixings(5, path)
    assert newest == Fixing("2026-10-30", {"EUR": D(1), "USD": D("1.1172")})
    assert older.per_euro["JPY"] == D("175.92")


def test_the_installed_rates_hold_every_default_pair() -> None:
    newest = prices.read_fixings(1)[0]
    assert {"USD", "JPY", "GBP", "CHF", "AUD", "CAD", "NZD", "EUR"} <= newest.per_euro.keys()


def test_prices_begin_at_the_last_fixing() -> None:
    simulator = a_simulator()
    start = simulator.prices(simulator.worth(0))
    assert start["EURUSD."] == Price(D("1.11715"), D("1.11725"))
    assert start["USDJPY."].bid == (D("175.68") / D("1.1172") - D("0.005")).quantize(D("0.001"))


def test_the_same_seed_and_second_give_the_same_price_in_any_order() -> None:
    seconds = (5, 86_400, 1, 5, 1_000_000)
    first = [a_simulator().worth(second) for second in seconds]
    second_time = [a_simulator().worth(second) for second in reversed(seconds)]
    assert first == second_time[::-1]
    assert first[0] != a_simulator(seed=8).worth(5)


def test_crosses_agree_at_every_second() -> None:
    simulator = a_simulator()
    for second in (0, 100, 40_000):
        seen = simulator.prices(simulator.worth(second))
        assert abs(seen["EURJPY."].bid - seen["EURUSD."].bid * seen["USDJPY."].bid) < D("0.02")
        assert abs(seen["EURUSD."].bid / seen["EURGBP."].bid - seen["GBPUSD."].bid) < D("0.0002")


def test_the_spread_is_what_was_set() -> None:
    simulator = a_simulator()
    seen = simulator.prices(simulator.worth(1_234))
    assert {price.ask - price.bid for name, price in seen.items() if "JPY" in name} == {D("0.010")}
    assert {price.ask - price.bid for name, price in seen.items() if "JPY" not in name} == {D("0.00010")}


def test_a_pair_moves_about_half_a_percent_a_day() -> None:
    simulator = a_simulator(seed=3)
    middles = [simulator.worth(day * 86_400)["EUR"] for day in range(301)]
    returns = [math.log(later / earlier) for earlier, later in itertools.pairwise(middles)]
    deviation = math.sqrt(sum(one * one for one in returns) / len(returns))
    assert 0.0042 < deviation < 0.0058


def test_the_walk_has_independent_steps_of_variance_one_a_second() -> None:
    path = [prices.walk(11, "EUR", second) for second in range(2_001)]
    steps = [float(later - earlier) for earlier, later in itertools.pairwise(path)]
    assert 0.9 < sum(step * step for step in steps) / len(steps) < 1.1
    lagged = sum(a * b for a, b in itertools.pairwise(steps)) / len(steps)
    assert abs(lagged) < 0.1
    assert path[0] == 0


@pytest.mark.parametrize("second", [-1, prices.HORIZON_S])
def test_a_second_outside_of_the_horizon_is_refused(second: int) -> None:
    with pytest.raises(ValueError, match="simulated second"):
        prices.walk(1, "EUR", second)


@pytest.mark.parametrize(("symbol", "bid"), [("EURUSD.", "1.00000"), ("USDJPY.", "140.000"), ("EURGBP.", "0.90000")])
def test_a_moved_pair_stands_exactly_at_the_bid_asked_for(symbol: str, bid: str) -> None:
    simulator = a_simulator()
    simulator.move(symbol, D(bid), 50)
    assert simulator.prices(simulator.worth(50))[symbol].bid == D(bid)
    assert simulator.worth(50)["USD"] == 1


def test_a_moved_euro_leaves_pairs_without_euro_alone() -> None:
    simulator = a_simulator()
    before = simulator.prices(simulator.worth(50))
    simulator.move("EURUSD.", D("1.00000"), 50)
    after = simulator.prices(simulator.worth(50))
    assert (after["GBPUSD."], after["USDJPY."]) == (before["GBPUSD."], before["USDJPY."])
    assert after["EURGBP."] != before["EURGBP."]


# ── bars ────────────────────────────────────────────────────────────────────


def test_ticks_become_minutes_and_minutes_become_hours() -> None:
    bars = Bars(PAIRS[:1], tuple)
    hour = 3_600_000
    for at_ms, bid in ((0, "1.10"), (30_000, "1.30"), (59_999, "1.20"), (60_000, "1.05"), (hour, "1.50")):
        bars.add(at_ms, {"EURUSD.": Price(D(bid), D(bid))})
    minutes = bars.between("EURUSD.", "M1", 0, hour)
    assert [(bar.time, bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in minutes[:2]] == [
        (0, D("1.10"), D("1.30"), D("1.10"), D("1.20"), 3),
        (60_000, D("1.05"), D("1.05"), D("1.05"), D("1.05"), 1),
    ]
    hours = bars.between("EURUSD.", "H1", 0, hour)
    assert [(bar.time, bar.open, bar.high, bar.low, bar.close) for bar in hours] == [
        (0, D("1.10"), D("1.30"), D("1.05"), D("1.05")),
        (hour, D("1.50"), D("1.50"), D("1.50"), D("1.50")),
    ]


def test_the_number_of_minutes_kept_is_limited() -> None:
    bars = Bars(PAIRS[:1], tuple)
    for minute in range(1_600):
        bars.add(minute * 60_000, {"EURUSD.": Price(D(1), D(1))})
    assert len(bars.between("EURUSD.", "M1", 0, 10**12)) == 1_500


def test_fixings_become_daily_bars_that_open_at_the_day_before() -> None:
    fixings = (FIXING, Fixing("2026-10-29", {"EUR": D(1), "USD": D("1.1000")}))
    days = Bars(PAIRS[:1], lambda: fixings).between("EURUSD.", "D1", 0, 10**13)
    assert [(bar.open, bar.high, bar.low, bar.close) for bar in days] == [
        (D("1.10000"), D("1.10000"), D("1.10000"), D("1.10000")),
        (D("1.10000"), D("1.11720"), D("1.10000"), D("1.11720")),
    ]


def test_a_week_begins_on_sunday() -> None:
    week = Bars(PAIRS[:1], lambda: (FIXING,)).between("EURUSD.", "W1", 0, 10**13)[0]
    assert datetime.fromtimestamp(week.time / 1_000, UTC) == datetime(2026, 10, 25, tzinfo=UTC)


# ── sessions ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("at", "is_open"),
    [
        ("2026-02-20T21:59:00+00:00", True),  # Friday 16:59 in New York, winter
        ("2026-02-20T22:00:00+00:00", False),
        ("2026-02-21T12:00:00+00:00", False),
        ("2026-02-22T21:59:00+00:00", False),
        ("2026-02-22T22:00:00+00:00", True),
        ("2026-07-03T20:59:00+00:00", True),  # summer: an hour earlier in UTC
        ("2026-07-03T21:00:00+00:00", False),
        ("2026-07-05T21:00:00+00:00", True),
        ("2026-07-08T03:00:00+00:00", True),
    ],
)
def test_the_fx_week_follows_new_york(at: str, is_open: bool) -> None:
    assert sessions.is_open("fx", datetime.fromisoformat(at)) is is_open
    assert sessions.is_open("always", datetime.fromisoformat(at))
