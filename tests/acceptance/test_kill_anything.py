"""Any process killed at the worst moment: nothing is lost, nothing is doubled."""

from __future__ import annotations

import os
import signal
from contextlib import AbstractContextManager
from typing import Any

import pytest

from bus.vocabulary import ExitCode
from config.settings import Supervisor
from store import verify
from tests.kit import pipeline
from tests.kit.pipeline import Pipeline


def running(**changes: dict[str, Any]) -> AbstractContextManager[Pipeline]:
    """Make a pipeline whose scanner trains nothing, which takes longer than a trade."""
    return pipeline.running(scanner={"model": "momentum"}, **changes)


def check_truth(run: Pipeline) -> None:
    """Compare the store with the broker's own ledger: each order once, each position owned, the journal whole."""
    placed = [row["position_id"] for row in run.positions()]
    assert len(placed) == len(set(placed))
    with run.reader() as reader:
        owned = sorted(reader.owned_position_ids())
        assert owned == sorted(placed)
        assert verify.verify_chain(reader) == []
        assert reader.unresolved_orders() == []
    assert len(run.intents()) == 3


TRADER = {"paper_api": "trader"}  # of the section `broker`
NEVER_LEFT = ("executor.after_reserve", "executor.before_post")


@pytest.mark.parametrize(
    "point",
    [
        "scanner.before_propose", "scanner.after_propose",
        "llm.before_analyse", "llm.before_decide", "llm.after_decide",
        "store.before_commit", "store.after_commit", "store.before_ack", "store.after_ack",
        "executor.before_read", "executor.before_reserve", "executor.after_reserve", "executor.before_post",
        "executor.after_post", "executor.before_opened", "executor.after_opened",
    ],
)  # fmt: skip
def test_kill_at_a_named_point_loses_and_doubles_nothing(point: str) -> None:
    with running() as run:
        run.arm(point, "kill", at_pass=5 if point.startswith("store.") else 1)
        run.start()
        run.eventually(lambda: run.fired(point), 30)
        run.eventually(run.all_settled, 40)
        check_truth(run)
        # Killed before the request left: that one order failed and was never sent again. Otherwise all were opened.
        assert len(run.positions()) == (2 if point in NEVER_LEFT else 3)
        assert run.stop() == 0


@pytest.mark.parametrize(
    "point", ["executor.after_reserve", "executor.before_post", "executor.after_post", "executor.before_opened"]
)
def test_kill_over_the_trader_api_loses_and_doubles_nothing(point: str) -> None:
    with running(broker=TRADER) as run:
        run.arm(point, "kill")
        run.start()
        run.eventually(lambda: run.fired(point), 30)
        run.eventually(run.all_settled, 40)
        check_truth(run)
        # What never left is opened by the next life while its figures are young, and fails when they are not.
        assert len(run.positions()) in ((2, 3) if point in NEVER_LEFT else (3,))
        assert run.counts().get("failed", 0) == 3 - len(run.positions())
        assert run.stop() == 0


@pytest.mark.parametrize("point", ["executor.before_repeat", "executor.after_repeat"])
def test_kill_around_a_repetition_loses_and_doubles_nothing(point: str) -> None:
    with running(broker=TRADER) as run:
        run.arm(point, "kill")
        run.start()
        run.broker("/paper/faults", fault="lose_answer_reset", on="open")
        run.eventually(lambda: run.fired(point), 30)
        run.eventually(run.all_settled, 40)
        check_truth(run)
        assert len(run.positions()) == 3


@pytest.mark.parametrize("api", ["platform", "trader"])
def test_executor_killed_while_the_broker_places_finds_its_position(api: str) -> None:
    """The order is placed, the answer never comes, and the executor dies while it waits."""
    with running(broker={"request_timeout_s": 20.0, "paper_api": api}) as run:
        run.start()
        run.broker("/paper/faults", fault="lose_answer_timeout", on="open")
        run.eventually(lambda: len(run.positions()) == 1, 30)
        run.kill("executor")
        run.eventually(run.all_settled, 40)
        assert len(run.positions()) == 3
        check_truth(run)


@pytest.mark.parametrize(
    ("fault", "placed"),
    [("lose_answer_reset", 3), ("empty_200", 3), ("html_502", 3), ("drop_unplaced", 2), ("reject_200", 2)],
)
def test_lost_answer_is_reconciled_and_never_sent_again(fault: str, placed: int) -> None:
    with running() as run:
        run.start()
        run.broker("/paper/faults", fault=fault, on="open")
        run.eventually(run.all_settled, 40)
        assert len(run.positions()) == placed
        assert run.counts().get("failed", 0) == 3 - placed
        check_truth(run)


@pytest.mark.parametrize(("fault", "placed"), [("lose_answer_reset", 3), ("drop_unplaced", 3)])
def test_lost_answer_over_the_trader_api_is_known_by_the_orders_key(fault: str, placed: int) -> None:
    with running(broker=TRADER, executor={"quiet_s": 30.0}) as run:  # nobody waits for the quiet period
        run.start()
        run.broker("/paper/faults", fault=fault, on="open")
        run.eventually(run.all_settled, 25)
        assert len(run.positions()) == placed
        assert run.counts().get("failed", 0) == 3 - placed
        check_truth(run)


def test_position_without_its_stop_gets_it_before_it_counts_as_opened() -> None:
    with running() as run:
        run.start()
        run.broker("/paper/faults", fault="ignore_stop", on="open")
        run.eventually(run.all_settled, 40)
        assert "setting it" in run.console()
        assert run.counts() == {"opened": 3}
        check_truth(run)


@pytest.mark.parametrize("name", ["store", "scanner", "llm", "executor", "monitor", "paper"])
def test_killed_process_is_replaced_and_the_pipeline_goes_on(name: str) -> None:
    with running() as run:
        run.start()
        run.eventually(run.all_settled, 30)
        old = run.kill(name)
        assert run.replaced(name, old) != old
        run.eventually(run.all_settled, 20)
        check_truth(run)
        assert run.status()[f"{name}.1"]["restarts"] == 1


def test_stopped_executor_is_noticed_killed_and_replaced() -> None:
    with running() as run:
        run.start()
        run.eventually(run.all_settled, 30)
        old = run.kill("executor", signal.SIGSTOP)
        assert run.replaced("executor", old) != old


def test_killed_supervisor_leaves_no_orphan_and_the_next_one_goes_on() -> None:
    with running() as run:
        root = run.start()
        run.eventually(run.all_settled, 30)
        os.kill(root.pid, signal.SIGKILL)
        root.wait()
        run.eventually(lambda: not run.processes(), 10)
        run.start()
        run.eventually(lambda: run.pid("executor"), 20)
        check_truth(run)
        assert run.stop() == 0


def test_store_that_cannot_live_ends_everything_with_70() -> None:
    with running() as run:
        root = run.start()
        pid = run.pid("store")
        for _ in range(Supervisor().restarts_max - 1):
            os.kill(pid, signal.SIGKILL)
            pid = run.replaced("store", pid)
        os.kill(pid, signal.SIGKILL)
        assert root.wait(30) == ExitCode.GAVE_UP
        run.eventually(lambda: not run.processes(), 10)
