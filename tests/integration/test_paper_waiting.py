"""Orders that wait, over real HTTP: refused, misled, kept through a restart, told in the ledger."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from actors.broker.errors import Refused, UnknownOutcome
from actors.broker.wire import PendingRequest
from tests.kit import paper
from tests.kit.paper import ledger

D = Decimal
ORDER = PendingRequest(
    broker_symbol="EURUSD.", kind="LIMIT", side="BUY", volume=D("0.10"), activation_price=D("1.09000"),
    sl_price=D("1.08000"), tp_price=D("1.12000"),
)  # fmt: skip


def changed(**changes: Any) -> PendingRequest:
    return structs.replace(ORDER, **changes)


async def test_orders_that_cannot_wait_are_refused_and_every_one_is_in_the_ledger(tmp_path: Path) -> None:
    refused = {
        "INSTRUMENT_NOT_FOUND": {"broker_symbol": "XAUUSD."}, "INVALID_VOLUME": {"volume": D("0.005")},
        "INVALID_PRICE": {"activation_price": D("1.20")}, "PRICE_TOO_CLOSE": {"activation_price": D("1.10001")},
        "INVALID_STOPS": {"sl_price": D("1.09500")},
    }  # fmt: skip
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        for code, changes in refused.items():
            with pytest.raises(Refused, match=code):
                await client.create_pending(changed(**changes))
        for body in (b"", b"{}", b'{"instrument":"EURUSD.","orderSide":"BUY","volume":1,"type":"MARKET","price":1}'):
            with pytest.raises(Refused):
                await client._order("/pending-order/create", body)
        assert await client.pending_orders() == ()
        received = [line for line in ledger(tmp_path) if line["kind"] == "received"]
        assert len(received) == len(refused) + 3 and {line["call"] for line in received} == {"pending"}
        assert sum(line["kind"] == "rejected" for line in ledger(tmp_path)) == len(refused)


async def test_a_request_that_speaks_of_another_order_is_refused(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        await client.create_pending(ORDER)
        (waiting,) = await client.pending_orders()
        for wrong in ({"side": "SELL"}, {"kind": "STOP"}, {"broker_symbol": "USDJPY."}):
            other = structs.replace(waiting, **wrong)
            with pytest.raises(Refused, match="ORDER_MISMATCH"):
                await client.cancel_pending(other)
            with pytest.raises(Refused, match="ORDER_MISMATCH"):
                await client.edit_pending(other, D("1.08"), D(0), D(0))
        with pytest.raises(Refused, match="INVALID_VOLUME"):
            await client.edit_pending(structs.replace(waiting, volume=D("0.2")), D("1.08"), D(0), D(0))
        assert await client.pending_orders() == (waiting,)


async def test_the_ledger_tells_an_orders_whole_life_and_a_restart_keeps_what_waits(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        first, second, third = [await client.create_pending(ORDER) for _ in range(3)]
        waiting = {one.id: one for one in await client.pending_orders()}
        await client.edit_pending(waiting[first], D("1.08500"), D("1.07"), D(0))
        await client.cancel_pending(waiting[second])
        before = await client.pending_orders()
    (tmp_path / "ledger.jsonl").write_text(
        "".join(f"{json.dumps(line)}\n" for line in ledger(tmp_path) if line["kind"] not in ("changed", "cancelled"))
    )  # a kill came before these two lines
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await client.login()
        assert await client.pending_orders() == before
        await broker.price("EURUSD.", "1.08990")
        (held,) = await client.open_positions()
        assert held.id == third
        rows = [line for line in ledger(tmp_path) if line["kind"] != "received"]
        assert [(line["kind"], line.get("order_id", line.get("position_id"))) for line in rows] == [
            ("waiting", first), ("waiting", second), ("waiting", third), ("changed", first), ("cancelled", second),
            ("placed", third),
        ]  # fmt: skip
        assert (rows[2]["receipt"], rows[-1]["receipt"], rows[-1]["price"]) == (3, 3, "1.09000")
        assert (rows[3]["activation_price"], rows[4]["reason"]) == ("1.08500", "MANUAL")


async def test_an_order_without_the_margin_disappears_with_its_reason(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        order_id = await client.create_pending(changed(volume=D(40)))
        await broker.price("EURUSD.", "1.08990")
        assert (await client.pending_orders(), await client.open_positions()) == ((), ())
        last = ledger(tmp_path)[-1]
        assert (last["kind"], last["order_id"], last["reason"]) == ("cancelled", order_id, "NOT_ENOUGH_MONEY")


async def test_answers_about_waiting_orders_can_be_lost_and_faults_can_hit_them(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        await broker.fault("lose_answer_reset", on="open")
        with pytest.raises(UnknownOutcome):
            await client.create_pending(ORDER)
        await broker.fault("reject_200", on="open")
        with pytest.raises(Refused, match="TRADE_DISABLED"):
            await client.create_pending(ORDER)
        (waiting,) = await client.pending_orders()
        await broker.fault("edit_ignored")
        await client.edit_pending(waiting, D("1.08"), D(0), D(0))
        await broker.fault("close_ignored")
        await client.cancel_pending(waiting)
        assert await client.pending_orders() == (waiting,)
        await broker.fault("lose_answer_reset", on="close")
        with pytest.raises(UnknownOutcome):
            await client.cancel_pending(waiting)
        assert await client.pending_orders() == ()
        async with paper.browser(broker.url) as http:
            # Two creations, an edit and two cancels.
            assert (await http.get("/paper/requests")).json()["writes"] == 5


async def test_waiting_orders_have_the_fields_of_the_real_ones(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await broker.price("EURUSD.", "1.10000")
        await client.login()
        await client.create_pending(changed(tp_price=D(0)))
        async with paper.browser(broker.url + client._session.prefix) as http:
            (row,) = (await http.get("/active-orders", headers=client._session.headers)).json()["orders"]
            assert (await http.get("/active-orders")).status_code == 401
            assert (await http.post("/pending-order/cancel", json={"id": row["id"]})).status_code == 401
    assert set(row) == {
        "id", "symbol", "alias", "volume", "type", "side", "creationTime", "activationPrice", "stopLoss", "takeProfit",
    }  # fmt: skip
    assert (row["type"], row["activationPrice"], row["takeProfit"]) == ("LIMIT", "1.09000", "0")
