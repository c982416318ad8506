"""The search for reference cycles rests while a process loads, and never stays off in anything that runs on."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import garbage, standby
from bus.vocabulary import Role

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _left_as_found() -> Iterator[None]:
    yield
    gc.enable()
    gc.unfreeze()


@pytest.mark.parametrize("module", sorted(garbage.PROCESSES))
def test_process_of_the_pipeline_loads_without_a_search(module: str) -> None:
    garbage.rest_while_loading(["/usr/bin/python3", "-m", module])
    assert not gc.isenabled()


@pytest.mark.parametrize(
    "command",
    [
        ["python3", "-m", "pytest", "-m", "store"],
        ["python3", "-m", "actors.pilot"],
        ["python3", "-m", "actors.market.job"],
        ["python3", "-c", "pass", "-m", "store"],
        ["pilot", "status"],
        ["python3", "-m"],
        [],
    ],
)
def test_program_that_would_never_settle_is_left_alone(command: list[str]) -> None:
    garbage.rest_while_loading(command)
    assert gc.isenabled()


def test_whoever_rests_comes_by_the_place_where_it_ends() -> None:
    loops = {
        f"actors.{path.stem}"
        for path in (ROOT / "actors").glob("*.py")
        if re.search(r"^    actor\.main\(", path.read_text(), re.MULTILINE)
    }
    assert loops | {"store"} == garbage.PROCESSES
    for main in (ROOT / "bus" / "actor.py", ROOT / "store" / "actor.py"):
        assert "standby.wait_for_turn(" in main.read_text()


def test_process_that_is_no_spare_searches_again_once_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(standby.ENV, raising=False)
    gc.disable()
    assert not standby.wait_for_turn(Role.EXECUTOR, lambda _: pytest.fail("only a spare warms up"))
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1_000  # what was loaded is not searched again
