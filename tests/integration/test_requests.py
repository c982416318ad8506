"""The day's requests, shared by real processes: killed anywhere, the store never counts fewer than the broker got."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from actors.broker.errors import BudgetSpent
from actors.compliance import day as days
from actors.desk.allowance import Allowance, Block
from actors.desk.placing import TRADE_READS, TRADE_WRITES
from bus import messages
from bus.clock import parse
from bus.messages import Peer
from bus.vocabulary import ExitCode
from config import load
from tests.kit.compliance import the_rules
from tests.kit.desk import EXECUTOR, MONITOR, Shifted, StoreHere
from tests.kit.gate import a_gate
from tests.kit.rig import Rig, rig

WASTED_MAX = TRADE_READS + TRADE_WRITES + 5  # what was granted for a trade, and a block
KILLS = [
    ("executor.after_ack_grant_requests", 1),
    ("broker.before_read", 1),
    ("broker.after_read", 1),
    ("broker.after_read", 6),
    ("executor.before_send_grant_requests", 2),
]


def never_too_few(found: Rig, more: int, deadline_s: float = 20.0) -> None:
    """Hold the store's count against the broker's, again and again, until so many more requests were received."""
    until = time.monotonic() + deadline_s
    first, _ = received, counted = found.requests()
    while received < first + more:
        assert time.monotonic() < until, found.run.console()[-3_000:]
        received, counted = found.requests()
        assert received <= counted, found.run.console()[-3_000:]


# ── refusals first ──────────────────────────────────────────────────────────


def workers(found: Rig) -> set[str]:
    """Return the processes that the store has heard of."""
    with found.run.reader() as reader:
        return {worker.name for worker in reader.workers()}


def test_executor_without_requests_gives_the_intent_back_until_the_reset_and_asks_the_broker_nothing() -> None:
    with rig(limits=(60, 45)) as found:  # 15 for work: enough to look at the account, too few for a trade
        found.start()
        found.run.eventually(lambda: "no requests left for work" in found.reason())
        received, counted = found.requests()
        assert received <= counted <= 15
        reason, intent = found.reason(), found.run.intents()[0]
        assert "15 allowed" in reason, reason
        assert intent.status == "ready_for_exec" and intent.attempts <= 1
        ends_at = min(day.ends_at for day in days.firm_days(the_rules(), datetime.now(UTC)))
        assert intent.not_before is not None
        assert abs((parse(intent.not_before) - ends_at).total_seconds()) < 30
        time.sleep(0.3)
        assert found.requests()[0] == received


def test_executor_killed_between_grant_and_use_leaves_nothing_uncounted_and_wastes_little() -> None:
    with rig() as found:
        wasted = 0
        for point, at_pass in KILLS:
            found.run.arm(point, "kill", at_pass=at_pass)
            assert found.start().wait(20) == -signal.SIGKILL, point
            received, counted = found.requests()
            assert received <= counted <= received + wasted + WASTED_MAX, point
            wasted = counted - received
            (found.run.points / f"{point}.fired").unlink()
        last = found.start()
        found.run.eventually(lambda: found.requests()[0] > received)
        last.terminate()
        assert last.wait(10) == ExitCode.OK, found.run.console()[-3_000:]
        received, counted = found.requests()
        assert counted - received == wasted  # what the killed ones had in hand stays used, the last one's is back


def test_monitor_killed_at_any_read_leaves_nothing_uncounted() -> None:
    with rig() as found:
        for at_pass in (1, 4, 7):
            found.run.arm("broker.after_read", "kill", at_pass=at_pass)
            assert found.start("actors.monitor").wait(20) == -signal.SIGKILL
            received, counted = found.requests()
            assert received <= counted
            (found.run.points / "broker.after_read.fired").unlink()


def test_executor_and_monitor_at_work_are_never_counted_too_low_and_give_back_what_is_left() -> None:
    with rig("EURUSD", "GBPUSD") as found:
        working = [found.start(), found.start("actors.monitor")]
        never_too_few(found, 25)
        found.run.eventually(lambda: {"executor.1", "monitor.1"} <= workers(found))
        for process in working:
            process.terminate()
        assert [process.wait(10) for process in working] == [ExitCode.OK, ExitCode.OK]
        received, counted = found.requests()
        assert received == counted  # nobody was killed: not one request is counted that was not made


@pytest.mark.parametrize("point", ["broker.before_write", "broker.after_write"])
def test_executor_killed_around_its_order_has_it_counted(point: str) -> None:
    with rig() as found:
        found.run.arm(point, "kill")
        assert found.start().wait(20) == -signal.SIGKILL
        received, counted = found.requests()
        assert found.received() == (point == "broker.after_write")
        assert received <= counted
        found.start()
        never_too_few(found, 4)


def test_order_that_may_exist_is_found_with_the_reserve_when_nothing_else_is_left() -> None:
    with rig(limits=(200, 100)) as found:
        found.run.arm("broker.after_write", "kill")
        assert found.start().wait(20) == -signal.SIGKILL
        today = days.firm_days(the_rules(), datetime.now(UTC))[0].day
        with contextlib.closing(sqlite3.connect(found.run.data / "decisions.db", timeout=5)) as db, db:
            db.execute("INSERT INTO api_usage VALUES (?, 'somebody', 100, 0)", (today,))
        found.start()
        found.until("opened")
        received, counted = found.requests()
        assert received <= counted - 100 and counted <= 200


def test_store_killed_and_restarted_under_way_leaves_nothing_uncounted() -> None:
    with rig() as found:
        found.start()
        found.start("actors.monitor")
        for _ in range(2):
            never_too_few(found, 4)
            store = found.processes[0]
            store.kill()
            store.wait()
            found.processes[0] = found.start("store")
            found.processes.pop()
            never_too_few(found, 4)


# ── two processes, one budget ───────────────────────────────────────────────


async def test_a_race_for_the_last_block_gives_it_to_one(tmp_path: Path) -> None:
    clock = Shifted()
    text = load.rules_file("e8-signature-50k").path.read_text()
    few = text.replace("\nper_day = 2_000", "\nper_day = 70").replace("e8-signature-50k", "few")
    (tmp_path / "few.toml").write_text(few)
    store = StoreHere(tmp_path / "decisions.db", clock, a_gate(tmp_path / "few.toml"))

    def an_allowance(peer: Peer) -> Allowance:
        async def ask(command: messages.Command, deadline_s: float | None = None) -> messages.Ack:
            await asyncio.sleep(0)
            return store.apply(peer, command)

        return Allowance(ask, clock, lambda: days.firm_days(the_rules(), clock.now()), block=Block(4, 1))

    both = [an_allowance(EXECUTOR), an_allowance(MONITOR)]
    ends = await asyncio.gather(*(one.ensure(10, 1) for one in both), return_exceptions=True)
    refused = [end for end in ends if isinstance(end, BudgetSpent)]
    assert len(refused) == 1
    assert refused[0].is_refused and "11 requests are used and 20 allowed" in str(refused[0])
    lefts = [one.left for one in both]
    assert sorted((left.reads, left.writes) for left in lefts) == [(0, 0), (10, 1)]
    for one in both:
        await one.close()
    store.close()
