"""PILOT_READONLY: nothing is written to the broker, whoever asks; reading, halting and telling people go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.broker.client import BrokerClient
from actors.broker.errors import NotSent
from bus import messages
from bus.clock import SystemClock
from config import load
from config.load import ConfigError
from tests.integration.test_broker_writes import HELD, ORDER, D
from tests.kit import desk, scripted, watching
from tests.kit.watching import Wayward


@pytest.fixture(autouse=True)
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOT_READONLY", "1")


# ── nothing leaves ──────────────────────────────────────────────────────────


async def test_no_order_no_edit_and_no_close_leaves_and_none_is_paid_for() -> None:
    async with scripted.scene() as (server, client, _):
        await client.login()
        connections = server.connections
        with pytest.raises(NotSent, match="PILOT_READONLY is set"):
            await client.open_position(ORDER)
        with pytest.raises(NotSent, match="PILOT_READONLY is set"):
            await client.edit_position(HELD, D("1.0"), D("1.2"))
        with pytest.raises(NotSent, match="PILOT_READONLY is set"):
            await client.close_position(HELD)
        assert [one.path for one in server.asked] == ["/manager/mtr-login"]
        assert (server.connections, server.budget.writes) == (connections, 0)


async def test_reading_goes_on() -> None:
    async with scripted.scene() as (_, client, _clock):
        assert "EURUSD" in await client.instruments()


async def test_flatten_tells_people_and_closes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOT_READONLY", "0")
    async with watching.a_room(tmp_path) as room:
        await room.buy()
        monkeypatch.setenv("PILOT_READONLY", "1")
        async with Wayward(room.broker.settings, "paper", room.clock, room.allowance) as barred:
            room.client = barred
            halt = messages.RaiseHalt(level="hard", reason="flatten: operator op: test", flatten=True)
            room.store.apply(desk.MONITOR, halt)
            with room.watched() as found:
                for _ in range(3):
                    await found.round()
                assert barred.closes > 0
                assert len(await room.open_positions()) == 1
                said = [report.text for report in room.store.sent(messages.Report) if report.event == "flattened"]
                assert any("1 positions are still open" in text for text in said)


# ── what switches it on ─────────────────────────────────────────────────────


@pytest.mark.parametrize("value", ["yes", "true", "2", "on"])
def test_a_value_that_is_neither_is_refused_rather_than_guessed(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PILOT_READONLY", value)
    with pytest.raises(ConfigError, match=r"PILOT_READONLY was .*allowed: 1"):
        BrokerClient(scripted.Server(port=9).settings(), "secret", SystemClock(), scripted.Server().budget)


@pytest.mark.parametrize(
    ("value", "in_file", "expected"),
    [("1", "", True), (" 1 ", "", True), ("0", "", False), ("", "", False), ("", "1", True), ("0", "1", True)],
)
def test_environment_or_env_file_is_enough(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str, in_file: str, expected: bool
) -> None:
    (tmp_path / ".env").write_text(f"PILOT_READONLY={in_file}\n")
    (tmp_path / ".env").chmod(0o600)
    monkeypatch.setattr(load, "ROOT", tmp_path)
    monkeypatch.setenv("PILOT_READONLY", value)
    assert load.is_read_only() is expected
