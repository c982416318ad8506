"""The paper broker comes back: its account, its time and its files after a stop, a kill or a full disk."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from actors.broker.client import BrokerClient
from actors.broker.errors import NotSent, UnknownOutcome
from bus import failpoints as failpoints_of_the_product
from config.load import ConfigError
from tests.kit import failpoints, paper
from tests.kit.held_clock import HeldClock
from tests.kit.paper import RunningPaper, an_order, history, ledger

D = Decimal


async def open_one(broker: RunningPaper, client: BrokerClient) -> str:
    await broker.price("EURUSD.", "1.10000")
    await client.login()
    return await client.open_position(an_order())


async def test_after_a_restart_the_account_is_as_it_was_and_old_tokens_are_renewed(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        first = await open_one(broker, client)
        await broker.close(await client.open_position(an_order()))
        before = (await client.open_positions(), await history(client), await client.balance())
        headers = client._session.headers
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await client.login()
        client._session._headers = headers
        assert (await client.open_positions(), await history(client), await client.balance()) == before
        assert broker.budget.reads == 7  # two logins among them: the old token was refused
        assert await client.open_position(an_order()) not in {first, before[1][0].id}


async def test_a_stop_that_was_passed_while_the_broker_was_down_is_hit_at_the_restart(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await open_one(broker, client)
        broker.venue._source.move("EURUSD.", D("1.08000"), 0, D(1))  # without a tick: the broker is "down"
    async with paper.running(tmp_path) as broker, broker.client() as client:
        (row,) = await history(client)
        assert (row.reason, row.close_price) == ("SL", D("1.08000"))


async def test_simulated_time_goes_on_while_the_broker_is_down_and_never_back(tmp_path: Path) -> None:
    clock = HeldClock()
    async with paper.running(tmp_path, clock=clock, speed=10.0) as broker:
        broker.venue.tick()
        first = broker.venue.times.simulated_ms
    clock.ahead_s = 100
    async with paper.running(tmp_path, clock=clock, speed=10.0) as broker:
        assert first + 1_000_000 <= broker.venue.times.simulated_ms < first + 1_100_000
        second, wall = broker.venue.times.simulated_ms, broker.venue.market.at_ms
    clock.ahead_s = -5_000
    async with paper.running(tmp_path, clock=clock, speed=10.0) as broker:
        assert broker.venue.times.simulated_ms >= second
        assert broker.venue.market.at_ms >= wall


async def test_a_line_cut_by_a_kill_is_removed_and_the_rest_kept(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        position_id = await open_one(broker, client)
    with (tmp_path / "account.jsonl").open("ab") as file:
        file.write(b'{"type":"Opened","holding":{"id":"99')
    async with paper.running(tmp_path) as broker, broker.client() as client:
        assert [one.id for one in await client.open_positions()] == [position_id]
        await client.open_position(an_order())
    async with paper.running(tmp_path) as broker:
        assert len(broker.venue.book.holdings) == 2


async def test_an_order_whose_ledger_line_a_kill_took_is_noted_at_the_restart(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        position_id = await open_one(broker, client)
    (tmp_path / "ledger.jsonl").write_text("")
    for _ in range(2):
        async with paper.running(tmp_path):
            assert [(line["kind"], line["position_id"]) for line in ledger(tmp_path)] == [("placed", position_id)]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b'{"type":"Began","balance_cents":1,"currency":"EUR"}\n', r"paper\.currency"),
        (b"no json\n", "line 1"),
        (b'{"type":"Began","balance_cents":1,"currency":"USD"}\n{"type":"Edited","id":"9","sl_price":"0","tp_price":"0"}\n',
         "line 2"),
        (b'{"type":"Edited","id":"9","sl_price":"0","tp_price":"0"}\n', "no account"),
    ],
)  # fmt: skip
async def test_an_account_file_that_is_none_of_ours_stops_the_start_and_is_left_as_it_was(
    tmp_path: Path, content: bytes, named: str
) -> None:
    (tmp_path / "account.jsonl").write_bytes(content)
    with pytest.raises(ConfigError, match=named):
        async with paper.running(tmp_path):
            pass
    assert (tmp_path / "account.jsonl").read_bytes() == content


async def test_positions_in_a_symbol_that_was_taken_away_stop_the_start(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await open_one(broker, client)
    with pytest.raises(ConfigError, match=r"EURUSD\."):
        async with paper.running(tmp_path, symbols=("USDJPY",)):
            pass


async def test_a_disk_that_takes_no_more_opens_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await open_one(broker, client)
        account = broker.venue._account._journal
        monkeypatch.setattr(account, "failed", True)
        with pytest.raises(UnknownOutcome):
            await client.open_position(an_order())
        assert len(await client.open_positions()) == 1
        assert broker.venue.failed
    async with paper.running(tmp_path) as broker:
        assert len(broker.venue.book.holdings) == 1


async def test_an_order_on_disk_that_memory_missed_ends_the_broker_before_its_number_is_given_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = tmp_path / "points"
    async with paper.running(tmp_path) as broker, broker.client() as client:
        first = await open_one(broker, client)
        monkeypatch.setattr(failpoints_of_the_product, "_folder", str(points))
        failpoints.arm(points, "paper.after_record", "error")
        for _ in range(2):
            with pytest.raises(UnknownOutcome):
                await client.open_position(an_order())
        assert broker.venue.failed
    async with paper.running(tmp_path) as broker, broker.client() as client:
        await client.login()
        second = await client.open_position(an_order())
        placed = [str(line["position_id"]) for line in ledger(tmp_path) if line["kind"] == "placed"]
        assert len(placed) == len(set(placed)) == 3
        assert {first, second} <= set(placed) == {one.id for one in await client.open_positions()}


async def test_a_broker_that_is_gone_is_not_sent_to(tmp_path: Path) -> None:
    async with paper.running(tmp_path) as broker:
        client = broker.client()
        await client.login()
    async with client:
        with pytest.raises(NotSent):
            await client.open_position(an_order())
