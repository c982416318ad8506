"""Cells that no spreadsheet runs, text that Markdown shows as it is, amounts without floats."""

from __future__ import annotations

import pytest

from actors.console import cells


@pytest.mark.parametrize(
    "said", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\n=1", "＝1", "-", "-5 pips"]
)
def test_text_that_begins_like_a_formula_is_made_harmless(said: str) -> None:
    assert cells.cell(said) == f"'{said}"


@pytest.mark.parametrize(
    "value", [-5, 0, -0.5, "-5", "+5", "-1234.05", "1.08510", "EURUSD", "a=1", "", "2026-11-02", "'x"]
)
def test_numbers_stay_numbers_and_other_text_stays_as_it_is(value: int | float | str) -> None:
    assert cells.cell(value) == value


def test_nothing_is_an_empty_cell() -> None:
    assert cells.cell(None) == ""


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("a | b", r"a \| b"),
        ("<script>", "&lt;script&gt;"),
        ("[x](http://y)", r"\[x\](http://y)"),
        ("**no** `x` _y_", r"\*\*no\*\* \`x\` \_y\_"),
        ("two\nlines\u202e", "two lines"),
    ],
)
def test_foreign_text_is_shown_in_markdown_and_not_obeyed(said: str, shown: str) -> None:
    assert cells.markdown(said, 100) == shown


@pytest.mark.parametrize(
    ("cents", "shown"), [(None, ""), (0, "0.00"), (-5, "-0.05"), (123_405, "1234.05"), (-(10**17) - 1, f"-{10**15}.01")]
)
def test_an_amount_is_exact_to_the_cent(cents: int | None, shown: str) -> None:
    assert cells.plain_amount(cents) == shown
