"""What the pages say about a database that the real store wrote: empty, missing, silent, halted, busy, very large."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from bus import messages
from bus.vocabulary import Role, Status
from store import board as boards
from store import connection
from store.board import Board
from tests.kit import builders, page
from tests.kit.gate import keep_days
from tests.kit.page import PEERS, Page, a_page, text_of

EXECUTOR = PEERS[Role.EXECUTOR]


@pytest_asyncio.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Page]:
    async with a_page(tmp_path, monkeypatch) as found:
        yield found


def live(here: Page) -> None:
    """Make everything well: all beat, the day is known, the account was looked at."""
    keep_days(here.store.db, here.store.gate, here.clock.now())
    here.beat()
    here.sample(balance_cents=5_000_000, equity_cents=4_990_000)


async def test_no_database_is_said_and_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_page(tmp_path, monkeypatch, has_database=False) as here:
        for path in ("/", "/intents", "/alerts"):
            answer = await here.get(path)
            assert answer.status_code == 200
            assert "There is no database yet" in text_of(answer)
        assert "Not known" in text_of(await here.get("/"))
        assert "Yes" not in text_of(await here.get("/"))


async def test_empty_database_looks_right_and_says_that_nothing_runs(here: Page) -> None:
    said = text_of(await here.get("/"))
    assert "No: it is not running" in said
    assert "No signal has been ranked yet" in said
    assert "No process has been heard yet" in said
    assert "Traceback" not in said


async def test_all_well_says_so_and_how_much_is_left(here: Page) -> None:
    live(here)
    said = text_of(await here.get("/"))
    assert "Yes, trading" in said
    assert "7 processes beat" in said and "store.1 ✓ ready" in said
    assert "No position of ours is open" in said
    assert "$2,400.00 Then the daily floor" in said  # 49,900 - 47,500
    assert "Daily floor (00:00 Europe/Athens) $2,400.00 left" in said
    assert "Maximum floor $3,900.00 left" in said


async def test_day_that_is_not_known_leaves_the_room_open(here: Page) -> None:
    here.beat()
    here.sample(balance_cents=5_000_000, equity_cents=4_990_000)
    said = text_of(await here.get("/"))
    assert "At most $3,900.00" in said
    assert "What the day by 00:00 Europe/Athens started with is not known." in said


async def test_silent_process_is_named_and_a_silent_store_is_a_banner(here: Page) -> None:
    live(here)
    here.clock.advance(6)
    here.beat(Role.EXECUTOR)
    said = text_of(await here.get("/"))
    assert "No: executor does not run" in said
    assert "The store is silent" not in said
    here.clock.advance(60)
    said = text_of(await here.get("/"))
    assert "No: it is not running" in said
    assert re.search(r"The store is silent\. The last beat it wrote is 60s old", said)


async def test_account_that_nobody_watches_is_not_healthy(here: Page) -> None:
    live(here)
    here.clock.advance(2_000)
    here.beat()
    assert "No: the account is not watched" in text_of(await here.get("/"))


async def test_low_that_was_over_before_the_next_point_is_told_and_drawn(here: Page) -> None:
    live(here)
    here.sample(equity_cents=4_760_000)
    here.clock.advance(1)
    here.sample(equity_cents=5_020_000)
    here.clock.advance(1)
    here.sample(equity_cents=5_000_000)
    answer = await here.get("/")
    said, both = text_of(answer), "Now $50,000.00; between $47,600.00 and $50,200.00."
    assert f"Equity today {both}" in said and f"Equity, last weeks {both}" in said
    spans = re.findall(r'<path class="span" d="(.*?)"/>', answer.text)
    assert len(spans) == 2
    for span in spans:
        low, high = re.findall(r"M\S+ (\S+?)V(\S+?)(?=M|$)", span)[-1]
        assert float(low) - float(high) > 20, "a stroke from the lowest to the highest"


def test_every_reading_counts_in_one_point_of_a_curve_the_first_one_too(here: Page) -> None:
    until = here.clock.now()
    since = until - timedelta(hours=2)
    for minutes, cents in ((120, 5), (119, 9), (61, 3), (60, 7), (1, 8), (0, 1)):
        here.clock.jump(-60.0 * minutes)
        here.sample(equity_cents=cents)
        here.clock.jump(60.0 * minutes)
    with boards.opened(here.views.path) as board:
        found = board.curve(since, until, 2)
    assert [(one.equity_cents, one.low_cents, one.high_cents) for one in found] == [(3, 3, 9), (8, 7, 8)]


async def test_halt_stands_on_every_page_and_closing_is_said(here: Page) -> None:
    live(here)
    here.store.tell(PEERS[Role.PILOT], messages.Pause(operator="me", reason="on holiday"))
    for path in ("/", "/intents", "/alerts"):
        said = text_of(await here.get(path))
        assert "Halted: no new orders. operator: me: on holiday" in said
        assert "closing everything" not in said
    assert "Running, but halted" in text_of(await here.get("/"))
    here.store.tell(PEERS[Role.PILOT], messages.Flatten(operator="me", reason="out"))
    said = text_of(await here.get("/"))
    assert "Halted: no new orders, closing everything." in said
    assert "every position is being closed" in said


async def test_position_stands_with_its_plan_and_an_order_in_doubt_is_loud(here: Page) -> None:
    live(here)
    intent = here.store.opened(EXECUTOR)
    here.beat()
    said = text_of(await here.get("/"))
    assert "1 position" in said
    assert "At their stops they lose" in said
    other = here.store.reserved(EXECUTOR, symbol="GBPUSD")
    here.store.tell(
        EXECUTOR, messages.OrderUnknown(intent_id=other.id, epoch=other.epoch, reason="timeout", ambiguous=False)
    )
    here.beat()
    said = text_of(await here.get("/"))
    assert "An order is in doubt" in said
    assert "1 more may exist: not settled yet." in said
    assert f"/intents/{intent.id}" in (await here.get("/")).text


async def test_last_signal_that_was_not_traded_comes_with_its_reason(here: Page) -> None:
    live(here)
    intent = here.store.executing(EXECUTOR)
    reject = messages.Reject(
        intent_id=intent.id, epoch=intent.epoch, reason="spread 9.1 pips; allowed 3", compliance_snapshot="{}"
    )
    here.store.tell(EXECUTOR, reject)
    said = text_of(await here.get("/"))
    assert f"{intent.symbol}: the gate refused it spread 9.1 pips; allowed 3 See why" in said


async def test_intent_page_tells_its_whole_life(here: Page) -> None:
    intent = here.store.closed(EXECUTOR)
    said = text_of(await here.get(f"/intents/{intent.id}"))
    for words in (
        "Proposed",
        "Given to an analyst",
        "Judged: trade",
        "Order reserved",
        "Opened",
        "Closed",
        "Net profit",
    ):
        assert words in said, words
    assert said.index("Proposed") < said.index("Order reserved") < said.index("Outcome")


async def test_an_order_to_close_stands_with_operator_and_reason_while_open_and_after(here: Page) -> None:
    intent = here.store.opened(EXECUTOR)
    order = messages.Close(intent_id=intent.id, operator="ann", reason="before the <payrolls>")
    here.store.tell(PEERS[Role.PILOT], order)
    assert "Close ordered ann, " in (said := text_of(await here.get(f"/intents/{intent.id}")))
    assert "before the <payrolls>" in said and "It is open." in said
    body = messages.PositionClosed(intent_id=intent.id, position_id="p1", result=builders.a_result())
    here.store.tell(PEERS[Role.MONITOR], body)
    assert "before the <payrolls>" in (said := text_of(await here.get(f"/intents/{intent.id}")))
    assert "Net profit" in said


async def test_checks_stand_with_limit_and_finding(here: Page) -> None:
    intent = here.store.executing(EXECUTOR)
    snapshot = (
        '{"passed":false,"rule":"spread","reason":"spread too wide","checks":[{"name":"spread","passed":false,'
        '"limit":"3","found":"9.1","text":"spread 9.1 pips"},{"name":"daily_drawdown","passed":true,'
        '"limit":"4787500","found":"4800000","text":"all well"}]}'
    )
    reject = messages.Reject(intent_id=intent.id, epoch=intent.epoch, reason="no", compliance_snapshot=snapshot)
    here.store.tell(EXECUTOR, reject)
    said = text_of(await here.get(f"/intents/{intent.id}"))
    assert "Checks of the gate: refused spread too wide" in said
    assert "spread ✕ no 3 9.1 spread 9.1 pips" in said
    assert "daily drawdown ✓ yes 47,875.00 48,000.00 all well" in said


async def test_text_from_outside_is_never_markup(here: Page) -> None:
    live(here)
    hostile = '<script>alert(1)</script><img src=x onerror="alert(2)">'
    here.store.tell(PEERS[Role.MONITOR], messages.Report(level="error", event="<b>", text=hostile + "\u202e\x07"))
    llm = builders.a_peer(Role.LLM, 9)
    intent = here.store.claimed(llm)
    verdict = messages.Decide(
        intent_id=intent.id, epoch=intent.epoch, side="HOLD", risk_report=hostile, reason=hostile, state_json="{}"
    )
    here.store.tell(llm, verdict)
    for path in ("/", "/alerts", "/intents", f"/intents/{intent.id}"):
        raw = (await here.get(path)).text
        assert "<script>alert" not in raw and "<img" not in raw, path
        assert "\u202e" not in raw and "\x07" not in raw, path
    assert "&lt;script&gt;alert(1)" in (await here.get("/alerts")).text


async def test_nothing_on_a_page_needs_what_the_policy_forbids(here: Page) -> None:
    live(here)
    here.store.opened(EXECUTOR)
    for path in ("/", "/intents", "/alerts", "/sign-in"):
        answer = await here.get(path)
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"\sstyle=|\son\w+=|<style|javascript:|https?://(?!127)", answer.text), path
        assert len(re.findall("<script", answer.text)) == 1
        assert answer.text.count("<h1") == 1, path
        assert 'lang="en"' in answer.text and "<main" in answer.text and 'class="skip"' in answer.text


@pytest.mark.parametrize("path", ["/nothing", "/intents/0123456789abcdef", "/intents/..%2f..%2fetc", "/assets/page.py"])
async def test_what_is_not_there_is_404_with_a_page(here: Page, path: str) -> None:
    answer = await here.get(path)
    assert answer.status_code == 404
    assert "<h1>Not found</h1>" in answer.text
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize(
    "query", ["status=nonsense", "symbol=%3Cb%3E", "date=2026-13-01", "page=-3", "page=999999999999"]
)
async def test_filters_that_cannot_be_are_left_out(here: Page, query: str) -> None:
    here.store.pending()
    answer = await here.get(f"/intents?{query}")
    assert answer.status_code == 200
    assert "<b>" not in answer.text


async def test_filter_by_status_pair_and_date(here: Page) -> None:
    kept = here.store.pending(symbol="GBPUSD")
    other = here.store.pending(symbol="EURUSD")
    for query in ("symbol=GBPUSD", f"status=pending&symbol=GBPUSD&date={kept.trade_date}"):
        raw = (await here.get(f"/intents?{query}")).text
        assert kept.id in raw and other.id not in raw, query
    assert "There is no intent like that" in (await here.get("/intents?status=closed")).text


# ── a very large database ────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database of 100,000 intents, 1,000 times as many as a small one beside it."""
    folder = tmp_path_factory.mktemp("large")
    for name, count in (("large.db", 100_000), ("small.db", 100)):
        db = connection.open_writer(folder / name)
        db.pragma("synchronous", 0)
        for trigger in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {trigger[0]}")  # or each row is looked for in every index before it is written
        with db:
            db.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
                "INSERT INTO intents (id, created_at, trade_date, symbol, status, idempotency_key) "
                "SELECT printf('%016x', i), printf('2026-%02d-%02dT00:00:00.000Z', 1 + i / 9000, 1 + i % 28), "
                "printf('2026-%02d-%02d', 1 + i / 9000, 1 + i % 28), CASE i % 3 WHEN 0 THEN 'EURUSD' WHEN 1 THEN "
                "'GBPUSD' ELSE 'USDJPY' END, CASE i % 50 WHEN 0 THEN 'rejected' ELSE 'cancelled' END, 'k' || i FROM n",
                (count,),
            )
        db.close()
    return folder


FILTERS = [{}, {"status": "cancelled"}, {"symbol": "EURUSD"}, {"date": "2026-05-05"}, {"status": "rejected", "page": 3}]


@pytest.mark.parametrize("asked", FILTERS)
def test_no_list_sorts_or_scans_what_it_does_not_show(large: Path, asked: dict[str, str]) -> None:
    board = Board(large / "large.db")
    try:
        assert len(board.page(**asked)) == boards.PAGE_ROWS
        given = {name: value for name, value in asked.items() if name != "page"}
        where, values, order = boards._filter(given.get("status"), given.get("symbol"), given.get("date"))
        query = f"SELECT i.rowid FROM intents i WHERE {where} ORDER BY {order} LIMIT 50"  # noqa: S608
        plan = board._db.execute(f"EXPLAIN QUERY PLAN {query}", values).fetchall()
        steps = [str(row[-1]) for row in plan]
        assert not any("TEMP B-TREE" in step for step in steps), steps
        assert not any("SCAN" in step for step in steps) or not values, steps
    finally:
        board.close()


def test_first_page_of_100_000_intents_costs_about_that_of_100(large: Path) -> None:
    def seconds(name: str) -> float:
        board = Board(large / name)
        try:
            board.page(), board.newest_not_traded()
            best = float("inf")
            for _ in range(5):
                began = time.perf_counter()
                board.page()
                board.newest()
                board.newest_not_traded()
                board.ended_since("2026-12-31")
                best = min(best, time.perf_counter() - began)
            return best
        finally:
            board.close()

    assert seconds("large.db") < 8 * seconds("small.db")


def test_last_page_is_bounded_and_counted(large: Path) -> None:
    board = Board(large / "large.db")
    try:
        assert board.count() == 100_000 == boards.PAGES_MAX * boards.PAGE_ROWS
        assert len(board.page(page=2_000)) == boards.PAGE_ROWS
        assert board.page(page=2_001) == []
        assert {line.status for line in board.page(status="rejected", page=40)} == {Status.REJECTED}
    finally:
        board.close()


def test_site_is_read_once_and_named_by_its_content() -> None:
    assert re.fullmatch(r"[0-9a-f]{12}", page.SITE.version)
    assert set(page.SITE.assets) == {"page.css", "page.js", "icon.svg"}
