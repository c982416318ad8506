"""Which model a scan ranks with: the pinned, the current or a new one, and when a training is due."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from actors.market import card, choice, features, model, momentum, panel, scan
from actors.market.bars import Bars
from actors.market.errors import ScanError
from actors.market.job import Failed, Ranked, ScanJob, Trained
from bus import failpoints
from tests.kit import market
from tests.kit.market import a_job

FRIDAY = market.LAST_DAY


def a_scan(folder: Path, last: date = FRIDAY, **changes: Any) -> Any:
    """Scan bars that end on `last`, with the models under `folder`; five walks whose past never changes."""
    market.csv_folder(folder / "bars", count=720)
    scanner = changes.pop("scanner", None) or market.small_scanner(folder / "bars")
    given = {"as_of": last.isoformat(), "today": (last + timedelta(days=1)).isoformat()} | changes
    return scan.scan(a_job(folder, scanner, **given))


def ranked(*given: Any, **changes: Any) -> Ranked:
    found = a_scan(*given, **changes)
    assert isinstance(found, Ranked), found
    return found


def trained(*given: Any, **changes: Any) -> Trained:
    found = a_scan(*given, train=True, **changes)
    assert isinstance(found, Trained), found
    return found


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with one, which knows bars up to two weeks before the newest."""
    folder = tmp_path_factory.mktemp("first")
    assert ranked(folder, FRIDAY - timedelta(days=14)).trained_s is not None
    return folder / "models"


@pytest.fixture
def folder(tmp_path: Path, first: Path) -> Path:
    shutil.copytree(first, tmp_path / "models")
    return tmp_path


def current(folder: Path) -> choice.Choice:
    found = choice.read(folder / "models", "current", "D1", "csv")
    assert found is not None
    return found


def pin(folder: Path, model_id: str, **changes: str) -> None:
    given = {"model_id": model_id, "timeframe": "D1", "source": "csv"} | changes
    choice.write(folder / "models", "pinned", choice.Choice(**given))


# ── refusals ────────────────────────────────────────────────────────────────


def test_a_pinned_model_that_is_gone_stops_the_scan_and_says_how_to_go_on(folder: Path) -> None:
    pin(folder, "lgbm-000000000000")
    found = a_scan(folder)
    assert isinstance(found, Failed)
    assert found.kind == "final"
    assert found.reason.startswith(
        "the pinned model of D1 csv cannot be used: there is no model lgbm-000000000000. Pin"
    )
    assert "pilot models use --latest" in found.reason


def test_a_pin_that_cannot_be_read_stops_the_scan(folder: Path) -> None:
    pin(folder, current(folder).model_id)
    choice.path(folder / "models", "pinned", "D1", "csv").write_bytes(b"{")
    found = a_scan(folder)
    assert isinstance(found, Failed)
    assert "pinned-D1-csv.json cannot be read" in found.reason


def test_a_pinned_model_of_another_timeframe_is_not_used(folder: Path) -> None:
    place = folder / "models" / current(folder).model_id / card.NAME
    place.write_bytes(place.read_bytes().replace(b'"timeframe": "D1"', b'"timeframe": "H4"'))
    pin(folder, current(folder).model_id)
    found = a_scan(folder)
    assert isinstance(found, Failed)
    assert "timeframe was 'H4'; needed 'D1'" in found.reason


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b'"source": "csv"', b'"source": "ecb"', "source was 'ecb'; needed 'csv'"),
        (b'"EURUSD",', b'"EURCHF",', "was not trained with EURUSD"),
        (b'"last_day": "2026-01-30"', b'"last_day": "2026-02-14"', "trained with bars up to 2026-02-14; the newest"),
    ],
)
def test_a_current_model_of_other_bars_is_trained_again_with_a_note(
    folder: Path, old: bytes, new: bytes, why: str
) -> None:
    before = current(folder).model_id
    place = folder / "models" / before / card.NAME
    content = place.read_bytes()
    assert old in content
    place.write_bytes(content.replace(old, new))
    found = ranked(folder)
    assert found.trained_s is not None
    assert why in found.notes[0]
    assert current(folder).model_id == found.model_id != before


def test_a_damaged_pointer_is_written_anew(folder: Path) -> None:
    choice.path(folder / "models", "current", "D1", "csv").write_bytes(b"\xff")
    found = ranked(folder)
    assert found.trained_s is not None
    assert found.notes[0].startswith("saved model refused, trained again: current-D1-csv.json cannot be read")
    assert current(folder).model_id == found.model_id


# ── the warm way ────────────────────────────────────────────────────────────


def test_new_bars_are_ranked_with_the_current_model_and_a_training_is_due_after_a_week_of_them(folder: Path) -> None:
    before = current(folder)
    thursday = ranked(folder, FRIDAY - timedelta(days=8))
    friday = ranked(folder, FRIDAY - timedelta(days=7))
    assert (thursday.trained_s, friday.trained_s) == (None, None)
    assert {thursday.model_id, friday.model_id} == {before.model_id}
    assert (thursday.is_training_due, friday.is_training_due) == (False, True)
    later = market.small_scanner(folder / "bars", retrain_days=8)
    assert not ranked(folder, FRIDAY - timedelta(days=7), scanner=later).is_training_due
    assert current(folder) == before


def test_a_training_switches_and_the_next_scan_uses_it_and_owes_none(folder: Path) -> None:
    before = current(folder).model_id
    made = trained(folder)
    assert (made.timeframe, made.source, made.last_day) == ("D1", "csv", FRIDAY.isoformat())
    assert current(folder).model_id == made.model_id != before
    found = ranked(folder)
    assert (found.model_id, found.trained_s, found.is_training_due) == (made.model_id, None, False)
    assert found.signals[0].model_id == made.model_id


def test_until_the_switch_scans_use_the_old_model_and_the_next_training_takes_what_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = current(folder).model_id

    def die(name: str) -> None:
        if name == "model.before_switch":
            raise failpoints.FailpointError("killed between save and switch")

    monkeypatch.setattr(failpoints, "reach", die)
    with pytest.raises(failpoints.FailpointError):
        trained(folder)
    monkeypatch.undo()
    assert len(card.places(folder / "models")) == 2
    assert ranked(folder).model_id == before
    monkeypatch.setattr(model, "save", lambda *_: pytest.fail("it is there already"))
    made = trained(folder)
    assert current(folder).model_id == made.model_id != before


def test_a_pinned_model_is_used_while_trainings_go_on(folder: Path) -> None:
    old = current(folder).model_id
    pin(folder, old)
    made = trained(folder)
    assert ranked(folder).model_id == old
    assert current(folder).model_id == made.model_id
    choice.path(folder / "models", "pinned", "D1", "csv").unlink()
    assert ranked(folder).model_id == made.model_id


def test_named_models_are_never_dropped(folder: Path) -> None:
    old = current(folder).model_id
    pin(folder, old)
    loaded = model.load(folder / "models", old)
    for at in range(model.MODELS_KEPT + 2):
        digits = f"{at:064x}"[::-1]
        made = msgspec.structs.replace(loaded.card, fingerprint=digits, model_id=card.model_id(digits))
        model.save(folder / "models", made, [])
        model.switch(folder / "models", made)
    kept = {place.name for place in card.places(folder / "models")}
    assert {old, current(folder).model_id} <= kept
    assert len(kept) == model.MODELS_KEPT + 3  # these two and, at the last saving, the current one before


# ── by hand ─────────────────────────────────────────────────────────────────


def test_a_scan_by_hand_writes_nothing_and_ranks_the_same(tmp_path: Path, folder: Path) -> None:
    by_hand = ranked(tmp_path / "other", by_hand=True)
    assert by_hand.trained_s is not None
    assert not (tmp_path / "other" / "models").exists()
    before = {path: path.read_bytes() for path in (folder / "models").rglob("*.json")}
    ranked(folder, by_hand=True)
    assert {path: path.read_bytes() for path in (folder / "models").rglob("*.json")} == before


def test_a_past_day_is_ranked_without_a_model_that_knows_what_came_later(folder: Path) -> None:
    pin(folder, current(folder).model_id)
    past = ranked(folder, FRIDAY - timedelta(days=21), by_hand=True)
    assert past.trained_s is not None
    assert past.model_id != current(folder).model_id
    assert past.bar_time == "2026-01-23"


def test_a_past_day_gives_what_files_that_end_there_give(tmp_path: Path) -> None:
    day = FRIDAY - timedelta(days=11)  # a Monday
    seen = ranked(tmp_path / "one", day, by_hand=True)
    market.csv_folder(tmp_path / "two" / "bars", count=720)
    for path in (tmp_path / "two" / "bars").iterdir():
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0], *(line for line in lines[1:] if line[:10] <= day.isoformat())]) + "\n")
    job = a_job(tmp_path / "two", market.small_scanner(tmp_path / "two" / "bars"), today="2026-02-03", by_hand=True)
    cut = scan.scan(job)
    assert isinstance(cut, Ranked)
    assert cut.signals == seen.signals


# ── momentum ────────────────────────────────────────────────────────────────


def test_momentum_needs_neither_training_nor_lightgbm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "require_lightgbm", lambda: pytest.fail("momentum needs no model"))
    found = ranked(tmp_path, scanner=market.small_scanner(tmp_path / "bars", model="momentum"))
    assert (found.model_id, found.trained_s, found.is_training_due) == ("momentum-250", None, False)
    assert {signal.model_id for signal in found.signals} == {"momentum-250"}
    assert not (tmp_path / "models").exists()


def test_momentum_of_days_is_the_column_ret_250() -> None:
    pairs = [market.some_bars(symbol, 700, seed=seed) for seed, symbol in enumerate(market.FIVE, start=1)]
    by_column = panel.build(pairs).columns[-1, :, features.COLUMNS.index("ret_250")]
    np.testing.assert_allclose(momentum.scored(pairs).values, by_column)


def test_momentum_of_4_hours_looks_back_the_same_stretch_and_says_when_that_is_missing() -> None:
    assert momentum.BARS == {"D1": 250, "H4": 250 * 6, "H1": 250 * 24}
    pairs = [market.some_bars(symbol, 700, seed=seed) for seed, symbol in enumerate(market.FIVE, start=1)]
    short = [Bars.of_closes(bars.symbol, "test", bars.time, bars.close, "H4") for bars in pairs]
    with pytest.raises(ScanError, match=r"momentum of H4 looks back 1,500 bars .* share 700 bars"):
        momentum.scored(short)


def test_a_job_with_every_field_survives_json(tmp_path: Path) -> None:
    job = a_job(tmp_path, train=True, by_hand=True, as_of="2026-02-13")
    assert msgspec.json.decode(msgspec.json.encode(job), type=ScanJob) == job
