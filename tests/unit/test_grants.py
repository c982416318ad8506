"""Requests that the store grants, takes back and counts; and the days and marks that it believes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bus import messages
from bus.clock import iso
from bus.messages import Ack, Peer
from bus.vocabulary import Outcome, Role
from config import load
from tests.kit.builders import a_day, a_mark, a_peer
from tests.kit.clock import ManualClock
from tests.kit.gate import a_gate
from tests.kit.store import StoreHarness

EXECUTOR = a_peer(Role.EXECUTOR)
MONITOR = a_peer(Role.MONITOR)
PILOT = a_peer(Role.PILOT)
TODAY = "2026-11-02"
BY_NEW_YORK = "2026-11-01 17:00 America/New_York"  # the other reading's day at 06:00 UTC; both began at 22:00 UTC


@pytest.fixture
def store() -> StoreHarness:
    return StoreHarness()


def grant(
    store: StoreHarness, reads: int, writes: int = 0, *, day: str = TODAY, purpose: Any = "work", by: Peer = EXECUTOR
) -> Ack:
    return store.tell(by, messages.GrantRequests(day=day, reads=reads, writes=writes, purpose=purpose))


def give_back(store: StoreHarness, reads: int, writes: int = 0, *, day: str = TODAY, by: Peer = EXECUTOR) -> Ack:
    return store.tell(by, messages.ReturnRequests(day=day, reads=reads, writes=writes))


# ── requests ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("day", ["2026-11-03", "2026-10-31", "2020-01-01"])
def test_a_day_that_is_not_the_firms_by_any_reading_is_refused(store: StoreHarness, day: str) -> None:
    ack = grant(store, 1, day=day)
    assert ack.outcome is Outcome.REFUSED and "it is 2026-11-02 or 2026-11-01" in ack.reason
    assert store.read.requests(day) == (0, 0)


def test_work_ends_at_the_reserve_and_flattening_at_the_days_number(store: StoreHarness) -> None:
    assert grant(store, 1_900, 50).outcome is Outcome.APPLIED
    assert store.read.requests(TODAY) == (1_900, 50)
    for reads, writes in ((1, 0), (0, 1)):
        ack = grant(store, reads, writes)
        assert ack.outcome is Outcome.REFUSED and "1950 requests are used and 1950 allowed" in ack.reason
    assert grant(store, 45, 5, purpose="flatten").outcome is Outcome.APPLIED
    assert grant(store, 1, purpose="flatten").outcome is Outcome.REFUSED
    assert sum(store.read.requests(TODAY)) == 2_000


def test_writes_have_a_limit_and_a_reserve_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "e8-signature-50k.toml"
    path.write_text((load.RULES / path.name).read_text().replace("writes_per_day = 2_000", "writes_per_day = 100"))
    store = StoreHarness(gate=a_gate(path))
    assert grant(store, 0, 80).outcome is Outcome.APPLIED
    assert grant(store, 5, 1).outcome is Outcome.REFUSED
    assert grant(store, 5, 0).outcome is Outcome.APPLIED
    assert grant(store, 0, 20, purpose="flatten").outcome is Outcome.APPLIED
    assert grant(store, 0, 1, purpose="flatten").outcome is Outcome.REFUSED


def test_a_block_that_does_not_fit_is_refused_as_a_whole(store: StoreHarness) -> None:
    grant(store, 1_940)
    assert grant(store, 11).outcome is Outcome.REFUSED
    assert store.read.requests(TODAY) == (1_940, 0)
    assert grant(store, 10, by=MONITOR).outcome is Outcome.APPLIED, "who asks does not matter"


def test_who_keeps_requests_for_others_is_refused_before_they_are_touched(store: StoreHarness) -> None:
    scanner = a_peer(Role.SCANNER)
    wish = messages.GrantRequests(day=TODAY, reads=100, writes=0, kept=400)
    grant(store, 1_450)
    assert store.tell(scanner, wish).outcome is Outcome.APPLIED
    ack = store.tell(scanner, wish)
    assert ack.outcome is Outcome.REFUSED and "1550 requests are used and 1550 allowed" in ack.reason
    assert grant(store, 400).outcome is Outcome.APPLIED, "they are there for those who need them"


def test_a_resent_grant_counts_once(store: StoreHarness) -> None:
    body = messages.GrantRequests(day=TODAY, reads=10, writes=1)
    for _ in range(3):
        assert store.tell(EXECUTOR, body, "c-1").outcome is Outcome.APPLIED
    store.restart()
    assert store.tell(EXECUTOR, body, "c-1").outcome is Outcome.APPLIED
    assert store.read.requests(TODAY) == (10, 1)


def test_what_was_granted_to_a_dead_process_counts_and_its_successor_cannot_give_it_back(store: StoreHarness) -> None:
    grant(store, 10, 2)
    successor = a_peer(Role.EXECUTOR)
    assert grant(store, 5, by=successor).outcome is Outcome.APPLIED
    ack = give_back(store, 6, by=successor)
    assert ack.outcome is Outcome.REFUSED and "executor.1 was granted 5 and 0" in ack.reason
    assert give_back(store, 0, 1, by=successor).outcome is Outcome.REFUSED
    assert give_back(store, 5, by=successor).outcome is Outcome.APPLIED
    assert give_back(store, 1, by=successor).outcome is Outcome.REFUSED
    assert store.read.requests(TODAY) == (10, 2)


def test_requests_made_without_a_grant_are_counted_beyond_every_limit(store: StoreHarness) -> None:
    grant(store, 1_950)
    ack = store.tell(MONITOR, messages.CountRequests(day=TODAY, reads=100, writes=20))
    assert ack.outcome is Outcome.APPLIED
    assert store.read.requests(TODAY) == (2_050, 20)
    assert store.read.requests(BY_NEW_YORK) == (2_050, 20)
    assert grant(store, 1, purpose="flatten").outcome is Outcome.REFUSED


def test_every_reading_of_the_reset_has_a_count_and_the_fuller_one_decides() -> None:
    """After the American clocks changed and the European ones have not, New York's day begins at 21:00 UTC."""
    store = StoreHarness(clock=ManualClock(datetime(2026, 3, 9, 20, tzinfo=UTC)))
    assert grant(store, 1_900, day="2026-03-09").outcome is Outcome.APPLIED
    store.clock.advance(3_600)
    assert store.read.requests("2026-03-09 17:00 America/New_York") == (0, 0)
    assert grant(store, 51, day="2026-03-09").outcome is Outcome.REFUSED, "Athens' day is not over"
    assert grant(store, 50, day="2026-03-09").outcome is Outcome.APPLIED
    assert give_back(store, 50, day="2026-03-09").outcome is Outcome.APPLIED
    by_new_york = store.read.requests("2026-03-09 17:00 America/New_York")
    assert by_new_york == (50, 0), "of which day of New York they were nobody knows: they stay counted"
    store.clock.advance(3_600)
    assert grant(store, 1_900, day="2026-03-10").outcome is Outcome.APPLIED
    assert store.read.requests("2026-03-10") == (1_900, 0)
    assert grant(store, 1, day="2026-03-10").outcome is Outcome.REFUSED, "New York's day has had them all"


def test_what_is_given_back_is_free_by_both_readings(store: StoreHarness) -> None:
    grant(store, 1_950)
    assert give_back(store, 100).outcome is Outcome.APPLIED
    assert store.read.requests(TODAY) == store.read.requests(BY_NEW_YORK) == (1_850, 0)
    assert grant(store, 100).outcome is Outcome.APPLIED


def test_the_licence_itself_counts_no_request(store: StoreHarness) -> None:
    store.reserved(EXECUTOR)
    assert store.read.requests(TODAY) == (0, 0)


# ── days ────────────────────────────────────────────────────────────────────

WRONG_DAYS: dict[str, tuple[dict[str, Any], str]] = {
    "another account's": ({"account_id": "PAPER-2"}, "it is of account PAPER-2; the store's is PAPER-1"),
    "another reset": ({"reset": "00:00 Europe/London"}, "allowed: 00:00 Europe/Athens or 17:00 America/New_York"),
    "another initial balance": ({"initial_balance_cents": 10_000_000}, "the rules say 50,000.00"),
    "a reference below the start": ({"reference_cents": 4_999_999}, "0 < start <= reference"),
    "a balance of zero": ({"start_balance_cents": 0}, "0 < start <= reference"),
    "a negative balance": ({"start_balance_cents": -1}, "0 < start <= reference"),
    "ends before it starts": ({"ends_at": "2026-11-01T21:00:00.000Z"}, "it lasts from 2026-11-01T22:00:00.000Z to"),
    "two days long": ({"ends_at": "2026-11-03T22:00:00.000Z"}, "it lasts from"),
    "an hour early": ({"starts_at": "2026-11-01T21:00:00.000Z"}, "it lasts from"),
    "another date": ({"day": "2026-11-01"}, "it lasts from 2026-10-31T22:00:00.000Z"),
    "no date": ({"day": "yesterday"}, "yesterday"),
    "no time": ({"starts_at": "22:00"}, "22:00"),
    "a time without zone": ({"starts_at": "2026-11-01T22:00:00"}, "without a zone"),
    "a time in another form": ({"starts_at": "2026-11-01T22:00:00Z"}, "times must be written as"),
    "tomorrow": ({"day": "2026-11-03", "starts_at": "2026-11-02T22:00:00.000Z", "ends_at": "2026-11-03T22:00:00.000Z"},
                 "begins at 2026-11-02T22:00:00.000Z; now is 2026-11-02T06:00:00.000Z"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_DAYS)
def test_a_day_that_cannot_be_the_accounts_is_refused_with_what_is_allowed(store: StoreHarness, name: str) -> None:
    changes, words = WRONG_DAYS[name]
    wrong = a_day(**changes)
    for sender, body in (
        (MONITOR, messages.StartDay(day=wrong)),
        (MONITOR, messages.StartDay(day=a_day(), earlier=(wrong,))),
        (PILOT, messages.DeclareDay(operator="ann", reason="seen", day=wrong)),
    ):
        ack = store.tell(sender, body)
        assert ack.outcome is Outcome.REFUSED and words in ack.reason, ack
    assert store.read.account_days("PAPER-1") == [], "nor any part of the command"


def test_two_resets_in_one_hour_are_refused(store: StoreHarness) -> None:
    """A row that an older program wrote by other clocks shares an hour with the day that begins now."""
    store.db.execute(
        "INSERT INTO account_days VALUES ('PAPER-1', '2026-11-01', '00:00 Europe/Athens', '2026-11-01T21:30:00.000Z', "
        "'2026-11-02T21:30:00.000Z', 1, 1, 1, 'x', '')"
    )
    ack = store.tell(MONITOR, messages.StartDay(day=a_day()))
    assert ack.outcome is Outcome.REFUSED and "overlaps day 2026-11-01" in ack.reason


def test_days_of_both_readings_stand_beside_each_other(store: StoreHarness) -> None:
    other = a_day(day="2026-11-01", reset="17:00 America/New_York")
    for day in (a_day(), other):
        assert store.tell(MONITOR, messages.StartDay(day=day)).outcome is Outcome.APPLIED
    assert store.read.account_day_at("PAPER-1", other.reset, iso(store.clock.now())) == other


def test_the_operator_may_not_replace_a_day_that_stands_but_may_say_the_same(store: StoreHarness) -> None:
    store.tell(MONITOR, messages.StartDay(day=a_day()))
    declare = {"operator": "ann", "reason": "seen"}
    ack = store.tell(PILOT, messages.DeclareDay(**declare, day=a_day(start_balance_cents=4_900_000)))
    assert ack.outcome is Outcome.REFUSED and "stands with 50000.00" in ack.reason
    assert store.tell(PILOT, messages.DeclareDay(**declare, day=a_day())).outcome is Outcome.ALREADY
    raised = messages.DeclareDay(**declare, day=a_day(), marks=(a_mark(),))
    assert store.tell(PILOT, raised).outcome is Outcome.APPLIED
    assert store.tell(PILOT, raised).outcome is Outcome.ALREADY
    assert store.read.account_mark("PAPER-1", "day_end_balance") == a_mark()
    assert store.read.alerts()[0][1:3] == ("warning", "day_declared")


# ── marks ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"account_id": "PAPER-2"}, "the store's is PAPER-1"),
        ({"value_cents": 0}, "allowed: 1 to 50000000"),
        ({"value_cents": 50_000_001}, "ten times the initial balance"),
        ({"known_until": "2026-11-02T06:00:00.001Z"}, "allowed up to now"),
        ({"at": "2026-11-02T05:00:00.000Z", "known_until": "2026-11-02T04:00:00.000Z"}, "allowed up to now"),
        ({"at": "2026-11-01T22:00:00Z"}, "times must be written as"),
        ({"at": "never"}, "never"),
    ],
)
def test_a_mark_that_cannot_be_the_accounts_is_refused(
    store: StoreHarness, changes: dict[str, Any], words: str
) -> None:
    ack = store.tell(MONITOR, messages.RaiseMarks(marks=(a_mark(**changes),)))
    assert ack.outcome is Outcome.REFUSED and words in ack.reason, ack
    assert store.read.account_marks("PAPER-1") == []


def test_a_mark_rises_or_stays_and_is_never_known_for_less_long(store: StoreHarness) -> None:
    for value, until in ((5_100_000, 3), (5_200_000, 2), (5_000_000, 4)):
        mark = a_mark(value_cents=value, known_until=f"2026-11-02T0{until}:00:00.000Z")
        store.tell(MONITOR, messages.RaiseMarks(marks=(mark,)))
    found = store.read.account_mark("PAPER-1", "day_end_balance")
    assert found is not None
    assert (found.value_cents, found.known_until) == (5_200_000, "2026-11-02T04:00:00.000Z")
