"""Cells of CSV files that no spreadsheet takes for a formula, and text that Markdown takes for text. Pure.

Used by `pilot journal` and `pilot export`. A number stays the number it is; text that begins like a formula gets an
apostrophe in front, which spreadsheets take for "this is text".
"""

from __future__ import annotations

import re

from actors.console import text

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?\Z")
_FORMULA = frozenset("=+-@\t\r＝＋－＠")  # the wide ones are read as the others
_MARKS = re.compile(r"([\\`*_\[\]|#~])")


def cell(value: int | float | str | None) -> int | float | str:
    """Return a value as a cell. Source of what begins a formula: OWASP, "CSV Injection"."""
    if value is None:
        return ""
    if not isinstance(value, str) or value.lstrip(" \n")[:1] not in _FORMULA or _NUMBER.match(value):
        return value
    return f"'{value}"


def markdown(said: str, chars_max: int) -> str:
    """Return foreign text as one line of Markdown that shows it as it is: no link, no tag, no table of its own."""
    clean = text.line(said, chars_max).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKS.sub(r"\\\1", clean)


def plain_amount(cents: int | None) -> str:
    """Return cents as a plain number, `-1234.05`; nothing for None. Integer arithmetic only."""
    if cents is None:
        return ""
    whole, part = divmod(abs(cents), 100)
    return f"{'-' if cents < 0 else ''}{whole}.{part:02d}"
