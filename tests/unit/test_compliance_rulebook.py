"""Rule sets: refused when anything is missing, unknown, out of range or without a source."""

from __future__ import annotations

import copy
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from actors.compliance import drawdown, rulebook
from config import load
from config.load import ConfigError

PATH = load.RULES / "e8-signature-50k.toml"
RAW = load.read_toml(PATH)


def changed(dotted: str, value: object) -> dict[str, Any]:
    raw = copy.deepcopy(RAW)
    *tables, key = dotted.split(".")
    place = raw
    for table in tables:
        place = place[table]
    if value is None:
        del place[key]
    else:
        place[key] = value
    return raw


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("daily.ratio", "1.01", "daily.ratio was 1.01; allowed: above 0, at most 1"),
        ("daily.ratio", "0", "daily.ratio was 0"),
        ("maximum.ratio", "NaN", "maximum.ratio was NaN"),
        ("target.ratios", ["0.08", "-1"], "target.ratios[1] was -1"),
        ("target.ratios", [], "target.ratios was []"),
        ("daily.kind", "sometimes", "daily.kind was 'sometimes'"),
        ("daily.surprise", 1, "daily.surprise is not a setting"),
        ("daily.measured_on", None, "daily.measured_on is missing"),
        ("safety.stop_ratio", "0.9", "safety.stop_ratio was 0.9; must be below"),
        ("requests.reserve", 2_000, "requests.reserve was 2000; must be below"),
        ("reset.tz", "Europe/Atlantis", "reset.tz was 'Europe/Atlantis'"),
        ("reset.tz", "../../etc/passwd", "reset.tz was"),
        ("reset.time", "24:00", "reset.time was '24:00'"),
        ("account.initial_balance_cents", 0, "account.initial_balance_cents was 0"),
        ("account.currency", "JPY", "account.currency was 'JPY'"),
        ("name", "another", "name was 'another'; must be the file's name, 'e8-signature-50k'"),
    ],
)
def test_wrong_value_is_refused_by_name(key: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rulebook.parse(changed(key, value), PATH)
    assert said in str(caught.value)
    assert str(PATH) in str(caught.value)


def test_value_without_a_source_is_refused() -> None:
    raw = copy.deepcopy(RAW)
    del raw["sources"]["daily.ratio"]
    with pytest.raises(ConfigError, match=r"daily\.ratio has no entry under \[sources\]"):
        rulebook.parse(raw, PATH)


def test_source_of_no_value_is_refused() -> None:
    raw = copy.deepcopy(RAW)
    raw["sources"]["daily.ratoi"] = raw["sources"]["daily.ratio"]
    with pytest.raises(ConfigError, match=r"sources has an entry for daily\.ratoi"):
        rulebook.parse(raw, PATH)


def test_unknown_set_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="known sets: e8-signature-50k"):
        rulebook.load("e9")
    with pytest.raises(ConfigError, match="known sets: none"):
        rulebook.load("e9", tmp_path)


def test_numbers_of_the_blueprint() -> None:
    rules = rulebook.load("e8-signature-50k")
    day, maximum = drawdown.daily(rules, 5_000_000), drawdown.maximum(rules)
    assert (day.floor_cents, day.stop_cents) == (4_750_000, 4_787_500)  # $2,500 and $2,125 below $50,000
    assert (maximum.floor_cents, maximum.stop_cents) == (4_600_000, 4_660_000)  # $4,000 and $3,400
    assert rules.best_day_cap_cents() == 160_000
    assert (rules.requests.per_day, rules.requests.reserve, rules.positions.open_max) == (2_000, 50, 3)
    assert rules.verified_on == date(2026, 2, 16)
