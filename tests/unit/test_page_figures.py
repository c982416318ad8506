"""How the page shows the values of records."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta

import pytest

from actors.web import chart, site
from actors.web.chart import Dot, Level


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("0.4305993833419738", "0.4306"),
        ("-34.01399539527803", "-34.014"),
        ("0.11645561200020893", "0.11646"),
        ("50000.000000", "50000"),
        ("1.11715", "1.11715"),  # a price stays as it is
        ("lgbm-64d73c7df1f7", "lgbm-64d73c7df1f7"),
        ("2026-11-28 05:49:58.552000+00:00", "2026-11-28 05:49:58+00:00"),
        ("1.123456\n<b>", "1.123456 <b>"),  # no number: cleaned, and escaped by the template
    ],
)
def test_numbers_and_times_are_short_enough_to_read(value: str, shown: str) -> None:
    assert site.figure(value) == shown


NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def a_chart(dots: list[Dot], *cents: int) -> str:
    levels = [Level(cents=one, name="target", kind="target") for one in cents]
    return str(chart.curve("x", dots, levels, since=NOON, until=NOON + timedelta(hours=1), description="x"))


def a_dot(cents: int, low_cents: int, high_cents: int) -> Dot:
    return Dot(at=NOON, cents=cents, low_cents=low_cents, high_cents=high_cents)


def test_low_and_high_of_a_point_are_inside_of_the_picture_and_drawn() -> None:
    drawn = a_chart([a_dot(5_000_000, 4_000_000, 6_000_000)])
    (low, high) = re.findall(r'class="span" d="M8.0 (\S+)V(\S+)"', drawn)[0]
    (now,) = re.findall(r'class="now" cx="8.0" cy="(\S+)"', drawn)
    assert chart.TOP < float(high) < float(now) < float(low) < chart.HEIGHT - chart.BOTTOM


@pytest.mark.parametrize("cents", [(1, 1, 1), (5_000_000,) * 3, (5_000_000, 4_990_000), (9_999_999_900, 1)])
def test_labels_of_levels_stand_apart_above_the_times_and_end_before_the_edge(cents: tuple[int, ...]) -> None:
    drawn = a_chart([a_dot(5_000_000, 5_000_000, 5_000_000)], *cents)
    labels = re.findall(r'class="label target" x="(\S+)" y="(\S+)">(.*?)</text>', drawn)
    assert len(labels) == len(cents)
    rows = [float(y) for _, y, _ in labels]
    assert all(below - above >= chart.LABEL_APART for above, below in itertools.pairwise(rows))
    assert rows[-1] <= chart.HEIGHT - chart.BOTTOM + 4
    assert all(float(x) + chart.SIGN * len(text) <= chart.WIDTH for x, _, text in labels)
