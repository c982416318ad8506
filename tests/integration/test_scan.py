"""One scan: which symbols take part, when it is skipped, and the child process that does it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.market import card, child, features, model, scan
from actors.market.errors import ScanError
from actors.market.job import Failed, Ranked, ScanJob, Skipped
from bus.records import Signal
from config import load
from tests.kit import market
from tests.kit.market import a_job


def ranked(job: ScanJob) -> Ranked:
    found = scan.scan(job)
    assert isinstance(found, Ranked), found
    return found


def failed(job: ScanJob) -> Failed:
    found = scan.scan(job)
    assert isinstance(found, Failed), found
    return found


def change_line(path: Path, line: int, text: str) -> None:
    lines = path.read_text().splitlines()
    lines[line] = text
    path.write_text("\n".join(lines) + "\n")


def test_a_symbol_with_bad_bars_is_left_out_with_its_reason_and_the_rest_is_ranked(tmp_path: Path) -> None:
    job = a_job(tmp_path)
    path = tmp_path / "bars" / "GBPUSD.csv"
    lines = path.read_text().splitlines()
    change_line(path, 600, lines[599])
    found = ranked(job)
    assert [(out.symbol, out.reason[:11]) for out in found.left_out] == [("GBPUSD", "two bars of")]
    assert found.pairs == 4
    assert "GBPUSD" not in {signal.symbol for signal in found.signals}


def test_too_few_good_symbols_are_no_scan_and_every_reason_is_told(tmp_path: Path) -> None:
    job = a_job(tmp_path)
    for symbol in market.FIVE[:3]:
        (tmp_path / "bars" / f"{symbol}.csv").unlink()
    found = failed(job)
    assert found.kind == "transient"  # files may be on their way
    assert found.reason.startswith(
        "2 of 5 symbols have usable bars; top 2 needs at least 3. EURUSD: EURUSD.csv cannot be read"
    )
    assert not (tmp_path / "models").exists()


def test_bars_that_are_too_old_are_no_scan(tmp_path: Path) -> None:
    found = failed(a_job(tmp_path, today=(market.LAST_DAY + timedelta(days=5)).isoformat()))
    assert "newest bar 2026-02-13 is 5 days old; allowed 4" in found.reason


def test_a_feed_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    found = failed(a_job(tmp_path, market.small_scanner(tmp_path / "nowhere")))
    assert found.kind == "configuration"
    assert "there is no such folder" in found.reason


def test_one_symbol_that_is_ahead_alone_is_waited_for(tmp_path: Path) -> None:
    job = a_job(tmp_path)
    market.write_csv(tmp_path / "bars", market.some_bars("EURUSD", last=date(2026, 2, 16)))
    found = failed(msgspec.structs.replace(job, today="2026-02-17"))
    assert found.kind == "transient"
    assert "the others have 2026-02-16 already" in found.reason


def test_todays_bar_with_highs_and_lows_is_not_used_and_that_is_said(tmp_path: Path) -> None:
    job = a_job(tmp_path, today=market.LAST_DAY.isoformat())
    for seed, symbol in enumerate(market.FIVE):
        market.write_csv(tmp_path / "bars", market.ohlc_bars(symbol, seed=seed))
    found = ranked(job)
    assert found.bar_time == "2026-02-12"
    assert len(found.notes) == 5


def test_the_same_scan_again_is_skipped_without_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ranked(a_job(tmp_path))
    monkeypatch.setattr(model, "require_lightgbm", lambda: pytest.fail("a skipped scan needs no model"))
    again = scan.scan(a_job(tmp_path, done=first.fingerprint))
    assert again == Skipped(fingerprint=first.fingerprint, bar_time="2026-02-13")


def test_a_revised_price_or_a_late_symbol_makes_no_second_scan_of_a_day(tmp_path: Path) -> None:
    job = a_job(tmp_path)
    (tmp_path / "bars" / "USDCHF.csv").rename(tmp_path / "late.csv")
    first = ranked(job)
    (tmp_path / "late.csv").rename(tmp_path / "bars" / "USDCHF.csv")
    market.write_csv(tmp_path / "bars", market.some_bars("EURUSD", seed=99))
    assert isinstance(scan.scan(msgspec.structs.replace(job, done=first.fingerprint)), Skipped)


def test_a_new_day_another_symbol_or_another_setting_makes_a_new_scan(tmp_path: Path) -> None:
    job = a_job(tmp_path)
    base = scan.scan_fingerprint(job, "2026-02-13")
    others = {
        scan.scan_fingerprint(job, "2026-02-16"),
        scan.scan_fingerprint(msgspec.structs.replace(job, symbols=market.FIVE[:4]), "2026-02-13"),
        *(
            scan.scan_fingerprint(msgspec.structs.replace(job, scanner=changed), "2026-02-13")
            for changed in (market.small_scanner(tmp_path / "bars", top_k=3), market.small_scanner(tmp_path))
        ),
    }
    assert len(others | {base}) == 5
    slower = msgspec.structs.replace(job.scanner, interval_s=99.0)
    turned = msgspec.structs.replace(job, symbols=market.FIVE[::-1], scanner=slower, today="2026-02-15", done="x")
    assert scan.scan_fingerprint(turned, "2026-02-13") == base


def test_a_second_scan_uses_the_saved_model_and_gives_the_same_signals(tmp_path: Path) -> None:
    cold, warm = ranked(a_job(tmp_path)), ranked(a_job(tmp_path))
    assert cold.trained_s is not None
    assert warm.trained_s is None
    assert warm.signals == cold.signals


def test_a_damaged_model_is_trained_again_with_a_note_and_the_same_result(tmp_path: Path) -> None:
    cold = ranked(a_job(tmp_path))
    (tmp_path / "models" / cold.model_id / card.NAME).write_bytes(b"{}")
    again = ranked(a_job(tmp_path))
    assert again.trained_s is not None
    assert again.notes[0].startswith("saved model refused, trained again")
    assert again.signals == cold.signals


def test_training_in_another_folder_gives_the_same_signals(tmp_path: Path) -> None:
    one, other = (ranked(a_job(tmp_path, models_folder=str(tmp_path / name))) for name in ("a", "b"))
    assert one.signals == other.signals


def test_ecb_rates_give_finite_signals_for_all_fields(tmp_path: Path) -> None:
    from config.settings import Scanner, Settings

    wanted = Scanner(history_bars_min=300, train_bars_max=500, seeds=1, bar_age_days_max=3_650)
    job = ScanJob(
        symbols=Settings(profile="test").symbols, scanner=wanted, today="2030-01-01", models_folder=str(tmp_path)
    )
    found = ranked(job)
    assert (found.pairs, len(found.signals), found.left_out) == (10, 3, ())
    for signal in found.signals:
        assert 10 < signal.volatility_pips < 400
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(signal), type=Signal) == signal


# ── the child process ───────────────────────────────────────────────────────


async def run(job: ScanJob, *, stopping: asyncio.Event | None = None, limit_s: float = 30.0, **more: Any) -> Any:
    return await child.run(job, stopping=stopping or asyncio.Event(), limit_s=limit_s, **more)


def script(body: str) -> tuple[str, ...]:
    return (sys.executable, "-c", body)


async def test_the_child_gives_the_same_result_as_a_call(tmp_path: Path) -> None:
    here = ranked(a_job(tmp_path))
    there = await run(a_job(tmp_path))
    assert isinstance(there, Ranked)
    assert there.signals == here.signals


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("import sys; sys.exit('out of luck')", "exit code 1: out of luck"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9: it said nothing"),
        ("print('Dear scanner, I would buy EURUSD.')", "no result"),
        ('print(\'{"type": "Ranked"}\')', "no result"),
        ("pass", "no result"),
        ("print('x' * 2_000_000)", "more than 1000000 bytes"),
        ("import sys; sys.stderr.write('y' * 3_000_000); sys.exit(3)", "exit code 3: yyy"),
    ],
)
async def test_a_child_that_gives_no_result_is_a_transient_error(tmp_path: Path, body: str, why: str) -> None:
    with pytest.raises(ScanError, match=why) as caught:
        await run(a_job(tmp_path), command=script(body))
    assert caught.value.transient


async def test_a_child_that_cannot_be_started_is_a_transient_error(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="could not be started"):
        await run(a_job(tmp_path), command=("/nonexistent/python",))


HANG = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open({!r}, "w").write(str(os.getpid()))
time.sleep(60)
"""


def gone(pid_file: Path) -> bool:
    return not Path(f"/proc/{pid_file.read_text()}").exists()


async def test_a_child_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"took longer than 0\.5 s and was killed"):
        await run(a_job(tmp_path), limit_s=0.5, command=script(HANG.format(str(tmp_path / "pid"))))
    assert gone(tmp_path / "pid")


async def test_a_stop_kills_the_child_at_once_and_there_is_no_result(tmp_path: Path) -> None:
    stopping = asyncio.Event()
    running = asyncio.create_task(
        run(a_job(tmp_path), stopping=stopping, command=script(HANG.format(str(tmp_path / "pid"))))
    )
    async with asyncio.timeout(10):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            await asyncio.sleep(0.01)
    started = time.monotonic()
    stopping.set()
    assert await running is None
    assert time.monotonic() - started < 1.0
    assert gone(tmp_path / "pid")


async def test_a_child_that_the_stop_ended_first_is_no_failure(tmp_path: Path) -> None:
    stopping = asyncio.Event()
    stopping.set()
    assert await run(a_job(tmp_path), stopping=stopping, command=script("import sys; sys.exit(1)")) is None


async def test_a_cancelled_scan_leaves_no_child(tmp_path: Path) -> None:
    running = asyncio.create_task(run(a_job(tmp_path), command=script(HANG.format(str(tmp_path / "pid")))))
    async with asyncio.timeout(10):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert gone(tmp_path / "pid")


def test_the_child_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    slow = msgspec.structs.replace(a_job(tmp_path), models_folder=str(tmp_path / "models"))
    armed = tmp_path / "points"
    armed.mkdir()
    (armed / "model.before_save").write_text("sleep 60")
    process = subprocess.Popen(
        child.COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=load.ROOT,
        env={"PILOT_FAILPOINTS": str(armed), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    try:
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(slow) + b"\n")
        process.stdin.flush()
        deadline = time.monotonic() + 20
        while not (armed / "model.before_save.fired").exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.02)
        assert (armed / "model.before_save.fired").exists()
        process.stdin.close()  # what the kernel does when the parent dies
        assert process.wait(timeout=5) == 1
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    assert not list((tmp_path / "models").glob("lgbm-*"))


def test_the_lookback_fits_the_smallest_history_that_settings_allow() -> None:
    assert features.LOOKBACK < 300
