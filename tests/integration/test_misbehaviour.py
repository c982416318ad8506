"""Every misbehaviour of the broker against the real executor, monitor and store: where the intent ends, and the truth.

The table is tests/kit/misbehaviours.py. After each case the floor compares broker, ledger and store.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.broker.paper import catalogue
from config import load
from tests.kit import floor, misbehaviours
from tests.kit.misbehaviours import Case


@pytest.mark.parametrize("case", misbehaviours.ALL, ids=lambda case: case.name)
async def test_misbehaviour_ends_as_the_table_says(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with floor.a_floor(tmp_path, monkeypatch) as run:
        for fault in case.faults:
            await run.broker.fault(**fault)
        await run.trade()
        assert run.end() == case.end, run.reasons()
        assert case.said in run.reasons()
        await run.watch(every_s=40.0 if case.halted else 5.0)
        assert run.end() == (case.later or case.end), run.reasons()
        assert case.halted in " ".join(run.halts())
        assert bool(run.halts()) == bool(case.halted or case.end == "halted")
        suffered = [row["fault"] for row in run.ledger("fault")]
        assert {one["fault"] for one in case.faults} <= set(suffered), f"only {suffered} happened"
        run.audit()


KEYED = (
    *((one.name, one.faults, "opened") for one in (*misbehaviours.CARRIED_OUT, *misbehaviours.NOTHING_DONE)),
    *(
        (fault["fault"], (fault,), end)
        for fault, end in (
            ({"fault": "reject_200"}, "failed"), ({"fault": "reject_placed"}, "failed"),
            ({"fault": "ok_unplaced"}, "halted"), ({"fault": "wrong_order_id"}, "halted"),
            ({"fault": "place_late", "seconds": 2.0}, "opened"), ({"fault": "ignore_stop"}, "opened"),
            ({"fault": "naked"}, "closed"), ({"fault": "partial_fill", "then": "lose_answer_reset"}, "opened"),
            ({"fault": "close_at_once", "then": "lose_answer_reset"}, "closed"), ({"fault": "place_twice"}, "halted"),
            ({"fault": "restart_placed"}, "opened"), ({"fault": "restart_unplaced"}, "opened"),
            ({"fault": "duplicate_rows", "on": "positions", "skip": 2, "times": 3}, "opened"),
            ({"fault": "history_late", "on": "history", "times": 9}, "opened"),
        )
    ),
)  # fmt: skip


@pytest.mark.parametrize(("name", "faults", "end"), KEYED, ids=[name for name, _, _ in KEYED])
async def test_misbehaviour_over_the_trader_api_ends_with_the_orders_key(
    name: str, faults: tuple[dict[str, Any], ...], end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with floor.a_floor(tmp_path, monkeypatch, "trader") as run:
        for fault in faults:
            await run.broker.fault(**fault)
        await run.trade()
        assert run.end() == end, run.reasons()
        await run.watch()
        suffered = [row["fault"] for row in run.ledger("fault")]
        assert {one["fault"] for one in faults} <= set(suffered), f"only {suffered} happened"
        run.audit()


async def test_reads_that_bring_nothing_cost_time_and_no_intent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with floor.a_floor(tmp_path, monkeypatch) as run:
        for name in misbehaviours.USELESS_READS:
            await run.broker.fault(name, on="balance")
        await run.trade()
        assert run.end() == "opened"
        assert run.reasons().count("return: could not read the account") == len(misbehaviours.USELESS_READS)
        await run.watch()
        run.audit()


async def test_looks_that_bring_nothing_conclude_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with floor.a_floor(tmp_path, monkeypatch) as run:
        await run.broker.fault("lose_answer_reset")
        for number, name in enumerate(misbehaviours.USELESS_READS):
            await run.broker.fault(name, on="history", skip=0 if number else 2)
        await run.trade()
        assert run.end() == "opened", run.reasons()
        assert len(run.ledger("fault")) == 1 + len(misbehaviours.USELESS_READS)
        await run.watch()
        run.audit()


async def test_logins_that_are_refused_are_waited_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with floor.a_floor(tmp_path, monkeypatch) as run:
        for name in misbehaviours.USELESS_LOGINS:
            await run.broker.fault(name, on="login")
        await run.trade()
        assert run.end() == "opened", run.reasons()
        assert len(run.ledger("fault")) == len(misbehaviours.USELESS_LOGINS)
        await run.watch()
        run.audit()


def test_every_misbehaviour_of_the_catalogue_has_a_case() -> None:
    assert len(catalogue.ALL) >= 30
    assert set(catalogue.ALL) - misbehaviours.covered() == set()


def test_the_page_says_what_the_tests_do() -> None:
    assert (load.ROOT / "docs" / "misbehaviours.md").read_text() == misbehaviours.page()
