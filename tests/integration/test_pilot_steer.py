"""`pilot pause|resume|flatten|halts|attest|day` against a real store: what is refused, asked, done and recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.compliance import rulebook
from bus.clock import SystemClock, iso
from config import load
from store import rules as rule_numbers
from store.queries import Reader
from tests.kit.eventually import eventually
from tests.kit.real_store import RealStore, pilot, real_store

WHY = ("--reason", "seen on the dashboard", "--yes")
RULES = rule_numbers.read("e8-signature-50k")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[RealStore]:
    with real_store(monkeypatch) as found:
        eventually(lambda: (load.data_folder() / "decisions.db").exists())
        yield found


def read(what: str, *arguments: Any) -> Any:
    reader = Reader(load.data_folder() / "decisions.db")
    try:
        return getattr(reader, what)(*arguments)
    finally:
        reader.close()


def standing() -> list[dict[str, Any]]:
    ended = pilot("halts", "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "arguments",
    [
        ("pause",),
        ("pause", "--reason", " "),
        ("pause", "--reason", "x", "--until", "noon"),
        ("pause", "--reason", "x", "--until", "2026-01-01T00:00"),
        ("pause", "--reason", "x", "--until", "2020-01-01T00:00Z"),
        ("resume",),
        ("resume", "--reason", "", "--halt", "1"),
        ("resume", "--reason", "x", "--halt", "one"),
        ("flatten",),
        ("flatten", "--reason", " "),
        ("attest",),
        ("attest", "--text", " "),
        ("day", "--reason", "x"),
        ("day", "--balance", "50000"),
        ("day", "--balance", "50000", "--reason", " "),
    ],
)
def test_wrong_command_line_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    ended = pilot(*arguments)
    assert (ended.returncode, ended.stdout) == (64, "")
    assert ended.stderr


@pytest.mark.parametrize("command", ["pause", "resume", "flatten", "halts", "attest", "day"])
def test_help_gives_an_example(command: str) -> None:
    ended = pilot(command, "--help")
    assert ended.returncode == 0
    assert f"pilot {command}" in ended.stdout.partition("Example")[2]


def test_the_database_may_not_be_there_yet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PILOT_DATA", str(tmp_path))
    monkeypatch.setenv("PILOT_PROFILE", "paper")
    assert pilot("halts").returncode == 3
    assert pilot("flatten", *WHY).returncode == 3


def test_pausing_asks_is_recorded_with_a_name_and_stands_after_a_restart(store: RealStore) -> None:
    assert pilot("halts").stdout == "no halt stands\n"
    declined = pilot("pause", "--reason", "holiday", given="n\n")
    assert declined.returncode == 1 and "Stop new orders until `pilot resume`? [y/N]" in declined.stderr
    assert standing() == []

    agreed = pilot("pause", "--reason", "holiday", given="y\n")
    assert (agreed.returncode, agreed.stdout) == (0, "applied: no new orders until `pilot resume`\n"), agreed.stderr
    again = pilot("pause", "--reason", "still", "--yes")
    assert again.returncode == 0 and again.stdout.startswith("already: ") and "halt 1 stands" in again.stdout
    soft = pilot("pause", "--reason", "payrolls", "--until", "2099-11-03T07:00:00+02:00", "--yes")
    assert soft.returncode == 0, soft.stderr

    store.stop("store")
    store.start("store")
    found = standing()
    assert [(halt["kind"], halt["until"], halt["flatten"]) for halt in found] == [
        ("hard", None, False), ("soft", "2099-11-03T05:00:00.000Z", False)
    ]  # fmt: skip
    assert found[0]["reason"].startswith("operator: ") and found[0]["reason"].endswith(": holiday")
    shown = pilot("halts").stdout
    assert "halt 1 (hard, until lifted)" in shown and "halt 2 (soft, until 2099-11-03T05:00:00.000Z)" in shown


def test_resuming_names_what_it_lifts_and_says_when_there_is_nothing(store: RealStore) -> None:
    nothing = pilot("resume", "--reason", "back", "--yes")
    assert (nothing.returncode, nothing.stdout) == (0, "already: resume: no halt stands\n")
    missing = pilot("resume", "--halt", "99", "--reason", "back", "--yes")
    assert (missing.returncode, missing.stderr) == (1, "pilot: refused: there is no halt 99\n")
    pilot("pause", "--reason", "holiday", "--yes")
    pilot("flatten", "--reason", "news", "--yes")
    declined = pilot("resume", "--halt", "2", "--reason", "back", given="\n")
    assert declined.returncode == 1 and "closing every position): flatten: operator" in declined.stderr
    assert "halt 1" not in declined.stderr and len(standing()) == 2
    one = pilot("resume", "--halt", "2", "--reason", "back", given="y\n")
    assert one.stdout == "applied: resume: lifted 1 of 2 halts; 1 still stands\n", one.stderr
    assert pilot("resume", "--reason", "back", "--yes").stdout == "applied: resume: lifted 1 of 1 halts\n"
    assert standing() == []
    twice = pilot("resume", "--halt", "2", "--reason", "back", "--yes")
    assert twice.returncode == 0 and "halt 2 was lifted at" in twice.stdout
    assert read("halt", 1).lift_reason == "back"


def test_flattening_stops_new_orders_and_asks_the_monitor_to_close(store: RealStore) -> None:
    declined = pilot("flatten", "--reason", "news", given="no\n")
    assert declined.returncode == 1 and "Close every position of the account (0 of ours are open)" in declined.stderr
    done = pilot("flatten", "--reason", "news", "--yes")
    assert (done.returncode, done.stdout) == (0, "applied: every position will be closed; see `pilot status`\n")
    again = pilot("flatten", "--reason", "news", "--yes").stdout
    assert again.startswith("already: every position will be closed: halt 1 stands: flatten: operator "), again
    assert again.endswith(": news\n")
    halt = standing()[0]
    assert (halt["kind"], halt["flatten"]) == ("hard", True)


def test_attesting_shows_what_is_attested_and_keeps_it_for_exactly_that_file(store: RealStore) -> None:
    rules = rulebook.load("e8-signature-50k")
    declined = pilot("attest", "--text", "compared", given="n\n")
    assert declined.returncode == 1 and "nothing was attested" in declined.stderr
    for shown in ("account PAPER-1 (paper)", rules.name, f"sha256 {rules.fingerprint}", "custom EA? [y/N]"):
        assert shown in declined.stderr
    for warning in rules.warnings(SystemClock().now().date()):
        assert warning[:40] in declined.stderr
    assert read("attestation", "PAPER-1", rules.fingerprint) is None
    agreed = pilot("attest", "--text", " compared; support agreed, #12 ", given="y\n")
    assert agreed.returncode == 0, agreed.stderr
    kept = read("attestation", "PAPER-1", rules.fingerprint)
    assert (kept.text, kept.rules) == ("compared; support agreed, #12", rules.name)
    assert kept.operator
    assert read("attestation", "PAPER-1", "0" * 64) is None


@pytest.mark.parametrize("balance", ["-1", "0", "1e20", "nan", "50000.001", "fifty"])
def test_what_is_no_amount_of_money_is_a_usage_error(store: RealStore, balance: str) -> None:
    ended = pilot("day", "--balance", balance, *WHY)
    assert ended.returncode == 64 and "allowed: an amount above 0" in ended.stderr


def test_declaring_the_day_writes_one_for_every_reading_and_never_replaces_one(store: RealStore) -> None:
    for arguments, words in (
        (("--balance", "50000", "--reset", "00:00 Europe/London"), "allowed: 00:00 Europe/Athens, 17:00 America/New"),
        (("--balance", "50000", "--mark", "51000"), "trails nothing"),
    ):
        ended = pilot("day", *arguments, *WHY)
        assert ended.returncode == 64 and words in ended.stderr
    below = pilot("day", "--balance", "50000", "--reference", "49999.99", *WHY)
    assert below.returncode == 1 and "0 < start <= reference" in below.stderr

    declined = pilot("day", "--balance", "50,123.45", "--reason", "dashboard", given="n\n")
    assert declined.returncode == 1 and "started with 50,123.45" in declined.stderr
    done = pilot("day", "--balance", "50,123.45", "--reset", "00:00 Europe/Athens", *WHY)
    assert done.returncode == 0 and done.stdout.startswith("applied: day "), done.stderr
    rest = pilot("day", "--balance", "50200", "--reference", "50300.5", *WHY)
    assert (
        rest.returncode == 0
        and "(17:00 America/New_York) started with 50,200.00, counted from 50,300.50" in rest.stdout
    )
    assert "Athens" not in rest.stdout
    now = iso(SystemClock().now())
    days = [read("account_day_at", "PAPER-1", reading.label, now) for reading in RULES.readings]
    assert [(day.start_balance_cents, day.reference_cents) for day in days] == [
        (5_012_345, 5_012_345), (5_020_000, 5_030_050)
    ]  # fmt: skip
    assert all(day.note.startswith("operator ") and day.note.endswith("seen on the dashboard") for day in days)

    again = pilot("day", "--balance", "60000", *WHY)
    assert again.returncode == 1 and "nothing to declare: day" in again.stderr and "50,123.45" in again.stderr


def test_what_a_firm_counts_from_must_be_said_and_a_mark_may_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def profile(rules: str) -> str:
        path = tmp_path / f"{rules}.toml"
        path.write_text(f'[compliance]\nrules = "{rules}"\n')
        return str(path)

    with real_store(monkeypatch) as store:
        store.stop("store")
        monkeypatch.setenv("PILOT_PROFILE", profile("the5ers-high-stakes"))
        store.start("store")
        eventually(lambda: (load.data_folder() / "decisions.db").exists())
        ended = pilot("day", "--balance", "100000", *WHY)
        assert ended.returncode == 64 and "--reference is missing" in ended.stderr
        store.stop("store")
        monkeypatch.setenv("PILOT_PROFILE", profile("e8-one-5k"))
        store.start("store")
        done = pilot("day", "--balance", "5100", "--mark", "5200", *WHY)
        assert done.returncode == 0, done.stderr
        mark = read("account_mark", "PAPER-1", "closed_balance")
        assert mark.value_cents == 520_000
        higher = pilot("day", "--mark", "5300", *WHY)
        assert higher.returncode == 0, higher.stderr
        assert read("account_mark", "PAPER-1", "closed_balance").value_cents == 530_000
        absurd = pilot("day", "--mark", "530000", *WHY)
        assert absurd.returncode == 1 and "ten times the initial balance" in absurd.stderr


def test_no_answer_is_said_so(store: RealStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from actors.console import asking

    eventually(lambda: read("store_epoch"))
    store.stop("store")
    monkeypatch.setattr(asking, "ANSWER_S", 0.3)
    ended = pilot("pause", "--reason", "x", "--yes")
    assert ended.returncode == 69 and "it may have been done all the same" in ended.stderr
