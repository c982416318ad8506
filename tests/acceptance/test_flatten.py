"""Prices crash over real processes: everything is closed, whoever is dead, and the halt stands afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from decimal import Decimal
from typing import Any

import pytest

from actors.broker.client import BrokerClient
from actors.broker.wire import OpenRequest
from bus.clock import SystemClock
from config import settings
from store import verify
from store.queries import Reader
from tests.kit import by_hand, pipeline
from tests.kit.paper import Counting
from tests.kit.pipeline import Pipeline

SYMBOL = "EURUSD."
VOLUME = Decimal("5.00")  # 46 pips are $2,300: beyond 90% of the day's $2,500


def ledger(run: Pipeline, kind: str) -> list[dict[str, Any]]:
    path = run.data / "paper" / "ledger.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [row for row in rows if row["kind"] == kind]


def left(run: Pipeline) -> set[str]:
    """Return the positions that the broker's own ledger shows open."""
    return {row["position_id"] for row in run.positions()} - {row["position_id"] for row in ledger(run, "closed")}


def buy_by_hand(run: Pipeline) -> Decimal:
    """Open a large position beside the pipeline, as the account's owner might; return its price."""

    async def buy() -> Decimal:
        broker = settings.Broker(base_url=run.url)
        async with BrokerClient(broker, "paper", SystemClock(), Counting()) as client:
            (quote,) = (await client.quotes(["EURUSD"])).values()
            far = round(quote.bid / 2, 4)
            request = OpenRequest(broker_symbol=SYMBOL, side="BUY", volume=VOLUME, sl_price=far, tp_price=Decimal(0))
            await client.open_position(request)
            return quote.bid

    by_hand.wait_listens(run.url)
    return asyncio.run(buy())


def crash(run: Pipeline, price: Decimal) -> None:
    """Let the price fall by 50 pips and stay there: $2,500 on the large position."""
    run.broker("/paper/price", symbol=SYMBOL, bid=str(price - Decimal("0.0050")))


def flattens(reader: Reader) -> list[str]:
    return [halt.reason.partition(":")[0] for halt in reader.halts() if halt.flatten and halt.lifted_at is None]


def check_flat(run: Pipeline) -> None:
    """Nothing is open at the broker or in the store, the halt stands, the journal is whole."""
    run.eventually(lambda: not left(run), 30)
    run.eventually(lambda: "opened" not in run.counts(), 30)
    with run.reader() as reader:
        assert "daily_drawdown" in flattens(reader)
        assert reader.unresolved_orders() == []
        assert verify.verify_chain(reader) == []
    closes = [row["position_id"] for row in ledger(run, "closed")]
    assert len(closes) == len(set(closes))


def settled(run: Pipeline) -> Decimal:
    """Start everything, let it trade, and add the large position; return that one's price."""
    run.start()
    run.eventually(run.all_settled, 40)
    run.pid("monitor")
    return buy_by_hand(run)


def test_crash_with_the_executor_dead_closes_everything_and_the_halt_outlives_a_restart() -> None:
    with pipeline.running() as run:
        price = settled(run)
        assert left(run)
        run.kill("executor")
        crash(run, price)
        check_flat(run)
        assert run.stop(signal.SIGINT) == 0

        run.start("--monitor-only")
        run.pid("monitor")
        with run.reader() as reader:
            assert "daily_drawdown" in flattens(reader)
        buy_by_hand(run)  # what appears while the halt stands is closed, too
        run.eventually(lambda: not left(run), 20)
        assert run.stop(signal.SIGINT) == 0
        assert run.processes() == {}


@pytest.mark.parametrize("point", ["monitor.after_raise_halt", "monitor.after_close"])
def test_monitor_killed_in_the_middle_of_flattening_is_replaced_and_finishes(point: str) -> None:
    with pipeline.running() as run:
        price = settled(run)
        run.arm(point)
        crash(run, price)
        run.eventually(lambda: run.fired(point), 20)
        check_flat(run)


def test_frozen_store_holds_up_no_closing_and_has_the_halt_afterwards() -> None:
    with pipeline.running(supervisor={"watchdog_s": 8.0}) as run:
        price = settled(run)
        os.kill(run.pid("store"), signal.SIGSTOP)
        began_s = time.monotonic()
        crash(run, price)
        run.eventually(lambda: not left(run), 20)
        took_s = time.monotonic() - began_s
        with run.reader() as reader:
            assert (reader.store_epoch(), flattens(reader)) == (1, [])
        assert took_s < 8
        check_flat_later(run)


def check_flat_later(run: Pipeline) -> None:
    """Wait for the store's successor to have the halt."""

    def has_it() -> bool:
        with run.reader() as reader:
            return "daily_drawdown" in flattens(reader)

    run.eventually(has_it, 30)
    check_flat(run)


def test_broker_that_restarts_while_we_flatten_is_closed_out_afterwards() -> None:
    with pipeline.running() as run:
        price = settled(run)
        run.broker("/paper/faults", fault="restart_unplaced", on="close")
        crash(run, price)
        check_flat(run)
