"""A short sweep of what `make chaos` does at length: one fault of each kind at the points where most is at stake."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import rig, sweep, zombie
from tests.chaos.figures import last_line

POINTS = [
    "broker.after_write",
    "executor.after_reserve",
    "executor.before_opened",
    "llm.before_decide",
    "monitor.before_position_closed",
    "paper.after_record",
    "store.after_commit",
    "store.before_commit",
    "supervisor.after_spawn",
]


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rig.warm_models(tmp_path_factory.mktemp("warm"))


def test_kill_at_each_point_is_recovered_from_and_every_check_holds(warm: Path) -> None:
    done = sweep.lane(POINTS, warm, budget_s=150.0)
    assert done.findings == [], done.notes
    assert done.kills >= len(POINTS), (done.notes, last_line(done, 0))
    assert {point for point, _, _, fired in done.swept if fired} == set(POINTS)


def test_zombies_that_wake_after_their_successors_change_nothing(warm: Path) -> None:
    done = zombie.haunt(warm, points=())
    assert done.findings == [], done.notes
    assert done.faults == 3
