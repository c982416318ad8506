"""`pilot rules` on real files: what it shows, what it warns of, what it refuses, and the exit codes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import cast

import pytest
from loguru import logger

from actors.monitor import Monitor
from bus.clock import SystemClock
from bus.link import Link
from config import load
from tests.kit.fake_link import FakeLink
from tests.kit.real_store import pilot

DEFAULT = load.RULES / "e8-signature-50k.toml"


@pytest.fixture(autouse=True)
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PILOT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PILOT_PROFILE", "paper")


def copy_of(tmp_path: Path, *changes: tuple[str, str], name: str = "mine") -> Path:
    """Return a copy of the default set with some texts replaced."""
    content = DEFAULT.read_text().replace('name = "e8-signature-50k"', f'name = "{name}"')
    for old, new in changes:
        assert old in content
        content = content.replace(old, new)
    path = tmp_path / f"{name}.toml"
    path.write_text(content)
    return path


# ── refusals ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "arguments", [("rules",), ("rules", "bogus"), ("rules", "show", "a", "b"), ("rules", "list", "x")]
)
def test_a_wrong_command_line_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    ended = pilot(*arguments)
    assert ended.returncode == 64


@pytest.mark.parametrize("command", ["show", "check"])
def test_unknown_set_is_refused_and_the_known_ones_are_named(command: str) -> None:
    ended = pilot("rules", command, "e9")
    assert (ended.returncode, ended.stdout) == (78, "")
    assert "known sets: e8-one-5k, e8-signature-50k" in ended.stderr


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('ratio = "0.05"', 'ratio = "5"', "daily.ratio was 5; allowed: above 0, at most 1"),
        ('ratio = "0.05"', "ratio = 0.05", "daily.ratio was 0.05, a binary fraction"),
        ("confirmed = false", "confirmed = true", "reset.also was not empty although reset.confirmed is true"),
        ('mode = "static"', 'mode = "sometimes"', "maximum.mode was 'sometimes'"),
        ("[target]", "[target", "line"),
    ],
)
def test_wrong_file_is_refused_with_the_field_and_the_reason(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = copy_of(tmp_path, (old, new))
    for command in ("check", "show"):
        ended = pilot("rules", command, str(path))
        assert (ended.returncode, ended.stdout) == (78, "")
        assert f"{path}: " in ended.stderr
        assert said in ended.stderr


def test_unknown_profile_is_a_configuration_error() -> None:
    ended = pilot("--profile", "bogus", "rules", "list")
    assert ended.returncode == 78
    assert "bogus" in ended.stderr


def test_refused_set_stands_in_the_list_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "rules"
    folder.mkdir()
    copy_of(folder, ('ratio = "0.05"', 'ratio = "5"'), name="broken")
    (folder / DEFAULT.name).write_bytes(DEFAULT.read_bytes())
    monkeypatch.setattr(load, "RULES", folder)
    ended = pilot("rules", "list")
    assert ended.returncode == 78
    assert "8% static" in ended.stdout
    assert "daily.ratio was 5" in " ".join(ended.stdout.split())


def test_no_colour_and_no_line_wider_than_the_terminal() -> None:
    for arguments in (("list",), ("show", "the5ers-high-stakes"), ("check",), ("--help",), ("show", "--help")):
        ended = pilot("rules", *arguments)
        assert "\x1b" not in ended.stdout
        wide = [one for one in ended.stdout.splitlines() if len(one) > 80 and "sha256" not in one]
        assert wide == []


# ── what it says ────────────────────────────────────────────────────────────


def test_list_names_the_eight_sets_and_marks_the_active_one() -> None:
    ended = pilot("rules", "list")
    assert ended.returncode == 0
    rows = [row for row in ended.stdout.splitlines() if row[2:3].strip()]
    assert [row.split()[1] for row in rows if row.startswith("* e8")] == ["e8-signature-50k"]
    names = [one["name"] for one in json.loads(pilot("rules", "list", "--json").stdout)]
    assert names == sorted(path.stem for path in load.RULES.glob("*.toml"))
    assert len(names) == 8
    assert all(any(name in row for row in rows) for name in names)


def test_active_file_outside_the_folder_is_listed_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copy_of(tmp_path)
    profile = tmp_path / "profile.toml"
    profile.write_text(f'[compliance]\nrules = "{path}"\n')
    monkeypatch.setenv("PILOT_PROFILE", str(profile))
    found = json.loads(pilot("rules", "list", "--json").stdout)
    assert [(one["name"], one["refused"]) for one in found if one["is_active"]] == [("mine", "")]
    shown = json.loads(pilot("rules", "show", "--json").stdout)
    assert (shown["name"], shown["is_active"], shown["file"]) == ("mine", True, str(path))


def test_show_gives_every_value_its_source_and_the_levels_in_money() -> None:
    ended = pilot("rules", "show")
    assert ended.returncode == 0
    words = ended.stdout.split()
    for level in (
        "47,875.00",
        "47,750.00",
        "47,500.00",
        "46,600.00",
        "46,400.00",
        "46,000.00",
        "+1,360.00",
        "+1,600.00",
    ):
        assert level in words, level
    shown = json.loads(pilot("rules", "show", "--json").stdout)
    assert shown["fingerprint"] == hashlib.sha256(DEFAULT.read_bytes()).hexdigest()
    assert [one["key"] for one in shown["values"]] == sorted(shown_keys(), key=order_in_file)
    assert all(one["source"] and one["verified_on"] and one["confidence"] for one in shown["values"])
    assert [one["floor_cents"] for one in shown["limits"]] == [4_750_000, 4_600_000]
    assert (shown["best_day_cap_cents"], shown["best_day_stop_cents"]) == (160_000, 136_000)


def shown_keys() -> set[str]:
    return set(load.read_toml(DEFAULT)["sources"])


def order_in_file(key: str) -> tuple[int, int]:
    raw = load.read_toml(DEFAULT)
    table, _, field = key.partition(".")
    return list(raw).index(table), list(raw[table]).index(field)


def test_show_says_what_the_best_day_refuses() -> None:
    shown = json.loads(pilot("rules", "show", "ftmo-1step", "--json").stdout)
    found = (shown["best_day_cap_cents"], shown["best_day_stop_cents"], shown["best_day_flatten_cents"])
    assert found == (500_000, 425_000, None)  # nothing is closed for a share
    assert "35% payout share; no order is refused for it" in pilot("rules", "show", "fundingpips-2step").stdout


# ── check ───────────────────────────────────────────────────────────────────


def test_valid_set_that_somebody_should_look_at_ends_with_1() -> None:
    ended = pilot("rules", "check")
    assert ended.returncode == 1
    assert ended.stdout.startswith("valid: e8-signature-50k, 44 values, sha256 ")
    assert "warning: reset is not confirmed" in ended.stdout


def test_compared_confirmed_and_fresh_set_ends_with_0(tmp_path: Path) -> None:
    today = SystemClock().now().date().isoformat()
    path = copy_of(
        tmp_path,
        ("confirmed = false", "confirmed = true"),
        ('also = [{ time = "17:00", tz = "America/New_York" }]', "also = []"),
        ("2026-02-16", today),
        ('"low"', '"high"'),
    )
    ended = pilot("rules", "check", str(path))
    assert (ended.returncode, ended.stdout.count("\n")) == (0, 1)


def test_monitor_warns_at_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    sink = logger.add(lambda message: said.append(str(message)), level="WARNING")
    try:
        Monitor(cast("Link", FakeLink()), load.settings(), SystemClock()).warn_of_the_rules()
    finally:
        logger.remove(sink)
    assert any("Rule set e8-signature-50k: checked last on 2026-02-16" in one for one in said)
    assert any("reset is not confirmed" in one for one in said)
