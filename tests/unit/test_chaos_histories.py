"""What the checker of the chaos run compares is read of one moment, also while the broker takes an order."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos import histories


@pytest.mark.parametrize(("placed_late", "reads"), [(0, 1), (1, 2), (99, histories.READS_MAX)])
def test_position_placed_during_the_reading_makes_it_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, placed_late: int, reads: int
) -> None:
    at_the_broker: list[int] = []
    taken: list[Any] = []

    def slow(data: Path, acks: Path) -> Any:
        taken.append(SimpleNamespace(placed=tuple(at_the_broker)))
        if len(taken) <= placed_late:
            at_the_broker.append(len(taken))
        return taken[-1]

    monkeypatch.setattr(histories, "_read", slow)
    monkeypatch.setattr(histories, "with_parts", lambda path: at_the_broker)
    monkeypatch.setattr(histories, "_placed", lambda lines: list(lines))
    assert histories.read(tmp_path, tmp_path) is taken[-1]
    assert len(taken) == reads
