"""A broker that dies with an order in its hands, and one that misbehaves from its first minute: real processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from store import verify
from tests.kit import pipeline
from tests.kit.pipeline import Pipeline


def ledger(run: Pipeline, kind: str) -> list[dict[str, Any]]:
    path = run.data / "paper" / "ledger.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [row for row in rows if row["kind"] == kind]


def check_truth(run: Pipeline) -> None:
    """No order was sent twice, each placed one is known to its intent, failed means not placed."""
    placed = {row["position_id"]: row for row in ledger(run, "placed")}
    with run.reader() as reader:
        orders = reader.orders()
        received = ledger(run, "received")
        assert len({row.get("key", row["receipt"]) for row in received}) <= len(orders)
        assert {row["key"] for row in received if "key" in row} <= {order.idempotency_key for order in orders}
        assert {order.position_id for order in orders if order.position_id} == placed.keys()
        assert reader.unresolved_orders() == []
        assert reader.halts() == []
        assert verify.verify_chain(reader) == []
        stops = {str(order.position_id): order.plan.sl_price for order in orders}
    for position_id, row in placed.items():
        assert row["sl_price"] == str(stops[position_id])


@pytest.mark.parametrize(
    ("api", "fault", "placed"),
    [
        ("platform", "restart_placed", (3,)), ("platform", "restart_unplaced", (2,)),
        ("trader", "restart_placed", (3,)),
        ("trader", "restart_unplaced", (2, 3)),  # repeated, if the broker is back while the figures are young
    ],
)  # fmt: skip
def test_broker_that_dies_with_an_order_is_restarted_and_asked(api: str, fault: str, placed: tuple[int, ...]) -> None:
    with pipeline.running(broker={"paper_api": api}) as run:
        run.start()
        run.broker("/paper/faults", fault=fault, on="open")
        run.eventually(lambda: ledger(run, "fault"), 30)
        run.eventually(run.all_settled, 40)
        assert run.status()["paper.1"]["restarts"] == 1
        assert len(run.positions()) in placed
        check_truth(run)


def test_order_placed_after_a_kill_of_the_broker_is_found() -> None:
    with pipeline.running(executor={"quiet_s": 8.0}) as run:
        run.start()
        run.broker("/paper/faults", fault="place_late", seconds=3.0)
        run.eventually(lambda: ledger(run, "late"), 30)
        run.kill("paper")
        run.eventually(run.all_settled, 40)
        assert len(run.positions()) == 3
        assert {row["receipt"] for row in ledger(run, "placed")} == {1, 2, 3}
        check_truth(run)


def test_broker_that_misbehaves_from_the_start_costs_time_and_nothing_else(tmp_path: Path) -> None:
    # None that gives an intent back: the next try would be ten seconds later.
    faults = [
        {"fault": "hide_position", "probability": 0.5, "seed": 1, "seconds": 0.2, "seconds_max": 1.0},
        {"fault": "lose_answer_reset", "on": "open", "probability": 0.5, "seed": 2},
        {"fault": "duplicate_rows", "on": "positions", "probability": 0.3, "seed": 4},
        {"fault": "odd_types", "on": "read", "probability": 0.3, "seed": 3},
        {"fault": "401_once", "on": "balance"},
    ]
    path = tmp_path / "faults.json"
    path.write_text(json.dumps(faults))
    with pipeline.running(executor={"quiet_s": 3.0}) as run:
        run.env["PILOT_PAPER_FAULTS"] = str(path)
        run.start()
        run.eventually(run.all_settled, 60)
        assert ledger(run, "fault")
        assert len(run.positions()) == 3
        check_truth(run)
