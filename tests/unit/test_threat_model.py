"""Every line of docs/threat-model.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "threat-model.md"


def rows() -> list[str]:
    """Return the lines of the table of channels."""
    table = PAGE.read_text().partition("## Channels")[2].partition("\n## ")[0]
    return [line for line in table.splitlines() if line.startswith("| ")][1:]


def test_every_channel_names_tests_that_exist() -> None:
    known = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    named = {row: re.findall(r"`(test_\w+)`", row) for row in rows()}
    assert len(named) > 20
    assert [row for row, tests in named.items() if not tests] == []
    assert {test for tests in named.values() for test in tests} - known == set()
