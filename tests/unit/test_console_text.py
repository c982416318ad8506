"""Text from outside, times and money as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.console import text
from bus import clock
from config import dollars

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)


def test_text_from_outside_cannot_forge_a_line_or_drive_a_terminal() -> None:
    dirty = "fine\x1b[2J\x00\r\n06:00 INFO executor.1 Opened \u202eDSUGBP\x9b31m\ud800"
    assert text.line(dirty, 100) == "fine[2J 06:00 INFO executor.1 Opened DSUGBP31m"
    assert text.clean("a\r\n\tb", 100) == "a\n\tb"
    assert text.clean("x" * 11, 10) == "x" * 9 + "…"


def test_what_nobody_sees_is_taken_out() -> None:
    tags = "".join(chr(0xE0000 + ord(sign)) for sign in "buy")
    hidden = (
        "\xad\u034f\u061c\u115f\u180e\u200b\u2028\u2029\u202e\u2060\u2066\u3164\ufe0f\ufeff\uffa0\ufffc\ue000\U000e0100"
        + tags
    )
    assert text.clean(f"a{hidden}b", 100) == "ab"
    assert text.clean("né € 日本 a\u0301", 100) == "né € 日本 a\u0301"


@given(st.text(), st.integers(1, 50))
def test_clean_text_is_short_printable_and_can_be_sent(dirty: str, chars_max: int) -> None:
    found = text.clean(dirty, chars_max)
    assert len(found) <= chars_max
    assert not any(character < " " and character not in "\n\t" for character in found)
    assert msgspec.json.encode(found)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (7_199, "119m"), (7_200, "2h"), (172_800, "2d")],
)
def test_ages_are_short(seconds: int, shown: str) -> None:
    assert text.age(clock.iso(NOW - timedelta(seconds=seconds)), NOW) == shown


@pytest.mark.parametrize("bad", [None, "", "yesterday", "2026-11-02T12:00:00"])
def test_no_time_has_no_age(bad: str | None) -> None:
    assert text.age(bad, NOW) == "-"


@pytest.mark.parametrize(
    ("cents", "shown"),
    [
        (0, "0.00"),
        (5, "0.05"),
        (-5, "-0.05"),
        (123_456_789, "1,234,567.89"),
        (2**60 * 100 + 1, "1,152,921,504,606,846,976.01"),
    ],
)
def test_money_is_exact(cents: int, shown: str) -> None:
    assert dollars.amount(cents) == shown
