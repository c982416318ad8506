"""The paper broker alone, as a real process: its command line, and a client that is none of ours."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.broker.paper import alone
from bus.vocabulary import ExitCode
from config import load
from tests.kit.eventually import eventually
from tests.kit.venue import ohlc

START_S = 30.0


def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "actors.paper", *arguments], cwd=load.ROOT, capture_output=True, text=True,
        timeout=START_S, check=False, **more,
    )  # fmt: skip


@contextlib.contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Serve on a free port; yield the process and what it says of itself. Nothing of a pipeline is near."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PILOT_")}
    with (folder / "log.txt").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "actors.paper", "--port", "0", "--json", *arguments], cwd=load.ROOT, text=True,
            stdout=subprocess.PIPE, stderr=log, env=environment | {"PILOT_DATA": str(folder / "unused")},
        )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (folder / "log.txt").read_text()
        yield process, json.loads(line)
    finally:
        process.kill()
        process.wait(5)
        if process.stdout is not None:
            process.stdout.close()


def ended(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGINT)
    return process.wait(START_S)


# ── refusals ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--nonsense",), "unrecognized arguments: --nonsense"),
        (("--port", "x"), "invalid int value: 'x'"),
        (("--port", "70000"), "--port was 70000; allowed 0..65535"),
        (("--speed", "0"), "speed was 0.0; allowed: `float` > 0.0"),
        (("--host", "192.0.2.1"), "host was '192.0.2.1'"),
        (("--prices", "guess"), "prices was 'guess'"),
        (("--symbols", "EURUSD,EURUSD"), "symbols names one pair twice"),
        (("--symbols", "EUR"), "symbols[0] was 'EUR'"),
        (("--set", "nonsense=1"), "nonsense is not a setting"),
        (("--set", "stop_out_level"), "--set was 'stop_out_level'"),
        (("--set", "stop_out_level=-1"), "stop_out_level was -1"),
    ],
)
def test_a_wrong_command_line_says_what_was_found_and_ends_with_64(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SystemExit) as ended_by:
        alone.main(list(arguments))
    assert ended_by.value.code == ExitCode.USAGE
    assert said in capsys.readouterr().err


def test_a_wrong_command_line_ends_the_process_before_anything_is_started() -> None:
    done = run("--speed", "fast")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (ExitCode.USAGE, "", 2)


def test_help_names_every_option_examples_and_how_to_log_in() -> None:
    done = run("--help")
    assert done.returncode == 0
    for word in ("--port", "--balance", "--seed", "--speed", "--prices", "--csv", "--faults", "--json", "--data",
                 "--start", "examples:", "any password", "docs/paper.md"):  # fmt: skip
        assert word in done.stdout, word


def test_a_taken_port_and_files_that_are_not_there_end_with_78(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("--port", str(taken.getsockname()[1]))
    assert (done.returncode, done.stdout) == (ExitCode.CONFIG, "")
    assert "cannot be used" in done.stderr
    done = run("--port", "0", "--csv", str(tmp_path / "no.csv"))
    assert done.returncode == ExitCode.CONFIG and "no.csv" in done.stderr
    done = run("--port", "0", "--faults", str(tmp_path / "no.json"))
    assert done.returncode == ExitCode.CONFIG and "no.json" in done.stderr


def test_two_cannot_have_one_data_folder(tmp_path: Path) -> None:
    with serving(tmp_path, "--data", str(tmp_path / "account")):
        done = run("--port", "0", "--data", str(tmp_path / "account"))
    assert done.returncode == ExitCode.LOCKED and "held by paper (pid" in done.stderr


# ── a stranger's client ─────────────────────────────────────────────────────


class Stranger:
    """A few lines of httpx that know the Platform API's documents and nothing of ours."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.http = httpx.Client(base_url=found["url"], trust_env=False, timeout=10.0)
        body = {"email": found["email"], "password": "anything", "brokerId": found["broker_id"]}
        answer = self.http.post(found["login_path"], json=body)
        assert answer.status_code == 200, answer.text
        account = answer.json()["selectedAccount"]
        assert account["tradingAccountId"] == found["account_id"]
        assert account["offer"]["system"]["uuid"] == found["system_uuid"]
        self.prefix = f"/mtr-api/{found['system_uuid']}"
        self.headers = {"Auth-trading-api": account["tradingApiToken"]}

    def get(self, path: str) -> Any:
        answer = self.http.get(self.prefix + path, headers=self.headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, **body: Any) -> Any:
        answer = self.http.post(self.prefix + path, headers=self.headers, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json() if answer.content else None


def test_a_plain_client_trades_from_login_to_history(tmp_path: Path) -> None:
    with serving(tmp_path, "--balance", "25000", "--seed", "7", "--symbols", "EURUSD,USDJPY") as (process, found):
        broker = Stranger(found)
        assert broker.get("/balance")["balance"] == "25000.00"
        listed = {row["symbol"]: row for row in broker.get("/effective-instruments")}
        assert set(listed) == {"EURUSD.", "USDJPY."}
        assert listed["EURUSD."]["sessionOpen"] is True and listed["EURUSD."]["swapBuy"] == -5.0
        (quote,) = broker.get("/quotations?symbols=EURUSD.")
        bid = float(quote["bid"])
        asked = {"instrument": "EURUSD.", "orderSide": "BUY"}

        def price(away: float) -> float:
            return round(bid + away, 5)

        opened = broker.post("/position/open", **asked, volume=0.5, slPrice=price(-0.02), tpPrice=0, isMobile=False)
        assert opened["status"] == "OK"
        position_id = opened["orderId"]
        broker.post("/position/edit", id=position_id, **asked, volume=0.5, slPrice=price(-0.03), tpPrice=price(0.03))
        broker.post("/position/close-partially", positionId=position_id, **asked, volume=0.2)
        (held,) = broker.get("/open-positions")["positions"]
        assert (held["id"], held["volume"], float(held["stopLoss"])) == (position_id, "0.3", price(-0.03))
        waits = broker.post("/pending-order/create", **asked, type="LIMIT", volume=0.1, price=price(-0.05), slPrice=0,
                            tpPrice=0)  # fmt: skip
        same = {"id": waits["orderId"], **asked, "type": "LIMIT"}
        assert broker.post(
            "/pending-order/edit", **same, volume=0.1, priceOrder=price(-0.06), slPrice=0, tpPrice=0
        ) is None  # fmt: skip
        (order,) = broker.get("/active-orders")["orders"]
        assert (order["id"], float(order["activationPrice"])) == (waits["orderId"], price(-0.06))
        assert broker.post("/pending-order/cancel", **same)["status"] == "OK"
        assert broker.get("/active-orders") == {"orders": []}
        closed = broker.post("/position/close", positionId=position_id, **asked, volume="0.3")
        assert closed["status"] == "OK"
        rows = broker.post("/closed-positions", **{"from": "2026-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"})
        assert [(row["id"], row["volume"]) for row in rows["operations"]] == [
            (position_id, "0.2"),
            (position_id, "0.3"),
        ]
        net = sum(float(row["netProfit"]) for row in rows["operations"])
        assert float(broker.get("/balance")["balance"]) == pytest.approx(25_000 + net, abs=0.001)
        assert broker.http.post("/paper/price", json={}).status_code == 404  # no controls unless asked for
        assert ended(process) == 0
    assert not (tmp_path / "unused").exists()


def test_bars_are_played_at_the_speed_asked_for_until_they_are_over(tmp_path: Path) -> None:
    path = ohlc(tmp_path / "bars.csv", [
        ("2024-03-01T09:00", "1.1000", "1.1010", "1.0990", "1.1000"),
        ("2024-03-01T09:01", "1.1000", "1.2010", "1.0990", "1.2000"),
    ])  # fmt: skip
    with serving(tmp_path, "--csv", str(path), "--speed", "60", "--tick", "0.05") as (process, found):
        broker = Stranger(found)
        assert [row["symbol"] for row in broker.get("/effective-instruments")] == ["EURUSD."]
        eventually(lambda: broker.get("/quotations?symbols=EURUSD.")[0]["bid"] == "1.20000", START_S, step_s=0.05)
        eventually(lambda: not broker.get("/effective-instruments")[0]["sessionOpen"], START_S, step_s=0.05)
        said = broker.post("/position/open", instrument="EURUSD.", orderSide="BUY", volume=0.1, slPrice=0, tpPrice=0)
        assert (said["status"], said["nativeCode"]) == ("REJECTED", "MARKET_CLOSED")
        assert ended(process) == 0
    assert "All bars are over" in (tmp_path / "log.txt").read_text()


def test_with_a_data_folder_the_account_is_there_again_and_faults_can_be_switched_on(tmp_path: Path) -> None:
    data = str(tmp_path / "account")
    with serving(tmp_path, "--data", data, "--faults") as (process, found):
        assert found["controls"] is True
        broker = Stranger(found)
        body = {"symbol": "EURUSD.", "bid": "1.10000", "hold": True}
        assert broker.http.post("/paper/price", json=body).status_code == 200
        said = broker.post("/position/open", instrument="EURUSD.", orderSide="BUY", volume=0.1, slPrice=0, tpPrice=0)
        assert ended(process) == 0
    with serving(tmp_path, "--data", data) as (process, found):
        (held,) = Stranger(found).get("/open-positions")["positions"]
        assert (held["id"], held["openPrice"], held["currentPrice"]) == (said["orderId"], "1.10010", "1.10000")
        process.send_signal(signal.SIGTERM)
        assert process.wait(START_S) == 0


def test_people_are_told_where_it_listens_and_how_to_log_in(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "actors.paper", "--port", "0"], cwd=load.ROOT, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = "".join(process.stdout.readline() for _ in range(4))
        assert "listens on http://127.0.0.1:" in said and "any password" in said and "PAPER-1, USD" in said
        assert ended(process) == 0
        process.stdout.close()
    finally:
        process.kill()
        process.wait(5)
