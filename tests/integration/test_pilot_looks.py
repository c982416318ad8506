"""What pilot shows with the pipeline down, how soon it starts, and the operator's own trade against a real store."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from actors.console import asking, lazy
from bus import messages
from bus.vocabulary import Outcome, Role
from config import load
from store import connection
from store.queries import Reader
from tests.kit.builders import a_peer, a_result, a_sample
from tests.kit.gate import keep_days
from tests.kit.real_store import pilot, real_store
from tests.kit.store import StoreHarness, an_opening

EXECUTOR, PILOT, MONITOR = a_peer(Role.EXECUTOR), a_peer(Role.PILOT), a_peer(Role.MONITOR)
HEAVY = ("zmq", "httpx", "asyncio", "loguru", "actors.analysts")
READING = ("status", "intents", "positions", "account", "halts", "alerts", "why", "show", "verify", "config show")


@pytest.fixture(scope="module")
def down() -> Iterator[dict[str, str]]:
    """Folders of a store that traded and was stopped; yields intents' ids by what became of them."""
    folder = Path(tempfile.mkdtemp(prefix="pl"))
    (folder / "run").mkdir(mode=0o700)
    (folder / "data").mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PILOT_DATA", str(folder / "data"))
        patch.setenv("PILOT_RUN", str(folder / "run"))
        patch.setenv("PILOT_PROFILE", "paper")
        store = StoreHarness(connection.open_writer(folder / "data" / "decisions.db"))
        keep_days(store.db, store.gate, store.clock.now())
        ids = {"closed": store.reserved(EXECUTOR).id}
        store.tell(EXECUTOR, an_opening(store.intent(ids["closed"]), "p1"))
        store.tell(MONITOR, messages.PositionClosed(intent_id=ids["closed"], position_id="p1", result=a_result()))
        ids["opened"] = store.reserved(EXECUTOR, symbol="GBPUSD").id
        store.tell(EXECUTOR, an_opening(store.intent(ids["opened"]), "p2"))
        store.tell(PILOT, messages.Close(intent_id=ids["opened"], operator="ann", reason="news"))
        store.tell(MONITOR, messages.SampleEquity(sample=a_sample(equity_cents=4_875_000, daily_loss_cents=125_000)))
        store.tell(PILOT, messages.Pause(operator="ann", reason="holiday"))
        store.tick()
        store.db.close()
        yield ids
    shutil.rmtree(folder)


def shown(*arguments: str) -> str:
    ended = pilot(*arguments)
    assert ended.returncode == 0, ended.stderr
    assert all(len(line) <= 80 for line in ended.stdout.splitlines()), ended.stdout
    assert "\x1b" not in ended.stdout
    return " ".join(ended.stdout.split())


def as_json(*arguments: str) -> object:
    ended = pilot(*arguments, "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_positions_say_what_is_at_risk_and_what_is_ordered(down: dict[str, str]) -> None:
    said = shown("positions")
    assert f"{down['opened'][:8]} p2 GBPUSD BUY 0.10" in said and "50.00" in said
    assert "ann has it closed: news" in said
    (one,) = as_json("positions")  # type: ignore[misc]
    assert (one["position_id"], one["loss_cents"], one["closing"]["operator"]) == ("p2", 5_000, "ann")


def test_account_shows_floors_levels_and_requests(down: dict[str, str]) -> None:
    found = as_json("account")
    assert isinstance(found, dict)
    # The day of the records is long over: what is not known of today is said, and not made up.
    assert found["room"]["equity_cents"] == 4_875_000 and len(found["room"]["unknown"]) == 2
    assert [one["name"] for one in found["room"]["limits"]] == ["maximum"]
    said = shown("account")
    assert "NOT KNOWN: what the day by 00:00 Europe/Athens started with" in said
    assert "maximum ok 31% 1,250.00 2,750.00" in said and "46,000.00" in said
    assert "day 2026-11-02 (00:00 Europe/Athens) started with 50,000.00" in said


def test_status_shows_room_in_money_and_percent(down: dict[str, str]) -> None:
    said = shown("status")
    assert "HALTED (hard)" in said and "operator: ann: holiday" in said
    assert "maximum: 2,750.00 of 4,000.00 left, 31% used, floor 46,000.00" in said
    found = as_json("status")
    assert isinstance(found, dict)
    assert found["room"]["narrowest"]["room_cents"] == 275_000 and found["today"]["closed"] == 0


def test_alerts_are_listed_newest_first_and_by_level(down: dict[str, str]) -> None:
    found = as_json("alerts")
    assert isinstance(found, list)
    assert [one["event"] for one in found] == ["halt", "close_ordered", *[one["event"] for one in found[2:]]]
    assert [one["seq"] for one in found] == sorted((one["seq"] for one in found), reverse=True)
    assert set(found[0]) == {"seq", "at", "level", "event", "actor", "intent_id", "text", "delivered_at"}
    assert "close_ordered" not in shown("alerts", "--level", "error")
    assert pilot("alerts", "--level", "loud").returncode == 64


def test_why_by_pair_and_by_id(down: dict[str, str]) -> None:
    assert "was traded as position p1" in shown("why", down["closed"][:12])
    found = as_json("why", "gbpusd")
    assert isinstance(found, dict)
    assert (found["verdict"], found["intent_id"]) == ("opened", down["opened"])
    assert "No intent of USDCHF today" in shown("why", "USDCHF")
    assert pilot("why", "zz").returncode == 1


def test_an_order_to_close_is_shown_with_operator_and_reason(down: dict[str, str]) -> None:
    assert "Close ordered operator ann reason news asked_at 2026-" in shown("show", down["opened"])
    found = as_json("show", down["opened"])
    assert isinstance(found, dict)
    assert (found["closing"]["operator"], found["closing"]["reason"]) == ("ann", "news")
    assert "Close ordered" not in shown("show", down["closed"])
    assert as_json("show", down["closed"])["closing"] is None  # type: ignore[index]


def test_top_into_a_pipe_and_on_a_terminal_that_is_interrupted(down: dict[str, str]) -> None:
    assert shown("top", "--times", "2", "--every", "0.2").count("maximum: 2,750.00") == 2
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": "80", "LINES": "24", "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "actors.pilot", "top", "--every", "0.2"], stdin=theirs, stdout=theirs, stderr=theirs,
        env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        seen = b""
        while b"Ctrl-C ends" not in seen:
            seen += os.read(ours, 4_096)
        process.send_signal(signal.SIGINT)
        seen = b""
        while chunk := _read(ours):
            seen += chunk
        assert process.wait(20) == 0
        assert b"Traceback" not in seen and seen.count(b"\x1b[?1049l") == 1  # the terminal is as it was
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4_096)
    except OSError:
        return b""  # how a terminal says that its other side is gone


# ── the command line itself ─────────────────────────────────────────────────


@pytest.mark.parametrize("name", [name for name in lazy.COMMANDS if name not in ("rules", "analysts", "config")])
def test_every_command_has_an_example(name: str) -> None:
    ended = pilot(name, "--help")
    assert ended.returncode == 0 and f"pilot {name}" in ended.stdout.partition("Example")[2].replace("\n ", "")


@pytest.mark.parametrize("command", READING)
def test_every_reading_command_has_json(command: str) -> None:
    assert "--json" in pilot(*command.split(), "--help").stdout


@pytest.mark.parametrize(
    "name", ["submit", "cancel", "close", "resolve", "pause", "resume", "flatten", "day", "attest", "restore", "init"]
)
def test_every_changing_command_asks_unless_told(name: str) -> None:
    assert "--yes" in pilot(name, "--help").stdout


def test_the_page_has_every_command() -> None:
    page = (load.ROOT / "docs" / "pilot.md").read_text(encoding="utf-8")
    assert [name for name in lazy.COMMANDS if f"\npilot {name}" not in page] == []


def test_help_names_every_command_and_exit_code() -> None:
    said = " ".join(pilot("--help").stdout.split())
    for expected in (*lazy.COMMANDS, "3 no database yet", "64", "69", "75", "77", "78", "--install-completion"):
        assert expected in said


def test_version_of_program_and_schema_is_told_whatever_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOT_PROFILE", "none-of-these")
    ended = pilot("--version")
    wanted = f"pilot {metadata.version('prop-firm-pilot')}, schema {connection.version()}\n"
    assert (ended.returncode, ended.stdout) == (0, wanted), ended.stderr


def test_names_are_completed_without_importing_a_command() -> None:
    environment = os.environ | {"_PILOT_COMPLETE": "complete_bash", "COMP_WORDS": "pilot re", "COMP_CWORD": "1"}
    script = "import sys; sys.argv[0] = 'pilot'; from actors.pilot import app; app(prog_name='pilot')"
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=False, text=True)
    assert ended.stdout.split() == ["resolve", "resume", "restore"]


def test_a_reading_command_imports_neither_sockets_nor_clients(down: dict[str, str]) -> None:
    script = "import sys; from actors import pilot\ntry: pilot.main()\nfinally: print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", script, "status"], capture_output=True, check=True, text=True)
    assert "actors.console.overview" in ended.stdout.split()
    assert [name for name in HEAVY if name in ended.stdout.split()] == []


# ── answers ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("outcome", "reason", "said"),
    [
        ("applied", "", "; the monitor closes it, see pilot show {short}"),
        ("already", "position p1 is closed", ": position p1 is closed"),
        ("already", "ann ordered it at 06:00: news", ": ann ordered it at 06:00: news"),
    ],
)
def test_an_answer_to_close_is_one_sentence_and_promises_only_what_comes(
    down: dict[str, str], monkeypatch: pytest.MonkeyPatch, outcome: str, reason: str, said: str
) -> None:
    ack = messages.Ack(id="1", outcome=Outcome(outcome), reason=reason)
    monkeypatch.setattr(asking, "ask", lambda command: ack)
    ended = pilot("close", down["closed"], "--reason", "x", "--yes")
    assert ended.stdout == f"{outcome}: {down['closed']} EURUSD{said.format(short=down['closed'][:8])}\n", ended.stderr


# ── a trade of the operator's ───────────────────────────────────────────────


@pytest.mark.parametrize(
    "arguments",
    [
        ("XAUUSD", "BUY", "--sl", "40", "--tp", "80"), ("EURUSD", "HOLD", "--sl", "40", "--tp", "80"),
        ("EURUSD", "BUY", "--sl", "0", "--tp", "80"), ("EURUSD", "BUY", "--sl", "40", "--tp", "-1"),
        ("EURUSD", "BUY", "--sl", "nan", "--tp", "80"), ("EURUSD", "BUY", "--sl", "40"),
        ("EURUSD", "BUY", "--sl", "40", "--tp", "80", "--ttl-minutes", "0"),
    ],
)  # fmt: skip
def test_what_is_no_trade_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    ended = pilot("submit", *arguments, "--reason", "x", "--yes")
    assert ended.returncode == 64 and ended.stderr


def test_a_trade_is_asked_for_submitted_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    trade = ("eurusd", "buy", "--sl", "40", "--tp", "80", "--reason", "breakout")
    with real_store(monkeypatch) as store:
        declined = pilot("submit", *trade, given="n\n")
        assert declined.returncode == 1 and "nothing was submitted" in declined.stderr
        agreed = pilot("submit", *trade, given="y\n")
        assert agreed.returncode == 0, agreed.stderr
        assert agreed.stdout.startswith("applied: ") and "BUY EURUSD, stop 40 pips, target 80 pips" in agreed.stdout
        intent_id = agreed.stdout.split()[1]
        assert agreed.stdout.endswith(f"target 80 pips; follow it: pilot show {intent_id[:8]}\n")
        pilot("pause", "--reason", "holiday", "--yes")
        waits = pilot("submit", *trade, "--yes").stdout
        assert "target 80 pips: a halt stands, it waits until " in waits
        assert re.search(r": holiday; follow it: pilot show [0-9a-f]{8}\n\Z", waits), waits
        refused = pilot("close", intent_id, "--reason", "x", "--yes")
        assert refused.returncode == 1 and "has no open position" in refused.stderr
        store.stop("store")
        reader = Reader(load.data_folder() / "decisions.db")
        (intent,) = [one for one in reader.intents() if one.id == intent_id]
        assert (intent.source, intent.status, intent.suggested_side) == ("manual", "ready_for_exec", "BUY")
        assert reader.transitions(intent.id)[-1].reason.endswith(f"operator {asking.operator()}: breakout")
        reader.close()
