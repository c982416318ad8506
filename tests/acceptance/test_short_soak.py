"""The end of a firm's day on which the clocks were changed, lived through by real processes in some seconds."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.soak import __main__ as soak
from tests.soak import week
from tests.soak.week import Asked


def test_a_reset_after_a_change_of_clocks_is_survived_and_right_to_the_cent() -> None:
    # Sunday 2026-10-25 had 25 hours in Athens, and the week opens at its end: 21:00 UTC, an hour before the reset.
    asked = Asked(
        begin=datetime(2026, 10, 25, 21, 20, tzinfo=UTC), end=datetime(2026, 10, 26, 3, 0, tzinfo=UTC), seconds=5.0,
        seed=3, has_page=False,
    )  # fmt: skip
    done = week.live(asked)
    assert done.tally.findings + soak.judged(done) == [], "\n".join(soak.report(done))
    assert (done.days, done.days_wrong) == (1, 0)
    assert done.leaps >= 5 and done.tally.kills + done.tally.faults >= 1, done.schedule
    assert done.opened >= 3, done.tally.notes
