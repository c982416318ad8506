"""The operator's command line against a real store, with the pipeline up and down."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.console import asking
from bus import link
from bus.messages import Ack
from bus.vocabulary import Outcome
from config import load
from store.queries import Reader
from tests.kit.analysis import a_signal
from tests.kit.eventually import eventually
from tests.kit.real_store import RealStore, pilot, real_store


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[RealStore]:
    with real_store(monkeypatch) as found:
        yield found


def statuses() -> dict[str, int]:
    reader = Reader(load.data_folder() / "decisions.db")
    try:
        return reader.status_counts()
    finally:
        reader.close()


def test_without_a_database_every_reading_command_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PILOT_DATA", str(tmp_path))
    for command in (("status",), ("intents", "--json"), ("show", "abc"), ("cancel", "abc", "--reason", "x", "--yes")):
        ended = pilot(*command)
        assert (ended.returncode, ended.stdout) == (3, ""), command
        assert "there is no database yet" in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("bogus",),
        ("intents", "--status", "bogus"),
        ("intents", "--limit", "0"),
        ("intents", "--date", "16.02.2026"),
        ("show",),
        ("cancel", "abc"),
        ("cancel", "abc", "--reason", " "),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    ended = pilot(*arguments)
    assert ended.returncode == 64
    assert ended.stderr


def test_a_wrong_profile_or_another_file_is_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PILOT_DATA", str(tmp_path))
    assert pilot("--profile", "bogus", "status").returncode == 78
    (tmp_path / "decisions.db").write_text("this is no database, but it is long enough to be one" * 100)
    ended = pilot("status")
    assert ended.returncode == 78
    assert "not a SQLite database" in ended.stderr


def test_it_runs_as_a_program_and_writes_no_colour_into_a_pipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PILOT_DATA", str(tmp_path))
    ended = subprocess.run(
        [sys.executable, "-m", "actors.pilot", "status"], capture_output=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stdout) == (3, b"")
    assert b"there is no database yet" in ended.stderr and b"\x1b" not in ended.stderr


def test_a_cancel_is_refused_confirmed_done_and_done_once(store: RealStore, monkeypatch: pytest.MonkeyPatch) -> None:
    first = store.propose(a_signal())
    second = store.propose(a_signal(symbol="GBPUSD"))

    unknown = pilot("cancel", "zzzz", "--reason", "x", "--yes")
    assert unknown.returncode == 1 and "there is no intent 'zzzz'" in unknown.stderr
    for answer in ("n\n", ""):
        declined = pilot("cancel", first, "--reason", "x", given=answer)
        assert declined.returncode == 1 and "nothing was cancelled" in declined.stderr
    assert statuses() == {"pending": 2}

    agreed = pilot("cancel", first[:12], "--reason", "news at noon", given="y\n")
    assert agreed.returncode == 0, agreed.stderr
    assert agreed.stdout == f"applied: {first} EURUSD\n"
    again = pilot("cancel", first, "--reason", "x", "--yes")
    assert again.returncode == 0 and again.stdout.startswith("already:")
    assert statuses() == {"cancelled": 1, "pending": 1}
    shown = json.loads(pilot("show", first, "--json").stdout)
    last = shown["transitions"][-1]
    assert (last["event"], last["actor"].split(".")[0]) == ("cancel", "pilot")
    assert last["reason"].endswith(": news at noon")

    store.stop("store")
    monkeypatch.setattr(asking, "ANSWER_S", 0.3)
    down = pilot("cancel", second, "--reason", "x", "--yes")
    assert down.returncode == 69
    assert "no answer" in down.stderr
    assert statuses() == {"cancelled": 1, "pending": 1}


def test_a_refused_cancel_says_what_was_allowed(store: RealStore, monkeypatch: pytest.MonkeyPatch) -> None:
    intent_id = store.propose(a_signal())
    answer = Ack(id="1", outcome=Outcome.REFUSED, reason="the intent is executing", allowed=("open", "fail"))
    monkeypatch.setattr(link, "ask_once", lambda command, role, deadline_s: answer)
    ended = pilot("cancel", intent_id, "--reason", "x", "--yes")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "refused: the intent is executing; allowed now: open, fail" in ended.stderr


def test_what_the_analyst_decided_is_shown_up_and_down(store: RealStore) -> None:
    good = store.propose(a_signal())
    bad = store.propose(a_signal(symbol="GBPUSD", features={"vol_ratio_20_120": 9.0}))
    store.start("actors.llm")
    eventually(lambda: statuses() == {"cancelled": 1, "ready_for_exec": 1})
    eventually(lambda: len(json.loads(pilot("status", "--json").stdout)["workers"]) == 2)

    up = pilot("status")
    assert up.returncode == 0
    assert re.search(r"llm\.1 +ready", up.stdout)
    assert re.search(r"store\.1 +ready", up.stdout)
    assert "ready_for_exec 1" in up.stdout and "NOT RUNNING" not in up.stdout
    assert json.loads(pilot("status", "--json").stdout)["not_running"] is None

    assert store.stop("actors.llm") == 0
    store.stop("store")
    # At once, not only when beats have been missing: the store wrote its end, and the last beats before it.
    down = pilot("status")
    assert down.returncode == 0
    assert down.stdout.splitlines()[1].startswith("NOT RUNNING since 20") and "stopped in order" in down.stdout
    assert re.search(r"llm\.1 +stopped", down.stdout) and re.search(r"store\.1 +stopped", down.stdout)
    found = json.loads(pilot("status", "--json").stdout)
    assert found["not_running"]["in_order"] and [one["state"] for one in found["workers"]] == ["stopped"] * 2
    listed = pilot("intents")
    assert listed.returncode == 0
    assert re.search(rf"{good[:8]} +EURUSD +BUY +ready_for_exec +\+0\.420 +high", listed.stdout)
    assert re.search(rf"{bad[:8]} +GBPUSD +HOLD +cancelled", listed.stdout)
    assert all(len(line) <= 80 for line in listed.stdout.splitlines())
    assert "\x1b" not in listed.stdout

    filtered = json.loads(pilot("intents", "--status", "cancelled", "--symbol", "gbpusd", "--json").stdout)
    assert [row["intent"]["id"] for row in filtered] == [bad]
    assert pilot("intents", "--date", "2001-01-01").stdout == "no intents\n"

    shown = pilot("show", good[:10]).stdout
    for expected in (good, "not an LLM", "suggested_sl_pips", "60.0", "claim", "decide_trade", "momentum_250"):
        assert expected in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_a_beginning_of_several_ids_is_not_guessed(store: RealStore) -> None:
    pairs = ("EUR", "GBP", "AUD", "NZD", "CAD", "CHF", "JPY", "SEK", "NOK", "PLN", "CZK", "HUF", "TRY", "ZAR", "MXN",
             "SGD", "HKD")  # fmt: skip
    ids = [store.propose(a_signal(symbol=f"{pair}USD")) for pair in pairs]
    firsts = [found[0] for found in ids]
    doubled = next(first for first in firsts if firsts.count(first) > 1)  # 17 ids of 16 digits
    ended = pilot("cancel", doubled, "--reason", "x", "--yes")
    assert ended.returncode == 1
    assert "write more of it" in ended.stderr
    assert statuses() == {"pending": len(ids)}
