"""Every misbehaviour of the broker against the real executor, monitor and store: where the intent ends, and the truth.

The table is tests/kit/misbehaviours.py. After each case the floor compares broker, ledger and store.
"""

from __future__ import annotations

from pathlib import Path

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
