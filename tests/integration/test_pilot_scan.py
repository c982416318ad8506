"""`pilot scan` and `pilot models` on real files: what they refuse, show and leave alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from actors.market import choice, evaluate, walk_forward
from tests.kit import market
from tests.kit.real_store import Ended, pilot

PROFILE = """
symbols = ["EURUSD", "GBPUSD", "USDJPY", "AUDUSD", "USDCHF"]
[scanner]
sources = ["csv"]
csv_path = "{bars}"
top_k = 2
history_bars_min = 300
train_bars_max = 400
seeds = 1
bar_age_days_max = 3650
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with bars and a profile; each test has data of its own."""
    home = tmp_path_factory.mktemp("home")
    market.csv_folder(home / "bars", count=1_400)
    (home / "mine.toml").write_text(PROFILE.format(bars=home / "bars"))
    return home


@pytest.fixture(autouse=True)
def data(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PILOT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PILOT_PROFILE", str(home / "mine.toml"))
    return tmp_path / "data"


def shown(*arguments: str) -> Any:
    ended = pilot(*arguments, "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def train(data: Path, *days: str) -> list[str]:
    """Train a model on the bars up to each day, as the scanner's child does, and return their names."""
    from actors.market import scan

    found = []
    for day in days:
        job = market.a_job(
            data.parent, market.small_scanner(data.parent / "bars"), train=True, as_of=day, today=day,
            models_folder=str(data / "models"),
        )  # fmt: skip
        result = scan.scan(job)
        found.append(result.model_id)  # type: ignore[union-attr]
    return found


# ── refusals ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--timeframe", "M5"), "--timeframe was 'M5'; allowed: D1, H4, H1"),
        (("--as-of", "yesterday"), "--as-of was 'yesterday'; allowed: YYYY-MM-DD, up to today"),
        (("--as-of", "2999-01-01"), "up to today"),
        (("--out", "x"), "--out goes with --evaluate only"),
        (("--cost-bp", "-1"), "--cost-bp"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(arguments: tuple[str, ...], why: str) -> None:
    ended = pilot("scan", *arguments)
    assert (ended.returncode, ended.stdout) == (64, "")
    assert why in ended.stderr


def test_a_day_without_enough_bars_is_no_ranking_and_says_why() -> None:
    ended = pilot("scan", "--as-of", "2021-01-04")
    assert ended.returncode == 1
    assert "no ranking: 0 of 5 symbols have usable bars" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("use",), 64, "give either MODEL_ID or --latest"),
        (("use", "lgbm-1", "--latest"), 64, "give either"),
        (("use", "lgbm-1"), 1, "there is no model 'lgbm-1'; see: pilot models list"),
        (("show", ""), 1, "there is no model ''"),
    ],
)
def test_a_model_that_is_not_there_is_refused(arguments: tuple[str, ...], code: int, why: str) -> None:
    ended = pilot("models", *arguments)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert why in ended.stderr


def test_a_damaged_model_is_listed_as_refused_and_cannot_be_pinned(data: Path) -> None:
    (one,) = train(data, "2026-02-13")
    path = data / "models" / one / "seed_0.txt"
    path.write_bytes(path.read_bytes() + b" ")
    ended = pilot("models", "use", one)
    assert ended.returncode == 1
    assert "seed_0.txt is not the file that was saved" in " ".join(ended.stderr.split())
    assert choice.read_all(data / "models", "pinned") == []
    (data / "models" / one / "model.json").write_bytes(b"{")
    (row,) = shown("models", "list")
    assert (row["state"], "cannot be read" in row["refused"]) == ("refused", True)


# ── looking ─────────────────────────────────────────────────────────────────


def test_a_scan_by_hand_shows_the_ranking_says_that_nothing_is_proposed_and_writes_nothing(data: Path) -> None:
    ended = pilot("scan")
    assert ended.returncode == 0, ended.stderr
    said = " ".join(ended.stdout.split())
    assert "5 pairs, D1 bar of 2026-02-13, csv" in said
    assert "Nothing was proposed." in said
    assert "no edge is promised" in said
    assert "Net dollar side of these:" in said
    assert "trained for this in" in said
    assert max(len(line) for line in ended.stdout.splitlines()) <= 80
    assert list(data.rglob("*")) == []


def test_a_past_day_is_ranked_as_on_that_day() -> None:
    found = shown("scan", "--as-of", "2025-06-01")  # a Sunday
    assert (found["proposed"], found["as_of"], found["timeframe"]) == (0, "2025-06-01", "D1")
    ranking = found["ranking"]
    assert ranking["bar_time"] == "2025-05-30"
    assert {signal["bar_time"] for signal in ranking["signals"]} == {"2025-05-30"}
    assert all(signal["net_usd"] == ranking["net_usd"] for signal in ranking["signals"])


def test_models_are_listed_newest_first_and_an_older_one_ranks_until_told_otherwise(data: Path) -> None:
    old, new = train(data, "2026-01-16", "2026-02-13")
    assert [(row["model_id"], row["state"]) for row in shown("models", "list")] == [(new, "current"), (old, "kept")]
    assert shown("scan")["ranking"]["model_id"] == new
    ended = pilot("models", "use", old)
    assert (ended.returncode, old in ended.stdout) == (0, True), ended.stderr
    listed = {row["model_id"]: row for row in shown("models", "list")}
    assert (listed[old]["state"], listed[new]["state"]) == ("pinned", "waiting")
    assert listed[old]["pinned_by"]
    assert re.match(r"\d{4}-\d\d-\d\dT", listed[old]["pinned_at"])
    assert shown("scan")["ranking"]["model_id"] == old
    assert pilot("models", "use", "--latest").stdout.startswith("1 pin removed: ")
    assert shown("scan")["ranking"]["model_id"] == new
    assert pilot("models", "use", "--latest").stdout == "no model was pinned\n"
    text = pilot("models", "list").stdout
    assert "2026-01-16" in text
    assert "no edge is promised" in text


def test_a_model_is_shown_with_its_whole_card(data: Path) -> None:
    (one,) = train(data, "2026-02-13")
    found = shown("models", "show", one[:7])
    assert (found["state"], found["card"]["last_day"], found["card"]["timeframe"]) == ("current", "2026-02-13", "D1")
    text = " ".join(pilot("models", "show", one).stdout.split())
    assert "LightGBM" in text
    assert "ret_250" in text
    assert "No edge is promised." in text


def test_the_command_line_starts_without_anything_heavy() -> None:
    code = "import sys, actors.pilot; sys.exit(len({'numpy', 'lightgbm', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ── evaluation ──────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def evaluated(home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ended, Path]:
    folder = tmp_path_factory.mktemp("reports")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PILOT_DATA", str(folder / "data"))
        patch.setenv("PILOT_PROFILE", str(home / "mine.toml"))
        patch.setattr(walk_forward, "TRAIN_BARS_MIN", 300)
        patch.setattr(evaluate, "PLANTED", (0.5,))
        ended = pilot("scan", "--evaluate", "--out", str(folder / "out"))
    return ended, folder


def test_an_evaluation_writes_a_page_that_stands_alone_and_its_figures(evaluated: tuple[Ended, Path]) -> None:
    ended, folder = evaluated
    assert ended.returncode == 0, ended.stderr
    assert "No edge is promised." in ended.stdout
    assert "model: 2025, 3 of 4" in ended.stderr
    page, figures = sorted((folder / "out").iterdir())
    assert (page.suffix, figures.suffix) == (".html", ".json")
    assert list((folder / "data").rglob("*")) == []
    text = page.read_text()
    assert text.count("<svg") == 3
    assert text.index("No edge is promised.") < text.index("rank IC")
    assert not re.search(r"<script|<link|@import|(src|href)=[\"']?(https?:)?//", text)
    found = json.loads(figures.read_text())
    assert [method["name"] for method in found["methods"]] == ["lambdarank", "momentum", "random"]
    assert {"rank_ic", "t", "years", "hit_rate", "turnover", "net_bp"} <= set(found["methods"][0])
    assert [level["confidence"] for level in found["levels"]] == ["low", "medium", "high"]


def test_an_evaluation_of_noise_finds_what_is_planted_and_nothing_else(evaluated: tuple[Ended, Path]) -> None:
    _, folder = evaluated
    (figures,) = (folder / "out").glob("*.json")
    found = json.loads(figures.read_text())
    shuffled, true, planted = found["controls"]
    # The deviation of a mean rank correlation of 5 pairs over n bars is 1 / sqrt(4 n).
    deviation = 1 / (4 * found["bars"]) ** 0.5
    assert abs(shuffled["rank_ic"]) < 4 * deviation
    assert true["name"] == "learned from shuffled labels, true outcomes"
    assert planted["rank_ic"] > 0.6 * planted["known"] > 0.15
    assert abs(found["methods"][2]["rank_ic"]) < 4 * deviation


def test_too_short_a_history_is_no_evaluation(tmp_path: Path, home: Path) -> None:
    ended = pilot("scan", "--evaluate", "--as-of", "2024-01-05", "--out", str(tmp_path / "out"))
    assert ended.returncode == 1
    assert "bring a longer history" in " ".join(ended.stderr.split())
    assert not (tmp_path / "out").exists()
