"""The scanner actor with a link that records: what it proposes, when a scan counts as finished, how it fails."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from loguru import logger

from actors import scanner
from actors.market import child, durable, last_scan
from actors.market.errors import ScanError
from actors.market.job import Failed, LeftOut, Ranked, ScanJob, Skipped
from bus import messages
from bus.records import Signal
from bus.vocabulary import Outcome, State
from config.load import ConfigError
from config.settings import Settings
from tests.kit import market
from tests.kit.eventually import eventually_async
from tests.kit.fake_link import FakeLink, applied

NOW = datetime(2026, 2, 14, 9, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def one_nap_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a wait be one nap: no machine sleeps meanwhile."""
    monkeypatch.setattr("actors.scanner.AWAKE_S", 86_400.0)


class FixedClock:
    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PILOT_DATA", str(tmp_path / "data"))
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
    return Settings(profile="test", symbols=market.FIVE, scanner=market.small_scanner(folder, **changes))


def a_scanner(tmp_path: Path, link: FakeLink, **changes: Any) -> scanner.Scanner:
    return scanner.Scanner(cast(Any, link), settings(tmp_path, **changes), FixedClock())


def a_signal(symbol: str = "EURUSD") -> Signal:
    return Signal(
        symbol=symbol, timeframe="D1", bar_time="2026-02-13", score=0.2, confidence="high", score_gap=0.1,
        drop_distance=0.2, topk_spread=0.1, side_hint="BUY", close=1.1, volatility_pips=50.0, source="csv",
        model_id="m",
    )  # fmt: skip


def a_ranking(**changes: Any) -> Ranked:
    base: dict[str, Any] = {
        "fingerprint": "f1", "bar_time": "2026-02-13", "signals": (a_signal("EURUSD"), a_signal("GBPUSD")), "pairs": 5,
        "model_id": "m", "trained_s": None, "rank_ic": 0.0, "net_usd": -2,
    }  # fmt: skip
    return Ranked(**(base | changes))


def results(monkeypatch: pytest.MonkeyPatch, *given: Any) -> list[ScanJob]:
    """Let the child give these results one after the other; return the jobs it got."""
    jobs: list[ScanJob] = []
    waiting = list(given)

    async def run(job: ScanJob, **_: Any) -> Any:
        jobs.append(job)
        result = waiting.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(child, "run", run)
    return jobs


def mark(data: Path) -> Path:
    return data / "models" / last_scan.NAME


# ── refusals ────────────────────────────────────────────────────────────────


def test_settings_that_leave_no_pair_to_compare_with_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape("scanner.top_k was 5 with 5 symbols")):
        a_scanner(tmp_path, FakeLink(), top_k=5)


async def test_a_scan_that_can_never_work_ends_the_process_with_a_configuration_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results(monkeypatch, Failed(reason="run `apt-get install libgomp1`", kind="configuration"))
    link = FakeLink()
    with pytest.raises(ConfigError, match="libgomp1"):
        await a_scanner(tmp_path, link).run()
    assert link.asked == []


async def test_a_final_failure_proposes_nothing_is_reported_and_waits_for_the_next_cadence(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    results(monkeypatch, Failed(reason="2 of 5 symbols", kind="final", left_out=(LeftOut("EURUSD", "two bars"),)))
    link = FakeLink()
    actor = a_scanner(tmp_path, link)
    await actor.run()
    (report,) = link.asked
    assert isinstance(report, messages.Report)
    assert (report.level, report.event, report.text) == ("error", "scan_failed", "The scan failed: 2 of 5 symbols")
    assert link.slept_s == [14_400.0]
    assert not mark(data).exists()
    assert actor.beat().state is State.STARTING
    assert "WARNING Left EURUSD out of the scan: two bars\n" in log
    assert "ERROR The scan failed: 2 of 5 symbols. Next try in 4:00:00\n" in log


async def test_a_transient_failure_is_tried_again_three_times_and_then_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = results(monkeypatch, *[ScanError("died", transient=True)] * 4)
    link = FakeLink()
    link.naps_left = 3
    await a_scanner(tmp_path, link).run()
    assert len(jobs) == 4
    assert link.slept_s == [60.0, 60.0, 60.0, 14_400.0]
    assert [type(command) for command in link.asked] == [messages.Report]


async def test_a_transient_failure_that_passes_is_not_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results(monkeypatch, Failed(reason="files on their way", kind="transient"), a_ranking())
    link = FakeLink()
    link.naps_left = 1
    await a_scanner(tmp_path, link).run()
    assert link.slept_s == [60.0, 14_400.0]
    assert [type(command) for command in link.asked] == [messages.Propose, messages.Propose]


async def test_a_store_that_never_answers_leaves_the_scan_unfinished(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results(monkeypatch, *[a_ranking()] * 4)
    link = FakeLink(lambda command: None)
    link.naps_left = 3
    actor = a_scanner(tmp_path, link)
    await actor.run()
    assert not mark(data).exists()
    assert actor.beat().progress == 0
    assert link.deadlines_s[0] == 14_400.0


async def test_a_scan_is_marked_only_after_the_last_answer(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results(monkeypatch, a_ranking())
    marked: list[bool] = []

    def answer(command: messages.Command) -> messages.Ack:
        marked.append(mark(data).exists())
        return applied(command)

    await a_scanner(tmp_path, FakeLink(answer)).run()
    assert marked == [False, False]
    assert mark(data).exists()


async def test_half_a_scan_is_done_again_whole(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results(monkeypatch, a_ranking(), a_ranking())
    answers = iter(
        [applied(messages.Sweep()), None, messages.Ack(id="2", outcome=Outcome.ALREADY), applied(messages.Sweep())]
    )
    link = FakeLink(lambda command: next(answers))
    link.naps_left = 1
    await a_scanner(tmp_path, link).run()
    symbols = [cast(messages.Propose, command).signal.symbol for command in link.of(messages.Propose)]
    assert symbols == ["EURUSD", "GBPUSD", "EURUSD", "GBPUSD"]
    assert mark(data).exists()


async def test_a_proposal_that_is_refused_is_logged_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    results(monkeypatch, a_ranking())
    refused = messages.Ack(id="1", outcome=Outcome.REFUSED, reason="no such symbol")
    link = FakeLink(lambda command: refused)
    await a_scanner(tmp_path, link).run()
    assert len(link.of(messages.Propose)) == 2
    assert "WARNING The store did not take EURUSD: refused no such symbol\n" in log


async def test_a_mark_that_cannot_be_written_is_a_failed_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    results(monkeypatch, *[a_ranking()] * 4)

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "write", full)
    link = FakeLink()
    link.naps_left = 3
    actor = a_scanner(tmp_path, link)
    await actor.run()
    assert actor.beat().progress == 0
    assert any("could not be remembered" in line and line.startswith("ERROR") for line in log)


async def test_a_damaged_mark_is_told_and_the_scan_is_done(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    mark(data).parent.mkdir(parents=True)
    mark(data).write_bytes(b"{")
    jobs = results(monkeypatch, a_ranking())
    await a_scanner(tmp_path, FakeLink()).run()
    assert jobs[0].done is None
    assert any(line.startswith("WARNING Scanned as if for the first time") for line in log)
    assert json.loads(mark(data).read_text())["fingerprint"] == "f1"


# ── the stop ────────────────────────────────────────────────────────────────


async def test_a_stop_while_the_store_is_away_ends_at_once_and_marks_nothing(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results(monkeypatch, a_ranking())
    link = FakeLink(lambda command: None)
    link.waits_for_ever = True
    running = asyncio.create_task(a_scanner(tmp_path, link).run())
    async with asyncio.timeout(5):
        while not link.asked:
            await asyncio.sleep(0)
        link.stopping.set()
        await running
    assert not mark(data).exists()


async def test_a_stop_during_a_scan_ends_at_once_and_proposes_nothing(tmp_path: Path, data: Path) -> None:
    link = FakeLink()
    running = asyncio.create_task(a_scanner(tmp_path, link).run())
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    async with asyncio.timeout(5):
        while not children.read_text():
            await asyncio.sleep(0.005)
    started = time.monotonic()
    link.stopping.set()
    await running
    assert time.monotonic() - started < 1.0
    assert link.asked == []
    assert not mark(data).exists()


# ── the good way, with the real child ───────────────────────────────────────


async def test_a_scan_proposes_the_best_pairs_and_the_next_one_is_skipped(
    tmp_path: Path, data: Path, log: list[str]
) -> None:
    link = FakeLink()
    link.naps_left = 1
    actor = a_scanner(tmp_path, link, interval_s=77.0, intent_ttl_minutes=30)
    assert actor.beat().state is State.STARTING
    await actor.run()
    proposals = [cast(messages.Propose, command) for command in link.asked]
    assert len(proposals) == 2
    for proposal in proposals:
        assert (proposal.trade_date, proposal.source, proposal.ttl_minutes) == ("2026-02-14", "scanner", 30)
        assert (proposal.signal.bar_time, proposal.signal.timeframe, proposal.signal.source) == (
            "2026-02-13",
            "D1",
            "csv",
        )
    assert proposals[0].signal.score > proposals[1].signal.score
    assert link.slept_s == [77.0, 77.0]
    assert actor.beat().state is State.READY
    assert actor.beat().progress == 2
    assert sum("INFO Skipped the scan: no bar newer than 2026-02-13" in line for line in log) == 1
    assert any("no edge is promised" in line for line in log)
    written = last_scan.read(data / "models")
    assert written is not None
    assert written.symbols == tuple(proposal.signal.symbol for proposal in proposals)
    assert written.finished_at == "2026-02-14T09:30:00.000Z"


async def test_a_new_life_skips_what_the_last_one_finished_and_a_new_bar_is_scanned(tmp_path: Path) -> None:
    thursday, friday = date(2026, 2, 12), date(2026, 2, 13)
    market.csv_folder(tmp_path / "bars", last=thursday)
    await a_scanner(tmp_path, FakeLink()).run()
    second = FakeLink()
    reborn = a_scanner(tmp_path, second)
    await reborn.run()
    assert second.asked == []
    assert (reborn.beat().state, reborn.beat().progress) == (State.READY, 1)
    market.csv_folder(tmp_path / "bars", count=701, last=friday)
    third = FakeLink()
    await a_scanner(tmp_path, third).run()
    assert len(third.of(messages.Propose)) == 2


async def test_a_scan_whose_model_is_due_is_followed_by_a_training_and_names_what_it_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    passed = LeftOut("AUDUSD", "BUY is the same bet as BUY EURUSD")
    jobs = results(monkeypatch, a_ranking(is_training_due=True, same_bets=(passed,)), None)
    link = FakeLink()

    async def until_it_trains(seconds: float) -> bool:
        await eventually_async(lambda: len(jobs) == 2)
        link.stopping.set()
        return True

    monkeypatch.setattr(link, "sleep", until_it_trains)
    await a_scanner(tmp_path, link).run()
    assert [job.train for job in jobs] == [False, True]
    assert jobs[1].done is None
    assert "INFO Passed over AUDUSD: BUY is the same bet as BUY EURUSD\n" in log


async def test_symbols_that_were_left_out_are_reported(tmp_path: Path) -> None:
    wanted = settings(tmp_path)
    (tmp_path / "bars" / "USDCHF.csv").write_text("time,close\n")
    link = FakeLink()
    await scanner.Scanner(cast(Any, link), wanted, FixedClock()).run()
    report, *proposals = link.asked
    assert isinstance(report, messages.Report)
    assert (report.level, report.event) == ("warning", "symbols_left_out")
    assert report.text == "Left out of the scan: USDCHF: has 0 bars; at least 300 are needed"
    assert len(proposals) == 2


async def test_the_loop_goes_on_beating_while_the_model_is_trained(tmp_path: Path) -> None:
    longest = 0.0
    running = asyncio.create_task(a_scanner(tmp_path, FakeLink()).run())
    before = time.monotonic()
    while not running.done():
        await asyncio.sleep(0.005)
        longest, before = max(longest, time.monotonic() - before), time.monotonic()
    assert longest < 0.5, f"the loop stood still for {longest:.2f} s"


async def test_a_skipped_scan_proposes_nothing(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last_scan.write(
        data / "models",
        last_scan.LastScan(fingerprint="f0", bar_time="2026-02-13", finished_at="x", model_id="m", symbols=()),
    )
    jobs = results(monkeypatch, Skipped(fingerprint="f0", bar_time="2026-02-13"))
    link = FakeLink()
    await a_scanner(tmp_path, link).run()
    assert jobs[0].done == "f0"
    assert link.asked == []


def test_a_job_and_its_results_survive_json(tmp_path: Path) -> None:
    job = market.a_job(tmp_path)
    assert msgspec.json.decode(msgspec.json.encode(job), type=ScanJob) == job
    assert msgspec.json.decode(msgspec.json.encode(a_ranking()), type=Ranked | Skipped | Failed) == a_ranking()


async def test_the_scanner_itself_imports_nothing_heavy() -> None:
    code = "import sys, actors.scanner; sys.exit(len({'numpy', 'lightgbm', 'scipy'} & set(sys.modules)))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0
