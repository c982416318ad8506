"""The soak run's judges: a wrong cent, a missing summary, and a leak are found; the right ones are not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from bus.clock import iso
from bus.records import AccountDay
from tests.chaos.figures import Tally
from tests.soak import __main__ as soak
from tests.soak import ledger, week
from tests.soak.footprint import MB, Footprint, Sample
from tests.soak.week import Done

LITESTREAM = Path(__file__).parents[2] / "deploy" / "litestream.yml"
DAY = AccountDay(
    account_id="PAPER-1", day="2027-03-28", reset="00:00 Europe/Athens", starts_at="2027-03-27T22:00:00.000Z",
    ends_at="2027-03-28T21:00:00.000Z", start_balance_cents=5_000_100, reference_cents=5_000_100,
    initial_balance_cents=5_000_000, created_at="2027-03-27T22:00:01.000Z", note="",
)  # fmt: skip
TOLD: dict[str, Any] = {
    "day": DAY.day, "start_balance_cents": 5_000_100, "trades": 2, "wins": 1, "net_profit_cents": 150,
    "largest_loss_cents": -50, "balance_cents": 5_000_250,
}  # fmt: skip


def closed(identity: str, at: str, cents: int, volume: str = "0.10") -> dict[str, Any]:
    ms = int(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp() * 1_000)
    return {
        "type": "Closed",
        "operation": {
            "id": identity, "volume": volume, "closed_ms": ms, "profit_cents": cents + 7, "commission_cents": -5,
            "swap_cents": -2,
        },
    }  # fmt: skip


def the_account() -> ledger.Account:
    opened = [{"type": "Opened", "holding": {"id": name, "volume": "0.10"}} for name in ("a", "b", "c", "d")]
    return ledger.read([
        {"type": "Began", "balance_cents": 5_000_000}, *opened, closed("a", "2027-03-27T21:59:59.999", 100),
        closed("b", "2027-03-27T22:00:00", 120, "0.04"), {"type": "Rolled", "nights": 3},
        closed("b", "2027-03-28T12:00:00", 80, "0.06"), closed("c", "2027-03-28T20:59:59.999", -50),
        closed("d", "2027-03-28T21:00:00", 999),
    ])  # fmt: skip


def faults(day: AccountDay = DAY, told: tuple[dict[str, Any], ...] = (TOLD,), *, is_due: bool = True) -> list[str]:
    return list(ledger.faults(the_account(), day, told, is_due=is_due, since="2027-03-25T07:00:00.000Z"))


def test_a_day_that_is_right_to_the_cent_is_let_pass() -> None:
    assert faults() == []
    assert faults(told=(), is_due=False) == []
    assert the_account().swaps == 3


@pytest.mark.parametrize("name", [name for name in TOLD if name != "day"])
def test_a_wrong_cent_or_count_in_a_summary_is_found(name: str) -> None:
    assert [name in text or "last reading" in text for text in faults(told=(TOLD | {name: TOLD[name] + 1},))] == [True]


def test_a_wrong_start_and_a_summary_that_is_missing_or_told_twice_are_found() -> None:
    wrong = msgspec.structs.replace(DAY, start_balance_cents=5_000_099)
    assert any("began with 5000099 cents; the broker had 5000100" in text for text in faults(wrong))
    assert faults(told=()) == ["day 2027-03-28 was summed up 0 times"]
    assert faults(told=(TOLD, TOLD)) == ["day 2027-03-28 was summed up 2 times"]


def test_the_clocks_of_the_firms_zone_change_when_they_do() -> None:
    for after, found in (("2026-11-28", "2027-03-28T01:00"), ("2027-04-01", "2027-10-31T01:00")):
        moment = week.next_change(datetime.fromisoformat(after).replace(tzinfo=UTC), soak.ZONE)
        assert iso(moment).startswith(found)


def samples(role: str, mb_an_hour: float, *, lives: int, fds_at_end: int = 20) -> list[Sample]:
    """Return an hour of one role, a look each 10 s, in lives of equal length."""
    found = []
    for second in range(0, 3_600, 10):
        life = second * lives // 3_600
        age_s = second - life * 3_600 / lives
        rss = int(40 * MB + mb_an_hour * MB * second / 3_600) + second % 7 * 10_000
        found.append(Sample(role, life, float(second), age_s, rss, 20 if second < 1_800 else fds_at_end, 3))
    return found


def grown(*found: Sample, **files: int) -> list[str]:
    seen = Footprint()
    seen.samples = list(found)
    return [one.text for one in soak.judged(Done(tally=Tally(), footprint=seen, intents=100, files=files))]


def test_what_grows_is_named_and_what_only_moves_is_not() -> None:
    assert grown(*samples("store", 0.5, lives=1), *samples("llm", 0.5, lives=20), database=5 * MB, log=16 * MB) == []
    assert any("the longest life of store" in text for text in grown(*samples("store", 20, lives=1)))
    assert any("replacements of llm" in text for text in grown(*samples("llm", 20, lives=20)))
    assert any("descriptors" in text or "fds" in text for text in grown(*samples("llm", 0, lives=1, fds_at_end=25)))
    assert [text.partition(":")[0] for text in grown(database=7 * MB, run_files=201)] == ["database", "run_files"]


def test_litestreams_file_names_the_stores_database_and_one_copy() -> None:
    found = yaml.safe_load(LITESTREAM.read_text())
    (db,) = found["dbs"]
    assert db["path"] == "${PILOT_DATA}/decisions.db"
    assert db["replica"]["type"] == "file" and db["replica"]["path"] == "${PILOT_STANDBY}"
    assert "truncate-page-n" not in db, "the default blocks the writer beyond 500 MB of log only"
