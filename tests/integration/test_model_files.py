"""A saved model is used only when it is exactly the one asked for, and is there whole or not at all."""

from __future__ import annotations

import builtins
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from actors.market import card as cards
from actors.market import model, panel, train
from actors.market.bars import Bars
from actors.market.card import Card
from actors.market.errors import ModelMismatch
from bus import failpoints
from config.load import ConfigError
from tests.kit import market


@pytest.fixture(scope="module")
def pairs() -> list[Bars]:
    return [market.some_bars(symbol, 600, seed=seed) for seed, symbol in enumerate(market.FIVE, start=1)]


@pytest.fixture(scope="module")
def trained(pairs: list[Bars]) -> tuple[str, panel.Panel, Card, list[Any]]:
    wanted = model.fingerprint(pairs, 2)
    found = panel.build(pairs)
    card, boosters = train.train(found, source="test", fingerprint=wanted, seeds=2)
    return wanted, found, card, boosters


def rewrite_card(folder: Path, card: Card, **changes: Any) -> None:
    path = folder / card.model_id / cards.NAME
    old = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode(old | changes))


def test_a_model_comes_back_with_the_same_scores(tmp_path: Path, trained: Any) -> None:
    _, found, card, boosters = trained
    saved = model.save(tmp_path, card, boosters)
    loaded = model.load(tmp_path, card.model_id)
    assert np.array_equal(loaded.scores(found.columns[-1]), saved.scores(found.columns[-1]))
    assert loaded.card == saved.card
    assert sorted(path.name for path in (tmp_path / card.model_id).iterdir()) == [
        "model.json",
        "seed_0.txt",
        "seed_1.txt",
    ]


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelMismatch, match="there is no model lgbm-000000000000"):
        model.load(tmp_path, "lgbm-000000000000")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"lightgbm": "0.0.1"}, "lightgbm was '0.0.1'; needed"),
        ({"columns": ["ret_1"]}, "columns was"),
        ({"fingerprint": "f" * 64}, "with fingerprint ffffffffffff; a folder holds the model it is named after"),
        ({"model_id": "lgbm-other"}, "the card is of lgbm-other"),
        ({"parameters": {"objective": "regression"}}, "parameters was"),
        ({"format": 0}, "format was 0; needed"),
        ({"rounds": 1}, "rounds was 1; needed"),
        ({"horizon_bars": 1}, "horizon_bars was 1; needed"),
        ({"unknown": 1}, "cannot be read"),
        ({"seeds": 3}, "seed_2.txt cannot be read"),
        ({"files": {}}, "not the file that was saved"),
    ],
)
def test_a_model_of_another_making_is_refused(tmp_path: Path, trained: Any, changes: dict[str, Any], why: str) -> None:
    _, _, card, boosters = trained
    model.save(tmp_path, card, boosters)
    rewrite_card(tmp_path, card, **changes)
    with pytest.raises(ModelMismatch, match=why):
        model.load(tmp_path, card.model_id)


@pytest.mark.parametrize("content", [b"", b"not json", b"\xff\xff"])
def test_a_card_that_cannot_be_read_is_refused(tmp_path: Path, trained: Any, content: bytes) -> None:
    _, _, card, boosters = trained
    model.save(tmp_path, card, boosters)
    (tmp_path / card.model_id / cards.NAME).write_bytes(content)
    with pytest.raises(ModelMismatch, match=r"model\.json cannot be read"):
        model.load(tmp_path, card.model_id)


def test_a_changed_booster_is_refused(tmp_path: Path, trained: Any) -> None:
    _, _, card, boosters = trained
    model.save(tmp_path, card, boosters)
    path = tmp_path / card.model_id / "seed_1.txt"
    path.write_bytes(path.read_bytes().replace(b"leaf_value=0", b"leaf_value=1", 1) + b" ")
    with pytest.raises(ModelMismatch, match=r"seed_1\.txt is not the file that was saved"):
        model.load(tmp_path, card.model_id)


def test_saving_again_replaces_a_damaged_model(tmp_path: Path, trained: Any) -> None:
    _, _, card, boosters = trained
    model.save(tmp_path, card, boosters)
    (tmp_path / card.model_id / cards.NAME).write_bytes(b"")
    model.save(tmp_path, card, boosters)
    assert model.load(tmp_path, card.model_id).card.files


def test_a_training_that_dies_while_saving_leaves_no_model(
    tmp_path: Path, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, card, boosters = trained

    def die(path: Path, target: Path) -> None:
        raise failpoints.FailpointError("killed before the rename")

    monkeypatch.setattr(Path, "rename", die)
    with pytest.raises(failpoints.FailpointError):
        model.save(tmp_path, card, boosters)
    monkeypatch.undo()
    with pytest.raises(ModelMismatch, match="there is no model"):
        model.load(tmp_path, card.model_id)
    model.save(tmp_path, card, boosters)
    assert model.load(tmp_path, card.model_id).card.model_id == card.model_id


def test_old_models_and_leftovers_are_dropped_and_young_ones_stay(tmp_path: Path, trained: Any) -> None:
    _, _, card, boosters = trained
    for age, name in enumerate(["lgbm-a", "lgbm-b", "lgbm-c", "lgbm-d", "lgbm-e", "lgbm-f"]):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (1_000_000 - age, 1_000_000 - age))
    for name, age_s in ((".lgbm-old.1.tmp", 10_000_000_000), (".lgbm-new.2.tmp", 0)):
        (tmp_path / name).mkdir()
        if age_s:
            os.utime(tmp_path / name, (1_000_000, 1_000_000))
    (tmp_path / "last_scan.json").write_text("{}")
    model.save(tmp_path, card, boosters)
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {card.model_id, "lgbm-a", "lgbm-b", "lgbm-c", "lgbm-d", ".lgbm-new.2.tmp", "last_scan.json"}


def test_the_fingerprint_changes_with_every_price_day_and_setting(pairs: list[Bars]) -> None:
    base = model.fingerprint(pairs, 2)
    close = pairs[0].close.copy()
    close[-1] = np.nextafter(close[-1], 2)
    time = pairs[0].time.copy()
    time[0] -= np.timedelta64(1, "D")
    others = [
        model.fingerprint(pairs, 3),
        model.fingerprint(pairs[:-1], 2),
        model.fingerprint([Bars.of_closes("EURUSD", "test", pairs[0].time, close), *pairs[1:]], 2),
        model.fingerprint([Bars.of_closes("EURUSD", "test", time, pairs[0].close), *pairs[1:]], 2),
        model.fingerprint([Bars.of_closes("EURUSD", "other", pairs[0].time, pairs[0].close), *pairs[1:]], 2),
    ]
    assert len({base, *others}) == 6
    assert base == model.fingerprint(pairs, 2)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError("libgomp.so.1: cannot open shared object file"), "apt-get install libgomp1"),
        (ImportError("no lightgbm"), "make setup"),
    ],
)
def test_a_lightgbm_that_cannot_be_loaded_says_what_to_run(
    monkeypatch: pytest.MonkeyPatch, error: Exception, advice: str
) -> None:
    real = builtins.__import__

    def broken(name: str, *rest: Any, **more: Any) -> Any:
        if name == "lightgbm":
            raise error
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(ConfigError, match=advice):
        model.require_lightgbm()
