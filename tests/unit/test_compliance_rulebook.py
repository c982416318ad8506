"""Rule sets: refused when anything is missing, unknown, out of range or without a source."""

from __future__ import annotations

import copy
import hashlib
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.compliance import drawdown, rule_checks, rulebook
from config import load
from config.load import ConfigError

PATH = load.RULES / "e8-signature-50k.toml"
RAW = load.read_toml(PATH)
KEYS = sorted(RAW["sources"])
NAMES = sorted(path.stem for path in load.RULES.glob("*.toml"))
THE_EIGHT = [
    "e8-one-5k", "e8-signature-50k", "e8-signature-50k-2026-10", "ftmo-1step", "ftmo-2step",
    "fundednext-stellar-2step", "fundingpips-2step", "the5ers-high-stakes",
]  # fmt: skip
NEW_YORK = {"time": "17:00", "tz": "America/New_York"}


def changed(dotted: str, value: object, raw: dict[str, Any] = RAW) -> dict[str, Any]:
    raw = copy.deepcopy(raw)
    *tables, key = dotted.split(".")
    place = raw
    for table in tables:
        place = place[table]
    if value is None:
        del place[key]
    else:
        place[key] = value
    return raw


def with_all(values: dict[str, object]) -> dict[str, Any]:
    raw = RAW
    for key, value in values.items():
        raw = changed(key, value, raw)
    return raw


def refusal(raw: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        rulebook.parse(raw, PATH)
    assert str(PATH) in str(caught.value)
    return str(caught.value)


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
        ("daily.ratio", 0.05, 'daily.ratio was 0.05, a binary fraction; write it as text: "0.05"'),
        ("daily.ratio", "0.0500001", "daily.ratio was 0.0500001; allowed: at most 6 decimals"),
        ("maximum.ratio", "Infinity", "maximum.ratio was Infinity"),
        ("safety.flatten_ratio", "-0.9", "safety.flatten_ratio was -0.9"),
        ("safety.flatten_ratio", "1", "safety.flatten_ratio was 1; must be below 1"),
        ("target.ratios", [0.08], "target.ratios was 0.08, a binary fraction"),
        ("positions.lots_max", "0", "positions.lots_max was 0; allowed: above 0"),
        ("positions.lots_max", "NaN", "positions.lots_max was NaN"),
        ("reset.also", [{"time": "17:00", "tz": "America/Gotham"}], "reset.also[0].tz was 'America/Gotham'"),
        ("fingerprint", "abc", "fingerprint is not a setting"),
        ("hold.trades_min", 0, "hold.trades_min was 0"),
        ("news.window_minutes", -1, "news.window_minutes was -1"),
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
    with pytest.raises(ConfigError, match="known sets: e8-one-5k, e8-signature-50k, "):
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


# ── contradictions and gaps ─────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("values", "said"),
    [
        # a rule that is said not to be there has no number, one that is there has one
        ({"daily.kind": "none"}, "daily.ratio was 0.05; must be \"0\", because daily.kind is 'none'"),
        ({"best_day.scope": "none"}, "best_day.ratio was 0.40; must be \"0\", because best_day.scope is 'none'"),
        ({"best_day.scope": "payout_share", "best_day.ratio": "0"}, "because best_day.scope is 'payout_share'"),
        ({"days.profitable_ratio": "0.005"}, "days.profitable_ratio was 0.005; must be \"0\""),
        ({"days.trading_min": 3, "days.profitable_min": 3}, "days.profitable_ratio was 0; allowed: above 0"),
        (
            {"days.trading_min": 2, "days.profitable_min": 3, "days.profitable_ratio": "0.005"},
            "days.trading_min was 2; must be at least days.profitable_min = 3",
        ),
        ({"hold.seconds_min": 0}, 'hold.short_share_max was 0.50; must be "1", because hold.seconds_min is 0'),
        ({"hold.short_share_max": "1"}, "hold.short_share_max was 1, which limits nothing"),
        # limits
        ({"maximum.lock_at": "initial"}, "maximum.lock_at was 'initial'; must be \"none\""),
        ({"daily.ratio": "0.09"}, "daily.ratio was 0.09; must not be above maximum.ratio = 0.08"),
        # readings of the reset
        ({"reset.confirmed": True}, "reset.also was not empty although reset.confirmed is true"),
        ({"reset.also": []}, "reset.also was empty although reset.confirmed is false"),
        ({"reset.also": [NEW_YORK, NEW_YORK]}, "reset.also[1] was 17:00 America/New_York, the same moments as"),
        (
            {"reset.also": [{"time": "00:00", "tz": "Europe/Helsinki"}]},
            "reset.also[0] was 00:00 Europe/Helsinki, the same moments as reset, 00:00 Europe/Athens; must differ",
        ),
        # times to be flat
        ({"flat.daily_by": "23:00"}, 'flat.reopen_at was "none"; allowed: HH:MM, because flat.daily_by is set'),
        ({"flat.friday_by": "22:00"}, 'flat.reopen_at was "none"; allowed: HH:MM, because flat.friday_by is set'),
        ({"flat.reopen_at": "00:15"}, "flat.reopen_at was '00:15'; must be \"none\""),
        ({"flat.daily_by": "23:00", "flat.reopen_at": "23:00"}, "must differ from flat.daily_by"),
        # requests
        ({"requests.writes_per_day": 2_001}, "requests.writes_per_day was 2001; must not be above requests.per_day"),
        ({"requests.writes_per_day": 20}, "requests.writes_reserve was 20; must be below requests.writes_per_day"),
        ({"requests.writes_reserve": 51}, "requests.writes_reserve was 51; must not be above requests.reserve"),
        ({"requests.reserve": 19, "requests.writes_reserve": 8}, "requests.reserve was 19; closing 3 positions may"),
        ({"requests.writes_reserve": 7}, "requests.writes_reserve was 7; closing 3 positions may need 8"),
        ({"positions.open_max": 12}, "requests.reserve was 50; closing 12 positions may need 56"),
    ],
)  # fmt: skip
def test_contradiction_is_refused_with_the_field_and_the_reason(values: dict[str, object], said: str) -> None:
    assert said in refusal(with_all(values))


@pytest.mark.parametrize(
    "values",
    [
        {"daily.kind": "none", "daily.ratio": "0"},
        {"best_day.scope": "none", "best_day.ratio": "0"},
        {"days.trading_min": 3, "days.profitable_min": 3, "days.profitable_ratio": "0.005"},
        {"hold.seconds_min": 0, "hold.short_share_max": "1"},
        {"reset.confirmed": True, "reset.also": []},
        {"reset.also": [NEW_YORK, {"time": "00:00", "tz": "Etc/GMT-3"}]},
        {"maximum.mode": "trailing_closed", "maximum.lock_at": "initial"},
        {"flat.daily_by": "23:00", "flat.reopen_at": "00:15", "flat.friday_by": "22:00"},
        {"requests.reserve": 20, "requests.writes_reserve": 8},
    ],
)  # fmt: skip
def test_the_neighbour_of_each_contradiction_is_accepted(values: dict[str, object]) -> None:
    assert rulebook.parse(with_all(values), PATH).name == "e8-signature-50k"


@pytest.mark.parametrize("key", KEYS)
def test_every_value_and_every_source_is_required(key: str) -> None:
    assert f"{key} is missing" in refusal(changed(key, None))
    without = copy.deepcopy(RAW)
    del without["sources"][key]
    assert f"{key} has no entry under [sources]" in refusal(without)


@pytest.mark.parametrize("field", ["source", "verified_on", "confidence"])
def test_a_source_without_place_date_or_confidence_is_refused(field: str) -> None:
    without = copy.deepcopy(RAW)
    del without["sources"]["daily.ratio"][field]
    assert f"{field} is missing" in refusal(without)
    blank = copy.deepcopy(RAW)
    blank["sources"]["daily.ratio"]["source"] = " "
    assert "sources.daily.ratio.source was empty" in refusal(blank)


@given(
    key=st.sampled_from(
        ("daily.ratio", "maximum.ratio", "best_day.ratio", "safety.stop_ratio", "hold.short_share_max")
    ),
    value=st.decimals(allow_nan=True, allow_infinity=True) | st.decimals(min_value=-1, max_value=2, places=3),
)
def test_no_ratio_outside_its_range_is_ever_loaded(key: str, value: Decimal) -> None:
    try:
        rules = rulebook.parse(changed(key, str(value)), PATH)
    except ConfigError as refused:
        assert key.partition(".")[0] in str(refused)
    else:
        assert value.is_finite()
        assert 0 < value <= 1
        assert rules.daily.ratio <= rules.maximum.ratio
        assert rules.safety.stop_ratio < rules.safety.flatten_ratio < 1


@given(
    key=st.sampled_from(KEYS),
    value=st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=20)
    | st.floats()
    | st.lists(st.text(max_size=5)),
)
def test_whatever_stands_in_a_file_is_loaded_or_refused_and_never_breaks(key: str, value: object) -> None:
    raw = copy.deepcopy(RAW)
    table, _, field = key.partition(".")
    raw[table][field] = value
    try:
        rulebook.parse(raw, PATH)
    except ConfigError as refused:
        assert str(PATH) in str(refused)


@given(st.integers(1, 1_000))
def test_reserve_grows_with_the_positions_that_may_be_open(open_max: int) -> None:
    requests, writes = rule_checks.flatten_needs(open_max)
    assert writes > open_max  # each is closed, and one more may turn up
    assert requests >= 2 * writes


# ── the eight sets ──────────────────────────────────────────────────────────


def test_the_eight_sets_are_there() -> None:
    assert NAMES == THE_EIGHT


@pytest.mark.parametrize("name", NAMES)
def test_set_loads_and_carries_the_fingerprint_of_its_bytes(name: str) -> None:
    rules = rulebook.load(name)
    assert rules.fingerprint == hashlib.sha256((load.RULES / f"{name}.toml").read_bytes()).hexdigest()
    assert rules.sources.keys() == rulebook.values(rules).keys()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_our_choice_is_never_called_sure_where_it_decides_money(name: str) -> None:
    rules = rulebook.load(name)
    decisive = ("reset.", "daily.", "maximum.", "target.", "best_day.")
    claimed = [
        key
        for key, origin in rules.sources.items()
        if key.startswith(decisive) and origin.source.startswith("our choice") and origin.confidence != "low"
    ]
    assert claimed == []


def test_edited_file_has_another_fingerprint_and_the_same_rules(tmp_path: Path) -> None:
    (tmp_path / PATH.name).write_bytes(PATH.read_bytes() + b"# seen\n")
    edited, original = rulebook.load("e8-signature-50k", tmp_path), rulebook.load("e8-signature-50k")
    assert edited.fingerprint != original.fingerprint
    assert edited.daily == original.daily


# ── what somebody should look at ────────────────────────────────────────────


def test_older_than_90_days_warns_and_90_days_do_not() -> None:
    rules = rulebook.load("e8-signature-50k")
    assert not [one for one in rules.warnings(date(2026, 5, 17)) if "days ago" in one]
    assert rules.warnings(date(2026, 5, 18))[0].startswith("checked last on 2026-02-16, 91 days ago; allowed: 90")


def test_value_checked_tomorrow_warns() -> None:
    rules = rulebook.load("e8-signature-50k")
    assert any("verified_on lies after today" in one for one in rules.warnings(date(2026, 2, 15)))


def test_unconfirmed_reset_and_unsure_limits_warn_and_a_named_zone_does_not() -> None:
    today = date(2026, 11, 22)
    unsure = rulebook.load("the5ers-high-stakes").warnings(today)
    assert any("00:00 Europe/Athens and 17:00 America/New_York and 00:00 Etc/GMT-3 count" in one for one in unsure)
    assert any("daily.measured_on" in one for one in unsure)
    assert not any("not confirmed" in one for one in rulebook.load("ftmo-2step").warnings(today))
