"""One trade from bar to closed position, over real processes, sockets and files."""

from __future__ import annotations

import signal
from decimal import Decimal

import pytest

from bus.vocabulary import ExitCode
from tests.kit import pipeline


@pytest.mark.parametrize("api", ["platform", "trader"])
def test_trade_goes_from_bar_to_closed_position(api: str) -> None:
    with pipeline.running(broker={"paper_api": api}) as run:
        run.start()
        run.eventually(run.all_settled, 30)
        opened = run.intents("opened")
        assert opened, run.console()
        assert {row["position_id"] for row in run.positions()} == {intent.position_id for intent in opened}

        intent = opened[0]
        with run.reader() as reader:
            order = reader.order(intent.id)
            assert order is not None
            events = [arrow.event for arrow in reader.transitions(intent.id)]
        assert events == ["propose", "claim", "decide_trade", "take", "reserve", "open"]

        beyond = (
            order.plan.tp_price + (Decimal(1) if order.plan.side == "BUY" else Decimal(-1)) * order.plan.tp_price / 100
        )
        run.broker("/paper/price", symbol=order.plan.broker_symbol, bid=str(round(beyond, 5)))
        run.eventually(lambda: any(one.id == intent.id for one in run.intents("closed")))
        with run.reader() as reader:
            decision = reader.decision(intent.id)
            assert decision is not None
            assert decision.net_profit_cents is not None and decision.net_profit_cents > 0
            assert decision.close_reason == "TP"
            assert decision.closed_at is not None
        assert run.stop(signal.SIGINT) == 0
        assert run.processes() == {}


def test_honcho_start_ctrl_c_and_start_again_opens_nothing_twice() -> None:
    with pipeline.running() as run:
        run.start("start", command="honcho")
        run.eventually(run.all_settled, 30)
        before = run.positions()
        assert before
        run.stop(signal.SIGINT)
        run.eventually(lambda: not run.processes(), 5)

        run.start("start", command="honcho")
        run.eventually(lambda: "Skipped the scan" in run.console(), 30)
        run.eventually(run.all_settled)
        run.eventually(lambda: "Rule set test-rules: confidence is low" in run.console())  # by the monitor
        with run.reader() as reader:
            assert reader.store_epoch() == 2
        assert run.positions() == before
        assert {intent.position_id for intent in run.intents("opened")} == {row["position_id"] for row in before}
        run.stop(signal.SIGINT)
        run.eventually(lambda: not run.processes(), 5)


def test_another_account_on_the_same_data_folder_is_refused_with_78_and_finds_nothing_changed() -> None:
    with pipeline.running() as run:
        run.start()
        run.eventually(run.all_settled, 30)
        run.eventually(lambda: "Day " in run.console())
        assert run.stop(signal.SIGINT) == 0
        before, profile = run.intents(), run.profile.read_text()
        run.profile.write_text(profile.replace("[broker]\n", '[broker]\naccount_id = "PAPER-2"\n'))
        assert run.start().wait(30) == ExitCode.CONFIG
        # Here all start at once, and the monitor's supervisor may have heard that it is ready before it looked.
        assert run.start("start", command="honcho").wait(30) in (ExitCode.CONFIG, ExitCode.GAVE_UP)
        told = "this database belongs to account PAPER-1 of the paper broker; broker.account_id is PAPER-2 of the paper"
        assert run.console().count(told) >= 2
        with run.reader() as reader:
            assert (run.intents(), reader.halts()) == (before, [])
        assert told in " ".join(run.run("status", command="pilot").stderr.split())
        run.profile.write_text(profile)
        run.start()
        run.pid("executor")
        assert run.intents("opened") == [one for one in before if one.status == "opened"]
        assert run.stop(signal.SIGINT) == 0


def test_intent_too_small_for_the_broker_is_rejected_with_its_reason() -> None:
    with pipeline.running(executor={"risk_per_trade_ratio": 0.0000001}) as run:
        run.start()
        run.eventually(run.all_settled, 30)
        rejected = run.intents("rejected")
        assert rejected
        for intent in rejected:
            assert "volume_min" in (intent.execution_error or "")
            assert '"passed":false' in intent.compliance_snapshot
        assert run.positions() == []
