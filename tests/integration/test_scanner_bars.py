"""The scanner and its bars: requests that are granted first, looks without a child, timeframes side by side."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from loguru import logger

from actors import scanner
from actors.market import cache, child, inputs, last_scan
from actors.market.cache import Cache, Owner, Row
from actors.market.errors import ScanError
from actors.market.job import Failed, Fetched, Ranked, ScanJob, Skipped
from bus import messages
from bus.records import Signal
from bus.vocabulary import Outcome, State
from config.load import ConfigError
from config.settings import Broker, Compliance, Settings
from tests.kit import market
from tests.kit.clock import ManualClock
from tests.kit.fake_link import FakeLink, applied

NOW = datetime(2026, 2, 18, 12, 0, 30, tzinfo=UTC)  # a Wednesday
BROKER = Broker(kind="platform", base_url="https://broker.invalid", password_env="PILOT_TEST_PASSWORD")


@pytest.fixture(autouse=True)
def one_nap_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a wait be one nap: no machine sleeps meanwhile."""
    monkeypatch.setattr("actors.scanner.AWAKE_S", 86_400.0)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PILOT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv(BROKER.password_env, "secret")
    return tmp_path / "data"


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), format="{level} {message}", level="DEBUG")
    yield lines
    logger.remove(sink)


def settings(tmp_path: Path, **changes: Any) -> Settings:
    folder = tmp_path / "bars"
    if not folder.is_dir():
        market.csv_folder(folder)
    return Settings(
        profile="test", symbols=market.FIVE, broker=BROKER, compliance=Compliance(holidays=("2026-04-03",)),
        scanner=market.small_scanner(folder, **changes),
    )  # fmt: skip


class Clocked(FakeLink):
    """A link whose sleeps move the clock."""

    def __init__(self, clock: ManualClock, answer: Any = applied) -> None:
        super().__init__(answer)
        self.clock = clock
        self.looked_at: list[str] = []

    async def sleep(self, seconds: float) -> bool:
        self.clock.advance(seconds)
        return await super().sleep(seconds)


def a_scanner(link: Clocked, wanted: Settings) -> scanner.Scanner:
    return scanner.Scanner(cast(Any, link), wanted, link.clock)


def a_ranking(job: ScanJob, bar_time: str, **changes: Any) -> Ranked:
    signals = tuple(
        Signal(
            symbol=symbol, timeframe=job.timeframe, bar_time=bar_time, score=0.2, confidence="high", score_gap=0.1,
            drop_distance=0.2, topk_spread=0.1, side_hint="BUY", close=1.1, volatility_pips=5.0, source="broker",
            model_id="m",
        )
        for symbol in market.FIVE[:2]
    )  # fmt: skip
    base: dict[str, Any] = {
        "fingerprint": f"{job.timeframe} {bar_time}", "bar_time": bar_time, "signals": signals, "pairs": 5,
        "model_id": "m", "trained_s": None, "rank_ic": 0.0, "net_usd": 0,
    }  # fmt: skip
    return Ranked(**(base | changes))


def children(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[ScanJob]:
    """Let the child answer like this; return the jobs it got."""
    jobs: list[ScanJob] = []

    async def run(job: ScanJob, **_: Any) -> Any:
        jobs.append(job)
        found = answer(job)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(child, "run", run)
    return jobs


def fill(
    data: Path, wanted: Settings, timeframe: Any, newest: datetime, symbols: tuple[str, ...] = market.FIVE
) -> None:
    for owner in inputs.owners(wanted, "broker", timeframe):
        if owner.symbol in symbols:
            Cache(data / "bars", owner).append([Row(int(newest.timestamp()), 1.1, 1.2, 1.0, 1.1)])


# ── requests ────────────────────────────────────────────────────────────────


async def test_candles_are_granted_before_the_child_may_ask_and_the_rest_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = Clocked(ManualClock(NOW))
    jobs = children(monkeypatch, lambda job: a_ranking(job, "2026-02-17", fetched=Fetched(requests=9)))
    await a_scanner(link, settings(tmp_path, sources=("broker",))).run()
    granted, returned, *proposed = link.asked
    assert granted == messages.GrantRequests(day="2026-02-18", reads=5 * 2 + 4, writes=0, kept=400)
    assert returned == messages.ReturnRequests(day="2026-02-18", reads=5, writes=0)
    assert [type(one) for one in proposed] == [messages.Propose] * 2
    (job,) = jobs
    assert (job.reads, job.broker, job.now, job.holidays) == (14, BROKER, "2026-02-18T12:00:30.000Z", ("2026-04-03",))


@pytest.mark.parametrize(
    "answer",
    [
        lambda command: messages.Ack(id="1", outcome=Outcome.REFUSED, reason="1950 requests are used"),
        lambda command: None,
    ],
)
async def test_without_a_grant_the_child_gets_no_request_and_nothing_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any, log: list[str]
) -> None:
    link = Clocked(
        ManualClock(NOW), lambda one: answer(one) if isinstance(one, messages.GrantRequests) else applied(one)
    )
    jobs = children(monkeypatch, lambda job: Failed(reason="no requests", kind="final"))
    await a_scanner(link, settings(tmp_path, sources=("broker",))).run()
    assert [job.reads for job in jobs] == [0]
    assert [type(one) for one in link.asked] == [messages.GrantRequests, messages.Report]
    assert any(line.startswith("WARNING The store granted no requests for candles") for line in log)


async def test_a_child_that_dies_has_used_all_that_was_granted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = Clocked(ManualClock(NOW))
    children(monkeypatch, lambda job: ScanError("died", transient=True))
    await a_scanner(link, settings(tmp_path, sources=("broker",))).run()
    assert [type(one) for one in link.asked] == [messages.GrantRequests]


async def test_a_failed_scan_gives_back_what_it_did_not_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = Clocked(ManualClock(NOW))
    children(monkeypatch, lambda job: Failed(reason="no", kind="transient", fetched=Fetched(requests=14)))
    wanted = settings(tmp_path, sources=("broker",))
    await a_scanner(link, wanted).run()
    assert link.of(messages.ReturnRequests) == [], "all were made"
    second = Clocked(ManualClock(NOW))
    children(monkeypatch, lambda job: Failed(reason="no", kind="transient", fetched=Fetched(requests=1)))
    await a_scanner(second, wanted).run()
    assert second.of(messages.ReturnRequests) == [messages.ReturnRequests(day="2026-02-18", reads=13, writes=0)]


@pytest.mark.parametrize("source", ["broker", "twelvedata"])
def test_a_source_without_its_secret_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.delenv(BROKER.password_env)
    wanted = settings(tmp_path, sources=("csv", source), twelvedata_key_env="PILOT_TEST_NO_KEY")
    with pytest.raises(ConfigError, match=r"secret PILOT_TEST_(PASSWORD|NO_KEY) is not set"):
        a_scanner(Clocked(ManualClock(NOW)), wanted)


def test_only_what_is_new_is_wished_for(tmp_path: Path, data: Path) -> None:
    wanted = settings(tmp_path, sources=("broker",))
    fill(data, wanted, "H1", NOW.replace(hour=10, minute=0, second=0), symbols=market.FIVE[:2])

    def reads(now: datetime) -> int:
        return inputs.reads_needed(wanted, "H1", now, data / "bars")

    assert reads(NOW) == 2 * 1 + 3 * 2 + 4
    assert reads(NOW - timedelta(minutes=1)) == 3 * 2 + 4
    fill(data, wanted, "H1", NOW.replace(hour=10, minute=0, second=0), symbols=market.FIVE[2:])
    assert reads(NOW - timedelta(minutes=1)) == 0, "no login either"
    assert inputs.reads_needed(settings(tmp_path), "D1", NOW, data / "bars") == 0


# ── looks ───────────────────────────────────────────────────────────────────


async def test_nothing_is_started_while_nothing_can_be_new(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    wanted = settings(tmp_path, sources=("broker",), timeframes=("H1",))
    clock = ManualClock(datetime(2026, 2, 13, 21, 0, 20, tzinfo=UTC))  # Friday, an hour before the week ends
    link = Clocked(clock)
    link.naps_left = 55

    def answer(job: ScanJob) -> Ranked:
        newest = datetime.fromisoformat(job.now).replace(minute=0, second=0) - timedelta(hours=1)
        fill(data, wanted, "H1", newest)
        return a_ranking(job, f"{newest:%Y-%m-%dT%H:%MZ}")

    jobs = children(monkeypatch, answer)
    await a_scanner(link, wanted).run()
    assert [job.now[:16] for job in jobs] == [
        "2026-02-13T21:00", "2026-02-13T22:00", "2026-02-15T23:00", "2026-02-16T00:00",
        "2026-02-16T01:00", "2026-02-16T02:00", "2026-02-16T03:00", "2026-02-16T04:00",
    ]  # fmt: skip
    assert sum(line.startswith("INFO Skipped the scan") for line in log) == 56 - len(jobs)
    assert len(link.of(messages.GrantRequests)) == len(jobs)


async def test_a_bar_that_is_late_is_looked_for_again_three_times(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = settings(tmp_path, sources=("broker",), timeframes=("H1",))
    fill(data, wanted, "H1", NOW.replace(hour=10, minute=0, second=0))
    link = Clocked(ManualClock(NOW))
    link.naps_left = 3
    jobs = children(monkeypatch, lambda job: Skipped(fingerprint="f", bar_time="2026-02-18T10:00Z"))
    await a_scanner(link, wanted).run()
    assert len(jobs) == 4
    assert link.slept_s == [60.0, 60.0, 60.0, 3_600.0 + 20 - 30 - 180]


def test_a_changed_file_setting_day_or_code_makes_a_look_of_its_own(tmp_path: Path, data: Path) -> None:
    wanted = settings(tmp_path)

    def look(found: Settings = wanted, now: datetime = NOW, known: str = "") -> inputs.View:
        return inputs.look(found, "D1", now, models=data / "models", bars=data / "bars", known=known)

    known = look().stamp
    assert not look(known=known).is_new_possible
    assert look(settings(tmp_path, top_k=3), known=known).is_new_possible
    assert look(now=NOW + timedelta(days=1), known=known).is_new_possible
    assert not look(settings(tmp_path, interval_s=60.0, settle_s=1.0), known=known).is_new_possible
    os.utime(tmp_path / "bars" / "EURUSD.csv", (1, 1))
    assert look(known=known).is_new_possible
    (data / "models").mkdir(parents=True)
    known = look().stamp
    last_scan.write(data / "models", last_scan.LastScan(
        fingerprint="f", bar_time="b", finished_at="x", model_id="m", symbols=()
    ))  # fmt: skip
    assert not look(known=known).is_new_possible, "the mark itself is none"
    (data / "models" / "current.D1.json").write_text("{}")
    assert look(known=known).is_new_possible, "another model is"


def test_a_damaged_time_of_a_cached_bar_hides_no_bar_that_is_due(tmp_path: Path, data: Path) -> None:
    wanted = settings(tmp_path, sources=("broker",), timeframes=("H1",))
    fill(data, wanted, "H1", NOW.replace(hour=10, minute=0, second=0))
    path = cache.path_of(data / "bars", inputs.owners(wanted, "broker", "H1")[0])
    whole = path.read_bytes()

    def look(known: str) -> inputs.View:
        return inputs.look(wanted, "H1", NOW, models=data / "models", bars=data / "bars", known=known)

    healthy = look("")
    assert healthy.is_awaited
    for bit in range(64):
        begin = len(whole) - cache.RECORD_BYTES
        time = int.from_bytes(whole[begin : begin + 8], "little") ^ 1 << bit
        path.write_bytes(whole[:begin] + time.to_bytes(8, "little") + whole[begin + 8 :])
        assert look(healthy.stamp).is_new_possible, bit
        assert inputs.reads_needed(wanted, "H1", NOW, data / "bars") >= 5 + 4, bit


def test_a_look_costs_milliseconds_and_no_child(tmp_path: Path, data: Path) -> None:
    wanted = settings(tmp_path, sources=("broker", "csv"), timeframes=("H1",))
    fill(data, wanted, "H1", NOW.replace(hour=11, minute=0, second=0))

    def look(known: str = "") -> inputs.View:
        return inputs.look(wanted, "H1", NOW, models=data / "models", bars=data / "bars", known=known)

    known = look().stamp
    begin = time.thread_time()
    assert not any(look(known).is_new_possible for _ in range(10))
    assert (time.thread_time() - begin) / 10 < 0.05


# ── timeframes ──────────────────────────────────────────────────────────────


async def test_each_timeframe_has_its_bars_its_mark_and_its_end(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"D1": "2026-02-17", "H4": "2026-02-18T08:00Z", "H1": "2026-02-18T11:00Z"}
    link = Clocked(ManualClock(NOW))
    jobs = children(monkeypatch, lambda job: a_ranking(job, names[job.timeframe]))
    actor = a_scanner(link, settings(tmp_path, timeframes=("D1", "H4", "H1")))
    await actor.run()
    assert [job.timeframe for job in jobs] == ["H1", "H4", "D1"]
    found = {
        one.signal.timeframe: (one.signal.bar_time, one.ttl_minutes, one.expires_at)
        for one in cast(list[messages.Propose], link.of(messages.Propose))
    }
    assert found == {
        "H1": ("2026-02-18T11:00Z", 59, "2026-02-18T12:59:30.000Z"),
        "H4": ("2026-02-18T08:00Z", 239, "2026-02-18T15:59:30.000Z"),
        "D1": ("2026-02-17", 240, None),
    }
    marks = {timeframe: last_scan.read(data / "models", timeframe) for timeframe in ("D1", "H4", "H1")}
    assert {name: mark.bar_time for name, mark in marks.items() if mark} == names
    assert (actor.beat().state, actor.beat().progress) == (State.READY, 3)
    assert link.slept_s == [3_590.0]


async def test_the_scanner_is_ready_only_when_each_timeframe_was_scanned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = Clocked(ManualClock(NOW))
    children(
        monkeypatch,
        lambda job: Failed(reason="x", kind="final") if job.timeframe == "D1" else a_ranking(job, "2026-02-18T11:00Z"),
    )
    actor = a_scanner(link, settings(tmp_path, timeframes=("D1", "H1")))
    await actor.run()
    assert (actor.beat().state, actor.beat().progress) == (State.STARTING, 1)


async def test_a_ranking_that_comes_too_late_is_not_proposed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    link = Clocked(ManualClock(NOW))
    children(monkeypatch, lambda job: a_ranking(job, "2026-02-18T10:00Z"))
    await a_scanner(link, settings(tmp_path, timeframes=("H1",))).run()
    assert link.of(messages.Propose) == []
    assert "WARNING EURUSD of 2026-02-18T10:00Z came too late to be proposed\n" in log


async def test_people_are_told_of_a_source_that_was_passed_over_and_of_refused_bars(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = Fetched(quarantined=("broker EURUSD D1 x: y",), passed_over=("broker: 429",))
    link = Clocked(ManualClock(NOW))
    children(monkeypatch, lambda job: a_ranking(job, "2026-02-17", fetched=fetched))
    await a_scanner(link, settings(tmp_path)).run()
    reports = cast(list[messages.Report], link.of(messages.Report))
    assert [(one.event, one.level) for one in reports] == [
        ("bars_quarantined", "warning"), ("source_failed_over", "warning"),
    ]  # fmt: skip
    assert "broker EURUSD D1 x: y" in reports[0].text and "quarantine.txt" in reports[0].text
    assert reports[1].text == "Ranked on broker. Passed over: broker: 429"


async def test_a_stop_while_requests_are_asked_for_starts_no_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = Clocked(ManualClock(NOW), lambda command: None)
    link.waits_for_ever = True
    jobs = children(monkeypatch, lambda job: a_ranking(job, "2026-02-17"))
    running = asyncio.create_task(a_scanner(link, settings(tmp_path, sources=("broker",))).run())
    async with asyncio.timeout(10):
        while not link.asked:
            await asyncio.sleep(0)
        link.stopping.set()
        await running
    assert jobs == []


def test_a_cache_of_another_broker_is_not_looked_at(data: Path, tmp_path: Path) -> None:
    wanted = settings(tmp_path, sources=("broker",))
    other = Owner(source="broker", origin="https://other.invalid", symbol="EURUSD", interval="H1")
    Cache(data / "bars", other).append([Row(int(NOW.timestamp()), 1.1, 1.2, 1.0, 1.1)])
    assert all(cache.newest(cache.path_of(data / "bars", one)) is None for one in inputs.owners(wanted, "broker", "H1"))
