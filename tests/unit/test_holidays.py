"""Holidays of the settings: no new order on such a date, in whatever zone it is that date already or still."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from actors.compliance import guard
from actors.desk import view
from config import load, settings
from tests.kit.compliance import a_plan, an_account, the_facts, the_rules


@pytest.mark.parametrize(
    ("moment", "found"),
    [
        ("2026-12-24T21:59", ""),
        ("2026-12-24T22:00", "2026-12-25"),  # midnight in Athens
        ("2026-12-25T12:00", "2026-12-25"),
        ("2026-12-26T04:59", "2026-12-25"),  # still the 25th in New York
        ("2026-12-26T05:00", ""),
    ],
)
def test_date_counts_in_every_zone_that_the_firms_day_may_begin_in(moment: str, found: str) -> None:
    wanted = settings.Settings(profile="x", compliance=settings.Compliance(holidays=("2026-12-25", "2027-01-01")))
    now = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert view._holiday(wanted, the_rules(), now) == found


def test_guard_refuses_on_a_holiday_although_the_session_is_open_and_says_why() -> None:
    assert guard.check_all(a_plan(), an_account(), the_rules(), the_facts()).passed
    verdict = guard.check_all(a_plan(), an_account(), the_rules(), the_facts(holiday="2026-12-25"))
    assert (verdict.passed, verdict.rule) == (False, "session_open")
    assert "2026-12-25 is one of compliance.holidays: no new order" in verdict.reason


@pytest.mark.parametrize("day", ["2026-02-30", "25.12.2026", "2026-12-25 "])
def test_date_that_is_none_is_refused_by_the_settings(tmp_path: Path, day: str) -> None:
    profile = tmp_path / "mine.toml"
    profile.write_text(f'[compliance]\nholidays = ["{day}"]\n')
    with pytest.raises(load.ConfigError, match=r"compliance\.holidays"):
        load.settings(str(profile))
