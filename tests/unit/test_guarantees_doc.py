"""docs/guarantees.md names a test for each line: they must exist, and each line must have one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.model.test_protocol import MUTANTS

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
FILES = sorted(set(re.findall(r"`(tests/[\w/]+\.py)", PAGE)))


def rows_of(heading: str) -> list[str]:
    """Return the table under a heading, without its head."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("|")][2:]


def functions_of(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


@pytest.mark.parametrize("file", FILES)
def test_file_that_the_page_names_exists(file: str) -> None:
    assert (ROOT / file).is_file()


@pytest.mark.parametrize(("file", "name"), TESTS)
def test_test_that_the_page_names_exists(file: str, name: str) -> None:
    assert name.startswith("test_")
    assert name in functions_of(ROOT / file)


def test_nothing_that_looks_like_a_test_is_spelled_so_that_it_is_not_checked() -> None:
    assert PAGE.count("::") == len(re.findall(r"`tests/[\w/]+\.py::\w+`", PAGE))


@pytest.mark.parametrize("heading", ["What is promised", "Under which failures"])
def test_every_line_names_a_test(heading: str) -> None:
    rows = rows_of(heading)
    assert len(rows) > 10
    assert [row for row in rows if "::test_" not in row] == []


def test_every_safeguard_that_is_taken_away_in_the_model_is_on_the_page() -> None:
    assert set(re.findall(r"\(`(\w+)`\)", "\n".join(rows_of("What the models show")))) == set(MUTANTS)
