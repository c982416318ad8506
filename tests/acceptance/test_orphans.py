"""Positions of nobody over real processes: kills between the steps, and one that the executor is still recording."""

from __future__ import annotations

import json

from store import verify
from tests.kit import by_hand, pipeline
from tests.kit.pipeline import Pipeline


def closed(run: Pipeline) -> list[str]:
    path = run.data / "paper" / "ledger.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [row["position_id"] for row in rows if row["kind"] == "closed"]


def polls(run: Pipeline) -> int:
    """Return how often the monitor that lives now has looked at the account, as its beats say."""
    with run.reader() as reader:
        return next((one.progress for one in reader.workers() if one.name == "monitor.1"), 0)


def test_adoption_that_a_kill_cut_off_is_made_once() -> None:
    with pipeline.running(executor={"orphans": "adopt", "quiet_s": 0.6}) as run:
        run.start("--monitor-only")
        run.pid("monitor")
        run.arm("monitor.after_ack_adopt")
        position_id = by_hand.buy(run.url)
        run.eventually(lambda: run.fired("monitor.after_ack_adopt"), 20)
        run.eventually(lambda: run.counts() == {"opened": 1}, 20)
        assert run.intents()[0].position_id == position_id
        run.broker("/paper/close", position_id=position_id)
        run.eventually(lambda: run.counts() == {"closed": 1}, 20)
        with run.reader() as reader:
            assert [move.event for move in reader.transitions(run.intents()[0].id)] == ["adopt", "close"]
            assert verify.verify_chain(reader) == []


def test_close_that_a_kill_cut_off_is_made_once() -> None:
    with pipeline.running(executor={"orphans": "close", "quiet_s": 0.6}) as run:
        run.start("--monitor-only")
        pid = run.pid("monitor")
        run.arm("monitor.after_close")
        position_id = by_hand.buy(run.url)
        run.eventually(lambda: run.fired("monitor.after_close"), 20)
        run.replaced("monitor", pid)
        run.eventually(lambda: polls(run) >= 3, 20)
        assert closed(run) == [position_id]
        assert run.counts() == {}


def test_position_that_the_executor_is_still_recording_is_left_to_it() -> None:
    """The monitor sees it in some polls before the executor has told the store."""
    with pipeline.running(executor={"orphans": "close", "quiet_s": 0.6}, supervisor={"watchdog_s": 8.0}) as run:
        run.arm("executor.before_opened", "sleep 2.5")
        run.start()
        run.eventually(lambda: run.fired("executor.before_opened"), 40)
        run.eventually(run.all_settled, 40)
        assert run.counts().get("opened") == 3, run.console()[-3_000:]
        assert closed(run) == []
        with run.reader() as reader:
            assert {intent.source for intent in reader.intents()} == {"scanner"}
            assert [event for _, _, event, _ in reader.alerts() if "orphan" in event] == []
