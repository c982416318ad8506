"""Sources behind one scan: what is asked for and kept, who takes over, and that none is mixed or trusted blindly."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from actors.market import cache, child, feeds, gather, intervals, parquet, remote, scan, synthetic
from actors.market.bars import Bars
from actors.market.cache import Row
from actors.market.errors import BadBars, ScanError, SourceAway
from actors.market.intervals import Interval
from actors.market.job import Failed, Ranked, ScanJob, Skipped
from config import settings
from config.load import ConfigError
from tests.kit import market, paper, walks
from tests.kit.quotes_server import Answer, QuotesServer, error

NOW = datetime(2026, 2, 18, 12, 0, 30, tzinfo=UTC)  # a Wednesday
CODE_KEY = "PILOT_TEST_QUOTES_KEY"
SATURDAY = datetime(2026, 10, 31, 12, tzinfo=UTC)  # after the newest fixing that the paper broker has
WINDOW = 620
THOUSANDS = [f"9999-12-31 {n // 60 // 60:02}:{n // 60 % 60:02}:{n % 60:02}" for n in range(5_000)]


def walk(interval: Interval, seed: int, until: datetime = NOW, **changes: Any) -> list[Row]:
    return walks.rows(interval, seed, until, **changes)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[QuotesServer]:
    monkeypatch.setenv(CODE_KEY, "k-0123456789")
    with QuotesServer() as found:
        for seed, symbol in enumerate(market.FIVE):
            found.rows[symbol] = walk("H1", seed)
        yield found


def a_job(tmp_path: Path, server: QuotesServer | None = None, now: datetime = NOW, **changes: Any) -> ScanJob:
    scanner = {
        "sources": ("twelvedata",), "timeframes": ("H1",), "twelvedata_key_env": CODE_KEY,
        "twelvedata_url": server.url if server else "http://127.0.0.1:9", "twelvedata_requests_per_minute": 1_000,
    } | changes.pop("scanner", {})  # fmt: skip
    return market.a_job(
        tmp_path, market.small_scanner(tmp_path / "bars", **scanner), timeframe=scanner["timeframes"][0],
        now=now.isoformat(), today=now.date().isoformat(), bars_folder=str(tmp_path / "cache"), **changes,
    )  # fmt: skip


def gathered(job: ScanJob) -> tuple[list[Bars], gather.Gathering]:
    found = gather.Gathering(job, WINDOW)
    return found.bars(), found


def quarantined(tmp_path: Path) -> str:
    path = tmp_path / "cache" / "quarantine.txt"
    return path.read_text() if path.exists() else ""


# ── the cache and its source ────────────────────────────────────────────────


def test_only_what_is_new_is_asked_for_and_nothing_when_nothing_can_be(tmp_path: Path, server: QuotesServer) -> None:
    first, _ = gathered(a_job(tmp_path, server))
    assert [len(one) for one in first] == [WINDOW] * 5
    assert {one.bar_time for one in first} == {"2026-02-18T11:00Z"}
    assert {(one.source, one.interval) for one in first} == {("twelvedata", "H1")}
    server.asked.clear()
    again, _ = gathered(a_job(tmp_path, server, now=NOW + timedelta(minutes=59)))
    assert server.asked == []
    path = next((tmp_path / "cache").rglob("EURUSD.H1.bars"))
    path.write_bytes(path.read_bytes() + b"half")
    assert gathered(a_job(tmp_path, server))[1].fetched.repaired == (
        f"cut 4 bytes off the end of {path}: not whole bars",
    )
    assert all(np.array_equal(a.close, b.close) for a, b in zip(first, again, strict=True))
    later = NOW + timedelta(hours=1)
    for seed, symbol in enumerate(market.FIVE):
        newest = server.rows[symbol][-1]
        server.rows[symbol].append(Row(newest.time + 3_600, *walk("H1", seed + 50, count=2)[-1][1:]))
        server.rows[symbol][-1] = newest._replace(time=newest.time + 3_600)
    newer, _ = gathered(a_job(tmp_path, server, now=later))
    assert {one.bar_time for one in newer} == {"2026-02-18T12:00Z"}
    assert {query["start_date"] for query in server.asked} == {"2026-02-18 08:00:00"}
    assert len(server.asked) == 5


def test_a_source_that_rewrites_history_is_refused_for_that_symbol_until_its_file_is_removed(
    tmp_path: Path, server: QuotesServer
) -> None:
    gathered(a_job(tmp_path, server))
    path = next((tmp_path / "cache").rglob("EURUSD.H1.bars"))
    before = path.read_bytes()
    later = NOW + timedelta(hours=1)
    for symbol in market.FIVE:
        newest = server.rows[symbol][-1]
        server.rows[symbol].append(newest._replace(time=newest.time + 3_600))
    server.rows["EURUSD"] = [Row(row.time, *(price * 1.001 for price in row[1:])) for row in server.rows["EURUSD"]]
    found, how = gathered(a_job(tmp_path, server, now=later))
    assert [one.symbol for one in found] == list(market.FIVE[1:])
    (left_out,) = how.left_out
    assert "rewrites history: open of 2026-02-18T09:00Z was" in left_out.reason
    assert path.read_bytes() == before
    assert "twelvedata EURUSD H1 history: rewrites history" in quarantined(tmp_path)
    path.unlink()
    assert len(gathered(a_job(tmp_path, server, now=later))[0]) == 5


def test_a_bad_bar_is_kept_out_written_down_and_told_once(tmp_path: Path, server: QuotesServer) -> None:
    rows = server.rows["EURUSD"]
    bad = rows[-5]._replace(low=0.0)
    server.rows["EURUSD"] = [*rows[:-5], bad, *rows[-4:]]
    found, how = gathered(a_job(tmp_path, server))
    assert found[0].symbol == "EURUSD" and bad.time not in found[0].time.astype(int)
    assert how.fetched.quarantined == (
        f"twelvedata EURUSD H1 2026-02-18T07:00Z open {bad.open} high {bad.high} low 0.0 close {bad.close}: "
        "a price is not above 0",
    )
    assert how.fetched.quarantined[0] in quarantined(tmp_path)
    assert gathered(a_job(tmp_path, server, now=NOW + timedelta(hours=1)))[1].fetched.quarantined == ()


@pytest.mark.parametrize("time", ["0001-01-01 00:00:00", "1969-12-31 23:00:00", "2025-10-01 00:00:00"])
def test_a_bar_from_before_what_was_asked_for_is_not_kept(tmp_path: Path, server: QuotesServer, time: str) -> None:
    server.answer = lambda query: series_of(time)
    with pytest.raises(ScanError, match="EURUSD: has 0 bars"):
        gathered(a_job(tmp_path, server))
    assert cache.newest(next((tmp_path / "cache").rglob("EURUSD.H1.bars"))) is None


def test_a_hole_in_the_week_takes_the_symbol_out(tmp_path: Path, server: QuotesServer) -> None:
    rows = server.rows["GBPUSD"]
    server.rows["GBPUSD"] = [*rows[:-40], *rows[-30:]]
    found, how = gathered(a_job(tmp_path, server))
    assert "GBPUSD" not in {one.symbol for one in found}
    assert how.left_out[0].reason.startswith("a hole of 10 hours of trading between 2026-02-16T19:00Z and")
    assert "a hole of 10 hours" in quarantined(tmp_path)


# ── who takes over ──────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda query: error(429, "You have run out of API credits for the day."), "429, You have run out"),
        (lambda query: error(401, "wrong key"), "401, wrong key"),
        (lambda query: (200, "text/html", b"<html>"), "not the JSON we know"),
        (lambda query: (200, "application/json", b'{"meta":' + b"[" * 200_000), "HTTP 200, not the JSON we know"),
        (lambda query: series_of("9999-12-31 23:30:00"), "0 of 5 symbols"),
        (lambda query: series_of(*THOUSANDS), "0 of 5"),
        # Two symbols of five: too few, and the other three must not come from elsewhere.
        (lambda query: None if query["symbol"] in ("EUR/USD", "GBP/USD") else error(404, "no"), "2 of 5 symbols"),
        # The last one fails: the four before it are not used either.
        (lambda query: error(500, "x") if query["symbol"] == "USD/CHF" else None, "500, x"),
    ],
)
def test_the_next_source_serves_all_pairs_and_the_signals_say_which_it_was(
    tmp_path: Path, server: QuotesServer, answer: Any, why: str
) -> None:
    server.answer = answer
    folder = market.csv_folder(tmp_path / "bars")
    for seed, symbol in enumerate(market.FIVE):
        write_hours(folder, symbol, walk("H1", seed))
    job = a_job(tmp_path, server, scanner={"sources": ("twelvedata", "csv")})
    found, how = gathered(job)
    assert [(one.symbol, one.source) for one in found] == [(symbol, "csv") for symbol in market.FIVE]
    (passed_over,) = how.fetched.passed_over
    assert passed_over.startswith("twelvedata: ") and why in passed_over
    if why.startswith(("401", "HTTP 200", "0 of")):
        result = scan.scan(job)
        assert isinstance(result, Ranked), result
        assert {(one.source, one.timeframe, one.bar_time) for one in result.signals} == {
            ("csv", "H1", "2026-02-18T11:00Z")
        }
        assert result.fetched.passed_over == how.fetched.passed_over
        assert len(msgspec.json.encode(result)) < child.RESULT_BYTES_MAX


def series_of(*times: str) -> Answer:
    values = [{"datetime": time, "open": "1.1", "high": "1.2", "low": "1.0", "close": "1.1"} for time in times]
    return 200, "application/json", msgspec.json.encode({"values": values, "status": "ok"})


def write_hours(folder: Path, symbol: str, rows: Sequence[Row]) -> None:
    lines = [f"{row.opened:%Y-%m-%dT%H:%MZ},{row.open},{row.high},{row.low},{row.close}" for row in rows]
    (folder / f"{symbol}.H1.csv").write_text("\n".join(["time,open,high,low,close", *lines]) + "\n")


def test_no_source_left_is_no_scan_and_every_reason_is_told(tmp_path: Path, server: QuotesServer) -> None:
    server.answer = lambda query: error(429, "no credits")
    market.csv_folder(tmp_path / "bars")
    found = scan.scan(a_job(tmp_path, server, scanner={"sources": ("twelvedata", "csv")}))
    assert isinstance(found, Failed)
    assert found.kind == "transient"
    assert found.reason.startswith("twelvedata: twelvedata: 429, no credits; then csv: 0 of 5 symbols")


def test_a_source_that_takes_over_with_an_older_bar_ranks_nothing_again(tmp_path: Path) -> None:
    job = a_job(tmp_path)
    done = scan.scan_fingerprint(job, "2026-02-18T11:00Z")
    marked = msgspec.structs.replace(job, done=done, done_bar_time="2026-02-18T11:00Z")
    for bar_time, is_done in (("2026-02-18T10:00Z", True), ("2026-02-18T11:00Z", True), ("2026-02-18T12:00Z", False)):
        assert scan.is_done(marked, scan.scan_fingerprint(job, bar_time), bar_time) is is_done
    other = msgspec.structs.replace(marked, symbols=market.FIVE[:4])
    assert not scan.is_done(other, scan.scan_fingerprint(other, "2026-02-18T10:00Z"), "2026-02-18T10:00Z")


def test_each_timeframe_is_a_scan_of_its_own(tmp_path: Path) -> None:
    job = a_job(tmp_path)
    other = msgspec.structs.replace(job, timeframe="H4")
    assert scan.scan_fingerprint(job, "2026-02-18T08:00Z") != scan.scan_fingerprint(other, "2026-02-18T08:00Z")


# ── times as the source has them ────────────────────────────────────────────


def test_a_day_of_a_server_elsewhere_is_named_after_its_date_and_h4_is_kept_as_it_is() -> None:
    friday = Row(int(datetime(2026, 2, 12, 22, tzinfo=UTC).timestamp()), 1.1, 1.2, 1.0, 1.1)
    rows = [friday._replace(time=friday.time + days * 86_400) for days in (0, 2, 3)]
    assert [str(day)[:10] for day in remote.as_bars("EURUSD", "broker", "D1", cache.encoded(rows)[0]).time] == [
        "2026-02-13", "2026-02-16",
    ]  # fmt: skip
    summer = Row(int(datetime(2026, 7, 9, 21, tzinfo=UTC).timestamp()), 1.1, 1.2, 1.0, 1.1)
    assert remote.as_bars("EURUSD", "broker", "D1", cache.encoded([summer])[0]).bar_time == "2026-07-10"
    assert remote.as_bars("EURUSD", "broker", "H4", cache.encoded([friday])[0]).bar_time == "2026-02-12T22:00Z"


class Told:
    """A fetcher that gives what it is told to."""

    name, origin, piece_bars = "broker", "https://broker.invalid", 700

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.asked: list[tuple[datetime, datetime]] = []

    async def fetch(self, symbol: str, interval: Interval, since: datetime, until: datetime) -> Sequence[Row]:
        self.asked.append((since, until))
        return [row for row in self.rows if since <= row.opened <= until]


async def test_a_servers_h4_bars_go_on_across_a_change_of_its_clocks(tmp_path: Path) -> None:
    winter = walk("H4", 1, until=datetime(2026, 3, 27, 22, tzinfo=UTC), begin_s=2 * 3_600, count=30)
    shift = datetime(2026, 3, 29, 21, tzinfo=UTC)
    summer = [
        winter[0]._replace(time=int((shift + n * timedelta(hours=4)).timestamp())) for n in range(6)
    ]  # an hour earlier  # fmt: skip
    told = Told([*winter, *summer])
    for now in (datetime(2026, 3, 27, 22, 0, 20, tzinfo=UTC), datetime(2026, 3, 30, 21, 0, 20, tzinfo=UTC)):
        source = remote.Remote(
            told, tmp_path, window=40, now=now, write_down=lambda symbol, refused: None, tell=lambda what: None
        )
        found = await source.bars("EURUSD", "H4")
    assert found.bar_time == "2026-03-30T17:00Z"
    assert len(found) == 36


# ── the broker ──────────────────────────────────────────────────────────────


def broker_job(tmp_path: Path, broker: settings.Broker, reads: int, **scanner: Any) -> ScanJob:
    wanted = {"sources": ("broker",), "timeframes": ("D1",), "bar_age_days_max": 3_650, "bar_age_bars_max": 20_000}
    return a_job(tmp_path, now=SATURDAY, scanner=wanted | scanner, broker=broker, reads=reads)


def test_not_one_request_leaves_for_the_broker_that_was_not_granted(tmp_path: Path, server: QuotesServer) -> None:
    broker = settings.Broker(base_url=server.url)
    with pytest.raises(ScanError, match="the 0 requests granted for candles are used up"):
        gathered(broker_job(tmp_path, broker, reads=0))
    assert server.asked == []


@pytest.mark.parametrize("api", ["platform", "trader"])
async def test_candles_of_a_broker_are_counted_and_nothing_is_asked_beyond_the_grant(tmp_path: Path, api: str) -> None:
    async with paper.running(tmp_path / "paper", symbols=market.FIVE, api=api) as served:
        broker = paper.changed(served.settings, request_timeout_s=20.0)  # the first candle reads the rates
        few = gather.Gathering(broker_job(tmp_path, broker, reads=5), WINDOW)
        with pytest.raises(ScanError, match="the 5 requests granted for candles are used up"):
            await asyncio.to_thread(few.bars)
        assert few.fetched.requests == 5
        job = broker_job(tmp_path, broker, reads=30)
        found, how = await asyncio.to_thread(gathered, job)
        assert [one.symbol for one in found] == list(market.FIVE)
        assert {(one.source, len(one)) for one in found} == {("paper", WINDOW)}
        assert 5 < how.fetched.requests <= 30 - 5, "what was brought before is not asked for again"
        none = msgspec.structs.replace(job, reads=0)
        again, how = await asyncio.to_thread(gathered, none)
        assert how.fetched.requests == 0
        assert again[0].bar_time == found[0].bar_time


async def test_a_broker_that_is_away_takes_the_source_away(tmp_path: Path) -> None:
    gone = settings.Broker(base_url="http://127.0.0.1:9", connect_timeout_s=0.2)
    job = broker_job(tmp_path, gone, 10, sources=("broker", "csv"))
    market.csv_folder(tmp_path / "bars")
    found, how = await asyncio.to_thread(gathered, job)
    assert {one.source for one in found} == {"csv"}
    assert how.fetched.passed_over[0].startswith("broker: paper: ") and how.fetched.requests == 1


# ── files and invented bars ─────────────────────────────────────────────────


@pytest.mark.parametrize("interval", ["D1", "H4"])
def test_parquet_files_come_back_as_they_were_written(tmp_path: Path, interval: Interval) -> None:
    rows = walk(interval, 3, count=320)
    times = [row.opened for row in rows]
    columns: dict[str, Any] = {
        "time": [one.date() for one in times] if interval == "D1" else times,
        "volume": [1] * 320,
    }
    columns |= {name: [getattr(row, name) for row in rows] for name in Row._fields[1:]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / f"{intervals.file_stem('EURUSD', interval)}.parquet")
    found = parquet.ParquetFeed(tmp_path).bars("EURUSD", interval)
    assert (found.source, found.interval, found.closes_only) == ("parquet", interval, False)
    assert found.close.tolist() == [row.close for row in rows]
    assert found.newest.date() == times[-1].date()
    with pytest.raises(BadBars, match=r"GBPUSD.* cannot be read"):
        parquet.ParquetFeed(tmp_path).bars("GBPUSD", interval)


def test_other_columns_no_parquet_and_no_folder_are_refused_by_name(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"when": [1], "close": [1.1]}), tmp_path / "EURUSD.parquet")
    (tmp_path / "GBPUSD.parquet").write_bytes(b"PAR1 no")
    feed = parquet.ParquetFeed(tmp_path)
    with pytest.raises(
        BadBars, match="has the columns close, when; needed: time, open, high, low, close or time, close"
    ):
        feed.bars("EURUSD")
    with pytest.raises(BadBars, match="cannot be read"):
        feed.bars("GBPUSD")
    with pytest.raises(ConfigError, match="there is no such folder"):
        parquet.ParquetFeed(tmp_path / "nowhere")


def test_a_small_parquet_file_that_unpacks_into_any_size_is_refused_before_it_is_read(tmp_path: Path) -> None:
    text = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 100_000, pyarrow.int32()), ["x" * 1_000_000])
    bomb = pyarrow.table({"time": pyarrow.array([1] * 100_000), "close": text})  # 100 GB of text
    pyarrow.parquet.write_table(bomb, tmp_path / "EURUSD.parquet")
    assert (tmp_path / "EURUSD.parquet").stat().st_size < 100_000
    with pytest.raises(BadBars, match=r"has close as dictionary<.*allowed: dates, times"):
        parquet.ParquetFeed(tmp_path).bars("EURUSD")


def test_invented_bars_say_so_grow_at_their_end_only_and_are_ranked(tmp_path: Path) -> None:
    one, later = (synthetic.SyntheticFeed(7, now).bars("EURUSD", "H1") for now in (NOW, NOW + timedelta(hours=5)))
    assert one.source == "synthetic-7"
    assert later.head(len(one)).close.tolist() == one.close.tolist() and len(later) == len(one) + 5
    assert later.head(len(one)).high.tolist() == one.high.tolist()
    job = a_job(tmp_path, scanner={"sources": ("synthetic",), "timeframes": ("H4",)})
    found, how = gathered(job)
    assert {(one.bar_time, one.interval) for one in found} == {("2026-02-18T08:00Z", "H4")}
    assert how.left_out == []


def test_an_hour_that_is_not_over_is_not_used(tmp_path: Path) -> None:
    folder = market.csv_folder(tmp_path / "bars")
    for seed, symbol in enumerate(market.FIVE):
        write_hours(folder, symbol, walk("H1", seed, until=NOW + timedelta(hours=1)))
    found, how = gathered(a_job(tmp_path, scanner={"sources": ("csv",)}))
    assert {one.bar_time for one in found} == {"2026-02-18T11:00Z"}
    assert how.notes[0] == "EURUSD: the bar of 2026-02-18T12:00Z may not be finished and was not used"


def test_fixings_have_no_hours(tmp_path: Path) -> None:
    with pytest.raises(BadBars, match="the ECB publishes one rate a day, none of H1"):
        feeds.EcbFeed(10).bars("EURUSD", "H1")


def test_a_skipped_scan_tells_what_it_used(tmp_path: Path, server: QuotesServer) -> None:
    job = a_job(tmp_path, server)
    done = scan.scan_fingerprint(job, "2026-02-18T11:00Z")
    found = scan.scan(msgspec.structs.replace(job, done=done))
    assert isinstance(found, Skipped) and found.bar_time == "2026-02-18T11:00Z"
    assert cache.newest(next((tmp_path / "cache").rglob("EURUSD.H1.bars"))) is not None


def test_holidays_of_the_operator_are_no_hole(tmp_path: Path, server: QuotesServer) -> None:
    for symbol in market.FIVE:
        server.rows[symbol] = [row for row in server.rows[symbol] if not _is_on_tuesday(row)]
    with pytest.raises((ScanError, SourceAway), match="0 of 5 symbols"):
        gathered(a_job(tmp_path, server))
    assert len(gathered(a_job(tmp_path, server, holidays=("2026-02-17",)))[0]) == 5


def _is_on_tuesday(row: Row) -> bool:
    day = date(2026, 2, 17)
    begin = datetime(2026, 2, 16, 22, tzinfo=UTC)
    return begin <= row.opened < begin + timedelta(days=1) and row.opened.date() <= day
