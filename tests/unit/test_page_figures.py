"""How the page shows the values of records."""

from __future__ import annotations

import pytest

from actors.web import site


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
