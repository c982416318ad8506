"""Bars at hand: a look by hand and a training read the caches beside their writer, and ask nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.market import cache, scan
from actors.market.cache import Cache, Owner, Row
from actors.market.job import Failed, Ranked, ScanJob, Trained
from config.settings import Scanner
from tests.kit import market

URL = "https://bars.example.invalid"  # nobody is there


def filled(folder: Path) -> Path:
    """Keep the bars of five pairs as the scanner does, with a torn record behind those of the first."""
    opened = market.business_days(420).astype("datetime64[s]").astype(np.int64).tolist()
    with cache.writing(folder):
        for seed, symbol in enumerate(market.FIVE, start=1):
            close = market.closes(420, seed=seed).tolist()
            owner = Owner(source="twelvedata", origin=URL, symbol=symbol, interval="D1")
            kept = Cache(folder, owner)
            rows = [
                Row(at, price, price * 1.001, price * 0.999, price) for at, price in zip(opened, close, strict=True)
            ]
            kept.append(rows)
            if symbol == market.FIVE[0]:
                with kept.path.open("ab") as file:
                    file.write(b"half a record")
    return folder


def a_job(folder: Path, **changes: Any) -> ScanJob:
    wanted = Scanner(
        sources=("twelvedata",), twelvedata_url=URL, top_k=2, history_bars_min=300, train_bars_max=400, seeds=1
    )
    given: dict[str, Any] = {"bars_folder": str(folder / "bars"), "now": "2026-02-14T09:00:00Z"} | changes
    return market.a_job(folder, wanted, **given)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    filled(home / "bars")
    return home


def test_a_source_that_keeps_nothing_here_is_no_ranking_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "bars").mkdir()
    for job in (a_job(tmp_path, by_hand=True), a_job(tmp_path, by_hand=True, bars_folder="")):
        found = scan.scan(job)
        assert isinstance(found, Failed)
        assert "kept here" in found.reason
    assert list((tmp_path / "bars").iterdir()) == []


def test_a_look_by_hand_reads_whole_bars_beside_the_writer_and_changes_no_byte(home: Path) -> None:
    before = {path: path.read_bytes() for path in home.rglob("*.bars")}
    with cache.writing(home / "bars"):  # the scanner's child is at work
        found = scan.scan(a_job(home, by_hand=True))
    assert isinstance(found, Ranked), found
    assert (found.pairs, found.bar_time, found.fetched.requests) == (5, "2026-02-13", 0)
    assert {signal.source for signal in found.signals} == {"twelvedata"}
    assert {path: path.read_bytes() for path in home.rglob("*.bars")} == before


def test_a_training_reads_them_too_and_a_past_day_ends_where_it_should(home: Path, tmp_path: Path) -> None:
    models = {"models_folder": str(tmp_path / "models")}
    with cache.writing(home / "bars"):
        made = scan.scan(a_job(home, train=True, **models))
    assert isinstance(made, Trained), made
    assert (made.source, made.last_day) == ("twelvedata", "2026-02-13")
    past = {"as_of": "2026-02-09", "today": "2026-02-09", "now": "2026-02-10T00:00:00Z"}
    seen = scan.scan(a_job(home, by_hand=True, **models, **past))
    assert isinstance(seen, Ranked), seen
    assert (seen.bar_time, seen.model_id == made.model_id) == ("2026-02-09", False)
