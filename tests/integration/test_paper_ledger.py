"""The paper broker's ledger: what it says of every order, whatever misbehaviour or kill comes in between."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from actors.broker.errors import BrokerError, Refused, UnknownOutcome
from actors.broker.wire import OpenRequest
from tests.kit import paper
from tests.kit.eventually import eventually_async
from tests.kit.held_clock import HeldClock

D = Decimal
ORDER = OpenRequest(broker_symbol="EURUSD.", side="BUY", volume=D("0.10"), sl_price=D("1.09"), tp_price=D("1.12"))
ASKED = {"symbol": "EURUSD.", "side": "BUY", "volume": "0.10", "sl_price": "1.09", "tp_price": "1.12"}


def ledger(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]


def kinds(folder: Path) -> list[str]:
    return [line["kind"] for line in ledger(folder)]


def without(folder: Path, *lost: str) -> None:
    """Take lines of these kinds out of the ledger, as a kill before they were written would have."""
    kept = [json.dumps(line) for line in ledger(folder) if line["kind"] not in lost]
    (folder / "ledger.jsonl").write_text("".join(f"{line}\n" for line in kept))


async def test_an_order_nobody_can_read_and_one_of_a_stranger_are_received_and_nothing_else(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client, paper.browser(broker.url) as stranger:
        await client.login()
        path = f"{client._session.prefix}/position/open"
        assert (await stranger.post(path, content=b"no json")).status_code == 401
        body = {"instrument": "EURUSD.", "orderSide": "BUY", "volume": 0.1, "slPrice": 1.09}
        assert (await stranger.post(path, json=body)).status_code == 401
        first, second = ledger(tmp_path)
        assert (first["kind"], first["receipt"], "symbol" in first) == ("received", 1, False)
        assert (second["kind"], second["receipt"], second["symbol"], second["tp_price"]) == (
            "received",
            2,
            "EURUSD.",
            "0",
        )


@pytest.mark.parametrize(
    "fault", ["reject_200", "drop_unplaced", "status_503", "401_once", "ok_unplaced", "token_revoked"]
)
async def test_an_order_that_is_not_carried_out_is_received_and_never_placed(tmp_path: Path, fault: str) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        await broker.fault(fault, on="open")
        with contextlib.suppress(BrokerError):
            await client.open_position(ORDER)
        assert kinds(tmp_path) == ["received", "fault"]
        assert ledger(tmp_path)[0].items() >= ASKED.items()
        assert (ledger(tmp_path)[1]["fault"], ledger(tmp_path)[1]["receipt"]) == (fault, 1)
        assert broker.venue.book.holdings == ()


async def test_one_life_of_a_position_is_told_in_full(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        position_id = await client.open_position(ORDER)
        (held,) = await client.open_positions()
        await client.edit_position(held, D("1.095"), D("1.13"))
        await broker.price("EURUSD.", "1.09400")
        received, placed, edited, closed = ledger(tmp_path)
        assert received.items() >= ({"kind": "received", "receipt": 1} | ASKED).items()
        assert placed.items() >= ({"kind": "placed", "receipt": 1, "position_id": position_id} | ASKED).items()
        assert (edited["kind"], edited["position_id"], edited["sl_price"]) == ("edited", position_id, "1.095")
        assert (closed["kind"], closed["position_id"], closed["reason"]) == ("closed", position_id, "SL")
        assert closed["net_profit_cents"] == broker.venue.book.history[0].net_profit_cents == -6_150
        assert (closed["symbol"], closed["side"], closed["volume"]) == ("EURUSD.", "BUY", "0.10")


async def test_placed_says_what_was_placed_and_received_what_was_asked(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        for fault in ("ignore_stop", "partial_fill", "overfill", "round_stop"):
            await broker.fault(fault)
            await client.open_position(ORDER)
        rows = ledger(tmp_path)
        assert all(row.items() >= ASKED.items() for row in rows if row["kind"] == "received")
        placed = [(row["volume"], row["sl_price"]) for row in rows if row["kind"] == "placed"]
        assert placed == [("0.10", "0"), ("0.05", "1.09"), ("0.20", "1.09"), ("0.10", "1.08999")]


async def test_a_rejected_order_says_why(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.20000")
        await client.login()
        with pytest.raises(Refused):
            await client.open_position(ORDER)
        row = ledger(tmp_path)[-1]
        assert (row["kind"], row["receipt"], row["code"]) == ("rejected", 1, "INVALID_STOPS")


async def test_lines_that_a_kill_took_are_written_at_the_next_start_once(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        for _ in range(2):
            position_id = await client.open_position(ORDER)
        held = (await client.open_positions())[-1]
        await client.edit_position(held, D("1.095"), D(0))
        await broker.close(position_id)
    whole = {(row["kind"], row.get("position_id")) for row in ledger(tmp_path)}
    without(tmp_path, "edited", "closed")
    for _ in range(2):
        async with paper.running(tmp_path):
            rows = ledger(tmp_path)
            assert {(row["kind"], row.get("position_id")) for row in rows} == whole
            assert len(rows) == 6
            assert next(row for row in rows if row["kind"] == "closed")["reason"] == "MANUAL"


async def test_an_order_that_is_placed_late_survives_the_end_of_the_broker_and_is_placed_once(tmp_path: Path) -> None:
    clock = HeldClock()
    async with paper.running(tmp_path, clock=clock) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        await broker.fault("place_late", seconds=100)
        with pytest.raises(UnknownOutcome):
            await client.open_position(ORDER)
        assert kinds(tmp_path) == ["received", "fault", "late"]
    async with paper.running(tmp_path, clock=clock) as broker:
        broker.venue.tick()
        assert broker.venue.book.holdings == ()
    clock.ahead_s = 101
    for _ in range(3):
        async with paper.running(tmp_path, clock=clock) as broker:
            await eventually_async(lambda venue=broker.venue: len(venue.book.holdings) == 1)
            broker.venue.tick()
            assert kinds(tmp_path) == ["received", "fault", "late", "placed"]
            assert ledger(tmp_path)[-1]["receipt"] == 1


async def test_a_late_order_whose_placed_line_a_kill_took_is_not_placed_again(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        await broker.fault("place_late", seconds=0)
        with pytest.raises(UnknownOutcome):
            await client.open_position(ORDER)
        await eventually_async(lambda: kinds(tmp_path)[-1] == "placed")
    without(tmp_path, "placed")
    async with paper.running(tmp_path) as broker:
        broker.venue.tick()
        assert kinds(tmp_path) == ["received", "fault", "late", "placed"]
        assert len(broker.venue.book.holdings) == 1


async def test_a_late_order_that_comes_to_nothing_is_tried_once(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        await broker.fault("place_late", seconds=0.1)
        with pytest.raises(UnknownOutcome):
            await client.open_position(ORDER)
        await broker.price("EURUSD.", "1.08000")  # below the stop
        await eventually_async(lambda: kinds(tmp_path)[-1] == "rejected")
    async with paper.running(tmp_path) as broker:
        broker.venue.tick()
        assert kinds(tmp_path).count("rejected") == 1


async def test_what_was_suffered_is_shown_and_can_be_forgotten(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, paper.browser(broker.url) as http:
        await broker.fault("slow", on="balance", times=3)
        await broker.fault("html_502", probability=0.5, seed=1)
        said = (await http.get("/paper/faults")).json()
        assert said["waiting"] == {"balance": 3}
        assert said["standing"][0]["fault"] == "html_502"
        assert (await http.delete("/paper/faults")).status_code == 200
        assert (await http.get("/paper/faults")).json() == {"waiting": {}, "standing": [], "suffered": {}}
