"""`/metrics`, `/healthz` and `/readyz` over a database that the real writer wrote."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from actors.compliance import rulebook
from actors.metrics.routes import routes
from bus import messages
from bus.messages import Peer
from bus.tallies import Name, Tallies
from bus.vocabulary import Role, State
from config import load
from store import backup, connection
from tests.kit.builders import a_day, a_peer, a_propose, a_result, a_sample
from tests.kit.store import StoreHarness, a_verdict, an_opening

SETTINGS = load.settings("paper")
RULES = rulebook.load(SETTINGS.compliance.rules)
EXECUTOR = a_peer(Role.EXECUTOR, 1, "0000000000e1")
MONITOR = a_peer(Role.MONITOR, 1, "0000000000f1")
LLM = a_peer(Role.LLM, 1, "0000000000a1")


class Desk:
    """A store on a file, a clock that is held, and the three routes over it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "decisions.db"
        self.backups = folder / "backups"
        self.store = StoreHarness(connection.open_writer(self.path))
        self.clock = self.store.clock
        self.app = an_app(self)

    def beat(self, *peers: Peer, state: State = State.READY, **changes: object) -> None:
        """Let a second pass, the peers beat and the store write."""
        self.clock.advance(1.0)
        for peer in peers:
            self.store.beat(peer, state=state, **changes)
        self.store.step(tick=True)

    def get(self, path: str) -> httpx.Response:
        async def once() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.get(path)

        return asyncio.run(once())

    def scrape(self) -> dict[str, float]:
        """Return every series, by name and labels as Prometheus writes them."""
        self.clock.advance(1.0)  # so that no earlier answer is served
        answer = self.get("/metrics")
        assert answer.status_code == 200
        return series(answer.text)

    def ready(self) -> tuple[int, dict[str, str]]:
        answer = self.get("/readyz")
        said = answer.json()
        assert said["ready"] is (answer.status_code == 200)
        return answer.status_code, {one["name"]: one["reason"] for one in said["missing"]}


def an_app(desk: Desk) -> Starlette:
    return Starlette(routes=routes(SETTINGS, RULES, desk.clock, db_path=desk.path, backups=desk.backups))


def series(text: str) -> dict[str, float]:
    """Return the series of an exposition, their labels in the order of their names."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    found = Desk(tmp_path)
    yield found
    found.store.db.close()


# ── health ──────────────────────────────────────────────────────────────────


def test_without_a_database_it_is_healthy_and_not_ready(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.store.db.close()
    desk.path.unlink()
    assert desk.get("/healthz").json() == {"healthy": True}
    assert desk.ready() == (503, {"database": "there is none yet"})
    desk.path.write_text("no database" * 100)
    assert desk.ready() == (503, {"database": "it cannot be read; `pilot status` says why"})
    assert desk.scrape()["pilot_database_readable"] == 0


def test_it_is_ready_only_while_store_executor_and_monitor_beat(desk: Desk) -> None:
    assert desk.ready()[0] == 503
    desk.beat(MONITOR)
    assert desk.ready() == (503, {"executor.1": "was never heard of"})
    desk.beat(MONITOR, EXECUTOR, state=State.STARTING)
    assert desk.ready() == (503, {"executor.1": "is starting", "monitor.1": "is starting"})
    desk.beat(MONITOR, EXECUTOR)
    assert desk.ready() == (200, {})
    for _ in range(6):
        desk.beat(EXECUTOR)
    assert desk.ready() == (503, {"monitor.1": "has not beaten for 6 s"})
    desk.clock.advance(10)
    assert desk.ready()[1]["store"] == "has not written for 10 s"
    assert set(desk.ready()[1]) == {"store", "monitor.1", "executor.1"}


def test_a_wall_clock_behind_the_database_is_not_ready(desk: Desk) -> None:
    desk.beat(MONITOR, EXECUTOR)
    desk.clock.jump(-3_600)
    assert desk.ready() == (
        503,
        {
            "store": "has not written for 3600 s",
            "executor.1": "has not beaten for 3600 s",
            "monitor.1": "has not beaten for 3600 s",
        },
    )


def test_an_analyst_that_dies_is_missing_and_one_that_leaves_is_not(desk: Desk) -> None:
    dying, leaving = a_peer(Role.LLM, 2), a_peer(Role.LLM, 3)
    desk.beat(MONITOR, EXECUTOR, dying, leaving)
    desk.beat(MONITOR, EXECUTOR, leaving, state=State.DRAINING)
    for _ in range(6):
        desk.beat(MONITOR, EXECUTOR)
    assert desk.ready() == (503, {"llm.2": "has not beaten for 7 s"})
    found = desk.scrape()
    assert found['pilot_processes{role="llm",state="missing"}'] == 1
    assert found['pilot_beat_age_seconds{role="llm"}'] == 8
    # Whom this life of the store has not heard of belongs to an earlier formation.
    desk.store.restart()
    for _ in range(2):
        desk.beat(MONITOR, EXECUTOR)
    assert desk.ready() == (200, {})


# ── metrics ─────────────────────────────────────────────────────────────────


def test_a_traded_intent_shows_in_states_latencies_and_account(desk: Desk) -> None:
    intent = desk.store.claimed(LLM)
    desk.clock.advance(30)
    desk.store.tell(LLM, a_verdict(intent))
    desk.clock.advance(2)
    found = desk.scrape()
    assert found['pilot_intents{status="ready_for_exec"}'] == 1
    assert found['pilot_intents{status="pending"}'] == 0
    assert found['pilot_oldest_intent_age_seconds{status="ready_for_exec"}'] == 3
    assert found['pilot_status_seconds_sum{next="ready_for_exec",status="claimed"}'] == 30
    assert found['pilot_status_seconds_bucket{le="15.0",next="ready_for_exec",status="claimed"}'] == 0
    assert found['pilot_status_seconds_bucket{le="60.0",next="ready_for_exec",status="claimed"}'] == 1
    assert found['pilot_transitions_total{event="decide_trade"}'] == 1
    # Counted on from there, and the same by whoever begins anew.
    desk.store.tell(a_peer(Role.SCANNER), a_propose(symbol="GBPUSD"))
    again = desk.scrape()
    assert again['pilot_transitions_total{event="propose"}'] == 2
    desk.app = an_app(desk)
    assert {name: value for name, value in desk.scrape().items() if "seconds_" in name or "_total" in name} == {
        name: value for name, value in again.items() if "seconds_" in name or "_total" in name
    }


def test_staying_in_a_status_is_counted_from_entering_it_not_from_its_self_arrows(desk: Desk) -> None:
    taken = desk.store.executing(EXECUTOR)
    desk.clock.advance(7)
    assert desk.store.tell(EXECUTOR, desk.store.reservation(taken)).outcome == "applied"
    reserved = desk.store.intent(taken.id)
    desk.clock.advance(40)
    assert desk.store.tell(EXECUTOR, an_opening(reserved)).outcome == "applied"
    opened = desk.store.intent(reserved.id)
    found = desk.scrape()
    assert found['pilot_transitions_total{event="reserve"}'] == 1
    assert found['pilot_status_seconds_sum{next="opened",status="executing"}'] == 47
    assert found['pilot_status_seconds_count{next="opened",status="executing"}'] == 1
    assert not any('next="executing",status="executing"' in name for name in found)
    desk.clock.advance(600)
    desk.store.tell(
        MONITOR,
        messages.PositionClosed(intent_id=opened.id, position_id=str(opened.position_id), result=a_result()),
    )
    found = desk.scrape()
    assert found['pilot_status_seconds_bucket{le="300.0",next="closed",status="opened"}'] == 0
    assert found['pilot_status_seconds_bucket{le="900.0",next="closed",status="opened"}'] == 1


def test_calls_and_commits_are_summed_over_slots_and_incarnations_and_never_fall(desk: Desk) -> None:
    seen = []
    for incarnation in range(3):
        counted = Tallies()
        peers = [a_peer(Role.LLM, slot, f"{incarnation:010x}a{slot}") for slot in (1, 2)]
        for count in (1, 2):
            counted.observe(Name.LLM_OK, 0.3 * count)
            desk.beat(*peers, tallies=counted.told())
            seen.append(desk.scrape())
    totals = [one['pilot_llm_request_seconds_count{outcome="ok"}'] for one in seen]
    assert totals == [2, 4, 6, 8, 10, 12]
    assert seen[-1]['pilot_llm_request_seconds_sum{outcome="ok"}'] == pytest.approx(5.4)
    assert seen[-1]['pilot_llm_request_seconds_bucket{le="0.5",outcome="ok"}'] == 6
    commits = [one["pilot_store_commit_seconds_count"] for one in seen]
    assert commits == sorted(commits)
    assert commits[-1] > 6


def test_who_may_not_count_a_thing_does_not_show_it(desk: Desk) -> None:
    counted = Tallies()
    counted.observe(Name.STORE_COMMIT, 99.0)
    counted.observe(Name.LLM_OK, 99.0)
    desk.beat(EXECUTOR, tallies=counted.told())
    found = desk.scrape()
    assert 'pilot_llm_request_seconds_count{outcome="ok"}' not in found
    assert found["pilot_store_commit_seconds_sum"] < 90


def test_the_account_shows_its_room_its_requests_and_its_stops(desk: Desk) -> None:
    day = desk.clock.now().date().isoformat()
    desk.store.tell(MONITOR, messages.StartDay(day=a_day(created_at="2026-11-02T06:00:00.000Z")))
    sample = a_sample(balance_cents=4_950_000, equity_cents=4_900_000, daily_loss_cents=100_000)
    desk.store.tell(MONITOR, messages.SampleEquity(sample=sample))
    desk.store.tell(EXECUTOR, messages.GrantRequests(day=day, reads=20, writes=4))
    desk.store.tell(a_peer(Role.PILOT), messages.Flatten(operator="me", reason="out"))
    found = desk.scrape()
    assert found["pilot_account_equity_cents"] == 4_900_000
    assert found["pilot_account_age_seconds"] == 1
    rooms = {name: value for name, value in found.items() if name.startswith("pilot_limit_room_cents")}
    daily_cents = int(RULES.daily.ratio * RULES.account.initial_balance_cents)
    maximum_cents = int(RULES.maximum.ratio * RULES.account.initial_balance_cents)
    assert rooms[f'pilot_limit_room_cents{{limit="daily {RULES.reset_label}"}}'] == daily_cents - 100_000
    assert rooms['pilot_limit_room_cents{limit="maximum"}'] == maximum_cents - 100_000
    assert found[f'pilot_requests_used{{kind="all",reading="{RULES.reset_label}"}}'] == 24
    assert found[f'pilot_requests_used{{kind="write",reading="{RULES.reset_label}"}}'] == 4
    assert found['pilot_requests_allowed{kind="all"}'] == RULES.requests.per_day
    assert found['pilot_halts{flatten="true",kind="hard"}'] == 1
    assert found['pilot_halts{flatten="false",kind="soft"}'] == 0


def test_every_reading_of_the_firms_day_has_its_requests(desk: Desk) -> None:
    day = desk.clock.now().date().isoformat()
    desk.store.tell(EXECUTOR, messages.GrantRequests(day=day, reads=1, writes=0))
    found = desk.scrape()
    used = {name: value for name, value in found.items() if name.startswith("pilot_requests_used") and "all" in name}
    assert len(used) == 1 + len(RULES.reset.also)
    assert set(used.values()) == {1}


def test_backups_and_files_show_their_age_and_size(desk: Desk) -> None:
    assert "pilot_backup_age_seconds" not in desk.scrape()
    desk.backups.mkdir()
    now = desk.clock.now() + timedelta(seconds=1)
    for ending, age_s in (("", 7_200), ("", 3_600), (".part", 5)):
        (desk.backups / f"{now - timedelta(seconds=age_s):{backup.NAME}}{ending}").write_text("x")
    found = desk.scrape()
    assert (found["pilot_backups"], found["pilot_backup_age_seconds"]) == (2, 3_600)
    assert found['pilot_database_bytes{file="main"}'] == desk.path.stat().st_size
    assert found['pilot_database_bytes{file="wal"}'] > 0


def test_scrapes_within_a_second_read_the_database_once(desk: Desk) -> None:
    before = desk.get("/metrics").text
    desk.store.tell(a_peer(Role.SCANNER), a_propose())
    assert desk.get("/metrics").text == before
    desk.clock.advance(1.0)
    assert series(desk.get("/metrics").text)['pilot_intents{status="pending"}'] == 1


def test_a_database_that_was_restored_is_counted_anew(desk: Desk, tmp_path: Path) -> None:
    for symbol in ("EURUSD", "GBPUSD"):
        desk.store.tell(a_peer(Role.SCANNER), a_propose(symbol=symbol))
    assert desk.scrape()['pilot_transitions_total{event="propose"}'] == 2
    (tmp_path / "older").mkdir()
    older = Desk(tmp_path / "older")
    older.store.tell(a_peer(Role.SCANNER), a_propose(symbol="USDJPY"))
    older.store.db.close()
    desk.store.db.close()
    older.path.replace(desk.path)
    assert desk.scrape()['pilot_transitions_total{event="propose"}'] == 1


# ── names ───────────────────────────────────────────────────────────────────


def test_names_follow_the_rules_of_prometheus(desk: Desk) -> None:
    desk.store.tell(MONITOR, messages.SampleEquity(sample=a_sample()))
    units = ("seconds", "bytes", "cents", "micros", "total", "info")
    desk.clock.advance(1.0)
    for family in text_string_to_metric_families(desk.get("/metrics").text):
        assert re.fullmatch(r"pilot_[a-z_]+", family.name), family.name
        assert family.documentation.endswith("."), family.name
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
        for word in family.name.removesuffix("_total").split("_"):
            assert word not in ("ms", "sec", "s", "minutes", "kb"), family.name
        middle = family.name.split("_")[1:-1]
        assert not set(middle) & set(units) - {"micros", "cents"}, f"{family.name}: the unit is the last word"
