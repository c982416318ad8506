"""A past of 100,000 intents: the number of series, and what a scrape, a journal and statistics read of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest

from actors.compliance import rulebook
from actors.console import journal, statistics
from actors.metrics.collector import Metrics
from bus.clock import iso
from bus.tallies import BOUNDS_S
from config import load
from store import dump
from store import gauges as readings
from store import statistics as queries
from store.queries import Reader
from tests.kit import past
from tests.kit.clock import ManualClock

INTENTS = 100_000
SERIES_MAX = 800
SETTINGS = load.settings("paper")
RULES = rulebook.load(SETTINGS.compliance.rules)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("past") / "decisions.db"
    past.write(found, INTENTS)
    return found


@pytest.fixture(scope="module")
def reader(path: Path) -> Iterator[Reader]:
    found = Reader(path)
    yield found
    found.close()


def cpu_s(act: Callable[[], object]) -> float:
    began_s = time.process_time()
    act()
    return time.process_time() - began_s


def series_of(metrics: Metrics, clock: ManualClock) -> dict[str, int]:
    """Return how many series each metric has."""
    clock.advance(2.0)
    return {family.name: len(family.samples) for family in metrics.collect()}


# ── metrics ─────────────────────────────────────────────────────────────────


class Watched(NamedTuple):
    """Metrics that have counted the whole journal, and what that took."""

    metrics: Metrics
    clock: ManualClock
    looks: int
    first_s: float


@pytest.fixture(scope="module")
def watched(path: Path) -> Watched:
    clock = ManualClock()
    metrics = Metrics(SETTINGS, RULES, clock, db_path=path, backups=path.parent)
    first_s, looks = cpu_s(lambda: series_of(metrics, clock)), 1
    while "pilot_transitions" not in series_of(metrics, clock):
        looks += 1
        assert looks < 10
    return Watched(metrics, clock, looks, first_s)


def test_a_scrape_reads_only_what_is_new(watched: Watched) -> None:
    assert watched.looks > 1, "one look takes only so many rows; until then there is no counter that looks reset"
    later_s = min(cpu_s(lambda: series_of(watched.metrics, watched.clock)) for _ in range(3))
    print(f"first look {watched.first_s:.3f} s, later ones {later_s:.3f} s")  # noqa: T201 - shown only on failure
    assert later_s * 4 < watched.first_s


def test_neither_intents_nor_incarnations_nor_odd_names_make_series(path: Path, watched: Watched) -> None:
    before = series_of(watched.metrics, watched.clock)
    assert sum(before.values()) < SERIES_MAX
    db = apsw.Connection(str(path))
    with db:
        for number in range(300):
            odd = f"{'llm' if number % 2 else 'x{}'}.{number}"
            db.execute(
                "INSERT INTO workers VALUES (?, ?, ?, 1, 'ready', 1, 1, 0, ?3, '2026-11-02T06:00:00.000Z')",
                (odd, odd.partition(".")[0], f"{number:012x}"),
            )
            db.execute("INSERT INTO exits VALUES (?, ?, 'x', 1, 1)", (odd, f"{number:012x}"))
            known = "llm_ok" if number % 2 else "broker_read_ok"
            for name, zeros in ((known, len(BOUNDS_S[known])), ('odd"} 1', 3)):
                counts = json.dumps([1, *[0] * zeros])
                db.execute("INSERT INTO tallies VALUES (?, ?, 'i', ?, 1, ?3, 1)", (odd, name, counts))
        db.execute(
            "INSERT INTO alerts SELECT seq, at, 'info', hash, 'x', NULL, '', NULL, '{}' FROM transitions LIMIT 1000"
        )
        db.execute("UPDATE intents SET symbol = 'ODD' || rowid WHERE rowid < 2000")
    db.close()
    after = series_of(watched.metrics, watched.clock)
    odd_ones = {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)}
    # One outcome of models that had not come before. Of roles that are none of ours there is nothing.
    assert odd_ones == {"pilot_llm_request_seconds": len(BOUNDS_S["llm_ok"]) + 3}
    assert sum(after.values()) < SERIES_MAX


# ── queries ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "query", [queries.LIVES, queries.SEEN, *readings._OLDEST.values()], ids=lambda query: " ".join(query.split())[:40]
)
def test_no_query_reads_a_whole_table(reader: Reader, query: str) -> None:
    given = ("2026-10-15", "2026-10-16")[: query.count("?")]
    plan = [str(row[3]) for row in reader._db.execute(f"EXPLAIN QUERY PLAN {query}", given)]
    assert not [line for line in plan if line.startswith("SCAN ")], plan


def test_the_statistics_and_the_journal_of_a_day_do_not_read_the_others(reader: Reader) -> None:
    day = journal.day_named(RULES, date(2026, 10, 15))
    days = statistics.days_back(RULES, day.starts_at, 40)
    one_s = cpu_s(lambda: statistics.of(reader, days[-1:], None))
    all_s = cpu_s(lambda: statistics.of(reader, days, None))
    print(f"statistics of a day {one_s:.3f} s, of all {all_s:.3f} s")  # noqa: T201 - shown only when the test fails
    assert one_s * 4 < all_s
    hour = queries.entries(reader, iso(day.starts_at), iso(day.starts_at.replace(hour=22)))
    assert len(list(hour)) == 3_600 // 25 + 36, "an hour's intents, and those of the hour before that closed"


def test_statistics_of_100_000_intents_add_up(reader: Reader) -> None:
    days = statistics.days_back(RULES, journal.day_named(RULES, date(2026, 10, 5)).starts_at, 10)
    found = statistics.of(reader, days, None)
    in_time = found.total.intents
    assert found.total.trades == -(-in_time // 4)
    won, closed = found.total.won.hits, found.total.closed
    assert found.total.net_profit_cents == 10_000 * won - 5_000 * (closed - won)
    assert found.total.held_s == 3_600
    assert sum(line.intents for line in found.symbols) == in_time


def test_a_table_is_handed_on_row_by_row(reader: Reader) -> None:
    first_s = min(cpu_s(lambda: next(iter(dump.rows(reader, "transitions")))) for _ in range(3))
    many_s = cpu_s(lambda: sum(1 for _ in dump.rows(reader, "transitions")))
    assert first_s * 20 < many_s
