"""An upgrade with open positions, over real processes: still owned, not sent again, closed in order."""

from __future__ import annotations

import signal
from decimal import Decimal

from store import connection, verify
from tests.kit import older, pipeline

SCHEMA = 1


def test_upgrade_with_open_positions_keeps_them_sends_nothing_and_closes_them_in_order() -> None:
    with pipeline.running() as run:
        run.start()
        run.eventually(run.all_settled, 30)
        placed, owned = run.positions(), {one.position_id for one in run.intents("opened")}
        assert owned == {row["position_id"] for row in placed} != set()
        assert run.stop(signal.SIGINT) == 0
        older.rewrite(run.data / "decisions.db", SCHEMA)

        run.start()
        run.eventually(lambda: "Skipped the scan" in run.console(), 30)
        run.eventually(run.all_settled)
        assert f"Upgraded {run.data / 'decisions.db'} to schema {connection.version()}" in run.console()
        (kept,) = (run.data / "backups").glob(f"before-*-schema-{SCHEMA:04d}-*.db")
        assert f"is kept as {kept}" in run.console()
        run.pid("executor")
        assert {one.position_id for one in run.intents("opened")} == owned

        intent = run.intents("opened")[0]
        with run.reader() as reader:
            order = reader.order(intent.id)
            assert order is not None
        far = Decimal("1.01") if order.plan.side == "BUY" else Decimal("0.99")
        run.broker("/paper/price", symbol=order.plan.broker_symbol, bid=str(round(order.plan.tp_price * far, 5)))
        run.eventually(lambda: any(one.id == intent.id for one in run.intents("closed")))
        with run.reader() as reader:
            assert [*verify.verify_chain(reader), *verify.verify_orders(reader)] == []
            assert [one.event for one in reader.transitions(intent.id)][-2:] == ["open", "close"]
        assert run.positions() == placed, "no second order"
        assert (
            run.run("restore", "--reason", "the new version is bad", "--yes", str(kept), command="pilot").returncode
            == 75
        )
        assert run.stop(signal.SIGINT) == 0
        assert run.run("verify", "--file", str(kept), command="pilot").returncode == 0
        assert run.processes() == {}
